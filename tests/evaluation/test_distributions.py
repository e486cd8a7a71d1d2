"""Distances between sets of images against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, stats

from instructx2x.errors import InputError
from instructx2x.evaluation.distributions import frechet_distance, kernel_distance, prediction_divergence


def test_divergence_is_that_of_coins():
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0.01, 0.99, (2, 40, 5))
    expected = np.mean([stats.entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(p.ravel(), q.ravel(), strict=True)])
    assert prediction_divergence(p, q) == pytest.approx(expected, abs=1e-12)
    assert prediction_divergence(p, p) == 0
    assert np.isfinite(prediction_divergence(np.ones((1, 1)), np.zeros((1, 1))))


def whitened(rng, count, mean, covariance):
    """Features whose sample mean and covariance are exactly those asked for."""
    x = rng.normal(size=(count, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_frechet_is_the_closed_form_of_two_normals():
    rng = np.random.default_rng(1)
    covariances = [a @ a.T + 0.1 * np.eye(6) for a in rng.normal(size=(2, 6, 6))]
    means = rng.normal(size=(2, 6))
    real, edited = (whitened(rng, 300, m, c) for m, c in zip(means, covariances, strict=True))
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(real, edited) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_of_whole_sets_is_the_unbiased_estimator():
    rng = np.random.default_rng(2)
    real, edited = rng.normal(size=(60, 4)), rng.normal(0.7, 1, size=(60, 4))

    def kernel(a, b):
        return (a @ b.T / 4 + 1) ** 3

    def within(x):
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    expected = within(real) + within(edited) - 2 * kernel(real, edited).mean()
    mean, spread = kernel_distance(real, edited, subsets=300)
    assert mean == pytest.approx(expected, abs=4 * spread / 300**0.5 + 1e-3)
    assert abs(kernel_distance(rng.normal(size=(400, 4)), rng.normal(size=(400, 4)))[0]) < 0.1
    assert kernel_distance(real, edited) == kernel_distance(real, edited), "it must not depend on global random state"


def test_bad_input_is_refused():
    good = np.random.default_rng(3).normal(size=(5, 3))
    for real, edited in ((good, good[:, :2]), (good, good[0]), (good[:1], good), (good, np.full((5, 3), np.nan))):
        with pytest.raises(InputError):
            frechet_distance(real, edited)
    with pytest.raises(InputError, match="at least 3"):
        kernel_distance(good[:2], good)
    with pytest.raises(InputError, match="in \\[0, 1\\]"):
        prediction_divergence(np.array([[1.5]]), np.array([[0.5]]))
    with pytest.raises(InputError, match="as many"):
        prediction_divergence(np.zeros((2, 1)), np.zeros((1, 1)))
