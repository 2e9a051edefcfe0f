"""Code of users is called: whatever it raises, prints, sets or writes is its own affair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import blankcheck as bc
from blankcheck.cli.main import main
from blankcheck.errors import DataError, ModelError
from blankcheck.outputs import run
from blankcheck.users import place_of, settings_kept

HEAD = """
import os, sys
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = small()
    def forward(self, x):
        return self.body(x)
"""
FORWARD = {
    "exit": ("sys.exit(0)", "SystemExit: 0 (net.py, line "),
    "assert": ("assert x.shape[2] == 224, 'wants 224'", "AssertionError: wants 224 (net.py, line "),
    "key": ("{}['head']", "KeyError: 'head'"),
    "attribute": ("self.body(x).logits", "AttributeError"),
    "division": ("1 / 0", "ZeroDivisionError"),
    "exception": ("raise Exception('no\\n  luck')", "Exception: no luck"),
    "base": ("raise BaseException('lost')", "BaseException: lost"),
    "gpu": ("x.cuda()", "cannot take images"),
    "stop": ("next(iter([]))", "StopIteration"),
    "file": ("open('nowhere/table.csv')", "nowhere/table.csv"),
    "recursion": ("return self(x)", "recursion"),
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def net(tmp_path):
    """Writes net.py and gives what names a factory in it."""

    def make(code: str, name: str = "make", file: str = "net.py") -> str:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{HEAD}\n{code}\n")
        return f"{path}:{name}"

    return make


def audit(model: str, *more: str) -> tuple[str, ...]:
    return ("audit", "--preset", "smoke", "--model", model, "--out", "never", *more)


@pytest.mark.parametrize(("line", "words"), FORWARD.values(), ids=list(FORWARD))
def test_what_a_network_raises_is_one_line(refused, net, line, words):
    code = (
        f"class Own(Net):\n    def forward(self, x):\n        {line}\n        return self.body(x)"
    )
    assert words in refused(*audit(net(code, "Own")))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def make():\n    sys.exit(0)", "make' raised SystemExit: 0 (net.py, line 17)"),
        ("def make():\n    raise KeyError('weights')", "raised KeyError: 'weights'"),
        ("sys.exit(0)\nmake = small", "importing "),
        ("raise SystemExit\nmake = small", "SystemExit"),
        ("import no_such_helper\nmake = small", "No module named 'no_such_helper'"),
        ("def make():\n    return open('lost.pt')", "No such file or directory: 'lost.pt'"),
        ("def __getattr__(name):\n    sys.exit(0)", "SystemExit"),
        (
            "class make(Net):\n    def state_dict(self, *a, **k):\n        raise KeyError('x')",
            "raised KeyError: 'x' (net.py, line 18)",
        ),
        (
            "class Back(torch.autograd.Function):\n"
            "    @staticmethod\n    def forward(ctx, x):\n        return x * 1\n"
            "    @staticmethod\n    def backward(ctx, g):\n        sys.exit(0)\n"
            "class make(Net):\n    def forward(self, x):\n        return self.body(Back.apply(x))",
            "gives no gradient",
        ),
        ("make = lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10))", "lazy layer"),
        (
            "def make():\n    with torch.device('meta'):\n        return small()",
            "on the meta device",
        ),
        ("make = lambda: small().double()", "return network.float()"),
        ("make = lambda: small().half()", "return network.float()"),
        (
            "class make(Net):\n    def forward(self, x):\n        return self.body(x) * 1j",
            "must be plain real numbers, got torch.complex64",
        ),
        (
            "class make(Net):\n    def forward(self, x):\n        return self.body(x).to_sparse()",
            "must be plain real numbers, got torch.sparse_coo",
        ),
        ("make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1))", "[0 * y.view(-1, 1), "),
        (
            "make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid())",
            "make two: network.register_forward_hook(lambda _, x, y: torch.cat([1 - y.view(-1, 1)",
        ),
        (
            "class make(Net):\n    def forward(self, x):\n        y = self.body(x)\n"
            "        return y, y.exp()",
            "where the first is meant: network.register_forward_hook(lambda _, x, y: y[0])",
        ),
    ],
)
def test_whatever_else_a_model_does_wrong_is_one_line(refused, net, code, words):
    assert words in refused(*audit(net(code)))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("make = lambda: small().requires_grad_(False)", "all its parameters are frozen"),
        (
            "class make(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.layers = [nn.Flatten(), nn.Linear(64, 10)]\n"
            "    def forward(self, x):\n        for layer in self.layers:\n"
            "            x = layer(x)\n        return x",
            "nn.ModuleList",
        ),
        (
            "class make(Net):\n    def train(self, loader):\n        len(loader)",
            "model.train() raised",
        ),
        (
            "class make(Net):\n    def train(self, mode=True):\n        if mode:\n"
            "            sys.exit(0)\n        return super().train(mode)",
            "model.train() raised SystemExit",
        ),
        (
            "class make(Net):\n    def forward(self, x):\n        if self.training:\n"
            "            sys.exit(0)\n        return self.body(x)",
            "SystemExit",
        ),
        (
            "class make(Net):\n    def forward(self, x):\n"
            "        torch.set_grad_enabled(False)\n        return self.body(x)",
            "cannot be trained",
        ),
    ],
)
def test_networks_that_cannot_be_trained(refused, net, tmp_path, code, words):
    out = tmp_path / "out"
    train = ("train", "--epochs", "1", "--quiet", "--model", net(code), "--out", str(out))
    assert words in refused(*train)
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize(
    "code",
    [
        "def make():\n    sys.exit(0)",
        "def make():\n    return {'x': [torch.zeros(8, 8), torch.zeros(7, 8)], 'y': [0, 1]}",
        "sys.exit()\nmake = 1",
        "def make():\n    return 1 / 0",
        "import blankcheck as bc\ndef make():\n"
        "    def part(n):\n"
        "        images = bc.LazyImages(lambda at: sys.exit(0), (1, 8, 8), torch.arange(n))\n"
        "        return bc.Split(images, torch.arange(n) % 2)\n"
        "    return bc.Data('own', ('a', 'b'), part(400), part(50), part(50))",
    ],
)
def test_what_data_raise_is_one_line(refused, net, code):
    refused("audit", "--model", net("make = small"), "--data", net(code, file="d.py"))


@pytest.mark.parametrize("fails", ["__deepcopy__(self, memo)", "reset_parameters(self)"])
def test_a_twin_that_cannot_be_made_ends_nothing(digits, fails):
    from blankcheck.api.twins import _fresh_copy
    from blankcheck.classifiers import load_model

    space: dict[str, type[nn.Linear]] = {"nn": nn, "sys": sys}
    exec(f"class Own(nn.Linear):\n    def {fails}:\n        sys.exit(0)", space)
    made = space["Own"].__new__(space["Own"])
    nn.Module.__init__(made)
    made.weight, made.bias = nn.Parameter(torch.zeros(10, 64)), nn.Parameter(torch.zeros(10))
    assert _fresh_copy(load_model(nn.Sequential(nn.Flatten(), made)), digits) is None


def test_ctrl_c_inside_a_network_is_ctrl_c(net, capsys):
    code = "class make(Net):\n    def forward(self, x):\n        raise KeyboardInterrupt"
    assert main(audit(net(code))) == 130
    assert "interrupted" in capsys.readouterr().err


def test_memory_that_runs_out_is_not_the_network(net, capsys):
    code = "class make(Net):\n    def forward(self, x):\n        raise MemoryError"
    assert main(audit(net(code))) == 1
    assert "out of memory" in capsys.readouterr().err


PRINTS = {
    "at import": "print('one')\nmake = small",
    "in the factory": "def make():\n    print('two')\n    return small()",
    "in forward": "class make(Net):\n    def forward(self, x):\n        print('three')\n"
    "        return self.body(x)",
    "written": "def make():\n    sys.stdout.write('four')\n    return small()",
    "logged": "import logging\nlogging.basicConfig(stream=sys.stdout, level=0)\n"
    "def make():\n    logging.info('five')\n    return small()",
    "stdout replaced": "import io\nsys.stdout = io.StringIO()\nmake = small",
}


@pytest.mark.parametrize("code", PRINTS.values(), ids=list(PRINTS))
def test_what_is_printed_does_not_reach_a_json_result(net, tmp_path, capsys, code):
    out = str(tmp_path / "out")
    before = sys.stdout
    assert main(["train", "--epochs", "1", "--json", "--model", net(code), "--out", out]) == 0
    assert json.loads(capsys.readouterr().out)["real_accuracy"] >= 0
    assert sys.stdout is before


@pytest.mark.parametrize("where", ["def make():\n    os.system('echo no')\n    return small()"])
def test_what_programs_print_does_not_either(net, tmp_path, where):
    words = ["train", "--epochs", "1", "--json", "--model", net(where), "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "blankcheck", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0 and json.loads(done.stdout) and "no" in done.stderr


# ---- imports and settings of the whole process


def test_a_neighbour_is_found_when_it_is_needed(net, tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "late_neighbour.py").write_text("LAYERS = 10\n")
    code = (
        "class make(Net):\n    def forward(self, x):\n        from late_neighbour import LAYERS\n"
        "        return self.body(x)[:, :LAYERS]"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    network = bc.load_model(net(code, file="one/net.py"))
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("file", ["statistics_of_net.py", "jinja2.py", "scipy.py", "yaml.py"])
def test_a_neighbour_is_not_taken_for_a_library(net, tmp_path, monkeypatch, file):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / file).write_text("raise ImportError('the wrong one')\n")
    bc.load_model(net("make = small"))
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1


def test_two_files_of_one_name_are_two_modules(net):
    first = bc.load_model(net("NAME = 1\nmake = Net", file="a/net.py")).network
    second = bc.load_model(net("NAME = 2\nmake = Net", file="b/net.py")).network
    homes = [sys.modules[type(each).__module__] for each in (first, second)]
    assert [home.NAME for home in homes] == [1, 2]


def test_a_package_in_this_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package_of_mine.py").write_text(f"{HEAD}\nmake = small\n")
    assert isinstance(bc.load_model("package_of_mine:make").network, nn.Sequential)


SETS = {
    "folder": "os.chdir('/')",
    "precision": "torch.set_default_dtype(torch.float64)",
    "gradients": "torch.set_grad_enabled(False)",
    "device": "torch.set_default_device('meta')",
    "words": "assert sys.argv[0].endswith('net.py') and len(sys.argv) == 1; sys.argv.append('x')",
    "numpy": "import numpy; numpy.seterr(all='raise')",
    "warnings": "import warnings; warnings.simplefilter('error')",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
    "interrupt": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "threads": "torch.set_num_threads(2)",
    "bfloat16": "torch.set_float32_matmul_precision('medium')",
    "arguments": "import argparse; p = argparse.ArgumentParser(); p.add_argument('--lr'); "
    "p.parse_args()",
}


def settings() -> tuple[object, ...]:
    return (
        *(Path.cwd(), torch.get_default_dtype(), torch.is_grad_enabled(), list(sys.argv)),
        *(str(torch.empty(0).device), np.geterr(), list(warnings.filters)),
        *(torch.is_anomaly_enabled(), signal.getsignal(signal.SIGINT), torch.get_num_threads()),
        torch.get_float32_matmul_precision(),
    )


@pytest.mark.parametrize("inside", [False, True], ids=["import", "factory"])
@pytest.mark.parametrize("line", SETS.values(), ids=list(SETS))
def test_what_a_module_sets_for_the_whole_process_is_taken_back(net, line, inside):
    code = f"def make():\n    model = small()\n    {line}\n    return model" if inside else line
    before = settings()
    network = bc.load_model(net(code if inside else f"{line}\nmake = small"))
    assert settings() == before
    assert next(network.parameters()).dtype == torch.float32 and network.training is False


def test_settings_are_kept_outside_of_the_main_thread():
    """Where nobody may change what signals do."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with settings_kept("net.py"):
                torch.set_default_dtype(torch.float64)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed and torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    "line", ["torch.set_default_dtype(torch.float64)", "torch.set_grad_enabled(False)"]
)
def test_what_a_forward_sets_is_taken_back_as_well(net, line):
    code = f"class make(Net):\n    def forward(self, x):\n        {line}\n        return x[:, 0, 0]"
    network, before = bc.load_model(net(code)), settings()
    run(network, torch.rand(2, 1, 8, 8))
    assert settings() == before


