"""How far a classifier's answers move with an edit, and whether it does so for everyone: functions on arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from instructx2x.dataset.people import SEXES
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.resampling import Interval, difference, interval, sample

UNKNOWN = "not known"
GROUPS = {
    "sex": SEXES,
    "age": ("under 40", "40-59", "60 and over"),
    "view": ("PA", "AP", "other"),
}

# Fewer patients than that in a group, and a bootstrap's p-value says nothing.
MIN_PATIENTS = 10


@dataclass(frozen=True, eq=False)
class Movement:
    """A classifier's answers before and after the same edit of several images.

    Attributes:
        before, after: (N,) float64, on the classifier's own scale.
        way: 1 where they should go up, -1 down, 0 nowhere.
        threshold: from which on the classifier says yes.
    """

    before: np.ndarray
    after: np.ndarray
    way: int
    threshold: float

    @cached_property
    def change(self) -> np.ndarray:
        """(N,) after - before."""
        return self.after - self.before

    @cached_property
    def as_asked(self) -> np.ndarray:
        """(N,) 1 where the answer moved the way it should, 0 where not; NaN where it should not move."""
        return (self.way * self.change > 0).astype(np.float64) if self.way else np.full(len(self.change), np.nan)

    @cached_property
    def crossed(self) -> np.ndarray:
        """(N,) 1 where the yes or no became what it should be, 0 where it stayed wrong, NaN where it was right before.

        Where the answer should not move: 1 where it changed at all, 0 elsewhere.
        """
        before, after = self.before >= self.threshold, self.after >= self.threshold
        if not self.way:
            return (before != after).astype(np.float64)
        wanted = self.way > 0
        return np.where(before == wanted, np.nan, after == wanted)

    @cached_property
    def missed(self) -> np.ndarray:
        """(N,) bool: the answer should have moved and did not, or stayed on the wrong side of the threshold."""
        return (self.as_asked == 0) | (bool(self.way) & (self.crossed == 0))

    def of(self, rows: np.ndarray, way: int | None = None) -> Movement:
        """Of some images, and perhaps for another way."""
        return Movement(self.before[rows], self.after[rows], self.way if way is None else way, self.threshold)


def traits(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """(N,) name of each case's group, one of GROUPS or UNKNOWN, for every trait."""
    return {
        "sex": np.array([case.sex or UNKNOWN for case in cases]),
        "age": np.array([_age(case.age) for case in cases]),
        "view": np.array([_view(case.view) for case in cases]),
    }


def _age(years: float) -> str:
    if math.isnan(years):
        return UNKNOWN
    return GROUPS["age"][int(years >= 40) + int(years >= 60)]


def _view(view: str) -> str:
    return view if view in ("PA", "AP") else "other" if view else UNKNOWN


def members(cases: Sequence[Case]) -> dict[tuple[str, str], np.ndarray]:
    """(N,) bool for each group that anyone is in, by trait and name; ("", "all") is first."""
    found = {("", "all"): np.ones(len(cases), bool)}
    for trait, names in traits(cases).items():
        for name in (*GROUPS[trait], UNKNOWN):
            if (names == name).any():
                found[trait, name] = names == name
    return found


def pairs(groups: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Every two known groups of one trait."""
    known = [group for group in groups if group[0] and group[1] != UNKNOWN]
    return [(one, other) for place, one in enumerate(known) for other in known[place + 1 :] if one[0] == other[0]]


def means(values: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of each column within each group over some rows, NaN left out.

    Args:
        values: (N, M) float64.
        groups: (G, N) bool.
        rows: (K,) of 0 to N - 1; one may come several times, as a bootstrap draws them.

    Returns:
        (G, M) float64; NaN where nothing is left.
    """
    weights = groups * np.bincount(rows, minlength=len(values))
    known = weights @ ~np.isnan(values)
    total = weights @ np.nan_to_num(values)
    return np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)


@dataclass(frozen=True, eq=False)
class Resampled:
    """Means of groups and the same of bootstrap resamples of all patients.

    All groups are measured on the same resamples, so a patient who is in two groups (of two views, say) counts for
    both in each.

    Attributes:
        groups: in order.
        values: (G, M) their means.
        samples: (count, G, M).
        patients: (G,) how many patients are in each.
    """

    groups: tuple[tuple[str, str], ...]
    values: np.ndarray
    samples: np.ndarray
    patients: tuple[int, ...]

    def mean(self, group: tuple[str, str], column: int) -> Interval:
        """A group's mean with its 95 % interval; without one for fewer than two patients."""
        place = self.groups.index(group)
        if self.patients[place] < 2:
            return Interval(float(self.values[place, column]), math.nan, math.nan)
        return interval(self.values[place, column], self.samples[:, place, column])

    def difference(self, one: tuple[str, str], other: tuple[str, str], column: int) -> tuple[Interval, float]:
        """How much more one group has than another, and how surely; p is NaN under MIN_PATIENTS in either."""
        places = [self.groups.index(group) for group in (one, other)]
        fewest = min(self.patients[place] for place in places)
        found, p = difference(*self.values[places, column], *self.samples[:, places, column].T)
        if fewest < 2:
            found = Interval(found.value, math.nan, math.nan)
        return found, p if fewest >= MIN_PATIENTS else math.nan


def resampled(
    cases: Sequence[Case],
    values: np.ndarray,
    *,
    count: int = 1000,
    seed: int = 0,
    on_resample: Callable[[], object] = lambda: None,
) -> Resampled:
    """Means of the groups of `members` with their bootstrap by patient.

    Args:
        cases: N of them, at least one.
        values: (N, M) float64; NaN where one is not defined.
    """
    named = members(cases)
    groups = np.stack(list(named.values()))
    patients = np.array([case.patient for case in cases])

    def measures(rows: np.ndarray) -> np.ndarray:
        on_resample()
        return means(values, groups, rows)

    samples = sample(measures, patients, count=count, seed=seed)
    counts = tuple(len(set(patients[group])) for group in groups)
    return Resampled(tuple(named), means(values, groups, np.arange(len(values))), samples, counts)
