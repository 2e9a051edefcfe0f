"""How results show themselves: in a notebook, or as their report in a browser."""

from __future__ import annotations

import webbrowser
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from blankcheck.runs.folder import RunFolder


class Shown:
    """A result that a run folder holds. What is shown is drawn from such a folder, as reports are,
    so that a result that was kept looks the same."""

    def _fill(self, run: RunFolder) -> None:
        """Begin a run folder, and write everything but the report into it."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """In a notebook: the verdict or the rounds, key numbers, figures and a row of images."""
        from blankcheck.report.notebook import summary

        with TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            self._fill(run)
            return summary(run)

    def show(self) -> Path:
        """Show the whole report: in a notebook below the cell, else in a browser.

        Returns:
            The page, a file in a folder for temporary ones; `save` keeps it.
        """
        from rich.console import Console

        from blankcheck.report.page import write_report

        run = RunFolder(Path(mkdtemp(prefix="blankcheck-")))
        self._fill(run)
        page = write_report(run)
        if Console().is_jupyter:
            from IPython.display import HTML, display

            source = escape(page.read_text(encoding="utf-8"))
            look = "width:100%;height:640px;border:0"
            display(HTML(f'<div><iframe srcdoc="{source}" style="{look}"></iframe></div>'))
        else:
            webbrowser.open(page.as_uri())
        return page
