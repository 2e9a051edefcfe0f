"""What the judge looks at: where strokes are, whatever their thickness and brightness."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from blankcheck.judging.shape import DIRECTIONS, edges, outline

SHAPES = {(1, 8, 8): 64, (1, 28, 28): 196, (3, 32, 32): 768, (1, 3, 9): 27, (3, 224, 224): 588}
"""Of images, and how many numbers an outline of them has: about 14 rows and columns at most."""
SEEN = pytest.mark.parametrize("seen", [outline, edges])


def noise(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def lines(horizontal: bool = False, thickness: int = 1, size: int = 28) -> torch.Tensor:
    """A bar of so many columns, or rows, over most of an image."""
    image, middle = torch.zeros(1, 1, size, size), size // 2
    image[0, 0, 4:-4, middle - thickness // 2 : middle + (thickness + 1) // 2] = 1
    return image.transpose(2, 3).contiguous() if horizontal else image


def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    """Cosine of two rows."""
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@SEEN
def test_sizes_lengths_and_black(seen, shape):
    images = noise(3, *shape)
    rows = seen(images)
    _, h, w = shape
    assert rows.shape == (3, SHAPES[shape] if seen is outline else 8 * min(7, h) * min(7, w))
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    black = seen(torch.zeros(2, *shape))
    assert black.shape == (2, rows.shape[1]) and not black.any()


@pytest.mark.parametrize("factor", [0.5, 0.3])
@SEEN
def test_brightness_does_not_count(seen, factor):
    for images in (noise(5, 1, 28, 28), lines(), noise(2, 3, 16, 16)):
        assert torch.allclose(seen(factor * images), seen(images), atol=1e-6)


def test_thickness_hardly_counts():
    """A stroke of three times the thickness stays nearer to its original than any other shape."""
    thin, other = lines(), lines(horizontal=True)
    thick, shifted = F.max_pool2d(thin, 3, 1, 1), thin.roll(6, dims=3)
    assert alike(outline(thin), outline(thick)) > 0.95
    assert alike(outline(thin), outline(other)) < 0.5
    assert alike(outline(thin), outline(shifted)) < 0.2, "where a stroke is does count"
    # pixel by pixel the thick one is as far from its original as the other
    assert alike(thin, thick) < 0.6


def test_an_outline_is_a_blurred_and_reduced_image():
    """Against another program's blur: deviation 1.5 for 28 rows, black around."""
    images = noise(2, 1, 28, 28) * (noise(2, 1, 28, 28) > 0.7)
    blurred = [
        gaussian_filter(x[0].double().numpy(), 1.5, mode="constant", truncate=18) for x in images
    ]
    means = F.avg_pool2d(torch.stack([torch.tensor(each) for each in blurred])[:, None], 2).flatten(
        1
    )
    expected = means / means.norm(dim=1, keepdim=True)
    assert torch.allclose(outline(images).double(), expected, atol=1e-6)


def test_the_last_rows_may_be_fewer():
    """21 rows are taken by twos, the last one alone."""
    alone = torch.zeros(1, 1, 21, 21)
    alone[0, 0, 20, 20] = 1
    found = outline(alone).view(11, 11)
    assert found.argmax() == 11 * 11 - 1 and found[-1, -1] > found[-2, -2] > 0


def by_direction(images: torch.Tensor) -> torch.Tensor:
    """(8, 7, 7): what each direction of edge has in each cell of the first image."""
    return edges(images)[0].view(DIRECTIONS, 7, 7)


@pytest.mark.parametrize(("horizontal", "direction"), [(False, 0), (True, 4)])
def test_a_bar_votes_for_one_direction(horizontal, direction):
    """Away from its ends: a vertical bar's edges look left and right, and the sign is ignored."""
    found = by_direction(lines(horizontal))
    middle = found[:, :, 3] if horizontal else found[:, 3, :]
    share = middle[direction].sum() / middle.sum()
    assert share > 0.999
    assert found[direction].sum() > 0.6 * found.sum()


def test_a_slanted_line_votes_for_the_direction_between():
    slanted = torch.eye(28)[None, None]
    for image, direction in ((slanted, 6), (slanted.flip(3), 2)):
        middle = by_direction(image)[:, 3, 3]
        assert middle.argmax() == direction and middle[direction] > 0.9 * middle.sum()


def test_a_direction_between_two_is_shared_by_both():
    """A ramp whose gradient lies a quarter of the way from direction 0 to direction 1."""
    angle = 0.25 * math.pi / DIRECTIONS
    y, x = torch.arange(28.0)[:, None], torch.arange(28.0)[None, :]
    ramp = (0.5 + (math.cos(angle) * (x - 14) + math.sin(angle) * (y - 14)) / 60)[None, None]
    middle = by_direction(ramp)[:, 3, 3]
    assert torch.allclose(middle[:2] / middle.sum(), torch.tensor([0.75, 0.25]), atol=1e-3)


def test_a_dark_bar_has_the_edges_of_a_bright_one():
    """Away from the border of the image, against which a bright ground has edges of its own."""
    bright = lines()
    inside = [by_direction(image)[:, 3, 1:6] for image in (bright, 1 - bright)]
    assert alike(inside[0], inside[1]) == pytest.approx(1, abs=1e-5)


def test_a_mirrored_image_has_mirrored_edges():
    image = noise(1, 1, 28, 28)
    mirrored = by_direction(image).flip(2)[[0, 7, 6, 5, 4, 3, 2, 1]]
    assert torch.allclose(by_direction(image.flip(3)), mirrored, atol=1e-5)


def test_the_channel_with_the_larger_gradient_has_the_vote():
    one, other = lines(), lines(horizontal=True)
    dark = torch.zeros_like(one)
    coloured = torch.cat([one, 0.4 * other, dark], dim=1)
    found = by_direction(coloured)
    assert torch.allclose(edges(torch.cat([one, dark, 0.5 * one], dim=1)), edges(one), atol=1e-6)
    # beside the strong bar there is the weak one alone; above the weak one there is the strong one
    assert found[4, 3, 2] > 0.9 * found[:, 3, 2].sum()
    assert found[0, 2, 3] > 0.99 * found[:, 2, 3].sum()
