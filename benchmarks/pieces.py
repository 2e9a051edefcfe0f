"""What each piece of an audit costs, and how long several processes that share the pieces would
take. A library."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from records import cpu
from torch import Tensor

import blankcheck as bc
from blankcheck.api.twins import get_twins
from blankcheck.auditing import AttemptResults
from blankcheck.classifiers import UnitClassifier
from blankcheck.judging import FIRST, Score
from blankcheck.judging.scores import Values


@dataclass(frozen=True)
class Piece:
    """A chunk of attempts, a control, or a part of the images that tests are calibrated with.
    seconds: of CPU. asked: images about which the test of what is out of distribution was asked.
    Passes of a twin are not counted, nor are those of the probes."""

    name: str
    seconds: float
    forward: int
    backward: int
    asked: int = 0


class Asked:
    """The first family of scores, which counts the images it is shown."""

    def __init__(self) -> None:
        self.images = 0

    @property
    def scores(self) -> tuple[Score, ...]:
        """For `bc.audit`."""
        first, *others = FIRST

        def fit(real: Tensor) -> Values:
            values = first.fit(real)

            def counted(images: Tensor) -> Tensor:
                self.images += len(images)
                return values(images)

            return counted

        return (Score(first.names, fit), *others)


class Timed:
    """A `Spread` of one process that notes what each piece costs. calls: one list of pieces for
    each call; an audit's last two are the chunks of attempts and the controls, those before
    calibrate the tests of what is out of distribution."""

    def __init__(self, asked: Asked) -> None:
        self.calls: list[list[Piece]] = []
        self.asked = asked

    def __call__(self, n: int, do: Callable[[int], Any]) -> list[Any]:
        results, pieces = [], list[Piece]()
        for index in range(n):
            began, before = cpu(), self.asked.images
            results.append(do(index))
            pieces.append(_piece(results[-1], cpu() - began, self.asked.images - before))
        self.calls.append(pieces)
        return results


def _piece(result: Any, seconds: float, asked: int) -> Piece:
    if isinstance(result, Tensor):
        return Piece("calibration", seconds, 0, 0)
    if isinstance(result, AttemptResults):
        return Piece(
            "attempts",
            seconds,
            int(result.best.forwards.sum()),
            int(result.best.steps.sum()),
            asked,
        )
    name = ", ".join(each.control.code for each in result)
    return Piece(
        name,
        seconds,
        sum(each.forward for each in result),
        sum(each.backward for each in result),
        asked,
    )


@dataclass(frozen=True)
class Measured:
    """An audit in one process. seconds: of CPU, of the whole, without the training of twins."""

    verdict: str
    attempts: int
    forward: int
    backward: int
    seconds: float
    chunks: tuple[Piece, ...]
    controls: tuple[Piece, ...]
    fitting: tuple[tuple[Piece, ...], ...]

    @property
    def alone(self) -> float:
        """Seconds of what every process does for itself: fitting the scores, scoring real images,
        keeping witnesses."""
        return self.seconds - sum(piece.seconds for call in self._calls for piece in call)

    @property
    def _calls(self) -> tuple[tuple[Piece, ...], ...]:
        return (*self.fitting, self.chunks, self.controls)

    def shared(self, processes: int) -> float:
        """Seconds that so many processes would take, each with a core of its own."""
        return self.alone + sum(makespan(call, processes) for call in self._calls)

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"alone": self.alone}


def makespan(pieces: Sequence[Piece], processes: int) -> float:
    """Seconds until the last piece is done, where each process takes the next one as soon as it is
    free."""
    free = [0.0] * processes
    for piece in pieces:
        heapq.heapreplace(free, free[0] + piece.seconds)
    return max(free)


def measured_audit(model: UnitClassifier, data: bc.Data, preset: str, seed: int = 0) -> Measured:
    """Audit it here. The twin comes from the cache: it is put there before the clock starts."""
    next(get_twins(model, data, next(model.parameters()).device), None)
    asked = Asked()
    timed, began = Timed(asked), cpu()
    made = bc.audit(model, data, preset, seed, spread=timed, scores=asked.scores)
    seconds, cost = cpu() - began, made.json["cost"]
    *fitting, chunks, controls = map(tuple, timed.calls)
    return Measured(
        str(made.verdict),
        made.json["attempts"],
        cost["forward"],
        cost["backward"],
        seconds,
        chunks,
        controls,
        tuple(fitting),
    )
