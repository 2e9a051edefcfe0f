"""Pictures of the rounds of a hardening for its report, each with words for those who cannot see
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from matplotlib.figure import Figure

from blankcheck.figures.style import DARK, LIGHT, Theme
from blankcheck.report.charts import audit as pictures
from blankcheck.report.charts import rounds as round_pictures
from blankcheck.report.charts.rounds import Sparsity, calibration, sparsity
from blankcheck.runs.contents import RunContents
from blankcheck.text import number, percent


@dataclass(frozen=True)
class Drawn:
    """A picture as PNG files, and what it shows in words. dark: for dark screens, where the page
    shows the picture."""

    light: bytes
    dark: bytes | None
    alt: str


def both(make: Callable[[Theme], Figure], alt: str) -> Drawn:
    """The picture for light and for dark pages."""
    return Drawn(pictures.png(make(LIGHT)), pictures.png(make(DARK)), alt)


def round_figures(contents: RunContents) -> dict[str, Drawn]:
    """`real`, `sparsity`, `losses` and, where it was measured, `calibration`, of a run with at
    least one round."""
    rounds, kept = contents.rounds, contents.kept
    found, lines = sparsity(rounds, contents.searches), calibration(rounds, contents.reals)
    limit = _limit(contents)
    drawn = {
        "real": both(lambda t: round_pictures.real_curves(rounds, kept, t), _real_words(contents)),
        "sparsity": both(
            lambda t: round_pictures.sparsity_curves(found, limit, kept, t),
            _sparsity_words(found, limit),
        ),
        "losses": both(
            lambda t: round_pictures.loss_curves(rounds, kept, t), _loss_words(contents)
        ),
    }
    if lines:
        words = "; ".join(f"{LINES[key]} {_ends(shares)}" for key, shares in lines.items())
        drawn["calibration"] = both(
            lambda t: round_pictures.calibration_curves(rounds, lines, kept, t),
            f"Of validation images: {words}.",
        )
    return drawn


LINES = {
    "calibration_error": "expected calibration error",
    "taken_for_fake": "share taken for fake",
}


def _limit(contents: RunContents) -> int | None:
    """Most lit features of a fooling image, as far as the folder tells before an audit."""
    limit = (
        contents.verdict["conditions"]["max_lit"]
        if contents.verdict
        else contents.config.get("max_lit")
    )
    return limit if isinstance(limit, int) and limit > 0 else None


def _ends(shares: Sequence[float]) -> str:
    known = [share for share in shares if isfinite(share)]
    return f"{percent(known[0], 2)} at first and {percent(known[-1], 2)} at last"


def _real_words(contents: RunContents) -> str:
    first, last = contents.rounds[0], contents.rounds[-1]
    return (
        f"{len(contents.rounds)} rounds of hardening: validation accuracy {percent(first['validation_accuracy'])} to "
        f"{percent(last['validation_accuracy'])}, right and confident {percent(first['validation_confident'])} to "
        f"{percent(last['validation_confident'])}."
    )


def _sparsity_words(found: Sparsity, limit: int | None) -> str:
    of = f", where at most {number(limit)} are allowed" if limit is not None else ""
    said = [
        f"{words} {number(known[0])} at first and {number(known[-1])} at last"
        for words, line in (("fewest", found.fewest), ("median", found.middle))
        if (known := [n for n in line if isfinite(n)])
    ]
    what = "Lit features of the images that a fresh search made the network sure of"
    return f"{what}: {'; '.join(said)}{of}." if said else f"{what}: there was none."


def _loss_words(contents: RunContents) -> str:
    first, last = contents.rounds[0], contents.rounds[-1]
    return (
        f"Loss in nats: on real images {first['real_loss']:.3g} in the first round and {last['real_loss']:.3g} in the last, "
        f"on fooling images {first['fooling_loss']:.3g} and {last['fooling_loss']:.3g}."
    )
