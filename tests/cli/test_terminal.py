"""How progress and results look, on terminals and in pipes."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from blankcheck.api.bars import by_rounds
from blankcheck.cli.commands.audit import found_by
from blankcheck.cli.terminal import Terminal

LINE = "conditions: confidence >= 0.9, at most 12 lit, out of distribution (95 % bound) [sic]"
PATH = f"{'long/' * 30}report.html"


def on(width: int, terminal: bool = True) -> tuple[Terminal, io.StringIO]:
    """One that writes all into a text."""
    made, file = Terminal(), io.StringIO()
    how = {"color_system": None, "highlight": False, "soft_wrap": True}
    made.out = made.err = Console(file=file, force_terminal=terminal, width=width, **how)
    return made, file


def plain(file: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


@pytest.mark.parametrize("width", [30, 50, 79, 80, 200])
def test_progress_fits_the_terminal(width):
    terminal, file = on(width)
    with terminal.progress() as bar:
        for done in range(0, 101, 20):
            bar("search", done, 100, "97 of 100 fooled, median 3 lit, [bold] " + "and so on " * 10)
    lines = plain(file).replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= width
    last = [line for line in lines if "100/100" in line][-1]
    assert ("━" in last) == (width >= 80) and "97" in last


@pytest.mark.parametrize("width", [60, 80])
def test_no_word_of_a_result_is_lost_or_broken(width):
    terminal, file = on(width)
    terminal.note(LINE)
    terminal.result("FOOLED", [LINE, LINE, f"weights: {PATH}"], PATH, {})
    *lines, last = plain(file).splitlines()
    assert last == PATH and f"  {PATH}" in lines
    assert max(len(line) for line in lines if PATH not in line) <= width
    assert not any(line.startswith("  %") for line in lines)
    assert " ".join(lines).split() == f"{LINE} FOOLED {LINE} {LINE} weights: {PATH}".split()


def test_whoever_reads_a_pipe_gets_whole_lines():
    terminal, file = on(60, terminal=False)
    terminal.working("loading")
    terminal.result("FOOLED", [LINE, LINE], PATH, {})
    assert file.getvalue() == f"FOOLED  {LINE}\n  {LINE}\n{PATH}\n"


def test_what_goes_on_is_said_until_something_else_is():
    terminal, file = on(60)
    terminal.working("audit: loading")
    terminal.note("loaded")
    assert terminal.busy is None and "audit: loading" in file.getvalue()
    assert plain(file).rstrip().endswith("loaded")


@pytest.mark.parametrize(
    ("fooled", "extra", "words"),
    [
        (98, 0, "98 of 100 attempts fooled (95 % bound 50.0%), median 4 lit (fewest 3)"),
        (0, 0, "0 of 100 attempts fooled (95 % bound 50.0%)"),
        (0, 1, "by the checks that look harder: 1 fooling image, fewest 7 lit; by none of the 100"),
        (0, 20, "by the checks that look harder: 20 fooling images, fewest 7 lit; by none of the"),
    ],
)
def test_a_headline_says_who_found_what(fooled, extra, words):
    verdict = {"fooled": fooled, "attempts": 100, "rate_upper_95": 0.5, "median_lit": 4}
    verdict |= {"min_lit": 3, "extra": {"fooled": extra, "min_lit": 7}}
    assert found_by(verdict).startswith(words)


@pytest.mark.parametrize(
    ("words", "said"), [("resumed", "resuming at round 3 of 7"), ("ended", "resuming at its audit")]
)
def test_a_hardening_says_where_it_goes_on(words, said):
    terminal, file = on(80, terminal=False)
    told = []
    watch = by_rounds(lambda *bar: told.append(bar), 7, terminal.note)
    watch(SimpleNamespace(index=1), 0, 0, words)
    watch(None, 0, 10, "")
    assert file.getvalue().strip() == said and told == [("round 3", 0, 11, "")]
