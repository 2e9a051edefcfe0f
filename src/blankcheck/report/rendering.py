"""Templates of pages, and what makes text safe in them."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blankcheck import text
from blankcheck.pictures import data_uri

if TYPE_CHECKING:  # drawing takes half a second to import
    from blankcheck.figures.drawing import Drawn

MARKDOWN_SPECIAL = "\\`*_[]!|~$"
PACKAGE = "blankcheck.report"


def html_templates(package: str = PACKAGE) -> Environment:
    """Templates of pages: what they are given is escaped, and `drawn|figure` shows a figure.

    Args:
        package: Whose folder `templates` is read first; that of the report follows.
    """
    environment = _environment(package, autoescape=True)
    environment.filters |= {"figure": html_figure, "inline": inline}
    return environment


def markdown_templates(package: str = PACKAGE) -> Environment:
    """Templates of Markdown: text that they are given is shown letter for letter."""
    environment = _environment(package, autoescape=False, finalize=escape_markdown)
    # in an indented block everything but a line break is taken letter for letter
    environment.filters["code"] = lambda text: Markup(" ".join(str(text).split()))
    environment.filters["figure"] = markdown_figure
    return environment


def _environment(package: str, **options: Any) -> Environment:
    loader = ChoiceLoader([PackageLoader(package), PackageLoader(PACKAGE)])
    options |= dict.fromkeys(("trim_blocks", "lstrip_blocks", "keep_trailing_newline"), True)
    environment = Environment(loader=loader, undefined=StrictUndefined, **options)
    named = {"short": short, "uri": data_uri, "headings": headings}
    environment.filters |= {"percent": text.percent, "number": text.number, **named}
    environment.filters |= {"p_value": text.p_value, "limit": text.limit}
    return environment


def short(said: object, most: int = 80) -> str:
    """One line of at most so many letters."""
    return text.one_line(said, most)


def html_figure(drawn: Drawn, wide: bool = False) -> Markup:
    """A figure of a page with its words and its caption."""
    caption = Markup("\n<figcaption>{}</figcaption>").format(drawn.caption) * bool(drawn.caption)
    shape = Markup('<figure class="plot{}"><div role="img" aria-label="{}">{}</div>{}</figure>')
    return shape.format(" wide" * wide, drawn.alt, inline(drawn.svg), caption)


def inline(svg: str) -> Markup:
    """A figure inside a page, which needs no names of namespaces; `figures.drawing.svg` escaped
    its texts."""
    return Markup(re.sub(r' xmlns[:\w]*="[^"]*"', "", svg, count=2))


def markdown_figure(drawn: Drawn) -> Markup:
    """A figure of a Markdown page, which lies in the folder `figures` beside it."""
    return Markup("![{}](figures/{}.svg)").format(escape_markdown(drawn.alt), drawn.name)


def escape_markdown(value: Any) -> Any:
    """Text as Markdown shows it letter for letter; what is no text, or marked up, stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    escaped = re.sub(f"[{re.escape(MARKDOWN_SPECIAL)}]", r"\\\g<0>", " ".join(value.split()))
    return Markup(html.escape(escaped, quote=False))


def headings(page: str) -> list[tuple[str, str]]:
    """The sections of a page, as (anchor, title); what a user named is escaped, and is none."""
    return re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', page)
