"""The settings of commands that read run folders, or make many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from blankcheck.cli.settings.shared import Device

SortBy = Literal["rate", "lit", "accuracy", "name"]


@dataclass(frozen=True)
class VerifySettings:
    """Derive a run folder anew: score its witnesses, judge, prove its certificate, and compare.
    Runs no code that it names.

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
class ReportSettings:
    """Draw the report of a run folder again. Runs no code that the folder names.

    Args:
        run: the run folder.
        before: another run folder to show beside it.
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
    sort: SortBy = "rate"
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class BlendSettings(VerifySettings):
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
