"""Sphinx: Markdown pages, and a reference drawn from the docstrings.

Reads nothing from the network.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import blankcheck

project = "blankcheck"
copyright = "the blankcheck authors"
version = release = blankcheck.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
highlight_language = "text"

html_theme = "furo"
html_title = "blankcheck"
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
    app.connect("autodoc-process-docstring", as_fields)


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


def as_fields(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings say `name: what it is.` in running text, of parameters and of a dataclass's
    fields; here it is a list."""
    text = re.sub(
        r"`([^`]*)`", lambda m: f"``{m[1]}``" if m[1].startswith(".") else m[0], "\n".join(lines)
    )  # `.pt`
    lines[:] = text.split("\n")
    if what not in ("function", "method", "class"):
        return
    try:
        known = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return
    said: dict[str, str] = {}
    paragraphs = text.split("\n\n")
    for i, paragraph in enumerate(paragraphs):
        if not paragraph.startswith(" "):
            paragraphs[i], found = split(" ".join(paragraph.split()), known)
            said |= found
    fields = [
        f":param {name}: {said.get(name, '')}"
        for name in known
        if said and name not in ("self", "cls")
    ]
    lines[:] = "\n\n".join([*filter(None, paragraphs), "\n".join(fields)]).split("\n")


def split(paragraph: str, known: list[str]) -> tuple[str, dict[str, str]]:
    """What stands before the first `name: text` of a known name, and these texts."""
    marks = [
        m
        for m in re.finditer(
            r"(?:^(?:[A-Z][\w ]*: )?|(?<=\. )|(?<=; ))((?:\w+, )*\w+): ", paragraph
        )
        if set(m[1].split(", ")) <= set(known)
    ]
    if not marks:
        return paragraph, {}
    ends = [m.start() for m in marks[1:]] + [len(paragraph)]
    texts = {}
    for mark, end in zip(marks, ends, strict=True):
        text = paragraph[mark.end() : end].strip().rstrip(";")
        texts |= dict.fromkeys(mark[1].split(", "), text)
    return paragraph[: marks[0].start()].strip(), texts
