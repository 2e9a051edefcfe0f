"""Data sets from Python: arrays, torch datasets of any kind, loaders, and those of Hugging Face."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import blankcheck as bc
from blankcheck.auditing import PRESETS, Preset
from blankcheck.classifiers import UnitClassifier
from blankcheck.cli.main import main
from blankcheck.data.loading import load_data, runs_code
from blankcheck.errors import DataError, ModelError

N = 120
NOISE = torch.randint(0, 256, (N, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
X, Y = NOISE.float() / 255, torch.arange(N) % 3
PAIRS = TensorDataset(X, Y)


class Pictures(Dataset):
    """As torchvision has them: Pillow images, `classes` and `targets`, and a count of what was
    decoded."""

    classes = ["ant", "bee", "cat"]

    def __init__(self, mode: str = "L", side: int = 8):
        self.mode, self.side, self.targets, self.decoded = mode, side, Y.tolist(), 0

    def __len__(self):
        return N

    def __getitem__(self, position: int):
        self.decoded += 1
        image = Image.fromarray(NOISE[position, 0].numpy()).resize((self.side, self.side))
        return image.convert(self.mode), self.targets[position]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def same(one: bc.Data, other: bc.Data) -> bool:
    return one.fingerprint == other.fingerprint


# ---- arrays


@pytest.mark.parametrize("kind", [Tensor.numpy, Tensor.clone, list])
def test_arrays_of_any_kind_are_one_data_set(kind):
    data = bc.Data.from_arrays(kind(X), kind(Y))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [96, 12, 12]
    assert same(data, bc.Data.from_arrays(X, Y)) and data.classes == ("0", "1", "2")


def test_arrays_with_their_own_splits():
    more = {"validation": (X[:9], Y[:9]), "class_names": ["a", "b", "c"], "source": "mine"}
    data = bc.Data.from_arrays(X, Y, test=(X[:6], Y[:6]), **more)
    assert (data.source, data.classes) == ("mine", ("a", "b", "c"))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [N, 9, 6]
    with pytest.raises(DataError, match="validation needs a test set"):
        bc.Data.from_arrays(X, Y, validation=(X, Y))
    with pytest.raises(DataError, match="class_names has 2 names, labels go to 2"):
        bc.Data.from_arrays(X, Y, class_names=["a", "b"])


def test_large_arrays_stay_as_they_are():
    lazy = bc.Data.from_arrays(NOISE, Y, in_memory=0)
    assert isinstance(lazy.train.images, bc.LazyImages) and same(lazy, bc.Data.from_arrays(X, Y))


# ---- datasets


@pytest.mark.parametrize(
    "dataset",
    [
        PAIRS,
        Pictures(),
        Stream(),
        list(zip(X, Y.tolist(), strict=True)),
        [{"img": x, "label": y} for x, y in zip(X.numpy(), Y, strict=True)],
        DataLoader(PAIRS, batch_size=7, shuffle=True, drop_last=True),
        DataLoader(Stream(), batch_size=7),
        DataLoader(PAIRS, batch_size=None, shuffle=True),
        DataLoader(Stream(), batch_size=None),
        DataLoader([{"image": x, "label": y} for x, y in zip(X, Y, strict=True)], shuffle=True),
    ],
    ids=[
        "tensors",
        "pictures",
        "stream",
        "list",
        "tables",
        "loader",
        "streams",
        "single",
        "singles",
        "tables-l.",
    ],
)
def test_any_dataset_is_the_same_data_set(dataset):
    made = bc.Data.from_dataset(dataset)
    assert same(made, bc.Data.from_arrays(X, Y))
    if isinstance(dataset, DataLoader):
        assert same(bc.Data.from_dataloader(dataset), made)


def test_a_loader_gives_the_items_that_its_sampler_has_once_each():
    sampler = torch.utils.data.SubsetRandomSampler([*range(60), *range(30)])
    before = torch.get_rng_state()
    made = bc.Data.from_dataloader(DataLoader(PAIRS, sampler=sampler, batch_size=8))
    assert same(made, bc.Data.from_arrays(X[:60], Y[:60])) and made.source == "TensorDataset"
    assert torch.equal(before, torch.get_rng_state()), "samplers draw from another stream"


def test_names_and_splits_come_from_the_dataset():
    train, test = Subset(Pictures(), range(90)), Subset(Pictures(), range(90, N))
    data = bc.Data.from_dataset(train, test)
    assert data.classes == ("ant", "bee", "cat") and data.source == "Subset"
    assert [len(s) for s in (data.train, data.validation, data.test)] == [81, 9, 30]
    assert torch.equal(data.test.images, X[90:]) and torch.equal(data.test.labels, Y[90:])
    named = bc.Data.from_dataset({"train": train, "validation": test}, source="mine")
    assert torch.equal(named.test.labels, Y[90:])
    assert named.notes == ("the images of validation are the test images: there are no others",)


def test_large_datasets_are_decoded_when_asked_for():
    pictures = Pictures("RGB", side=12)
    data = bc.Data.from_dataset(pictures, size=8, in_memory=0)
    assert isinstance(data.train.images, bc.LazyImages) and data.shape == (3, 8, 8)
    at_the_door, pictures.decoded = pictures.decoded, 0
    data.train.images[:5]
    assert pictures.decoded < 10 and at_the_door < 2 * N
    assert same(data, bc.Data.from_dataset(Pictures("RGB", side=12), size=8))


def test_labels_kept_apart_are_held_against_the_items():
    class Turned(Pictures):
        def __getitem__(self, position: int):
            image, label = super().__getitem__(position)
            return image, 2 - label

    data = bc.Data.from_dataset(Turned(), Turned())
    assert torch.equal(data.test.labels, 2 - Y)


def test_labels_may_be_text():
    items = [(x, ["owl", "cat", "bat"][y]) for x, y in zip(X, Y, strict=True)]
    data = bc.Data.from_dataset(items, items)
    assert data.classes == ("bat", "cat", "owl") and torch.equal(data.test.labels, 2 - Y)
    given = bc.Data.from_dataset(items, items, class_names=["owl", "cat", "bat"])
    assert torch.equal(given.test.labels, Y)

    class Named(list):
        classes = ["owl", "cat", "bat"]

    assert torch.equal(bc.Data.from_dataset(Named(items), items).test.labels, Y)
    with pytest.raises(DataError, match="labels must be names of class_names, got 'bat'"):
        bc.Data.from_dataset(items, class_names=["owl", "cat", "dog"])


class Fails(Pictures):
    def __getitem__(self, position: int):
        if position == 77:
            raise KeyError("gone")
        return super().__getitem__(position)


class Flips(Pictures):
    def __getitem__(self, position: int):
        return torch.rand(1, 8, 8), self.targets[position]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (Fails(), r"reading item 77 raised KeyError: 'gone' \(test_datasets.py, line"),
        (Flips(), "gives another image when it is asked again: leave random transforms out"),
        (TensorDataset(2 * X - 1, Y), r"\[0, 1\], got \[-1, 1\]; a Normalize in its transform"),
        (TensorDataset(X, nn.functional.one_hot(Y)), r"take .argmax\(1\)"),
        (TensorDataset(NOISE.long(), Y), "divide by the largest value"),
        ([(torch.rand(1, 8 + i % 2, 8), 0) for i in range(9)], "must have one size, got .*size=N"),
        ([{"bild": X[0], "art": 1}], "items have bild, art, and no image or img; say which"),
        (X, "must be a dataset of .image, label., got Tensor"),
        ("mnist", "must be a dataset of .image, label., got str"),
        ([X[0]], "items must be .image, label., got Tensor at position 0"),
        ([], "holds no images"),
        (None, "must have images to train on"),
        ({"test": PAIRS}, "must have a split named train, got test"),
    ],
)
def test_what_is_no_dataset_is_one_line(dataset, words):
    with pytest.raises(DataError, match=words) as raised:
        bc.Data.from_dataset(dataset)
    assert "\n" not in str(raised.value)


def test_a_stream_beyond_memory_is_refused():
    with pytest.raises(DataError, match="can only be read in turn must fit into memory"):
        bc.Data.from_dataset(Stream(), in_memory=1000)


# ---- other sizes and channels


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_images_are_resized_and_coloured(in_memory):
    data = bc.Data.from_arrays(X, Y, in_memory=in_memory)
    made = data.variant("+resize=4,12+channels=3")
    assert made.shape == (3, 4, 12) and made.source == "arrays+resize=4,12+channels=3"
    image = made.train.images[:]
    assert torch.equal(image[:, 0], image[:, 2])
    assert torch.allclose(made.variant("+channels=1").train.images[:], image[:, :1], atol=1e-6)
    whole = nn.functional.avg_pool2d(data.train.images[:], 8)
    small = data.variant("+resize=1").train.images[:]
    assert (small - whole).abs().max() < 0.1, "smaller images are averages"


def test_colours_become_grey_as_pillow_makes_them():
    pictures = torch.randint(0, 256, (N, 8, 8, 3)).byte()
    grey = torch.stack(
        [torch.tensor(np.asarray(Image.fromarray(p.numpy()).convert("L"))) for p in pictures]
    )
    data = bc.Data.from_arrays(pictures, Y, test=(pictures, Y)).variant("+channels=1")
    assert (data.test.images[:, 0] * 255 - grey).abs().max() <= 1


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("+resize=0", "resize must be N or HEIGHT,WIDTH"),
        ("+resize", "resize must be N .*, got nothing"),
        ("+channels=2", r"channels must be 1 \(grey\) or 3 \(colour\)"),
        ("+size=8", "variant must be"),
        ("resize=8", "variant must be"),
        ("+resize=8+resize=9", "resize must be given once"),
    ],
)
def test_impossible_variants_are_refused(variant, words):
    with pytest.raises(DataError, match=words):
        bc.Data.from_arrays(X, Y).variant(variant)


def test_channels_that_are_no_colours_stay():
    with pytest.raises(DataError, match="images of 2 channels cannot be made 3"):
        bc.Data.from_arrays(X.expand(-1, 2, -1, -1), Y).variant("+channels=3")


@pytest.mark.parametrize(
    ("layers", "variant"),
    [
        ([nn.Flatten(), nn.Linear(28 * 28, 10)], "+resize=28"),
        ([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 10)], "+channels=3"),
        ([nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 900, 10)], "+resize=32+channels=3"),
    ],
)
def test_a_network_for_other_images_names_what_helps(digits, layers, variant):
    network = nn.Sequential(*layers)
    words = f"it takes them with {variant} behind the name of the data"
    with pytest.raises(ModelError, match=re.escape(words)):
        bc.audit(network, digits, "smoke")
    assert network(digits.variant(variant).test.images[:2]).shape == (2, 10)


def test_a_network_that_takes_nothing_is_told_nothing(digits):
    with pytest.raises(ModelError, match="cannot take images .* of data 'digits'$"):
        bc.audit(nn.Linear(5, 5), digits, "smoke")


def test_means_of_other_channels_are_named_as_the_cause(digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model = UnitClassifier(network, ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)))
    with pytest.raises(ModelError, match="; normalize has 3 means for images of 1 channel$"):
        bc.audit(model, digits, "smoke")
    assert model.normalisation == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


# ---- Hugging Face


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A folder with a data set as `save_to_disk` writes it, and as Parquet files."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("hub")
    names = datasets.ClassLabel(names=["ant", "bee", "cat"])
    kinds = datasets.Features({"image": datasets.Image(), "label": names})
    pictures = [Image.fromarray(x.numpy()) for x in NOISE[:, 0]]
    table = {"image": pictures, "label": Y.tolist()}
    whole = datasets.Dataset.from_dict(table, features=kinds)
    whole.save_to_disk(str(folder / "saved"))
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(str(folder / "splits"))
    for part in ("train", "test"):
        whole.to_parquet(str(folder / "files" / f"{part}-00000-of-00001.parquet"))
    return folder


@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_a_dataset_of_hugging_face(hub, form):
    datasets = pytest.importorskip("datasets")
    dataset = datasets.load_from_disk(str(hub / "saved")).with_format(form)
    data = bc.Data.from_dataset(dataset)
    assert data.classes == ("ant", "bee", "cat") and same(data, bc.Data.from_arrays(X, Y))


def test_a_data_set_of_hugging_face_by_name(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    whole = load_data(f"hf:{hub / 'saved'}")
    assert same(whole, bc.Data.from_arrays(X, Y))
    split = bc.Data.from_arrays(X, Y, test=(X, Y))
    for place in ("splits", "files"):
        assert same(load_data(f"hf:{hub / place}"), split)
    assert same(load_data(str(hub / "files/test-00000-of-00001.parquet")), whole)
    assert load_data(f"hf:{hub / 'saved'}+size=4,6+lift").shape == (1, 4, 4)
    assert not runs_code(f"hf:{hub / 'saved'}") and runs_code("hf:someone/something")


def test_parquet_files_of_others(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))

    def png(image: Tensor) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image.numpy()).save(file, "PNG")
        return file.getvalue()

    rows = {"image": [png(x) for x in NOISE[:, 0]], "label": [f"n{y}" for y in Y.tolist()]}
    pandas.DataFrame(rows).to_parquet(tmp_path / "mine.parquet")
    data = load_data(f"{tmp_path}/mine.parquet")
    assert data.classes == ("n0", "n1", "n2") and same(data, bc.Data.from_arrays(X, Y))


def test_what_hugging_face_lacks_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(DataError, match="data file .*none.parquet does not exist"):
        load_data(f"{tmp_path}/none.parquet")
    (tmp_path / "broken.parquet").write_text("no parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'blankcheck\[datasets\]'"):
        load_data(f"{tmp_path}/broken.parquet")


# ---- from a file to a report

FACTORY = """
import blankcheck as bc
import torch
from torch.utils.data import Dataset

