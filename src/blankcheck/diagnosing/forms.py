"""In which form a network may want its images: normalised how, and with channels, axes and values
arranged how.

Every form can be had with the option `--normalize`, which puts `(images - mean) / std` before the
network, and a hook that changes what arrives there. It is tried exactly as these two would give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from blankcheck.classifiers.wrapper import Normalisation

PUBLISHED: dict[int, dict[str, Normalisation]] = {
    1: {
        "MNIST": ((0.1307,), (0.3081,)),
        "Fashion-MNIST": ((0.286,), (0.353,)),
        "CIFAR-10, grey": ((0.4809,), (0.2392,)),
        "ImageNet, grey": ((0.449,), (0.226,)),
    },
    3: {
        "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
        "CIFAR-10, narrow": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),
        "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    },
}
"""Constants that training scripts carry, by channels; the narrow ones of CIFAR-10 are means of the
images' own deviations."""
NOTHING: Normalisation = ((0.0,), (1.0,))
HALF: Normalisation = ((0.5,), (0.5,))
BYTE = 0.003921569  # 1/255, as far as 32-bit floats can tell
CAFFE_MEAN = (0.48502, 0.45795, 0.4076)
"""What networks of Caffe subtract from bytes: 123.68, 116.779, 103.939 in red, green, blue."""
OWN = "the data's own"
ALIKE = 0.01
"""Normalisations that differ by less than this, in units of their standard deviation, are one."""
PLAIN, STATISTICS, RANGE, UNDONE = "plain", "statistics", "range", "undone"
SIZES = (32, 64, 96, 224)
"""Sides of images that published networks take."""


@dataclass(frozen=True)
class Arrangement:
    """What else is done to the images. code: of the finding it makes. words: what the network
    expects. change: from the normalised images (n, c, h, w) to what the network is given. line: the
    same as an expression of `x[0]`. constants: how many means and deviations the normalisation must
    have, 0 for as many as the images have channels."""

    code: str = ""
    words: str = ""
    change: Callable[[Tensor], Tensor] = lambda x: x
    line: str = ""
    constants: int = 0

    @property
    def hook(self) -> str:
        """A line for the network's factory that makes the change; empty where there is none, or
        the normalisation makes it already."""
        hook = f"network.register_forward_pre_hook(lambda _, x: ({self.line},))"
        return hook if self.line else ""


AS_IS = Arrangement()
BGR = Arrangement("channel-order", "blue, green, red", lambda x: x.flip(1), "x[0].flip(1)")
SWAP = "x[0].transpose(2, 3)"
TRANSPOSED = Arrangement("transposed", "height and width swapped", lambda x: x.mT, SWAP)
TRIPLED = Arrangement("channels", "3 channels", constants=3)
"""Three constants turn an image of one channel into three equal ones."""
GREY = Arrangement(
    "channels",
    "1 channel",
    lambda x: x[:, :1] * 0.299 + x[:, 1:2] * 0.587 + x[:, 2:3] * 0.114,
    "x[0][:, :1] * 0.299 + x[0][:, 1:2] * 0.587 + x[0][:, 2:3] * 0.114",
    constants=1,
)
MOVE = "x[0].permute(0, 2, 3, 1)"
LAST = Arrangement("layout", "channels last", lambda x: x.permute(0, 2, 3, 1), MOVE)
FLAT = Arrangement("layout", "one row of features", lambda x: x.flatten(1), "x[0].flatten(1)")
PLANE = Arrangement("layout", "no axis for channels", lambda x: x.squeeze(1), "x[0].squeeze(1)")


@dataclass(frozen=True)
class Form:
    """One form. normalize: what the option puts before the network. origin: whose constants they
    are. kind: PLAIN (none), STATISTICS of images, another RANGE, or UNDONE (takes one back)."""

    normalize: Normalisation | None
    origin: str
    kind: str
    arrangement: Arrangement = AS_IS

    def view(self, images: Tensor) -> Tensor:
        """What the network is given for images (n, c, h, w) in [0, 1]."""
        if self.normalize is not None:
            mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in self.normalize)
            images = (images - mean) / std
        return self.arrangement.change(images)

    @property
    def option(self) -> str:
        """What stands after `--normalize`."""
        return spelled(self.normalize)

    @property
    def normalisation(self) -> str:
        """The normalisation for people."""
        said = self.option if self.normalize is not None else "no normalisation"
        return f"{said} ({self.origin})" if self.origin else said

    @property
    def words(self) -> str:
        """The form for people."""
        return ", ".join(filter(None, (self.normalisation, self.arrangement.words)))

    def same_normalisation(self, other: Form) -> bool:
        """Whether no network could tell the two normalisations apart."""
        return alike(self.normalize, other.normalize)


def spelled(normalize: Normalisation | None) -> str:
    """A normalisation as the option takes it."""
    if normalize is None:
        return "none"
    return "/".join(",".join(f"{v:.7g}" for v in values) for values in normalize)


def alike(one: Normalisation | None, other: Normalisation | None) -> bool:
    """Whether two normalisations differ by less than `ALIKE`; numbers of channels count."""
    (m1, s1), (m2, s2) = one or NOTHING, other or NOTHING
    n = max(len(m1), len(m2))
    if min(len(m1), len(m2)) not in (1, n):
        return False
    rows = zip(*(_wide(values, n) for values in (m1, s1, m2, s2)), strict=True)
    return all(abs(a - c) <= ALIKE * d and abs(b / d - 1) <= ALIKE for a, b, c, d in rows)


