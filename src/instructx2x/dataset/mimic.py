"""The files that PhysioNet serves: found, checked, and brought to plain tables.

Medical-Diff-VQA 1.0.0 and 1.0.1 (`mimic_pair_questions.csv`, `all_diseases.json`) and MIMIC-CXR-JPG 2.0.0 and 2.1.0
(`mimic-cxr-2.0.0-metadata.csv.gz`, `-split.csv.gz`, `files/`), as they are or unpacked (method section 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from instructx2x.columns import check_columns, check_ids, read_columns
from instructx2x.dataset.records import check_records
from instructx2x.errors import InputError

QUESTION_COLUMNS = ("study_id", "subject_id", "ref_id", "question_type", "question", "answer")
METADATA_COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
SPLIT_COLUMNS = ("subject_id", "split")

# The metadata leave ViewPosition empty now and then; the coded view says the same in words.
_CODED_VIEW = "ViewCodeSequence_CodeMeaning"
_CODED = {"postero-anterior": "PA", "antero-posterior": "AP", "lateral": "LATERAL", "left lateral": "LL"}


@dataclass(frozen=True)
class Sources:
    """Where the files are.

    Attributes:
        questions, records: of Medical-Diff-VQA.
        metadata, splits: of MIMIC-CXR-JPG.
        images: its `files` folder.
    """

    questions: Path
    records: Path
    metadata: Path
    splits: Path
    images: Path

    @property
    def tables(self) -> tuple[Path, ...]:
        return self.questions, self.records, self.metadata, self.splits


@dataclass(frozen=True)
class StudyInfo:
    """A study as the metadata show it.

    Attributes:
        subject_id: the patient.
        date: of the first image.
        timed: whether `date` holds a time of day.
        images: view to the images in it, in the order of IMAGE_RULE.
    """

    subject_id: str
    date: datetime
    timed: bool
    images: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Metadata:
    """What the metadata say of all studies.

    Attributes:
        studies: by study id; those without a readable date are missing.
        patients: dicom id to subject id of every image, in the file's order.
        several: how often a study has several images in one view.
    """

    studies: dict[str, StudyInfo]
    patients: dict[str, str]
    several: int


IMAGE_RULE = (
    "of a study's images in one view whose file is there, the one with the most pixels stands for the study, and among "
    "equals the one whose dicom_id comes first"
)


def find_sources(diff_vqa: Path, mimic_cxr_jpg: Path, *, images: bool = True) -> Sources:
    """Find every file and check its columns or first record, before any work.

    Args:
        diff_vqa: folder of Medical-Diff-VQA.
        mimic_cxr_jpg: folder of MIMIC-CXR-JPG.
        images: whether `files/` must be there.

    Raises:
        InputError: naming all that is missing, or the columns that are.
    """
    wanted = {
        "questions": (diff_vqa, "mimic_pair_questions.csv"),
        "records": (diff_vqa, "all_diseases.json"),
        "metadata": (mimic_cxr_jpg, "mimic-cxr-2.*-metadata.csv"),
        "splits": (mimic_cxr_jpg, "mimic-cxr-2.*-split.csv"),
    }
    found = {name: _find(folder, pattern) for name, (folder, pattern) in wanted.items()}
    missing = [str(folder / pattern) for name, (folder, pattern) in wanted.items() if found[name] is None]
    files = mimic_cxr_jpg / "files"
    if images and not files.is_dir():
        missing.append(f"{files}/")
    if missing:
        names = ", ".join(missing)
        raise InputError(f"not found: {names} (.csv or .csv.gz): give the folders as PhysioNet serves them")
    sources = Sources(**found, images=files)
    check_records(sources.records)
    check_columns(sources.questions, QUESTION_COLUMNS)
    check_columns(sources.metadata, METADATA_COLUMNS)
    check_columns(sources.splits, SPLIT_COLUMNS)
    return sources


def read_questions(path: Path) -> tuple[pl.DataFrame, int]:
    """The difference rows, with their number in the file, and how many rows the file has.

    Returns:
        (rows with `row`, `study_id`, `subject_id`, `ref_id`, `question`, `answer`: all strings but the first; count).
    """
    table = read_columns(path, QUESTION_COLUMNS).with_row_index("row")
    rows = table.filter(pl.col("question_type") == "difference").with_columns(
        # pandas writes ids as floats where a column has gaps.
        pl.col("study_id", "subject_id", "ref_id").fill_null("").str.strip_suffix(".0").str.strip_chars("ps "),
        pl.col("question", "answer").fill_null(""),
        pl.col("row").cast(pl.Int64),
    )
    return rows.drop("question_type"), len(table)


def read_metadata(path: Path) -> Metadata:
    """The studies, their dates, and their images in each view in the order of IMAGE_RULE."""
    table = read_columns(path, METADATA_COLUMNS, optional=[_CODED_VIEW])
    check_ids(table, path, ("dicom_id", "subject_id", "study_id"))
    coded = pl.col(_CODED_VIEW).replace_strict(_CODED, default="") if _CODED_VIEW in table.columns else pl.lit("")
    # 5436.0 is 00:54:36: as a float the time has lost its leading zeros, and its fraction may have gained digits.
    clock = pl.col("StudyTime").str.split(".")
    clock = clock.list.first().str.zfill(6) + "." + clock.list.get(1, null_on_oob=True).fill_null("0").str.slice(0, 6)
    table = table.with_columns(
        pl.coalesce(pl.col("ViewPosition"), coded).str.to_uppercase().alias("view"),
        (pl.col("Rows").cast(pl.Float64, strict=False) * pl.col("Columns").cast(pl.Float64, strict=False))
        .fill_null(0)
        .alias("pixels"),
        pl.col("StudyDate").str.strip_suffix(".0").str.to_date("%Y%m%d", strict=False).alias("date"),
        clock.str.to_time("%H%M%S%.f", strict=False).alias("time"),
    ).filter(pl.all_horizontal(pl.col("dicom_id", "subject_id", "study_id").is_not_null()))
    dated = table.filter(pl.col("date").is_not_null())
    first = (
        dated.sort("date", "time", nulls_last=True)
        .group_by("study_id", maintain_order=True)
        .agg(pl.col("subject_id", "date", "time").first())
    )
    ranked = dated.sort(["pixels", "dicom_id"], descending=[True, False])
    images: dict[str, dict[str, tuple[str, ...]]] = {}
    for study, view, dicoms in ranked.group_by("study_id", "view", maintain_order=True).agg("dicom_id").iter_rows():
        images.setdefault(study, {})[view] = tuple(dicoms)
    studies = {
        study: StudyInfo(
            subject,
            datetime.combine(date, time) if time else datetime(date.year, date.month, date.day),
            time is not None,
            images[study],
        )
        for study, subject, date, time in first.iter_rows()
    }
    patients = dict(table.select("dicom_id", "subject_id").iter_rows())
    several = sum(len(dicoms) > 1 for views in images.values() for dicoms in views.values())
    return Metadata(studies, patients, several)


def read_splits(path: Path) -> dict[str, str]:
    """Patient to split of MIMIC-CXR-JPG. A patient that the file puts into several counts for the most held out."""
    table = read_columns(path, SPLIT_COLUMNS).drop_nulls().unique()
    ranks = {"train": 0, "validate": 1, "test": 2}
    unknown = sorted(set(table["split"]) - set(ranks))
    if unknown:
        raise InputError(f"{path} names the split {unknown[0]!r:.40}: it should know {', '.join(ranks)} only")
    return dict(sorted(table.iter_rows(), key=lambda row: ranks[row[1]]))


def image_file(images: Path, subject: str, study: str, dicom: str) -> Path:
    """Where MIMIC-CXR-JPG keeps an image."""
    return Path(f"{images}/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg")


def _find(folder: Path, pattern: str) -> Path | None:
    """The file, unpacked or .gz; of several versions the newest."""
    return max((path for end in ("", ".gz") for path in folder.glob(pattern + end)), default=None)
