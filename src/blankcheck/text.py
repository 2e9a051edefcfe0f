"""Words and numbers as every page, figure and line on the terminal writes them."""

from __future__ import annotations

import textwrap

NOTHING = "\N{EN DASH}"
"""What stands where there is no number."""


def one_line(text: object, most: int = 200) -> str:
    """Whatever a user, a library or a file says, in one line that is safe to show.

    Args:
        text: the text, or an object whose text is meant; an exception without one gives its type.
        most: the number of letters beyond which the text is cut and ends in an ellipsis.

    Returns:
        The text without line breaks, control letters and letters that turn others round.
    """
    said = str(text)[: 100 * most]  # of megabytes, no more is looked at
    if not said.strip() and isinstance(text, BaseException):
        said = type(text).__name__
    line = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def short(value: object) -> str:
    """A plain value as a message shows it."""
    return one_line(repr(value), 60)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage; almost none is not called none, nor almost all all."""
    if share is None:
        return NOTHING
    if share in (0, 1):
        return f"{share:.0%}"
    least = 10.0 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"<{least:.{digits}%}"
    if 1 - least / 2 < share < 1:
        return f">{1 - least:.{digits}%}"
    return f"{share:.{digits}%}"


def limit(share: float) -> str:
    """A share that was asked for, as it was given: 0.9 is 90%."""
    return f"{100 * share:.10g}%"


def p_value(p: float | None) -> str:
    """A p-value as tables and sentences show it."""
    if p is None:
        return NOTHING
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}" if p < 0.095 else f"p = {p:.2f}"


def number(value: float | None) -> str:
    """A count with separators; a half stays a half."""
    if value is None:
        return NOTHING
    return f"{value:,.10g}" if value == int(value) else f"{value:,.1f}"


def filled(text: str, width: int, later: str = "  ") -> str:
    """The text in lines that end with a word; a long word such as a path stays whole, so that it
    can be copied, and so does `95 %`. later: before all lines but the first."""
    wrapper = textwrap.TextWrapper(max(20, width), subsequent_indent=later)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.fill(text.replace(" %", "\xa0%")).replace("\xa0%", " %")
