"""Which pictures a report shows, each with words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from blankcheck.judging.metrics import share_at_most
from blankcheck.report.charts import audit as pictures
from blankcheck.report.charts import hardening as hardening_pictures
from blankcheck.report.charts.audit import Confidences, LitCounts
from blankcheck.report.charts.blend import draw_blends
from blankcheck.report.charts.certificate import draw_certificate
from blankcheck.report.charts.hardening import Forgetting, Success
from blankcheck.report.charts.select_rounds import Drawn as Drawn
from blankcheck.report.charts.select_rounds import both, round_figures
from blankcheck.runs.contents import RunContents, Witness
from blankcheck.text import one_line, percent

SIDE = 112
"""Pixels of a witness in the gallery, about."""
MOST_BARS = 30
MOST_IN_STRIP = 10
MOST_IN_WORDS = 12
"""Cells of a matrix that are said one by one."""


def draw(runs: Sequence[tuple[str, RunContents]]) -> dict[str, Drawn]:
    """The pictures of one run, or of a run before and one after, by name.

    Names: `Before` and `After`, or empty.
    """
    drawn: dict[str, Drawn] = {}
    audited = [
        (name, contents, contents.verdict)
        for name, contents in runs
        if contents.verdict is not None
    ]
    if audited:
        max_lit = max(verdict["conditions"]["max_lit"] for _, _, verdict in audited)
        lit = [_lit_counts(name, contents, len(audited) == 1) for name, contents, _ in audited]
        twin = _twin_counts([verdict for _, _, verdict in audited])
        drawn["lit-curve"] = both(
            lambda t: pictures.lit_curve(lit, max_lit, t, twin), _lit_words(lit, max_lit, twin)
        )
        sure = [_confidences(name, contents) for name, contents, _ in audited]
        threshold = audited[-1][2]["conditions"]["confidence"]
        drawn["confidence"] = both(
            lambda t: pictures.confidence_histogram(sure, threshold, t),
            _confidence_words(sure, threshold),
        )
    _, last = runs[-1]
    if last.verdict is not None and last.verdict["targets"]:
        drawn["per-class"] = _per_class(last, last.verdict["targets"])
    drawn |= _hardening(last) | draw_blends(last.blends) | draw_certificate(last)
    if last.epochs:
        losses = [e["real_loss"] for e in last.epochs]
        words = (
            f"Training loss over {len(losses)} epochs, from {losses[0]:.3f} to {losses[-1]:.3f}."
        )
        drawn["training"] = both(lambda t: pictures.loss_curve(last.epochs, t), words)
    for name, contents in runs:
        if contents.witnesses:
            drawn["witnesses-before" if name == "Before" else "witnesses"] = _strip(contents)
    return drawn


def witness_pngs(witness: Witness) -> tuple[bytes, bytes | None]:
    """The witness, and the real image nearest to it.

    Only the real one is made smaller: a lit pixel must not fade.
    """
    nearest = (
        None if witness.nearest is None else pictures.image_png(witness.nearest, SIDE, 2 * SIDE)
    )
    return pictures.image_png(witness.image, SIDE), nearest


def _light(figure: Figure, alt: str) -> Drawn:
    return Drawn(pictures.png(figure), None, alt)


def _lit_counts(name: str, contents: RunContents, by_class: bool) -> LitCounts:
    fooling = {
        t: [a.lit if a.fooled else None for a in contents.attempts if a.target == t]
        for t in _targets(contents)
    }
    every = [a.lit if a.fooled else None for a in contents.attempts]
    classes = list(fooling.values()) if by_class and len(fooling) > 1 else []
    return LitCounts(name, every, [a.fewest for a in contents.attempts], classes)


def _targets(contents: RunContents) -> list[int]:
    return sorted({a.target for a in contents.attempts})


def _twin_counts(verdicts: Sequence[dict[str, Any]]) -> list[int | None]:
    """Lit features of the attempts on the twin of the last audit that tells of one; nothing for
    older folders."""
    known = [verdict["twin"] for verdict in verdicts if verdict.get("twin")]
    return (
        [*known[-1]["lit"], *[None] * (known[-1]["attempts"] - known[-1]["fooled"])]
        if known
        else []
    )


def _lit_words(runs: Sequence[LitCounts], max_lit: int, twin: Sequence[int | None]) -> str:
    levels = sorted({max(1, max_lit // 30), max(1, max_lit // 9), max(1, max_lit // 3), max_lit})
    named = [(run.name, run.fooling) for run in runs] + ([("Plain twin", twin)] if twin else [])
    said = [
        (f"{name}: " if name else "")
        + ", ".join(f"{share_at_most(fooling, k):.0%} with at most {k}" for k in levels)
        for name, fooling in named
    ]
    return (
        f"Share of attempts with a fooling image, by its number of lit features. {'; '.join(said)}."
    )


def _confidences(name: str, contents: RunContents) -> Confidences:
    fooled, failed = (
        [a.confidence for a in contents.attempts if a.fooled is kind] for kind in (True, False)
    )
    return Confidences(name, fooled, failed)


def _confidence_words(runs: Sequence[Confidences], threshold: float) -> str:
    said = []
    for run in runs:
        every = [*run.fooled, *run.failed]
        sure = sum(c >= threshold for c in every)
        said.append(
            f"{run.name + ': ' if run.name else ''}{sure} of {len(every)} attempts reach {threshold:g}"
        )
    return f"How sure the classifier was of the best image of each attempt. {'; '.join(said)}."


def _per_class(contents: RunContents, targets: dict[str, Any]) -> Drawn:
    """The classes in order; of very many, those fooled most."""
    rows = sorted(targets.items(), key=lambda item: -(item[1]["rate"] or 0.0))[:MOST_BARS]
    rows.sort(key=lambda item: int(item[0]))
    names = [contents.class_name(int(t)) for t, _ in rows]
    rates, bounds = [r["rate"] or 0.0 for _, r in rows], [r["rate_upper_95"] for _, r in rows]
    words = f"Share of attempts fooled for each of {len(rows)} target classes: least {min(rates):.0%}, most {max(rates):.0%}."
    return _light(pictures.per_class_bars(names, rates, bounds), words)


def _hardening(contents: RunContents) -> dict[str, Drawn]:
    """What happened from round to round, as far as the folder tells."""
    drawn: dict[str, Drawn] = {}
    if contents.rounds:
        curves = hardening_pictures.success(contents.rounds, contents.sets)
        drawn["success"] = both(
            lambda t: hardening_pictures.success_curves(curves, contents.kept, t),
            _success_words(curves),
        )
    matrix = hardening_pictures.forgetting(contents.sets)
    if matrix is not None:
        drawn["forgetting"] = both(
            lambda t: hardening_pictures.forgetting_matrix(matrix, contents.kept, t),
            _forgetting_words(matrix),
        )
    if contents.rounds:
        drawn |= round_figures(contents)
    return drawn


def _success_words(curves: Success) -> str:
    first, last = curves.at[0] + 1, curves.at[-1] + 1
    said = (
        f"Fresh attempts that fool the network: {percent(curves.fooled[0])} after round {first}, "
        f"{percent(curves.fooled[-1])} after round {last} (95% upper bound {percent(curves.upper[-1])}); sparse and "
        f"confident, real-looking or not: {percent(curves.confident[0])}, then {percent(curves.confident[-1])}."
    )
    others = [(line.words, [s for s in line.shares if s is not None]) for line in curves.others]
    made = [
        f"{words}, {percent(shares[0])} at first and {percent(shares[-1])} at last"
        for words, shares in others
    ]
    return f"{said} Images made for other networks: {'; '.join(made)}." if made else said


def _forgetting_words(matrix: Forgetting) -> str:
    """The worst cell in words, and all that the last network says."""
    cells = [
        (share, r, i)
        for r, row in zip(matrix.rounds, matrix.shares, strict=True)
        for i, share in zip(matrix.rounds, row, strict=True)
        if share is not None
    ]
    worst, network, images = max(cells)
    last = [(i, share) for share, r, i in cells if r == matrix.rounds[-1]]
    said = ", ".join(f"{percent(share)} of round {i + 1}'s" for i, share in last[:MOST_IN_WORDS])
    if len(last) > MOST_IN_WORDS:
        shares = [share for _, share in last]
        said = f"between {percent(min(shares))} and {percent(max(shares))} of each round's, mean {percent(fmean(shares))}"
    title = "Share of the images trained on in each round that still fool the networks after it."
    if worst == 0:
        return f"{title} None does."
    return (
        f"{title} Worst: {percent(worst)} of round {images + 1}'s images fool the network after round {network + 1}. "
        f"The last network, after round {matrix.rounds[-1] + 1}, is fooled by {said}."
    )


def _strip(contents: RunContents) -> Drawn:
    """The sparsest witness of each of the first classes that have one."""
    best: dict[int, Witness] = {}
    for witness in sorted(contents.witnesses, key=lambda w: (w.lit, -w.confidence)):
        best.setdefault(witness.target, witness)
    shown = [best[t] for t in sorted(best)[:MOST_IN_STRIP]]
    rows = [
        (
            w.image,
            w.nearest,
            f"“{contents.class_name(w.target)[:12]}” {w.confidence:.0%}\n{w.lit} lit",
        )
        for w in shown
    ]
    words = "; ".join(
        f"taken for {one_line(contents.class_name(w.target), 40)} with {w.lit} lit" for w in shown
    )
    alt = f"The sparsest witness of each class, above the nearest real image: {words}."
    return _light(pictures.witness_strip(rows), alt)
