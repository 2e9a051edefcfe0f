"""The architecture, read from the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import blankcheck

PACKAGE = Path(blankcheck.__file__).parent
SHARED = {"types", "errors", "factories", "files", "outputs", "sharing", "seeds", "copies"}
ROOMS = {"fooling", "judging", "classifiers", "data"}
MAY_KNOW: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "factories": {"errors"},
    "files": set(),
    "outputs": {"types", "errors"},
    "sharing": set(),
    "seeds": set(),
    "copies": {"types", "errors"},
    **dict.fromkeys(ROOMS, SHARED),
    "auditing": SHARED | ROOMS,
    "certifying": SHARED | ROOMS,
    "diagnosing": SHARED | ROOMS,
    "hardening": SHARED | ROOMS | {"auditing", "certifying"},
    "running": SHARED | ROOMS | {"certifying", "auditing", "diagnosing", "hardening"},
    "testing": SHARED | ROOMS,
    "cli": SHARED | ROOMS | {"auditing", "hardening", "running", "__init__"},
    "__main__": {"cli"},
}
PURE = ("fooling", "judging", "auditing", "diagnosing", "certifying", "hardening/objectives.py")
OUTSIDE = {"logging", "sys", "os", "pathlib", "rich", "shutil", "tempfile", "subprocess"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imported(path: Path, runtime_only: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    skipped = (
        {
            id(n)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for n in ast.walk(node)
        }
        if runtime_only
        else set()
    )
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "blankcheck":
                names |= {f"blankcheck.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    own = {n.split(".")[1] for n in imported(path) if n.startswith("blankcheck.")}
    forbidden = own - MAY_KNOW[room] - {room} - ({"__version__"} if room == "cli" else set())
    assert not forbidden, f"{room} may not know {sorted(forbidden)}"


@pytest.mark.parametrize("pure", PURE)
def test_numerics_have_no_side_effects(pure):
    place = PACKAGE / pure
    for path in [place] if place.is_file() else sorted(place.glob("*.py")):
        assert not {n.split(".")[0] for n in imported(path)} & OUTSIDE, path
        calls = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"print", "open", "input"}, path


def test_nothing_imports_torchvision_or_timm_unless_a_user_names_it():
    for path in modules():
        found = {n.split(".")[0] for n in imported(path, runtime_only=False)} & {
            "torchvision",
            "timm",
        }
        assert not found or (path.name, found) == ("hubs.py", {"timm"}), path
    top = ast.parse((PACKAGE / "classifiers" / "hubs.py").read_text()).body
    assert "timm" not in {
        alias.name for node in top if isinstance(node, ast.Import) for alias in node.names
    }


def test_public_names_exist_and_are_documented():
    for name in blankcheck.__all__:
        assert getattr(blankcheck, name).__doc__, name
