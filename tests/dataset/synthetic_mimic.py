"""A synthetic MIMIC-Diff-VQA and MIMIC-CXR-JPG with known truth: no row, image or report of a real patient is in it.

Written from the published description of the data set (method section 5), and from nothing of the builder that it
tests. Four things are offered:

- `answer` and `malform` write one difference answer, well formed or damaged in a named way;
- `generated_answers` gives any number of answers with what each of them means, for a fuzz test;
- `write_mimic` writes both folders in the real layout, small, with every trap at once, and says what each row means;
- `write_questions_at_scale` and `write_published_statistics` write the tables at the size of the real ones.

The same seed gives the same bytes. Load it by its path: it needs no entry in `sys.modules`, which is why annotations
are not postponed here (dataclasses would look them up there).
"""

import csv
import datetime
import gzip
import io
import itertools
import json
import random
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from PIL import Image

from instructx2x.instructions.vocabulary import LEVEL_SYNONYMS, LEVELS, PAPER_FINDINGS, Operation

# --- the words -------------------------------------------------------------------------------------------------------

STORED = {"tortuosity of the descending aorta": "tortuosity of the descending aorta "}
"""Names that are stored with a trailing space, and so double the spaces of an answer."""

NAMES = tuple(name for name in PAPER_FINDINGS if name != "infection")
"""The names that studies hold, in the order in which they are stored; an infection is stored as pneumonia."""

COMMON = dict.fromkeys(NAMES, 1.0) | {
    "pleural effusion": 16, "atelectasis": 16, "cardiomegaly": 10, "lung opacity": 14, "edema": 9, "pneumonia": 9,
    "consolidation": 6, "pneumothorax": 5, "vascular congestion": 5, "fracture": 3,
    "enlargement of the cardiac silhouette": 3,
}  # fmt: skip
"""How often a finding is drawn, relative to the others."""

STORED_LEVELS = (
    "moderately", "moderate", "acute", "mildly", "mild", "small", "severe", "moderate to large", "moderate to severe",
    "mild to moderate", "minimal", "subtle", "massive", "minimally", "increasing", "decreasing", "minor",
)  # fmt: skip

LEVEL_LISTS = (
    ["mild"], ["moderate"], ["severe"], ["small"], ["minimal"], ["moderate to severe"], ["mild to moderate"],
    ["moderate to large"], ["small", "moderate"], ["mild", "acute"], ["increasing"], ["decreasing"], ["subtle"],
    ["massive"], ["minor"], ["moderately"], ["mildly"], ["acute"], ["minimally"], ["mild", "severe"],
)  # fmt: skip
"""Levels as studies store them."""

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

UNKNOWN_FINDINGS = ("bronchiectasis", "sarcoidosis", "a pacemaker", "xyzzy", "pleurodesis", "ödem", "aspiration")
QUALIFIERS = ("subcutaneous", "loculated", "suspected", "no", "resolved", "pericardial", "old")
UNKNOWN_SENTENCES = (
    "the heart is larger than before. ",
    "the main image is of better quality than the reference image. ",
    "the level of concern is high. ",
    "please compare with the ct. ",
)
JUNK = (
    "", " ", ".", "nan", "none", "yes", "no", "pleural effusion", "edema, pneumonia", "PA view", "left lung area", "0",
    "the", "nothing", "has changed", "nothing has", "the level of edema", "the main image", "than the reference image.",
    "the main image has an additional finding of than the reference image. ", "\x00", "\ufeff", "🫁🫁",
    "плевральный выпот",
    "the main image is missing the findings of , and than the reference image. ", "the level of has changed from to . ",
    "the main image has additional findings of and than the reference image. ", "<b>edema</b>", "{'edema': 1}",
    "the level of edema has changed from mild. ", "the level of edema has changed to mild. ", "edema " * 400,
    "everything has changed.", "the main image has no additional finding of edema than the reference image. ",
)  # fmt: skip

LevelClause = tuple[str, str, str]  # name, level in the reference, level in the main image


def _fits(words: Collection[str]) -> re.Pattern[str]:
    one = "|".join(map(re.escape, words))
    return re.compile(f"(?:{one})(?: (?:{one}))*")


_NARROW = _fits(STORED_LEVELS)
_WIDE = _fits({*STORED_LEVELS, *LEVELS, *LEVEL_SYNONYMS})


def splits(before: str, after: str, *, wide: bool = False) -> list[tuple[str, str]]:
    """All ways to read `f"{before} to {after}"` as two levels.

    `wide` also takes the levels that people may type but no study stores ("large", "small to moderate").
    """
    text, fits = f"{before} to {after}", _WIDE if wide else _NARROW
    cuts = [(text[: m.start()], text[m.end() :]) for m in re.finditer(" to ", text)]
    return [cut for cut in cuts if fits.fullmatch(cut[0]) and fits.fullmatch(cut[1])]


