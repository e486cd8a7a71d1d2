"""Which images a report shows: failures first, then those in which the methods differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from instructx2x.evaluation.folders import read_edited
from instructx2x.evaluation.reporting.strips import strip, write_sheet
from instructx2x.evaluation.reporting.tables import Picture
from instructx2x.evaluation.scored import COPY, TARGET, Method, Scored
from instructx2x.imaging.reading import read

FAILURES, DIFFERENCES = 12, 12
COLUMNS = 5  # methods beside the source; more are too small to look at


def progress_of(scored: Scored, method: Method) -> np.ndarray:
    """(N,) how far the edited findings that the judge tells well moved as asked, on average, in units of spread.

    NaN where no such finding was to move.
    """
    right = np.where((scored.ways != 0) & scored.told_well, scored.ways * scored.moved(method), np.nan)
    known = ~np.isnan(right)
    totals = np.where(known, right, 0).sum(axis=1)
    return np.divide(totals, known.sum(axis=1), out=np.full(len(right), np.nan), where=known.any(axis=1))


def choose(scored: Scored) -> list[tuple[int, bool]]:
    """Rows of the cases to show, and whether the first method failed there: its score moved the wrong way."""
    methods = [method for method in scored.methods if method.name not in (TARGET, COPY)]
    if not methods:
        return []
    moved = np.stack([progress_of(scored, method) for method in methods], axis=1)
    first = moved[:, 0]
    failures = [int(row) for row in np.argsort(first) if first[row] <= 0][:FAILURES]
    chosen = [(row, True) for row in failures]
    if len(methods) > 1:
        apart = np.ptp(moved, axis=1)
        apart[np.isnan(apart)] = -1
        others = [int(row) for row in np.argsort(-apart) if apart[row] > 0 and row not in failures]
    else:
        others = [int(row) for row in np.argsort(-np.nan_to_num(first, nan=-np.inf)) if first[row] > 0]
    return chosen + [(row, False) for row in others[:DIFFERENCES]]


def pictures(scored: Scored, edited: Mapping[str, Mapping[str, Path]], out: Path) -> tuple[Picture, ...]:
    """Draw a strip of each chosen case: the source, the real target if there is one, and each method's image."""
    chosen = choose(scored)
    if chosen:
        out.mkdir(parents=True, exist_ok=True)
    return tuple(_picture(scored, edited, row, failed, out) for row, failed in chosen)


def _picture(scored: Scored, edited: Mapping[str, Mapping[str, Path]], row: int, failed: bool, out: Path) -> Picture:
    case = scored.cases[row]
    source = read(case.row.path)
    names, panels = ["source"], [source.display()]
    if case.target is not None:
        names.append(TARGET)
        panels.append(read(case.target).display())
    for method in scored.methods:
        if method.name in edited and method.present[row] and len(panels) <= COLUMNS:
            names.append(method.name)
            panels.append(read_edited(edited[method.name][case.name], source))
    path = out / f"{case.name}.png"
    write_sheet([[strip(f"{case.row.instruction}   [{' | '.join(names)}]", panels)]], path)
    return Picture(path, f"{case.row.image}: {case.row.instruction}", _caption(scored, row), failed)


def _caption(scored: Scored, row: int) -> str:
    """How far the edited findings' scores moved as asked, method by method."""
    moved: Sequence[str] = [
        f"{method.name} {progress_of(scored, method)[row]:+.2f}"
        for method in scored.methods
        if method.name != COPY and method.present[row]
    ]
    return "Movement as asked, in standard deviations of real images' scores: " + ", ".join(moved)
