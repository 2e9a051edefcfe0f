"""Networks from files that hold all of one, as other tools write them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.api.harden import check_network, plan_of
from blankcheck.classifiers import TrainingPlan, fingerprint, train_plainly
from blankcheck.classifiers.loading import save_model
from blankcheck.classifiers.trial import check_trainable, try_out
from blankcheck.errors import ModelError
from blankcheck.factories import importable


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10)
    return nn.Sequential(*layers)


def script(path: Path) -> None:
    torch.jit.script(network()).save(path)  # in training mode, as it often is


def program(path: Path) -> None:
    some, any_batch = torch.zeros(2, 1, 8, 8), {0: torch.export.Dim("n")}
    made = torch.export.export(network().eval(), (some,), dynamic_shapes=(any_batch,))
    torch.export.save(made, path)


def pickled(path: Path) -> None:
    torch.save(network().half(), path)


def checkpoint(path: Path) -> None:
    torch.save({"epoch": 3, "model": network()}, path)


def onnx(path: Path) -> None:
    """As exporters of other tools write it, at opset 13."""
    library = pytest.importorskip("onnx")
    if find_spec("onnx2torch") is None:  # to import it here would take torchvision
        pytest.skip("needs onnx2torch")
    from onnx import TensorProto, helper, numpy_helper

    first, last = (layer for layer in network() if isinstance(layer, nn.Linear))
    state = {"w": first.weight, "b": first.bias, "v": last.weight, "a": last.bias}
    held = [numpy_helper.from_array(t.detach().numpy(), name) for name, t in state.items()]
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "a"], ["y"], transB=1),
    ]
    sizes = {"x": ["n", 1, 8, 8], "y": ["n", 10]}
    ends = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in sizes.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    opset = [helper.make_opsetid("", 13)]
    library.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


KINDS = {"onnx": onnx, "pth": script, "pt2": program, "pt": pickled, "ckpt": checkpoint}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_answers_as_the_network_that_it_was_made_from(tmp_path, kind):
    path = tmp_path / f"net.{kind}"
    KINDS[kind](path)
    loaded, images = bc.load_model(str(path), unsafe_pickle=True), torch.rand(5, 1, 8, 8)
    rounding = {"atol": 1e-2, "rtol": 1e-2} if kind == "pt" else {}
    assert_close(loaded(images), network().eval()(images), **rounding)
    assert try_out(loaded, images) == "logits"


@pytest.mark.parametrize("kind", ["onnx", "pt"])
def test_a_network_of_modules_is_trained_and_loaded_again(tmp_path, digits, kind):
    path = tmp_path / f"net.{kind}"
    KINDS[kind](path)
    loaded = bc.load_model(str(path), unsafe_pickle=True)
    first = fingerprint(loaded)
    check_network(loaded, digits, "max-entropy", plan_of(digits, 1, 1, {}))
    train_plainly(loaded, digits.train.sample(200, seed=0), TrainingPlan(1), seed=0)
    assert fingerprint(loaded) != first
    save_model(loaded, tmp_path / "w.safetensors")
    again = bc.load_model(str(path), tmp_path / "w.safetensors", unsafe_pickle=True)
    assert fingerprint(again) == fingerprint(loaded)


@pytest.mark.parametrize("kind", ["pth", "pt2"])
def test_what_cannot_be_trained_says_so(tmp_path, kind):
    KINDS[kind](tmp_path / f"net.{kind}")
    loaded = bc.load_model(str(tmp_path / f"net.{kind}"), unsafe_pickle=True)
    with pytest.raises(ModelError, match=r"which can be audited but not trained or hardened"):
        check_trainable(loaded)
    torch.save(network().state_dict(), tmp_path / "w.pt")
    with pytest.raises(bc.ArgumentError, match="weights cannot be given with a .*carries its own"):
        bc.load_model(str(tmp_path / f"net.{kind}"), tmp_path / "w.pt", unsafe_pickle=True)


def state(path: Path) -> None:
    torch.save(network().state_dict(), path)


@pytest.mark.parametrize(
    ("write", "name", "words"),
    [
        (pickled, "net.pt", "holds more than tensors; .*trust it with --unsafe-pickle"),
        (program, "net.pt2", "that can run code; trust it with --unsafe-pickle"),
        (program, "net.pt", "is a program of torch.export"),
        (state, "net.pt", "holds no whole network: give it as --weights"),
        (state, "net.safetensors", "holds no whole network: give it as --weights"),
        (lambda path: path.write_bytes(b"?"), "net.ckpt", "is not a readable PyTorch file"),
        (lambda path: path.mkdir(), "net.pt", "is a folder"),
        (lambda path: None, "net.onnx", "does not exist"),
    ],
)
def test_what_else_a_file_may_be_is_one_line(tmp_path, capfd, write, name, words):
    write(tmp_path / name)
    with pytest.raises(ModelError, match=words) as refused:
        bc.load_model(str(tmp_path / name))
    assert "\n" not in str(refused.value) and capfd.readouterr() == ("", "")


def test_a_file_that_is_no_onnx_model(tmp_path, capfd):
    onnx(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model that onnx2torch knows"):
        bc.load_model(str(tmp_path / "net.onnx"))
    assert capfd.readouterr() == ("", "")


def test_without_the_library_for_onnx(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"?")
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(ModelError, match=r"needs the package onnx2torch.*'blankcheck\[onnx\]'"):
        bc.load_model(str(tmp_path / "net.onnx"))
    assert "torchvision" not in sys.modules or vars(sys.modules["torchvision"]).get("__file__")


def test_the_class_of_a_pickled_network_is_found_beside_the_file(tmp_path, monkeypatch):
    code = "from torch import nn\nclass Net(nn.Linear):\n    pass"
    (tmp_path / "module_beside.py").write_text(code)
    with importable(str(tmp_path)):
        import module_beside

        torch.save(module_beside.Net(64, 10), tmp_path / "net.pt")
    monkeypatch.delitem(sys.modules, "module_beside")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    loaded = bc.load_model(str(tmp_path / "net.pt"), unsafe_pickle=True)
    assert type(loaded.network).__name__ == "Net"
