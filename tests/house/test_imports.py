"""The house, read from the files: which room may know which, and how large a room may be."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import blankcheck

PACKAGE = Path(blankcheck.__file__).parent
STEPS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("sweep", "comparing"),
    ("verifying",),
    ("api",),
    ("trackers",),
    ("report",),
    ("runs",),
    ("hardening", "blending"),
    ("auditing",),
    ("certifying", "diagnosing", "testing"),
    ("fooling", "classifiers", "figures"),
    ("judging", "data"),
    ("parallel",),
)
"""The rooms from the top. A room knows those on lower steps, none beside it."""
SHARED = (
    "arguments",
    "types",
    "users",
    "outputs",
    "copies",
    "files",
    "factories",
    "seeds",
    "text",
    "errors",
    "lazily",
)
"""Modules that every room may know; among them are no circles."""
PURE = (
    "fooling",
    "judging",
    "auditing",
    "blending",
    "diagnosing",
    "certifying",
    "hardening/objectives.py",
)
OUTSIDE = {"logging", "sys", "os", "pathlib", "rich", "shutil", "tempfile", "subprocess"}
MOST_MODULES, MOST_SHARE, MOST_LINES = 15, 0.12, 300


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@cache
def imported(path: Path, runtime_only: bool = True) -> frozenset[str]:
    """The modules that a file imports, those under TYPE_CHECKING only if asked for."""
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                skipped |= {id(inner) for inner in ast.walk(node)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            of_module = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known() else node.module for name in of_module}
    return frozenset(names)


@cache
def known() -> frozenset[str]:
    """The modules of the package, with its name."""
    return frozenset(f"blankcheck.{name_of(path)}" for path in modules())


def own(path: Path) -> set[str]:
    """The modules of the package that a file imports at any time, without the package's name."""
    names = {name.removeprefix("blankcheck.") for name in imported(path) & known()}
    return names - {name_of(path)}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_downwards(path):
    room = name_of(path).split(".")[0]
    below = {r for at, step in enumerate(STEPS) if room in step for s in STEPS[at + 1 :] for r in s}
    forbidden = {n.split(".")[0] for n in own(path)} - below - set(SHARED) - {room}
    assert not forbidden, f"{room} may not know {sorted(forbidden)}"
    assert room in SHARED or any(room in step for step in STEPS), f"{room} has no place"


def test_no_circle_of_modules():
    knows = {name_of(path): own(path) for path in modules()}
    while leaves := {name for name, known in knows.items() if not known & knows.keys()}:
        knows = {name: known for name, known in knows.items() if name not in leaves}
    assert not knows, f"these import each other: {sorted(knows)}"


def test_rooms_and_modules_are_of_a_size_to_know_by_heart():
    sources = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".j2", ".css", ".js")]
    lines = {path: len(path.read_text().splitlines()) for path in sources}
    total = sum(lines.values())
    for folder in {path.parent for path in sources}:
        inside = [path for path in sources if path.parent == folder and path.suffix == ".py"]
        assert len(inside) - ((folder / "__init__.py") in inside) <= MOST_MODULES, folder
        share = sum(n for path, n in lines.items() if path.is_relative_to(folder)) / total
        assert folder == PACKAGE or share <= MOST_SHARE, f"{folder.name} has {share:.0%} of all"
    long = {str(p): n for p, n in lines.items() if p.suffix == ".py" and n > MOST_LINES}
    assert not long


@pytest.mark.parametrize("pure", PURE)
def test_numerics_have_no_side_effects(pure):
    place = PACKAGE / pure
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        assert not {n.split(".")[0] for n in imported(path)} & OUTSIDE, path
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "open", "input"}, path


def test_nothing_imports_torchvision_or_timm_unless_a_user_names_it():
    for path in modules():
        found = {n.split(".")[0] for n in imported(path, False)} & {"torchvision", "timm"}
        named = {"hubs.py": {"timm"}, "model_files.py": {"torchvision"}}
        assert found <= named.get(path.name, set()), path
    top = ast.parse((PACKAGE / "classifiers" / "hubs.py").read_text()).body
    named = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    assert "timm" not in named


def test_tests_live_in_the_rooms_of_what_they_test():
    rooms = {room for step in STEPS for room in step} | {"house"}
    here = Path(__file__).parents[1]
    for path in here.rglob("test_*.py"):
        assert path.parent.parent == here and path.parent.name in rooms, path


def test_public_names_exist_and_are_documented():
    for name in blankcheck.__all__:
        assert getattr(blankcheck, name).__doc__, name
