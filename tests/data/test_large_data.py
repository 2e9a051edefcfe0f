"""Sets beyond memory: the same contents and results as in memory, and bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import blankcheck as bc
from blankcheck.api.twins import _plan, get_twins
from blankcheck.auditing import Twin, attack_run
from blankcheck.auditing.attack_run import rows_at_once
from blankcheck.auditing.witnesses import nearest_real
from blankcheck.classifiers import TrainingPlan, build, evaluate, train_plainly
from blankcheck.classifiers.wrapper import batch_size
from blankcheck.cli.main import main
from blankcheck.data import Data, LazyImages, Split, npz
from blankcheck.data.loading import load_data, runs_code
from blankcheck.data.pillow import cropped
from blankcheck.data.split import fingerprint, hold_out
from blankcheck.data.variants import Crop, Variants, split_variants
from blankcheck.errors import DataError
from blankcheck.judging import FIRST, SECOND, OODTest
from blankcheck.judging.odd import reduced
from blankcheck.outputs import in_small_passes
from blankcheck.types import images_at_once, in_pieces

RNG = np.random.default_rng(7)
PARTS = ("train", "validation", "test")


def whole_and_lazy(source: str) -> tuple[Data, Data]:
    whole, unread = load_data(source), load_data(source, in_memory=0)
    assert all(isinstance(getattr(whole, part).images, Tensor) for part in PARTS)
    assert all(isinstance(getattr(unread, part).images, LazyImages) for part in PARTS)
    return whole, unread


def same(whole: Data, unread: Data) -> bool:
    pairs = [(getattr(whole, part), getattr(unread, part)) for part in PARTS] + list(
        zip(whole.halves, unread.halves, strict=True)
    )
    return all(
        torch.equal(a.loaded(), b.loaded()) and torch.equal(a.labels, b.labels) for a, b in pairs
    )


@pytest.fixture(scope="module")
def digits_npz(tmp_path_factory) -> str:
    """The digits as bytes, 1,797 images of 8x8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    path = tmp_path_factory.mktemp("npz") / "digits.npz"
    np.savez(path, x=(bunch.images * 15).astype(np.uint8), y=bunch.target)
    return f"npz:{path}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three classes of 20 pictures each, of many sizes, some of them grey."""
    folder = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(("a", "b", "c")):
        (folder / name / "sub").mkdir(parents=True)
        for i in range(20):
            h, w = 20 + i, 44 - i
            pixels = RNG.integers(80 * label, 80 * label + 90, (h, w, 3)).astype(np.uint8)
            image = Image.fromarray(pixels).convert("L") if i % 7 == 3 else Image.fromarray(pixels)
            image.save(
                folder / name / ("sub" if i % 2 else ".") / f"{i}.{'jpg' if i % 3 else 'png'}"
            )
    return folder


@pytest.mark.parametrize(
    "kind", ["bytes", "channels last", "floats", "doubles", "compressed", "Fortran order"]
)
def test_an_archive_read_as_needed_is_the_same_set(tmp_path, kind):
    shape = (60, 6, 5, 3) if kind == "channels last" else (60, 6, 5)
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    if kind in ("floats", "doubles"):
        x = RNG.random(shape).astype(np.float32 if kind == "floats" else np.float64)
    if kind == "Fortran order":
        x = np.asfortranarray(x)
    save = np.savez_compressed if kind == "compressed" else np.savez
    save(tmp_path / "a.npz", x=x, y=np.arange(60) % 3, class_names=np.array(["r", "g", "b"]))
    whole, unread = whole_and_lazy(f"npz:{tmp_path / 'a.npz'}")
    assert (
        same(whole, unread)
        and whole.fingerprint == unread.fingerprint
        and whole.classes == unread.classes == ("r", "g", "b")
    )
    assert whole.mean_and_std() == unread.mean_and_std() and whole.shape == unread.shape


