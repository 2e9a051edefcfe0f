"""Fooling images added to real ones: against classifiers whose smallest alpha is known, and as a
command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from blankcheck.blending import blending
from blankcheck.blending.blending import (
    FINE,
    FOOLING,
    KINDS,
    NEVER,
    REAL,
    SHUFFLED,
    Blended,
    Pairs,
    Pool,
    blend,
    blend_images,
    choose_pairs,
    examples,
    shuffle_pixels,
    tabulate,
)
from blankcheck.classifiers import probabilities
from blankcheck.classifiers.loading import save_model
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.commands.blend import parse_alphas
from blankcheck.cli.main import main
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.judging import Evidence, RealData, judge, verdict_json
from blankcheck.judging.evidence import Attempt, Cost
from blankcheck.report.charts.blend import draw_blends
from blankcheck.report.page import write_report
from blankcheck.runs.blend_record import read_blends
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.text import percent
from blankcheck.types import Conditions, count_lit

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)
STEEP, PULL = 10.0, 4.0
KNOWN = (1 + math.log(9) / STEEP) / PULL
"""Where `Marks` gives the second class 0.9: STEEP (PULL alpha - 1) = log 9."""
HOSTILE = '<script>alert("x")</script>'


class Marks(nn.Module):
    """Class 0 is pixel 0, class 1 is pixel 1, which counts four times."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return STEEP * torch.stack([flat[:, 0], PULL * flat[:, 1]], dim=1)


class Window(nn.Module):
    """Class 1 where pixel 1 lies between 0.21 and 0.24 only."""

    def forward(self, images: Tensor) -> Tensor:
        mark = images.flatten(1)[:, 1]
        inside = ((mark > 0.21) & (mark < 0.26)).float() * 20
        return torch.stack([torch.full_like(mark, 10.0), inside], dim=1)


def image(**pixels: float) -> Tensor:
    made = torch.zeros(1, 4, 4)
    for place, value in pixels.items():
        made.view(-1)[int(place[1:])] = value
    return made


def pools(n: int = 3) -> tuple[Pool, Pool]:
    """Real images of both classes, that of the second half as bright as its fooling image."""
    real = Pool(
        torch.stack([image(p0=1.0)] * n + [image(p1=0.5)] * n), torch.tensor([0] * n + [1] * n)
    )
    return real, Pool(torch.stack([image(p1=1.0), image(p1=1.0, p7=0.2)]), torch.tensor([1, 1]))


def test_the_smallest_alpha_is_the_known_one():
    real, fooling = pools()
    pairs = choose_pairs(real, fooling, 4, seed=0)
    made = blend(Marks(), "logits", real, fooling, pairs, ALPHAS, 0.9)
    assert len(pairs.real) == 4 and made[FOOLING].smallest.tolist() == pytest.approx(
        [KNOWN] * 4, abs=FINE
    )
    assert bool((made[FOOLING].smallest >= KNOWN).all()), "at the smallest alpha it is taken"
    assert made[FOOLING].taken[:, 0].tolist() == [alpha >= KNOWN for alpha in ALPHAS]
    assert made[FOOLING].lost[:, 0].tolist() == [alpha > 1 / PULL for alpha in ALPHAS]
    assert made[REAL].smallest.tolist() == pytest.approx([2 * KNOWN] * 4, abs=FINE)
    at_random = made[SHUFFLED].smallest.tolist()
    assert all(found == NEVER or found == pytest.approx(KNOWN, abs=FINE) for found in at_random)


def test_a_gap_in_the_answers_is_seen():
    """What is taken only around alpha 0.25 has its smallest alpha there, and is not taken at 0.3
    and more."""
    real, fooling = pools()
    pairs = choose_pairs(real, fooling, 1, seed=0)
    made = blend(Window(), "logits", real, fooling, pairs, ALPHAS, 0.9)[FOOLING]
    assert float(made.smallest[0]) == pytest.approx(0.21, abs=FINE) and not made.taken.any()


