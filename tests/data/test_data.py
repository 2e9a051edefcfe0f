from __future__ import annotations

import gzip
import lzma
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from blankcheck.data import Data, load_data
from blankcheck.data.loading import runs_code
from blankcheck.data.named import read_idx
from blankcheck.data.split import Split, hold_out
from blankcheck.errors import DataError

RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    return (
        b"\x00\x00\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def save(path: Path, **arrays) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_digits_are_split_into_disjoint_parts(digits):
    assert digits.shape == (1, 8, 8) and len(digits.classes) == 10
    parts = (digits.train, digits.validation, digits.test)
    assert sum(map(len, parts)) == 1797
    a, b = digits.halves
    assert abs(len(a) - len(b)) <= 1 and len(a) + len(b) == len(digits.train)
    rows = {tuple(r) for r in a.images.flatten(1).tolist()}
    # a handful of digits are drawn twice in the original set
    assert sum(tuple(r) in rows for r in b.images.flatten(1).tolist()) < 5
    assert load_data("digits").fingerprint == digits.fingerprint


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_idx_files_are_read_in_any_compression(tmp_path, ending, pack):
    array = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    path = tmp_path / f"images{ending}"
    path.write_bytes(pack(idx(array)))
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_truncated_files_are_refused(tmp_path, cut):
    whole = idx(RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8))
    (tmp_path / "a").write_bytes(whole[:-cut])
    (tmp_path / "b.gz").write_bytes(gzip.compress(whole)[:-cut])
    (tmp_path / "c.xz").write_bytes(lzma.compress(whole)[:-cut])
    for name in ("a", "b.gz", "c.xz"):
        with pytest.raises(DataError, match=f"{name}"):
            read_idx(tmp_path / name)


def test_wrong_contents_under_a_known_name_are_refused(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for stem, shape in (
        ("train-images-idx3", (6, 28, 28)),
        ("train-labels-idx1", (6,)),
        ("t10k-images-idx3", (3, 28, 28)),
        ("t10k-labels-idx1", (3,)),
    ):
        (folder / f"{stem}-ubyte").write_bytes(idx(np.zeros(shape, np.uint8)))
    with pytest.raises(DataError, match="is not the published mnist file"):
        load_data("mnist", tmp_path)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="lacks t10k-labels-idx1-ubyte"):
        load_data("mnist", tmp_path)


def test_cifar_layout_is_read(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        labels = np.arange(20, dtype=np.uint8)[:, None] % 10
        pixels = np.repeat(np.arange(3, dtype=np.uint8) * 50, 1024)[None].repeat(20, 0)
        (folder / f"{name}.xz").write_bytes(lzma.compress(np.hstack([labels, pixels]).tobytes()))
    data = load_data("cifar10", tmp_path)
    assert (
        data.shape == (3, 32, 32)
        and len(data.train) + len(data.validation) == 100
        and len(data.test) == 20
    )
    assert torch.allclose(data.test.images[0, :, 5, 7], torch.tensor([0, 50, 100]) / 255)
    (folder / "test_batch.bin.xz").write_bytes(lzma.compress(b"x" * 3000))
    with pytest.raises(DataError, match="not whole records of 3073"):
        load_data("cifar10", tmp_path)


def test_npz_with_and_without_its_own_split(tmp_path):
    x, y = RNG.integers(0, 256, (100, 6, 5), dtype=np.uint8), np.arange(100) % 4
    whole = load_data(save(tmp_path / "a.npz", x=x, y=y))
    assert [len(s) for s in (whole.train, whole.validation, whole.test)] == [80, 10, 10]
    own = load_data(
        save(tmp_path / "b.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    )
    assert len(own.train) == 72 and torch.equal(
        own.test.images[0, 0] * 255, torch.tensor(x[80]).float()
    )
    colour = load_data(save(tmp_path / "c.npz", x=RNG.random((50, 6, 5, 3)), y=np.arange(50) % 2))
    assert colour.shape == (3, 6, 5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((9, 4, 4))}, "must hold x_train"),
        ({"x": np.zeros((9, 4, 4)), "y": np.zeros(8)}, "9 images but 8 labels"),
        ({"x": np.full((9, 4, 4), 2.0), "y": np.zeros(9)}, r"must lie in \[0, 1\], got \[2, 2\]"),
        ({"x": np.full((9, 4, 4), np.nan), "y": np.zeros(9)}, r"must lie in \[0, 1\]"),
        ({"x": np.zeros((9, 4)), "y": np.zeros(9)}, "images must be"),
        ({"x": np.zeros((9, 4, 4), int), "y": np.zeros(9)}, "must be uint8 or floats"),
        ({"x": np.zeros((9, 4, 4)), "y": np.zeros(9) - 1}, "labels must lie in"),
        ({"x": np.zeros((0, 4, 4)), "y": np.zeros(0)}, "holds no images"),
        ({"x": np.array([{"a": 1}], dtype=object), "y": np.zeros(1)}, "cannot be read as npz"),
    ],
)
def test_bad_npz(tmp_path, arrays, words):
    with pytest.raises(DataError, match=words):
        load_data(save(tmp_path / "bad.npz", **arrays))


