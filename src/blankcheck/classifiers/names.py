"""Which tensor of a file of weights is which of a network: by name, whatever was put before it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

WRAPPERS = ("module", "_orig_mod")
"""What torch.nn.DataParallel and torch.compile put into names; a layer may be called so as well."""
COUNTS = "num_batches_tracked"
"""Of batch norm; files of before PyTorch 0.4.1 have none, and nothing is lost with them."""
AVERAGES = "n_averaged"
"""How many networks torch.optim.swa_utils.AveragedModel averaged, which is no weight."""

Pairs = dict[str, str]
"""From a network's own names to those in the file."""


def pairs_of(own: Collection[str], given: Collection[str]) -> Pairs | None:
    """Names as they are, where these are a network's; else without what wraps networks; else
    without what all names of either side begin with; else those under the one prefix that fits.

    Returns:
        None where no way gives each tensor of the network one of the file, and uses all of them.
    """
    for mine, theirs in _ways(own, given):
        if len(mine) == len(own) and fits(mine, theirs):
            return {mine[name]: theirs[name] for name in mine.keys() & theirs.keys()}
    return None


def fits(own: Collection[str], given: Collection[str]) -> bool:
    """Whether names are the same, but for counts that older files lack."""
    names = set(given)
    return names <= set(own) and all(n.endswith(COUNTS) for n in set(own) - names)


def nearest(own: Collection[str], given: Collection[str]) -> tuple[Pairs, Pairs]:
    """Names on both sides, with what they were, in the way in which fewest have no counterpart."""
    return min(_ways(own, given), key=lambda way: len(way[0].keys() ^ way[1].keys()))


def _ways(own: Collection[str], given: Collection[str]) -> Iterator[tuple[Pairs, Pairs]]:
    """Names on both sides, made alike in one way after the other, with what they were."""
    yield _by(str, own), _by(str, given)
    some = [name for name in given if name != AVERAGES]
    yield _by(_unwrapped, own), _by(_unwrapped, some)
    mine = _without_prefix(_by(_unwrapped, own))
    yield mine, _without_prefix(_by(_unwrapped, some))
    mine = _by(_unwrapped, own)
    parts: dict[str, Pairs] = {}
    for name, old in _by(_unwrapped, some).items():
        prefix, _, rest = name.partition(".")
        parts.setdefault(prefix, {})[rest] = old
    fitting = [part for part in parts.values() if fits(mine, part)]
    if len(fitting) == 1:
        yield mine, fitting[0]


def _by(change: Callable[[str], str], names: Collection[str]) -> Pairs:
    changed = {change(name): name for name in names}
    return changed if len(changed) == len(names) else {name: name for name in names}


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _without_prefix(names: Mapping[str, str]) -> Pairs:
    """Without the components that all names begin with; the last one of a name stays."""
    split: Sequence[list[str]] = [name.split(".") for name in names]
    shared = 0
    while split and all(len(p) > shared + 1 and p[shared] == split[0][shared] for p in split):
        shared += 1
    return {".".join(p[shared:]): old for p, old in zip(split, names.values(), strict=True)}
