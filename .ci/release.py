"""Refuse a release whose version, tag and changelog do not agree; print its notes.

python .ci/release.py [vX.Y.Z]; without a tag, that of the version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = ROOT / "src/blankcheck/__init__.py"
CHANGELOG, CITATION = ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"


def notes(tag: str | None, init: str, changelog: str, citation: str) -> str:
    """What the changelog says of the version.

    Args:
        tag: of the release, as v0.1.0; None for that of the version.
        init, changelog, citation: the texts of the three files that name the version.

    Raises:
        ValueError: for whatever does not agree, in one line.
    """
    version = re.search(r'^__version__ = "(.+)"$', init, re.MULTILINE)[1]
    if tag not in (None, f"v{version}"):
        raise ValueError(f"the tag is {tag}, the version {version}")
    if not re.search(rf'^version: "?{re.escape(version)}"?$', citation, re.MULTILINE):
        raise ValueError(f"CITATION.cff does not name version {version}")
    parts = re.split(r"^## \[(.+?)\](.*)$", changelog, flags=re.MULTILINE)[1:]
    said = {name: (when, text.strip()) for name, when, text in zip(*[iter(parts)] * 3, strict=True)}
    if said.get("Unreleased", ("", ""))[1]:
        raise ValueError(f"CHANGELOG.md has lines under Unreleased; move them under [{version}]")
    when, text = said.get(version, ("", ""))
    if not text or not re.fullmatch(r" - \d{4}-\d\d-\d\d", when):
        raise ValueError(f"CHANGELOG.md needs lines under `## [{version}] - YYYY-MM-DD`")
    return text


if __name__ == "__main__":
    files = (path.read_text(encoding="utf-8") for path in (VERSION, CHANGELOG, CITATION))
    try:
        sys.stdout.write(notes("".join(sys.argv[1:]) or None, *files) + "\n")
    except ValueError as error:
        sys.exit(f"release: error: {error}")
