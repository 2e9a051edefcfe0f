"""The page on architecture names what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import blankcheck

ROOT = Path(__file__).parents[2]
PACKAGE = Path(blankcheck.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(
    set(re.findall(r"`((?:\w+/)+(?:\w+\.py(?::\w+)?)?)`", PAGE)) - {"state/", "figures/"}
)
FILES = ("json", "jsonl", "html", "md", "yaml", "safetensors", "pt", "pt2", "py")
MODULES = sorted(n for n in set(re.findall(r"`(\w+(?:\.\w+)+)`", PAGE)) if not n.endswith(FILES))


def test_the_page_names_files():
    assert len(NAMED) > 30 and len(MODULES) > 10


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named):
    file, _, name = named.partition(":")
    place = ROOT / file if (ROOT / file).exists() else PACKAGE / file
    assert place.exists(), file
    if name:
        module = "blankcheck." + file.removesuffix(".py").replace("/", ".")
        assert hasattr(importlib.import_module(module), name), named


@pytest.mark.parametrize("dotted", MODULES)
def test_modules_on_the_page_exist(dotted):
    parts = dotted.split(".")
    if not [*PACKAGE.glob(parts[0]), *PACKAGE.glob(f"{parts[0]}.py")]:
        return  # a name of another library
    of_module = [n for n in range(1, len(parts) + 1) if [*PACKAGE.glob("/".join(parts[:n]) + "*")]]
    at = max(of_module)
    thing = importlib.import_module(".".join(["blankcheck", *parts[:at]]))
    for name in parts[at:]:
        thing = getattr(thing, name)
