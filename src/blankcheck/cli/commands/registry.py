"""Every command: its settings, and the function that does it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from blankcheck.cli import settings as of

if TYPE_CHECKING:
    from blankcheck.cli.terminal import Terminal


class Command(NamedTuple):
    """One command.

    settings: the class of its options, whose docstring begins with what the command does.
    function: `module:name`, called with settings and a `Terminal`; returns the exit code.
    """

    settings: type
    function: str

    @property
    def summary(self) -> str:
        """What the command does, in a sentence or two."""
        return " ".join((self.settings.__doc__ or "").partition("\n\n")[0].split())

    def run(self, settings: Any, terminal: Terminal) -> int:
        """Import the command, which imports torch, and do it."""
        module, _, name = self.function.partition(":")
        code: int = getattr(import_module(module), name)(settings, terminal)
        return code


_HERE = "blankcheck.cli.commands"
COMMANDS = {
    "demo": Command(of.DemoSettings, f"{_HERE}.demo:demo_command"),
    "doctor": Command(of.DoctorSettings, f"{_HERE}.doctor:doctor_command"),
    "train": Command(of.TrainSettings, f"{_HERE}.train:train_command"),
    "audit": Command(of.AuditSettings, f"{_HERE}.audit:audit_command"),
    "harden": Command(of.HardenSettings, f"{_HERE}.harden:harden_command"),
    "report": Command(of.ReportSettings, f"{_HERE}.report:report_command"),
    "verify": Command(of.VerifySettings, f"{_HERE}.verify:verify_command"),
    "compare": Command(of.CompareSettings, f"{_HERE}.compare:compare_command"),
    "blend": Command(of.BlendSettings, f"{_HERE}.blend:blend_command"),
    "certify": Command(of.CertifySettings, f"{_HERE}.certify:certify_command"),
    "gate": Command(of.GateSettings, f"{_HERE}.gate:gate_command"),
    "sweep": Command(of.SweepSettings, f"{_HERE}.sweep:sweep_command"),
}
