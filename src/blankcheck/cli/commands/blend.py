"""`blankcheck blend`: fooling images of a run folder, added to real ones a little at a time."""

from __future__ import annotations

from dataclasses import asdict

from blankcheck.api.blend import blend, shares_of
from blankcheck.api.reopen import data_again
from blankcheck.cli.settings import BlendSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.errors import ArgumentError
from blankcheck.parallel.devices import choose_threads
from blankcheck.report.blend_wording import finding, lines
from blankcheck.runs.folder import RunFolder


def blend_command(settings: BlendSettings, terminal: Terminal) -> int:
    """Blend, write `blend.json` and `blend.safetensors` into the run folder, draw its report."""
    given = asdict(settings) | {"alphas": parse_alphas(settings.alphas)}
    for name in ("run", "json", "quiet"):
        del given[name]
    run = RunFolder.open(settings.run)
    data = data_again(run.read_config(), settings.data, settings.data_dir)
    if data is not None:
        choose_threads(data.shape)
    with terminal.progress() as bar:
        blends = blend(run, note=bar, **given | {"data": data})
    said, report = [finding(blends), *lines(blends)], str(run / "report.html")
    terminal.result("BLENDED", said, report, {**blends.record, "report": report})
    return 0


def parse_alphas(text: str) -> tuple[float, ...]:
    """The numbers of a text in order, each once; ArgumentError unless each lies in (0, 1]."""
    try:
        alphas = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        form = "numbers in (0, 1] separated by commas"
        raise ArgumentError(f"alphas must be {form}, got {text!r}") from error
    return shares_of(alphas)
