"""Difference answers of MIMIC-Diff-VQA: text to what it says, and back (grammar: method section 5.2).

Lists and levels are read with the vocabulary, not by their commas: the published answers hold doubled spaces,
lists such as "of and pneumonia lung opacity, and pneumonia", and levels that themselves contain "to".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.instructions import FINDINGS

Words = tuple[str, ...]

LEVEL_WORDS = (
    "moderate to severe",
    "moderate to large",
    "mild to moderate",
    *"moderately moderate acute mildly mild small severe minimal subtle massive".split(),
    *"minimally increasing decreasing minor".split(),
)
"""The level words of the published answers (method section 5.4), longest first."""

UNCHANGED = "nothing has changed."
_LEVEL, _HAS_CHANGED = "the level of ", " has changed from "
_ADDITIONAL = ("the main image has an additional finding of", "the main image has additional findings of")
_MISSING = ("the main image is missing the finding of", "the main image is missing the findings of")
_THAN = "than the reference image"


@dataclass(frozen=True)
class LevelClause:
    """One sentence about a level.

    Attributes:
        finding: its canonical name.
        readings: every way to divide the words into old and new level words; several when a "to" could be part
            of a level. Never empty.
    """

    finding: str
    readings: tuple[tuple[Words, Words], ...]


@dataclass(frozen=True)
class Answer:
    """What a difference answer says, in its order. Empty: nothing has changed.

    Attributes:
        levels: findings whose level changed.
        additional: findings of the main image that the reference image lacks, canonical names.
        missing: findings of the reference image that the main image lacks, canonical names.
    """

    levels: tuple[LevelClause, ...] = ()
    additional: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        return not (self.levels or self.additional or self.missing)

    def says_the_same_as(self, other: Answer) -> bool:
        """Equal but for the order of the findings."""
        mine, its = ((set(a.levels), set(a.additional), set(a.missing)) for a in (self, other))
        return mine == its


def normalised(text: str) -> str:
    """Lower case, single spaces, none before a comma or full stop."""
    return " ".join(text.lower().split()).replace(" ,", ",").replace(" .", ".")


def parse_answer(text: str) -> Answer:
    """Read a difference answer.

    Lists that are malformed are recovered: their names are found in the vocabulary, longest first, and each
    counts once. `render_answer` gives a well-formed answer back, white space apart.

    Args:
        text: the answer as published.

    Raises:
        Rejected: MALFORMED_ANSWER, UNKNOWN_FINDING, UNKNOWN_LEVEL or CONTRADICTION, with the words in question.
    """
    text = normalised(text)
    if text == UNCHANGED:
        return Answer()
    *sentences, rest = (sentence.strip() for sentence in text.split("."))
    if rest:
        # Only a list says where it ends; a level cut short ("moderate" of "moderate to severe") would be another.
        if not rest.endswith(_THAN):
            raise Rejected(Reason.MALFORMED_ANSWER, rest)
        sentences.append(rest)
    levels: list[LevelClause] = []
    additional: list[str] = []
    missing: list[str] = []
    for sentence in sentences:
        if sentence.startswith(_LEVEL):
            levels.append(_level_clause(sentence))
        elif sentence.startswith(_ADDITIONAL):
            additional += _listed(sentence, _ADDITIONAL)
        elif sentence.startswith(_MISSING):
            missing += _listed(sentence, _MISSING)
        else:
            raise Rejected(Reason.MALFORMED_ANSWER, sentence or "empty sentence")
    answer = Answer(*(tuple(dict.fromkeys(part)) for part in (levels, additional, missing)))
    if answer.unchanged:
        raise Rejected(Reason.MALFORMED_ANSWER, "empty answer")
    named = [*(clause.finding for clause in answer.levels), *answer.additional, *answer.missing]
    for name in named:
        if named.count(name) > 1:
            raise Rejected(Reason.CONTRADICTION, name)
    return answer


def render_answer(answer: Answer) -> str:
    """Write an answer in the published form, single spaced: levels, additional, missing."""
    sentences = []
    for clause in answer.levels:
        old, new = (" ".join(words) for words in clause.readings[0])
        sentences.append(f"{_LEVEL}{clause.finding}{_HAS_CHANGED}{old} to {new}.")
    for (one, several), names in ((_ADDITIONAL, answer.additional), (_MISSING, answer.missing)):
        if len(names) == 1:
            sentences.append(f"{one} {names[0]} {_THAN}.")
        elif names:
            sentences.append(f"{several} {', '.join(names[:-1])}, and {names[-1]} {_THAN}.")
    return " ".join(sentences) or UNCHANGED


def level_readings(text: str) -> tuple[tuple[Words, Words], ...]:
    """Every way to read "OLD to NEW", where levels may hold a "to" of their own."""
    parts = text.split(" to ")
    halves = [(" to ".join(parts[:cut]), " to ".join(parts[cut:])) for cut in range(1, len(parts))]
    readings = [(_level_words(old), _level_words(new)) for old, new in halves]
    return tuple((old, new) for old, new in readings if old and new)


def _level_clause(sentence: str) -> LevelClause:
    name, changed, levels = sentence.removeprefix(_LEVEL).partition(_HAS_CHANGED)
    if not changed:
        raise Rejected(Reason.MALFORMED_ANSWER, sentence)
    findings = _findings(name.split())
    if len(findings) != 1:
        raise Rejected(Reason.MALFORMED_ANSWER, sentence)
    readings = level_readings(levels)
    if not readings:
        raise Rejected(Reason.UNKNOWN_LEVEL, levels)
    return LevelClause(findings[0], readings)


def _level_words(text: str) -> Words:
    """The level words that make up the text, or none when something is left over. No two divisions exist, because
    no level word ends where a longer one goes on with another level word."""
    words: list[str] = []
    text += " "
    while text.strip():
        word = next((word for word in LEVEL_WORDS if text.startswith(word + " ")), None)
        if word is None:
            return ()
        words.append(word)
        text = text[len(word) + 1 :]
    return tuple(words)


def _listed(sentence: str, beginnings: Sequence[str]) -> list[str]:
    """The findings between the beginning of a list sentence and its end."""
    beginning = max((start for start in beginnings if sentence.startswith(start)), key=len)
    span, than, end = sentence.removeprefix(beginning).partition(_THAN)
    if not than or end.strip():
        raise Rejected(Reason.MALFORMED_ANSWER, sentence)
    return _findings(word for word in span.replace(",", " ").split() if word != "and")


def _phrases() -> Mapping[Words, str]:
    """Every plain phrase for a finding, as words, to its canonical name."""
    phrases: dict[Words, str] = {}
    for name, finding in FINDINGS.items():
        phrases |= {tuple(phrase.split()): name for phrase in finding.synonyms if "*" not in phrase}
    return phrases | {tuple(name.split()): name for name in FINDINGS}


_PHRASES = _phrases()
_LONGEST = max(map(len, _PHRASES))


def _findings(words: Iterable[str]) -> list[str]:
    """The findings that the words name one after the other, longest phrase first."""
    words = tuple(words)
    names: list[str] = []
    position = 0
    while position < len(words):
        for length in range(min(_LONGEST, len(words) - position), 0, -1):
            name = _PHRASES.get(words[position : position + length])
            if name is not None:
                names.append(name)
                position += length
                break
        else:
            raise Rejected(Reason.UNKNOWN_FINDING, " ".join(words[position:]))
    if not names:
        raise Rejected(Reason.MALFORMED_ANSWER, "a list without a finding")
    return names


def finding_name(phrase: str) -> str | None:
    """The canonical name of what the published files call a finding; None when it is not in the vocabulary."""
    return _PHRASES.get(tuple(phrase.lower().split()))