def test_nothing_is_taken_by_one_that_never_changes_its_mind():
    real, fooling = pools()
    pairs = choose_pairs(real, fooling, 2, seed=0)
    made = blend(
        lambda x: torch.tensor([[9.0, 0.0]]).expand(len(x), 2),
        "logits",
        real,
        fooling,
        pairs,
        (1.0,),
        0.9,
    )
    assert all(
        bool(m.smallest.isinf().all()) and not m.taken.any() and not m.lost.any()
        for m in made.values()
    )


def many() -> tuple[Pool, Pool, Pairs]:
    generator = torch.Generator().manual_seed(0)
    real = Pool(torch.rand(12, 1, 4, 4, generator=generator) * 0.2, torch.arange(12) % 3)
    fooling = Pool(torch.rand(9, 1, 4, 4, generator=generator), torch.arange(9) % 3)
    return real, fooling, choose_pairs(real, fooling, 5, seed=3)


def linear(x: Tensor) -> Tensor:
    weight = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    return 4 * (x.flatten(1)[..., None] * weight).sum(dim=1)


def test_a_pair_does_not_depend_on_its_batch(monkeypatch):
    real, fooling, pairs = many()
    whole = blend(linear, "logits", real, fooling, pairs, ALPHAS, 0.7)
    assert 0 < int(whole[FOOLING].taken.sum()) < whole[FOOLING].taken.numel()
    part = torch.tensor([7, 2, 20])
    few = Pairs(*(column[part] for column in pairs))
    alone = blend(linear, "logits", real, fooling, few, ALPHAS, 0.7)
    monkeypatch.setattr(blending, "BATCH", 4)
    split = blend(linear, "logits", real, fooling, pairs, ALPHAS, 0.7)
    for kind in KINDS:
        assert torch.equal(whole[kind].taken[:, part], alone[kind].taken)
        assert torch.equal(whole[kind].smallest[part], alone[kind].smallest)
        assert torch.equal(whole[kind].smallest, split[kind].smallest) and torch.equal(
            whole[kind].lost, split[kind].lost
        )


def test_the_smallest_alpha_is_never_more_than_one_that_was_asked_for():
    real, fooling, pairs = many()
    alphas = (0.07, 0.33, 0.512)
    made = blend(linear, "logits", real, fooling, pairs, alphas, 0.7)
    for found in made.values():
        for alpha, taken in zip(alphas, found.taken, strict=True):
            assert bool((found.smallest[taken] <= alpha).all())


def test_the_classifier_is_left_as_it_was_found():
    class Noisy(Marks):
        def forward(self, images: Tensor) -> Tensor:
            self.seen += 1
            return super().forward(images) + torch.randn(()) * 0

    network, before = Noisy().train(), torch.random.get_rng_state()
    real, fooling = pools()
    blend(network, "logits", real, fooling, choose_pairs(real, fooling, 1, 0), ALPHAS, 0.9)
    assert (
        network.training
        and float(network.seen) == 0
        and torch.equal(before, torch.random.get_rng_state())
    )


def test_a_class_without_real_images_has_no_stand_in():
    real, fooling = pools()
    only = Pool(real.images[:3], real.classes[:3])
    pairs = choose_pairs(only, fooling, 4, seed=0)
    made = blend(Marks(), "logits", only, fooling, pairs, ALPHAS, 0.9)
    assert not made[REAL].there.any() and made[REAL].smallest.isinf().all()
    table = tabulate(made[REAL], only.classes[pairs.real], fooling.classes[pairs.fooling])
    assert table["pairs"] == 0 and table["smallest"] is None and table["cells"]["any"] == [[None]]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=20),
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(1, 30),
    st.integers(0, 5),
)
@settings(max_examples=50, deadline=None)
def test_pairs_are_of_two_classes_and_none_comes_twice(ours, theirs, per_pair, seed):
    real, fooling = (Pool(torch.zeros(len(c), 1, 1, 1), torch.tensor(c)) for c in (ours, theirs))
    if all(q == r for q in ours for r in theirs):
        with pytest.raises(ArgumentError, match="nothing to blend"):
            choose_pairs(real, fooling, per_pair, seed)
        return
    pairs = choose_pairs(real, fooling, per_pair, seed)
    q, r = real.classes[pairs.real], fooling.classes[pairs.fooling]
    assert not (q == r).any()
    assert len(set(zip(pairs.real.tolist(), pairs.fooling.tolist(), strict=True))) == len(
        pairs.real
    )
    for a in set(ours):
        for b in set(theirs) - {a}:
            assert int(((q == a) & (r == b)).sum()) == min(
                per_pair, ours.count(a) * theirs.count(b)
            )
    there = pairs.stand_in >= 0
    assert bool((real.classes[pairs.stand_in[there]] == r[there]).all())
    assert set(r[~there].tolist()).isdisjoint(ours)


