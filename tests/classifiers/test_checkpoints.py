"""Files of weights as people save them, and names as torch sees them."""

from __future__ import annotations

import argparse
import io
import re
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import blankcheck as bc
from blankcheck.classifiers import build
from blankcheck.classifiers.loading import parse_normalize, save_model
from blankcheck.classifiers.names import pairs_of
from blankcheck.cli.main import main
from blankcheck.errors import ArgumentError, ModelError


def plain_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(OrderedDict(a=nn.Flatten(), b=nn.Linear(64, 10)))


class Own(nn.Module):
    """With a submodule of any name, and buffers of any names."""

    def __init__(self, name: str = "module", buffers: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.add_module(name, nn.Linear(64, 10))
        self.name = name
        for each in buffers:
            self.register_buffer(each, torch.rand(1))

    def forward(self, x):
        return getattr(self, self.name)(x.flatten(1))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(64), nn.Linear(64, 10)

    def forward(self, x):
        return self.last(self.norm(x.flatten(1)))


def renamed(state, change):
    return {change(name): tensor for name, tensor in state.items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "make",
    [
        plain_net,
        Own,
        lambda: Own("_orig_mod"),
        lambda: Own("model"),
        lambda: Own("network", ("mean", "std")),
        lambda: Own("network", ("std", "mean", "n_averaged")),
        Normed,
        lambda: nn.DataParallel(plain_net()),
        lambda: nn.Sequential(Own("module"), nn.Identity()),
        lambda: torch.compile(plain_net()),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_network_takes_its_own_state(tmp_path, make, ending):
    trained, fresh = make(), make()
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    path = tmp_path / f"w.{ending}"
    state = trained.state_dict()
    torch.save(state, path) if ending == "pt" else save_file(dict(state), path)
    bc.load_model(fresh, weights=path)
    assert same(trained, fresh)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: f"module.{n}",
        lambda n: f"_orig_mod.{n}",
        lambda n: f"module._orig_mod.{n}",
        lambda n: f"_orig_mod.module.{n}",
        lambda n: f"model.{n}",
        lambda n: f"net.module.{n}",
        lambda n: f"state.model.module.{n}",
        lambda n: n.replace("b.", "b._orig_mod."),
    ],
)
@pytest.mark.parametrize("wrap", [lambda n: n, nn.DataParallel])
def test_prefixes_are_taken_off_as_often_as_they_stand_there(tmp_path, change, wrap):
    trained, fresh = plain_net(), plain_net()
    nn.init.normal_(trained.b.weight)
    torch.save(renamed(trained.state_dict(), change), tmp_path / "w.pt")
    bc.load_model(wrap(fresh), weights=tmp_path / "w.pt")
    assert same(trained, fresh)


@pytest.mark.parametrize(
    "extra",
    [
        {"n_averaged": torch.tensor(3)},
        {"module.n_averaged": torch.tensor(3), "n_averaged": torch.tensor(3)},
        {"criterion.weight": torch.ones(10)},
        {"loss.module.weight": torch.ones(10), "metric.total": torch.zeros(())},
    ],
)
def test_what_is_saved_beside_the_network_is_left_out(tmp_path, extra):
    trained, fresh = plain_net(), plain_net()
    nn.init.normal_(trained.b.weight)
    state = renamed(trained.state_dict(), lambda n: f"module.model.{n}") | extra
    torch.save(state, tmp_path / "w.pt")
    bc.load_model(fresh, weights=tmp_path / "w.pt")
    assert same(trained, fresh)


def test_two_networks_in_one_file_are_refused(tmp_path):
    state = plain_net().state_dict()
    both = renamed(state, lambda n: f"model.{n}") | renamed(state, lambda n: f"ema.{n}")
    torch.save(both, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="do not fit"):
        bc.load_model(plain_net(), weights=tmp_path / "w.pt")


def test_old_batch_norms_have_no_counts(tmp_path):
    trained, fresh = Normed(), Normed()
    trained.norm.running_mean.fill_(3.0)
    state = {n: t for n, t in trained.state_dict().items() if "num_batches" not in n}
    torch.save(renamed(state, lambda n: f"module.{n}"), tmp_path / "w.pt")
    bc.load_model(fresh, weights=tmp_path / "w.pt")
    assert float(fresh.norm.running_mean[0]) == 3.0


def test_hooks_of_a_network_may_know_other_names(tmp_path):
    def old(state, prefix, *_):
        for name in [n for n in state if n.startswith("old_")]:
            state[name[4:]] = state.pop(name)

    trained, fresh = plain_net(), plain_net()
    nn.init.normal_(trained.b.weight)
    fresh._register_load_state_dict_pre_hook(old)
    torch.save(renamed(trained.state_dict(), lambda n: f"old_{n}"), tmp_path / "w.pt")
    bc.load_model(fresh, weights=tmp_path / "w.pt")
    assert same(trained, fresh)


CONTAINERS = ["state_dict", "model_state_dict", "model", "net", "params", "weights", "ema"]


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("more", [{}, {"epoch": 3}, {"optimizer": {"state": {}, "lr": 0.1}}])
def test_the_state_dict_in_a_checkpoint(tmp_path, name, more):
    trained, fresh = plain_net(), plain_net()
    nn.init.normal_(trained.b.weight)
    torch.save({name: trained.state_dict(), **more}, tmp_path / "c.ckpt")
    bc.load_model(fresh, weights=tmp_path / "c.ckpt")
    assert same(trained, fresh)


def test_a_lightning_checkpoint(tmp_path):
    trained, fresh = plain_net(), plain_net()
    nn.init.normal_(trained.b.weight)
    state = renamed(trained.state_dict(), lambda n: f"model.{n}")
    loops = {"fit_loop": {"state_dict": {}}}
    made = {"state_dict": state, "epoch": 1, "global_step": 9, "loops": loops}
    torch.save(made, tmp_path / "l.ckpt")
    bc.load_model(fresh, weights=tmp_path / "l.ckpt")
    assert same(trained, fresh)


def test_a_lightning_checkpoint_with_objects_in_it_asks_to_be_trusted(tmp_path):
    trained, fresh = plain_net(), plain_net()
    nn.init.normal_(trained.b.weight)
    state = renamed(trained.state_dict(), lambda n: f"net.{n}")
    made = {"state_dict": state, "hyper_parameters": argparse.Namespace(lr=0.1)}
    torch.save(made, tmp_path / "l.ckpt")
    with pytest.raises(
        ModelError, match="holds more than tensors; .*trust it with --unsafe-pickle"
    ):
        bc.load_model(fresh, weights=tmp_path / "l.ckpt")
    bc.load_model(fresh, weights=tmp_path / "l.ckpt", unsafe_pickle=True)
    assert same(trained, fresh)


@pytest.mark.parametrize(
    ("hold", "part"),
    [
        (lambda one, two: [one, two], "2"),
        (lambda one, two: {"epoch": 1, "state_dict": (one, two)}, "2"),
        (lambda one, two: {"params": one, "ema": two}, "ema"),
        (lambda one, two: {"state_dict": one, "ema": two}, "ema"),
        (lambda one, two: [two], None),
    ],
)
def test_one_of_several_state_dicts(tmp_path, hold, part):
    one, two, fresh = plain_net(), plain_net(), plain_net()
    nn.init.normal_(two.b.weight)
    path = tmp_path / "several.pt"
    torch.save(hold(one.state_dict(), two.state_dict()), path)
    bc.load_model(fresh, weights=f"{path}#{part}" if part else path)
    assert same(two, fresh)


@pytest.mark.parametrize("part", ["0", "3", "ema", "-1"])
def test_a_part_that_is_not_there(tmp_path, part):
    torch.save([STATE, STATE], tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds a list of 2; pick one: FILE#1 to FILE#2"):
        bc.load_model(plain_net(), weights=f"{tmp_path}/w.pt#{part}")
    torch.save(STATE, tmp_path / "w.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    for file in ("w.pt", "w.safetensors"):
        with pytest.raises(ModelError, match=f"leave out #{part}"):
            bc.load_model(plain_net(), weights=f"{tmp_path}/{file}#{part}")


def test_a_file_may_have_a_hash_in_its_name(tmp_path):
    torch.save(STATE, tmp_path / "w#2.pt")
    torch.save(STATE, tmp_path / "w.pt#2")
    for name in ("w#2.pt", "w.pt#2"):
        assert same(bc.load_model(plain_net(), weights=tmp_path / name).network, plain_net())


def script(path) -> None:
    torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).save(path)


def program(path) -> None:
    torch.export.save(torch.export.export(plain_net(), (torch.zeros(2, 1, 8, 8),)), path)


def cut(path) -> None:
    buffer = io.BytesIO()
    torch.save(plain_net().state_dict(), buffer)
    path.write_bytes(buffer.getvalue()[:900])


def saved(value):
    return lambda path: torch.save(value, path)


STATE = plain_net().state_dict()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (script, "is a TorchScript archive; give it as --model"),
        (program, "is a program of torch.export; give it as --model"),
        (cut, "is damaged: its end is missing"),
        (saved({"ema": STATE, "params": STATE}), "with 'ema', 'params'; pick one: FILE#ema"),
        (saved({"epoch": 3, "lr": 0.1}), "a dictionary with 'epoch', 'lr'"),
        (saved({}), "a dictionary with nothing in it"),
        (saved([STATE, STATE]), "holds a list of 2; pick one: FILE#1 to FILE#2"),
        (saved(STATE["b.weight"]), "must hold a state dict, got Tensor"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is not a readable PyTorch file"),
        (lambda path: path.write_bytes(b"PK" + b"x" * 50), "its end is missing"),
        (lambda path: path.write_bytes(b"\x80\x02" + b"x" * 50), "weights file"),
        (saved({n: (t * 100).to(torch.int8) for n, t in STATE.items()}), "is torch.int8, where"),
        (saved({n: t.long() for n, t in STATE.items()}), "is torch.int64, where"),
        (saved({n: t > 0 for n, t in STATE.items()}), "is torch.bool, where"),
        (saved({n: t / 0 for n, t in STATE.items()}), "NaN or infinity"),
        (saved({"b.weight": STATE["b.weight"]}), "missing 'b.bias'"),
        (saved(STATE | {"c.weight": torch.ones(3)}), "unexpected 'c.weight'"),
        (saved(STATE | {"b.bias": torch.ones(3)}), "wrong shape of 'b.bias'"),
    ],
)
def test_files_that_are_something_else_say_what(tmp_path, write, words, capfd):
    write(tmp_path / "w.pt")
    with pytest.raises(ModelError, match=re.escape(words)) as refused:
        bc.load_model(plain_net(), weights=tmp_path / "w.pt")
    assert "\n" not in str(refused.value) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_precision_are_weights(tmp_path, kind):
    torch.save({n: t.to(kind) for n, t in STATE.items()}, tmp_path / "w.pt")
    fresh = bc.load_model(plain_net(), weights=tmp_path / "w.pt")
    assert next(fresh.parameters()).dtype == torch.float32


def test_a_pickled_network_whose_class_is_gone(tmp_path, monkeypatch):
    import sys
    import types

    module = types.ModuleType("module_that_goes")
    exec("from torch import nn\nclass Net(nn.Linear):\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "module_that_goes", module)
    torch.save(module.Net(64, 10), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="holds more than tensors"):
        bc.load_model(plain_net(), weights=tmp_path / "whole.pt")
    monkeypatch.delitem(sys.modules, "module_that_goes")
    with pytest.raises(ModelError, match="whose code is not at hand.*save its state_dict"):
        bc.load_model(plain_net(), weights=tmp_path / "whole.pt", unsafe_pickle=True)


class Ends:
    def __reduce__(self):
        import sys

        return sys.exit, (0,)


def test_a_pickle_that_ends_the_program(tmp_path):
    torch.save({"a": Ends()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="SystemExit"):
        bc.load_model(plain_net(), weights=tmp_path / "w.pt", unsafe_pickle=True)


def test_a_program_that_was_cut_off_is_one_line(tmp_path, capfd):
    program(tmp_path / "p.pt2")
    raw = (tmp_path / "p.pt2").read_bytes()
    (tmp_path / "p.pt2").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ModelError, match="is damaged: its end is missing"):
        bc.load_model(str(tmp_path / "p.pt2"), unsafe_pickle=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("own", "given", "found"),
    [
        (["a", "b"], ["a", "b"], {"a": "a", "b": "b"}),
        (["module.a"], ["module.a"], {"module.a": "module.a"}),
        (["module.a"], ["a"], {"module.a": "a"}),
        (["a"], ["x.y.a"], {"a": "x.y.a"}),
        (["x.a"], ["x.x.a"], {"x.a": "x.x.a"}),
        (["a.b", "module.a.b"], ["a.b", "module.a.b"], {"a.b": "a.b", "module.a.b": "module.a.b"}),
        (["a"], ["a", "b"], None),
        (["a", "b"], ["a"], None),
        (["a"], [], None),
        (["n.weight", "n.num_batches_tracked"], ["n.weight"], {"n.weight": "n.weight"}),
    ],
)
def test_pairs_of_names(own, given, found):
    assert pairs_of(own, given) == found


# ---- normalisation


@pytest.mark.parametrize(
    "text", ["nan/1", "0.5/inf", "0.5/nan", "inf/1", "-inf/1", "0.5/0", "0.1,0.2/1,nan", "0.5/-1"]
)
def test_constants_that_are_no_numbers_are_refused(text):
    with pytest.raises(ArgumentError, match="finite"):
        parse_normalize(text)


@pytest.mark.parametrize(
    "given",
    [
        ((float("nan"),), (1.0,)),
        ((0.5,), (float("inf"),)),
        ((0.5,), (1e-60,)),
        ((), ()),
        ((1, 2), (1,)),
        (0.3, 0.38),
        "0.3/0.38",
    ],
)
def test_constants_given_from_python_are_as_well(given):
    with pytest.raises(ArgumentError, match="normalize must be"):
        bc.load_model(plain_net(), normalize=given)


@pytest.fixture
def mlp(tmp_path, digits):
    save_model(build("mlp", digits.shape, 10, digits.mean_and_std()), tmp_path / "w.safetensors")
    return str(tmp_path / "w.safetensors")


@pytest.mark.parametrize("command", ["audit", "doctor", "certify", "gate", "harden"])
def test_built_in_networks_carry_their_normalisation(capsys, mlp, tmp_path, command):
    words = [command, "--weights", mlp, "--normalize", "0.1/0.2", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "normalize differs from the normalisation saved in weights" in err


def test_a_built_in_network_that_is_trained_takes_that_of_its_data(capsys, tmp_path):
    assert main(["harden", "--normalize", "0.1/0.2", "--out", str(tmp_path / "out")]) == 2
    assert "normalises by the mean and deviation of its training data" in capsys.readouterr().err


def test_the_same_normalisation_may_be_given_again(mlp, digits):
    assert bc.load_model("mlp", mlp, normalize=digits.mean_and_std()).normalised
