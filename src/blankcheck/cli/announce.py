"""What a command says before it begins: the data, the network, and the choices nobody named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from blankcheck.auditing import preset_named
from blankcheck.cli.settings import AuditSettings, Common, HardenSettings, TrainSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.hardening import HardeningPlan
from blankcheck.parallel import team as processes
from blankcheck.parallel.team import Team
from blankcheck.types import default_max_lit


@contextmanager
def meeting(settings: TrainSettings | AuditSettings, terminal: Terminal) -> Iterator[Team]:
    """The team that a command's settings ask for; only the first process goes on speaking."""
    from blankcheck.cli.main import main

    wanted = settings.device, settings.devices, settings.nodes
    with processes.meeting(*wanted, main, terminal.note) as team:
        if not team.leads:
            terminal.fall_silent()
        yield team


def announce(
    settings: Common, data: Data, team: Team, terminal: Terminal, plan: HardeningPlan | None = None
) -> None:
    """Said once everything given was found good, so that a mistake is the only line on stderr."""
    c, h, w = data.shape
    terminal.note(
        f"{data.source}: {len(data.train)} training images of {c}x{h}x{w}, {len(data.classes)} classes; "
        f"model {settings.model}; device {team.words}; {torch.get_num_threads()} threads"
    )
    if isinstance(settings, TrainSettings | HardenSettings) and settings.precision != "32":
        terminal.note(
            f"precision {settings.precision} in the passes of training; everything else in 32"
        )
    if plan is not None and isinstance(settings, HardenSettings):
        terminal.note(hardening_words(settings, plan))
    if isinstance(settings, AuditSettings):
        terminal.note(audit_words(settings, data))


def audit_words(settings: AuditSettings, data: Data) -> str:
    """How hard an audit looks, and for what."""
    preset, classes = preset_named(settings.preset), len(data.classes)
    lit = settings.max_lit if settings.max_lit is not None else default_max_lit(data.shape)
    return (
        f"audit {settings.preset}: {preset.for_targets(classes) * classes} attempts of at most {preset.steps} steps; "
        f"fooling: confidence >= {settings.confidence:g}, at most {lit} lit of {data.train.images[0].numel()} features, "
        f"p <= {settings.ood_level:g}"
    )


def hardening_words(settings: HardenSettings, plan: HardeningPlan) -> str:
    """What a hardening is going to do."""
    return (
        f"hardening: {settings.objective}, schedule {plan.schedule}; {plan.epochs} epochs, the first "
        f"{plan.pretrain} on real images alone, the others over {plan.rounds} rounds"
        + (
            ""
            if plan.certify is None
            else f"; to be proved: at most {plan.certify} lit features are too few for any class"
        )
    )