def test_the_same_seed_draws_the_same_pairs():
    real, fooling, pairs = many()
    again, other = choose_pairs(real, fooling, 5, seed=3), choose_pairs(real, fooling, 5, seed=4)
    assert all(map(torch.equal, pairs, again))
    assert not torch.equal(pairs.real, other.real)


def test_shuffling_keeps_what_is_lit_and_its_values():
    images = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * (
        torch.arange(30).view(5, 6) % 4 == 0
    )
    mixed = shuffle_pixels(images, torch.tensor([1, 2, 1, 9]))
    assert torch.equal(count_lit(mixed), count_lit(images)) and not torch.equal(mixed, images)
    columns = [sorted(map(tuple, m.flatten(1).T.tolist())) for m in (images[0], mixed[0])]
    assert columns[0] == columns[1], "the channels of a pixel stay together"
    assert torch.equal(shuffle_pixels(images[2:3], torch.tensor([1])), mixed[2:3])


def test_blending_clips():
    q, r = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3), torch.ones(1, 1, 1, 3)
    assert blend_images(q, r, 0.75).flatten().tolist() == [0.75, 1.0, 1.0]
    assert torch.equal(blend_images(q, r, torch.tensor([0.75])), blend_images(q, r, 0.75))


def test_tables_by_hand():
    made = Blended(
        torch.tensor([[True, False, True, False]]),
        torch.tensor([[True, True, True, False]]),
        torch.tensor([0.2, 0.8, 0.1, NEVER]),
        torch.ones(4, dtype=torch.bool),
    )
    rows, columns = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
    table = tabulate(made, rows, columns)
    assert (table["pairs"], table["taken"], table["lost"], table["smallest"]) == (4, [2], [3], 0.8)
    assert table["cells"]["pairs"] == [[0, 2], [2, 0]] and table["cells"]["taken"] == [
        [[0, 1], [1, 0]]
    ]
    assert table["cells"]["any"] == [[None, 0.2], [0.1, None]]
    assert table["cells"]["smallest"] == [[None, 0.8], [None, None]], (
        "half of two is not taken at 0.1"
    )
    assert examples(made, columns, rows, 6) == [2, 0] and examples(made, columns, rows, 1) == [2]


@pytest.mark.parametrize(
    ("text", "alphas"), [("0.5,0.1", (0.1, 0.5)), (" 1 , 1,", (1.0,)), ("1e-3", (0.001,))]
)
def test_alphas_are_read(text, alphas):
    assert parse_alphas(text) == alphas


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one"),
        ("0", "in (0, 1]"),
        ("0.5,1.5", "got 1.5"),
        ("nan", "in (0, 1]"),
        ("a", "separated by commas, got 'a'"),
    ],
)
def test_wrong_alphas_are_refused(text, words):
    with pytest.raises(ArgumentError, match=re.escape(words)):
        parse_alphas(text)


# the command


def strong(network: nn.Module, target: int, real: Tensor) -> Tensor:
    """An image (1, 8, 8) whose lit features all speak for the target, so that a part of it is
    enough."""
    mean = real.mean(dim=0, keepdim=True).requires_grad_()
    (slope,) = torch.autograd.grad(network(mean)[0, target] * 2 - network(mean).sum() / 5, mean)
    return (slope[0] > 0).float()


