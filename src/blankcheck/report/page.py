"""The report of a run: `report.html`, one file that needs nothing else, and `report.md`, drawn from
the run folder alone."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blankcheck import text
from blankcheck.errors import RunFolderError
from blankcheck.report import blend_wording as blend_words
from blankcheck.report import certificate_wording as certificate_words
from blankcheck.report import evidence as evidence
from blankcheck.report import reproduce as repeat
from blankcheck.report import wording as words
from blankcheck.runs.contents import RunContents, Witness, read_run
from blankcheck.runs.folder import RunFolder

if TYPE_CHECKING:
    from blankcheck.report.charts.select import Drawn

PER_CLASS = 4
FIRST = 20
"""Classes whose sparsest witness is shown at once."""
MOST_TILES = 48
"""Witnesses in a gallery; with many classes each shows fewer."""
MOST_BYTES = 1_200_000
"""Of pictures in a gallery, so that a page with two stays under 5 MB."""
LARGE = 64
"""Pixels of the longer side from which images are shown wider."""
MOST_ROWS = 100
"""Of the per-class table."""
MARKDOWN_SPECIAL = "\\`*_[]!|~$"


@dataclass(frozen=True)
class Tile:
    """A witness of the gallery with its pictures as data URIs."""

    witness: Witness
    image: str
    nearest: str | None


@dataclass(frozen=True)
class Shown:
    """One run as the templates see it. name: `Before`, `After` or empty."""

    name: str
    contents: RunContents
    scope: words.Scope
    numbers: list[words.KeyNumber]
    hero: Tile | None
    gallery: list[tuple[str, int, list[Tile]]]
    targets: list[tuple[str, dict[str, Any]]]
    conditions: list[evidence.Condition]
    trials: list[evidence.Count]
    checks: evidence.Checks | None

    @property
    def verdict(self) -> dict[str, Any] | None:
        """What `verdict.json` holds."""
        return self.contents.verdict

    @property
    def more(self) -> list[tuple[str, list[Tile]]]:
        """What the gallery shows only when it is opened, by class."""
        rest = [
            (name, tiles[1:] if i < FIRST else tiles)
            for i, (name, _, tiles) in enumerate(self.gallery)
        ]
        return [(name, tiles) for name, tiles in rest if tiles]

    @property
    def large(self) -> bool:
        """Whether images are too large to be shown small: a single lit pixel would be lost."""
        return any(max(w.image.shape[1:]) >= LARGE for w in self.contents.witnesses)

    @property
    def word(self) -> str:
        """The verdict in one word."""
        return str(self.verdict["verdict"]) if self.verdict else "NOT AUDITED"


def write_report(run: RunFolder, before: RunFolder | None = None) -> Path:
    """Draw `report.html`, `report.md` and `figures/` of a run folder, and return the path of the
    page.

    before: another run folder with an audit, shown beside this one. Builds no model, loads no data
    set and runs no code that the folders name. Raises RunFolderError with one line when a file is
    missing or broken.
    """
    # drawing takes half a second to import, which commands that draw nothing should not pay
    from blankcheck.report.charts.select import draw

    named = (
        [("", read_run(run))]
        if before is None
        else [("Before", read_run(before)), ("After", read_run(run))]
    )
    for _, contents in named:
        if before is not None and contents.verdict is None:
            raise RunFolderError(f"run folder {contents.run.path} has no verdict.json to compare")
    figures = draw(named)
    values = _values(named, figures)
    for name, drawn in figures.items():
        run.write(f"figures/{name}.png", drawn.light)
    run.write("report.md", _bytes(markdown_templates().get_template("report.md.j2").render(values)))
    page = html_templates()
    # the page may run this one script and nothing else, whatever a name in it holds
    script = page.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values |= {"script": Markup(script), "script_hash": digest}
    return run.write("report.html", _bytes(page.get_template("report.html.j2").render(values)))


def _bytes(page: str) -> bytes:
    # JSON can hold halves of letters, which UTF-8 cannot
    return page.encode(errors="replace")


def _values(named: Sequence[tuple[str, RunContents]], figures: dict[str, Drawn]) -> dict[str, Any]:
    shown = [_shown(name, contents) for name, contents in named]
    first, last = shown[0].contents, shown[-1].contents
    pair = len(shown) == 2
    return {
        "runs": shown,
        "FIRST": FIRST,
        "last": shown[-1],
        "pair": pair,
        "figures": figures,
        "title": words.title(last),
        "unit": words.unit(last),
        "changes": words.changes(first, last) if pair else [],
        "unlike": words.unlike(first, last) if pair else "",
    }


def _shown(name: str, contents: RunContents) -> Shown:
    gallery = _gallery(contents)
    tiles = [tile for _, _, row in gallery for tile in row]
    return Shown(
        name=name,
        contents=contents,
        scope=words.scope(contents),
        numbers=words.key_numbers(contents),
        hero=min(tiles, key=lambda tile: _sparsest_first(tile.witness), default=None),
        gallery=gallery,
        targets=_target_rows(contents),
        conditions=evidence.conditions(contents),
        trials=evidence.trials(contents),
        checks=evidence.checks(contents.verdict) if contents.verdict else None,
    )


def _gallery(contents: RunContents) -> list[tuple[str, int, list[Tile]]]:
    """For each class its name, how many witnesses it has, and the sparsest of them, no image twice."""
    by_class: dict[int, dict[bytes, Witness]] = {}
    counts: dict[int, int] = {}
    for witness in sorted(contents.witnesses, key=_sparsest_first):
        by_class.setdefault(witness.target, {}).setdefault(witness.image.numpy().tobytes(), witness)
        counts[witness.target] = counts.get(witness.target, 0) + 1
    rows: dict[int, list[Tile]] = {target: [] for target in sorted(by_class)}
    for target, tile in _within_budget(_in_turn({t: list(by_class[t].values()) for t in rows})):
        rows[target].append(tile)
    return [(contents.class_name(t), counts[t], tiles) for t, tiles in rows.items() if tiles]


def _sparsest_first(witness: Witness) -> tuple[int, float]:
    return witness.lit, -witness.confidence


def _in_turn(by_class: dict[int, list[Witness]]) -> Iterator[Witness]:
    """The sparsest of every class, then the second of every class, so that a full gallery leaves no
    class out first."""
    for rank in range(PER_CLASS):
        yield from (found[rank] for found in by_class.values() if rank < len(found))


def _within_budget(witnesses: Iterator[Witness]) -> Iterator[tuple[int, Tile]]:
    from blankcheck.report.charts.select import witness_pngs

    spent = 0
    for count, witness in enumerate(witnesses):
        image, nearest = witness_pngs(witness)
        spent += len(image) + len(nearest or b"")
        if count >= MOST_TILES or spent > MOST_BYTES:
            return
        yield (
            witness.target,
            Tile(witness, data_uri(image), None if nearest is None else data_uri(nearest)),
        )


def _target_rows(contents: RunContents) -> list[tuple[str, dict[str, Any]]]:
    """The classes in order; of very many, those fooled most."""
    targets = contents.verdict["targets"] if contents.verdict else {}
    rows = sorted(targets.items(), key=lambda item: (-(item[1]["rate"] or 0.0), int(item[0])))[
        :MOST_ROWS
    ]
    return [
        (contents.class_name(int(t)), row) for t, row in sorted(rows, key=lambda item: int(item[0]))
    ]


def data_uri(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def escape_markdown(value: Any) -> Any:
    """Text as Markdown shows it letter for letter; what is marked up already, and what is no text,
    stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    escaped = "".join(
        f"\\{letter}" if letter in MARKDOWN_SPECIAL else letter
        for letter in " ".join(value.split())
    )
    return Markup(html.escape(escaped, quote=False))


def headings(page: str) -> list[tuple[str, str]]:
    """The sections of a page, as (anchor, title); of what a user named nothing looks like one,
    because it is escaped."""
    return re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', page)


def html_templates() -> Environment:
    """Templates of pages: what they are given is escaped."""
    return _environment(autoescape=True)


def markdown_templates() -> Environment:
    """Templates of Markdown: text that they are given is shown letter for letter."""
    environment = _environment(autoescape=False, finalize=escape_markdown)
    # in an indented block everything but a line break is taken letter for letter
    environment.filters["code"] = lambda text: Markup(" ".join(str(text).split()))
    return environment


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("blankcheck.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {
        "percent": text.percent,
        "number": text.number,
        "short": short,
        "uri": data_uri,
        "stopped_by": evidence.stopped_by,
        "headings": headings,
        "seconds": words.seconds,
    }
    environment.globals |= {
        "commands": repeat.commands,
        "settings_text": repeat.settings_text,
        "versions": repeat.versions,
        "unit_of": words.unit,
        "looks_real": evidence.looks_real,
        "blend_words": blend_words,
        "certificate_words": certificate_words,
    }
    return environment


def short(said: object, most: int = 80) -> str:
    """Text that a cell of a table holds."""
    return text.one_line(said, most)
