"""From text to terms: the words of an instruction, matched to the vocabulary by the longest phrase."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from enum import Enum

from ..errors import InstructionError
from . import vocabulary as words

MAX_CHARACTERS = 2000


class Kind(Enum):
    """What a term is in the grammar."""

    VERB = "verb"
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
    FILLER = "filler"
    REFUSED = "refused"


MODIFIERS = frozenset({Kind.LEVEL, Kind.SIDE, Kind.ZONE})
SEPARATORS = frozenset({Kind.AND, Kind.COMMA})


@dataclass(frozen=True)
class Term:
    """A matched phrase.

    Attributes:
        kind: its part in the grammar.
        value: its canonical word; for a verb, the operation and direction.
        text: the phrase as typed, in lower case, for error messages.
        hyphenated: whether a hyphen ties it to the word before it.
    """

    kind: Kind
    value: object
    text: str
    hyphenated: bool = False


def terms(text: str) -> list[Term]:
    """Read every word of an instruction; fillers are gone from the result.

    Raises:
        InstructionError: for text that is too long, and for the first word or sign that is not understood.
    """
    if not isinstance(text, str):
        raise InstructionError(f"An instruction is text, not {type(text).__name__}.")
    if len(text) > MAX_CHARACTERS:
        raise InstructionError(
            f"The instruction has {len(text):,} characters, more than {MAX_CHARACTERS:,}: shorten it."
        )
    tokens = [token for token in _tokens(text) if token[0] not in words.ARTICLES]
    typed = [token[0] for token in tokens]
    found: list[Term] = []
    position = 0
    while position < len(tokens):
        length, meanings = _longest(typed, position)
        phrase = " ".join(typed[position : position + length])
        for kind, value in meanings:
            if kind is Kind.REFUSED:
                raise InstructionError(f"{phrase!r} {value}")
            if kind is not Kind.FILLER:
                found.append(Term(kind, value, phrase, tokens[position][1]))
        position += length
    return found


_MARKS = str.maketrans("‐‑‒–—−‘’ʼ`´“”„«»", "------'''''" + '"' * 5)
_TOKEN = re.compile(
    r"(?P<hyphen>(?<=[^\W_])-)?(?P<word>[^\W_]+(?:'[^\W_]+)*)"
    r"|(?P<mark>[.!?]+|[,;/&+-])"
    r"|(?P<skip>[\s\"'():\[\]]+)"
)
_MARK_WORDS = {";": ",", "/": ",", "-": ",", "!": ".", "?": "."}


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Words and marks in lower case, each with whether a hyphen ties it to the word before it."""
    text = unicodedata.normalize("NFKC", text.translate(_MARKS)).translate(_MARKS).casefold()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InstructionError(f"The sign {text[position]!r} is not understood: leave it out.")
        if match["word"]:
            yield match["word"], bool(match["hyphen"])
        elif match["mark"]:
            mark = match["mark"][0]
            yield _MARK_WORDS.get(mark, mark), False
        position = match.end()


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
        (Kind.REFUSED, words.REFUSED),
    ):
        for phrase, value in synonyms.items():
            enter(phrase, (kind, value))
    for phrase, (side, zone) in words.PLACES.items():
        enter(phrase, (Kind.SIDE, side), (Kind.ZONE, zone))
    for finding in words.FINDINGS.values():
        meaning = (Kind.FINDING, finding.name)
        for phrase in (finding.name, *finding.synonyms):
            enter(phrase.replace("* ", ""), meaning)
            for side in words.SIDES if "*" in phrase else ():
                enter(phrase.replace("*", side), meaning, (Kind.SIDE, side))
    return lexicon


_LEXICON = _lexicon()
_LONGEST = max(map(len, _LEXICON))
_SUGGESTIONS = {
    " ".join(phrase): value if kind is Kind.FINDING else " ".join(phrase)
    for phrase, ((kind, value), *others) in _LEXICON.items()
    if not others and kind in MODIFIERS | {Kind.VERB, Kind.FINDING}
}
"""Phrases to compare a word with, and what to name when one is near."""


def _longest(typed: list[str], position: int) -> tuple[int, tuple[tuple[Kind, object], ...]]:
    """The longest phrase that begins here: how many words it has, and what it stands for."""
    for length in range(min(_LONGEST, len(typed) - position), 0, -1):
        meanings = _LEXICON.get(tuple(typed[position : position + length]))
        if meanings:
            return length, meanings
    word = typed[position]
    if word.endswith("n't"):
        return 1, ((Kind.REFUSED, words.REFUSED["not"]),)
    nearest = _nearest(typed, position)
    verbs = "" if position else " An instruction begins with Add, Remove or Change the level of."
    raise InstructionError(f"{shortened(word)} is not understood; the nearest known term is {nearest!r}.{verbs}")


def _nearest(typed: list[str], position: int) -> str:
    """The known phrase most like this word, alone or together with a neighbour ("plural effusion")."""
    windows = [typed[position : position + 1], typed[position : position + 2]]
    if position:
        windows.append(typed[position - 1 : position + 1])
    best, score = "", 0.0
    for window in windows:
        text = " ".join(window)[:60]
        for phrase in get_close_matches(text, _SUGGESTIONS, n=1, cutoff=0.6):
            ratio = SequenceMatcher(None, phrase, text).ratio()
            if ratio > score:
                best, score = phrase, ratio
    best = best or get_close_matches(typed[position][:60], _SUGGESTIONS, n=1, cutoff=0.0)[0]
    return _SUGGESTIONS[best]


def shortened(word: str) -> str:
    """A word for an error message: on one line, printable, and not longer than the message around it."""
    return repr(word if len(word) <= 40 else word[:37] + "...")
