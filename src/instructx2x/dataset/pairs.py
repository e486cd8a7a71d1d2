"""From difference rows to pairs with instructions: MIMIC-EDIT-INSTRUCTION (method sections 5.2 to 5.5).

Of every row either comes one pair (or more, where a long instruction is divided), or one reason why not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from instructx2x.dataset.answers import Answer, normalised, parse_answer, render_answer
from instructx2x.dataset.changes import Version, edits_of, fitting
from instructx2x.dataset.mimic import Metadata, StudyInfo
from instructx2x.dataset.records import Record, difference
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.dataset.table import edit_rows
from instructx2x.errors import InputError
from instructx2x.instructions import FINDINGS, Edit, render
from instructx2x.instructions.tokens import MAX_TOKENS, clip_tokens

AREA_QUESTION = "what has changed in the "
"""How a question begins whose answer names one change of level and leaves out the pair's other changes. It is not
always the sign of one: version 1.0.1 wrote some answers anew and left their questions as they were."""

VIEWS = ("PA", "AP")
"""Frontal views: no other can be edited."""

Choose = Callable[[str, str, tuple[str, ...]], str]


@dataclass(frozen=True)
class Rules:
    """What a builder is asked for.

    Attributes:
        version: v1, or v2 with side, zone and severity.
        views: of VIEWS, in order of preference; both images of a pair are of one view.
        strict: keep removals only where the later report denies the finding.
        unchanged: keep pairs in which nothing has changed, with an empty instruction.
        long: what happens to instructions over 77 tokens: "drop", "split" or "keep".

    Raises:
        InputError: no view, or one that is not frontal.
    """

    version: Version = "v1"
    views: tuple[str, ...] = ("PA",)
    strict: bool = False
    unchanged: bool = False
    long: Literal["drop", "split", "keep"] = "drop"

    def __post_init__(self) -> None:
        if not self.views or not set(self.views) <= set(VIEWS):
            raise InputError(f"views {', '.join(self.views) or 'none'}: choose {' or '.join(VIEWS)}, or both")


class Row(NamedTuple):
    """A difference row, in the order of `mimic.read_questions`."""

    row: int
    study_id: str
    subject_id: str
    ref_id: str
    question: str
    answer: str


@dataclass
class Pairs:
    """What became of the rows.

    Attributes:
        accepted: rows of `table.SCHEMA`, images not yet decided.
        rejected: rows of `table.REJECTS`.
        clauses: what the answers hold, over all rows that can be parsed: unchanged, additional, missing, level.
        recovered: answers that are not well-formed and could be read all the same.
        rebuilt: rows that tell one change of level only, and whose other changes came from the records.
        left_out: parts of answers left out of rows that stay, by reason.
        too_long: instructions over 77 tokens.
    """

    accepted: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    clauses: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    rebuilt: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    too_long: int = 0


def make_pairs(
    rows: Iterable[Row],
    metadata: Metadata,
    records: Mapping[str, Record],
    splits: Mapping[str, str],
    rules: Rules,
    *,
    choose: Choose = lambda subject, study, dicoms: dicoms[0],
    advance: Callable[[], object] = lambda: None,
) -> Pairs:
    """Make the pairs of difference rows.

    Args:
        rows: all difference rows.
        metadata, records: of their studies.
        splits: patient to split.
        rules: what is asked for.
        choose: (subject, study, its images in one view, in order) -> the one that stands for it.
        advance: called once a row, for progress.
    """
    pairs = Pairs()
    usable: dict[tuple[str, str], list[tuple[Row, Answer]]] = defaultdict(list)
    parse = lru_cache(maxsize=None)(_parsed)
    for row in rows:
        advance()
        answer, recovered, problem = parse(row.answer)
        if answer is not None:
            _count(pairs, answer, recovered)
        try:
            _check_studies(row, metadata.studies, splits, rules)
            if answer is None:
                raise Rejected(*problem)
            usable[row.study_id, row.ref_id].append((row, answer))
        except Rejected as rejected:
            _reject(pairs, row, rejected)
    for same_pair in usable.values():
        main, reference = (records.get(study) for study in (same_pair[0][0].study_id, same_pair[0][0].ref_id))
        for row, answer in _one_of(pairs, same_pair, main, reference):
            try:
                whole = _whole(row, answer, main, reference)
                pairs.rebuilt += whole is not answer
                _accept(pairs, row, whole, (main, reference), metadata.studies, splits, rules, choose)
            except Rejected as rejected:
                _reject(pairs, row, rejected)
    pairs.rejected.sort(key=lambda reject: reject["row"])
    return pairs


def _parsed(text: str) -> tuple[Answer | None, bool, tuple[Reason, str] | None]:
    """The answer and whether it had to be recovered; or why it cannot be read. Many rows share one text."""
    try:
        answer = parse_answer(text)
    except Rejected as rejected:
        return None, False, (rejected.reason, rejected.detail)
    return answer, render_answer(answer) != normalised(text), None


def _count(pairs: Pairs, answer: Answer, recovered: bool) -> None:
    pairs.recovered += recovered
    pairs.clauses["unchanged"] += answer.unchanged
    pairs.clauses["additional"] += bool(answer.additional)
    pairs.clauses["missing"] += bool(answer.missing)
    pairs.clauses["level"] += len(answer.levels)


def _check_studies(row: Row, studies: Mapping[str, StudyInfo], splits: Mapping[str, str], rules: Rules) -> None:
    """Both studies known, of one patient, in order, with an image each in one view, and in a split."""
    main, reference = studies.get(row.study_id), studies.get(row.ref_id)
    if main is None or reference is None:
        raise Rejected(Reason.UNKNOWN_STUDY, row.study_id if main is None else row.ref_id)
    if len({main.subject_id, reference.subject_id, row.subject_id or main.subject_id}) > 1:
        raise Rejected(Reason.OTHER_PATIENT)
    timed = main.timed and reference.timed
    before, after = (study.date if timed else study.date.date() for study in (reference, main))
    if before >= after:
        raise Rejected(Reason.SAME_TIME if before == after else Reason.REFERENCE_LATER)
    if _view(main, reference, rules.views) is None:
        raise Rejected(Reason.NO_IMAGE_IN_VIEW)
    if main.subject_id not in splits:
        raise Rejected(Reason.NO_SPLIT)


def _view(main: StudyInfo, reference: StudyInfo, views: Sequence[str]) -> str | None:
    """The first view in which both studies have an image: two views of one chest differ by more than findings."""
    return next((view for view in views if view in main.images and view in reference.images), None)


def _one_of(
    pairs: Pairs, same_pair: list[tuple[Row, Answer]], main: Record | None, reference: Record | None
) -> list[tuple[Row, Answer]]:
    """The one row that stands for a pair: whole answers before those of one level alone; the others are rejected."""
    whole = [each for each in same_pair if not _one_level(each[1])]
    first, *others = whole or same_pair
    if whole and not all(first[1].says_the_same_as(answer) for _, answer in others):
        told = difference(main, reference) if main and reference else None
        confirmed = [each for each in whole if told and told.says_the_same_as(each[1])]
        if not confirmed:
            for row, _ in same_pair:
                _reject(pairs, row, Rejected(Reason.CONFLICTING_ROWS))
            return []
        first = confirmed[0]
    for each in same_pair:
        if each is not first:
            _reject(pairs, each[0], Rejected(Reason.DUPLICATE_ROW))
    return [first]


def _one_level(answer: Answer) -> bool:
    """Whether it is the answer to a question about one area, which leaves out all else, or could be one."""
    return len(answer.levels) == 1 and not answer.additional and not answer.missing


def _whole(row: Row, answer: Answer, main: Record | None, reference: Record | None) -> Answer:
    """The answer; or the whole answer of the pair, from the records, where the row tells one change of level only."""
    if not _one_level(answer):
        return answer
    asked = normalised(row.question).startswith(AREA_QUESTION)
    if main is None or reference is None:
        if asked:
            raise Rejected(Reason.AREA_ROW_WITHOUT_RECORD)
        return answer
    whole = difference(main, reference)
    (clause,) = answer.levels
    if not any(told.finding == clause.finding and told.readings[0] in clause.readings for told in whole.levels):
        if asked:
            raise Rejected(Reason.AREA_ROW_DISAGREES)
        return answer
    for name in (*whole.additional, *whole.missing, *(told.finding for told in whole.levels)):
        if name not in FINDINGS:
            raise Rejected(Reason.UNKNOWN_FINDING, name)
    return answer if _one_level(whole) else whole


def _accept(
    pairs: Pairs,
    row: Row,
    answer: Answer,
    records: tuple[Record | None, Record | None],
    studies: Mapping[str, StudyInfo],
    splits: Mapping[str, str],
    rules: Rules,
    choose: Choose,
) -> None:
    """Add the pair with its instruction, or one with each part of it."""
    main, reference = studies[row.study_id], studies[row.ref_id]
    view = _view(main, reference, rules.views)
    findings = [_findings(record) for record in records]
    parts = _parts(pairs, answer, records, rules)
    for number, (edits, instruction, tokens) in enumerate(parts, start=1):
        pairs.accepted.append(
            {
                "past_dicom_id": choose(reference.subject_id, row.ref_id, reference.images[view]),
                "current_dicom_id": choose(main.subject_id, row.study_id, main.images[view]),
                "subject_id": main.subject_id,
                "past_study_id": row.ref_id,
                "current_study_id": row.study_id,
                "instruction": instruction,
                "edits": edit_rows(edits),
                "split": splits[main.subject_id],
                "view": view,
                "days": round((main.date - reference.date).total_seconds() / 86400, 6)
                if main.timed and reference.timed
                else float((main.date.date() - reference.date.date()).days),
                "tokens": tokens,
                "part": number,
                "parts": len(parts),
                "past_findings": findings[1],
                "current_findings": findings[0],
                "row": row.row,
                "text": row.answer,
            }
        )


def _parts(
    pairs: Pairs, answer: Answer, records: tuple[Record | None, Record | None], rules: Rules
) -> list[tuple[tuple[Edit, ...], str, int]]:
    """The edits, text and tokens of the pair's instruction; of several where a long one is divided."""
    if answer.unchanged:
        if not rules.unchanged:
            raise Rejected(Reason.UNCHANGED)
        return [((), "", clip_tokens(""))]
    left_out: Counter[str] = Counter()
    edits = edits_of(answer, *records, version=rules.version, strict=rules.strict, left_out=left_out)
    text = render(edits)
    tokens = clip_tokens(text)
    if tokens > MAX_TOKENS:
        pairs.too_long += 1
        if rules.long == "drop":
            raise Rejected(Reason.TOO_LONG, f"{tokens} tokens")
    pairs.left_out.update(left_out)
    if tokens <= MAX_TOKENS or rules.long == "keep":
        return [(edits, text, tokens)]
    return [(part, render(part), clip_tokens(render(part))) for part in fitting(edits)]


def _findings(record: Record | None) -> list[str] | None:
    """The findings that a report names, of those in the vocabulary."""
    return None if record is None else [name for name in record.findings if name in FINDINGS]


def _reject(pairs: Pairs, row: Row, rejected: Rejected) -> None:
    pairs.rejected.append(
        {
            "row": row.row,
            "past_study_id": row.ref_id,
            "current_study_id": row.study_id,
            "subject_id": row.subject_id,
            "text": row.answer,
            "reason": rejected.reason.value,
            "detail": rejected.detail,
        }
    )
