"""The cases of an evaluation: which image, which instruction, what is known of the patient and of the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from instructx2x.dataset.people import OLDEST, SEXES
from instructx2x.dataset.table import edits_from_rows, load_dataset
from instructx2x.editing.rows import Row, finder, named, read_cells, seed_in, whole_in
from instructx2x.errors import InputError, InstructionError
from instructx2x.files import label
from instructx2x.instructions import Edit, Operation, parse, render

OPTIONAL = ("instruction", "seed", "patient", "view", "sex", "age", "findings", "target", "target_findings", "boxes")
NOTHING = ("no finding", "none", "normal")

# x, y, width, height in pixels of the image, as `x2x edit --region` takes them.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Case:
    """One edit to score.

    Attributes:
        row: the image, the instruction, the seed, and the name that the edited image goes by (`row.folder`).
        edits: what the instruction means.
        patient: whose image it is; without one, the image stands for its own patient.
        view: "PA", "AP", or "" where it is not known.
        sex: "F", "M", or "".
        age: years, or NaN.
        findings: what the image shows; None: not known.
        target: the patient's real later image that the instruction describes, or None.
        target_findings: what that shows; None: not known.
        boxes: an expert's boxes of the edited finding in the image; empty: none are known.
    """

    row: Row
    edits: tuple[Edit, ...]
    patient: str
    view: str = ""
    sex: str = ""
    age: float = float("nan")
    findings: frozenset[str] | None = None
    target: Path | None = None
    target_findings: frozenset[str] | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def name(self) -> str:
        return self.row.folder

    @cached_property
    def holds(self) -> bool:
        """Whether there is nothing to do: all that is added is there already, all that is removed is not.

        Only what is said of a finding as a whole is known to hold: one side may lack what the other has.
        """
        return all(self.has_already(edit) for edit in self.edits)

    def has_already(self, edit: Edit) -> bool:
        """Whether one of the edits has nothing to do, as far as is known."""
        if self.findings is None:
            return False
        if edit.operation is Operation.REMOVE:
            return edit.finding not in self.findings
        whole = edit.side is None and edit.zone is None and edit.level is None
        return edit.operation is Operation.ADD and whole and edit.finding in self.findings

    @cached_property
    def side(self) -> str | None:
        """The one side that all edits name, or None."""
        sides = {edit.side for edit in self.edits}
        return sides.pop() if len(sides) == 1 and sides <= {"left", "right"} else None

    def wanted(self, findings: Sequence[str]) -> np.ndarray:
        """What the edited image should show: (F,) float, 1 with, 0 without, NaN not known.

        The target's findings, where there is a target; else the image's own, changed by the instruction; else what
        the instruction alone says. A finding removed from one side or zone may be left elsewhere: not known.
        """
        if self.target_findings is not None:
            return np.array([float(finding in self.target_findings) for finding in findings])
        if self.findings is None:
            labels = dict.fromkeys(findings, np.nan)
        else:
            labels = {finding: float(finding in self.findings) for finding in findings}
        for edit in self.edits:
            if edit.finding in labels:
                labels[edit.finding] = _after(edit)
        return np.array([labels[finding] for finding in findings])


def _after(edit: Edit) -> float:
    if edit.operation is not Operation.REMOVE:
        return 1.0
    return 0.0 if edit.side is None and edit.zone is None else np.nan


def read_cases(
    data: Path, *, split: str = "test", images: Path | None = None, instruction: str | None = None
) -> list[Case]:
    """The cases in a built dataset or in a CSV file.

    Args:
        data: a folder that `x2x dataset build` wrote, with images; or a CSV file in UTF-8 with the columns `image` and
            `instruction` and, if known, `seed`, `patient`, `view`, `sex`, `age`, `findings`, `target`,
            `target_findings`, `boxes` (see docs/how-to/evaluating.md).
        split: of the dataset: "train", "validate" or "test".
        images: folder that a CSV file's image paths are relative to; its own by default.
        instruction: of a CSV file's rows that name none.

    Raises:
        InputError: the data cannot be read, a cell cannot be used, an image is not there, or there are no cases.
    """
    if data.is_dir():
        if images is not None:
            raise InputError(f"{data} is a dataset with its own images: leave --images out")
        cases = _dataset_cases(data, split)
    else:
        cases = _table_cases(data, images or data.parent, instruction)
    if not cases:
        raise InputError(f"{data} has no case in its split {split}: choose another split")
    files = [path for case in cases for path in (case.row.path, case.target) if path is not None]
    absent = [path for path in dict.fromkeys(files) if not _is_there(path)]
    if absent:
        raise InputError(f"{len(absent)} of {len(set(files))} images are not there, the first is {label(absent[0])}")
    return cases


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system takes
        return False


def with_instruction(cases: Iterable[Case], instruction: str) -> list[Case]:
    """Every image once, with one instruction for all; targets, which are of other instructions, are forgotten."""
    edits = parse(instruction)
    text = render(edits)
    chosen: dict[Path, Case] = {}
    for case in cases:
        chosen.setdefault(case.row.path, case)
    rows = named((case.row.image, path, text, case.row.seed) for path, case in chosen.items())
    bare = {"edits": edits, "target": None, "target_findings": None, "boxes": ()}
    return [replace(case, row=row, **bare) for case, row in zip(chosen.values(), rows, strict=True)]


def _dataset_cases(folder: Path, split: str) -> list[Case]:
    table = load_dataset(folder, split).filter(pl.col("instruction") != "")
    if table["past_image"].null_count():
        raise InputError(f"{folder} was built with --tables-only: build it with images to evaluate on it")
    rows = list(table.iter_rows(named=True))
    # Parts of one instruction share their pair of images; seeds differ so that no noise decides about all cases.
    places = named(
        (
            row["past_image"],
            folder / f"{row['past_dicom_id']}__{row['current_dicom_id']}.png",
            row["instruction"],
            number,
        )
        for number, row in enumerate(rows)
    )
    return [
        Case(
            replace(place, path=folder / row["past_image"]),
            edits_from_rows(row["edits"]),
            row["subject_id"],
            row["view"],
            sex=row["sex"] or "",
            age=float("nan") if row["age"] is None else row["age"],
            findings=_known(row["past_findings"]),
            # The last part alone leads to the target; the earlier ones stop on the way.
            target=folder / row["current_image"] if row["parts"] == 1 else None,
            target_findings=_known(row["current_findings"]) if row["parts"] == 1 else None,
        )
        for place, row in zip(places, rows, strict=True)
    ]


def _known(findings: list[str] | None) -> frozenset[str] | None:
    return None if findings is None else frozenset(findings)


def _table_cases(table: Path, images: Path, instruction: str | None) -> list[Case]:
    cells = read_cells(table, ("image", "instruction") if instruction is None else ("image",), OPTIONAL)
    find = finder(images)
    rows = named(
        (cell["image"], find(cell["image"]), cell.get("instruction") or instruction or "", _seed(cell))
        for cell in cells
    )
    cases = []
    for row, cell in zip(rows, cells, strict=True):
        try:
            cases.append(_case(row, cell, find))
        except (InputError, InstructionError, ValueError) as error:
            raise InputError(f"{label(table)}, case {row.number} ({row.image}): {error}") from error
    return cases


def _seed(cell: dict[str, str]) -> int | None:
    return seed_in(cell.get("seed", ""), 0)


def _case(row: Row, cell: dict[str, str], find: Callable[[str], Path]) -> Case:
    if row.seed is None:
        raise InputError("seed must be a whole number of 0 or more")
    sex, view, age = cell.get("sex", "").upper(), cell.get("view", "").upper(), cell.get("age", "")
    if sex and sex not in SEXES:
        raise InputError(f"sex must be F, M or empty, not {sex!r:.20}")
    try:
        years = float(age) if age else float("nan")
    except ValueError:
        years = -1.0
    if age and not 0 <= years <= OLDEST:
        raise InputError(f"age must be a number of years from 0 to {OLDEST}, not {age!r:.20}")
    target = cell.get("target", "")
    if cell.get("target_findings") and not target:
        raise InputError("target_findings are of a target: name its image in the column target")
    return Case(
        row,
        parse(row.instruction),
        cell.get("patient") or row.image,
        view,
        sex,
        years,
        _findings(cell.get("findings", "")),
        find(target) if target else None,
        _findings(cell.get("target_findings", "")) if target else None,
        _boxes(cell.get("boxes", "")),
    )


def _findings(text: str) -> frozenset[str] | None:
    """Findings with "|" between them, in any words of the language; NOTHING is none of them, empty is not known."""
    words = [word.strip() for word in text.split("|") if word.strip()]
    if not words:
        return None
    if len(words) == 1 and words[0].lower() in NOTHING:
        return frozenset()
    return frozenset(_finding(word) for word in words)


def _finding(word: str) -> str:
    edits = parse(f"Add {word}.")
    if len(edits) != 1:
        raise InputError(f"{word!r:.60} is more than one finding: put | between findings")
    return edits[0].finding


def _boxes(text: str) -> tuple[Box, ...]:
    boxes = []
    for part in filter(None, map(str.strip, text.split(";"))):
        numbers = [whole_in(number) for number in part.split(",")]
        if len(numbers) != 4 or None in numbers:
            raise InputError(f"boxes must be x,y,width,height in pixels, several with ; between them, not {part!r:.40}")
        boxes.append(tuple(numbers))
    return tuple(boxes)
