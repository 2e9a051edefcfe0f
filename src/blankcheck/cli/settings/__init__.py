"""The settings of every command: the only place where configuration has a shape.

Each field is an option of the command line and a key of `--config` files. The `Args:` of the
docstrings are its help. They stand here and not beside the commands, because importing a command
imports torch, which takes longer than to say that an option is misspelt.
"""

from blankcheck.cli.settings.folders import BlendSettings as BlendSettings
from blankcheck.cli.settings.folders import CompareSettings as CompareSettings
from blankcheck.cli.settings.folders import ReportSettings as ReportSettings
from blankcheck.cli.settings.folders import SweepSettings as SweepSettings
from blankcheck.cli.settings.folders import VerifySettings as VerifySettings
from blankcheck.cli.settings.networks import AuditSettings as AuditSettings
from blankcheck.cli.settings.networks import CertifySettings as CertifySettings
from blankcheck.cli.settings.networks import DemoSettings as DemoSettings
from blankcheck.cli.settings.networks import DoctorSettings as DoctorSettings
from blankcheck.cli.settings.networks import GateSettings as GateSettings
from blankcheck.cli.settings.networks import HardenSettings as HardenSettings
from blankcheck.cli.settings.networks import TrainSettings as TrainSettings
from blankcheck.cli.settings.shared import Common as Common
from blankcheck.cli.settings.shared import Weighted as Weighted
from blankcheck.cli.settings.shared import command_line as command_line
from blankcheck.cli.settings.shared import recorded as recorded
