"""What an audit costs: passes per attempt x seconds per pass, checked where it can be measured,
carried on to large ones.

    python benchmarks/cost_model.py                                      # digits mlp, MNIST cnn,
    CIFAR-10 cnn: minutes python benchmarks/cost_model.py --cases mnist,cnn,hardened.safetensors
    --presets standard python benchmarks/cost_model.py --print --pass-ms 0.6                # a pass
    of benchmarks/device.py on your GPU

CPU seconds of one thread. The model, for the chunks of attempts and for the controls apart, since
these search fewer images at once (`BATCHES`):

    seconds = backward x (forward and backward pass + what the search does beside it) + (forward -
              backward) x forward pass + images asked about x the test of what is out of
              distribution

Passes and images asked about come from the audit; seconds per image of the passes from bare loops
of the same network; what the search does beside them from a search of a network that costs next to
nothing, on images of the same shape; the test's from real images. Controls whose passes the audit
does not count (of twins, and the probes) are left out of the check. A plain network is trained
where no weights are named. The extrapolation takes the passes of each piece of a standard audit and
multiplies those of the attempts, and of the controls that sample them, with their numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from parallel import weights_of
from pieces import Piece, makespan, measured_audit
from records import HERE, both, cpu, forward, keep, said, seconds_of, spread, table, where
from torch import Tensor, nn

import blankcheck as bc
from blankcheck.auditing import CHUNK, ood_test, preset_named
from blankcheck.auditing.controls.setting import FEWEST, SAMPLED
from blankcheck.fooling import Goal, Problem, TabuSearch, search

CASES = ("digits,mlp", "mnist,cnn", "cifar10,cnn")
BATCHES = {"chunks": 100, "controls": 20}
"""Images at once on which seconds per image are measured."""
CPU = torch.device("cpu")
TURNS, STEPS, UNIT_REPEATS = 5, 30, 7

IMAGENET, IMAGENET_CLASSES = 1_281_167, 1000
EPOCHS, RATIO = 90, 3.0
"""Usual epochs of plain training on ImageNet, and how many times as long hardening takes (measured
on MNIST: README)."""
TRAINING_PASSES = 1.5
"""A training step for one image, in passes: a backward pass to the parameters as well costs a
forward pass more."""
ROUNDS, FRESH, OTHERS = 7, 50 * 2 * 200, (90, 90, 30)
"""Searches that end a round of hardening: rounds; passes of the fresh attempts, which are one
chunk; and at most, for each class, of the three processes that hardening never trains on, each of
which is one piece."""
NEVER_SAMPLED = (
    "gradient-health",
    "repeatable",
    "batch-independent",
    "best-kept",
    "saturation",
    "planted-control",
)
"""Controls whose size does not hang on the number of attempts."""


class Free(nn.Module):
    """Ten outputs for next to nothing: means of parts of the image."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return torch.stack([100 * part.mean(dim=1) for part in flat.tensor_split(10, dim=1)], dim=1)


@dataclass(frozen=True)
class Unit:
    """Seconds per image at a batch size."""

    both: float
    forward: float
    beside: float
    judge: float

    def of(self, pieces: tuple[Piece, ...]) -> float:
        """Seconds of these pieces."""
        backward, ahead = sum(p.backward for p in pieces), sum(p.forward for p in pieces)
        passes = backward * (self.both + self.beside) + max(0, ahead - backward) * self.forward
        return passes + sum(p.asked for p in pieces) * self.judge


