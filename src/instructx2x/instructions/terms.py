"""From text to terms: the words of an instruction, matched to the vocabulary by the longest phrase."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from itertools import takewhile

from ..errors import InstructionError
from . import vocabulary as words
from .frames import cleaned, everyday
from .refusals import ENGLISH, FOREIGN, REFUSED, REMOVES, Notes, Refusal, quoted, refused

MAX_CHARACTERS = 2000


class Kind(Enum):
    """What a term is in the grammar."""

    VERB = "verb"
    WISH = "wish"
    MORE = "more"
    FINDING = "finding"
    LEVEL = "level"
    SIDE = "side"
    ZONE = "zone"
    AND = "and"
    COMMA = "comma"
    PREPOSITION = "preposition"
    FROM = "from"
    TO = "to"
    STOP = "stop"
    PRONOUN = "pronoun"
    FILLER = "filler"
    REFUSED = "refused"


MODIFIERS = frozenset({Kind.LEVEL, Kind.SIDE, Kind.ZONE})
SEPARATORS = frozenset({Kind.AND, Kind.COMMA})


@dataclass(frozen=True)
class Term:
    """A matched phrase.

    Attributes:
        kind: its part in the grammar.
        value: its canonical word; for a verb, the operation and direction; for a comparison, the direction.
        text: the phrase as typed, in lower case, for error messages.
        hyphenated: whether a hyphen ties it to the word before it.
    """

    kind: Kind
    value: object
    text: str
    hyphenated: bool = False


def terms(text: str, notes: Notes) -> list[Term]:
    """Read every word of an instruction; fillers are gone from the result.

    Words that are refused are noted and mended as refusals.py says.

    Raises:
        InstructionError: for text that is too long, and for the first word or sign that cannot be mended.
    """
    if not isinstance(text, str):
        raise InstructionError(f"An instruction is text, not {type(text).__name__}.")
    if len(text) > MAX_CHARACTERS:
        raise InstructionError(
            f"The instruction has {len(text):,} characters, more than {MAX_CHARACTERS:,}: shorten it."
        )
    text = cleaned(text)
    if len(text) > 2 * MAX_CHARACTERS:
        raise InstructionError("The instruction has signs that stand for many letters: write the letters.")
    return _Reader(everyday(text, notes), notes).read()


_TOKEN = re.compile(
    r"(?P<hyphen>(?<=[^\W_])-)?(?P<word>[^\W_]+(?:'[^\W_]+)*)"
    r"|(?P<mark>[.!?]+|[,;/&+-])"
    r"|(?P<skip>[\s\"'():\[\]=]+)"
)
_MARK_WORDS = {";": ",", "/": ",", "-": ",", "!": ".", "?": "."}


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Words and marks, each with whether a hyphen ties it to the word before it."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            sign = text[position]
            if _foreign(text):
                raise refused(f"{quoted(sign)} is not understood: {ENGLISH}")
            raise InstructionError(f"The sign {sign!r} is not understood: leave it out.")
        if match["word"]:
            yield match["word"], bool(match["hyphen"])
        elif match["mark"]:
            mark = match["mark"][0]
            yield _MARK_WORDS.get(mark, mark), False
        position = match.end()


def _foreign(text: str) -> bool:
    """Whether the text is in another language: by its letters, or by frequent words."""
    return any(ord(c) > 127 and c.isalpha() for c in text) or not FOREIGN.isdisjoint(text.split())


def _without_pronouns(found: list[Term]) -> list[Term]:
    """ "one" stands for the finding named last ("a large one"), or for an article ("one nodule")."""
    named: Term | None = None
    result: list[Term] = []
    for index, term in enumerate(found):
        if term.kind is Kind.FINDING:
            named = term
        if term.kind is Kind.PRONOUN:
            after = found[index + 1].kind if index + 1 < len(found) else None
            if term.text == "one" and after in MODIFIERS | {Kind.FINDING}:
                continue
            if named is None:
                raise refused(f"{quoted(term.text)} names no finding: name it")
            term = replace(term, kind=Kind.FINDING, value=named.value)
        result.append(term)
    return result


def _by_form(word: str) -> Refusal | None:
    """The refusal of a negation or a number, which no list can name."""
    if word.endswith("n't"):
        return REFUSED["don't"]
    return REFUSED["several"] if word[0].isdigit() else None


_LACKING = ("no", "not", "without", "with no")


class _Reader:
    """Matches tokens to the lexicon, from the first to the last; what is mended is read in place of what was typed."""

    def __init__(self, text: str, notes: Notes) -> None:
        self.text = text
        self.notes = notes
        tokens = [token for token in _tokens(text) if token[0] not in words.ARTICLES]
        self.typed = [word for word, _ in tokens]
        self.tied = [tie for _, tie in tokens]
        self.found: list[Term] = []
        self.looked_up = 0
        self.lacking = False

    def read(self) -> list[Term]:
        position = 0
        while position < len(self.typed):
            length, meanings = _longest(self.typed, position)
            if not meanings and (refusal := _by_form(self.typed[position])):
                meanings = ((Kind.REFUSED, refusal),)
            if not meanings:
                self._correct(position)
                continue
            phrase = " ".join(self.typed[position : position + length])
            kind, value = meanings[0]
            if kind is Kind.REFUSED:
                kind, value = self._in_context(phrase, value)
                meanings = ((kind, value),)
            if kind is Kind.REFUSED:
                if not value.instead:
                    raise refused(f"{quoted(phrase)} {value.reason}")
                instead = self.notes.mended(f"{quoted(phrase)} {value.reason}", value.instead).split()
                end = self._end_of_cut(position + length) if value.cut else position + length
                self._replace(position, end, instead)
                continue
            self.found += [
                Term(kind, value, phrase, self.tied[position]) for kind, value in meanings if kind is not Kind.FILLER
            ]
            position += length
        return _without_pronouns(self.found)

    def _replace(self, start: int, end: int, instead: list[str]) -> None:
        self.typed[start:end] = instead
        self.tied[start:end] = [False] * len(instead)

    def _in_context(self, phrase: str, refusal: Refusal) -> tuple[Kind, object]:
        """ "with" and "without" begin what would be seen; "no" goes on with it: "imagine no edema"."""
        sentence = list(takewhile(lambda term: term.kind is not Kind.STOP, reversed(self.found)))
        kinds = {term.kind for term in sentence}
        if phrase in _LACKING and self.lacking and sentence and sentence[0].kind in SEPARATORS:
            return Kind.VERB, (words.Operation.REMOVE, 0)
        self.lacking = False
        if not kinds <= {Kind.WISH, Kind.TO, Kind.PREPOSITION}:
            return Kind.REFUSED, refusal
        if phrase in _LACKING:
            self.lacking = True
            wished = phrase not in ("no", "not") or Kind.WISH in kinds
            return (Kind.VERB, (words.Operation.REMOVE, 0)) if wished else (Kind.REFUSED, REMOVES)
        return (Kind.WISH, None) if phrase == "with" else (Kind.REFUSED, refusal)

    def _end_of_cut(self, start: int) -> int:
        """Where a cut that begins here ends: with the sentence, or at a verb that is not itself what is cut.

        Where the sentence has named no finding so far ("the left but not the right effusion"), its finding stays.
        """
        sentence = takewhile(lambda term: term.kind is not Kind.STOP, reversed(self.found))
        kinds = [term.kind for term in sentence]
        until = {Kind.VERB, Kind.STOP}
        named = set(kinds[: kinds.index(Kind.VERB)]) if Kind.VERB in kinds else set()
        if named & MODIFIERS and Kind.FINDING not in named:
            until = {Kind.FINDING, Kind.STOP}
        position, first = start, True
        while position < len(self.typed):
            length, meanings = _longest(self.typed, position)
            kind = meanings[0][0] if meanings else Kind.FINDING
            if kind in until and not (first and kind is Kind.VERB) and meanings:
                return position
            if first and kind is Kind.VERB:
                until = {Kind.STOP}
            first = first and kind is Kind.FILLER
            position += length
        return position

    def _correct(self, position: int) -> None:
        """Put known words in place of one that is not known and those behind it, where they make a known phrase."""
        word = self.typed[position]
        if _foreign(self.text):
            raise refused(f"{quoted(word)} is not understood: {ENGLISH}")
        for start in (position, position - 1):
            likely = [self._likely(typed) for typed in self.typed[max(start, 0) : position + 6]]
            length, meanings = _longest(likely, 0)
            changed = likely[:length] != self.typed[max(start, 0) : start + length]
            if (
                start >= 0
                and start + length > position
                and changed
                and meanings
                and meanings[0][0] in _TYPED | {Kind.FILLER}
            ):
                break
        else:
            verbs = "" if self.found else ": an instruction begins with Add, Remove or Change the level of"
            raise refused(f"{quoted(word)} is not understood{verbs}")
        word = next(typed for typed, known in zip(self.typed[start:], likely, strict=False) if typed != known)
        kind, value = meanings[0]
        name = value if kind is Kind.FINDING else " ".join(likely[:length])
        self.notes.mended(f"{quoted(word)} is not understood; the nearest known term is {quoted(str(name))}")
        self._replace(position, start + length, likely[position - start : length])

    def _likely(self, word: str) -> str:
        """The word as it is, if known; else the known word that it is probably a slip of, or itself.

        Only as many words are looked up as a short instruction has, because each takes time.
        """
        if word in _WORDS or len(word) > 30 or self.looked_up >= 6:
            return word
        self.looked_up += 1
        near = get_close_matches(word, _INITIALS.get(word[0], ()), n=1, cutoff=0.8)
        return near[0] if near and near[0] not in _ONLY_REFUSED else word


def _lexicon() -> dict[tuple[str, ...], tuple[tuple[Kind, object], ...]]:
    """Every phrase, as a tuple of words without articles, and what it stands for."""
    lexicon: dict[tuple[str, ...], tuple[tuple[Kind, object], ...]] = {}

    def enter(phrase: str, *meanings: tuple[Kind, object]) -> None:
        key = tuple(word for word in re.split(r"[ -]", phrase) if word not in words.ARTICLES)
        lexicon[key] = meanings

    for kind, group in (
        (Kind.FILLER, words.FILLERS),
        (Kind.PREPOSITION, words.PREPOSITIONS),
        (Kind.AND, words.CONJUNCTIONS),
        (Kind.COMMA, (",",)),
        (Kind.STOP, (".",)),
        (Kind.FROM, ("from",)),
        (Kind.TO, ("to",)),
        (Kind.WISH, words.WISHES),
        (Kind.PRONOUN, words.PRONOUNS),
        (Kind.SIDE, words.SIDES),
        (Kind.ZONE, words.ZONES),
        (Kind.LEVEL, (level for level in words.LEVELS if " " not in level)),
    ):
        for phrase in group:
            enter(phrase, (kind, phrase))
    for kind, synonyms in (
        (Kind.LEVEL, words.LEVEL_SYNONYMS),
        (Kind.SIDE, words.SIDE_SYNONYMS),
        (Kind.ZONE, words.ZONE_SYNONYMS),
        (Kind.VERB, words.VERBS),
        (Kind.MORE, words.COMPARATIVES),
        (Kind.REFUSED, REFUSED),
    ):
        for phrase, value in synonyms.items():
            enter(phrase, (kind, value))
    for phrase, (side, zone) in words.PLACES.items():
        enter(phrase, (Kind.SIDE, side), (Kind.ZONE, zone))
    sides = {side: side for side in words.SIDES} | words.SIDE_SYNONYMS
    for finding in words.FINDINGS.values():
        meaning = (Kind.FINDING, finding.name)
        for phrase in (finding.name, *finding.synonyms):
            enter(phrase.replace("* ", ""), meaning)
            for typed, side in sides.items() if "*" in phrase else ():
                enter(phrase.replace("*", typed), meaning, (Kind.SIDE, side))
    return lexicon


_LEXICON = _lexicon()
_LONGEST = max(map(len, _LEXICON))

_TYPED = MODIFIERS | {Kind.VERB, Kind.FINDING}
_WORDS = frozenset(word for phrase in _LEXICON for word in phrase)
_ONLY_REFUSED = _WORDS - {
    word for phrase, ((kind, _), *_) in _LEXICON.items() if kind is not Kind.REFUSED for word in phrase
}
_TELLING = {
    word
    for phrase, ((kind, _), *_) in _LEXICON.items()
    if kind in _TYPED | {Kind.REFUSED} or len(phrase) > 1
    for word in phrase
    if len(word) > 2 and word not in words.CONJUNCTIONS
}
_INITIALS = {letter: sorted(word for word in _TELLING if word[0] == letter) for letter in {w[0] for w in _TELLING}}
"""Known words by their first letter, which a slip of the keys rarely changes."""


def _longest(typed: list[str], position: int) -> tuple[int, tuple[tuple[Kind, object], ...]]:
    """The longest phrase that begins here: how many words it has, and what it stands for; nothing where none does.

    A shorter one is taken where the phrase behind it reaches further: "large" and "heart failure", not "large heart".
    """
    matches = _matches(typed, position)
    if not matches:
        return 1, ()
    longest = matches[0]
    if longest == 1 or position + longest == len(typed) or _matches(typed, position + longest):
        return longest, _LEXICON[tuple(typed[position : position + longest])]
    for length in matches[1:]:
        behind = _matches(typed, position + length)
        if behind and length + behind[0] > longest:
            longest = length
            break
    return longest, _LEXICON[tuple(typed[position : position + longest])]


def _matches(typed: list[str], position: int) -> list[int]:
    """How many words each phrase that begins here has, the longest first."""
    lengths = range(min(_LONGEST, len(typed) - position), 0, -1)
    return [length for length in lengths if tuple(typed[position : position + length]) in _LEXICON]
