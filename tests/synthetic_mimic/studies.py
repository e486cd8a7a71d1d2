"""Studies, what changed between two of them, and how their tables are written."""

import csv
import gzip
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from instructx2x.instructions.vocabulary import Operation

from .answers import LEVEL_LISTS, NAMES, STORED, LevelClause, stripped

LOCATIONS = (
    ["left"], ["right"], ["bilateral"], ["bibasilar"], ["left", "lower", "lung"], ["right", "lower", "lung"],
    ["right", "middle", "to", "lower"], ["left", "lung", "base"], ["retrocardiac"], ["left", "right"], ["basilar"],
    ["right", "upper", "lung"], ["apical"], ["left", "apical"], ["right", "apicolateral"], ["left", "basal"],
)  # fmt: skip

POST_LOCATIONS = (
    "the right lower lung", "the left lung base", "the right lung base", "the lung bases", "the upper lungs",
    "the apical area", "the soft tissues", "the medial left lung base", "the right mid to lower hemithorax",
    "the lower and probably also middle lobe", "the left upper lung", "the right middle lung",
)  # fmt: skip

TYPES = (["layering"], ["patchy"], ["compressive"], ["interstitial"], ["linear"], ["multifocal"])


QUESTION_COLUMNS = ("study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split")
METADATA_COLUMNS = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
VIEW_MEANING = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "LL": "left lateral", "": ""}
ORIENTATION = {"PA": "Erect", "AP": "", "LATERAL": "Erect", "LL": "Erect", "": ""}
PROCEDURE = {
    "PA": "CHEST (PA AND LAT)",
    "AP": "CHEST (PORTABLE AP)",
    "LATERAL": "CHEST (PA AND LAT)",
    "LL": "CHEST (PA AND LAT)",
    "": "",
}


Entity = dict[str, dict]


def entity(name: str, level=None, location=None, kind=None, post_location=None, *, second: dict | None = None) -> dict:
    """One finding as all_diseases.json stores it; `second` holds those words for the other side."""
    one = {"entity_name": STORED.get(name, name), "location": location, "type": kind, "level": level}
    two = dict.fromkeys(("location", "type", "level", "post_location")) | (second or {})
    return one | {"post_location": post_location} | {f"{key}2": value for key, value in two.items()}


def random_entity(rng: random.Random, name: str) -> dict:
    """A finding with random words, of which each may be absent."""
    second = None
    location = rng.choice(LOCATIONS) if rng.random() < 0.5 else None
    if location in (["left"], ["right"]) and rng.random() < 0.2:
        second = {"location": ["right" if location == ["left"] else "left"], "level": rng.choice((None, *LEVEL_LISTS))}
    return entity(
        name,
        rng.choice(LEVEL_LISTS[: rng.choice((4, 8, 20))]) if rng.random() < 0.5 else None,
        location,
        rng.choice(TYPES) if rng.random() < 0.15 else None,
        rng.choice(POST_LOCATIONS) if rng.random() < 0.15 else None,
        second=second,
    )


def stored(findings: Sequence[dict]) -> Entity:
    """Findings as a study's entity: named, in the order in which they are stored."""
    by_name = {one["entity_name"]: one for one in findings}
    return {
        STORED.get(name, name): by_name[STORED.get(name, name)] for name in NAMES if STORED.get(name, name) in by_name
    }


class Change(NamedTuple):
    """One true change; a change of level also has the levels in the reference and in the main image."""

    operation: str
    finding: str
    before: str | None = None
    after: str | None = None


def operations_of(levels: Sequence[LevelClause], added: Sequence[str], missing: Sequence[str]) -> tuple[Change, ...]:
    levels, added, missing = stripped(levels, added, missing)
    return (
        *(Change(Operation.CHANGE, *clause) for clause in levels),
        *(Change(Operation.ADD, name) for name in added),
        *(Change(Operation.REMOVE, name) for name in missing),
    )


class Difference(NamedTuple):
    """What the published generator says of a pair: its question, and the clauses of its answer."""

    question: str
    levels: list[LevelClause]
    added: list[str]
    missing: list[str]
    area: bool


WHOLE = "what has changed compared to the reference image?"


def difference(
    main: Entity, reference: Entity, order: Sequence[str] | None = None, *, may_be_area: bool = True
) -> Difference:
    """The difference row of a pair, with the main study's findings taken in `order` (as stored if None).

    The first level change at a shared place asks about that area alone, and drops every other change.
    """
    order = list(main) if order is None else order
    levels = []
    for name in order:
        old, new = reference.get(name), main[name]
        if old is None or old["level"] is None or new["level"] is None or old["level"] == new["level"]:
            continue
        clause = (name, " ".join(old["level"]), " ".join(new["level"]))
        shared = [word for word in new["location"] or () if word in (old["location"] or ())]
        if may_be_area and shared and shared != ["bilateral"]:
            words = f"{shared[0]} lung" if shared in (["left"], ["right"]) else " ".join(shared)
            return Difference(f"what has changed in the {words} area?", [clause], [], [], True)
        levels.append(clause)
    added = [name for name in order if name not in reference]
    return Difference(WHOLE, levels, added, [name for name in reference if name not in main], False)


def study_id_of(number: int) -> int:
    """A study_id of its own for each number below ten million; as with the real ones, later is not larger."""
    return 50_000_000 + 7_368_787 * (number + 1) % 9_999_991


def dicom_id_of(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(160):040x}"
    return "-".join(digits[i : i + 8] for i in range(0, 40, 8))


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_table(path, text.getvalue().encode())


def write_table(path: Path, content: bytes) -> None:
    """Write a table, compressed if its name says so, and then without a time stamp: equal tables are equal files."""
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
