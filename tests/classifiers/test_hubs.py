"""Networks of model hubs, with small stand-ins for both libraries, which are extras."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import blankcheck as bc
from blankcheck.runs.folder import RunFolder


class Small(nn.Module):
    """Answers with a record, as networks of transformers do."""

    def __init__(self, record: bool) -> None:
        super().__init__()
        self.linear, self.record = nn.Linear(64, 10), record

    def forward(self, pixel_values):
        out = self.linear(pixel_values.flatten(1))
        return SimpleNamespace(logits=out) if self.record else out


@pytest.fixture
def timm(monkeypatch):
    module, asked = ModuleType("timm"), []

    def create_model(name, pretrained):
        asked.append((name, pretrained))
        if name != "small":
            raise RuntimeError(f"Unknown model\n({name})")
        made = Small(record=False)
        made.pretrained_cfg = {"mean": (0.25,), "std": (0.5,)}
        return made

    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


@pytest.fixture
def transformers(monkeypatch):
    module, base = ModuleType("transformers"), ModuleType("transformers.image_processing_base")
    calls = []

    class Kind:
        @staticmethod
        def from_pretrained(name, **options):
            calls.append(options)
            if name == "nobody/none":
                raise OSError("no such repository")
            return Small(record=True)

        @staticmethod
        def from_config(config, **options):
            calls.append(options)
            return Small(record=True)

    class Mixin:
        @staticmethod
        def get_image_processor_dict(name):
            if name == "plain/silent":
                raise OSError("no preprocessor_config.json")
            return {
                "do_normalize": name != "plain/off",
                "image_mean": [0.1],
                "image_std": [0.2],
            }, {}

    module.AutoConfig = SimpleNamespace(from_pretrained=lambda name, **options: name)
    module.AutoModelForImageClassification, base.ImageProcessingMixin = Kind, Mixin
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.setitem(sys.modules, "transformers.image_processing_base", base)
    return calls


def test_a_timm_network_brings_its_normalisation(timm):
    made = bc.load_model("timm:small")
    assert timm == [("small", True)]
    assert made.mean.flatten().tolist() == [0.25] and made.std.flatten().tolist() == [0.5]
    assert bc.load_model("timm:small", normalize=((0.5,), (1.0,))).mean.item() == 0.5
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(made(images), made.network((images - 0.25) / 0.5))


def test_own_weights_take_the_place_of_published_ones(timm, tmp_path):
    trained = Small(record=False)
    torch.save(trained.state_dict(), tmp_path / "own.pt")
    made = bc.load_model("timm:small", tmp_path / "own.pt")
    assert timm == [("small", False)]
    assert torch.equal(made.network.linear.weight, trained.linear.weight)


@pytest.mark.parametrize(
    ("name", "mean"), [("a/b", 0.1), ("plain/off", 0.0), ("plain/silent", 0.0)]
)
def test_a_network_of_transformers_answers_with_logits(transformers, name, mean):
    made = bc.load_model(f"hf:{name}")
    assert made.mean.item() == pytest.approx(mean)
    assert made(torch.rand(4, 1, 8, 8)).shape == (4, 10)
    assert list(made.network.state_dict()) == ["linear.weight", "linear.bias"], (
        "names of saved weights stay"
    )


def test_no_code_of_a_repository_is_run_and_pickles_only_when_trusted(transformers, tmp_path):
    bc.load_model("hf:a/b")
    bc.load_model("hf:a/b", unsafe_pickle=True)
    torch.save(Small(record=True).state_dict(), tmp_path / "own.pt")
    bc.load_model("hf:a/b", tmp_path / "own.pt")
    assert [c["trust_remote_code"] for c in transformers] == [False] * 3
    assert [c.get("use_safetensors") for c in transformers] == [True, None, None]


def test_what_cannot_be_had_is_one_line(timm, transformers, monkeypatch):
    with pytest.raises(bc.ModelError, match=r"could not be made by timm: Unknown model \(other\)"):
        bc.load_model("timm:other")
    with pytest.raises(
        bc.ModelError, match="could not be made by transformers: no such repository"
    ):
        bc.load_model("hf:nobody/none")
    for name, package in (("timm:small", "timm"), ("hf:a/b", "transformers")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(bc.ModelError, match=rf"needs the package {package}.*pip install"):
            bc.load_model(name)


def test_a_run_folder_from_a_stranger_fetches_nothing(timm, tmp_path):
    from blankcheck.api.reopen import model_again

    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(bc.ArgumentError, match="run folders run no code"):
        model_again(run, {"model": "timm:small"}, None)
    with pytest.raises(bc.ArgumentError, match="names no model: .*model=... from Python"):
        model_again(run, {}, None)
    with pytest.raises(bc.ModelError, match="gone.pt does not exist, as run folder .*--weights"):
        model_again(run, {"weights": "gone.pt"}, None, model="net.py:make")
    assert timm == []
