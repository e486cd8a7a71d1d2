"""What a judge of findings, which is no part of the model, says of edits: a check, and a choice among samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instructx2x.evaluation.judges import Judge
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.vocabulary import LEVELS, Operation


def direction(edit: Edit) -> int:
    """Which way a finding's score should move: 1 up, -1 down, 0 where the instruction does not tell."""
    if edit.operation is Operation.CHANGE:
        return int(np.sign(LEVELS[edit.level] - LEVELS[edit.from_level])) if edit.from_level else 0
    return 1 if edit.operation is Operation.ADD else -1


def verify(judge: Judge, edits: Sequence[Edit], before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """How the judge's scores of the edited findings moved, as plain values for JSON.

    Args:
        edits: as understood.
        before, after: (findings,) the judge's scores of the source and of the edited image.
    """
    told = []
    for edit in edits:
        entry: dict[str, Any] = {"operation": edit.operation.value, "finding": edit.finding}
        if edit.finding not in judge.findings:
            told.append({**entry, "note": f"the {judge.name} does not know {edit.finding}: nothing is said about it"})
            continue
        place, way = judge.findings.index(edit.finding), direction(edit)
        entry["before"], entry["after"] = round(float(before[place]), 4), round(float(after[place]), 4)
        entry["moved_as_asked"] = bool(way * (after[place] - before[place]) > 0) if way else None
        entry["auc"] = judge.auc.get(edit.finding)
        told.append(entry)
    return {"judge": judge.name, "findings": told}


def preferences(judge: Judge, edits: Sequence[Edit], before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """How well each sample carries out the edits and nothing else.

    The mean movement of the edited findings' scores in the direction asked, less the mean movement, whichever way, of
    all others. Findings that the judge does not know, and changes without a direction, count on neither side.

    Args:
        before: (findings,) scores of the source.
        after: (samples, findings) scores of the samples.

    Returns:
        (samples,) float64 in [-2, 1]; None where no edit can be judged.
    """
    ways = np.zeros(len(judge.findings), int)
    edited = np.zeros(len(judge.findings), bool)
    for edit in edits:
        if edit.finding in judge.findings:
            # Scores know no sides: left added and right removed is no direction.
            ways[judge.findings.index(edit.finding)] += direction(edit)
            edited[judge.findings.index(edit.finding)] = True
    if not ways.any():
        return None
    moved = np.asarray(after, np.float64) - before
    others = np.abs(moved[:, ~edited])
    asked = np.sign(ways)[ways != 0]
    return (moved[:, ways != 0] * asked).mean(axis=1) - (others.mean(axis=1) if others.size else 0.0)
