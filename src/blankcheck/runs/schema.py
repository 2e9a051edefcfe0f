"""What the JSON of a run folder must look like, and the check of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from blankcheck.errors import RunFolderError

COUNT, SHARE, TEXT = (int,), (int, float), (str,)
MAYBE = (int, float, type(None))

Form = tuple[type, ...] | dict[str, "Form"] | list["Form"]
"""Types a value may have; for an object the form under each key it must have (`*`: under every
key); for a list that of its items."""

_RATE: dict[str, Form] = {
    "attempts": COUNT,
    "fooled": COUNT,
    "rate": MAYBE,
    "rate_upper_95": SHARE,
    "median_lit": MAYBE,
    "min_lit": MAYBE,
}
VIOLATED: Form = {"sparse": COUNT, "confident": COUNT, "out_of_distribution": COUNT}
_FOUND: dict[str, Form] = {"attempts": COUNT, "fooled": COUNT, "median_lit": MAYBE}
VERDICT: Form = {
    **_RATE,
    "verdict": TEXT,
    "conditions": {"confidence": SHARE, "max_lit": COUNT, "ood_level": SHARE, "unit": TEXT},
    "real_accuracy": SHARE,
    "real_confident": SHARE,
    "real_taken_for_fake": SHARE,
    "sparse_confident": {"fooled": COUNT, "median_lit": MAYBE, "at_most": {"*": SHARE}},
    "targets": {"*": _RATE},
    "classes": [TEXT],
    "violated": VIOLATED,
    "processes": {"*": _FOUND},
    "extra": {"fooled": COUNT, "min_lit": MAYBE},
    "checks": [
        {"title": TEXT, "status": TEXT, "finding": TEXT, "what_to_do": TEXT, "mandatory": (bool,)}
    ],
    "cost": {"forward": COUNT, "backward": COUNT, "seconds": SHARE, "twin_seconds": SHARE},
}
LATER: dict[str, Form] = {
    "second_opinion": {"attempts": COUNT, "fooled": COUNT, "rate": MAYBE},
    "eight_bit": {"witnesses": COUNT, "survive": COUNT},
    "rivals": {"*": _FOUND},
    "twin": {**_FOUND, "what": TEXT, "lit": [COUNT]},
    "out_of_distribution_test": {
        "guarantee": TEXT,
        "real_images": COUNT,
        "false_alarms": COUNT,
        "false_alarm_rate": MAYBE,
        "false_alarm_lower_95": SHARE,
        "false_alarm_upper_95": SHARE,
        "fooled_all_at_once": COUNT,
    },
    "controls": {"*": {"found": COUNT, "tries": COUNT}},
    "notes": {"*": TEXT},
    "certificate": {
        "k": [(int, type(None))],
        "probability": [MAYBE],
        "found": [(int, type(None))],
        "smallest": (int, type(None)),
        "confidence": SHARE,
        "unit": TEXT,
        "means": TEXT,
        "fingerprint": TEXT,
        "seconds": SHARE,
    },
}
"""What later versions added to `verdict.json`: checked where it is there and not null."""
_OOD_LATER: dict[str, Form] = {"scores": [TEXT], "second_scores": [TEXT], "smallest_p": SHARE}
ATTEMPT: Form = {
    "target": COUNT,
    "fooled": (bool,),
    "process": TEXT,
    "lit": COUNT,
    "confidence": SHARE,
    "ood_p": SHARE,
    "fewest": (int, type(None)),
}
ATTEMPT_LATER: dict[str, Form] = {
    "second_p": MAYBE,
    "step": COUNT,
    "survives_8bit": (bool,),
    "violated": [TEXT],
}
"""Of an attempt: what older folders may lack."""
ROUND: Form = {
    "index": COUNT,
    "real_loss": SHARE,
    "fooling_loss": SHARE,
    "validation_accuracy": SHARE,
    "validation_confident": SHARE,
    "fresh_attempts": COUNT,
    "fresh_rate": SHARE,
    "fresh_confident": SHARE,
    "fresh_fewest": (int, type(None)),
}
ROUND_LATER: dict[str, Form] = {
    "fresh_upper_95": SHARE,
    "backward": COUNT,
    "training_seconds": SHARE,
    "looking_seconds": SHARE,
}
"""Of a round: what older folders may lack."""
ROUND_SHARES = (
    "validation_accuracy",
    "validation_confident",
    "fresh_rate",
    "fresh_confident",
    "fresh_upper_95",
)
"""Of a round: shares in [0, 1]. Older folders lack the last."""
SET: Form = {"what": TEXT, "round": COUNT, "images": COUNT}
OF_A_ROUND = ("trained", "fresh")
"""Sets of images that say from which round they are."""
REAL: Form = {"split": TEXT, "round": COUNT}
REAL_SHARES = ("accuracy", "confident", "taken_for_fake", "calibration_error")
"""Of real images: shares in [0, 1]. Older folders lack some."""
SEARCH: Form = {"what": TEXT, "round": COUNT}
QUANTILES: dict[str, Form] = {"q10": SHARE, "q50": SHARE, "q90": SHARE}
MOST_ROUNDS = MOST_ATTEMPTS = 1_000_000
MOST_LIT = 1_000_000_000
EPOCH: Form = {"epoch": COUNT, "real_loss": SHARE}
BLEND: Form = {
    "confidence": SHARE,
    "seed": COUNT,
    "alphas": [SHARE],
    "per_pair": COUNT,
    "same_network": (bool,),
    "classes": [TEXT],
    "rows": [COUNT],
    "columns": [COUNT],
    "median_lit": SHARE,
    "real": {"split": TEXT, "images": COUNT, "confident": COUNT},
    "witnesses": {"stored": COUNT, "used": COUNT},
    "kinds": {"*": {}},
    "examples": [{"row": COUNT, "column": COUNT, "alpha": SHARE, "confidence": SHARE}],
}
"""`blend.json`; `BLEND_KIND` is the form of each of its kinds."""
BLEND_KIND: Form = {
    "pairs": COUNT,
    "taken": [COUNT],
    "lost": [COUNT],
    "smallest": MAYBE,
    "cells": {"pairs": [[COUNT]], "taken": [[[COUNT]]], "smallest": [[MAYBE]], "any": [[MAYBE]]},
}
CERTIFICATE: Form = {
    "confidence": SHARE,
    "unit": TEXT,
    "shape": [COUNT],
    "outputs": COUNT,
    "k": [(int, type(None))],
    "fingerprint": TEXT,
    "levels": [{"k": COUNT, "log_odds": [SHARE], "slack": [SHARE]}],
    "settings": {"slope_steps": COUNT},
    "seconds": SHARE,
    "means": TEXT,
}
"""`certificate.json`."""
MOST_WHOLE = 2**63
"""Beyond it a whole number counts nothing, and arithmetic on it breaks off."""
TRAINED: Form = {"real_accuracy": SHARE, "real_confident": SHARE, "seconds": SHARE}


def check(value: Any, form: Form, where: str) -> None:
    """RunFolderError that says where `value` is not of `form`.

    A number must be finite; a bool is no number.
    """
    if isinstance(form, dict):
        if not isinstance(value, dict):
            raise RunFolderError(f"{where} must be an object, got {short(value)}")
        every = form.get("*")
        for key in value if every is not None else form:
            if key not in value:
                raise RunFolderError(f"{where} lacks {key!r}")
            check(value[key], every if every is not None else form[key], f"{where}: {key}")
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise RunFolderError(f"{where} must be a list, got {short(value)}")
        for item in value:
            check(item, form[0], where)
    else:
        right = isinstance(value, form) and (not isinstance(value, bool) or bool in form)
        if not right or (isinstance(value, float) and not math.isfinite(value)):
            names = " or ".join("null" if t is type(None) else t.__name__ for t in form)
            raise RunFolderError(f"{where} must be {names}, got {short(value)}")
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            raise RunFolderError(
                f"{where} must be between {-MOST_WHOLE} and {MOST_WHOLE}, got {short(value)}"
            )


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_verdict(verdict: dict[str, Any], where: str) -> None:
    """What `VERDICT` and `LATER` cannot say of a verdict."""
    for found in verdict["checks"]:
        for key in ("code", "means"):
            if key in found:
                check(found, {key: TEXT}, f"{where}: checks")
    for name, control in (verdict.get("controls") or {}).items():
        check(control, {"*": SHARE}, f"{where}: controls: {name}")
    if "real_renormalised_confident" in verdict:
        check(verdict, {"real_renormalised_confident": SHARE}, where)
    ood = verdict.get("out_of_distribution_test")
    if ood is not None:
        check(
            ood,
            {key: form for key, form in _OOD_LATER.items() if key in ood},
            f"{where}: out_of_distribution_test",
        )
    proof = verdict.get("certificate")
    if proof is not None:
        if any(len(proof[key]) != len(verdict["classes"]) for key in ("k", "probability", "found")):
            raise RunFolderError(f"{where}: certificate: must have one entry for each class")
        for key in ("k", "found"):
            for value in proof[key]:
                _within({key: value}, (key,), MOST_LIT, f"{where}: certificate")
    twin = verdict.get("twin")
    if twin is not None:
        _within(twin, ("attempts",), MOST_ATTEMPTS, f"{where}: twin")
        if len(twin["lit"]) != twin["fooled"] or twin["fooled"] > twin["attempts"]:
            raise RunFolderError(f"{where}: twin: lit must have a number for each fooled attempt")


def check_attempt(record: dict[str, Any], where: str) -> None:
    """What `ATTEMPT` cannot say of an attempt."""
    check(record, {key: form for key, form in ATTEMPT_LATER.items() if key in record}, where)
    _within(record, ("target", "lit", "fewest", "step"), MOST_LIT, where)
    _within(record, ("confidence", "ood_p", "second_p"), 1, where)


def check_real(record: dict[str, Any], where: str) -> None:
    """What `REAL` cannot say of how a network does on real images."""
    for key in REAL_SHARES:
        if record.get(key) is not None:
            check(record, {key: SHARE}, where)
    _within(record, REAL_SHARES, 1, where)
    _within(record, ("round",), MOST_ROUNDS, where)


def check_search(record: dict[str, Any], where: str) -> None:
    """What `SEARCH` cannot say of a search.

    Where no image was confident there are no lit features to tell of.
    """
    if record.get("lit") is not None:
        check(record["lit"], QUANTILES, f"{where}: lit")
        _within(record["lit"], tuple(QUANTILES), MOST_LIT, f"{where}: lit")
    _within(record, ("round",), MOST_ROUNDS, where)


def check_round(record: dict[str, Any], where: str) -> None:
    """What `ROUND` cannot say of a round."""
    for key, form in ROUND_LATER.items():
        if record.get(key) is not None:
            check(record, {key: form}, where)
    _within(record, ROUND_SHARES, 1, where)
    _within(record, ("index",), MOST_ROUNDS, where)


def check_set(record: dict[str, Any], where: str) -> None:
    """What `SET` cannot say of a set."""
    # of no images there is no share
    check(record, {"fooled": SHARE if record["images"] else MAYBE}, where)
    if record["what"] in OF_A_ROUND:
        check(record, {"set_round": COUNT}, where)
        _within(record, ("set_round",), MOST_ROUNDS, where)
    _within(record, ("fooled",), 1, where)
    _within(record, ("round",), MOST_ROUNDS, where)


def _within(record: dict[str, Any], keys: Sequence[str], most: int, where: str) -> None:
    for key in keys:
        if record.get(key) is not None and not 0 <= record[key] <= most:
            raise RunFolderError(
                f"{where}: {key} must be between 0 and {most}, got {short(record[key])}"
            )
