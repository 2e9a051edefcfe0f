"""Options that several commands take, and what a run records of them."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

from blankcheck.errors import ArgumentError

Device = Literal["auto", "cpu", "cuda", "mps"]
ALWAYS_SAID = frozenset({"data", "model", "seed"})
"""Settings that stand in the command line of a run though they are the defaults, so that whoever
reads it need not know those."""
NEVER_SAID = frozenset({"json", "quiet", "junit", "resume", "overwrite"})
"""Settings that change how a run speaks or where it goes on, not what it makes."""


@dataclass(frozen=True)
class Common:
    """What every command that runs a classifier takes.

    Args:
        data: digits, mnist, fashion-mnist, cifar10, npz:FILE, folder:DIR, hf:NAME, FILE.parquet or
            file.py:factory; with +resize=N behind it images are made N x N, with +channels=1|3
            grey or colour; with +lift=C every feature is raised by C (0.3), so that no real image
            is sparse; with +size=N behind a folder, the N x N middle of each image is taken.
        data_dir: where the files of named data sets are looked for first (then $BLANKCHECK_DATA,
            then the cache).
        model: mlp, cnn, cnn-wide-kernel (made for certificates), resnet, resnet18, file.py:factory,
            package.module:factory, timm:NAME, hf:NAME, or a file of a whole network: .onnx,
            TorchScript, .pt2 or a pickled module (these two with --unsafe-pickle).
        out: the run folder to write; by default runs/ and the name of the command, with -2, -3, ...
            where that is taken.
        overwrite: begin anew in --out where a run is, and remove what that wrote. Without it, such
            a folder is refused.
        seed: of everything random; the same seed gives the same results on the same machine.
        device: auto takes a GPU where there is one, and says so.
        json: print the result as one JSON object on stdout, all else on stderr.
        quiet: no progress; only the result.
    """

    data: str = "digits"
    data_dir: str | None = None
    model: str = "mlp"
    out: str | None = None
    overwrite: bool = False
    seed: int = 0
    device: Device = "auto"
    json: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("data", "model"):
            if not isinstance(getattr(self, name), str):
                raise ArgumentError(f"{name} must be a text, got {getattr(self, name)!r}")
        if not -(2**63) <= self.seed < 2**63:
            raise ArgumentError(f"seed must have at most 64 bits, got {str(self.seed)[:40]}")

    def as_config(self) -> dict[str, Any]:
        """Plain values for `config.yaml`."""
        return recorded(self)


@dataclass(frozen=True)
class Tracked:
    """What commands take whose numbers can be followed while they run.

    Args:
        tracker: tensorboard, mlflow or wandb, or several with commas between them. They get what
            metrics.jsonl gets.
    """

    tracker: list[str] | str | None = None


@dataclass(frozen=True)
class Judged:
    """What commands take that end with a verdict.

    Args:
        junit: also write the result to this file, as JUnit XML for build servers.
    """

    junit: str | None = None


@dataclass(frozen=True)
class Shared:
    """What commands take whose work several processes can share.

    Args:
        devices: processes on this machine, each with a GPU of its own or a share of the CPU. Leave
            it to torchrun where that starts them.
        nodes: machines, each of which is given the same command.
    """

    devices: int = 1
    nodes: int = 1


@dataclass(frozen=True)
class Weighted(Common):
    """What commands take that load weights.

    Args:
        weights: a .safetensors file, or a .pt, .pth or .ckpt state dict; FILE#2 or FILE#ema picks
            one of several in it.
        normalize: none, or MEANS/STDS in [0, 1] units, as in 0.1307/0.3081. Built-in networks carry
            theirs.
        unsafe_pickle: load .pt and .pt2 files that hold more than tensors. Only for files you
            trust: they can run code.
    """

    weights: str | None = None
    normalize: str = "none"
    unsafe_pickle: bool = False


def recorded(settings: Any) -> dict[str, Any]:
    """Settings as plain values, without leave to overwrite, which is given for once and not to who
    runs this again."""
    return {name: value for name, value in asdict(settings).items() if name != "overwrite"}


def command_line(command: str, settings: Any) -> list[str]:
    """The words that run a command with these settings again: every option that is not its default.

    Not for a sweep, whose tables only a configuration file can hold.
    """
    words = ["blankcheck", command]
    for field in fields(settings):
        value = getattr(settings, field.name)
        default = value == field.default and field.name not in ALWAYS_SAID
        if default or value is None or field.name in NEVER_SAID:
            continue
        option = f"--{field.name.replace('_', '-')}"
        said = ",".join(value) if isinstance(value, list) else str(value)
        if field.default is MISSING:  # a positional argument, as in the parser
            words += value if isinstance(value, list) else [said]
        elif isinstance(value, bool):
            words.append(option)
        else:
            words += [f"{option}={said}"] if said.startswith("-") else [option, said]
    return words
