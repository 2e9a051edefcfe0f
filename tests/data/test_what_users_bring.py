"""Folders, labels and pixels as users have them: understood, or refused in one line."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blankcheck as bc
from blankcheck.auditing import check_enough
from blankcheck.data import Data, LazyImages, Split, load_data
from blankcheck.errors import ArgumentError, DataError
from blankcheck.judging.ood import check_size, fewest_images

RNG = np.random.default_rng(0)


def images(folder: Path, *names: str, n: int = 6, size: tuple[int, int] = (8, 8)) -> None:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = RNG.integers(0, 255, size, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def folder_data(folder: Path) -> Data:
    return load_data(f"folder:{folder}")


# ---- splits


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("test", ["val", "valid", "Validation", "test", "Testing"])
def test_folders_of_splits_are_no_classes(tmp_path, train, test):
    images(tmp_path / train, "cat", "owl", n=20)
    images(tmp_path / test, "cat", "owl", n=3)
    data = folder_data(tmp_path)
    assert data.classes == ("cat", "owl") and len(data.test) == 6
    assert len(data.train) + len(data.validation) == 40
    taken = f"the images of {tmp_path / test} are the test images: there are no others"
    assert data.news() == ([] if test.lower().startswith("test") else [taken])


def test_all_three_splits_are_taken(tmp_path):
    for part, n in (("train", 9), ("val", 4), ("test", 5)):
        images(tmp_path / part, "cat", "owl", n=n)
    data = folder_data(tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 8, 10]
    assert not data.news()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["train"], "has .*train, but no test; name .*train itself"),
        (["val"], "has .*val, but no train"),
        (["test", "valid"], "but no train"),
        (["Validation"], "but no train"),
        (["TEST"], "but no train"),
    ],
)
def test_splits_that_lack_another_are_refused(tmp_path, parts, words):
    for part in parts:
        images(tmp_path / part, "cat", "owl")
    with pytest.raises(DataError, match=words):
        folder_data(tmp_path)


@pytest.mark.parametrize("name", ["train", "test", "val", "training", "dev"])
def test_a_class_may_be_called_like_a_split(tmp_path, name):
    images(tmp_path, "bus", "tram", name)
    assert folder_data(tmp_path).classes == tuple(sorted(["bus", "tram", name]))


@pytest.mark.parametrize("part", ["test", "val"])
def test_classes_that_training_lacks_are_refused(tmp_path, part):
    images(tmp_path / "train", "cat", "owl")
    images(tmp_path / "test", "cat", "owl")
    images(tmp_path / part, "cat", "yak")
    with pytest.raises(DataError, match=f"{part} holds classes that .*train lacks: yak"):
        folder_data(tmp_path)


# ---- what is skipped


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat/._0.png", "1 hidden files and folders"),
        ("cat/deep/.ipynb_checkpoints/0.png", "1 hidden files and folders"),
        (".cache/x/0.png", "1 hidden files and folders"),
        ("cat/notes.txt", "1 files with ending .txt"),
        ("owl/labels.npy", "1 files with ending .npy"),
        ("readme", "1 files beside the folders"),
        ("cat/Thumbs.db", "1 files with ending .db"),
    ],
)
def test_what_is_not_read_is_counted(tmp_path, name, words):
    images(tmp_path, "cat", "owl")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"no image")
    data = folder_data(tmp_path)
    assert data.news() == [f"{tmp_path}: not read: {words}"]
    assert load_data(f"folder:{tmp_path}+lift=0.2").news() == data.news()


def test_folders_beside_the_splits_are_counted(tmp_path):
    for part in ("train", "test", "unlabelled"):
        images(tmp_path / part, "cat", "owl")
    (said,) = folder_data(tmp_path).news()
    assert said.endswith("not read: 1 folders beside the splits")


# ---- classes without images


def arrays(tmp_path: Path, **given: object) -> str:
    np.savez(tmp_path / "a.npz", **given)
    return f"npz:{tmp_path / 'a.npz'}"


X = RNG.random((120, 8, 8)).astype(np.float32)
Y = np.arange(120) % 3


@pytest.mark.parametrize(
    ("labels", "targets", "words"),
    [
        (Y + 1, (1, 2, 3), "1 of 4 classes have no images and are no targets: '0'"),
        (Y * 2, (0, 2, 4), "2 of 5 classes have no images and are no targets: '1', '3'"),
        (Y + 7, (7, 8, 9), "7 of 10 classes have no images"),
        (np.where(Y == 2, 9, Y), (0, 1, 9), "7 of 10 classes"),
        ((Y + 1).astype(np.float32), (1, 2, 3), "1 of 4 classes"),
    ],
)
def test_classes_without_images_are_named_and_no_targets(tmp_path, labels, targets, words):
    data = load_data(arrays(tmp_path, x=X, y=labels))
    assert data.targets == targets and data.news()[0].startswith(words)


def test_an_empty_class_folder_keeps_its_place(tmp_path):
    images(tmp_path, "ant", "cat", "owl", n=10)
    for path in (tmp_path / "cat").iterdir():
        path.unlink()
    data = folder_data(tmp_path)
    assert data.classes == ("ant", "cat", "owl") and data.targets == (0, 2)
    assert data.news() == ["1 of 3 classes have no images and are no targets: 'cat'"]


@pytest.mark.slow
def test_no_attempt_is_made_for_a_class_without_images(plain, digits):
    """An output for it is there, and is sure of some images."""
    parts = (digits.train, digits.validation, digits.test)
    moved = [Split(s.images, torch.where(s.labels == 3, 4, s.labels)) for s in parts]
    data = Data("moved", digits.classes, *moved)
    made = bc.audit(plain, data, preset="smoke")
    assert "3" not in made.json["targets"] and len(made.json["targets"]) == 9
    assert all(a.target != 3 for a in (*made.evidence.attempts, *made.evidence.extra))


@pytest.mark.parametrize("place", ["train", "validation", "test"])
def test_labels_of_data_made_by_hand_are_whole(digits, place):
    split = getattr(digits, place)
    for labels in (split.labels.float() + 0.5, split.labels[:, None], split.labels.int()):
        parts = {n: getattr(digits, n) for n in ("train", "validation", "test")}
        parts[place] = Split(split.images, labels)
        with pytest.raises(DataError, match=f"{place} labels must be"):
            Data("mine", digits.classes, **parts)


@pytest.mark.parametrize(
    ("images_", "words"),
    [
        (lambda x: x.double(), "must be float32 on the CPU, got torch.float64"),
        (lambda x: x.half(), "got torch.float16"),
        (lambda x: x.clone().requires_grad_(), "which requires gradients"),
        (lambda x: (x * 255).byte(), "got torch.uint8"),
        (lambda x: x * (1 + 1e-6) + 1e-7, r"got \[1e-07, 1.0000011\]"),
    ],
)
def test_images_of_data_made_by_hand(digits, images_, words):
    parts = Split(images_(digits.test.images), digits.test.labels)
    with pytest.raises(DataError, match=words):
        Data("mine", digits.classes, digits.train, digits.validation, parts)


# ---- labels that are none


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y / 9, "0.1111111111111111 at position 1"),
        (Y + 0.7, "got 0.7 at position 0"),
        (np.where(np.arange(120) == 5, np.nan, Y), "got nan at position 5"),
        (np.where(Y == 2, np.inf, Y), "got inf at position 2"),
        (np.where(np.arange(120) == 7, 200_000_000, Y), "got 200000000 at position 7"),
        (np.where(np.arange(120) == 9, 2**63 + 1, Y.astype(np.uint64)), "at position 9"),
        (Y - 1, "got -1 at position 0"),
        (Y.astype(str), "names go into class_names"),
        (np.eye(3)[Y], r"one label an image, got \(120, 3\); of rows .* \.argmax\(1\)"),
        (Y * 1j, "must be whole numbers"),
        (np.zeros(120), "images of at least 2 classes, got those of '0' alone"),
        (np.ones(120, int), "images of at least 2 classes, got those of '1' alone"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, labels, words):
    with pytest.raises(DataError, match=words):
        load_data(arrays(tmp_path, x=X, y=labels))


@pytest.mark.parametrize("labels", [Y > 0, Y[:, None], Y.astype(np.uint8), Y.astype(float)])
def test_labels_of_other_types_are_whole_numbers_all_the_same(tmp_path, labels):
    assert load_data(arrays(tmp_path, x=X, y=labels)).train.labels.dtype == torch.int64


# ---- numbers of images


@pytest.mark.parametrize("level", [0.5, 0.1, 0.05, 0.01, 0.003, 0.001])
def test_as_many_images_as_are_asked_for_are_enough(level):
    check_size(fewest_images(level), level)
    with pytest.raises(DataError, match=f"needs at least {fewest_images(level)} real"):
        check_size(fewest_images(level) - 1, level)


@pytest.mark.parametrize("n", [40, 120, 300, 500, 600])
def test_too_few_images_are_counted_as_the_user_has_them(n):
    half = n // 2
    split = Split(torch.rand(n, 1, 4, 4), torch.arange(n) % 2)
    data = Data("few", ("a", "b"), split, split.sample(half, 0), split.sample(half, 1))
    least = 2 * fewest_images(0.01)
    said = rf"has {n} training images \({n + 2 * half} in all\); .* needs at least {least}"
    with nullcontext() if n >= least else pytest.raises(DataError, match=said):
        check_enough(data, 0.01)


# ---- pixels


def deep(folder: Path, make, ending: str = "png", n: int = 20) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            make().save(folder / name / f"{i}.{ending}")
    return folder


def sixteen(high: int = 65535) -> Image.Image:
    return Image.fromarray(RNG.integers(0, high, (8, 8)).astype(np.uint16))


@pytest.mark.parametrize("size", ["", "+size=4", "+size=4,8"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_are_scaled(tmp_path, ending, size):
    data = load_data(f"folder:{deep(tmp_path, sixteen, ending)}{size}")
    pixels = data.train.images[:]
    assert 0.4 < float(pixels.mean()) < 0.6 and float((pixels == 1).float().mean()) < 0.01
    assert len(pixels.unique()) > 300, "no depth is lost"


def test_deep_images_beside_others(tmp_path):
    deep(tmp_path, sixteen)
    images(tmp_path, "c", n=20)
    colour = Image.fromarray(RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    assert folder_data(tmp_path).shape == (1, 8, 8)
    for i in range(20):
        (tmp_path / "d").mkdir(exist_ok=True)
        colour.save(tmp_path / "d" / f"{i}.png")
    data = load_data(f"folder:{tmp_path}+size=8")
    assert data.shape == (3, 8, 8) and 0.3 < float(data.train.images[:].mean()) < 0.7


def test_floats_are_taken_as_they_are(tmp_path):
    some = deep(tmp_path, lambda: Image.fromarray(RNG.random((8, 8)).astype(np.float32)), "tif")
    assert len(folder_data(some).train.images[:].unique()) > 300


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image.fromarray(255 * RNG.random((8, 8)).astype(np.float32)), "must lie in"),
        (lambda: Image.fromarray(-RNG.random((8, 8)).astype(np.float32)), "must lie in"),
        (lambda: Image.fromarray(RNG.integers(0, 2**31, (8, 8)).astype(np.int32)), "32 bits"),
        (lambda: Image.fromarray(np.full((8, 8), np.nan, np.float32)), "must lie in"),
        (lambda: Image.fromarray(RNG.integers(0, 900, (8, 8)).astype(np.int32)), "32 bits"),
    ],
)
def test_pixels_whose_white_is_unknown_are_refused(tmp_path, make, words):
    with pytest.raises(DataError, match=words):
        folder_data(deep(tmp_path, make, "tif"))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64, 12), (12, 64, 64)),
        ((12, 64, 64), (12, 64, 64)),
        ((60, 80, 5), (5, 60, 80)),
        ((5, 60, 80), (5, 60, 80)),
        ((3, 8, 8), (3, 8, 8)),
        ((8, 8, 2), (2, 8, 8)),
        ((4, 4, 3), (3, 4, 4)),
        ((3, 4, 4), (3, 4, 4)),
        ((30, 20, 1), (1, 30, 20)),
        ((1, 8, 8), (1, 8, 8)),
        ((1, 1, 64), (1, 1, 64)),
        ((200, 100, 13), (13, 200, 100)),
    ],
)
def test_bands_stand_first_or_last(tmp_path, shape, expected):
    x = RNG.integers(0, 255, (30, *shape), dtype=np.uint8)
    data = load_data(arrays(tmp_path, x=x, y=np.arange(30) % 2))
    assert data.shape == expected
    lazily = load_data(arrays(tmp_path, x=x, y=np.arange(30) % 2), in_memory=0)
    assert torch.equal(lazily.test.images[:], data.test.images[:])


@pytest.mark.parametrize(
    "shape", [(8, 8, 8), (3, 32, 3), (4, 4, 12), (12, 4, 4), (60, 80, 50), (10, 60, 10), (1, 28, 1)]
)
def test_layouts_that_may_be_either_are_refused(tmp_path, shape):
    if shape == (12, 4, 4):
        shape = (12, 16, 12)
    x = np.zeros((30, *shape), np.uint8)
    with pytest.raises(DataError, match="may have their channels first or last"):
        load_data(arrays(tmp_path, x=x, y=np.arange(30) % 2))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1 + 2e-7, "1.0000002"),
        (1.0004, "1.0004"),
        (1.5, "1.5"),
        (255.0, "255"),
        (-1e-9, "-1e-09"),
    ],
)
def test_values_outside_are_said_with_enough_digits(tmp_path, value, words):
    x = X.copy()
    x[3, 2, 1] = value
    with pytest.raises(DataError, match=rf"must lie in \[0, 1\], got \[.*{words}") as refused:
        load_data(arrays(tmp_path, x=x, y=Y))
    assert "got [0, 1]" not in str(refused.value)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.int64, np.uint64, np.int8])
def test_whole_numbers_without_a_white_are_refused(tmp_path, kind):
    with pytest.raises(DataError, match="divide by the largest value"):
        load_data(arrays(tmp_path, x=np.ones((120, 8, 8), kind), y=Y))


# ---- what factories return


@pytest.mark.parametrize(
    "code",
    [
        "{'x': torch.rand(120, 8, 8, requires_grad=True), 'y': torch.arange(120) % 3}",
        "{'x': [torch.rand(8, 8, requires_grad=True) for _ in range(120)], 'y': [0, 1, 2] * 40}",
        "{'x': torch.rand(120, 1, 8, 8).bfloat16(), 'y': torch.arange(120) % 3}",
        "{'x': [[[0.5] * 8] * 8] * 120, 'y': tuple(range(3)) * 40}",
        "{'x': torch.rand(120, 8, 8).to_sparse(), 'y': torch.arange(120) % 3}",
        "{'x': torch.rand(120, 8, 8), 'y': torch.arange(120) % 3, 'class_names': ['a', 'b', 'c']}",
    ],
)
def test_arrays_of_other_libraries_are_taken(tmp_path, code):
    (tmp_path / "d.py").write_text(f"import torch\ndef make():\n    return {code}\n")
    data = load_data(f"{tmp_path}/d.py:make")
    assert data.shape == (1, 8, 8) and not data.train.images[:].requires_grad


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("{'x': [np.zeros((8, 8)), np.zeros((7, 8))], 'y': [0, 1]}", r"rows of \(7, 8\) and"),
        ("{'x': [[1, 2], [3]], 'y': [0, 1]}", r"x must be one array .* rows of \(1,\) and \(2,\)"),
        ("{'x': np.zeros((4, 8, 8)), 'y': [[0], [1, 2], [0], [0]]}", "y must be one array"),
        ("{'x': 3, 'y': [0, 1]}", "holds no images"),
        ("{'x': object(), 'y': [0, 1]}", "holds no images"),
        ("{'x': np.zeros((2, 8, 8)), 'y': ['cat', 'owl']}", "names go into class_names"),
        ("{'x': {}, 'y': []}", "holds no images"),
    ],
)
def test_ragged_and_strange_arrays_are_refused(tmp_path, code, words):
    (tmp_path / "d.py").write_text(f"import numpy as np\ndef make():\n    return {code}\n")
    with pytest.raises(DataError, match=words):
        load_data(f"{tmp_path}/d.py:make")


@pytest.mark.parametrize("fails", [SystemExit(0), KeyError("x"), OSError("gone"), AssertionError()])
def test_images_that_cannot_be_read_when_asked_for(fails):
    def read(positions):
        raise fails

    with pytest.raises(DataError, match="reading images raised"):
        _ = LazyImages(read, (1, 8, 8), torch.arange(5))[:2]


@pytest.mark.parametrize("seed", [10**20, -(10**20), 2**63, 0.5, "7", None])
def test_seeds_are_whole_numbers_of_64_bits(digits, plain, seed):
    for asked in (
        lambda: bc.audit(plain, digits, seed=seed),
        lambda: bc.fool(plain, [0], 1, data=digits, seed=seed),
        lambda: bc.harden("mlp", digits, seed=seed),
        lambda: bc.diagnose(plain, digits, seed=seed),
    ):
        with pytest.raises(ArgumentError, match="seed must be a whole number"):
            asked()


@pytest.mark.parametrize("source", ["npz:{}", "folder:{}/a.npz"])
def test_a_folder_is_no_file(tmp_path, source):
    arrays(tmp_path, x=X, y=Y)
    with pytest.raises(DataError, match="is a folder|is a file, must be a folder"):
        load_data(source.format(tmp_path))


@pytest.mark.parametrize("level", [9e-5, 1e-9, 1e-300])
def test_a_level_that_no_number_of_images_shows_is_refused_at_once(level):
    with pytest.raises(DataError, match=r"at least 0\.0001, which 10000 images"):
        check_size(10**6, level)


@pytest.mark.parametrize("most, said", [(1, "1 of 255"), (16, "16 of 255"), (25, "25 of 255")])
def test_bytes_on_another_scale_are_pointed_out(tmp_path, most, said):
    x, y = RNG.integers(0, most + 1, (200, 8, 8), dtype=np.uint8), np.arange(200) % 10

    def news() -> list[str]:
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        return load_data(f"npz:{tmp_path / 'own.npz'}").news()

    assert any(said in line and "scale the images" in line for line in news())
    x[:, 0, 0] = 200
    assert news() == []
