"""The settings of every command: the only place where configuration has a shape.

Each field is an option of the command line and a key of `--config` files. The `Args:` of the
docstrings are its help. They stand here and not beside the commands, because importing a command
imports torch, which takes longer than to say that an option is misspelt.
"""

from blankcheck.cli.settings.folders import (
    BlendSettings,
    CompareSettings,
    ReportSettings,
    SweepSettings,
    VerifySettings,
)
from blankcheck.cli.settings.networks import (
    AuditSettings,
    CertifySettings,
    DemoSettings,
    DoctorSettings,
    GateSettings,
    HardenSettings,
    TrainSettings,
)
from blankcheck.cli.settings.shared import (
    Common,
    Device,
    Shared,
    Tracked,
    Weighted,
    command_line,
    recorded,
)

__all__ = [
    "AuditSettings",
    "BlendSettings",
    "CertifySettings",
    "Common",
    "CompareSettings",
    "DemoSettings",
    "Device",
    "DoctorSettings",
    "GateSettings",
    "HardenSettings",
    "ReportSettings",
    "Shared",
    "SweepSettings",
    "Tracked",
    "TrainSettings",
    "VerifySettings",
    "Weighted",
    "command_line",
    "recorded",
]
