"""How the benchmarks print what they counted: Markdown tables, counts with intervals, medians."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from instructx2x.evaluation.proportions import wilson


def share(hits: Iterable[bool]) -> str:
    """A count with its interval, for a table: "17 of 20 (64-95 %)"; "-" when nothing was counted."""
    hits = [bool(hit) for hit in hits]
    if not hits:
        return "-"
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits)} of {len(hits)} ({100 * low:.0f}-{100 * high:.0f} %)"


def middle(values: Sequence[float | None], form: str = ".3f", of=np.median) -> str:
    """The median (or `of`) of the values that are there, for a table; "-" when there are none."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return format(float(of(there)), form) if there else "-"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
