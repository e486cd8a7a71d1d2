import numpy as np
import pytest

from instructx2x.editing import guidance
from instructx2x.imaging.geometry import Frame

SOURCES = [(64, 64), (96, 80), (80, 96), (301, 57), (33, 40), (1000, 777)]


def blobs(height, width, seed=0, share=0.01):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < share
    mask[height // 3 : height // 2, width // 4 : width // 2] = True
    return mask


@pytest.mark.parametrize("size", SOURCES)
@pytest.mark.parametrize("mode", ["letterbox", "squash"])
def test_every_edited_pixel_lies_in_an_edited_cell_with_edited_neighbours(size, mode):
    """Row 11: max-pooling plus one cell."""
    frame = Frame(*size, 64, mode)
    mask = blobs(*size)
    cells = guidance.latent_mask(mask, frame, 8)
    content = guidance.content_cells(frame, 8)
    top, bottom, left, right = frame.content
    rows, columns = np.nonzero(mask)
    row = ((top + (rows + 0.5) * (bottom - top) / size[0]) / 8).astype(int)
    column = ((left + (columns + 0.5) * (right - left) / size[1]) / 8).astype(int)
    for down in (-1, 0, 1):
        for aside in (-1, 0, 1):
            r, c = np.clip(row + down, 0, 7), np.clip(column + aside, 0, 7)
            assert (cells | ~content)[r, c].all()


@pytest.mark.parametrize("size", SOURCES)
def test_padding_is_never_edited(size):
    frame = Frame(*size, 64)
    top, bottom, left, right = frame.content
    content = np.zeros((64, 64), bool)
    content[top:bottom, left:right] = True
    holds_image = content.reshape(8, 8, 8, 8).any(axis=(1, 3))
    np.testing.assert_array_equal(guidance.content_cells(frame, 8), holds_image)
    assert not (guidance.latent_mask(np.ones(size, bool), frame, 8) & ~holds_image).any()


def test_pooling_without_resampling_is_plain_max_pooling():
    mask = blobs(64, 64, seed=3)
    expected = mask.reshape(8, 8, 8, 8).any(axis=(1, 3))
    np.testing.assert_array_equal(guidance.any_in_cells(mask, Frame(64, 64, 64), 8), expected)


@pytest.mark.parametrize("width", [0.5, 1, 3, 12.5])
def test_feather_is_zero_outside_and_positive_inside(width):
    """Row 11: soft towards the inside only."""
    mask = blobs(90, 70, seed=1)
    soft = guidance.feather(mask, width)
    assert soft.dtype == np.float32
    assert not soft[~mask].any()
    assert (soft[mask] > 0).all() and soft.max() <= 1


def test_feather_rises_with_the_distance_from_the_edge_and_ignores_the_border():
    mask = np.zeros((40, 40), bool)
    mask[:, 10:] = True
    soft = guidance.feather(mask, 8)
    assert (np.diff(soft, axis=1) >= 0).all()
    assert (soft[:, 18:] == 1).all() and soft[0, 10] < 0.1
    np.testing.assert_array_equal(soft, np.repeat(soft[:1], 40, axis=0))


def test_feather_of_everything_and_of_nothing():
    assert (guidance.feather(np.ones((5, 7), bool), 3) == 1).all()
    assert not guidance.feather(np.zeros((5, 7), bool), 3).any()


def test_guidance_map_is_the_product():
    rng = np.random.default_rng(0)
    pseudo_mask, relevance = rng.random((2, 12, 9), np.float32)
    found = guidance.guidance_map(pseudo_mask, relevance)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, pseudo_mask * relevance)
    pseudo_mask[:, :4] = 0
    assert not guidance.guidance_map(pseudo_mask, relevance)[:, :4].any()


@pytest.mark.parametrize("threshold", [1e-46, 1e-300, 5e-324, 0.0, 0.001, 0.1, 1.0])
def test_nothing_where_the_guidance_is_zero_is_ever_edited(threshold):
    """A threshold can round to 0 in single precision, which every pixel reaches."""
    guided = np.array([0, 1e-45, 0.0005, 0.001, 0.1, 0.5, 1], np.float32)
    mask = guidance.decide(guided, threshold)
    assert not mask[0] and mask[-1] and mask.dtype == bool
    assert np.array_equal(mask[1:], guided[1:] >= np.float32(threshold))


def _rimmed():
    """A pseudo mask with a core and a wide rim, and a relevance of three spots: in the core, beside it, in the rim."""
    pseudo, relevance = np.full((40, 40), 0.3, np.float32), np.zeros((40, 40), np.float32)
    pseudo[10:20, 10:20] = 1
    relevance[12:15, 12:15] = 0.9
    relevance[17:24, 17:24] = 0.8  # from the core into the rim
    relevance[34:37, 5:9] = 1
    return pseudo, relevance


def test_islands_in_the_rim_are_closed_and_nothing_else():
    pseudo, relevance = _rimmed()
    kept = guidance.without_islands(pseudo, relevance, 0.1)
    mask = guidance.decide(guidance.guidance_map(kept, relevance), 0.1)
    assert mask[12:15, 12:15].all() and mask[17:24, 17:24].all() and not mask[30:].any()
    expected = pseudo.copy()
    expected[34:37, 5:9] = 0
    np.testing.assert_array_equal(kept, expected)
    assert kept.dtype == pseudo.dtype
    # A threshold that the rim never reaches leaves no island, and so nothing to close.
    np.testing.assert_array_equal(guidance.without_islands(pseudo, relevance, 0.5), pseudo)


def test_a_mask_of_islands_alone_stays():
    pseudo, relevance = _rimmed()
    relevance[10:25] = 0
    np.testing.assert_array_equal(guidance.without_islands(pseudo, relevance, 0.1), pseudo)
    flat = np.zeros((8, 8), np.float32)
    np.testing.assert_array_equal(guidance.without_islands(flat, flat, 0.1), flat)


def test_no_anatomy_has_no_islands():
    open_everywhere, relevance = np.ones((40, 40), np.float32), _rimmed()[1]
    np.testing.assert_array_equal(guidance.without_islands(open_everywhere, relevance, 0.1), open_everywhere)


@pytest.mark.parametrize("highest", [0.15, 0.6, 1.0])
def test_a_faint_pseudo_mask_has_a_core_of_its_own(highest):
    pseudo, relevance = _rimmed()
    kept = guidance.without_islands(pseudo * highest, relevance, 0.01)
    assert kept[12:24, 12:24].all() and not kept[34:37, 5:9].any()
