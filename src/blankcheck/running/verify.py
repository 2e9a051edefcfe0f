"""Witnesses of a run folder, scored again."""

from __future__ import annotations

import json
from typing import Any

from blankcheck.auditing import ood_test
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.data import Data, load_data
from blankcheck.data.loading import runs_code
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.judging import OODTest
from blankcheck.running.audit import MODEL, WITNESSES
from blankcheck.running.certify import again
from blankcheck.running.gate_file import with_gate
from blankcheck.running.run_folder import RunFolder
from blankcheck.running.settings import VerifySettings
from blankcheck.running.terminal import Terminal
from blankcheck.running.witnesses import Stored, confirm, confirm_rounded, unpack
from blankcheck.types import Conditions

NOT_CONFIRMED = 12


def verify_command(settings: VerifySettings, terminal: Terminal) -> int:
    """Score the witnesses of a run folder again; 0 when every one is confirmed."""
    run = RunFolder.open(settings.run)
    config, verdict = run.read_config(), run.read_json("verdict.json")
    path = run / WITNESSES
    if not path.is_file():
        raise RunFolderError(f"run folder {run.path} has no {WITNESSES}")
    stored = unpack(path.read_bytes(), str(path))
    data = data_again(settings, config)
    classifier = model_again(settings, config, run, data)
    try:
        want = Conditions(**verdict["conditions"])
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{run / 'verdict.json'} does not say its conditions") from error
    judge = _judge_again(data, want, stored)
    form = stored.metadata.get("output_form", "logits")
    ood_p = judge.p_values(stored.tensors["images"].float()) if judge is not None else None
    good = confirm(stored, classifier, form, want, ood_p)
    rounded = int(confirm_rounded(stored, classifier, form, want, judge.p_values if judge is not None else None).sum())
    same = stored.metadata.get("fingerprint") == fingerprint(classifier)
    confirmed, total = int(good.sum()), len(stored)
    proof = again(run, classifier, verdict)
    all_good = confirmed == total and same and (proof is None or proof[0])
    held = "confidence and lit features" if ood_p is None else "confidence, lit features and p-value"
    lines = [f"{confirmed} of {total} witnesses: {held} hold when scored again",
             f"{rounded} of {total} still meet all conditions when rounded to 8 bits"]  # fmt: skip
    if ood_p is None:
        lines.append("p-values were taken from the file, not checked: the data set, or the scores of its own, are not at "
                     "hand; name the data with --data")  # fmt: skip
    if proof is not None:
        lines.append(proof[1])
    if not same:
        lines.append("the network is not the one that was audited: its fingerprint differs")
    record = {"confirmed": confirmed, "witnesses": total, "survive_8bit": rounded, "same_network": same,
              "ood_recomputed": ood_p is not None, "certificate": None if proof is None else proof[0]}  # fmt: skip
    word = "NOT CONFIRMED" if not all_good else "CONFIRMED IN PART" if ood_p is None else "CONFIRMED"
    terminal.result(word, lines, None, record)
    return 0 if all_good else NOT_CONFIRMED


def _judge_again(data: Data | None, want: Conditions, stored: Stored) -> OODTest | None:
    """The out-of-distribution test of the audit; None when its data or its scores are not at hand."""
    if data is None:
        return None
    judge = ood_test(data, want.ood_level)
    names = stored.metadata.get("ood_scores")
    return judge if names is None or names == json.dumps(judge.names) else None


def data_again(settings: VerifySettings, config: dict[str, Any]) -> Data | None:
    """The data set of the run: as named now, else as configured unless that is code; None when it is not at hand."""
    if settings.data is not None:
        return load_data(settings.data, settings.data_dir)
    source = str(config.get("data", ""))
    named_then = config.get("data_dir")
    try:
        if runs_code(source):
            return None
        return load_data(source, settings.data_dir or (str(named_then) if named_then else None))
    except Exception:  # not at hand is an answer here, and the result says so
        return None


def model_again(settings: VerifySettings, config: dict[str, Any], run: RunFolder, data: Data | None) -> UnitClassifier:
    """The audited network: a factory named now, or a built-in network from safetensors. Nothing else is ever run."""
    name = settings.model or str(config.get("model", ""))
    normalize = parse_normalize(settings.normalize or str(config.get("normalize", "none")))
    if settings.model is None and name not in ARCHITECTURES:
        raise ArgumentError(f"run folder {run.path} names the model {name!r}; run folders run no code: name it with --model")
    weights = settings.weights
    if weights is None and (name in ARCHITECTURES or (run / MODEL).is_file()):
        weights = str(run / MODEL)  # of a hardening these, and not the ones that it began with
    elif weights is None and config.get("weights"):
        weights = str(config["weights"])
    return with_gate(run, load_model(name, weights, data, normalize, unsafe_pickle=settings.unsafe_pickle))