_LEVEL_WORDS = [" ".join(words) for words in LEVEL_LISTS]
_LEVEL_PAIRS = [
    pair for pair in itertools.permutations(_LEVEL_WORDS, 2) if set(splits(*pair)) == set(splits(*pair, wide=True))
]
CLEAR_PAIRS = tuple(pair for pair in _LEVEL_PAIRS if len(splits(*pair)) == 1)
"""Pairs of levels that can be told apart in "from A to B", whatever list of level words is used."""
AMBIGUOUS_PAIRS = tuple(pair for pair in _LEVEL_PAIRS if len(splits(*pair)) > 1)
"""Pairs that cannot ("from mild to moderate to severe")."""


def on_scale(level: str) -> bool:
    """Whether a level, as it is written in an answer, is a rank of the severity scale ("acute" is none)."""
    return level in LEVELS or level in LEVEL_SYNONYMS or level == "small moderate"


# --- one answer ------------------------------------------------------------------------------------------------------


def answer(
    level_clauses: Sequence[LevelClause] = (), additional: Sequence[str] = (), missing: Sequence[str] = ()
) -> str:
    """A difference answer exactly as published: names and levels are written as they are given.

    A name that stands twice in a list gives the malformed list of version 1.0.0, because whatever equals the last
    item is written as the last item.
    """
    text = "".join(f"the level of {name} has changed from {old} to {new}. " for name, old, new in level_clauses)
    text += _clause(additional, "has an additional finding", "has additional findings")
    text += _clause(missing, "is missing the finding", "is missing the findings")
    return text or "nothing has changed."


def _clause(names: Sequence[str], one: str, several: str) -> str:
    if not names:
        return ""
    if len(names) == 1:
        return f"the main image {one} of {names[0]} than the reference image. "
    items = "".join(f" and {name}" if name == names[-1] else f" {name}," for name in names)
    return f"the main image {several} of{items} than the reference image. "


MEANING_KEPT = ("doubled_spaces", "space_before_stop", "no_trailing_space", "capitals")
MEANING_LOST = (
    "unknown_finding", "qualified_finding", "unknown_level", "truncated", "beheaded", "unknown_sentence",
    "unchanged_and_more",
)  # fmt: skip
_ANY_NAME = re.compile("|".join(sorted(PAPER_FINDINGS, key=len, reverse=True)))
_ANY_CLAUSE = re.compile(
    r"the level of (?P<levels>.*?)\. |the main image [a-z ]*? of (?P<list>.*?) than the reference image\. "
)


def malform(rng: random.Random, text: str, kind: str) -> str:
    """A well-formed answer with at least one clause, damaged in the way that `kind` names.

    Kinds in `MEANING_KEPT` leave the meaning as it was; after those in `MEANING_LOST` no reader may accept the text.
    "unknown_level" needs a level clause.
    """
    clauses = list(_ANY_CLAUSE.finditer(text))
    clause = rng.choice(clauses)
    name = rng.choice(list(_ANY_NAME.finditer(text)))
    _, end = clause.span("list" if clause["list"] else "levels")
    match kind:
        case "doubled_spaces":
            return re.sub(" ", lambda _: " " * rng.choice((1, 1, 2, 3)), text)
        case "space_before_stop":
            return re.sub(r"(?<! )([.,])", r" \1", text)
        case "no_trailing_space":
            return text.rstrip()
        case "capitals":
            return rng.choice((str.upper, str.title, str.capitalize))(text)
        case "unknown_finding":
            return text[: name.start()] + rng.choice(UNKNOWN_FINDINGS) + text[name.end() :]
        case "qualified_finding":
            return f"{text[: name.start()]}{rng.choice(QUALIFIERS)} {text[name.start() :]}"
        case "unknown_level":
            return re.sub("changed from ", "changed from enormous ", text, count=1)
        case "truncated":
            return text[: rng.randrange(clause.start() + 4, end)]
        case "beheaded":
            return text[rng.randrange(clauses[0].end() - 25, clauses[0].end() - 2) :]
        case "unknown_sentence":
            at = rng.choice([0, *(c.end() for c in clauses)])
            return text[:at] + rng.choice(UNKNOWN_SENTENCES) + text[at:]
        case "unchanged_and_more":
            return text + "nothing has changed."
    raise ValueError(f"no such kind of damage: {kind}")


class Case(NamedTuple):
    """One answer of `generated_answers`.

    Attributes:
        text: the answer.
        truth: (level clauses, additional, missing), tuples without repeats in the order of first appearance and with
            names stripped; None where no reader may accept the text.
        kind: how it was made: "plain", "unchanged", "duplicates", "ambiguous", "added_and_missing", "junk", or a
            kind of `malform`.
        ambiguous: whether the text alone cannot tell where a level ends; `truth` then holds what was meant.
    """

    text: str
    truth: tuple[tuple[LevelClause, ...], tuple[str, ...], tuple[str, ...]] | None
    kind: str
    ambiguous: bool


_KINDS = dict.fromkeys(MEANING_KEPT + MEANING_LOST, 4) | {
    "plain": 40, "unchanged": 4, "duplicates": 8, "ambiguous": 8, "added_and_missing": 2, "junk": 4,
}  # fmt: skip


