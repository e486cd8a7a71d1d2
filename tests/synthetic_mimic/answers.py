"""Difference answers as they are published, well formed or damaged in a named way, with what each of them means."""

import itertools
import random
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from instructx2x.instructions.vocabulary import LEVEL_SYNONYMS, LEVELS, PAPER_FINDINGS

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
        truth = stripped(levels, added, missing)
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


def stripped(levels: Sequence[LevelClause], added: Sequence[str], missing: Sequence[str]):
    clean = tuple((name.strip(), old, new) for name, old, new in levels)
    return clean, tuple(name.strip() for name in added), tuple(name.strip() for name in missing)


def _repeated(rng: random.Random, names: list[str]) -> list[str]:
    """The list with one to three of its items again at its end."""
    return names + rng.choices(names, k=rng.choice((1, 1, 2, 3))) if names else names
