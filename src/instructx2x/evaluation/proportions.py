"""Shares of counts."""

from __future__ import annotations

from scipy import stats


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a share by Wilson's score method (JASA 22, 1927); (0, 1) when nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    found = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
