"""User code named on the command line: `file.py:factory` or `package.module:factory`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from blankcheck.errors import BlankcheckError
from blankcheck.text import one_line


def is_factory(text: str) -> bool:
    """Whether the text has the form `file.py:factory` or `package.module:factory`."""
    place, _, name = text.rpartition(":")
    return bool(place) and name.isidentifier() and (place.endswith(".py") or _is_dotted(place))


def _is_dotted(place: str) -> bool:
    return all(part.isidentifier() for part in place.split("."))


def call_factory(text: str, argument: str, error: type[BlankcheckError]) -> Any:
    """Import and call the factory without arguments.

    Any failure becomes one `error` that names `argument`.
    """
    place, _, name = text.rpartition(":")
    what = f"{argument} factory {text!r}"
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise error(f"{what}: file {place} does not exist")
    try:
        module = _import_file(Path(place)) if is_file else importlib.import_module(place)
    except (BlankcheckError, KeyboardInterrupt):
        raise
    except BaseException as cause:  # SystemExit, too
        raise error(f"{what}: importing {place} raised {_brief(cause)}") from cause
    factory = getattr(module, name, None)
    if not callable(factory):
        raise error(f"{what}: {place} has no callable {name!r}")
    try:
        return factory()
    except BlankcheckError:
        raise
    except Exception as cause:
        raise error(f"{what} raised {_brief(cause)}") from cause


def _brief(cause: BaseException) -> str:
    kind, words = type(cause).__name__, one_line(cause)
    return kind if words == kind else f"{kind}: {words}"


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_blankcheck_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Neighbouring files of the user's are importable while theirs is, as they are for a script;
    # registered because dataclasses and pickle look modules up by name.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
