"""Packages whose names are imported when they are asked for (PEP 562), so that importing a package
costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def exported(package: str, **homes: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        homes: for each of its modules, the names that the package exports of it, with blanks
            between them.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def named(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return named