@pytest.fixture(scope="module")
def audited(plain, digits, tmp_path_factory) -> Path:
    """An audit folder as an audit leaves it, whose witnesses are made by hand."""
    images = torch.stack([strong(plain, t, digits.train.images) for t in range(10)])
    p = probabilities(plain, images)[torch.arange(10), torch.arange(10)]
    kept = (p >= 0.9).nonzero().squeeze(1)
    assert len(kept) >= 5
    attempts = tuple(
        Attempt(int(t), True, "by hand", int((images[t] > 0).sum()), float(p[t]), 0.001, 5)
        for t in kept
    )
    evidence = Evidence(
        Conditions(max_lit=64),
        digits.classes,
        attempts,
        {"by hand": len(kept)},
        RealData(0.97, 0.96, 0.0, 0.97),
        (),
        Cost(1, 1, 1.0),
    )
    run = RunFolder.create(tmp_path_factory.mktemp("runs") / "a")
    run.begin("audit", {"data": "digits", "model": "mlp", "seed": 0}, torch.device("cpu"))
    run.write_json("verdict.json", verdict_json(evidence, (), judge(evidence, ())))
    run.write_lines("attempts.jsonl", (vars(a) for a in attempts))
    save_model(plain, run / "model.safetensors")
    tensors = {
        "images": images[kept],
        "targets": kept,
        "confidence": p[kept],
        "lit": count_lit(images[kept]),
        "ood_p": torch.full((len(kept),), 0.001),
    }
    run.write("witnesses.safetensors", bytes(save(tensors, {"fingerprint": fingerprint(plain)})))
    return run.path


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    """Only tests that ask for `reports` pay for drawing."""
    if "reports" not in request.fixturenames:
        monkeypatch.setattr("blankcheck.api.blend.write_report", lambda run: run / "report.html")


@pytest.fixture
def reports() -> None:
    """Reports are drawn."""


