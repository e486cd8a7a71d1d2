"""How reliably a model carries out what is asked, as it was measured: said before the picture is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instructx2x.instructions.edits import Edit
from instructx2x.instructions.vocabulary import Operation

# A finding of which fewer edits than this share were judged right is announced.
RIGHT = 0.5
NOT_MEASURED = "how reliably this model carries out edits was not measured"
_VERBS = {Operation.ADD: "draws", Operation.REMOVE: "removes", Operation.CHANGE: "changes the level of"}
# Findings that are counted: a film can show several.
_PLURALS = {
    "calcification": "calcifications",
    "contusion": "contusions",
    "fracture": "fractures",
    "granuloma": "granulomas",
    "hematoma": "hematomas",
    "hernia": "hernias",
    "lung opacity": "lung opacities",
    "mass": "masses",
    "nodule": "nodules",
    "pleural effusion": "pleural effusions",
    "thymoma": "thymomas",
}


def reliability(calibration: Mapping[str, Any] | None, edits: Sequence[Edit]) -> list[dict[str, Any]] | None:
    """What was measured of each edit's operation on its finding, as plain values for JSON.

    Returns:
        `moved` of `of` edits were judged right, both None where this one was not measured; None where nothing was.
    """
    measured = (calibration or {}).get("reliability")
    if not measured:
        return None
    found = []
    for edit in edits:
        counts = measured.get(edit.operation.value, {}).get(edit.finding, {"moved": None, "of": None})
        found.append({"operation": edit.operation.value, "finding": edit.finding, **counts})
    return found


def announcements(calibration: Mapping[str, Any] | None, edits: Sequence[Edit]) -> list[str]:
    """A warning for each thing asked that the model does badly, by what was measured."""
    told = []
    for edit, counts in zip(edits, reliability(calibration, edits) or [], strict=False):
        if counts["of"] and counts["moved"] < RIGHT * counts["of"]:
            name = _PLURALS.get(edit.finding, edit.finding)
            seldom = "rarely" if counts["moved"] else "never"
            told.append(
                f"this model {seldom} {_VERBS[edit.operation]} {name} convincingly "
                f"({counts['moved']} of {counts['of']} judged right)"
            )
    return list(dict.fromkeys(told))
