"""Networks by the names that model hubs give them: `timm:NAME` and `hf:ORGANISATION/NAME`.

Both libraries are extras and are imported only when a user names one of their networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.errors import ModelError
from blankcheck.text import one_line

Made = tuple[nn.Module, Normalisation | None]
"""A network, and the normalisation that its hub states."""


def is_hub_name(model: str) -> bool:
    """Whether the text begins with the name of a hub."""
    return model.partition(":")[0] in HUBS


def from_hub(
    model: str, normalize: Normalisation | None, *, pretrained: bool, unsafe_pickle: bool
) -> UnitClassifier:
    """The named network with the normalisation that its hub states, unless another one is given.

    model: `timm:NAME`, as `timm.create_model` takes it, or `hf:NAME`, a Hub repository or local
    folder with an image classifier of transformers. pretrained: with its published weights; else it
    is filled from a file afterwards. No code of a repository is run, and its weights must be
    safetensors unless `unsafe_pickle`.

    Raises ModelError with one line when the library is missing or the network cannot be had.
    """
    hub, _, name = model.partition(":")
    library = "timm" if hub == "timm" else "transformers"
    try:
        network, stated = HUBS[hub](name, pretrained, unsafe_pickle)
    except ImportError as error:
        words = f"needs the package {error.name or library}, which cannot be imported"
        advice = f"pip install 'blankcheck[{hub}]'"
        raise ModelError(f"model {model!r} {words}; {advice}") from error
    except MemoryError:
        raise
    except Exception as error:  # both libraries raise whatever they, the network or the disk meet
        words = f"model {model!r} could not be made by {library}: {one_line(error)}"
        raise ModelError(words) from error
    return UnitClassifier(network.eval(), normalize if normalize is not None else stated)


def _timm(name: str, pretrained: bool, unsafe_pickle: bool) -> Made:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=pretrained)
    stated: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    return network, _normalisation(stated.get("mean"), stated.get("std"))


def _transformers(name: str, pretrained: bool, unsafe_pickle: bool) -> Made:
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.image_processing_base import ImageProcessingMixin

    kind = AutoModelForImageClassification
    if pretrained:
        safe = None if unsafe_pickle else True
        network = kind.from_pretrained(name, trust_remote_code=False, use_safetensors=safe)
    else:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        network = kind.from_config(config, trust_remote_code=False)
    try:
        prepares, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:  # a repository need not say how its images are prepared
        prepares = {}
    if not prepares.get("do_normalize", True):
        return network, None
    return network, _normalisation(prepares.get("image_mean"), prepares.get("image_std"))


def _normalisation(mean: Any, std: Any) -> Normalisation | None:
    if mean is None or std is None:
        return None
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


HUBS: dict[str, Callable[[str, bool, bool], Made]] = {"timm": _timm, "hf": _transformers}
