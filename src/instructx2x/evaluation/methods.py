"""The edits that a model makes for an evaluation: batches, one a method, in the folder format of `folders`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructx2x.editing import Editor
from instructx2x.editing.batch import run_batch
from instructx2x.evaluation.cases import Case

Options = Mapping[str, Any]

PLAIN = "InstructPix2Pix without RSE"

# What `Study.edit` is told; the anatomy of "default" is the patient's own.
METHODS: dict[str, Options] = {
    "default": {},
    "official": {"profile": "official"},
    PLAIN: {"anatomy": "none", "relevance": False},
}

# Region-Specific Editing taken apart: G = M_pseudo * R, cut at tau.
ABLATION: dict[str, Options] = {
    "relevance only": {"anatomy": "none"},
    "mask only": {"relevance": False},
    "both, prior anatomy": {"anatomy": "prior"},
    "both, union of boxes": {"anatomy": "union"},
    "both, tau 0.2": {"threshold": 0.2},
    "both, tau 0.4": {"threshold": 0.4},
}


def slug(name: str) -> str:
    """A method's name as a folder's: letters, digits and hyphens."""
    return re.sub(r"[^0-9a-z.]+", "-", name.lower()).strip("-.") or "method"


def place_of(name: str, editor: Editor) -> str:
    """The folder of a model's method; other models' have others, whatever both are called."""
    return f"{slug(name.rpartition(': ')[2])}-{editor.backbone.digest[:8]}"


def make_edits(
    editor: Editor,
    cases: Sequence[Case],
    out: Path,
    options: Options,
    *,
    on_row: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Edit every case; what is there already is left as it is.

    Args:
        editor: the model.
        cases: what is asked.
        out: folder of the batch, see `editing.batch`.
        options: see METHODS.
        on_row: called with (cases finished, cases in all).

    Returns:
        the edited image of each case by its name, and why others have none.
    """
    # Those of one image after the other, so that it is encoded once. Bytes do not depend on the order.
    rows = sorted((case.row for case in cases), key=lambda row: (str(row.path), row.number))
    entries = run_batch(editor, rows, out, on_row=on_row, overwrite=True, **options)
    made, failed = {}, {}
    for row, entry in zip(rows, entries, strict=True):
        if entry["status"] == "done":
            made[row.folder] = out / row.folder / entry["edited"]
        else:
            failed[row.folder] = entry["reason"]
    return made, failed


def reseeded(cases: Sequence[Case], by: int = 1) -> list[Case]:
    """The same cases with other noise."""
    return [replace(case, row=replace(case.row, seed=case.row.seed + by)) for case in cases]
