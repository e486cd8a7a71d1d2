"""The small data set with every trap, in the layout of the real files."""

import io
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from .draft import Draft, Mimic, Row, Study
from .studies import METADATA_COLUMNS, ORIENTATION, PROCEDURE, QUESTION_COLUMNS, VIEW_MEANING, write_csv
from .traps import add_ordinary, add_traps

CHEXPERT = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip


def write_mimic(
    folder: Path, *, patients: int = 120, seed: int = 0, images: bool = True, compressed: bool = False
) -> Mimic:
    """Write a small DIFF_VQA and MIMIC_CXR_JPG under `folder`, with every trap at once, and return the truth.

    Args:
        folder: where the two folders go.
        patients: all patients; about 100 of them hold the traps, the others are random.
        seed: the same seed writes the same bytes.
        images: whether the JPEGs are written (72..109 x 56..71, gray); without them no row is dropped for its file.
        compressed: whether the questions are written as .csv.gz instead of .csv.

    Raises:
        ValueError: for fewer patients than the traps need.
    """
    draft = Draft(random.Random(f"mimic {seed}"), images)
    add_traps(draft)
    if patients < draft.patients:
        raise ValueError(f"the traps need {draft.patients} patients, not {patients}.")
    while draft.patients < patients:
        add_ordinary(draft)
    diff_vqa, cxr_jpg = folder / "DIFF_VQA", folder / "MIMIC_CXR_JPG"
    diff_vqa.mkdir(parents=True)
    cxr_jpg.mkdir(parents=True)
    studies, rng = draft.studies, draft.rng

    questions = [
        question for row in draft.rows for question in (*_other_questions(rng, row), _difference_question(row))
    ]
    name = "mimic_pair_questions.csv" + ".gz" * compressed
    write_csv(diff_vqa / name, QUESTION_COLUMNS, questions)
    records = [
        {"study_id": str(s.study_id), "subject_id": str(s.subject_id), "entity": s.entity, "no_entity": s.no_entity}
        for s in studies
        if s.in_json
    ]
    (diff_vqa / "all_diseases.json").write_text(json.dumps(records, indent=4), encoding="utf-8")

    known = [study for study in studies if study.in_metadata]
    split = {s.subject_id: rng.choices(("train", "validate", "test"), (8, 1, 1))[0] for s in known}
    labels = {s.study_id: _chexpert(s) for s in known}
    orders = {s.study_id: 1 + sum(o.subject_id == s.subject_id and o.date < s.date for o in known) for s in known}
    write_csv(
        diff_vqa / "mimic_all.csv",
        ("subject_id", "study_id", *CHEXPERT, "dicom_id", "view", "split", "study_date", "study_order"),
        [
            (s.subject_id, s.study_id, *labels[s.study_id], shot.dicom_id, VIEW_MEANING[shot.view],
             split[s.subject_id], s.date, float(orders[s.study_id]))
            for s in known
            for shot in [next((p for p in s.pictures if p.view in ("PA", "AP")), s.pictures[0])]
        ],
    )  # fmt: skip
    write_csv(
        cxr_jpg / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ("subject_id", "study_id", *CHEXPERT),
        [(s.subject_id, s.study_id, *labels[s.study_id]) for s in known],
    )
    shots = [(s, picture) for s in known for picture in s.pictures]
    write_csv(
        cxr_jpg / "mimic-cxr-2.0.0-split.csv.gz",
        ("dicom_id", "study_id", "subject_id", "split"),
        [(p.dicom_id, s.study_id, s.subject_id, split[s.subject_id]) for s, p in shots],
    )
    write_csv(
        cxr_jpg / "mimic-cxr-2.0.0-metadata.csv.gz",
        METADATA_COLUMNS,
        [
            (p.dicom_id, s.subject_id, s.study_id, PROCEDURE[p.view], p.view, p.height, p.width, s.date, s.time,
             PROCEDURE[p.view], VIEW_MEANING[p.view], ORIENTATION[p.view])
            for s, p in shots
        ],
    )  # fmt: skip
    if images:
        for i, (study, picture) in enumerate((s, p) for s in studies for p in s.pictures if p.state != "missing"):
            subject = f"p{study.subject_id}"
            path = cxr_jpg / "files" / subject[:3] / subject / f"s{study.study_id}" / f"{picture.dicom_id}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = _jpeg(picture.height, picture.width, seed=i)
            path.write_bytes(whole[: len(whole) // 2] if picture.state == "truncated" else whole)
    return Mimic(diff_vqa, cxr_jpg, tuple(draft.rows), {study.study_id: study for study in studies})


def _difference_question(row: Row) -> tuple:
    return row.study_id, row.subject_id, row.ref_id, "difference", row.question, row.answer, row.split


def _other_questions(rng: random.Random, row: Row) -> list[tuple]:
    """Some of the questions of other kinds that stand before a difference row, with its ids."""
    findings = row.main.entity
    asked = [
        ("abnormality", "what abnormalities are seen in this image?", ", ".join(findings) or "no"),
        ("presence", "is there evidence of pneumothorax in this image?", "yes" if "pneumothorax" in findings else "no"),
        ("view", "which view is this image taken?", "PA view"),
        *(
            ("location", f"where is the {n}?", " ".join(f["location"]) + " area")
            for n, f in findings.items()
            if f["location"]
        ),
        *(("level", f"what level is the {n}?", " ".join(f["level"])) for n, f in findings.items() if f["level"]),
        *(("type", f"what type is the {n}?", " ".join(f["type"])) for n, f in findings.items() if f["type"]),
    ]
    return [
        (row.study_id, row.subject_id, row.ref_id, *one, rng.choice(("train", "train", "val", "test")))
        for one in asked
        if rng.random() < 0.7
    ]


def _chexpert(study: Study) -> list[str]:
    """The 14 labels as the file writes them: 1.0, 0.0 or empty; an opacity alone is uncertain (-1.0)."""
    has = {name.strip() for name in study.entity}
    words = {label: label.lower() for label in CHEXPERT} | {
        "Enlarged Cardiomediastinum": "enlargement of the cardiac silhouette"
    }
    values = ["1.0" if words[label] in has else "0.0" if words[label] in study.no_entity else "" for label in CHEXPERT]
    values[CHEXPERT.index("No Finding")] = "" if has else "1.0"
    if has == {"lung opacity"}:
        values[CHEXPERT.index("Pneumonia")] = "-1.0"
    return values


def _jpeg(height: int, width: int, seed: int) -> bytes:
    """A gray JPEG that looks like a frontal chest film: dark lungs, bright heart to the image's right, ribs, grain."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]

    def ellipse(cy: float, cx: float, ry: float, rx: float) -> np.ndarray:
        return 1 / (1 + np.exp(8 * (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 - 1)))

    film = (
        0.65
        - 0.4 * (ellipse(0.47, 0.29, 0.32, 0.15) + ellipse(0.47, 0.71, 0.32, 0.15))
        + 0.3 * ellipse(0.6, 0.55, 0.16, 0.15)
    )
    film += 0.04 * np.sin(55 * y + 10 * np.abs(x - 0.5)) + np.random.default_rng(seed).normal(0, 0.015, film.shape)
    file = io.BytesIO()
    Image.fromarray(np.uint8(255 * film.clip(0, 1))).save(file, "JPEG", quality=90)
    return file.getvalue()
