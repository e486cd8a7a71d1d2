"""Intervals and tests that respect that images of one patient belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from instructx2x.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A measured value and its 95 % interval; `low` and `high` are NaN when nothing could be resampled."""

    value: float
    low: float
    high: float


def by_patient(patients: Sequence[str]) -> list[np.ndarray]:
    """Rows of each patient, patients in sorted order."""
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    return np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])


def resamples(patients: Sequence[str], count: int, seed: int):
    """Rows of `count` bootstrap resamples: patients are drawn with replacement, each with all of their images."""
    groups = by_patient(patients)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.concatenate([groups[patient] for patient in rng.integers(len(groups), size=len(groups))])


def sample(
    measures: Callable[[np.ndarray], np.ndarray], patients: Sequence[str], *, count: int = 1000, seed: int = 0
) -> np.ndarray:
    """Several measures over the same bootstrap resamples.

    Args:
        measures: rows (K,) int -> (M,) the measures over those rows; NaN where one is not defined.
        patients: whose each of the N rows is. The same patients, count and seed give the same resamples.

    Returns:
        (count, M) float64.

    Raises:
        InputError: there are no rows.
    """
    if not len(patients):
        raise InputError("there is nothing to measure: no image is left")
    return np.array([measures(rows) for rows in resamples(patients, count, seed)], np.float64)


def interval(value: float, samples: np.ndarray) -> Interval:
    """A value with the percentile interval (Efron 1979) of its resamples; NaN among them are left out."""
    samples = samples[~np.isnan(samples)]
    low, high = np.percentile(samples, (2.5, 97.5)) if len(samples) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def difference(one: float, other: float, ones: np.ndarray, others: np.ndarray) -> tuple[Interval, float]:
    """How much better one method is than another, from measures of both over the same resamples, and how surely.

    What is hard about an image counts for both, because both are measured on it.

    Returns:
        one - other with its interval, and the two-sided bootstrap p-value: twice the smaller share of resamples on
        either side of 0, with one added to either count (Davison and Hinkley 1997, section 4.4); NaN without any.
    """
    differences = ones - others
    found = interval(one - other, differences)
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return found, np.nan
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return found, float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))


def bootstrap(
    measure: Callable[[np.ndarray], float], patients: Sequence[str], *, count: int = 1000, seed: int = 0
) -> Interval:
    """A measure with its bootstrap interval, by patient.

    Args:
        measure: rows (K,) int -> the measure over those rows; NaN where it is not defined, which is left out.
        patients: whose each of the N rows is.

    Raises:
        InputError: there are no rows.
    """
    samples = sample(lambda rows: np.array([measure(rows)]), patients, count=count, seed=seed)
    return interval(measure(np.arange(len(patients))), samples[:, 0])