def copied(audited: Path, to: Path) -> Path:
    to.mkdir()
    for path in audited.iterdir():
        if path.is_file():
            (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.fixture
def run(audited, tmp_path) -> Path:
    """A copy of the audit."""
    return copied(audited, tmp_path / "run")


def refused(capsys, *arguments: str) -> str:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    return err


def test_blend_writes_its_record_and_the_report(run, digits, capsys, reports, monkeypatch):
    assert main(["blend", str(run), "--per-pair", "3", "--alphas", "0.3,0.6"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("BLENDED  With ") and lines[-1] == str(run / "report.html")
    record = json.loads((run / "blend.json").read_text())
    assert record["real"]["split"] == "validation" and record["real"]["images"] == len(
        digits.validation
    )
    assert (
        record["same_network"]
        and record["alphas"] == [0.3, 0.6]
        and set(record["kinds"]) == set(KINDS)
    )
    assert (
        record["kinds"]["fooling"]["pairs"]
        == sum(map(sum, record["kinds"]["fooling"]["cells"]["pairs"]))
        <= 90 * 3
    )
    blends = read_blends(RunFolder.open(run))
    assert blends is not None and len(blends.real) == len(record["examples"])
    page, markdown = (run / "report.html").read_text(), (run / "report.md").read_text()
    assert (
        ">Blending</h2>" in page
        and "figures/blend.svg" in markdown
        and "## Blending" in markdown
        and "| fooling image |" in markdown
    )
    assert (run / "figures" / "blend.svg").is_file()
    first = (run / "blend.json").read_bytes(), (run / "blend.safetensors").read_bytes()
    monkeypatch.setattr("blankcheck.api.blend.write_report", lambda run: run / "report.html")
    assert main(["blend", str(run), "--per-pair", "3", "--alphas", "0.6,0.3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(run / "report.html")
    assert ((run / "blend.json").read_bytes(), (run / "blend.safetensors").read_bytes()) == first, (
        "the same bits"
    )
    RunFolder.open(run).begin("audit", {"data": "digits"}, torch.device("cpu"))
    assert not (run / "blend.json").exists() and not (run / "blend.safetensors").exists()


def test_examples_are_taken_as_they_say(run, plain):
    main(["blend", str(run), "--per-pair", "2", "--quiet"])
    blends = read_blends(RunFolder.open(run))
    assert blends is not None
    assert len(blends.record["examples"]) >= 5
    for i, example in enumerate(blends.record["examples"]):
        p = probabilities(
            plain, blend_images(blends.real[i : i + 1], blends.fooling[i : i + 1], example["alpha"])
        )[0]
        assert (
            float(p[example["column"]]) == pytest.approx(example["confidence"], abs=2e-3)
            and example["confidence"] >= 0.9
        )
        assert int(probabilities(plain, blends.real[i : i + 1]).argmax()) == example["row"]


def test_another_network_is_said_to_be_another(run, capsys):
    # copies, because old versions lend the bytes of the file, which is written over
    model = {k: v.clone() for k, v in load_file(run / "model.safetensors").items()}
    with safe_open(run / "model.safetensors", "pt") as file:
        metadata = {
            k: v for k, v in file.metadata().items() if k != "digest"
        }  # another network, not a damaged one
    model["network.1.bias"] += 1e-3
    save_file(model, run / "model.safetensors", metadata)
    assert main(["blend", str(run), "--per-pair", "1"]) == 0
    assert "fingerprint differs" in capsys.readouterr().out
    for name in model:
        if name.startswith("network"):
            model[name].zero_()
    save_file(model, run / "model.safetensors", metadata)
    assert "no validation image is right" in refused(capsys, "blend", str(run))


def test_a_run_without_fooling_images_has_nothing_to_blend(run, capsys):
    with safe_open(run / "witnesses.safetensors", "pt") as file:
        metadata = file.metadata()
    empty = {name: tensor[:0] for name, tensor in load_file(run / "witnesses.safetensors").items()}
    save_file(empty, run / "witnesses.safetensors", metadata)
    assert "holds no fooling image, so there is nothing to blend" in refused(
        capsys, "blend", str(run)
    )
    (run / "witnesses.safetensors").unlink()
    assert "has no witnesses.safetensors" in refused(capsys, "blend", str(run))
    (run / "verdict.json").unlink()
    assert "has no verdict.json" in refused(capsys, "blend", str(run))


def test_no_code_is_run_unless_it_is_named_again(run, tmp_path, capsys):
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef make(): pass\n")
    (run / "config.yaml").write_text(f"data: digits\nmodel: {trap}:make\n")
    assert "name it with --model" in refused(capsys, "blend", str(run))
    (run / "config.yaml").write_text(f"data: {trap}:make\nmodel: mlp\n")
    assert "name it with --data" in refused(capsys, "blend", str(run))
    assert not (tmp_path / "sprung").exists() and not (run / "blend.json").exists()
    assert main(["blend", str(run), "--data", "digits", "--per-pair", "1", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alphas", "0"], "alphas must lie in (0, 1]"),
        (["--per-pair", "0"], "per_pair must be at least 1, got 0"),
        (["--data", "nope"], "data must be one of"),
        (["--model", "cnn"], "weights are those of a 'mlp'"),
        (["--weights", "none.pt"], "weights file none.pt does not exist"),
        (["--device", "tpu"], "device"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(run, capsys, arguments, words):
    assert words in refused(capsys, "blend", str(run), *arguments)
    assert not (run / "blend.json").exists()


def _record(**changes: Any) -> Any:
    return lambda record: record | changes


def _kind(**changes: Any) -> Any:
    return lambda record: (
        record | {"kinds": record["kinds"] | {"fooling": record["kinds"]["fooling"] | changes}}
    )


def _cells(**changes: Any) -> Any:
    return lambda record: _kind(cells=record["kinds"]["fooling"]["cells"] | changes)(record)


BROKEN: dict[str, tuple[Any, str]] = {
    "a list": (lambda record: [], "must be an object"),
    "a later schema": (_record(schema=2), "has schema 2, this version reads schema 1"),
    "no alphas": (_record(alphas=[]), "alphas must be array of length >= 1"),
    "an alpha of 7": (_record(alphas=[7, 8]), r"alphas\[0\] must be float <= 1"),
    "another kind": (
        lambda record: record | {"kinds": {"luck": record["kinds"]["real"]}},
        "kinds must be fooling, real, shuffled",
    ),
    "text for a count": (_kind(pairs=HOSTILE), "pairs must be int"),
    "more taken than pairs": (_kind(taken=[10**6, 1]), "taken must count pairs"),
    "too few counts": (_kind(lost=[0]), "lost must count pairs"),
    "a ragged table": (_cells(pairs=[[1]]), "must be a table of \\d+ rows and \\d+ columns"),
    "too few tables": (_cells(taken=[]), "one table for each alpha"),
    "an alpha beyond 1": (_kind(smallest=3), "smallest must be float <= 1"),
    "examples without images": (
        _record(examples=[{"row": 0, "column": 1, "alpha": 0.1, "confidence": 0.9}] * 6),
        "do not belong together",
    ),
    "too many examples": (
        _record(examples=[{"row": 0, "column": 1, "alpha": 0.1, "confidence": 0.9}] * 9),
        "examples must be array of length <= 6",
    ),
}


@pytest.fixture
def blended(run) -> Path:
    """The same, blended."""
    assert main(["blend", str(run), "--per-pair", "1", "--alphas", "0.5,1", "--quiet"]) == 0
    return run


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_one_clear_line(blended, case):
    spoil, words = BROKEN[case]
    record = spoil(json.loads((blended / "blend.json").read_text()))
    if case == "examples without images":
        save_file(
            {"real": torch.zeros(2, 1, 8, 8), "fooling": torch.zeros(2, 1, 8, 8)},
            blended / "blend.safetensors",
        )
    (blended / "blend.json").write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match=words) as caught:
        read_run(RunFolder.open(blended))
    assert "\n" not in str(caught.value)


def test_broken_images_are_one_clear_line(blended, capsys):
    (blended / "blend.safetensors").write_bytes(b"\x08" * 20)
    assert "blend.safetensors is missing or not readable" in refused(capsys, "report", str(blended))
    n = len(json.loads((blended / "blend.json").read_text())["examples"])
    bright = torch.full((n, 1, 8, 8), 2.0)
    save_file({"real": bright, "fooling": bright.clone()}, blended / "blend.safetensors")
    assert n and "images outside [0, 1]" in refused(capsys, "report", str(blended))
    assert main(["blend", str(blended), "--per-pair", "1", "--quiet"]) == 0, (
        "blending again mends it"
    )
    assert read_run(RunFolder.open(blended)).blends is not None


def test_names_from_users_are_only_text(blended):
    names = [HOSTILE, "a|b`c`*d*", "größe 猫 \u202e\x07", "$x_1$ \\frac{", "w" * 3000] * 2
    record = json.loads((blended / "blend.json").read_text())
    (blended / "blend.json").write_text(json.dumps(record | {"classes": names}))
    write_report(RunFolder.open(blended))
    for written in ((blended / "report.html").read_text(), (blended / "report.md").read_text()):
        assert (
            "<script>alert" not in written and "\u202e" not in written and "w" * 400 not in written
        )


def test_the_figure_says_its_shares_and_shows_its_examples(blended):
    blends = read_blends(RunFolder.open(blended))
    assert blends is not None
    drawn = draw_blends(blends)
    for what, title in (("taken", "Taken for the other class"), ("lost", "Own class lost")):
        shares = ", ".join(percent(share, 0) for share in blends.shares(FOOLING, what))
        assert f"{title}, fooling image, {shares};" in drawn.alt
    assert drawn.svg.count("<image") == 3 * len(blends.record["examples"])
