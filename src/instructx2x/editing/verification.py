"""What a judge of findings, which is no part of the model, says of edits: a check, and a choice among samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instructx2x.evaluation.judges import Judge
from instructx2x.evaluation.locality import half, inside_share
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.vocabulary import LEVELS, Operation

MOVED, DID_NOT_MOVE, CANNOT_TELL = "moved", "did not move", "cannot tell"
# A judge's finding that reaches this area under the ROC curve within a view is told well enough to be held to.
GOOD_AUC = 0.75
LIMIT = 1e-6  # probabilities are kept this far from 0 and 1, so that log-odds are finite


def direction(edit: Edit) -> int:
    """Which way a finding's score should move: 1 up, -1 down, 0 where the instruction does not tell."""
    if edit.operation is Operation.CHANGE:
        return int(np.sign(LEVELS[edit.level] - LEVELS[edit.from_level])) if edit.from_level else 0
    return 1 if edit.operation is Operation.ADD else -1


def log_odds(probabilities: np.ndarray | float) -> np.ndarray:
    """log(p / (1 - p)), float64, p kept within [LIMIT, 1 - LIMIT]."""
    kept = np.clip(np.asarray(probabilities, np.float64), LIMIT, 1 - LIMIT)
    return np.log(kept / (1 - kept))


def verify(
    judge: Judge,
    edits: Sequence[Edit],
    before: np.ndarray,
    after: np.ndarray,
    noise: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Whether the judge's scores of the edited findings moved as asked, as plain values for JSON.

    Any edit moves every score a little, half of the time in the right direction. So a score has MOVED only if its
    log-odds went further in the direction asked than they go under edits of other findings; else it DID_NOT_MOVE. Where
    the judge does not tell the finding well, or that noise is not known, it CANNOT_TELL, and `why` says so.

    Args:
        edits: as carried out.
        before, after: (findings,) the judge's scores of the source and of the edited image.
        noise: of the model, from its calibration: "add" (upwards) or "remove" (downwards) -> finding -> log-odds.
    """
    return {"judge": judge.name, "findings": [_verdict(judge, edit, edits, before, after, noise) for edit in edits]}


def _verdict(
    judge: Judge,
    edit: Edit,
    edits: Sequence[Edit],
    before: np.ndarray,
    after: np.ndarray,
    noise: Mapping[str, Mapping[str, float]] | None,
) -> dict[str, Any]:
    entry: dict[str, Any] = {"operation": edit.operation.value, "finding": edit.finding, "verdict": CANNOT_TELL}
    if edit.finding not in judge.findings:
        return entry | {"why": f"the {judge.name} does not know {edit.finding}"}
    place, way, auc = judge.findings.index(edit.finding), direction(edit), judge.auc.get(edit.finding)
    entry |= {"before": round(float(before[place]), 4), "after": round(float(after[place]), 4), "auc": auc}
    if auc is None or auc < GOOD_AUC:
        told = "is not known" if auc is None else f"on held-out patients is {auc:.2f}, below {GOOD_AUC}"
        return entry | {"why": f"the {judge.name}'s AUC for it {told}"}
    if way == 0:
        return entry | {"why": "no direction was asked"}
    if any(other.finding == edit.finding and direction(other) == -way for other in edits):
        return entry | {"why": "it was asked for in both directions, and a score knows no sides"}
    limit = ((noise or {}).get("add" if way > 0 else "remove") or {}).get(edit.finding)
    movement = way * float(log_odds(after[place]) - log_odds(before[place]))
    entry["movement"] = round(movement, 4)
    if limit is None:
        return entry | {"why": f"how far the {judge.name} moves under other edits of this model was not measured"}
    return entry | {"noise": limit, "verdict": MOVED if movement > limit else DID_NOT_MOVE}


def locate(edit: Edit, change: np.ndarray, anatomy: np.ndarray | None, midline: float) -> dict[str, float | None]:
    """Where the change of an edit lies: its shares inside the finding's anatomy and on the side that was named.

    Args:
        change: (H, W) edited - source, in brightness.
        anatomy: (H, W) bool, where the finding can be in this patient; None: not known.
        midline: of the patient, a fraction of the width.

    Returns:
        `in_anatomy` and `on_side` in [0, 1]; None where nothing changed, or where there is no such place.
    """
    shares = dict.fromkeys(("in_anatomy", "on_side"), math.nan)
    if anatomy is not None:
        shares["in_anatomy"] = inside_share(change, anatomy)
    if edit.side in ("left", "right"):
        shares["on_side"] = inside_share(change, half(change.shape, edit.side, midline))
    return {name: None if math.isnan(share) else round(share, 4) for name, share in shares.items()}


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
