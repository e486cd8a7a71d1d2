"""Where an edit changed an image: closed forms."""

import math

import numpy as np

from instructx2x.evaluation import locality


def test_closed_forms():
    change = np.zeros((4, 10), np.float32)
    change[0, :5] = -0.5
    change[1, 5:] = 0.25
    assert locality.amount(change) == (2.5 + 1.25) / 40
    assert locality.changed_share(change) == 10 / 40
    top = np.zeros(change.shape, bool)
    top[0] = True
    assert locality.inside_share(change, top) == 2.5 / 3.75
    assert locality.inside_share(change, top) + locality.inside_share(change, ~top) == 1
    assert locality.changed_outside(change, top) == 5
    assert locality.changed_outside(change, np.ones_like(top)) == 0
    assert math.isnan(locality.inside_share(0 * change, top)) and locality.amount(0 * change) == 0


def test_less_than_half_a_step_of_eight_bits_is_not_seen_but_counts_as_changed():
    change = np.full((2, 2), 0.4 / 255, np.float32)
    assert locality.changed_share(change) == 0
    assert locality.changed_outside(change, np.zeros((2, 2), bool)) == 4


def test_sides_are_the_patients():
    right, left = (locality.half((3, 10), side, 0.4) for side in ("right", "left"))
    assert right[:, :4].all() and not right[:, 4:].any()
    np.testing.assert_array_equal(left, ~right)


def test_what_is_left_after_taking_back():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(5, 6))
    assert locality.remaining(first, 0 * first) == 0
    assert locality.remaining(first, first) == 1
    assert locality.remaining(first, -2 * first) == 2
    assert math.isnan(locality.remaining(0 * first, first))
