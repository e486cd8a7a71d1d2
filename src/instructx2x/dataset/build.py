"""MIMIC-EDIT-INSTRUCTION from the files that PhysioNet serves, from their check to the last file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from instructx2x import __version__
from instructx2x.dataset.mimic import (
    IMAGE_RULE,
    find_sources,
    image_file,
    read_metadata,
    read_questions,
    read_splits,
)
from instructx2x.dataset.output import Collected, Images, claim, finish, input_record
from instructx2x.dataset.pairs import Row, Rules, make_pairs
from instructx2x.dataset.people import NOBODY, read_patients
from instructx2x.dataset.records import read_records
from instructx2x.dataset.splits import split_patients
from instructx2x.errors import InputError
from instructx2x.progress import progress
from instructx2x.results import folders


def build(
    diff_vqa: Path,
    mimic_cxr_jpg: Path,
    out: Path,
    *,
    rules: Rules,
    split: str = "mimic",
    images: Images,
    patients: Path | None = None,
) -> dict[str, Any]:
    """Build the dataset. A run that was cut off goes on when it is started again, and ends in the same bytes.

    Args:
        diff_vqa: folder of Medical-Diff-VQA 1.0.0 or 1.0.1.
        mimic_cxr_jpg: folder of MIMIC-CXR-JPG 2.0.0 or 2.1.0.
        out: a new folder, or that of an earlier run with the same files and settings.
        rules: which pairs and which instructions.
        split: see `splits.split_patients`.
        images: what happens to the images.
        patients: MIMIC-IV's `hosp/patients.csv.gz`, for sex and age.

    Returns:
        The report (`report.json`).

    Raises:
        InputError: a file that is missing, damaged, has other columns, or is about other patients.
        OutputError: `out` is in use for something else, or cannot be written to.
    """
    with folders.claim(out, inputs=[diff_vqa, mimic_cxr_jpg, patients]):
        return _build(diff_vqa, mimic_cxr_jpg, out, rules, split, images, patients)


def _build(
    diff_vqa: Path, mimic_cxr_jpg: Path, out: Path, rules: Rules, split: str, images: Images, patients: Path | None
) -> dict[str, Any]:
    sources = find_sources(diff_vqa, mimic_cxr_jpg, images=images.preparation is not None)
    split_patients([], split, {})  # a bad split is refused before minutes of work
    people = read_patients(patients) if patients is not None else {}
    tables = sources.tables if patients is None else (*sources.tables, patients)
    settings = {
        "x2x": __version__,
        "inputs": [input_record(path) for path in tables],
        "rules": asdict(rules),
        "split": split,
        "images": asdict(images),
        "image_rule": IMAGE_RULE,
    }
    claim(out, settings)
    questions, rows = read_questions(sources.questions)
    metadata = read_metadata(sources.metadata)
    studies = {*questions["study_id"], *questions["ref_id"]}
    records = read_records(sources.records, studies)
    subjects = {study.subject_id for study in metadata.studies.values()}
    if patients is not None and subjects.isdisjoint(people):
        raise InputError(f"{patients} knows none of the patients: give hosp/patients.csv.gz of MIMIC-IV")
    splits = split_patients(subjects, split, read_splits(sources.splits))

    def choose(subject: str, study: str, dicoms: tuple[str, ...]) -> str:
        if len(dicoms) == 1 or images.preparation is None:
            return dicoms[0]
        there = (dicom for dicom in dicoms if image_file(sources.images, subject, study, dicom).is_file())
        return next(there, dicoms[0])

    with progress("Reading answers", len(questions)) as advance:
        rows_of = (Row(*row) for row in questions.iter_rows())
        pairs = make_pairs(rows_of, metadata, records, splits, rules, choose=choose, advance=advance)
    for row in pairs.accepted:
        person = people.get(row["subject_id"], NOBODY)
        row |= {"sex": person.sex, "age": person.age(metadata.studies[row["past_study_id"]].date)}
    files = {
        row[f"{when}_dicom_id"]: image_file(
            sources.images, row["subject_id"], row[f"{when}_study_id"], row[f"{when}_dicom_id"]
        )
        for row in pairs.accepted
        for when in ("past", "current")
        if images.preparation is not None
    }
    collected = Collected(
        source="MIMIC-Diff-VQA",
        settings=settings,
        accepted=pairs.accepted,
        rejected=pairs.rejected,
        files=files,
        test_images=[dicom for dicom, patient in metadata.patients.items() if splits.get(patient) == "test"],
        facts={
            "rows": rows,
            "difference_rows": len(questions),
            "answers": dict(pairs.clauses),
            "answers_recovered": pairs.recovered,
            "area_rows_rebuilt": pairs.rebuilt,
            "clauses_left_out": dict(pairs.left_out),
            "instructions_too_long": pairs.too_long,
            "studies_with_several_images_in_a_view": metadata.several,
        },
    )
    return finish(collected, out, images)
