"""Every command: its settings, and the module that does it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from blankcheck.cli import settings as of

if TYPE_CHECKING:
    from blankcheck.cli.terminal import Terminal


class Command(NamedTuple):
    """One command. settings: the class of its options, whose docstring begins with what the command
    does."""

    settings: type
    name: str

    @property
    def summary(self) -> str:
        """What the command does, in a sentence or two."""
        return " ".join((self.settings.__doc__ or "").partition("\n\n")[0].split())

    def run(self, settings: Any, terminal: Terminal) -> int:
        """Import the module of its name, which imports torch, and do the command."""
        module = import_module(f"blankcheck.cli.commands.{self.name}")
        code: int = getattr(module, f"{self.name}_command")(settings, terminal)
        return code


_IN_ORDER = (
    *(of.DemoSettings, of.DoctorSettings, of.TrainSettings, of.AuditSettings, of.HardenSettings),
    *(of.ReportSettings, of.VerifySettings, of.CompareSettings, of.BlendSettings),
    *(of.CertifySettings, of.GateSettings, of.SweepSettings),
)
_NAMES = [settings.__name__.removesuffix("Settings").lower() for settings in _IN_ORDER]
COMMANDS = {n: Command(settings, n) for n, settings in zip(_NAMES, _IN_ORDER, strict=True)}
