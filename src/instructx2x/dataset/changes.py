"""From what an answer says to the edits of an instruction (method section 5.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import Literal

from instructx2x.dataset.answers import Answer, LevelClause
from instructx2x.dataset.records import Instance, Record, places, severity
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.errors import InstructionError
from instructx2x.instructions import FINDINGS, Edit, Operation, consistent, render
from instructx2x.instructions.tokens import MAX_TOKENS, clip_tokens

Version = Literal["v1", "v2"]


def edits_of(
    answer: Answer,
    main: Record | None,
    reference: Record | None,
    *,
    version: Version = "v1",
    strict: bool = False,
    left_out: Counter[str] | None = None,
) -> tuple[Edit, ...]:
    """The edits that turn the reference image into the main one, in the order of the answer.

    v1 names operation, finding and, for a change, its levels. v2 adds side, zone and severity from the records:
    those of the main study for what was added or changed, of the reference study for what was removed.

    Args:
        answer: what changed; not empty.
        main, reference: the studies' records, where there are any.
        version: "v1" or "v2".
        strict: keep a removal only if the main study's report denies the finding.
        left_out: counts the parts of answers that are left out while the row stays, by reason.

    Raises:
        Rejected: AMBIGUOUS_LEVEL or LEVEL_OFF_SCALE; NO_SEVERITY or UNCONFIRMED_REMOVAL when nothing is left.
    """
    edits: list[Edit] = []
    counts: Counter[str] = Counter()
    for clause in answer.levels:
        old, new = map(severity, _reading(clause, main, reference))
        if old is None or new is None or old == new or not FINDINGS[clause.finding].has_level:
            counts[Reason.NO_SEVERITY] += 1
            continue
        mentions = _mentions(main, clause.finding)[:1] if version == "v2" else ()
        edits += _placed(Operation.CHANGE, clause.finding, mentions, new, old)
    for name in answer.additional:
        edits += _described(Operation.ADD, name, main, version)
    for name in answer.missing:
        if strict and not (main and name in main.absent):
            counts[Reason.UNCONFIRMED_REMOVAL] += 1
        else:
            edits += _described(Operation.REMOVE, name, reference, version)
    if not edits:
        unconfirmed = Reason.UNCONFIRMED_REMOVAL in counts
        raise Rejected(Reason.UNCONFIRMED_REMOVAL if unconfirmed else Reason.NO_SEVERITY)
    if left_out is not None:
        left_out.update(counts)
    return tuple(edits)


def fitting(edits: Iterable[Edit]) -> list[tuple[Edit, ...]]:
    """Divide edits, in their order, into the fewest groups whose instructions fit CLIP's 77 tokens."""
    groups: list[tuple[Edit, ...]] = [()]
    for edit in edits:
        longer = (*groups[-1], edit)
        if groups[-1] and clip_tokens(render(longer)) > MAX_TOKENS:
            groups.append((edit,))
        else:
            groups[-1] = longer
    return groups


def _reading(clause: LevelClause, main: Record | None, reference: Record | None) -> tuple[tuple[str, ...], ...]:
    """The one way to read the clause's levels; with several, the one that the records hold."""
    if len(clause.readings) == 1:
        return clause.readings[0]
    told = [
        (old, new)
        for old, new in clause.readings
        if any(mention.levels == old for mention in _mentions(reference, clause.finding))
        and any(mention.levels == new for mention in _mentions(main, clause.finding))
    ]
    if len(told) != 1:
        old, new = (" ".join(words) for words in clause.readings[0])
        raise Rejected(Reason.AMBIGUOUS_LEVEL, f"{clause.finding}: {old} to {new}")
    return told[0]


def _mentions(record: Record | None, finding: str) -> tuple[Instance, ...]:
    return record.findings.get(finding, ()) if record else ()


def _described(operation: Operation, finding: str, record: Record | None, version: Version) -> list[Edit]:
    """The edit with the severity and places of the finding's mentions, one for each place; without them in v1."""
    mentions = _mentions(record, finding) if version == "v2" else ()
    if not mentions:
        return [_edit(operation, finding)]
    first, *others = (_placed(operation, finding, [mention], _level(mention, finding)) for mention in mentions)
    try:
        return list(consistent(chain(first, *others)))
    except InstructionError:  # two severities of one place: the report's first word counts
        return first


def _placed(
    operation: Operation,
    finding: str,
    mentions: Iterable[Instance],
    level: str | None = None,
    from_level: str | None = None,
) -> list[Edit]:
    """The edit at each place of the mentions; without a place when they name none."""
    where = [place for mention in mentions for place in places(mention, finding)] or [(None, None)]
    return [_edit(operation, finding, side, zone, level, from_level) for side, zone in where]


_edit = lru_cache(maxsize=None)(Edit)  # the language has few edits, a dataset many


def _level(mention: Instance, finding: str) -> str | None:
    """A severity to put in front of the finding; none when the words make none, because none was asked for."""
    try:
        return severity(mention.levels) if FINDINGS[finding].has_level else None
    except Rejected:
        return None
