"""Figures and images as files: themed SVG for figures, PNG for images, words for both.

A figure is made by a function `draw() -> Figure` with the colours of `figures.style`, and turned
into text by `svg`. Nothing here is read or written.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from blankcheck.figures.style import CSS, VARIABLES
from blankcheck.judging.metrics import share_at_most
from blankcheck.pictures import image_png as image_png
from blankcheck.pictures import pixels as pixels
from blankcheck.pictures import shrink as shrink
from blankcheck.text import percent

NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TAG = re.compile(r"<[^<>]*>")
COLOUR = re.compile(r"(?<=: )#[0-9a-f]{6}")
FILL = re.compile(r' fill="(#[0-9a-f]{6})"')
NUMBERED = re.compile(r' id="[A-Za-z0-9.]+_\d+"')
FAMILY = re.compile(r" font-family: [^;\"]*;")
REFERENCE = re.compile(r'(?: id="|url\(#|href="#)')


class Drawn(NamedTuple):
    """A figure of a page: the name of its file without the ending, its SVG text, what it shows in
    words for those who cannot see it, and what a reader should look at."""

    name: str
    svg: str
    alt: str
    caption: str = ""


def svg(figure: Figure) -> str:
    """Turn a figure into an `<svg class="figure">` that is a file of its own or part of a page.

    The same figure gives the same text. Colours of `figures.style` become CSS variables, so the
    figure follows a dark screen; others stay as they are. Texts are escaped; it holds no script.
    """
    buffer = io.StringIO()
    for words in figure.findobj(Text):
        words.set_parse_math(False)  # a class may be named "$x$"
        words.set_text(NO_XML.sub("\ufffd", words.get_text()))
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blankcheck"}),
    ):
        # class names may hold letters that the font for measuring lacks; a browser has others
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently", UserWarning)
        figure.savefig(buffer, format="svg", metadata=nothing, facecolor=figure.get_facecolor())
    raw = buffer.getvalue()
    # ids must differ between the figures of a page
    own = f"f{hashlib.sha256(raw.encode()).hexdigest()[:8]}-"
    opening, _, body = raw[raw.index("<svg") :].partition("<defs>")
    _, _, body = body.partition("</defs>")  # its one rule would change the whole page
    opening = opening.strip().replace("<svg", '<svg class="figure"', 1)
    themed = TAG.sub(lambda tag: _themed(tag.group(), own), body)
    return f"{opening}<style>{CSS}</style>{themed}"


def _themed(tag: str, own: str) -> str:
    """A tag with variables for colours, the font of the page, and ids that begin with `own`."""
    tag = FILL.sub(r' style="fill: \1"', tag)
    tag = COLOUR.sub(lambda colour: VARIABLES.get(colour.group(), colour.group()), tag)
    return REFERENCE.sub(rf"\g<0>{own}", FAMILY.sub("", NUMBERED.sub("", tag)))


def drawn(name: str, figure: Figure, caption: str = "", alt: str = "") -> Drawn:
    """A figure with its words; without `alt` they come from the lines that it shows."""
    return Drawn(name, svg(figure), alt or line_words(figure), caption)


def describe(what: str, lines: Mapping[str, str]) -> str:
    """Words for those who cannot see a figure: what it shows, and each part with its numbers."""
    said = [f"{name} {words}".strip() for name, words in lines.items()]
    return f"{what}. {'; '.join(said)}." if said else f"{what}."


def line_words(figure: Figure) -> str:
    """The first and the last number of every line that a legend names, for each set of axes."""
    said = []
    for axes in figure.axes:
        shares = isinstance(axes.yaxis.get_major_formatter(), PercentFormatter)
        spell = percent if shares else _short
        named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
        # a line across the axes is a limit and says its number itself
        data = [line for line in named if line.get_transform() == axes.transData]
        lines = {
            str(line.get_label()): _ends(np.asarray(line.get_ydata(), float), spell)
            for line in data
        }
        said.append(describe(axes.get_title(loc="left").rstrip("?."), lines))
    return " ".join(said)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ends(values: Iterable[float], spell: Callable[[float], str]) -> str:
    known = [float(value) for value in values if isfinite(value)]
    return f"{spell(known[0])} at first and {spell(known[-1])} at last" if known else "unknown"


def lit_steps(counts: Sequence[int | None], end: int) -> tuple[list[int], list[float]]:
    """The share of `counts` that are known and at most k, as steps: the k in 1..end where it
    changes, with 1 and `end`, and the share there."""
    at = sorted({1, end} | {c for c in counts if c is not None and 1 < c < end})
    return at, [share_at_most(counts, k) for k in at]


def log_counts(axis: Axis, low: float, high: float) -> None:
    """Make an axis of counts logarithmic, with few enough whole numbers at its ticks."""
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    if high > 5 * low:
        digits = (1, 3) if high > 30 * low else (1, 2, 3, 5)
        ticks = [digit * 10**power for power in range(10) for digit in digits]
    else:
        ticks = [int(k) for k in MaxNLocator(5, integer=True).tick_values(low, high)]
    axis.set_major_locator(FixedLocator([k for k in ticks if max(1, low) <= k <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:,g}"))