# ---- images that networks write into


class Writes(nn.Module):
    """change: is given the images."""

    def __init__(self, change, inside=True) -> None:
        super().__init__()
        self.body, self.change = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), change

    def forward(self, x):
        with torch.no_grad():
            self.change(x)
        return self.body(x)


CHANGES = {
    "normalise": lambda x: x.sub_(0.3).div_(0.37),
    "threshold": lambda x: x.masked_fill_(x < 0.2, 0),
    "index": lambda x: x.__setitem__((0, 0, 0, 0), 0.7),
    "data": lambda x: x.data.clamp_(0.1, 0.9),
    "numpy": lambda x: x.detach().numpy().__imul__(0.5),
    "view": lambda x: x.flatten(1)[:, 3].fill_(0.5),
    "relu": lambda x: torch.relu_(x.sub_(0.1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_networks_that_write_into_their_images_are_refused(digits, change):
    parts = (digits.train, digits.validation, digits.test)
    before = [part.images.clone() for part in parts]
    network = Writes(change)
    for asked in (bc.audit, bc.harden):
        with pytest.raises(ModelError, match=r"writes into the images.*x\[0\]\.clone"):
            asked(network, digits)
    said = bc.diagnose(network, digits, images=20)
    assert said.findings[0].code == "writes" and "clone()" in said.findings[0].line
    assert all(torch.equal(a, part.images) for a, part in zip(before, parts, strict=True))
    # with the line that is advised, nothing is written
    network.register_forward_pre_hook(lambda _, x: (x[0].clone(),))
    images = digits.test.images[:5].clone()
    run(network, images)
    assert torch.equal(images, digits.test.images[:5])


def test_writing_that_begins_late_is_noticed():
    images, calls = torch.rand(3, 1, 8, 8), iter(range(9))
    network = Writes(lambda x: x.zero_() if next(calls) else None)
    run(network, images)
    with pytest.raises(ModelError, match="writes into the images"):
        run(network, images)


def test_a_network_behind_a_normalisation_may_write(digits):
    from blankcheck.classifiers.trial import try_out

    network = bc.load_model(Writes(CHANGES["data"]), normalize=((0.3,), (0.4,)))
    assert try_out(network, digits.test.images[:8]) == "logits"


# ---- all that comes later is tried first


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("y.squeeze() if len(x) == 1 else y", r"got \(10,\) for a batch of 1 image; give .squeeze"),
        ("y[:-1] if len(x) == 7 else y", r"got \(6, 10\) for a batch of 7 images"),
        ("y if len(x) < 300 else y[:300]", r"got \(300, 10\) for a batch of 1000 images"),
        ("y.view(64, 10)", r"shape '\[64, 10\]' is invalid"),
        ("y if len(x) > 2 else y[:, :9]", "9 outputs for a batch of 1, 10 for one of 1000"),
        ("y if len(x) != 7 else y[:, :9]", "9 outputs for a batch of 7"),
        ("torch.from_numpy(y.numpy())", "requires grad"),
        ("y.detach().requires_grad_(True) * int(x.requires_grad and 1 / 0 or 1)", "ZeroDivision"),
    ],
)
def test_batches_and_gradients_are_tried_at_the_door(digits, answer, words):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def forward(self, x):
            return eval(answer, {"torch": torch, "x": x, "y": self.body(x)})

    with pytest.raises(ModelError, match=words):
        bc.audit(Own(), digits)
    assert bc.diagnose(Own(), digits, images=20).problems, "doctor says so as well"


@pytest.mark.parametrize("size", [2, 4, 64])
def test_a_program_of_one_size_of_batch_says_how_to_export_it(refused, tmp_path, size):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    some = (torch.zeros(size, 1, 8, 8),)
    torch.export.save(torch.export.export(network, some, strict=False), tmp_path / "fixed.pt2")
    said = refused(*audit(str(tmp_path / "fixed.pt2")), "--unsafe-pickle")
    assert "dynamic_shapes=({0: torch.export.Dim('n')},)" in said
    batch = {0: torch.export.Dim("n")}
    program = torch.export.export(network, some, dynamic_shapes=(batch,), strict=False)
    torch.export.save(program, tmp_path / "any.pt2")
    bc.load_model(str(tmp_path / "any.pt2"), unsafe_pickle=True)


def test_where_an_error_comes_from():
    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        fails()
    assert place_of(raised.value).startswith("test_user_code.py, line ")
    with pytest.raises(DataError) as ours:
        bc.load_data("npz:nowhere.npz")
    assert place_of(ours.value).startswith("test_user_code.py") and os.sep not in place_of(
        ours.value
    )