def generated_answers(n: int, seed: int) -> Iterator[Case]:
    """`n` answers with their truth: a fuzz test for whatever reads them. 100,000 take a few seconds."""
    rng = random.Random(f"answers {seed}")
    weights = list(itertools.accumulate(COMMON.get(name, 1) ** 0.5 for name in PAPER_FINDINGS))
    for kind in rng.choices(list(_KINDS), list(_KINDS.values()), k=n):
        if kind == "junk":
            yield Case(rng.choice(JUNK), None, kind, False)
            continue
        if kind == "unchanged":
            text = rng.choice(
                ("nothing has changed.", "nothing has changed. ", "nothing has changed .", "nothing  has changed.")
            )
            yield Case(text, ((), (), ()), kind, False)
            continue
        drawn = list(
            dict.fromkeys(rng.choices(PAPER_FINDINGS, cum_weights=weights, k=rng.choice((1, 1, 2, 2, 3, 4, 6, 10))))
        )
        needs_level = kind in ("ambiguous", "unknown_level")
        cut = min(rng.choice((0, 0, 0, 1, 1, 2)), len(drawn))
        cut = max(cut, 1) if needs_level else cut
        levels = [(STORED.get(name, name), *rng.choice(CLEAR_PAIRS)) for name in drawn[:cut]]
        if kind == "ambiguous":
            levels[0] = (levels[0][0], *rng.choice(AMBIGUOUS_PAIRS))
        rest = [STORED.get(name, name) for name in drawn[cut:]]
        turn = rng.randint(0, len(rest))
        added, missing = rest[:turn], rest[turn:]
        truth = _truth(levels, added, missing)
        if kind == "duplicates":
            added = _repeated(rng, added)
            missing = _repeated(rng, missing)
        if kind == "added_and_missing":
            added = added or [STORED.get(drawn[-1], drawn[-1])]
            missing = [*missing, rng.choice(added)]
        text = answer(levels, added, missing)
        if kind in MEANING_KEPT + MEANING_LOST:
            text = malform(rng, text, kind)
        lost = kind in MEANING_LOST or kind == "added_and_missing"
        yield Case(text, None if lost else truth, kind, kind == "ambiguous")


def _truth(levels: Sequence[LevelClause], added: Sequence[str], missing: Sequence[str]):
    clean = tuple((name.strip(), old, new) for name, old, new in levels)
    return clean, tuple(name.strip() for name in added), tuple(name.strip() for name in missing)


def _repeated(rng: random.Random, names: list[str]) -> list[str]:
    """The list with one to three of its items again at its end."""
    return names + rng.choices(names, k=rng.choice((1, 1, 2, 3))) if names else names


# --- studies and what changed between two of them --------------------------------------------------------------------

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


def _stored(findings: Sequence[dict]) -> Entity:
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


def _operations(levels: Sequence[LevelClause], added: Sequence[str], missing: Sequence[str]) -> tuple[Change, ...]:
    levels, added, missing = _truth(levels, added, missing)
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


# --- the small data set with every trap ------------------------------------------------------------------------------


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
CHEXPERT = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
QUESTION_COLUMNS = ("study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split")
METADATA_COLUMNS = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
_VIEW_MEANING = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "LL": "left lateral", "": ""}
_ORIENTATION = {"PA": "Erect", "AP": "", "LATERAL": "Erect", "LL": "Erect", "": ""}
_PROCEDURE = {
    "PA": "CHEST (PA AND LAT)",
    "AP": "CHEST (PORTABLE AP)",
    "LATERAL": "CHEST (PA AND LAT)",
    "LL": "CHEST (PA AND LAT)",
    "": "",
}


