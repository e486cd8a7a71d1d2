"""Bootstrap by patient: known answers, coverage, and that patients stay whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instructx2x.errors import InputError
from instructx2x.evaluation.resampling import bootstrap, by_patient, difference, resamples, sample


def test_patients_are_drawn_whole():
    patients = ["b", "a", "b", "c", "a", "b"]
    groups = {tuple(rows) for rows in by_patient(patients)}
    assert groups == {(1, 4), (0, 2, 5), (3,)}
    for rows in resamples(patients, 50, seed=0):
        counts = np.bincount(rows, minlength=6)
        assert counts[1] == counts[4] and counts[0] == counts[2] == counts[5]
        assert counts[[1, 0, 3]].sum() == 3


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(lambda rows: values[rows].mean(), [str(i) for i in range(400)], count=4000)
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_images_of_one_patient_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=40)
    once = bootstrap(lambda rows: values[rows].mean(), [str(i) for i in range(40)])
    tenfold = np.repeat(values, 10)
    often = bootstrap(lambda rows: tenfold[rows].mean(), [str(i) for i in range(40) for _ in range(10)])
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.1)


def test_undefined_resamples_are_left_out():
    found = bootstrap(lambda rows: math.nan if 0 in rows else 1.0, ["a", "b", "c"], count=200)
    assert math.isnan(found.value) and (found.low, found.high) == (1, 1)
    nowhere = bootstrap(lambda rows: math.nan, ["a", "b"], count=20)
    assert math.isnan(nowhere.low)
    with pytest.raises(InputError, match="no image"):
        bootstrap(lambda rows: 0.0, [])


def test_paired_differences_see_what_single_intervals_cannot():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 5, 100)
    one, other = hard + rng.normal(0.5, 0.5, 100), hard + rng.normal(0, 0.5, 100)
    patients = [str(i) for i in range(100)]

    samples = sample(lambda rows: np.array([one[rows].mean(), other[rows].mean()]), patients)
    found, p = difference(one.mean(), other.mean(), *samples.T)
    assert found.value == pytest.approx((one - other).mean())
    assert found.low > 0 and p < 0.01
    alone = [bootstrap(lambda rows, v=values: v[rows].mean(), patients) for values in (one, other)]
    assert alone[0].low < alone[1].high, "the intervals of each alone overlap"
    same, p = difference(1.0, 1.0, samples[:, 0], samples[:, 0])
    assert (same.value, same.low, same.high, p) == (0, 0, 0, 1)


def test_p_values_of_no_difference_are_spread_evenly():
    rng = np.random.default_rng(3)
    small = 0
    for seed in range(200):
        values = rng.normal(size=60)
        samples = sample(
            lambda rows, v=values: np.array([v[rows].mean(), 0]), [str(i) for i in range(60)], count=200, seed=seed
        )
        _, p = difference(values.mean(), 0.0, *samples.T)
        small += p < 0.1
    assert 8 <= small <= 36