class Mine(Dataset):
    classes = list("0123456789")

    def __init__(self):
        self.images, self.labels = torch.load("digits.pt")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, position):
        return self.images[position], int(self.labels[position])

def make():
    return bc.Data.from_dataset(Mine())
"""


@pytest.mark.parametrize(("source", "name"), [("hf:saved", "hf:saved"), ("data.py:make", "Mine")])
def test_from_a_data_set_to_a_report(source, name, digits, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=20, per_target=2, steps=60))
    monkeypatch.setattr("blankcheck.classifiers.training.MIN_STEPS", 100)
    splits = digits.train, digits.validation, digits.test
    images = (torch.cat([s.images for s in splits]) * 255).round().byte()
    labels = torch.cat([s.labels for s in splits])
    if source == "hf:saved":
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        pictures = [Image.fromarray(x.numpy()) for x in images[:, 0]]
        table = {"image": pictures, "label": labels.tolist()}
        names = datasets.ClassLabel(names=list(digits.classes))
        kinds = datasets.Features({"image": datasets.Image(), "label": names})
        datasets.Dataset.from_dict(table, features=kinds).save_to_disk("saved")
    else:
        torch.save((images, labels), "digits.pt")
        (tmp_path / "data.py").write_text(FACTORY)
    given = ["--data", source, "--weights", str(weights)]
    assert main(["audit", *given, "--preset", "smoke", "--out", "run"]) == 10
    said = capsys.readouterr()
    assert "FOOLED" in said.out and f"{name}: 1437 training images of 1x8x8" in said.err
    assert source in (tmp_path / "run/report.html").read_text()
    found = bc.verify("run", data=None if source == "hf:saved" else source)
    assert found.word == "CONFIRMED", str(found)
