"""The settings of every command: the only place where configuration has a shape.

Each field is an option of the command line and a key of `--config` files. The `Args:` of the
docstrings are its help. They stand here and not beside the commands, because importing a command
imports torch, which takes longer than to say that an option is misspelt.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from blankcheck.certifying.record import SLOPE_STEPS, GatePlan
from blankcheck.cli.options import Common as Common
from blankcheck.cli.options import Device, Judged, Shared, Tracked, Weighted
from blankcheck.cli.options import recorded as recorded
from blankcheck.hardening.plan import HardeningOptions, Precision

Preset = Literal["smoke", "standard", "proof"]
# as `auditing.judges` has it, which imports torch
Level = float | Literal["auto"]


@dataclass(frozen=True)
class DoctorSettings(Weighted):
    """Say what a network is and what it wants, before any long work. Ends with the audit to run.

    Args:
        out: a run folder to write doctor.json to; default none.
        images: validation images to compare forms of the input on; five times as many where these
            do not decide, fewer where the network is slow.
        strict: exit code 1 where a problem is found.
    """

    images: int = 1000
    strict: bool = False


@dataclass(frozen=True)
class TrainSettings(Tracked, Shared, Common):
    """Train a built-in or your own network plainly.

    Args:
        epochs: passes over the training images; default 10, or more until there are 2000 steps.
        lr: peak learning rate of the one-cycle schedule.
        batch: images per optimiser step, of all processes together.
        precision: of the passes of training, by mixed precision. 16 needs a GPU. All that is
            measured stays in 32.
        augment: shift every image by up to 4 pixels and mirror half of them, anew in every epoch,
            as is usual for CIFAR-10.
        unsafe_pickle: load a network that was pickled. Only from files you trust: they can run
            code.
    """

    epochs: int | None = None
    lr: float = 2e-3
    batch: int = 128
    precision: Precision = "32"
    augment: bool = False
    unsafe_pickle: bool = False


@dataclass(frozen=True)
class AuditSettings(Tracked, Judged, Shared, Weighted):
    """Search a classifier for nearly blank images it is sure about, and say what was found.

    Args:
        preset: how hard to look. Of small networks smoke takes seconds, standard minutes, proof up
            to a hundred times that; minutes more where a twin of the network has to be trained
            first, which is then kept.
        confidence: least probability of the target class.
        max_lit: most lit (non-zero) features; default 300, less for small images.
        ood_level: largest p-value of the out-of-distribution test. auto is 0.001 where enough real
            images calibrate it, else 0.01.
        rivals: also run attacks of Foolbox, adversarial-library and the Adversarial Robustness
            Toolbox, where installed.
        resume: go on with the run in --out, by default the latest of this command, with its
            settings, from what it had finished when it was stopped. A network or data that are code
            have to be named again.
    """

    preset: Preset = "standard"
    confidence: float = 0.9
    max_lit: int | None = None
    ood_level: Level = "auto"
    rivals: bool = False
    resume: bool = False


@dataclass(frozen=True)
class CertifySettings(Weighted):
    """Prove how many lit features are too few for a classifier to be sure, and show beside it what
    a search finds.

    Args:
        audit_preset: how hard the search beside the proof looks. Of small networks smoke takes
            seconds, standard a minute or two; minutes more where a twin is trained first.
        confidence: the proof is that every real class stays below this probability.
        max_lit: most lit (non-zero) features of a fooling image; default 300, less for small
            images. The verdict is CERTIFIED when as many are proved to be too few.
        ood_level: largest p-value of the out-of-distribution test, which the search needs and the
            proof ignores.
        unit: what the proof counts. features, or pixels at which any channel is lit.
        slope_steps: of optimising the relaxation where it does not succeed at once; 0 is fast and
            proves less.
    """

    audit_preset: Preset = "smoke"
    confidence: float = 0.9
    max_lit: int | None = None
    ood_level: Level = "auto"
    unit: Literal["features", "pixels"] = "features"
    slope_steps: int = SLOPE_STEPS


@dataclass(frozen=True)
class GateSettings(CertifySettings):
    """Put a small certified gate around a classifier: same answers, and no confidence in images
    with at most k lit features.

    Args:
        k: lit features, or pixels with --unit pixels, that are to be proved too few for every
            class.
        gate_steps: of training the gate, a batch of real images and one bound each.
        max_lit: most lit (non-zero) features of a fooling image; default k.
    """

    k: int | None = None
    gate_steps: int = GatePlan.steps


@dataclass(frozen=True)
class HardenSettings(HardeningOptions, AuditSettings):
    """Train a network not to be sure about sparse images that look like no real data, and audit the
    result.

    Without weights, a network is trained from its start; with weights, that network goes on.
    """

    def options(self) -> dict[str, Any]:
        """What `harden` takes beside objective, epochs and rounds."""
        apart = ("objective", "epochs", "rounds")
        names = [f.name for f in fields(HardeningOptions) if f.name not in apart]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DemoSettings(Tracked, Common):
    """The main job in minutes: train, audit, harden and audit again, and one report of both."""


@dataclass(frozen=True)
class OfRun:
    """What commands take that ask the network of a run folder.

    Args:
        run: the run folder.
        model: the network's factory, where it is not a built-in one.
        weights: its weights; default those named in the run folder's configuration, or kept in it.
        normalize: none, or MEANS/STDS; default as in the run folder's configuration.
        data: the data set, to compute the out-of-distribution p-values again; default that of the
            configuration, unless it is code.
        data_dir: where the files of named data sets are looked for first.
        unsafe_pickle: load .pt files that hold more than tensors.
        json: print the result as one JSON object on stdout, all else on stderr.
        quiet: only the result.
    """

    run: str
    model: str | None = None
    weights: str | None = None
    normalize: str | None = None
    data: str | None = None
    data_dir: str | None = None
    unsafe_pickle: bool = False
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class VerifySettings(Judged, OfRun):
    """Derive a run folder anew: score its witnesses, judge, prove its certificate, and compare.
    Runs no code that it names."""


@dataclass(frozen=True)
class ReportSettings:
    """Draw the report of a run folder again. Runs no code that the folder names.

    Args:
        run: the run folder; of a demo both audits are shown.
        before: another run folder to show beside it, in before-after.html.
        json: print the result as one JSON object on stdout.
        quiet: only the path.
    """

    run: str
    before: str | None = None
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class CompareSettings:
    """Compare audited runs, and say which differences are beyond chance. Runs no code that the
    folders name.

    Args:
        runs: two run folders or more; the others are compared with the first.
        out: the folder to write; default runs/compare, with -2, -3, ... where that is taken.
        overwrite: begin anew in --out where a comparison or a run is.
        sort: the order of the table, the best first, or by name.
        json: print the result as one JSON object on stdout, all else on stderr.
        quiet: only the finding and the path.
    """

    runs: list[str]
    out: str | None = None
    overwrite: bool = False
    sort: Literal["rate", "lit", "accuracy", "name"] = "rate"
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class BlendSettings(OfRun):
    """Add fooling images of a run folder to real images, and say how little of one turns the
    answer.

    Args:
        alphas: shares of the fooling image that are added, separated by commas, each in (0, 1].
        per_pair: pairs of a real and a fooling image for each two classes; default 20, less where
            there are many classes.
        seed: of the draw of pairs; the same seed gives the same results on the same machine.
        device: auto takes a GPU where there is one.
    """

    alphas: str = "0.1,0.2,0.3,0.4,0.5"
    per_pair: int | None = None
    seed: int = 0
    device: Device = "auto"


@dataclass(frozen=True)
class SweepSettings:
    """Harden with many different options, and find the best compromises between accuracy and
    resistance. Resumable.

    Args:
        base: options of harden that every trial shares, as a table in the --config file.
        search: options of harden that vary, each with a list of values or {low, high, log, int}.
        storage: where the study is kept: a database such as sqlite:///sweep.db or postgresql://...,
            which several machines may share, or a file that ends in .journal or .log. Default
            sweep.db in --out.
        study: the name of the study, where a storage holds several.
        trials: that the study is to have in all; started again with more, it goes on.
        workers: processes that run trials side by side.
        attempts: fresh attempts that measure how often the network of a trial is fooled.
        min_confident: least share of validation images that a network must be right about and
            confident of, to be chosen.
        finish_all: prune no trial that falls behind.
        audit: also audit the network of each finished trial. What that finds plays no part in the
            choice.
        out: the folder to write, or to go on in where this very sweep is; default runs/sweep, with
            -2, -3, ... where another one is there.
        overwrite: begin anew in --out. A study in --storage is left as it is, and goes on.
        seed: of the sweep; that of each trial follows from it and the number of the trial.
        json: print the result as one JSON object on stdout, all else on stderr.
        quiet: no progress; only the result.
    """

    base: Any = None
    search: Any = None
    storage: str | None = None
    study: str = "sweep"
    trials: int = 20
    workers: int = 1
    attempts: int = 200
    min_confident: float = 0.9
    finish_all: bool = False
    audit: bool = False
    out: str | None = None
    overwrite: bool = False
    seed: int = 0
    json: bool = False
    quiet: bool = False
