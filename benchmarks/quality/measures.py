"""The rules by which the quality benchmarks count, and how a count is written: functions of arrays alone.

`scores` are log-odds of a judge, one for each of its findings, in its order. A finding's change is told in units of
its spread, the standard deviation of its log-odds over real val images: a judge's findings have scales of their own,
and only so can be said which of them changed most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage, stats

from instructx2x.evaluation.proportions import wilson
from instructx2x.evaluation.scored import GOOD_AUC

SEEN = 0.01  # brightness; less is not taken for painted


def is_held(auc: float | None) -> bool:
    """Whether a finding is held to figures: its judge is known to be good enough."""
    return auc is not None and auc >= GOOD_AUC


def moves(change: np.ndarray, index: int) -> bool:
    """Whether a finding's score rises. For a fall, ask with the change's sign turned."""
    return bool(change[index] > 0)


def moves_most(change: np.ndarray, index: int) -> bool:
    """Whether a finding's score rises, and more than every other one's: (F,) changes in units of spread."""
    return moves(change, index) and bool((change[index] > np.delete(change, index)).all())


def another(findings: Sequence[str], finding: str, number: int) -> str:
    """The finding that serves as the control of an image: the others, in turn."""
    others = [name for name in findings if name != finding]
    return others[number % len(others)]


def mean_outside(change: np.ndarray, where: np.ndarray) -> float:
    """Mean absolute change of the pixels outside `where`; 0 when there are none."""
    outside = np.abs(change[~where], dtype=np.float64)
    return float(outside.mean()) if outside.size else 0.0


def painted_left(clean: np.ndarray, painted: np.ndarray, edited: np.ndarray, lungs: np.ndarray) -> float:
    """What is left of a painted change in an edited image: 1 all of it, 0 none.

    The part of (edited - clean) that looks like (painted - clean), as a share of it (least squares). What the edit did
    to the lung around it is taken off first: a nodule in a lung that became darker as a whole still stands out.

    Args:
        clean, painted, edited: (H, W) brightness.
        lungs: (H, W) bool.
    """
    wanted, got = np.asarray(painted, np.float64) - clean, np.asarray(edited, np.float64) - clean
    region = np.abs(wanted) > SEEN
    distance = ndimage.distance_transform_edt(~region)
    around = ~region & (distance <= np.sqrt(region.sum() / np.pi))
    around = around & lungs if (around & lungs).any() else around
    return float(((got[region] - np.median(got[around])) * wanted[region]).sum() / (wanted[region] ** 2).sum())


def line_left(clean: np.ndarray, painted: np.ndarray, edited: np.ndarray, width: float) -> float:
    """What is left of the brightest line of a painted change: 1 all of it, 0 none.

    Args:
        clean, painted, edited: (H, W) brightness.
        width: in pixels; what a blur of this standard deviation takes away counts as line. Its brightest parts are
            looked at: those above half of the 99.9th percentile of what is painted.
    """

    def fine(image: np.ndarray) -> np.ndarray:
        return image - ndimage.gaussian_filter(image, width)

    wanted, got = fine(painted - clean), fine(edited - clean)
    line = wanted > np.quantile(wanted[np.abs(painted - clean) > SEEN], 0.999) / 2
    return float(got[line].mean() / wanted[line].mean())


def share(hits: Iterable[bool]) -> str:
    """A count with its interval, for a table: "17 of 20 (64-95 %)"; "-" when nothing was counted."""
    hits = [bool(hit) for hit in hits]
    if not hits:
        return "-"
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({100 * low:.0f}-{100 * high:.0f} %)"


def correlation(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float] | None:
    """Pearson's r with its 95 % interval (Fisher); None for fewer than four pairs or when one side never varies."""
    if len(one) < 4 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    found = stats.pearsonr(one, other)
    low, high = found.confidence_interval(0.95)
    return float(found.statistic), float(low), float(high)


def middle(values: Sequence[float | None], form: str = ".3f", of=np.median) -> str:
    """The median (or `of`) of the values that are there, for a table; "-" when there are none."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return format(float(of(there)), form) if there else "-"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