def test_folder_of_images(tmp_path):
    from PIL import Image

    with pytest.raises(DataError, match="does not exist"):
        load_data(f"folder:{tmp_path / 'none'}")
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="one folder per class"):
        load_data(f"folder:{tmp_path / 'set'}")
    for name, value in (("cat", 10), ("dog", 200)):
        (tmp_path / "set" / name).mkdir()
        for i in range(10):
            Image.fromarray(np.full((6, 6, 3), value, np.uint8)).save(
                tmp_path / "set" / name / f"{i}.png"
            )
    data = load_data(f"folder:{tmp_path / 'set'}")
    assert data.classes == ("cat", "dog") and data.shape == (3, 6, 6)
    assert torch.allclose(data.train.images[data.train.labels == 1], torch.tensor(200 / 255))
    Image.fromarray(np.zeros((7, 6, 3), np.uint8)).save(tmp_path / "set" / "dog" / "odd.png")
    with pytest.raises(DataError, match="one size and mode"):
        load_data(f"folder:{tmp_path / 'set'}")


def test_factories(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "X = np.random.default_rng(0).random((40, 5, 5))\n"
        "def good(): return dict(x=X, y=np.arange(40) % 2)\n"
        "def raises(): raise RuntimeError('no disk\\nsecond line')\n"
        "def odd(): return 3\n"
        "thing = 5\n"
    )
    assert load_data(f"{file}:good").shape == (1, 5, 5)
    for name, words in (
        ("raises", "raised RuntimeError: no disk second line"),
        ("odd", "must return a Data or a dict"),
        ("thing", "no callable 'thing'"),
        ("none", "no callable 'none'"),
    ):
        with pytest.raises(DataError, match=words):
            load_data(f"{file}:{name}")
    with pytest.raises(DataError, match="does not exist"):
        load_data(f"{tmp_path / 'gone.py'}:make")


def test_unknown_data_names_what_is_allowed():
    with pytest.raises(DataError, match=r"data must be one of digits, mnist.*got 'nope'"):
        load_data("nope")
    with pytest.raises(DataError, match=r"got 'images.npz'; did you mean npz:images.npz\?"):
        load_data("images.npz")


@pytest.mark.skipif(
    "BLANKCHECK_DATA" not in os.environ, reason="needs the original files: set BLANKCHECK_DATA"
)
@pytest.mark.parametrize(
    ("name", "shape", "train"),
    [("mnist", (1, 28, 28), 55_000), ("fashion-mnist", (1, 28, 28), 55_000)],
)
def test_named_sets(name, shape, train):
    data = load_data(name)
    assert (
        data.shape == shape
        and len(data.train) == train
        and len(data.validation) == 5_000
        and len(data.test) == 10_000
    )
    assert data.train.labels.bincount().min() > 4_000


def test_lifted_data_have_no_sparse_image():
    digits = load_data("digits")
    lift = load_data("digits+lift=0.25")
    assert lift.source == "digits+lift=0.25"
    assert torch.equal(lift.train.images, (digits.train.images + 0.25).clamp_max(1))
    assert torch.equal(lift.test.labels, digits.test.labels)
    assert float(lift.test.images.min()) == 0.25 and float(lift.test.images.max()) == 1
    assert (
        load_data("digits+lift").fingerprint
        == load_data("digits+lift=0.3").fingerprint
        != digits.fingerprint
    )


def test_any_source_can_be_lifted(tmp_path):
    x, y = RNG.random((40, 4, 4)).astype(np.float32), np.arange(40) % 2
    name = save(tmp_path / "a.npz", x=x, y=y)
    assert float(load_data(f"{name}+lift=0.5").train.images.min()) >= 0.5


@pytest.mark.parametrize("by", ["0", "1", "-0.1", "nan", "inf", "x", ""])
def test_an_impossible_lift_is_refused(by):
    with pytest.raises(DataError, match="lift must be"):
        load_data(f"digits+lift={by}")


def test_a_lifted_factory_still_counts_as_code():
    assert (
        runs_code("net.py:make")
        and runs_code("net.py:make+lift=0.2")
        and runs_code("package.module:make+lift")
    )
    assert not runs_code("digits+lift") and not runs_code("npz:a.npz+lift=0.2")


def test_copies_are_in_one_half_and_on_one_side_of_a_split():
    """Each of 60 images is there four times, drawn together nowhere."""
    images = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    whole = Split(images, torch.arange(240) % 60 % 2)
    rest, held = hold_out(whole, 0.25)
    data = Data("made", ("a", "b"), whole, held, held)
    for one, other in ((rest, held), data.halves):
        assert len(one) + len(other) == 240 and min(len(one), len(other)) >= 20
        seen = [{tuple(row) for row in part.loaded().flatten(1).tolist()} for part in (one, other)]
        assert not seen[0] & seen[1]


def test_copies_do_not_cost_a_class_its_images():
    images = torch.cat([torch.rand(40, 1, 2, 2), torch.zeros(15, 1, 2, 2)])
    whole = Split(images, torch.cat([torch.arange(40) % 2, torch.full((15,), 2)]))
    for part in hold_out(whole, 0.3):
        assert set(part.labels.tolist()) == {0, 1, 2}