def unit(model: nn.Module, data: bc.Data, n: int) -> Unit:
    """Medians of `UNIT_REPEATS` measurements, those of what the search does beside its passes in
    turns with these."""
    shape, test = data.shape, ood_test(data, 0.01)
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    real = data.validation.images[: n // 4]  # only some images of a batch are asked about at once
    judge = middle_of(lambda: test.accepts(real), UNIT_REPEATS) / len(real)
    one, other = bare(model, images, UNIT_REPEATS)
    free, targets, beside = Free(), torch.arange(n) % 10, []
    for _ in range(UNIT_REPEATS):
        free_one, free_other = bare(free, images, 1)
        began = cpu()
        found = search(
            Problem(free, "logits", targets),
            torch.zeros_like(images),
            TabuSearch(),
            Goal(until="sparsest"),
            STEPS,
        )
        steps, ahead = int(found.steps.max()), int(found.forwards.max())
        own = (cpu() - began) / n - steps * free_one - (ahead - steps) * free_other
        beside.append(own / steps)
    return Unit(one, other, statistics.median(beside), judge)


def bare(model: nn.Module, images: Tensor, repeats: int) -> tuple[float, float]:
    """Seconds per image of a forward and backward pass, and of a forward pass."""
    one, other = (
        middle_of(lambda run=run: run(model, images), repeats) / len(images)
        for run in (both, forward)
    )
    return one, other


def middle_of(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of one turn, after some that do not count."""
    return statistics.median([seconds_of(run, TURNS, CPU, cpu) for _ in range(repeats + 1)][1:])


def measured(case: str, presets: list[str], repeats: int) -> dict[str, Any]:
    """Audits of a case, and the factors of the model."""
    name, architecture, *weights = case.split(",")
    data = bc.load_data(name)
    asked = argparse.Namespace(
        data=name, model=architecture, weights=weights[0] if weights else None
    )
    model = (
        bc.load_model(architecture, weights=weights_of(asked, data), data=data)
        .eval()
        .requires_grad_(False)
    )
    units = {what: asdict(unit(model, data, n)) for what, n in BATCHES.items()}
    record: dict[str, Any] = {"where": where(), "chunk": CHUNK, "units": units, "audits": {}}
    for preset in presets:
        audits = [measured_audit(model, data, preset, seed) for seed in range(repeats)]
        record["audits"][preset] = [a.as_record() for a in audits]
        print(
            f"{case}, {preset}: {spread([a.seconds for a in audits])} s",
            file=sys.stderr,
            flush=True,
        )
    return record


def tables(records: dict[str, Any]) -> str:
    """Passes, seconds per pass, and the check of the model."""
    passes, seconds, checks = [], [], []
    for case, record in records.items():
        label = name_of(case)
        for what, of in record["units"].items():
            us = [f"{1e6 * of[part]:.3g}" for part in ("both", "forward", "beside", "judge")]
            seconds.append([label, str(BATCHES[what]), *us])
        for preset, audits in record["audits"].items():
            passes.append([label, preset, verdicts(audits), *per_attempt(audits)])
            checks.append(
                [
                    label,
                    preset,
                    *check(audits, {what: Unit(**of) for what, of in record["units"].items()}),
                ]
            )
    place = {said(record["where"]) for record in records.values()}
    return "\n\n".join(
        [
            "**Measured.** CPU seconds of one thread; median (least-most) over seeds of the audit. "
            + " ".join(sorted(place)),
            table(
                [
                    "network",
                    "preset",
                    "verdict",
                    "attempts",
                    "forward, backward per attempt: search",
                    "whole audit",
                ],
                passes,
            ),
            table(
                [
                    "network",
                    "images at once",
                    "forward and backward, us an image",
                    "forward, us",
                    "the search beside, us",
                    "the test, us an image asked about",
                ],
                seconds,
            ),
            table(
                [
                    "network",
                    "preset",
                    "seconds that are modelled",
                    "as modelled",
                    "error",
                    "error of the attempts alone",
                    "seconds of the whole audit",
                ],
                checks,
            ),
        ]
    )


def name_of(case: str) -> str:
    """`mnist cnn`, with the file of its weights where one was named."""
    data, model, *weights = case.split(",")
    return f"{data} {model}" + (f" ({Path(weights[0]).stem})" if weights else ", plain")


def verdicts(audits: list[dict[str, Any]]) -> str:
    return ", ".join(sorted({a["verdict"] for a in audits}))


def per_attempt(audits: list[dict[str, Any]]) -> list[str]:
    def both_of(a: dict[str, Any], parts: tuple[str, ...]) -> tuple[float, float]:
        chosen = [p for part in parts for p in a[part]]
        forward, backward = (
            sum(p[way] for p in chosen) / a["attempts"] for way in ("forward", "backward")
        )
        return forward, backward

    cells = [str(audits[0]["attempts"])]
    for parts in (("chunks",), ("chunks", "controls")):
        ahead, back = zip(*(both_of(a, parts) for a in audits), strict=True)
        cells.append(f"{spread(ahead)}, {spread(back)}")
    return cells


def check(audits: list[dict[str, Any]], units: dict[str, Unit]) -> list[str]:
    """Measured and modelled seconds, and the error: positive where the model says too much."""
    took, said_of, errors, of_attempts = [], [], [], []
    for audit in audits:
        chunks = tuple(Piece(**piece) for piece in audit["chunks"])
        counted = tuple(Piece(**piece) for piece in audit["controls"] if piece["backward"])
        alone, all_of = sum(p.seconds for p in chunks), sum(p.seconds for p in (*chunks, *counted))
        model = units["chunks"].of(chunks), units["controls"].of(counted)
        took.append(all_of)
        said_of.append(sum(model))
        errors.append(sum(model) / all_of - 1)
        of_attempts.append(model[0] / alone - 1)
    return [
        spread(took),
        spread(said_of),
        percent(errors),
        percent(of_attempts),
        spread([a["seconds"] for a in audits]),
    ]


def percent(values: list[float]) -> str:
    low, middle, high = (
        f"{100 * v:+.0f} %" for v in (min(values), statistics.median(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def extrapolated(records: dict[str, Any], chosen: argparse.Namespace) -> str:
    """Hours of audits and hardening of a network with 1000 classes on some GPUs, at an assumed time
    of a pass."""
    per_pass, rows = chosen.pass_ms / 1000, []
    for case in chosen.sources or records:
        audits = records.get(case, {}).get("audits", {}).get("standard")
        if audits is None:
            continue
        audit = sorted(audits, key=lambda a: a["backward"])[len(audits) // 2]
        for preset in ("standard", "proof"):
            chunks, controls = grown(audit, preset, per_pass)
            hours = [(makespan(chunks, n) + makespan(controls, n)) / 3600 for n in chosen.gpus]
            longest = max(controls, key=lambda p: p.seconds, default=Piece("none", 0.0, 0, 0))
            rows.append(
                [
                    f"audit {preset}, an attempt as hard as on {name_of(case)}",
                    *(f"{h:.2g}" for h in hours),
                    f"{longest.name}, {longest.seconds / 3600:.2g} h",
                ]
            )
    plain = IMAGENET * EPOCHS * TRAINING_PASSES * per_pass / 3600
    ends = [
        ROUNDS * (FRESH + IMAGENET_CLASSES * most) * per_pass / 3600
        for most in (sum(OTHERS), max(OTHERS))
    ]
    rows.append(
        [f"plain training, {EPOCHS} epochs", *(f"{plain / n:.2g}" for n in chosen.gpus), "-"]
    )
    hours = [RATIO * plain / n + ends[n > 2] for n in chosen.gpus]
    rows.append(
        [
            f"hardening, {RATIO:g} times plain training",
            *(f"{h:.2g}" for h in hours),
            f"searches that end a round, {ends[1]:.2g} h",
        ]
    )
    head = [
        "hours",
        *(f"{n} GPU{'s' * (n > 1)}" for n in chosen.gpus),
        "longest part that is not shared",
    ]
    words = (
        f"**Extrapolated, not measured.** 3x224x224, {IMAGENET_CLASSES} classes, an assumed "
        f"{chosen.pass_ms:g} ms for a "
        "forward and backward pass of one image in a batch of 100, half for a forward pass. "
        "Nothing but passes counts."
    )
    return f"{words}\n\n{table(head, rows)}"


def grown(audit: dict[str, Any], preset: str, per_pass: float) -> tuple[list[Piece], list[Piece]]:
    """The pieces of the audit with 1000 classes.

    The steps of an attempt grow with the preset; so do its passes, at most.
    """
    want, base = preset_named(preset), preset_named("standard")
    attempts, longer = (
        want.for_targets(IMAGENET_CLASSES) * IMAGENET_CLASSES,
        want.steps / base.steps,
    )
    ahead, back = (
        sum(p[way] for p in audit["chunks"]) / audit["attempts"] for way in ("forward", "backward")
    )
    chunks = [priced("attempts", CHUNK * ahead * longer, CHUNK * back * longer, per_pass)] * -(
        -attempts // CHUNK
    )
    more = max(FEWEST, attempts // SAMPLED) / max(FEWEST, audit["attempts"] // SAMPLED)
    controls = []
    for piece in audit["controls"]:
        factor = longer if piece["name"] in NEVER_SAMPLED else more * longer
        controls.append(
            priced(piece["name"], factor * piece["forward"], factor * piece["backward"], per_pass)
        )
    return chunks, controls


def priced(name: str, ahead: float, back: float, per_pass: float) -> Piece:
    return Piece(name, (back + max(0.0, ahead - back) / 2) * per_pass, int(ahead), int(back))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", nargs="*", default=list(CASES), help="data,network or data,network,weights"
    )
    parser.add_argument("--presets", nargs="+", default=["smoke", "standard"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pass-ms", type=float, default=1.0, help="of the extrapolation")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--sources",
        nargs="*",
        help="cases whose attempts are carried on; default all with a standard audit",
    )
    parser.add_argument("--results", type=Path, default=HERE / "results" / "cost_model.json")
    parser.add_argument("--print", action="store_true", help="measure nothing")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(1)
    for case in () if chosen.print else chosen.cases:
        keep(chosen.results, case, measured(case, chosen.presets, chosen.repeats))
    records = json.loads(chosen.results.read_text())
    text = f"{tables(records)}\n\n{extrapolated(records, chosen)}"
    chosen.results.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