def test_an_archive_with_its_own_split_is_the_same_set(tmp_path):
    x, y = RNG.integers(0, 256, (90, 4, 4)).astype(np.uint8), np.arange(90) % 3
    np.savez(
        tmp_path / "a.npz",
        x_train=x[:50],
        y_train=y[:50],
        x_val=x[50:70],
        y_val=y[50:70],
        x_test=x[70:],
        y_test=y[70:],
    )
    whole, unread = whole_and_lazy(f"npz:{tmp_path / 'a.npz'}")
    assert same(whole, unread) and [
        len(unread.train),
        len(unread.validation),
        len(unread.test),
    ] == [50, 20, 20]


def test_only_sets_beyond_the_limit_are_lazy(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 4, 4), np.uint8), y=np.arange(10) % 2)
    source = f"npz:{tmp_path / 'a.npz'}"
    assert isinstance(load_data(source, in_memory=4 * 160).train.images, Tensor)
    assert isinstance(load_data(source, in_memory=4 * 160 - 1).train.images, LazyImages)


def test_a_factory_may_give_arrays_on_disk_or_lazy_images(tmp_path):
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (40, 5, 5)).astype(np.uint8))
    (tmp_path / "mine.py").write_text(
        "import numpy as np, torch\n"
        "from blankcheck.data import Data, LazyImages, Split\n"
        f"X = np.load({str(tmp_path / 'x.npy')!r}, mmap_mode='r')\n"
        "def mapped(): return dict(x=X, y=np.arange(40) % 2)\n"
        "def own(high=1.0):\n"
        "    read = lambda at: high * (at.float() / 40)[:, None, None, None].expand(-1, 1, 5, 5)\n"
        "    def part(a, b):\n"
        "        at = torch.arange(a, b)\n"
        "        return Split(LazyImages(read, (1, 5, 5), at), at % 2)\n"
        "    return Data('own', ('0', '1'), part(0, 20), part(20, 30), part(30, 40))\n"
        "def wrong(): return own(2.0)\n"
    )
    whole, unread = whole_and_lazy(f"{tmp_path / 'mine.py'}:mapped")
    assert same(whole, unread)
    own = load_data(f"{tmp_path / 'mine.py'}:own").test
    assert torch.equal(own.images[2], torch.full((1, 5, 5), 32 / 40))
    assert torch.equal(
        own.take(torch.tensor([9, 0])).loaded()[:, 0, 0, 0], torch.tensor([39 / 40, 30 / 40])
    )
    with pytest.raises(DataError, match=r"must lie in \[0, 1\], got \[1.5, 1.95\]"):
        load_data(f"{tmp_path / 'mine.py'}:wrong").test.loaded()


def test_what_a_reader_gives_is_checked():
    images = LazyImages(lambda at: torch.zeros(len(at), 1, 3, 3), (1, 2, 2), torch.arange(4), "odd")
    with pytest.raises(
        DataError, match=r"data 'odd': \(4, 1, 2, 2\) images were to be read, got \(4, 1, 3, 3\)"
    ):
        images[:]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (2.0, r"\[0, 2\]$"),
        (255.0, r"\[0, 255\]; divide them by 255, or give bytes$"),
        (np.nan, "nan"),
        (-0.5, r"\[-0.5, 0\]"),
    ],
)
def test_floats_out_of_range_are_found_at_the_door(tmp_path, values, words):
    x = np.zeros((50, 4, 4), np.float32)
    x[37, 2, 2] = values
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(50) % 2)
    for limit in (2**30, 0):
        with pytest.raises(DataError, match=rf"float images must lie in \[0, 1\], got .*{words}"):
            load_data(f"npz:{tmp_path / 'a.npz'}", in_memory=limit)


def test_compressed_arrays_too_large_to_read_whole_are_refused_in_one_line(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((50, 4, 4), np.uint8), y=np.arange(50) % 2)
    monkeypatch.setattr(npz, "MOST_WHOLE", 799)
    with pytest.raises(
        DataError, match=r"x can only be read whole, which takes .* saved uncompressed"
    ) as caught:
        load_data(f"npz:{tmp_path / 'a.npz'}", in_memory=0)
    assert "\n" not in str(caught.value)
    assert len(load_data(f"npz:{tmp_path / 'a.npz'}").train) == 40, "in memory it fits"


