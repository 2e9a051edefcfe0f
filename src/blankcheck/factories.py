"""User code named on the command line: `file.py:factory` or `package.module:factory`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from blankcheck.errors import BlankcheckError
from blankcheck.users import calling, settings_kept


def is_factory(text: str) -> bool:
    """Whether the text has the form `file.py:factory` or `package.module:factory`."""
    place, _, name = text.rpartition(":")
    return bool(place) and name.isidentifier() and (place.endswith(".py") or _is_dotted(place))


def _is_dotted(place: str) -> bool:
    return all(part.isidentifier() for part in place.split("."))


def folder_of(text: str) -> Path | None:
    """The folder in which code of a factory lies; None where the text names none."""
    place = text.rpartition(":")[0]
    if not is_factory(text):
        return None
    return Path(place).resolve().parent if place.endswith(".py") else Path.cwd()


def call_factory(text: str, argument: str, error: type[BlankcheckError]) -> Any:
    """Import and call the factory without arguments.

    What it imports later, from files beside its own, is found as well; what it sets for the whole
    process is taken back. Any failure becomes one `error` that names `argument`.
    """
    place, _, name = text.rpartition(":")
    what = f"{argument} factory {text!r}"
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise error(f"{what}: file {place} does not exist")
    folder = folder_of(text)
    with settings_kept(place), importable(str(folder)):
        with calling(f"{what}: importing {place} raised", error):
            module = _import_file(Path(place)) if is_file else importlib.import_module(place)
            factory = getattr(module, name, None)
        if not callable(factory):
            raise error(f"{what}: {place} has no callable {name!r}")
    # what a module sets as it is imported is not for what its factory makes
    with settings_kept(place), importable(str(folder)), calling(f"{what} raised", error):
        return factory()


@contextmanager
def importable(folder: str) -> Iterator[None]:
    """Inside, files in this folder are importable before all others, as they are for a script;
    after, behind all others, so that none is taken for a library that is imported late."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # code of users may have changed the path
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _import_file(path: Path) -> ModuleType:
    # a name of its own for each file: two folders may each have a net.py
    own = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"_blankcheck_user_{path.stem}_{own}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # registered because dataclasses and pickle look modules up by name
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
