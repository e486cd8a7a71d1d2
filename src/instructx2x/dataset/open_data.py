"""The same dataset from open X-rays: `metadata.csv`, `pairs.csv` and images, with labels instead of reports.

Its labels have neither side nor severity, so its instructions are those of v1. They say what is there, and never
what is absent: every removal means "not mentioned later".
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from instructx2x import __version__
from instructx2x.columns import check_ids, read_columns
from instructx2x.dataset.output import Collected, Images, claim, finish, input_record
from instructx2x.dataset.pairs import Rules
from instructx2x.dataset.people import plausible_age, plausible_sex
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.dataset.table import edit_rows
from instructx2x.errors import InputError
from instructx2x.instructions import Edit, Operation, render
from instructx2x.instructions.tokens import clip_tokens
from instructx2x.results import folders

PAIR_COLUMNS = (
    *("past_id", "current_id", "patient_id", "adjacent", "past_followup", "current_followup", "days"),
    *("past_view", "current_view", "past_findings", "current_findings", "split"),
)
METADATA_COLUMNS = ("id", "patient_id", "file", "qc")
SPLIT_NAMES = {"train": "train", "val": "validate", "test": "test"}

LABELS = {
    "atelectasis": "atelectasis",
    "cardiomegaly": "cardiomegaly",
    "consolidation": "consolidation",
    "edema": "edema",
    "effusion": "pleural effusion",
    "emphysema": "emphysema",
    "hernia": "hernia",
    "infiltration": "lung opacity",  # the label's only plain meaning on a film
    "mass": "mass",
    "nodule": "nodule",
    "pleural_thickening": "pleural thickening",
    "pneumonia": "pneumonia",
    "pneumothorax": "pneumothorax",
}
"""Labels of NIH ChestX-ray14 and what they are called in instructions; fibrosis and COVID-19 have no word there."""


def build_open(data: Path, out: Path, *, rules: Rules, images: Images) -> dict[str, Any]:
    """Build a dataset from open X-rays, in the table and the files of `build.build`.

    Args:
        data: folder with metadata.csv, pairs.csv and the images.
        out: as for `build.build`.
        rules: `views` and `unchanged` apply; the others need reports.
        images: what happens to the images.

    Returns:
        The report.

    Raises:
        InputError: a table that is missing or has other columns.
        OutputError: `out` is in use for something else, or cannot be written to.
    """
    with folders.claim(out, inputs=[data]):
        return _build_open(data, out, rules, images)


def _build_open(data: Path, out: Path, rules: Rules, images: Images) -> dict[str, Any]:
    if rules.version != "v1" or rules.strict:
        raise InputError("v2 and --strict need reports, which open X-rays do not have: leave them out")
    paths = data / "pairs.csv", data / "metadata.csv"
    pairs = read_columns(paths[0], PAIR_COLUMNS)
    metadata = read_columns(paths[1], METADATA_COLUMNS, optional=("sex", "age"))
    check_ids(pairs, paths[0], ("past_id", "current_id"))
    check_ids(metadata, paths[1], ("id",))
    settings = {
        "x2x": __version__,
        "inputs": [input_record(path) for path in paths],
        "rules": {"views": rules.views, "unchanged": rules.unchanged},
        "images": asdict(images),
    }
    claim(out, settings)
    usable = dict(metadata.filter(pl.col("qc") == "ok").select("id", "file").drop_nulls().iter_rows())
    tested = metadata.join(pairs.filter(pl.col("split") == "test"), on="patient_id", how="semi")
    people = {
        row["id"]: {"sex": plausible_sex(row.get("sex")), "age": plausible_age(_number(row.get("age")))}
        for row in metadata.iter_rows(named=True)
    }
    accepted, rejected = [], []
    for number, row in enumerate(pairs.iter_rows(named=True)):
        said = f"{row['past_findings'] or 'not known'} -> {row['current_findings'] or 'not known'}"
        found = {
            "row": number,
            "past_study_id": row["past_id"],
            "current_study_id": row["current_id"],
            "subject_id": row["patient_id"],
            "text": said,
        }
        try:
            accepted.append(found | _pair(row, usable, rules) | people[row["past_id"]])
        except Rejected as error:
            rejected.append(found | {"reason": error.reason.value, "detail": error.detail})
    collected = Collected(
        source="open X-rays",
        settings=settings,
        accepted=accepted,
        rejected=rejected,
        files={name: data / file for name, file in usable.items()},
        test_images=tested["id"].drop_nulls(),
        facts={"rows": len(pairs), "difference_rows": len(pairs)},
    )
    return finish(collected, out, images)


def _pair(row: dict[str, str | None], usable: dict[str, str], rules: Rules) -> dict[str, Any]:
    """The columns of one pair.

    Raises:
        Rejected: with the reason why it cannot be used.
    """
    for image in (row["past_id"], row["current_id"]):
        if image not in usable:
            raise Rejected(Reason.IMAGE_UNUSABLE, f"{image}: its quality check is not ok")
    order = [_number(row[f"{when}_followup"]) for when in ("past", "current")]
    days = _number(row["days"])
    if days is None and None not in order:
        later = order[1] - order[0]
    else:
        later = days or 0
    if later <= 0:
        raise Rejected(Reason.REFERENCE_LATER if later < 0 else Reason.SAME_TIME)
    if row["adjacent"] != "1":
        raise Rejected(Reason.NOT_NEIGHBOURS)
    if row["past_view"] != row["current_view"] or row["past_view"] not in rules.views:
        raise Rejected(Reason.NO_IMAGE_IN_VIEW)
    if row["split"] not in SPLIT_NAMES:
        raise Rejected(Reason.NO_SPLIT)
    past, current = (_labels(row[f"{when}_findings"]) for when in ("past", "current"))
    changed = set(past) ^ set(current)
    for label in sorted(changed - LABELS.keys()):
        raise Rejected(Reason.UNKNOWN_FINDING, label)
    if not changed and not rules.unchanged:
        raise Rejected(Reason.UNCHANGED)
    edits = [
        *(Edit(Operation.ADD, LABELS[label]) for label in current if label not in past),
        *(Edit(Operation.REMOVE, LABELS[label]) for label in past if label not in current),
    ]
    instruction = render(edits) if edits else ""
    return {
        "past_dicom_id": row["past_id"],
        "current_dicom_id": row["current_id"],
        "instruction": instruction,
        "edits": edit_rows(edits),
        "split": SPLIT_NAMES[row["split"]],
        "view": row["past_view"],
        "days": days,
        "tokens": clip_tokens(instruction),
        "part": 1,
        "parts": 1,
        "past_findings": [LABELS[label] for label in past if label in LABELS],
        "current_findings": [LABELS[label] for label in current if label in LABELS],
    }


def _labels(text: str | None) -> list[str]:
    return [label for label in (text or "").lower().split("|") if label not in ("", "no finding")]


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
