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


def bootstrap(
    measure: Callable[[np.ndarray], float], patients: Sequence[str], *, count: int = 1000, seed: int = 0
) -> Interval:
    """A measure with its percentile bootstrap interval (Efron 1979), by patient.

    Args:
        measure: rows (K,) int -> the measure over those rows; NaN where it is not defined, which is left out.
        patients: whose each of the N rows is.

    Raises:
        InputError: there are no rows.
    """
    if not len(patients):
        raise InputError("there is nothing to measure: no image is left")
    values = np.array([measure(rows) for rows in resamples(patients, count, seed)])
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (np.nan, np.nan)
    return Interval(float(measure(np.arange(len(patients)))), float(low), float(high))


def paired_difference(
    one: Callable[[np.ndarray], float],
    other: Callable[[np.ndarray], float],
    patients: Sequence[str],
    *,
    count: int = 1000,
    seed: int = 0,
) -> tuple[Interval, float]:
    """How much better one method is than another on the same rows, and how surely.

    Both are measured on the same resamples, so that what is hard about an image counts for both.

    Args:
        one, other: see `bootstrap`.

    Returns:
        The difference one - other with its interval, and the two-sided bootstrap p-value: twice the smaller share
        of resamples on either side of 0, with one added to either count (Davison and Hinkley 1997, section 4.4).
    """
    differences = np.array([one(rows) - other(rows) for rows in resamples(patients, count, seed)])
    differences = differences[~np.isnan(differences)]
    every = np.arange(len(patients))
    value = float(one(every) - other(every))
    if not len(differences):
        return Interval(value, np.nan, np.nan), np.nan
    low, high = np.percentile(differences, (2.5, 97.5))
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return Interval(value, float(low), float(high)), float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))
