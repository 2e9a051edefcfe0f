from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from blankcheck.copies import cut_together, first_copies
from blankcheck.data import load_data
from blankcheck.errors import ArgumentError, DataError
from blankcheck.judging import FIRST, ODD, SECOND, OODTest, Score, benjamini_hochberg, features
from blankcheck.judging.conformal import CONDITIONAL, MARGINAL, carries, conformal_p_values
from blankcheck.judging.odd import amounts, roughness
from blankcheck.judging.ood import FEWEST_STRICT, usual_level
from blankcheck.judging.scores import Neighbours, unfitted, unit

ALL = {"first": FIRST, "second": SECOND, "odd": ODD}
FAMILIES = pytest.mark.parametrize("scores", ALL.values(), ids=ALL)


def blobs(n: int, seed: int, size: int = 12, channels: int = 1) -> torch.Tensor:
    """Smooth real-looking images; the channels of one differ in strength."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(size / 3, 2 * size / 3, (n, 2))
    width = rng.uniform(size / 6, size / 3, n)
    r = (y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2
    grey = np.exp(-r / width[:, None, None] ** 2)[:, None] * rng.uniform(
        0.7, 1, (n, channels, 1, 1)
    )
    return torch.tensor(grey, dtype=torch.float32)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tests() -> dict[tuple[Score, ...], OODTest]:
    return {each: OODTest.fit(blobs(2000, 0), 0.05, scores=each) for each in ALL.values()}


@FAMILIES
def test_false_alarms_stay_at_the_level_and_blank_images_are_caught(tests, scores):
    test = tests[scores]
    alarms = int(test.accepts(blobs(3000, 1)).sum())
    # a 5 % chance for an unlucky draw of the calibration images, then a 1 % chance for this draw of
    # fresh ones
    assert alarms <= binom.ppf(0.99, 3000, 0.05)
    few = torch.zeros(20, 1, 12, 12)
    few.view(20, -1)[torch.arange(20), torch.arange(20) * 7] = 1
    assert test.accepts(few).all() and test.accepts(torch.zeros(1, 1, 12, 12)).all()
    assert test.accepts(noise(20, 1, 12, 12)).all()


@pytest.mark.parametrize(
    "scores",
    # the second costs more than all the rest
    [pytest.param(ALL[f], marks=[pytest.mark.slow] if f == "second" else []) for f in ALL],
    ids=ALL,
)
def test_conditional_guarantee_over_many_calibration_draws(scores):
    """With marginal p-values about half of the draws have more false alarms than the level, here at
    most one in twenty."""
    fresh, level, draws = blobs(3000, 99), 0.1, 20
    tests = (OODTest.fit(blobs(500, seed), level, scores=scores) for seed in range(draws))
    rates = [float(test.accepts(fresh).float().mean()) for test in tests]
    assert sum(rate > level for rate in rates) <= binom.ppf(0.999, draws, 0.05)
    assert np.mean(rates) > level / 4, "not by refusing to call anything out of distribution"


def test_marginal_p_values_are_uniform_on_real_images():
    test = OODTest.fit(blobs(3000, 2), 1 / 1201)
    assert test.guarantee == MARGINAL
    p = test.p_values(blobs(4000, 3))
    for level in (0.1, 0.25, 0.5, 0.75):
        assert float((p <= level).float().mean()) == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize("n", [299, 1000, 10_000])
def test_conditional_p_values_are_beta_quantiles(n):
    table, guarantee = conformal_p_values(n, 0.01)
    assert guarantee == CONDITIONAL == "calibration-conditional, 95 %" and table.shape == (n + 1,)
    for r in (1, 2, n // 2, n):
        assert float(table[r - 1]) == pytest.approx(beta.ppf(0.95, r, n + 1 - r), rel=1e-5)
    assert float(table[0]) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-5) and float(table[n]) == 1


@pytest.mark.parametrize("n", [19, 100, 298])
def test_too_few_for_conditional_p_values_are_marginal(n):
    table, guarantee = conformal_p_values(n, 0.01)
    assert guarantee == "marginal"
    assert torch.allclose(table, torch.arange(1, n + 2) / (n + 1))


@given(st.integers(1, 3000), st.sampled_from([0.001, 0.01, 0.1]))
@settings(max_examples=40, deadline=None)
def test_p_values_rise_with_the_rank_and_never_undercut_the_marginal_ones(n, level):
    table, guarantee = conformal_p_values(n, level)
    marginal = torch.arange(1, n + 2) / (n + 1)
    assert (table.diff() > 0).all() and (table > 0).all() and (table <= 1).all()
    assert (table >= marginal - 1e-6).all()
    assert (guarantee == CONDITIONAL) == (1 - 0.05 ** (1 / n) <= level)


def test_smallest_p_is_that_of_the_most_unusual_image(tests):
    for test in (tests[FIRST], OODTest.fit(blobs(60, 0), 0.05)):
        p = test.p_values(torch.zeros(5, 1, 12, 12))
        assert (p <= test.smallest_p).all() and p.tolist() == [test.smallest_p] * 5
    assert tests[FIRST].smallest_p == pytest.approx(1 - 0.05 ** (1 / 800), rel=1e-5)
    assert test.guarantee == MARGINAL and test.smallest_p == pytest.approx(1 / 25)


@FAMILIES
def test_p_values_fall_as_an_image_gets_further_from_real_data(tests, scores):
    real, wild = blobs(1, 7), noise(1, 1, 12, 12)
    p = tests[scores].p_values(torch.cat([(1 - a) * real + a * wild for a in (0.0, 0.1, 0.5, 1.0)]))
    assert (p.diff() <= 0).all() and p[0] > 0.05 >= p[-1]


@FAMILIES
@pytest.mark.parametrize("strength", [0.03, 0.1, 0.3, 1.0])
def test_accepted_is_what_has_a_p_value_of_at_most_the_level(tests, scores, strength):
    # from images that are usual to such as are not, the border between them, and both at once
    images = (blobs(200, 7) + strength * noise(200, 1, 12, 12)).clamp(0, 1)
    p = tests[scores].p_values(images)
    for level in (0.001, 0.02, float(p.median()), 0.5):
        test = replace(tests[scores], level=level)
        assert torch.equal(test.accepts(images), p <= level)


def test_bounds_of_distances_are_bounds():
    fitted = Neighbours(lambda x: unit(x.flatten(1)), unit(noise(300, 20)))
    images = noise(50, 1, 4, 5) ** 2
    assert (fitted.bound(images) >= fitted(images)).all()


@FAMILIES
@pytest.mark.parametrize("channels", [1, 3])
def test_p_value_does_not_depend_on_the_batch(scores, channels):
    """But for the next possible value: products of other sizes are summed in another order."""
    test = OODTest.fit(blobs(300, 0, channels=channels), 0.05, scores=scores)
    images = blobs(50, 5, channels=channels)
    together, alone = (
        torch.searchsorted(test.attainable, p)
        for p in (test.p_values(images), torch.cat([test.p_values(x[None]) for x in images]))
    )
    assert (together - alone).abs().max() <= 1 and (together != alone).sum() <= 2
    assert test.p_values(images[:0]).shape == test.accepts(images[:0]).shape == (0,)
    assert test.score_p_values(images[:0]).shape == (0, len(test.names))


@FAMILIES
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 3, 9), (2, 1, 5)])
def test_extreme_images_have_finite_scores(scores, shape):
    c, h, w = shape
    real = blobs(200, 0, max(h, w), c)[:, :, :h, :w].clone()
    real[::20] = 0
    test = OODTest.fit(real, 0.05, scores=scores)
    single = torch.zeros(1, *shape)
    single[0, 0, 0, 0] = 1
    images = torch.cat(
        [torch.zeros(1, *shape), torch.ones(1, *shape), single, torch.full((1, *shape), 1e-8)]
    )
    assert test.tails(images).isfinite().all() and test.p_values(images).isfinite().all()
    p = test.score_p_values(images)
    assert p.shape == (4, len(test.names)) and (p > 0).all() and (p <= 1).all()


@FAMILIES
def test_no_columns_for_colour_where_there_is_none(scores):
    grey, coloured = (OODTest.fit(blobs(100, 0, channels=c), 0.05, scores=scores) for c in (1, 3))
    assert ("colourful" in coloured.names) == (scores is ODD) and "colourful" not in grey.names
    for test, channels in ((grey, 1), (coloured, 3)):
        columns = test.tails(blobs(2, 1, channels=channels)).shape[1]
        assert len(test.names) == len(set(test.names)) == columns


def test_large_images_fit_into_memory():
    images = noise(60, 3, 64, 64)
    images[:, :, ::2] = images[:, :, 1::2]
    for scores in ALL.values():
        assert OODTest.fit(images, 0.05, scores=scores).accepts(images).shape == (60,)


def pixel(y: int, x: int) -> Score:
    """How far one pixel is from its mean over the real images."""
    return Score(
        ("pixel",),
        lambda real: lambda images: (images[:, :1, y, x] - real[:, :1, y, x].mean(dim=0)).abs(),
    )


def test_a_score_of_ones_own_is_used():
    real, marked = blobs(500, 0), blobs(20, 1)
    marked[:, :, 0, 0] = 1
    test = OODTest.fit(real, 0.05, scores=(pixel(0, 0),))
    assert test.names == ("pixel",) and test.accepts(marked).all()
    assert OODTest.fit(real, 0.05, scores=(pixel(6, 6),)).accepts(marked).sum() <= 5
    more = OODTest.fit(real, 0.05, scores=(*FIRST, pixel(0, 0)))
    assert (
        more.names[-1] == "pixel" and (more.score_p_values(marked)[:, -1] <= 1 / 101 + 1e-6).all()
    )


def test_single_scores_have_rank_p_values(tests):
    for scores, names in (
        (FIRST, ("unlike components of shape", "far neighbours in shape")),
        (SECOND, ("unlike components of edges", "rare components of edges")),
        (ODD, ("few lit", "many lit", "little ink", "unlike components")),
    ):
        test, black = tests[scores], torch.zeros(1, 1, 12, 12)
        assert test.names[: len(names)] == names
        p = dict(zip(test.names, test.score_p_values(black)[0].tolist(), strict=True))
        if scores is ODD:
            assert p["few lit"] == pytest.approx(1 / 401) and p["many lit"] == 1
        else:
            near = f"far neighbours in {'shape' if scores is FIRST else 'edges'}"
            assert p[near] == pytest.approx(1 / 401), "black is at a right angle to all"
        # at most: every blob is lit everywhere, so that two of the scores never say anything
        assert ((test.score_p_values(blobs(3000, 8)) <= 0.1).float().mean(dim=0) < 0.16).all()


def test_roughness_of_known_images():
    board = ((torch.arange(4)[:, None] + torch.arange(4)) % 2)[None, None].float()
    plain = torch.ones(1, 1, 4, 4)
    # 24 steps of one per 8 of ink; Laplacian 2, 3 or 4 at corners, edges and inside
    energy = (4 * 4 + 8 * 9 + 4 * 16) / 8
    assert torch.allclose(
        roughness.fit(plain)(torch.cat([board, plain])),
        torch.tensor([[3.0, energy**0.5], [0.0, 0.0]]),
    )


@pytest.mark.parametrize(
    "wrong", [(), (unfitted("one", "two")(lambda images: images[:, 0, :1, 0]),)]
)
def test_scores_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(ArgumentError, match="score"):
        OODTest.fit(blobs(100, 0), 0.05, scores=wrong)


def test_too_few_real_images_are_refused():
    with pytest.raises(DataError, match="needs at least 246 real images"):
        OODTest.fit(blobs(200, 0), 0.01)


def test_benjamini_and_hochberg_of_their_own_example():
    """Table 1 of 1995 rejects four of fifteen hypotheses where Bonferroni rejects three."""
    p = (1, 4, 19, 95, 201, 278, 298, 344, 459, 3240, 4262, 5719, 6528, 7590, 10_000)
    p = [each / 10_000 for each in p]
    assert benjamini_hochberg(p, 0.05) == [True] * 4 + [False] * 11
    assert benjamini_hochberg([], 0.05) == []
    assert benjamini_hochberg([0.04, 0.03], 0.05) == [True, True]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.5), st.randoms())
def test_benjamini_hochberg_lies_between_bonferroni_and_no_correction(p, level, random):
    rejected = benjamini_hochberg(p, level)
    for value, decision in zip(p, rejected, strict=True):
        assert decision or value > level / len(p)
        assert not decision or value <= level
    border = level * sum(rejected) / len(p)
    assert rejected == [value <= border for value in p]
    order = random.sample(range(len(p)), len(p))
    assert benjamini_hochberg([p[i] for i in order], level) == [rejected[i] for i in order]


def test_features_of_another_network_are_a_score():
    """Images whose outputs no real image has are caught, whatever they look like; the network is
    left without a graph."""
    seen = []

    def network(images):
        seen.append(torch.is_grad_enabled())
        return torch.stack([images[:, 0, 0, 0], images[:, 0, 1, 1]], dim=1)

    generator = torch.Generator().manual_seed(0)
    real = torch.rand(1500, 1, 6, 6, generator=generator)
    real[:, 0, 1, 1] = real[:, 0, 0, 0]
    test = OODTest.fit(real, 0.05, scores=(features(network, "twin"),))
    odd = torch.rand(50, 1, 6, 6, generator=generator)
    odd[:, 0, 0, 0], odd[:, 0, 1, 1] = 0.0, 1.0
    assert (
        test.names == ("twin",)
        and test.accepts(odd).all()
        and not test.accepts(real[:100]).float().mean() > 0.2
    )
    assert not any(seen)


@pytest.mark.parametrize("copies", [5, 30])
def test_copies_of_an_image_are_in_one_part_and_count_once(copies):
    """Fitted on images that also calibrate it, the test would call a fifth of all fresh real images
    out of distribution."""
    level, fresh = 0.05, blobs(2000, 5)
    copied = blobs(500, 0).repeat(copies, 1, 1, 1)
    test = OODTest.fit(copied, level)
    assert float(test.accepts(fresh).float().mean()) <= level
    distinct = test.calibrating
    assert len(test.calibration) > 0.8 * copies * distinct and 150 <= distinct <= 250
    assert test.smallest_p == float(conformal_p_values(distinct, level)[0][0])
    assert test.accepts(noise(20, 1, 12, 12)).all()


@pytest.mark.parametrize("copies", [1, 3])
def test_p_values_rank_among_different_images(copies):
    """Images that are each there so many times give the p-values of as many different ones."""
    images = blobs(400, 1)
    test = OODTest.fit(images.repeat(copies, 1, 1, 1), 0.05, scores=(pixel(6, 6),))
    ranks = test.table.tolist()
    assert set(test.p_values(blobs(300, 2)).tolist()) <= set(ranks)
    top = torch.ones(1, 1, 12, 12) * 2
    assert float(test.p_values(top)) == test.smallest_p


def test_few_different_images_are_refused_however_often_they_occur():
    with pytest.raises(DataError, match="copies of others"):
        OODTest.fit(blobs(30, 0).repeat(15, 1, 1, 1), 0.05)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=30), st.integers(0, 1000), st.integers(1, 29)
)
def test_an_order_is_cut_between_images_and_never_between_copies(values, seed, border):
    images = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).float()
    order, firsts = (
        torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)),
        first_copies(images),
    )
    assert [values[i] for i in firsts.tolist()] == values
    parts = cut_together(order, firsts, [min(border, len(values))])
    assert sorted(torch.cat(parts).tolist()) == list(range(len(values)))
    kinds = [{values[i] for i in part.tolist()} for part in parts]
    assert not kinds[0] & kinds[1]
    plain = cut_together(order, torch.arange(len(values)), [min(border, len(values))])
    assert torch.equal(torch.cat(plain), order) and len(plain[0]) == min(border, len(values))


@FAMILIES
def test_no_score_jumps(scores):
    """A change of every value by a millionth moves each score by little, as measured by how much
    real images differ."""
    real = load_data("digits").train.images  # their values are multiples of 1/16
    grids = torch.cat(
        [real[:40], (real[40:80] > 0.3).float() * 0.5, real[80:120] * 0.5, real[120:160] * 0.25]
    )
    for score in scores:
        values = score.fit(real)
        if values(real[:1]).shape[1] == 0:
            continue  # colours of grey images
        spread = values(real).std(dim=0).clamp_min(1e-6)
        for step in (1e-6, -1e-6):
            moved = values((grids + step * (grids > 0)).clamp(0, 1))
            assert (
                float(((moved - values(grids)).abs() / (spread + values(grids).abs())).max()) < 0.02
            ), score.names


def test_dimmed_digits_do_not_all_become_strange_at_once():
    """Half as bright, handwritten digits are still handwritten digits; one score called all of them
    out of distribution as soon as no value was above 0.5."""
    data = load_data("digits")
    test = OODTest.fit(data.train.images, 0.01, scores=(amounts,))
    by_level = [
        float(test.accepts(data.test.images * f).float().mean())
        for f in (0.52, 0.51, 0.5, 0.49, 0.48)
    ]
    assert max(abs(a - b) for a, b in pairwise(by_level)) < 0.2


@pytest.mark.parametrize("scores", [FIRST, SECOND], ids=["first", "second"])
def test_a_dim_digit_is_odd_and_has_its_shape(scores):
    """At an eighth of the brightness everybody reads the same digits: tests of shape say the same
    of them as of the bright ones, and a test of anything unusual calls them all odd."""
    data = load_data("digits")
    shape = OODTest.fit(data.train.images, 0.01, scores=scores)
    odd = OODTest.fit(data.train.images, 0.01, scores=ODD)
    images, dim = data.test.images, data.test.images / 8
    assert torch.equal(shape.p_values(dim), shape.p_values(images))
    assert odd.accepts(dim).all() and odd.accepts(images).float().mean() < 0.05


def test_what_the_data_often_show_is_no_copy():
    """Blank images that are a tenth of the data are real images like others: they must not be
    called out of distribution."""
    some = blobs(900, 0)
    images = torch.cat([some, torch.zeros(100, *some.shape[1:])])
    test = OODTest.fit(images, 0.05)
    assert not test.accepts(torch.zeros(1, *some.shape[1:])).any()


def test_how_many_images_carry_a_level():
    assert carries(299, 0.01) and not carries(298, 0.01)
    assert carries(FEWEST_STRICT, 0.001) and not carries(FEWEST_STRICT - 1, 0.001)
    assert FEWEST_STRICT == 2995 and not carries(0, 0.1)


def different(n: int) -> torch.Tensor:
    """So many small images, no two alike."""
    return (torch.arange(4 * n) / (4 * n)).view(n, 1, 2, 2)


@pytest.mark.parametrize(("calibrating", "level"), [(2995, 0.001), (2994, 0.01)])
def test_the_usual_level_is_what_the_calibration_carries(calibrating, level):
    """Two images in five calibrate."""
    images = different(next(n for n in range(7000, 8000) if n - int(0.6 * n) == calibrating))
    assert usual_level(images) == level
    test = OODTest.fit(images, level, scores=(pixel(0, 0),))
    assert test.calibrating == calibrating and test.guarantee == CONDITIONAL
    assert test.smallest_p <= level


def test_copies_do_not_make_the_usual_level_stricter():
    """20,000 images of which 4,000 differ: some 1,600 of these calibrate."""
    assert usual_level(different(20_000)) == 0.001
    assert usual_level(different(4000).repeat(5, 1, 1, 1)) == 0.01
    assert usual_level(different(60)) == 0.01


def test_attainable_p_values_pass_all_ties_at_once():
    """Five ranked images, 1 ... 5, and ten that calibrate, of which several lie between the same
    two: p-values count how many lie in the same gap or beyond."""
    bright = Score(("bright",), lambda real: lambda images: images[:, :1, 0, 0])
    test = OODTest.fit(different(1000), 0.05, scores=(bright,))
    few = replace(
        test,
        reference=torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]),
        tail_scale=torch.ones(1),
        calibration=torch.tensor([]),
        table=torch.arange(1, 12) / 11,
    )

    def images(*values: float) -> torch.Tensor:
        return torch.tensor(values).view(-1, 1, 1, 1)

    real = images(0.5, 1.5, 1.6, 2.5, 2.6, 2.7, 4.5, 4.6, 6.0, 7.0)
    few = replace(few, calibration=few.tails(real).amax(dim=1).sort().values)
    asked = images(0, 1.7, 2.1, 3.5, 4.9, 5.5, 6.5, 8)
    expected = torch.tensor([11, 10, 8, 5, 5, 3, 2, 1]) / 11
    assert torch.allclose(few.p_values(asked), expected)
    assert torch.allclose(few.attainable * 11, torch.tensor([1.0, 2, 3, 5, 8, 10, 11]))
