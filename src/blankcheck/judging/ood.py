"""An out-of-distribution test with a guaranteed false-alarm rate, blind to the audited network.

Each score is turned into a tail probability by its rank among real images the scores were not
fitted on; the smallest of these is the statistic; its rank among further real images gives the
p-value. That last step is split conformal prediction (Vovk et al. 2005): for a real image
exchangeable with the calibration images P(p <= a) <= a, whatever the scores are, without
Bonferroni's loss for correlated scores.

That probability is over the calibration images too: with an unlucky draw of them the false-alarm
rate of this one test is higher than a. Where there are enough of them, p-values are therefore
calibration-conditional (Bates et al. 2023, arXiv:2104.08279, section 3): of the real images no more
than a have p <= a, with probability 95 % over that draw.

Scores taken from the audited network would be circular: the images were optimised against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from blankcheck.copies import cut_together, first_copies
from blankcheck.errors import ArgumentError, DataError
from blankcheck.judging.conformal import CERTAINTY, conformal_p_values
from blankcheck.judging.scores import Neighbours, Score, Values, in_parts
from blankcheck.judging.shape import FIRST
from blankcheck.parallel.spread import Spread, alone
from blankcheck.types import Images

MAX_FIT = 5000
"""Images that fit the scores, and that rank them, at most; twice as many calibrate."""
MAX_FIT_NUMBERS = 150_000_000
"""Images x features that fit the scores (600 MB at once), and that rank them, at most; twice as
many calibrate. Of 3x224x224 these are 996, 996 and 1,992 images, drawn at random."""
FEWEST_FIT, FEWEST_RANKED = 50, 200
AUTO = "auto"
STRICT, LENIENT = 0.001, 0.01
"""Usual levels: stranger than 999 of 1000 real images, where enough of them calibrate that."""
FEWEST_STRICT = math.ceil(math.log(1 - CERTAINTY) / math.log(1 - STRICT))
"""Different calibration images from which on `STRICT` has its guarantee (`carries`): 2,995."""
PART = 1000
"""Images whose scores are computed by one process."""


def check_size(n: int, level: float) -> None:
    """DataError when `n` real images are too few for a p-value to reach `level`: with s of them to
    calibrate, the smallest possible p-value is 1/(s + 1)."""
    if not _is_enough(n, level):
        raise DataError(
            f"ood_level {level:g} needs at least {fewest_images(level)} real images to "
            f"calibrate the out-of-distribution test, got {n}; give more data or a larger ood_level"
        )


def fewest_images(level: float) -> int:
    """How many real images a p-value needs to reach a level; DataError where no number will do."""
    if not _reached(2 * MAX_FIT, level):
        raise DataError(
            f"ood_level must be at least {1 / (2 * MAX_FIT + 1):.3g}, which {2 * MAX_FIT} images "
            f"that calibrate can show, got {level:g}"
        )
    about = int((math.ceil(1 / level) - 1) / 0.4) - 5
    return next(n for n in count(max(1, about)) if _is_enough(n, level))


def _is_enough(n: int, level: float) -> bool:
    calibrating, ranking = n - int(0.6 * n), int(0.6 * n) - int(0.4 * n)
    return _reached(min(calibrating, 2 * MAX_FIT), level) and ranking >= 10


def _reached(calibrating: int, level: float) -> bool:
    """Whether the smallest p-value is at most the level."""
    return calibrating >= math.ceil(1 / level) - 1


def usual_level(images: Images) -> float:
    """`STRICT` where a test fitted on such images carries its conditional guarantee there, else
    `LENIENT`."""
    least = math.ceil(1 / STRICT) - 1
    if len(images) - int(0.6 * len(images)) < least:
        return LENIENT
    _, distinct = _split(images, STRICT, 0, MAX_FIT)
    return STRICT if distinct >= FEWEST_STRICT else LENIENT


@dataclass(frozen=True)
class OODTest:
    """A fitted and calibrated test. Comes ready out of `fit`.

    Args:
        values: the fitted scores, with a column for each of the s `names`.
        names: of the scores.
        reference: (s, r) the scores of real images, sorted, among which images are ranked.
        tail_scale: (s,) how fast each tail falls beyond these.
        calibration: (m,) the statistic of further real images, sorted.
        table: (d + 1,) the p-value by the number of calibration images that reach the statistic,
            counted as if each of the d different ones had occurred equally often.
        guarantee: `calibration-conditional, 95 %` (of the real images no more than `level` are
            called out of distribution, with probability 95 % over the draw of the calibration
            images) or, with too few of those, `marginal` (no more than `level` on average over that
            draw).
        level: largest p-value that is called out of distribution.
    """

    values: tuple[Values, ...]
    names: tuple[str, ...]
    reference: Tensor
    tail_scale: Tensor
    calibration: Tensor
    table: Tensor
    guarantee: str
    level: float

    @classmethod
    def fit(
        cls,
        images: Images,
        level: float,
        seed: int = 0,
        most: int = MAX_FIT,
        scores: Sequence[Score] = FIRST,
        spread: Spread = alone,
    ) -> OODTest:
        """Fit and calibrate: 40 % of the images fit the scores, 20 % rank them, 40 % calibrate. Of
        many or large images a sample does (`MAX_FIT`, `MAX_FIT_NUMBERS`).

        Args:
            images: real ones, (n, c, h, w) in [0, 1].
            level: in (0, 1).
            seed: of the parts.
            most: images that fit the scores, at most.
            scores: that the test looks at.
            spread: by which processes share the work; all of them get the whole test.

        Raises:
            DataError: when there are too few images for a p-value to reach `level`: the smallest
                possible p-value is 1/(calibration images + 1).
            ArgumentError: when a score does not give a column for each of its names.
        """
        check_size(len(images), level)
        (fitting, ranking, calibrating), distinct = _split(images, level, seed, most)
        if distinct < math.ceil(1 / level) - 1 or min(len(fitting), len(ranking)) < 10:
            raise DataError(
                f"ood_level {level:g} needs more different real images to calibrate the "
                f"out-of-distribution test: of {len(images)} many are copies of others"
            )
        values, names = _fit(scores, images[fitting])
        reference = _shared(values, images, ranking, spread).T.sort(dim=1).values.contiguous()
        top = reference[:, int(0.9 * reference.shape[1]) :]
        scale = (top.mean(dim=1) - top[:, 0]).clamp_min(1e-6)
        table, guarantee = conformal_p_values(distinct, level)
        known = table, guarantee, level
        uncalibrated = cls(values, names, reference, scale, torch.zeros(0), *known)
        tails = uncalibrated._tails(_shared(values, images, calibrating, spread))
        return replace(uncalibrated, calibration=tails.amax(dim=1).sort().values)

    @property
    def calibrating(self) -> int:
        """How many different images calibrated the test."""
        return len(self.table) - 1

    @property
    def smallest_p(self) -> float:
        """The p-value of an image more unusual than every calibration image."""
        return float(self.table[0])

    @property
    def attainable(self) -> Tensor:
        """The p-values that an image can have, increasing: a score that passes one more of the
        ranked images moves an image to the next of them, past all calibration images that tie."""
        above = len(self.calibration) - torch.searchsorted(self.calibration, self.calibration)
        none = torch.zeros(1, dtype=torch.int64)
        return torch.tensor(sorted(set(self._by_reached(torch.cat([none, above])).tolist())))

    def tails(self, images: Images) -> Tensor:
        """-log tail probability under each score, (n, c, h, w) -> (n, s). Beyond the largest ranked
        score an exponential tail goes on, so that equal ranks are told apart."""
        return self._tails(_columns(self.values, images))

    def _tails(self, columns: Tensor) -> Tensor:
        """The same from the values of the scores, (n, s)."""
        values = columns.T.contiguous()
        beyond = ((values - self.reference[:, -1:]) / self.tail_scale[:, None]).clamp_min(0)
        return (-self._rank_p_values(values).log() + beyond).T

    def score_p_values(self, images: Images) -> Tensor:
        """Rank p-value under each single score, (n, c, h, w) -> (n, s) on the CPU, as `names`."""
        if len(images) == 0:
            return torch.zeros(0, len(self.names))
        return self._rank_p_values(_columns(self.values, images).T.contiguous()).T

    def p_values(self, images: Images) -> Tensor:
        """p-value under "real data looks like this", (n, c, h, w) -> (n,) on the CPU."""
        if len(images) == 0:
            return torch.zeros(0)
        return self._by_statistic(self.tails(images).amax(dim=1))

    def _by_statistic(self, statistic: Tensor) -> Tensor:
        """The p-values of images with these largest tails."""
        above = len(self.calibration) - torch.searchsorted(self.calibration, statistic)
        return self._by_reached(above)

    def _by_reached(self, above: Tensor) -> Tensor:
        """p-values of images whose statistic is reached by so many of all calibration images."""
        return self.table[-(-above * self.calibrating // len(self.calibration))]

    def accepts(self, images: Tensor) -> Tensor:
        """Whether images are out of distribution, (n, c, h, w) -> (n,) bool on their device.

        Most that searches ask about are not, which bounds of the scores already show.
        """
        if len(images) == 0:
            return torch.zeros(0, dtype=torch.bool, device=images.device)
        bounds = [v.bound if isinstance(v, Neighbours) else v for v in self.values]
        tails = self._tails(_columns(bounds, images)).amax(dim=1)
        odd = self._by_statistic(tails) <= self.level
        open_ = odd.nonzero().squeeze(1)
        if len(open_):
            odd[open_] = self.p_values(images[open_.to(images.device)]) <= self.level
        return odd.to(images.device)

    def _rank_p_values(self, values: Tensor) -> Tensor:
        """Rank p-values among the ranked images, (s, n) -> (s, n)."""
        above = self.reference.shape[1] - torch.searchsorted(self.reference, values)
        return (1 + above) / (self.reference.shape[1] + 1)


def _fit(scores: Sequence[Score], real: Tensor) -> tuple[tuple[Values, ...], tuple[str, ...]]:
    """The fitted scores that have columns for such images, and the names of these columns."""
    values: list[Values] = []
    names: list[str] = []
    for score in scores:
        fitted = score.fit(real)
        shape = tuple(fitted(real[:2]).shape)
        if shape == (2, 0):
            continue
        if shape != (2, len(score.names)):
            wanted = f"(2, {len(score.names)}) for 2 images"
            raise ArgumentError(f"score {', '.join(score.names)} must give {wanted}, got {shape}")
        values.append(fitted)
        names += score.names
    if not values:
        raise ArgumentError("the out-of-distribution test needs at least one score")
    return tuple(values), tuple(names)


def _split(images: Images, level: float, seed: int, most: int) -> tuple[list[Tensor], int]:
    """Positions of the images that fit, rank and calibrate, and how many of the last differ."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    a, b = int(0.4 * len(images)), int(0.6 * len(images))
    room = MAX_FIT_NUMBERS // images.shape[1:].numel()
    fitting = order[: min(a, most, max(FEWEST_FIT, room))]
    ranking = order[a:b][: min(MAX_FIT, max(FEWEST_RANKED, room))]
    # with fewer than three times 1/level the guarantee would not be conditional
    calibrating = order[b:][: min(2 * MAX_FIT, max(math.ceil(3 / level), 2 * room))]
    return _apart(images, fitting, ranking, calibrating)


def _apart(images: Images, *parts: Tensor) -> tuple[list[Tensor], int]:
    """The parts (positions) with all copies of an image in one; how many of the last differ."""
    used, drawn = torch.cat(parts).sort()
    # the data set says which copy comes first, so that each part gets its share of such images
    firsts = first_copies(images, used)
    borders = torch.tensor([len(part) for part in parts]).cumsum(0)[:-1].tolist()
    cut = cut_together(drawn.argsort(), firsts, borders)
    return [used[part] for part in cut], len(set(firsts[cut[-1]].tolist()))


def _shared(values: Sequence[Values], images: Images, index: Tensor, spread: Spread) -> Tensor:
    """The columns of the images at these positions, computed part by part."""
    parts = torch.split(index, PART)
    return torch.cat(spread(len(parts), lambda i: _columns(values, images, parts[i])))


def _columns(values: Sequence[Values], images: Images, index: Tensor | None = None) -> Tensor:
    return in_parts(lambda part: torch.cat([each(part) for each in values], dim=1), images, index)