def test_an_archive_cut_off_later_is_reported_when_it_is_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, y=np.arange(50) % 2, x=RNG.integers(0, 256, (50, 4, 4)).astype(np.uint8))
    data = load_data(f"npz:{path}", in_memory=0)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"a\.npz is truncated"):
        data.train.loaded()
    path.unlink()
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        data.train.loaded()


def test_a_folder_decoded_as_needed_is_the_same_set(tmp_path, photos):
    whole, unread = whole_and_lazy(f"folder:{photos}+size=16")
    assert same(whole, unread) and whole.fingerprint == unread.fingerprint
    assert whole.source == unread.source == f"folder:{photos}+size=16" and whole.shape == (
        3,
        16,
        16,
    )
    for part in ("train", "test"):
        for name, value in (("dark", 20), ("light", 220)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(12):
                Image.fromarray(np.full((5, 7), value + i, np.uint8)).save(
                    tmp_path / part / name / f"{i}.png"
                )
    whole, unread = whole_and_lazy(f"folder:{tmp_path}")
    assert same(whole, unread) and whole.shape == (1, 5, 7) and len(unread.test) == 24
    assert {20, 31, 220, 231} <= set(
        (unread.test.loaded()[:, 0, 0, 0] * 255).round().int().tolist()
    )
    assert unread.test.labels.tolist() == [0] * 12 + [1] * 12


def test_more_threads_decode_the_same(photos):
    unread = load_data(f"folder:{photos}+size=16", in_memory=0)
    one = unread.train.loaded()
    torch.set_num_threads(2)
    try:
        assert torch.equal(unread.train.loaded(), one)
    finally:
        torch.set_num_threads(1)


def test_the_middle_of_an_image_is_cut_out():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = (255, 128, 0)
    assert np.array_equal(
        np.asarray(cropped(Image.fromarray(pixels), Crop(10, 10)))[:, 1:-1],
        np.broadcast_to((255, 128, 0), (10, 8, 3)),
    )
    inner = np.asarray(cropped(Image.fromarray(pixels), Crop(5, 10)))
    assert inner.shape == (5, 5, 3) and (inner == (255, 128, 0)).all(), (
        "half of the shorter side, made of the inside alone"
    )
    same_size = RNG.integers(0, 256, (9, 9)).astype(np.uint8)
    assert np.array_equal(np.asarray(cropped(Image.fromarray(same_size), Crop(9, 9))), same_size), (
        "nothing to do"
    )
    tall = np.asarray(
        cropped(
            Image.fromarray(np.repeat(np.arange(30, dtype=np.uint8)[:, None], 10, 1)), Crop(10, 10)
        )
    )
    assert np.array_equal(tall, np.repeat(np.arange(10, 20, dtype=np.uint8)[:, None], 10, 1))


def test_images_of_many_sizes_need_a_size(photos):
    for limit in (2**30, 0):
        with pytest.raises(
            DataError, match=r"all images must have one size and mode.*\+size=N behind the name"
        ):
            load_data(f"folder:{photos}", in_memory=limit)


def test_images_are_grey_where_the_first_of_every_class_is(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(10):
            image = Image.fromarray(np.full((6, 6, 3), (200, 0, 0), np.uint8))
            (image if i == 5 and name == "a" else image.convert("L")).save(
                tmp_path / name / f"{i}.png"
            )
    whole, unread = whole_and_lazy(f"folder:{tmp_path}+size=6")
    assert same(whole, unread) and whole.shape == (1, 6, 6)
    Image.fromarray(np.full((6, 6, 3), (200, 0, 0), np.uint8)).save(tmp_path / "b" / "0.png")
    assert load_data(f"folder:{tmp_path}+size=6").shape == (3, 6, 6)


@pytest.mark.parametrize("damage", ["no image", "cut off"])
def test_a_broken_image_is_named(tmp_path, damage):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.fromarray(RNG.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    broken = tmp_path / "b" / "4.png"
    broken.write_bytes(b"hello" if damage == "no image" else broken.read_bytes()[:900])
    with pytest.raises(DataError, match=r"image .*/b/4\.png cannot be read") as caught:
        load_data(f"folder:{tmp_path}")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"image .*/b/4\.png cannot be read"):
        data = load_data(f"folder:{tmp_path}", in_memory=0)
        for part in PARTS:
            getattr(data, part).loaded()


def test_a_broken_image_is_one_line_on_the_command_line(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"hello")
    code = main(["train", "--data", f"folder:{tmp_path}", "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert (
        code == 2
        and len(err.strip().splitlines()) == 1
        and "0.png cannot be read" in err.replace("\n", "")
    )
    assert not (tmp_path / "run").exists()


def test_variants_are_read_from_the_end_in_any_order():
    assert split_variants("folder:a+b/c+size=224") == (
        "folder:a+b/c",
        Variants(Crop(224, 224)),
    )
    assert split_variants("folder:d+size=224,256+lift=0.5") == (
        "folder:d",
        Variants(Crop(224, 256), lift=0.5),
    )
    assert split_variants("folder:d+lift+size=8") == ("folder:d", Variants(Crop(8, 8), lift=0.3))
    assert split_variants("folder:d+size=3/e") == ("folder:d+size=3/e", Variants())
    assert runs_code("net.py:make+size=3") and not runs_code("folder:x+size=3+lift")


@pytest.mark.parametrize(
    "size",
    [
        "+size",
        "+size=",
        "+size=0",
        "+size=x",
        "+size=9,8",
        "+size=-3",
        "+size=10000",
        "+size=8,9,10",
    ],
)
def test_impossible_sizes_are_refused(tmp_path, size):
    with pytest.raises(DataError, match="size must be N or N,M"):
        load_data(f"folder:{tmp_path}{size}")


def test_sizes_are_for_folders_and_given_once():
    with pytest.raises(DataError, match=r"\+size is for folder:DIR"):
        load_data("digits+size=8")
    with pytest.raises(DataError, match="size must be given once"):
        load_data("folder:x+size=8+size=9")


def test_lazy_images_can_be_lifted(digits_npz):
    whole, unread = whole_and_lazy(f"{digits_npz}+lift=0.25")
    assert same(whole, unread) and float(unread.test.loaded().min()) == 0.25


# results


def test_an_audit_gives_the_same_bits(digits_npz, plain):
    whole, unread = whole_and_lazy(digits_npz)
    network = build("mlp", whole.shape, 10, whole.mean_and_std(), seed=0)
    train_plainly(network, whole.train, TrainingPlan(8), seed=0)
    again = build("mlp", whole.shape, 10, unread.mean_and_std(), seed=0)
    train_plainly(again, unread.train, TrainingPlan(8), seed=0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    twin = Twin(plain, "logits", "a plain twin")
    first, second = (
        bc.audit(network, data, preset="smoke", twin=lambda: twin) for data in (whole, unread)
    )
    assert all(
        torch.equal(first.witnesses[name], second.witnesses[name]) for name in first.witnesses
    )
    assert (
        len(first.witnesses["images"]) > 0
        and first.gathered.fingerprint == second.gathered.fingerprint
    )
    assert json.dumps(first.json | {"cost": None}) == json.dumps(second.json | {"cost": None})
    found = [
        bc.fool(network, [1, 2], 3, data=data, steps=220, start="gaussian").images
        for data in (whole, unread)
    ]
    assert torch.equal(*found)


@pytest.mark.slow
def test_hardening_gives_the_same_bits(digits_npz):
    made = [
        bc.harden("mlp", data, epochs=2, rounds=1, fresh_attempts=20).model.state_dict()
        for data in whole_and_lazy(digits_npz)
    ]
    assert all(torch.equal(a, b) for a, b in zip(made[0].values(), made[1].values(), strict=True))


@pytest.mark.parametrize("family", [FIRST, SECOND], ids=["first", "second"])
def test_the_out_of_distribution_test_gives_the_same_bits(digits_npz, family):
    whole, unread = whole_and_lazy(digits_npz)
    one, two = (OODTest.fit(data.halves[1].images, 0.01, scores=family) for data in (whole, unread))
    assert torch.equal(one.calibration, two.calibration)
    assert torch.equal(one.p_values(whole.test.images), two.p_values(unread.test.images))
    assert torch.equal(
        one.score_p_values(whole.test.images), two.score_p_values(unread.test.images)
    )


def test_large_images_are_judged_by_a_sample(monkeypatch):
    """Counts what is read of a set of which most must not be."""
    read: list[int] = []

    def noise(at: Tensor) -> Tensor:
        read.append(len(at))
        return torch.stack(
            [
                0.05 + 0.9 * torch.rand(3, 80, 80, generator=torch.Generator().manual_seed(int(i)))
                for i in at
            ]
        )

    monkeypatch.setattr("blankcheck.judging.ood.MAX_FIT_NUMBERS", 60 * 3 * 80 * 80)
    images = LazyImages(noise, (3, 80, 80), torch.arange(1_000_000))
    test = OODTest.fit(images, 0.02)
    assert sum(read) <= 60 + 200 + 150 + 10 and max(read) <= 156, (
        "60 fit, 200 rank, 3/level calibrate"
    )
    assert "conditional" in test.guarantee and test.smallest_p <= 0.02
    # a sample is as good as all: of fresh real images few are called out of distribution, and of
    # others all
    fresh = images[torch.arange(2_000_000, 2_000_100) % 1_000_000]
    assert int(test.accepts(fresh).sum()) <= 6
    half = fresh[:5] * (torch.arange(80) < 40)
    assert bool(test.accepts(torch.zeros(3, 3, 80, 80)).all()) and bool(test.accepts(half).all())


def test_scores_of_many_features_see_means_of_a_large_image():
    small = torch.rand(2, 3, 64, 64)
    assert reduced(small) is small
    large = reduced(torch.rand(2, 3, 224, 130))
    assert large.shape == (2, 3, 56, 44)
    steps = torch.arange(130.0).expand(1, 1, 1, 130)
    assert reduced(steps).flatten()[[0, 1, -1]].tolist() == [1.0, 4.0, 129.0], (
        "the last rectangle is smaller"
    )


def test_evaluation_reads_batch_by_batch_and_gives_the_same(digits_npz, monkeypatch):
    whole, unread = whole_and_lazy(digits_npz)
    network = build("mlp", whole.shape, 10, whole.mean_and_std(), seed=0)
    assert evaluate(network, whole.test, 10, 0.5) == evaluate(network, unread.test, 10, 0.5)
    sizes: list[int] = []
    counted = unread.test.images.changed(lambda images: sizes.append(len(images)) or images)
    monkeypatch.setattr("blankcheck.types.NUMBERS_AT_ONCE", 64 * 50)
    assert batch_size((1, 8, 8)) == 50
    few = evaluate(network, Split(counted, unread.test.labels), 10, 0.5)
    assert max(sizes) == 50 and sum(sizes) == len(unread.test)
    assert few.accuracy == evaluate(network, whole.test, 10, 0.5).accuracy


def test_the_nearest_real_image_is_looked_for_piece_by_piece(digits_npz, monkeypatch):
    whole, unread = whole_and_lazy(digits_npz)
    images = (whole.train.images[[5, 900, 1300]] * 0.9).clamp(0, 1)
    near = nearest_real(images, whole)
    assert torch.equal(near, whole.train.images[[5, 900, 1300]])
    monkeypatch.setattr("blankcheck.auditing.witnesses.COMPARED_AT_ONCE", 64 * 100)
    assert torch.equal(nearest_real(images, unread), near)
    monkeypatch.setattr("blankcheck.auditing.witnesses.MOST_COMPARED", 64 * 6)
    assert torch.equal(nearest_real(images, unread)[0], near[0]) and not torch.equal(
        nearest_real(images, unread)[1], near[1]
    )
    assert nearest_real(images[:0], unread).shape == (0, 1, 8, 8)


def test_moments_of_a_sample_are_close(monkeypatch, digits_npz):
    whole, unread = whole_and_lazy(digits_npz)
    monkeypatch.setattr("blankcheck.data.splits.MEASURED_WHOLE", 0)
    monkeypatch.setattr("blankcheck.data.splits.MEASURED", 64 * 700)
    (mean,), (std,) = whole.mean_and_std()
    ((own,), (spread,)) = load_data(digits_npz).mean_and_std()
    assert mean == pytest.approx(float(whole.train.images.mean()), abs=0.01)
    assert std == pytest.approx(float(whole.train.images.std()), abs=0.01)
    assert (own, spread) == (mean, std) == tuple(v for (v,) in unread.mean_and_std()), (
        "however the images are kept"
    )


def test_a_sample_with_next_to_no_images_of_a_class_gives_no_twin(digits_npz, monkeypatch):
    data = load_data(digits_npz)
    network = build("mlp", data.shape, 10, data.mean_and_std(), seed=0)
    monkeypatch.setattr("blankcheck.api.twins.MOST_NUMBERS", 64 * 199)
    assert list(get_twins(network, data, torch.device("cpu"))) == []
    monkeypatch.setattr("blankcheck.api.twins.MOST_NUMBERS", 64 * 400)
    assert next(get_twins(network, data, torch.device("cpu"))).what.startswith("a plain twin")


def test_twins_of_large_images_are_trained_for_fewer_epochs():
    def of(n: int, *size: int) -> TrainingPlan:
        return _plan(Split(LazyImages(lambda at: at, size, torch.arange(n)), torch.zeros(n)))

    assert of(647, 1, 8, 8) == TrainingPlan.default(647) and of(
        4000, 3, 32, 32
    ) == TrainingPlan.default(4000)
    assert (
        of(4261, 3, 224, 224).epochs == 9
        and of(6000, 3, 224, 224).epochs == of(60_000, 1, 28, 28).epochs == 3
    )


# batches


def test_the_size_of_a_batch_depends_on_the_shape_alone():
    assert (
        rows_at_once((1, 28, 28), "cpu") >= 100
        and rows_at_once((3, 64, 64), torch.device("cpu")) >= 100
    )
    assert rows_at_once((3, 224, 224), "cpu") == 16
    assert rows_at_once((3, 9000, 9000), "cpu") == 1
    assert rows_at_once((3, 224, 224), "cuda") is None, "a device says when memory runs out"


def test_smaller_batches_find_the_same(digits, plain, monkeypatch):
    whole = bc.fool(plain, range(10), 3, data=digits, steps=60)
    monkeypatch.setattr(attack_run, "SEARCH_MEMORY", attack_run.SEARCH_BYTES * 64 * 7)
    assert rows_at_once(digits.shape, "cpu") == 7
    small = bc.fool(plain, range(10), 3, data=digits, steps=60)
    assert torch.equal(whole.met, small.met)
    assert torch.allclose(whole.images, small.images, atol=1e-4) and torch.allclose(
        whole.confidence, small.confidence, atol=1e-4
    )


def test_many_images_go_through_a_network_in_several_passes(monkeypatch):
    seen: list[int] = []

    def network(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flatten(1)[:, :2]

    monkeypatch.setattr("blankcheck.types.NUMBERS_AT_ONCE", 4 * 10)
    images = torch.rand(25, 1, 2, 2)
    with torch.no_grad():
        assert torch.equal(in_small_passes(network)(images), images.flatten(1)[:, :2])
    assert seen == [10, 10, 5]
    in_small_passes(network)(images)
    assert seen[3:] == [25], "a gradient is wanted: the batch was made small enough before"


# invariants


def numbered(n: int) -> tuple[Split, Split]:
    """The same n images of one pixel, in memory and lazy; image i has the value i / n."""
    tensor = (torch.arange(n, dtype=torch.float32) / n).view(n, 1, 1, 1)
    labels = torch.arange(n)
    return Split(tensor, labels), Split(
        LazyImages(lambda at: tensor[at], (1, 1, 1), torch.arange(n)), labels
    )


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 300),
    most=st.integers(1, 400),
    seed=st.integers(0, 2**31),
    fraction=st.floats(0, 0.9),
)
def test_taking_and_sampling_lose_and_repeat_nothing(n, most, seed, fraction):
    whole, unread = numbered(n)
    for a, b in (
        (whole.sample(most, seed), unread.sample(most, seed)),
        (whole.at_most(most, seed), unread.at_most(most, seed)),
        *zip(hold_out(whole, fraction), hold_out(unread, fraction), strict=True),
    ):
        assert torch.equal(a.loaded(), b.loaded()) and torch.equal(a.labels, b.labels)
        assert len(set(b.labels.tolist())) == len(b), "no image twice"
        assert torch.equal(b.loaded().flatten() * n, b.labels.float()) or torch.allclose(
            b.loaded().flatten() * n, b.labels.float()
        )
    assert len(unread.sample(most, seed)) == min(n, most) == len(unread.at_most(most, seed))
    rest, held = hold_out(unread, fraction)
    assert sorted([*rest.labels.tolist(), *held.labels.tolist()]) == list(range(n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 100), size=st.integers(1, 120), data=st.data())
def test_every_index_reads_what_a_tensor_gives(n, size, data):
    whole, unread = numbered(n)
    at = data.draw(st.lists(st.integers(0, n - 1), max_size=20))
    chosen = torch.tensor(at, dtype=torch.int64)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    step = slice(*data.draw(st.tuples(st.integers(0, n), st.integers(0, n), st.integers(1, 3))))
    for index in (chosen, mask, step):
        assert torch.equal(unread.images[index], whole.images[index])
    assert torch.equal(unread.images[n - 1], whole.images[n - 1]) and torch.equal(
        unread.images[-1], whole.images[-1]
    )
    assert torch.equal(unread.images.take(chosen)[:], whole.images[chosen])
    pieces = list(in_pieces(unread.images, size))
    assert torch.equal(torch.cat(pieces), whole.images) and max(map(len, pieces)) <= size
    assert fingerprint([unread]) == fingerprint([whole])


@settings(max_examples=40, deadline=None)
@given(c=st.integers(1, 4), h=st.integers(1, 5000), w=st.integers(1, 5000))
def test_batches_keep_within_their_memory(c, h, w):
    rows, images = rows_at_once((c, h, w), "cpu"), images_at_once((c, h, w))
    assert rows is not None and (
        rows == 1 or rows * c * h * w * attack_run.SEARCH_BYTES <= attack_run.SEARCH_MEMORY
    )
    assert images == 1 or images * c * h * w <= 10_000_000
    assert rows >= 1 and batch_size((c, h, w)) == min(500, images)


# memory

USE = """
import resource, sys
import torch
torch.set_num_threads(1)
import blankcheck as bc
import blankcheck.data.splits as splits

splits.MEASURED_WHOLE = 0

def use(name, kind):
    data = bc.load_data(f"npz:{sys.argv[1]}/{name}.npz", in_memory=2**25)
    assert isinstance(data.train.images, kind)
    data.mean_and_std(), data.fingerprint
    bc.OODTest.fit(data.halves[1].images, 0.05, most=50).p_values(data.test.images)

use("small", torch.Tensor)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
use("large", bc.LazyImages)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in other units")
def test_a_set_beyond_memory_takes_little_of_it(tmp_path):
    """380 MB as float32, read wholly for its fingerprint, in a process of its own; a tenth of it is
    read at once."""
    some = RNG.integers(0, 256, (10, 128, 128, 3)).astype(np.uint8)
    for name, times in (("small", 16), ("large", 200)):
        images = np.broadcast_to(some, (times, *some.shape)).reshape(-1, *some.shape[1:]).copy()
        images[:, 0, 0, :2] = np.stack(
            np.divmod(np.arange(len(images)), 256), axis=1
        )  # none is a copy of another
        np.savez(tmp_path / f"{name}.npz", x=images, y=np.arange(len(images)) % 2)
    made = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr[-600:]
    assert int(made.stdout) < 190, f"{made.stdout.strip()} MiB more than with a small set"
