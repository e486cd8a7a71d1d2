"""Measures of a guidance map against closed forms, and against other ways to calculate them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import rankdata

from instructx2x.errors import InputError
from instructx2x.evaluation.maps import (
    box_mask,
    box_share,
    change_correlation,
    map_correlation,
    overlap,
    pointing_game,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_box_holds_the_pixels_whose_centres_it_holds():
    shape = (20, 30)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    for x, y, w, h in [(3, 4, 5, 6), (3.4, 4.6, 2.2, 5.9), (-4, -3, 10, 9.5), (25, 15, 99, 99)]:
        expected = (columns >= x) & (columns < x + w) & (rows >= y) & (rows < y + h)
        np.testing.assert_array_equal(box_mask([(x, y, w, h)], shape), expected)
    assert box_mask([(3, 4, 5, 6)], shape).sum() == 30
    assert box_mask([(0, 0, 4, 4), (2, 0, 4, 4)], shape).sum() == 24  # a union: what both hold counts once
    assert not box_mask([], shape).any()


@pytest.mark.parametrize(
    "box", [(30, 0, 5, 5), (0, 0, 0, 5), (5, 5, -2, 3), (2, 2, 0.1, 9), (np.nan, 0, 5, 5), (0, 0, np.inf, 5), (1, 2, 3)]
)
def test_a_box_without_a_pixel_is_refused_in_one_line(box):
    for call in (lambda: box_mask([box], (20, 30)), lambda: box_share(np.ones((20, 30)), [(0, 0, 3, 3), box])):
        with pytest.raises(InputError) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_the_share_of_a_flat_map_is_the_boxes_share_of_the_frame(rng):
    boxes = [(2, 3, 7, 5), (6, 1, 9, 6)]
    inside = box_mask(boxes, (16, 24))
    assert box_share(np.full((16, 24), 0.3), boxes) == pytest.approx(inside.mean(), abs=1e-12)
    values = rng.random((16, 24))
    expected = sum(values[r, c] for r in range(16) for c in range(24) if inside[r, c]) / values.sum()
    assert box_share(values, boxes) == pytest.approx(expected, abs=1e-9)
    assert box_share(np.where(inside, values, 0), boxes) == 1
    assert box_share(np.where(inside, 0, values), boxes) == 0


def test_pointing_is_a_hit_where_the_highest_point_is():
    values = np.zeros((20, 20))
    values[5, 12] = 1
    assert pointing_game(values, [(12, 5, 1, 1)]) == 1
    assert pointing_game(values, [(5, 12, 1, 1)]) == 0  # x is the column
    assert pointing_game(values, [(0, 0, 3, 3), (10, 4, 5, 5)]) == 1


def test_pointing_tolerates_a_distance():
    values = np.zeros((30, 30))
    values[10, 20] = 1
    box = [(3, 2, 15, 5)]  # its nearest pixel is (6, 17): 4 rows and 3 columns away
    assert [pointing_game(values, box, tolerance=t) for t in (0, 4.99, 5, 15)] == [0, 0, 1, 1]


def test_of_several_highest_points_the_share_that_hits_counts():
    values = np.zeros((10, 10))
    values[2, 2] = values[2, 3] = values[8, 8] = values[9, 0] = 0.7
    assert pointing_game(values, [(2, 2, 2, 2)]) == 0.5
    assert pointing_game(values, [(8, 8, 1, 1)]) == 0.25


def test_rank_correlation_is_that_of_ranks(rng):
    values = np.round(rng.random((30, 20)), 1)  # rounded: there are ties
    change = np.round(values * rng.normal(size=(30, 20)), 1)
    where = rng.random((30, 20)) < 0.4
    for mask in (None, where):
        pixels = np.ones_like(where) if mask is None else mask
        ranks = rankdata(values[pixels]), rankdata(np.abs(change)[pixels])
        assert change_correlation(values, change, mask) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert change_correlation(values, -change) == change_correlation(values, change)


def test_rank_correlation_of_any_rising_change_is_one(rng):
    values = rng.random((12, 9))
    assert change_correlation(values, np.exp(5 * values)) == pytest.approx(1)
    assert change_correlation(values, 1 / (values + 1)) == pytest.approx(-1)


def test_zeros_outside_the_anatomy_flatter_and_where_leaves_them_out(rng):
    anatomy = np.zeros((40, 40), bool)
    anatomy[10:20, 10:20] = True
    values, change = np.where(anatomy, rng.random((40, 40)), 0), np.where(anatomy, rng.random((40, 40)), 0)
    assert change_correlation(values, change) > 0.9
    assert abs(change_correlation(values, change, anatomy)) < 0.3


def test_map_correlation_is_pearsons(rng):
    one = rng.random((25, 31))
    other = one + rng.normal(0, 0.5, one.shape)
    a, b = one - one.mean(), other - other.mean()
    expected = (a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum())
    assert map_correlation(one, other) == pytest.approx(expected, abs=1e-9)
    assert map_correlation(one, 3 - 2 * one) == pytest.approx(-1)
    where = one > 0.5
    assert map_correlation(one, np.where(where, one, -9), where) == pytest.approx(1)


def test_overlap_is_dices():
    one, other = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    assert overlap(one, other) == 1
    one[:2], other[1:5] = True, True
    assert overlap(one, other) == overlap(other, one) == pytest.approx(2 * 6 / (12 + 24))
    assert overlap(one, one) == 1 and overlap(one, ~one) == 0


@pytest.mark.parametrize("scale", [1e-6, 3.0, 1e6])
def test_the_scale_of_a_map_changes_nothing(scale, rng):
    values, other, boxes = rng.random((18, 22)), rng.random((18, 22)), [(4, 3, 9, 8)]
    measures = (
        lambda values: box_share(values, boxes),
        lambda values: pointing_game(values, boxes),
        lambda values: change_correlation(values, other),
        lambda values: map_correlation(values, other),
    )
    for measure in measures:
        assert measure(scale * values) == pytest.approx(measure(values), abs=1e-9)


def test_what_is_undefined_is_nan(rng):
    values, boxes = rng.random((8, 8)), [(1, 1, 3, 3)]
    zero, flat, nothing = np.zeros((8, 8)), np.full((8, 8), 0.4), np.zeros((8, 8), bool)
    undefined = [
        box_share(zero, boxes), box_share(values, []), pointing_game(zero, boxes), pointing_game(flat, boxes),
        pointing_game(values, []), change_correlation(flat, values), change_correlation(values, zero),
        change_correlation(values, values, nothing), map_correlation(values, flat), map_correlation(flat, values),
        map_correlation(values, values, nothing), map_correlation(np.ones((1, 1)), np.ones((1, 1))),
    ]  # fmt: skip
    assert np.isnan(undefined).all()


def test_what_is_no_map_is_refused_in_one_line(rng):
    values, boxes = rng.random((8, 8)), [(1, 1, 3, 3)]
    strange, wide = values.copy(), rng.random((8, 9))
    strange[3, 3] = np.nan
    refused = [
        lambda: box_share(strange, boxes), lambda: pointing_game(strange, boxes),
        lambda: change_correlation(strange, values), lambda: change_correlation(values, strange),
        lambda: map_correlation(strange, values), lambda: map_correlation(values, strange),
        lambda: box_share(-values, boxes), lambda: pointing_game(values, boxes, tolerance=-1),
        lambda: pointing_game(values, boxes, tolerance=math.nan), lambda: box_share(values[0], boxes),
        lambda: box_share(np.zeros((0, 3)), boxes), lambda: box_share(np.full((2, 2), "x"), boxes),
        lambda: change_correlation(values, wide), lambda: map_correlation(values, wide),
        lambda: change_correlation(values, values, wide > 0), lambda: change_correlation(values, values, values),
        lambda: overlap(values > 0, wide > 0), lambda: overlap(values, values),
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(InputError) as error:
            call()
        assert "\n" not in str(error.value)
