"""The page of a run, or of two side by side, drawn from the run folders alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.pictures import data_uri
from blankcheck.report import (
    blend_wording,
    certificate_wording,
    evidence,
    pair_wording,
    reproduce,
    wording,
)
from blankcheck.report.rendering import html_templates, markdown_templates
from blankcheck.runs.contents import Miss, RunContents, Witness, read_run
from blankcheck.runs.folder import INNER, VERDICT, RunFolder

PER_CLASS = 4
FIRST = 20
"""Classes whose sparsest witness is shown at once."""
MOST_TILES = 48
"""Witnesses in a gallery; with many classes each shows fewer."""
MOST_BYTES = 1_200_000
"""Of images in a gallery, so that a page with two stays under 5 MB; misses beside it may have a
third as many."""
LARGE = 64
"""Pixels of the longer side from which images are shown wider."""
MOST_ROWS = 100
"""Of the per-class table."""
WORDS = {
    "FIRST": FIRST,
    "unit_of": wording.unit,
    "seconds": wording.seconds,
    "alike": evidence.alike,
    "looks_real": evidence.looks_real,
    "level_why": evidence.level_why,
    "commands": reproduce.commands,
    "facts": reproduce.facts,
    "settings_text": reproduce.settings_text,
    "versions": reproduce.versions,
    "blend_words": blend_wording,
    "certificate_words": certificate_wording,
}
"""What templates call for their sentences."""


class Tile(NamedTuple):
    """An image of the gallery and the nearest real one as data URIs, and whose numbers it has.
    lacks: in words, for a miss what keeps it from being a fooling image."""

    of: Witness | Attempt
    image: str
    nearest: str | None
    lacks: tuple[str, ...] = ()


def write_report(run: RunFolder, before: RunFolder | None = None) -> Path:
    """Draw a page, a short one in Markdown, and `figures/` into a run folder.

    Builds no model, loads no data set and runs no code that the folders name.

    Args:
        run: The folder that is read and written. Of a demo its two audits are shown side by side.
        before: Another run folder with an audit, shown beside this one in a page of its own.

    Returns:
        The path of the page: `report.html`, or `before-after.html` with `before`.

    Raises:
        RunFolderError: With one line when a file is missing or broken.
    """
    # drawing takes half a second to import, which commands that draw nothing should not pay
    from blankcheck.report.charts.select import draw

    pair = _inside(run) if before is None else (before, run)
    file = "report" if before is None else "before-after"
    named = [("", read_run(run))]
    if pair is not None:
        named = [(side, read_run(one)) for side, one in zip(("Before", "After"), pair, strict=True)]
    for side, contents in named:
        if side and contents.verdict is None:
            raise RunFolderError(f"run folder {contents.run.path} has no verdict.json to compare")
    figures = draw(named)
    for drawn in figures.values():
        run.write(f"figures/{drawn.name}.svg", _bytes(drawn.svg))
    values = _values(named) | {"figures": figures}
    markdown = markdown_templates().get_template("report.md.j2").render(values)
    run.write(f"{file}.md", _bytes(markdown))
    page = html_templates()
    # the page may run this one script and nothing else, whatever a name in it holds
    script = page.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values |= {"script": Markup(script), "script_hash": digest}
    return run.write(f"{file}.html", _bytes(page.get_template("report.html.j2").render(values)))


def _inside(run: RunFolder) -> tuple[RunFolder, RunFolder] | None:
    """The two audits of a demo that has ended."""
    folders = [run.below(name) for name in INNER["demo"][1:]]
    if run.command != "demo" or not all((folder / VERDICT).is_file() for folder in folders):
        return None
    before, after = map(RunFolder.open, folders)
    return before, after


def _bytes(page: str) -> bytes:
    # JSON can hold halves of letters, which UTF-8 cannot
    return page.encode(errors="replace")


def _values(named: Sequence[tuple[str, RunContents]]) -> dict[str, Any]:
    shown = [_shown(name, contents) for name, contents in named]
    first, last = named[0][1], named[-1][1]
    pair = len(shown) == 2
    proof = None if pair else wording.proof_of(last)
    return {
        **WORDS,
        "runs": shown,
        "last": shown[-1],
        "pair": pair,
        "proof": proof,
        "title": wording.title(last),
        "changes": pair_wording.changes(first, last) if pair else [],
        "unlike": pair_wording.unlike(first, last) if pair else "",
    }


def _shown(name: str, contents: RunContents) -> dict[str, Any]:
    """One run as the templates see it. name: `Before`, `After` or empty."""
    verdict, gallery, misses = contents.verdict, _gallery(contents), evidence.misses(contents)
    fooled = wording.most_fooled(contents, MOST_ROWS)
    tiles = [tile for _, _, row in gallery for tile in row]
    images = [w.image for w in contents.witnesses] + [m.image for m in contents.misses]
    rest = [(of, row[1:] if i < FIRST else row) for i, (of, _, row) in enumerate(gallery)]
    return {
        "name": name,
        "contents": contents,
        "verdict": verdict,
        "word": wording.word(contents),
        "gallery": gallery,
        "more": [(of, row) for of, row in rest if row],  # shown only when it is opened
        "misses": _misses(contents, misses, MOST_BYTES // 3 if tiles else MOST_BYTES),
        "all_misses": len(misses),
        "hero": min(tiles, key=lambda t: (t.of.ood_p, _sparsest_first(t.of)), default=None),
        # shown small, a single lit pixel would be lost
        "large": any(max(image.shape[1:]) >= LARGE for image in images),
        "scope": wording.scope(contents),
        "numbers": wording.key_numbers(contents),
        "targets": [(contents.class_name(target), row) for target, row in fooled],
        "conditions": evidence.conditions(contents),
        "trials": evidence.trials(contents),
        "checks": evidence.checks(verdict) if verdict else None,
    }


def _gallery(contents: RunContents) -> list[tuple[str, int, list[Tile]]]:
    """For each class its name, how many different witnesses it has, and the sparsest.

    The sparsest of every class is shown, then the second of every class, so that a full gallery
    leaves no class out first.
    """
    by_class: dict[int, dict[bytes, Witness]] = {}
    for witness in sorted(contents.witnesses, key=_sparsest_first):
        by_class.setdefault(witness.target, {}).setdefault(witness.image.numpy().tobytes(), witness)
    classes = [list(by_class[target].values()) for target in sorted(by_class)]
    in_turn = [c[rank] for rank in range(PER_CLASS) for c in classes if rank < len(c)]
    rows: dict[int, list[Tile]] = {}
    for witness, (image, nearest) in zip(in_turn, _pictures(in_turn, MOST_BYTES), strict=False):
        rows.setdefault(witness.target, []).append(Tile(witness, image, nearest))
    return [(contents.class_name(t), len(by_class[t]), rows[t]) for t in sorted(rows)]


def _misses(
    contents: RunContents, misses: Sequence[Miss], most_bytes: int
) -> list[tuple[str, Tile]]:
    """Name of its class and tile of each miss, in order of the classes; of very many, those that
    came closest."""
    want = contents.conditions
    if want is None:
        return []
    made = [
        (miss.attempt, Tile(miss.attempt, *pictures, tuple(evidence.lacking(miss.attempt, want))))
        for miss, pictures in zip(misses, _pictures(misses, most_bytes), strict=False)
    ]
    made.sort(key=lambda pair: pair[0].target)
    return [(contents.class_name(attempt.target), tile) for attempt, tile in made]


def _pictures(shown: Sequence[Witness | Miss], most_bytes: int) -> Iterator[tuple[str, str | None]]:
    """Data URIs of images and of the real ones nearest to them, as far as there is room."""
    from blankcheck.report.charts.images import pngs_of

    spent = 0
    for one in shown[:MOST_TILES]:
        image, nearest = pngs_of(one)
        spent += len(image) + len(nearest or b"")
        if spent > most_bytes:
            return
        yield data_uri(image), None if nearest is None else data_uri(nearest)


def _sparsest_first(witness: Witness | Attempt) -> tuple[int, float]:
    return witness.lit, -witness.confidence
