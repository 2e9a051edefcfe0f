"""How progress looks."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from blankcheck.cli.terminal import Terminal


@pytest.mark.parametrize("width", [30, 50, 79, 80, 200])
def test_progress_fits_the_terminal(width):
    terminal, file = Terminal(), io.StringIO()
    terminal.err = Console(
        file=file, force_terminal=True, width=width, color_system=None, highlight=False
    )
    with terminal.progress() as bar:
        for done in range(0, 101, 20):
            bar("search", done, 100, "97 of 100 fooled, median 3 lit, [bold] " + "and so on " * 10)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    lines = shown.replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= width
    last = [line for line in lines if "100/100" in line][-1]
    assert ("━" in last) == (width >= 80) and "97" in last