def _wide(values: Sequence[float], n: int) -> tuple[float, ...]:
    """One constant for every one of n channels."""
    return tuple(values) * (n if len(values) == 1 else 1)


def normalisations(channels: int, own: Normalisation) -> list[Form]:
    """Every normalisation that is tried, the likeliest first. own: the data's, by channel."""
    mean, std = (tuple(round(v, 4) for v in values) for values in own)
    named = {**PUBLISHED.get(channels, {}), OWN: (mean, std)}
    statistics = [Form(constants, origin, STATISTICS) for origin, constants in named.items()]
    half = Form(HALF, "for -1 to 1", RANGE)
    bytes_ = [Form(((0.0,), (BYTE,)), "for 0 to 255", RANGE)]
    if channels == 3:
        bytes_.append(Form((CAFFE_MEAN, (BYTE,) * 3), "for 0 to 255 around ImageNet's mean", RANGE))
    undone = [_undone(form) for form in (*statistics, half)]
    return [Form(None, "", PLAIN), *statistics, half, *bytes_, *undone]


def _undone(form: Form) -> Form:
    """x * std + mean, which the normalisation turns into x again."""
    mean, std = form.normalize or HALF
    back = tuple(float(f"{-m / s:.6g}") for m, s in zip(mean, std, strict=True))
    scale = tuple(float(f"{1 / s:.6g}") for s in std)
    return Form((back, scale), f"takes back {form.option}", UNDONE)


def candidates(shape: tuple[int, int, int], own: Normalisation, current: Form) -> list[Form]:
    """Every form that is tried on images of this shape: the current one first, likely ones next."""
    c, h, w = shape
    plain = normalisations(c, own)
    likely = [current, *(form for form in plain if form.kind != UNDONE)]
    forms = [current, *plain]
    if h == w:
        forms += [replace(form, arrangement=TRANSPOSED) for form in likely]
    for form in likely if c == 3 else ():
        # constants that follow their colours, and constants that stay at their places
        forms.append(replace(form, arrangement=BGR))
        if form.normalize is not None:
            mean, std = form.normalize
            forms.append(replace(form, normalize=(mean[::-1], std[::-1]), arrangement=BGR))
    forms += [_inverted(form) for form in likely]
    return list(_distinct(forms))


def _inverted(form: Form) -> Form:
    """1 - x instead of x. With z = (x - m) / s, (1 - x - m) / s is (1 - 2 m) / s - z."""
    mean, std = form.normalize or NOTHING
    if form.origin == OWN:  # that of the images the network was trained on
        mean = tuple(round(1 - m, 4) for m in mean)
        form = replace(form, normalize=(mean, std), origin="the inverted data's own")
    white = [float(f"{(1 - 2 * m) / s:.6g}") for m, s in zip(mean, std, strict=True)]
    said = f"{white[0]:g}" if len(white) == 1 else f"x[0].new_tensor({white}).view(-1, 1, 1)"

    def change(x: Tensor) -> Tensor:
        return x.new_tensor(white).view(-1, 1, 1) - x

    inverted = Arrangement("inverted", "black and white swapped", change, f"{said} - x[0]")
    return replace(form, arrangement=inverted)


def _distinct(forms: Iterable[Form]) -> Iterator[Form]:
    """Each form once, where it comes first."""
    seen: dict[str, list[Form]] = {}
    for form in forms:
        same = seen.setdefault(form.arrangement.words, [])
        if not any(f.same_normalisation(form) for f in same):
            same.append(form)
            yield form


def repairs(shape: tuple[int, int, int]) -> list[Arrangement]:
    """Arrangements for a network that refuses images of this shape, the simplest first."""
    c, h, w = shape
    spatial = [*([TRANSPOSED] if h != w else []), LAST, FLAT, *([PLANE] if c == 1 else [])]
    if h == w == 28:  # black stays black under more of its own border, however it is normalised
        pad, line = (2,) * 4, 'torch.nn.functional.pad(x[0], (2, 2, 2, 2), mode="replicate")'
        layout = "layout", "32x32 images"
        spatial.append(Arrangement(*layout, lambda x: F.pad(x, pad, mode="replicate"), line))
    spatial += [_resized(size) for size in SIZES if (h, w) != (size, size)]
    if c != 1:
        return [AS_IS, *([GREY] if c == 3 else []), *spatial]
    words = f"{TRIPLED.words}, "
    tripled = [replace(a, code="channels", words=words + a.words, constants=3) for a in spatial]
    return [AS_IS, TRIPLED, *spatial, *tripled]


def _resized(size: int) -> Arrangement:
    def change(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)

    call = f"torch.nn.functional.interpolate(x[0], size=({size}, {size})"
    line = f'{call}, mode="bilinear", antialias=True)'
    return Arrangement("layout", f"{size}x{size} images", change, line)


def rearranged(how: Arrangement, channels: int, own: Normalisation, current: Form) -> list[Form]:
    """Every normalisation, in an arrangement that the network does not refuse."""
    n, none = how.constants or channels, NOTHING if how.constants > 1 else None
    mean, std = (_wide(v if len(v) == n else [sum(v) / len(v)], n) for v in own)
    forms = normalisations(n, (mean, std))
    if current.normalize is not None and len(current.normalize[0]) in (1, n):
        forms.insert(0, current)
    made = []
    for form in forms:
        normalize = form.normalize or none
        if normalize is not None:
            normalize = _wide(normalize[0], n), _wide(normalize[1], n)
        made.append(replace(form, normalize=normalize, arrangement=how))
    return list(_distinct(made))