@dataclass
class _Draft:
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
            Picture(_dicom_id(self.rng), view, self.rng.randrange(72, 110), self.rng.randrange(56, 72), state)
            for view, state in pictures
        )
        study = Study(
            subject, _study_id(len(self.studies)), date, time, _stored(findings), list(denied), shots, **known
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
        answered = None if lost else _operations(*found[1:4])
        asked = question or found.question
        ambiguous = not lost and any(len(splits(*clause[1:], wide=True)) > 1 for clause in found.levels)
        off_scale = not lost and any(not (on_scale(old) and on_scale(new)) for _, old, new in found.levels)
        facts = {"area": not lost and asked != WHOLE, "ambiguous": ambiguous, "off_scale": off_scale}
        marks = frozenset(traps) | {name for name, holds in facts.items() if holds}
        partial = found.area or "area" in marks
        reasons = self._reasons(main, reference, found, answered, partial=partial, ambiguous=ambiguous)
        if any(row.pair == (main.study_id, reference.study_id) and row.operations is not None for row in self.rows):
            reasons.append("an earlier row gives the sample of this pair")
        true = _operations(*difference(main.entity, reference.entity, may_be_area=False)[1:4]) if partial else answered
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


def _study_id(number: int) -> int:
    """A study_id of its own for each number below ten million; as with the real ones, later is not larger."""
    return 50_000_000 + 7_368_787 * (number + 1) % 9_999_991


def _dicom_id(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(160):040x}"
    return "-".join(digits[i : i + 8] for i in range(0, 40, 8))


def _traps(draft: _Draft) -> None:
    """Every trap of method section 5, each in a patient of its own."""
    pair, e = draft.pair, entity
    edema, pneumonia, effusion = e("edema"), e("pneumonia"), e("pleural effusion", ["small"], ["left"])
    large = e("pleural effusion", ["moderate"], ["left"])
    mild, worse = e("edema", ["mild"]), e("edema", ["moderate to severe"])
    gone = {"in_json": False}

    # Answers.
    pair("plain", [edema], [edema, e("hernia")])
    pair("unchanged", [edema, effusion], [effusion, edema])
    pair("descending_aorta", [pneumonia, e("scoliosis")], [e("tortuosity of the descending aorta"), e("hematoma")])
    pair("descending_aorta_alone", [e("tortuosity of the descending aorta", ["mild"])], [e("fracture")])
    two = ["pneumonia", "lung opacity"]
    pair("duplicate_list", [e("scoliosis")], [e(name) for name in two], twice=True, order=two)
    pair("duplicate_list_of_one", [edema], [edema, pneumonia], twice=True)
    for kind in MEANING_KEPT:
        pair(kind, [edema, e("contusion", ["mild"])], [edema, pneumonia, e("contusion", ["severe"])], damage=kind)
    for kind in MEANING_LOST:
        pair(kind, [edema, e("contusion", ["mild"])], [edema, pneumonia, e("contusion", ["severe"])], damage=kind)
    pair("blank", [edema], [pneumonia], text="")
    pair("spaces_only", [edema], [pneumonia], text="   ")
    pair(
        "unicode",
        [edema],
        [pneumonia],
        text="the main image has an additional finding of œdème 🫁 than the reference image. ",
    )
    pair("added_and_missing", [edema], [pneumonia], text=answer((), ["pneumonia", "edema"], ["edema"]))
    five = [e(name) for name in ("atelectasis", "cardiomegaly", "edema", "hernia", "fracture")]
    pair("long", five, [e(name) for name in ("pleural effusion", "pneumonia", "scoliosis", "emphysema", "granuloma")])

    # Levels.
    pair("level", [mild], [e("edema", ["severe"]), e("hernia")])
    pair("ambiguous_resolved", [mild], [worse, e("hernia")])
    pair("ambiguous_resolved_other_way", [e("edema", ["mild to moderate"])], [e("edema", ["severe"])])
    pair("ambiguous_unresolved", [mild], [worse], known=({}, gone))
    pair("ambiguous_json_silent", [mild], [edema], text=answer([("edema", "mild", "moderate to severe")]))
    pair("small_to_moderate_to_severe", [e("edema", ["small"])], [worse])
    pair("stored_as_two_words", [e("pleural effusion", ["small", "moderate"])], [e("pleural effusion", ["severe"])])
    for old, new in ((["mild", "acute"], ["severe"]), (["increasing"], ["moderate"]), (["mild", "severe"], ["small"])):
        pair("off_scale", [e("edema", old)], [e("edema", new), e("hernia")])
    pair("one_level_null", [mild], [edema, e("hernia")])
    sides = [{"location": ["right"], "level": [level]} for level in ("small", "severe")]
    pair("second_side_changed", *([e("pleural effusion", ["small"], ["left"], second=side)] for side in sides))
    pair(
        "bilateral",
        [e("atelectasis", ["mild"], ["bilateral"])],
        [e("atelectasis", ["severe"], ["bilateral"]), pneumonia],
    )

    # Rows about one area, which drop the pair's other changes.
    pair("area_of_a_side", [effusion, pneumonia], [large, edema])
    pair("area_of_several_words", [e("lung opacity", ["mild"], ["right", "middle", "to", "lower"]), edema],
         [e("lung opacity", ["severe"], ["right", "lower", "lung"])])  # fmt: skip
    pair("area_not_in_json", [effusion], [large, edema], known=(gone, {}))
    pair("area_ambiguous", [e("edema", ["mild"], ["left"])], [e("edema", ["moderate to severe"], ["left"]), pneumonia])
    pair(
        "stale_area_question",
        [effusion],
        [large, edema],
        area=False,
        question="what has changed in the left lung area?",
    )
    pair("stale_whole_question", [effusion], [large, edema], question=WHOLE)
    for trap, areas in (("area_after_whole", (False, True)), ("area_before_whole", (True, False))):
        row = pair(trap, [effusion, pneumonia], [large, edema], area=areas[0])
        draft.ask(row.main, row.reference, trap, area=areas[1])
    row = pair("duplicate_row", [edema], [pneumonia, e("hernia")])
    draft.ask(row.main, row.reference, "duplicate_row")

    # What is denied, and what a second version of the instructions can say.
    pair("removal_confirmed", [edema, pneumonia], [e("hernia")], denied=["edema", "pneumonia", "edema"])
    pair("removal_partly_confirmed", [edema, pneumonia], [e("hernia")], denied=["pneumonia"])
    pair("removal_unconfirmed", [edema], [e("hernia")], denied=["pneumothorax"])
    pair("words_of_additions", [], [
        e("pleural effusion", ["small"], ["left"], ["layering"], second={"location": ["right"], "level": ["moderate"]}),
        e("atelectasis", ["mild"], ["bibasilar"]), e("lung opacity", None, ["right", "middle", "to", "lower"]),
        e("pneumonia", None, None, None, "the lower and probably also middle lobe"),
        e("consolidation", ["minimal"], ["left", "right"], None, "the lung bases"), e("fracture", None, ["right"]),
    ])  # fmt: skip
    for i, place in enumerate(POST_LOCATIONS):
        pair(
            "post_location",
            [e("atelectasis", None, LOCATIONS[i])],
            [e("lung opacity", LEVEL_LISTS[i], None, None, place)],
        )
    pair("not_in_json", [edema], [pneumonia], known=({}, gone))

    # Which study is earlier.
    day = (21500101, 21500101)
    pair("reference_later", [edema], [pneumonia], dates=(21500301, 21500101))
    pair("tied", [edema], [pneumonia], dates=day)
    pair("past_midnight", [edema], [pneumonia], dates=day, times=("5436.0", "93014.531"))
    pair("past_midnight_reversed", [edema], [pneumonia], dates=day, times=("93014.531", "5436.0"))
    pair("before_ten", [edema], [pneumonia], dates=day, times=("93014.531", "101500.0"))
    pair("before_one", [edema], [pneumonia], dates=day, times=("7.0", "54.25"))
    pair("long_fraction", [edema], [pneumonia], dates=day, times=("213014.53100000002", "213014.968"))
    pair("later_day_earlier_hour", [edema], [pneumonia], times=("235959.0", "7.0"))
    pair("empty_time_same_day", [edema], [pneumonia], dates=day, times=("", "101500.0"))
    pair("empty_time_other_day", [edema], [pneumonia], times=("", "101500.0"))
    draft.ask(draft.rows[0].main, draft.rows[0].main, "same_study", text=answer((), ["pneumonia"]))
    draft.ask(draft.rows[0].main, draft.rows[1].reference, "other_patient")
    pair("not_in_metadata", [edema], [pneumonia], known=({"in_metadata": False}, {}))
    subject = draft.patient()
    three = [draft.study(subject, [one], 21500101 + 100 * i) for i, one in enumerate((edema, pneumonia, e("hernia")))]
    draft.ask(three[2], three[0], "crossing_splits", "skips_a_study", split="test")
    draft.ask(three[1], three[0], "crossing_splits", split="train")

    # Images.
    for trap, pictures in (
        ("two_pa", (PA, PA)), ("pa_and_lateral", (LATERAL, PA)), ("pa_and_ap", (AP, PA)), ("ap_only", (AP,)),
        ("lateral_only", (LATERAL,)), ("empty_view", (("", "ok"),)), ("missing_jpeg", (("PA", "missing"),)),
        ("truncated_jpeg", (("PA", "truncated"),)), ("one_of_two_missing", (("PA", "missing"), PA)),
    ):  # fmt: skip
        pair(trap, [edema], [pneumonia], pictures=((PA,), pictures))
        pair(trap, [edema], [pneumonia], pictures=(pictures, (PA, LATERAL)))


def _ordinary(draft: _Draft) -> None:
    """A patient with two to four random studies and a row for all but the first."""
    rng, subject, earlier = draft.rng, draft.patient(), []
    for i in range(rng.randint(2, 4)):
        names = set(rng.choices(list(COMMON), list(COMMON.values()), k=rng.randint(0, 5)))
        findings = [random_entity(rng, name) for name in NAMES if name in names]
        denied = [name for name in rng.sample(NAMES, rng.randint(0, 4)) if name not in names]
        time = f"{rng.randrange(24) * 10000 + rng.randrange(60) * 100 + rng.randrange(60)}.{rng.choice((0, 531, 25))}"
        pictures = rng.choice(((PA,), (PA,), (PA, LATERAL), (PA, PA), (AP,), (AP, LATERAL)))
        date = 21500101 + 10000 * i + 100 * rng.randrange(12) + rng.randrange(28)
        study = draft.study(subject, findings, date, time, denied=denied, pictures=pictures)
        if earlier:
            draft.ask(study, rng.choice(earlier))
        earlier.append(study)


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
    draft = _Draft(random.Random(f"mimic {seed}"), images)
    _traps(draft)
    if patients < draft.patients:
        raise ValueError(f"the traps need {draft.patients} patients, not {patients}.")
    while draft.patients < patients:
        _ordinary(draft)
    diff_vqa, cxr_jpg = folder / "DIFF_VQA", folder / "MIMIC_CXR_JPG"
    diff_vqa.mkdir(parents=True)
    cxr_jpg.mkdir(parents=True)
    studies, rng = draft.studies, draft.rng

    questions = [
        question for row in draft.rows for question in (*_other_questions(rng, row), _difference_question(row))
    ]
    name = "mimic_pair_questions.csv" + ".gz" * compressed
    _write_csv(diff_vqa / name, QUESTION_COLUMNS, questions)
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
    _write_csv(
        diff_vqa / "mimic_all.csv",
        ("subject_id", "study_id", *CHEXPERT, "dicom_id", "view", "split", "study_date", "study_order"),
        [
            (s.subject_id, s.study_id, *labels[s.study_id], shot.dicom_id, _VIEW_MEANING[shot.view],
             split[s.subject_id], s.date, float(orders[s.study_id]))
            for s in known
            for shot in [next((p for p in s.pictures if p.view in ("PA", "AP")), s.pictures[0])]
        ],
    )  # fmt: skip
    _write_csv(
        cxr_jpg / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ("subject_id", "study_id", *CHEXPERT),
        [(s.subject_id, s.study_id, *labels[s.study_id]) for s in known],
    )
    shots = [(s, picture) for s in known for picture in s.pictures]
    _write_csv(
        cxr_jpg / "mimic-cxr-2.0.0-split.csv.gz",
        ("dicom_id", "study_id", "subject_id", "split"),
        [(p.dicom_id, s.study_id, s.subject_id, split[s.subject_id]) for s, p in shots],
    )
    _write_csv(
        cxr_jpg / "mimic-cxr-2.0.0-metadata.csv.gz",
        METADATA_COLUMNS,
        [
            (p.dicom_id, s.subject_id, s.study_id, _PROCEDURE[p.view], p.view, p.height, p.width, s.date, s.time,
             _PROCEDURE[p.view], _VIEW_MEANING[p.view], _ORIENTATION[p.view])
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


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    _write_table(path, text.getvalue().encode())


def _write_table(path: Path, content: bytes) -> None:
    """Write a table, compressed if its name says so, and then without a time stamp: equal tables are equal files."""
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)


# --- tables at the size of the real ones -----------------------------------------------------------------------------


class Tables(NamedTuple):
    """Two folders of tables, and what was counted while they were written (clauses as the answers have them)."""

    diff_vqa: Path
    cxr_jpg: Path
    counts: dict[str, int]


PUBLISHED = {"difference": 32_761, "unchanged": 4_544, "additional": 20_316, "missing": 19_921, "level": 1_759}
"""Difference rows of validation + test, and the clauses in them."""
PUBLISHED_KINDS = {
    "abnormality": 145_421, "presence": 155_726, "view": 56_265, "location": 84_193, "level": 67_296, "type": 27_478,
}  # fmt: skip
"""Rows of the other question types in the whole table."""
_SCALE_LEVELS = (
    ["mild"],
    ["moderate"],
    ["severe"],
    ["small"],
    ["minimal"],
    ["moderate to severe"],
    ["subtle"],
    ["massive"],
)
_PLACE = {name: place for place, name in enumerate(NAMES)}

Shape = tuple[int, int, int]  # how many levels change, findings come, findings go


def write_questions_at_scale(folder: Path, *, seed: int = 0, rows: int = 700_703, difference: int = 164_324) -> Tables:
    """Write the tables (questions, all_diseases.json, metadata, split; no images) at the size of MIMIC, for benchmarks.

    With the default numbers there are about 65,000 patients with 229,000 studies, each study after a patient's first
    asked about against the one before; clauses have nearly the published shares (rows about one area drop a few).
    """
    rng = np.random.default_rng(seed)
    patients = max(1, round(difference * 0.396))
    share = rng.gamma(0.45, size=patients)
    sizes = 1 + rng.multinomial(difference, share / share.sum())
    return _write_tables(
        folder, seed, sizes.tolist(), _shapes(random.Random(f"scale {seed}"), difference), rows - difference
    )


def write_published_statistics(folder: Path, *, seed: int = 0) -> Tables:
    """Write tables whose difference rows have exactly the published counts, a median of 2 and at most 10 findings.

    Every row is a pair of its own patient, well formed, in the order of time, agrees with all_diseases.json, is about
    the whole image, has levels that are on the scale and can be told apart, and a PA image on both sides.
    """
    shapes = _shapes(random.Random(f"published {seed}"), PUBLISHED["difference"])
    return _write_tables(folder, seed, [2] * len(shapes), shapes, 0, plain=True)


def _shapes(rng: random.Random, rows: int) -> list[Shape]:
    """What changes in each of so many rows, in the published shares."""
    counts = {name: round(rows * number / PUBLISHED["difference"]) for name, number in PUBLISHED.items()}
    two_levels = counts["level"] // 20
    level_rows = counts["level"] - two_levels
    alone = level_rows * 7 // 10
    changed = rows - counts["unchanged"] - alone
    both = counts["additional"] + counts["missing"] - changed
    sizes = (1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4, 5)
    shapes = [(0, rng.choice(sizes), rng.choice(sizes)) for _ in range(both)]
    shapes += [(0, rng.choice(sizes), 0) for _ in range(counts["additional"] - both)]
    shapes += [(0, 0, rng.choice(sizes)) for _ in range(counts["missing"] - both)]
    rng.shuffle(shapes)
    shapes = [(1, min(a, 4), min(m, 4)) if i < level_rows - alone else (0, a, m) for i, (_, a, m) in enumerate(shapes)]
    shapes += [(2 if i < two_levels else 1, 0, 0) for i in range(alone)] + [(0, 0, 0)] * counts["unchanged"]
    rng.shuffle(shapes)
    return shapes


class _Findings:
    """Draws studies that differ as a shape says, from a fixed stock of findings with their JSON text."""

    def __init__(self, rng: random.Random, plain: bool):
        self.rng, self.plain = rng, plain
        self.stock = {name: [self._one(name, i) for i in range(24)] for name in NAMES}
        self.levelled = {name: [one for one in stock if one["level"]] for name, stock in self.stock.items()}
        self.text = {
            id(one): textwrap.indent(json.dumps({one["entity_name"]: one}, indent=4)[2:-2], " " * 8)
            for stock in self.stock.values()
            for one in stock
        }
        self.weights = list(itertools.accumulate(COMMON.values()))

    def _one(self, name: str, number: int) -> dict:
        """A finding; in a plain table one with a level has no place, so that no row is about an area."""
        if not self.plain:
            return random_entity(self.rng, name)
        if number < len(_SCALE_LEVELS):
            return entity(name, _SCALE_LEVELS[number])
        return random_entity(self.rng, name) | {"level": None}

    def names(self, n: int, without: Collection[str] = ()) -> list[str]:
        """`n` different names, common ones more often."""
        drawn: dict[str, None] = {}
        while len(drawn) < n:
            name = self.rng.choices(NAMES, cum_weights=self.weights)[0]
            if name not in without:
                drawn[name] = None
        return list(drawn)

    def first(self, shape: Shape) -> Entity:
        """A study to which a shape of change can be applied."""
        levels, _, missing = shape
        names = self.names(levels + missing + self.rng.choice((0, 0, 1, 1, 2)))
        return self._sorted(
            {n: self.rng.choice((self.levelled if i < levels else self.stock)[n]) for i, n in enumerate(names)}
        )

    def after(self, reference: Entity, shape: Shape) -> Entity | None:
        """The next study, or None where the reference does not have what the shape takes."""
        rng, (levels, added, missing) = self.rng, shape
        names = {stored.strip(): one for stored, one in reference.items()}
        graded = [name for name, one in names.items() if one["level"]]
        if len(graded) < levels or len(names) < levels + missing or len(names) - missing + added > 14:
            return None
        main = dict(names)
        for name in rng.sample(graded, levels):
            main[name] = rng.choice([one for one in self.levelled[name] if one["level"] != names[name]["level"]])
        for name in rng.sample([name for name in names if main[name] is names[name]], missing):
            del main[name]
        return self._sorted(main | {name: rng.choice(self.stock[name]) for name in self.names(added, names)})

    def _sorted(self, findings: Entity) -> Entity:
        return {STORED.get(name, name): findings[name] for name in sorted(findings, key=_PLACE.__getitem__)}

    def record(self, subject: int, study: int, findings: Entity, denied: Sequence[str]) -> str:
        """One study as json.dump(..., indent=4) writes it inside a list."""
        entities = ",\n".join(self.text[id(one)] for one in findings.values())
        denials = ",\n".join(f'            "{name}"' for name in denied)
        return (
            f'    {{\n        "study_id": "{study}",\n        "subject_id": "{subject}",\n'
            f'        "entity": {{{entities and chr(10) + entities + chr(10) + " " * 8}}},\n'
            f'        "no_entity": [{denials and chr(10) + denials + chr(10) + " " * 8}]\n    }}'
        )


def _next(source: _Findings, reference: Entity, shapes: list[Shape]) -> Entity:
    """The next study, by the last shape that the reference allows, which is taken off the list."""
    for at in range(len(shapes) - 1, max(-1, len(shapes) - 60), -1):
        main = source.after(reference, shapes[at])
        if main is not None:
            del shapes[at]
            return main
    return source.after(reference, (0, 1, 0)) or reference


_SHOTS = (
    (("PA", "LATERAL"), 38),
    (("AP",), 42),
    (("PA",), 7),
    (("PA", "LL"), 6),
    (("AP", "LATERAL"), 3),
    (("",), 3),
    (("LL",), 1),
)
_DATES = [int(f"{datetime.date(2105, 1, 1) + datetime.timedelta(days):%Y%m%d}") for days in range(36_000)]


def _write_tables(
    folder: Path, seed: int, sizes: list[int], shapes: list[Shape], others: int, plain: bool = False
) -> Tables:
    """Patients with so many studies each, and a difference row for every study but a patient's first."""
    diff_vqa, cxr_jpg = folder / "DIFF_VQA", folder / "MIMIC_CXR_JPG"
    diff_vqa.mkdir(parents=True)
    cxr_jpg.mkdir(parents=True)
    rng = random.Random(f"tables {seed}")
    source = _Findings(rng, plain)
    pairs, shapes = len(shapes), list(shapes)
    kinds = rng.choices(list(PUBLISHED_KINDS), list(PUBLISHED_KINDS.values()), k=others)
    counts = dict.fromkeys(PUBLISHED, 0) | {"patients": len(sizes), "studies": sum(sizes)}
    rows: list[tuple] = []
    studies: list[tuple[int, int, int]] = []
    with open(diff_vqa / "all_diseases.json", "w", buffering=1 << 20) as file:
        for patient, size in enumerate(sizes):
            subject = 10_000_000 + 9_900_000 // len(sizes) * patient
            day, reference, ref_id = rng.randrange(20_000), {}, 0
            for number in range(size):
                study_id, denied = _study_id(len(studies)), []
                if number == 0:
                    main = source.first(shapes[-1] if size > 1 and shapes else (0, 0, rng.randrange(4)))
                else:
                    main = _next(source, reference, shapes)
                    denied = [name for name in reference if name not in main and rng.random() < 0.4]
                    found = difference(main, reference, rng.sample(list(main), len(main)))
                    done = counts["difference"]
                    for kind in kinds[others * done // pairs : others * (done + 1) // pairs]:
                        asked = _asked(kind, main)
                        rows.append(
                            (study_id, subject, ref_id, kind, *asked, rng.choice(("train", "train", "val", "test")))
                        )
                    split = (
                        ("val", "test")[patient % 2] if plain else rng.choices(("train", "val", "test"), (8, 1, 1))[0]
                    )
                    text = answer(found.levels, found.added, found.missing)
                    rows.append((study_id, subject, ref_id, "difference", found.question, text, split))
                    tally = {"difference": 1, "unchanged": not any(found[1:4]), "level": len(found.levels)}
                    tally |= {"additional": bool(found.added), "missing": bool(found.missing)}
                    for name, many in tally.items():
                        counts[name] += many
                denied += [
                    name for name in ("pneumothorax", "pleural effusion") if name not in main and name not in denied
                ]
                file.write(",\n" if studies else "[\n")
                file.write(source.record(subject, study_id, main, denied))
                studies.append((subject, study_id, _DATES[day]))
                day, reference, ref_id = day + rng.randrange(1, 200), main, study_id
        file.write("\n]")
    table = pl.DataFrame(rows, schema=list(QUESTION_COLUMNS), orient="row")
    table.write_csv(diff_vqa / "mimic_pair_questions.csv")
    _write_images_tables(cxr_jpg, seed, studies, plain)
    return Tables(diff_vqa, cxr_jpg, counts)


def _asked(kind: str, findings: Entity) -> tuple[str, str]:
    """A question of another kind about a study, and its answer."""
    name = next(iter(findings), "edema")
    return {
        "abnormality": ("what abnormalities are seen in this image?", ", ".join(findings) or "no"),
        "presence": (f"is there evidence of {name} in this image?", "yes" if findings else "no"),
        "view": ("which view is this image taken?", "PA view"),
        "location": (f"where is the {name}?", "left lung area"),
        "level": (f"what level is the {name}?", "moderate to severe"),
        "type": (f"what type is the {name}?", "layering"),
    }[kind]


def _write_images_tables(cxr_jpg: Path, seed: int, studies: list[tuple[int, int, int]], plain: bool) -> None:
    """Metadata and splits of one to two images a study; a plain table has a PA image in each."""
    rng = np.random.default_rng([seed, 1])
    choices = [(shots, weight) for shots, weight in _SHOTS if not plain or "PA" in shots]
    weights = np.array([weight for _, weight in choices], float)
    drawn = rng.choice(len(choices), size=len(studies), p=weights / weights.sum())
    views = [choices[i][0] for i in drawn]
    of = np.repeat(np.arange(len(studies)), [len(shots) for shots in views])
    ids = np.array(studies, dtype=np.int64).reshape(-1, 3)[of]
    digits = rng.bytes(20 * len(of)).hex()
    hours, minutes, seconds = (rng.integers(0, top, size=len(studies))[of] for top in (24, 60, 60))
    split = rng.choice(["train", "validate", "test"], size=int(ids[:, 0].max()) // 150 + 1, p=[0.96, 0.01, 0.03])
    frame = pl.DataFrame(
        {
            "dicom_id": [
                "-".join(digits[i + k : i + k + 8] for k in range(0, 40, 8)) for i in range(0, len(digits), 40)
            ],
            "subject_id": ids[:, 0],
            "study_id": ids[:, 1],
            "ViewPosition": [view for shots in views for view in shots],
            "Rows": rng.choice([2544, 3056, 2022], size=len(of)),
            "Columns": rng.choice([3056, 2544, 1736], size=len(of)),
            "StudyDate": ids[:, 2],
            "StudyTime": 10_000.0 * hours
            + 100 * minutes
            + seconds
            + rng.choice([0, 0.5, 0.531, 0.968], size=len(studies))[of],
            "split": split[ids[:, 0] // 150],
        }
    )
    view = pl.col("ViewPosition")
    frame = frame.with_columns(
        view.replace_strict(_PROCEDURE).alias("PerformedProcedureStepDescription"),
        view.replace_strict(_PROCEDURE).alias("ProcedureCodeSequence_CodeMeaning"),
        view.replace_strict(_VIEW_MEANING).alias("ViewCodeSequence_CodeMeaning"),
        view.replace_strict(_ORIENTATION).alias("PatientOrientationCodeSequence_CodeMeaning"),
    )
    for name, columns in (("metadata", METADATA_COLUMNS), ("split", ("dicom_id", "study_id", "subject_id", "split"))):
        text = frame.select(columns).write_csv(quote_style="necessary")
        _write_table(cxr_jpg / f"mimic-cxr-2.0.0-{name}.csv.gz", text.encode())
