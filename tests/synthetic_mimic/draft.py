"""The small data set while it is drawn up: patients, studies, and rows with the truth about them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .answers import MEANING_LOST, answer, malform, on_scale, splits
from .studies import WHOLE, Change, Difference, Entity, dicom_id_of, difference, operations_of, stored, study_id_of


@dataclass(frozen=True)
class Picture:
    """One image of a study. `state` is what lies on disk: "ok", "missing" or "truncated"."""

    dicom_id: str
    view: str
    height: int
    width: int
    state: str


@dataclass(frozen=True)
class Study:
    """A study as it truly is, its `time` as written; `in_json` and `in_metadata` say where the files mention it."""

    subject_id: int
    study_id: int
    date: int
    time: str
    entity: Entity
    no_entity: list[str]
    pictures: tuple[Picture, ...]
    in_json: bool = True
    in_metadata: bool = True

    @property
    def readable(self) -> tuple[str, ...]:
        """dicom_ids of the PA images that can be opened: any of them may stand for the study."""
        return tuple(p.dicom_id for p in self.pictures if p.view == "PA" and p.state == "ok")


@dataclass(frozen=True)
class Row:
    """One difference row and the truth about it.

    Attributes:
        traps: names of the traps that it holds; "area" and "ambiguous" and "off_scale" are also set where they
            happened by chance.
        main, reference: the two studies, with their true entities.
        answered: what the text says by itself, in its order; None where it says nothing that can be trusted.
        operations: what a version 1 sample of this row must hold with the default settings (PA on both sides,
            chronological, unchanged pairs dropped, area rows rebuilt, one sample a pair); None where the row must be
            dropped. In the order of the answer; for an area row, which has to be rebuilt, in the order of the stored
            entities (main's for levels and additions, the reference's for removals). Levels stand as they are written.
        reasons: why the row must be dropped, in words; empty where it is kept.
        confirmed: removed findings that the main study denies in `no_entity`: all that a strict mode may remove.
    """

    subject_id: int
    study_id: int
    ref_id: int
    question: str
    answer: str
    split: str
    traps: frozenset[str]
    main: Study
    reference: Study
    answered: tuple[Change, ...] | None
    operations: tuple[Change, ...] | None
    reasons: tuple[str, ...]
    confirmed: frozenset[str]

    @property
    def pair(self) -> tuple[int, int]:
        """(study_id, ref_id)."""
        return self.study_id, self.ref_id


@dataclass(frozen=True)
class Mimic:
    """What was written: the two folders, every difference row in the order of the table, every study by its id."""

    diff_vqa: Path
    cxr_jpg: Path
    rows: tuple[Row, ...]
    studies: dict[int, Study]

    def with_trap(self, name: str) -> list[Row]:
        """The rows that hold a trap."""
        return [row for row in self.rows if name in row.traps]

    def kept(self) -> dict[tuple[int, int], Row]:
        """The row that gives the sample of a pair, for every pair that gives one."""
        return {row.pair: row for row in self.rows if row.operations is not None}


PA, AP, LATERAL = ("PA", "ok"), ("AP", "ok"), ("LATERAL", "ok")


@dataclass
class Draft:
    """The data set while it is drawn up: patients, studies and rows are added to it one after the other."""

    rng: random.Random
    images: bool
    studies: list[Study] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    patients: int = 0

    def patient(self) -> int:
        """A new subject_id, the folders p10..p19 in turn."""
        self.patients += 1
        return 10_000_000 + 1_000_000 * (self.patients % 10) + 37 * self.patients

    def study(
        self, subject: int, findings: Sequence[dict], date: int, time="101500.0", *, denied=(), pictures=(PA,), **known
    ) -> Study:
        """A new study with its findings (as `entity` gives them) and its pictures (view, state)."""
        shots = tuple(
            Picture(dicom_id_of(self.rng), view, self.rng.randrange(72, 110), self.rng.randrange(56, 72), state)
            for view, state in pictures
        )
        study = Study(
            subject, study_id_of(len(self.studies)), date, time, stored(findings), list(denied), shots, **known
        )
        self.studies.append(study)
        return study

    def ask(
        self, main: Study, reference: Study, *traps: str, split="", order=None, damage="", twice=False, area=True,
        question="", text: str | None = None,
    ) -> Row:  # fmt: skip
        """Add a difference row.

        `damage` is a kind of `malform`, `twice` repeats the first addition at the end of its list, `area=False`
        answers for the whole image whatever the generator would do, `question` and `text` replace what it would write
        (of a replaced text nothing can be known).
        """
        order = order or self.rng.sample(list(main.entity), len(main.entity))
        found = difference(main.entity, reference.entity, order, may_be_area=area)
        written = answer(found.levels, found.added + found.added[:1] * twice, found.missing)
        written = malform(self.rng, written, damage) if damage else written
        lost = text is not None or damage in MEANING_LOST
        answered = None if lost else operations_of(*found[1:4])
        asked = question or found.question
        ambiguous = not lost and any(len(splits(*clause[1:], wide=True)) > 1 for clause in found.levels)
        off_scale = not lost and any(not (on_scale(old) and on_scale(new)) for _, old, new in found.levels)
        facts = {"area": not lost and asked != WHOLE, "ambiguous": ambiguous, "off_scale": off_scale}
        marks = frozenset(traps) | {name for name, holds in facts.items() if holds}
        partial = found.area or "area" in marks
        reasons = self._reasons(main, reference, found, answered, partial=partial, ambiguous=ambiguous)
        if any(row.pair == (main.study_id, reference.study_id) and row.operations is not None for row in self.rows):
            reasons.append("an earlier row gives the sample of this pair")
        true = (
            operations_of(*difference(main.entity, reference.entity, may_be_area=False)[1:4]) if partial else answered
        )
        row = Row(
            main.subject_id, main.study_id, reference.study_id, asked, written if text is None else text,
            split or self.rng.choices(("train", "val", "test"), (8, 1, 1))[0], marks, main, reference, answered,
            None if reasons else true, tuple(dict.fromkeys(reasons)),
            frozenset(name.strip() for name in reference.entity if name not in main.entity and name in main.no_entity),
        )  # fmt: skip
        self.rows.append(row)
        return row

    def _reasons(self, main: Study, reference: Study, found: Difference, answered, *, partial, ambiguous) -> list[str]:
        """Why a row must be dropped, by the facts of its two studies."""
        both, told = (main, reference), main.in_json and reference.in_json
        reasons = []
        if answered is None:
            reasons.append("the answer cannot be read")
        elif not answered:
            reasons.append("nothing has changed")
        if partial and not told:
            reasons.append("an area row, and a study is not in all_diseases.json")
        elif ambiguous and not told:
            reasons.append("levels are ambiguous, and a study is not in all_diseases.json")
        if main is reference:
            reasons.append("main and reference are one study")
        elif main.subject_id != reference.subject_id:
            reasons.append("main and reference are of two patients")
        if not all(study.in_metadata for study in both):
            return [*reasons, "a study is not in the metadata"]
        if not _earlier(reference, main):
            reasons.append("the reference is not earlier")
        for study in both:
            if not any(p.view == "PA" for p in study.pictures):
                reasons.append("a study has no PA image")
            elif self.images and not study.readable:
                reasons.append("a study's PA image is missing or cannot be read")
        return reasons

    def pair(
        self, trap: str, reference: Sequence[dict], main: Sequence[dict], *, dates=(21500101, 21500301),
        times=("101500.0", "101500.0"), pictures=((PA,), (PA,)), denied=(), known=({}, {}), **asked,
    ) -> Row:  # fmt: skip
        """A new patient with a reference and a main study, and one row about them."""
        subject = self.patient()
        old = self.study(subject, reference, dates[0], times[0], pictures=pictures[0], **known[0])
        new = self.study(subject, main, dates[1], times[1], pictures=pictures[1], denied=denied, **known[1])
        return self.ask(new, old, trap, **asked)


def _earlier(first: Study, second: Study) -> bool:
    """Whether a study is surely before another: by day, or on one day by a time that both have."""
    if first.date != second.date or not (first.time and second.time):
        return first.date < second.date
    return float(first.time) < float(second.time)
