"""Sphinx: Markdown pages, and a reference drawn from the docstrings.

Reads nothing from the network.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import blankcheck

project = "blankcheck"
copyright = "the blankcheck authors"
version = release = blankcheck.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
shutil.rmtree(Path(__file__).with_name("api"), ignore_errors=True)  # pages of names that are gone

copybutton_prompt_text = "$ "  # of a console, whose other lines are output

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
highlight_language = "text"

html_theme = "furo"
html_title = f"blankcheck {version}"
html_static_path = ["_static"]
html_css_files = ["blankcheck.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#b8410f", "color-brand-content": "#00639c"},
    "dark_css_variables": {"color-brand-primary": "#ff9d6b", "color-brand-content": "#7cc4f2"},
}

default_role = "py:obj"  # docstrings write names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"


def setup(app: Any) -> None:
    """What the pages need beyond Sphinx and MyST."""
    app.connect("source-read", with_results)
    app.connect("source-read", without_missing_guides)
    app.connect("autodoc-process-docstring", with_literals)


def with_results(app: Any, page: str, source: list[str]) -> None:
    """The measured results stand outside of this folder: the page shows them, and links to them
    lead to the page."""
    source[0] = source[0].replace("(../benchmarks/RESULTS.md)", "(results.md)")
    if page == "results":
        text = (Path(app.srcdir).parent / "benchmarks" / "RESULTS.md").read_text()
        source[0] = re.sub(
            r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"`\1`", text
        )  # further files are not part of the site


def without_missing_guides(app: Any, page: str, source: list[str]) -> None:
    """The index names guides as `doctor*`; those without a page are left out."""
    if page == "index":
        lines = source[0].split("\n")
        there = [
            line
            for line in lines
            if not re.fullmatch(r"\w+\*", line) or any(Path(app.srcdir).glob(f"{line}.md"))
        ]
        source[0] = "\n".join(there)


def with_literals(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """In docstrings, `.pt` is a literal and no name to link to."""
    lines[:] = [re.sub(r"`(\.[^`]*)`", r"``\1``", line) for line in lines]
