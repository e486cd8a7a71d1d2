"""The instruction language: text to edits, and edits to canonical text.

Grammar of what is read, over the terms of terms.py (articles and fillers are gone):

    instruction := sentence+
    sentence    := VERB item (AND item)* | CHANGE item scale (AND item scale)* | WISH item (AND item)*
    item        := place? FINDING place?
    place       := words for level, side and zone; AND joins several ("left upper and right lower lobe")
    scale       := FROM level TO level | TO level | level

A sentence ends at a full stop, at the next verb, or with the text. A place belongs to the finding beside it,
never to the rest of a list: in "left pleural effusion and edema" the edema has no side. A place behind its
finding needs no preposition ("effusion on the left", "effusion, left").

What is refused but can be mended is noted and mended while it is read (refusals.py). Edits that come of such a
reading are never carried out: they are offered as the sentence to write.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import accumulate, groupby, product

from ..errors import InstructionError
from .edits import Edit, consistent
from .refusals import Notes, quoted, refused
from .terms import MODIFIERS, SEPARATORS, Kind, Term, terms
from .vocabulary import FINDINGS, LEVELS, Operation


def parse(text: str) -> tuple[Edit, ...]:
    """Read an instruction.

    Args:
        text: up to 2,000 characters, any case, full stops optional.

    Returns:
        The edits in the order in which they are named, each once.

    Raises:
        InstructionError: when a word is not in the vocabulary, or the instruction is empty, ambiguous or
            contradictory. One line; where the instruction can be mended, it holds the sentence to write, in quotes.
    """
    edits, notes, error = _read(text, 0)
    if error is not None and not notes.reasons:
        raise error
    if not notes.reasons:
        return edits
    readings = [edits, *(_read(text, choice)[0] for choice in range(1, notes.choices))]
    raise refused(notes.reasons[0], [render(reading) for reading in readings if reading]) from error


def _read(text: str, choice: int) -> tuple[tuple[Edit, ...], Notes, InstructionError | None]:
    """One reading: its edits, what was mended for them, and the error that ended it."""
    notes = Notes(choice)
    found = terms(text, notes)
    edits: list[Edit] = []
    try:
        for sentence in _sentences(found, notes):
            edits += sentence.edits(notes)
        return consistent(edits), notes, None
    except InstructionError as error:
        return (), notes, error


def render(edits: Iterable[Edit]) -> str:
    """Write the canonical text (method section 5.3), which `parse` reads back to the same edits.

    Consecutive edits that add, or that remove, share a sentence; every change of level has its own.

    Raises:
        InstructionError: when there are no edits, or they contradict each other.
    """
    edits = consistent(edits)
    if not edits:
        raise InstructionError("There is nothing to do: name at least one edit.")
    sentences: list[str] = []
    for operation, group in groupby(edits, key=lambda edit: edit.operation):
        if operation is Operation.CHANGE:
            sentences += [f"Change the level of {_phrase(edit)} {_scale(edit)}." for edit in group]
        else:
            phrases = [_phrase(edit, edit.level) for edit in group]
            plural = "s" if len(phrases) > 1 else ""
            sentences.append(f"{operation.value.capitalize()} the finding{plural} of {_listed(phrases)}.")
    return " ".join(sentences)


def canonical(text: str) -> str:
    """The canonical text of an instruction: `render(parse(text))`."""
    return render(parse(text))


# ---- writing


def _phrase(edit: Edit, level: str | None = None) -> str:
    """A finding with its level and place in front: "mild left lower lobe atelectasis"."""
    zone = edit.zone
    # Only the right lung has a middle lobe; findings outside the lungs' tissue lie in no lobe at all.
    lobes = ("upper", "middle", "lower") if edit.side == "right" else ("upper", "lower")
    if FINDINGS[edit.finding].lobar and zone in lobes:
        zone = f"{zone} lobe"
    return " ".join(word for word in (level, edit.side, zone, edit.finding) if word)


def _scale(edit: Edit) -> str:
    """The levels of a change; hyphens tie a level's words where plain ones could be read in two ways."""
    if edit.from_level is None:
        return f"to {edit.level}"
    plain = f"{edit.from_level} to {edit.level}"
    ambiguous = len(_readings(plain.split(" to "))) > 1
    return f"from {_tied(edit.from_level, edit.level) if ambiguous else plain}"


def _listed(phrases: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


# ---- reading


@dataclass(frozen=True)
class _Place:
    """What is said about a finding."""

    level: str | None = None
    side: str | None = None
    zone: str | None = None

    def merged(self, other: _Place) -> _Place:
        """Both together; two different words for one thing are an error."""
        for field in fields(self):
            words = {getattr(self, field.name), getattr(other, field.name)} - {None}
            if len(words) > 1:
                both = " and ".join(sorted(words))
                raise InstructionError(f"One finding has two {field.name}s, {both}: keep one of them.")
        return self.filled(other)

    def filled(self, other: _Place) -> _Place:
        """This, with what it leaves open taken from the other."""
        return _Place(self.level or other.level, self.side or other.side, self.zone or other.zone)


_CONTENT = MODIFIERS | {Kind.FINDING, Kind.MORE}


@dataclass
class _Sentence:
    """What is to be done, and the terms that say to what.

    Attributes:
        verb: a term of kind VERB or WISH; None: nothing says what to do.
    """

    verb: Term | None
    body: list[Term] = dataclasses.field(default_factory=list)

    def names(self, *kinds: Kind) -> bool:
        return any(term.kind in kinds for term in self.body)

    def edits(self, notes: Notes) -> list[Edit]:
        operation, direction = self.verb.value if self.verb and self.verb.kind is Kind.VERB else (None, 0)
        said = self.verb.text if self.verb else "change"
        more = next((term for term in self.body if term.kind is Kind.MORE), None)
        body = [term for term in self.body if term.kind is not Kind.MORE]
        scaled = any(_scales(body, index) for index, term in enumerate(body) if term.kind in (Kind.FROM, Kind.TO))
        if self.verb is None and not more:
            first = next(term for term in body if term.kind in _CONTENT)
            notes.mended(
                f"Nothing says what to do with {quoted(first.text)}: begin the sentence with Add, Remove or Change"
            )
        if more:
            direction = direction or more.value
            if operation is Operation.REMOVE:
                direction = -1
            operation, said = Operation.CHANGE, more.text
        elif operation is None:
            operation = Operation.CHANGE if scaled else Operation.ADD
        if operation is Operation.CHANGE:
            return _changes(said, direction, body, notes)
        return [_edit(operation, finding, place, notes) for finding, place in _items(said, body, notes)]


def _sentences(found: list[Term], notes: Notes) -> list[_Sentence]:
    """Cut at verbs, wishes and full stops: each verb with what follows it.

    A wish that a verb follows, and a change of the image in general ("edit this to add edema"), say nothing.
    """
    sentences: list[_Sentence] = []
    current: _Sentence | None = None
    for term in found:
        if term.kind is Kind.STOP:
            current = None
            continue
        if term.kind is Kind.WISH and current is not None and not current.names(Kind.FINDING):
            continue
        if term.kind in (Kind.VERB, Kind.WISH):
            if current is not None and _says_nothing(current, notes):
                sentences.remove(current)
            current = _Sentence(term)
            sentences.append(current)
            continue
        if current is None and term.kind in _CONTENT:
            current = _Sentence(None)
            sentences.append(current)
        if current is not None:
            current.body.append(term)
    wished = [each for each in sentences if each.verb is None or each.verb.kind is Kind.VERB or each.names(*_CONTENT)]
    if not wished:
        raise InstructionError('The instruction is empty: write for example "Add the finding of edema."')
    return wished


def _says_nothing(sentence: _Sentence, notes: Notes) -> bool:
    """Whether a sentence is only the way to the verb behind it; a level there ("slightly increase") is refused."""
    if sentence.verb is None and not sentence.names(Kind.FINDING, Kind.SIDE, Kind.ZONE):
        first = next(term for term in sentence.body if term.kind in _CONTENT)
        notes.mended(f"{quoted(first.text)} does not say how far: name the level")
        return True
    if sentence.names(*_CONTENT) or sentence.verb is None:
        return False
    return sentence.verb.kind is Kind.WISH or sentence.verb.value[0] is Operation.CHANGE


def _edit(
    operation: Operation, name: str, place: _Place, notes: Notes, new: str | None = None, old: str | None = None
) -> Edit:
    """The edit; what does not apply to its finding is noted and left out."""
    finding = FINDINGS[name]
    said = {"side": place.side, "zone": place.zone, "level": new if operation is Operation.CHANGE else place.level}
    if operation is not Operation.CHANGE or finding.has_level:
        for kind, word in said.items():
            if word and not getattr(finding, f"has_{kind}"):
                notes.mended(f"{name.capitalize()} has no {kind}: leave out {quoted(word)}")
                said[kind] = None
    return Edit(operation, name, **said, from_level=old)


def _items(verb: str, body: list[Term], notes: Notes) -> list[tuple[str, _Place]]:
    """The findings of a sentence, each with its place; a finding with several places comes once for each."""
    body = _settled(body, notes)
    at = [index for index, term in enumerate(body) if term.kind is Kind.FINDING]
    if not at:
        raise _nothing_named(verb)
    before = body[: at[0]]
    items: list[tuple[str, _Place]] = []
    for start, end in zip(at, [*at[1:], None], strict=True):
        finding = body[start].value
        if before and before[-1].kind in SEPARATORS:
            raise _adrift(before)
        run = body[start + 1 : end]
        after, next_before = (_last(run), []) if end is None else _divided(run)
        items += [(finding, place) for place in _combined(finding, _places(before), _places(after), notes)]
        before = next_before
    return items


def _nothing_named(verb: str) -> InstructionError:
    return refused(f"{quoted(verb.capitalize())} names no finding: name each", ["Add the finding of edema."])


def _combined(finding: str, fronts: list[_Place], backs: list[_Place], notes: Notes) -> list[_Place]:
    """Every place in front of a finding with every one behind it, each once.

    "bilateral effusions, small on the left and moderate on the right": what is said of a side counts for it alone.
    """
    sides = {place.side for place in backs} & {"left", "right"}
    if not sides or not any(place.side == "bilateral" for place in fronts):
        return list(dict.fromkeys(front.merged(back) for front, back in product(fronts, backs)))
    fronts = [replace(place, side=None) if place.side == "bilateral" else place for place in fronts]
    if len(sides) == 1:
        (other,) = {"left", "right"} - sides
        notes.mended(f"Bilateral {finding} is described on one side only: name both sides")
        backs = [*backs, _Place(side=other)]
    return list(dict.fromkeys(front.merged(back) for front, back in product(fronts, backs)))


def _settled(body: list[Term], notes: Notes) -> list[Term]:
    """Settle the small words of a sentence in which "to" does not lead to a new level.

    "mid to lower" becomes "mid and lower"; any other "to" or "from" is a preposition. Prepositions whose noun
    was a filler ("to the image") go. Of separators in a row (", and") the last stays, and none at the ends. A
    comma before a place goes: "effusion on the left, at the base".
    """
    body = _with_whole_levels(body)
    settled: list[Term] = []
    for index, term in enumerate(body):
        after = body[index + 1].kind if index + 1 < len(body) else None
        if term.kind in (Kind.TO, Kind.FROM) and after is Kind.LEVEL:
            words = quoted(f"{term.text} {body[index + 1].text}")
            raise InstructionError(f'{words} is no place: write as in "Change the level of edema to mild."')
        if (
            term.kind is Kind.TO
            and (other := _finding_behind(body, index))
            and any(earlier.kind is Kind.FINDING for earlier in settled)
        ):
            first = next(earlier.value for earlier in settled if earlier.kind is Kind.FINDING)
            notes.mended(f"It is not clear how {first} and {other} belong together: name what is to be added alone")
            break
        if term.kind is Kind.TO and after is Kind.ZONE and settled and settled[-1].kind is Kind.ZONE:
            term = replace(term, kind=Kind.AND)
        elif term.kind in (Kind.TO, Kind.FROM, Kind.PREPOSITION):
            term = replace(term, kind=Kind.PREPOSITION)
            if after not in MODIFIERS | {Kind.FINDING}:
                continue
            if after in MODIFIERS and settled and settled[-1].kind is Kind.COMMA:
                settled.pop()
        elif term.kind in SEPARATORS and settled and settled[-1].kind in SEPARATORS:
            settled.pop()
        if settled or term.kind not in SEPARATORS:
            settled.append(term)
    return settled[:-1] if settled and settled[-1].kind in SEPARATORS else settled


def _finding_behind(body: list[Term], index: int) -> str | None:
    """The finding that a preposition leads to, with a place between them at most."""
    for term in body[index + 1 :]:
        if term.kind is Kind.FINDING:
            return term.value
        if term.kind not in MODIFIERS:
            return None
    return None


def _with_whole_levels(body: list[Term]) -> list[Term]:
    """Join the words of a level, "mild to moderate" or "small moderate", to one term."""
    groups: list[list[Term]] = []
    for index, term in enumerate(body):
        goes_on = bool(groups) and groups[-1][0].kind is Kind.LEVEL and term.kind is not Kind.FROM
        if goes_on and _scales(body, index):
            groups[-1].append(term)
        else:
            groups.append([term])
    return [
        Term(Kind.LEVEL, _level(group), " ".join(term.text for term in group))
        if group[0].kind is Kind.LEVEL
        else group[0]
        for group in groups
    ]


def _scales(body: list[Term], index: int) -> bool:
    """Whether the term is a level, or a "from" or "to" in front of one."""
    small = body[index].kind in (Kind.FROM, Kind.TO) and index + 1 < len(body)
    return body[index + small].kind is Kind.LEVEL


def _words(part: list[Term]) -> str:
    """The words of a level as the vocabulary spells them, with "to" between them."""
    return " to ".join(term.value for term in part if term.kind is Kind.LEVEL)


def _level(part: list[Term]) -> str:
    """The level that these words make together."""
    level = _words(part)
    if level not in LEVELS:
        raise InstructionError(f"{quoted(level)} is no level: keep one of its words.")
    return level


def _divided(run: list[Term]) -> tuple[list[Term], list[Term]]:
    """Divide what stands between two findings: what belongs to the first, and what to the second."""
    at = [index for index, term in enumerate(run) if term.kind in SEPARATORS]
    if not run:
        return [], []
    if at and at[0] > 0 and at[-1] == len(run) - 1:
        return run[:-1], []
    if at and (at[0] == 0 or len(at) == 1):
        return run[: at[0]], run[at[0] + 1 :]
    raise _adrift(run)


def _last(run: list[Term]) -> list[Term]:
    """What belongs to the last finding of a sentence, of what follows it."""
    if run and run[0].kind is Kind.AND:
        raise _adrift(run)
    return run[1:] if run and run[0].kind is Kind.COMMA else run


def _adrift(run: list[Term]) -> InstructionError:
    """The error for a place that could belong to either of two findings, or to none."""
    words = " ".join(term.text for term in run if term.kind not in SEPARATORS)
    return InstructionError(
        f"It is not clear which finding {quoted(words)} belongs to: write it in front of its finding."
    )


def _places(run: list[Term]) -> list[_Place]:
    """The places that a run of modifiers names, each once; one that says nothing when there are none.

    Places joined by "and" share what only one says ("left upper and lower lobe"), unless a preposition begins
    the next one anew ("on the left and in the right lower lobe").
    """
    phrases: list[list[_Place]] = [[_Place()]]
    for index, term in enumerate(run):
        if term.kind in SEPARATORS:
            if run[index + 1].kind is Kind.PREPOSITION:
                phrases.append([])
            phrases[-1].append(_Place())
        elif term.kind in MODIFIERS:
            phrases[-1][-1] = phrases[-1][-1].merged(_Place(**{term.kind.value: term.value}))
    places: list[_Place] = []
    if {place.side for phrase in phrases for place in phrase} >= {"left", "right", "bilateral"}:
        # "on both sides, small on the left and moderate on the right"
        phrases = [[place for place in phrase if place.side != "bilateral"] for phrase in phrases]
    for phrase in filter(None, phrases):
        for towards in (1, -1):
            phrase = phrase[::towards]
            phrase = list(accumulate(phrase, lambda earlier, place: place.filled(earlier)))[::towards]
        places += phrase
    return list(dict.fromkeys(places))


# ---- reading changes of level


def _changes(verb: str, direction: int, body: list[Term], notes: Notes) -> list[Edit]:
    """The edits of a sentence about levels: findings, each or several together followed by their scale."""
    edits: list[Edit] = []
    body = _stripped(body)
    if not any(term.kind is Kind.FINDING for term in body):
        raise _nothing_named(verb)
    if replaced := _replacement(body, notes):
        return replaced
    named_last: Term | None = None
    while body or not edits:
        named, scale, body = _next_scale(body, named_last)
        found = [term for term in named if term.kind is Kind.FINDING]
        if not found and named_last and named:
            # "the left effusion to small and the right to large"
            named = [term for term in named if term.kind is not Kind.PREPOSITION] + [named_last]
        named_last = found[-1] if found else named_last
        old, new = _old_and_new(scale, direction, notes) if scale else (None, None)
        for finding, place in _items(verb, named, notes):
            if not FINDINGS[finding].has_level:
                raise refused(f"{finding.capitalize()} has no level: add or remove it")
            if old and place.level and old != place.level:
                raise InstructionError(f"{finding.capitalize()} is first {place.level} and {old}: keep one.")
            before = old or place.level
            level = new or _suggested(verb, finding, direction, before, notes)
            if direction and before and direction * (LEVELS[level] - LEVELS[before]) <= 0:
                notes.mended(f"From {before} to {level} is no way to {verb} it: write 'change' instead")
            edits.append(_edit(Operation.CHANGE, finding, place, notes, level, before))
    return edits


def _suggested(verb: str, finding: str, direction: int, before: str | None, notes: Notes) -> str:
    """A level for a change that names none, in the direction of its verb; noted as not said."""
    notes.mended(f"{quoted(verb)} does not say how far: name the level")
    low, middle, high = FINDINGS[finding].usual_levels
    wanted = {-1: (low, "trace"), 0: (middle, low), 1: (high, "massive")}[direction]
    return next((level for level in wanted if level != before), middle)


def _replacement(body: list[Term], notes: Notes) -> list[Edit]:
    """ "change edema to pneumonia" is no change of level: one finding goes and another comes, in two edits."""
    at = [index for index, term in enumerate(body) if term.kind is Kind.TO]
    if len(at) != 1 or any(_scales(body, index) for index in at):
        return []
    halves = body[: at[0]], body[at[0] + 1 :]
    if not all(any(term.kind is Kind.FINDING for term in half) for half in halves):
        return []
    notes.mended("One finding does not change to another: remove the one and add the other")
    return [
        _edit(operation, finding, place, notes)
        for operation, half in zip((Operation.REMOVE, Operation.ADD), halves, strict=True)
        for finding, place in _items(operation.value, half, notes)
    ]


def _next_scale(body: list[Term], last: Term | None) -> tuple[list[Term], list[Term], list[Term]]:
    """Cut behind the next scale: the items before it (and their place behind it), the scale, and the rest.

    Args:
        last: the finding before, of which the body may go on to speak ("and the right to large").
    """
    start = next((index for index, term in enumerate(body) if term.kind is Kind.FINDING), len(body))
    led = [index for index, term in enumerate(body) if term.kind in (Kind.FROM, Kind.TO) and _scales(body, index)]
    if last and led and led[0] < start and any(term.kind in MODIFIERS for term in body[: led[0]]):
        start = led[0]
    while start < len(body) and not _scales(body, start):
        start += 1
    end = start
    while end < len(body) and _scales(body, end):
        end += 1
    stop = end
    while stop < len(body) and body[stop].kind not in SEPARATORS:
        stop += 1
    named = {term.value for term in body[:start] if term.kind is Kind.FINDING}
    # "from mild edema to severe edema" says the finding once more.
    behind = [term for term in body[end:stop] if not (term.kind is Kind.FINDING and named == {term.value})]
    if any(term.kind in (Kind.FINDING, Kind.LEVEL) for term in behind):
        raise _adrift(behind)
    return body[:start] + behind, body[start:end], _stripped(body[stop:])


def _stripped(body: list[Term]) -> list[Term]:
    """Without separators at either end."""
    kinds = [term.kind not in SEPARATORS for term in body]
    return body[kinds.index(True) : len(kinds) - kinds[::-1].index(True)] if any(kinds) else []


def _old_and_new(scale: list[Term], direction: int, notes: Notes) -> tuple[str | None, str | None]:
    """The levels of a scale: "from A to B", "A to B", "to B" (no old level), "to B from A" or, for a verb without a
    direction, "B" ("make the effusion large"). No new level where it is not said."""
    kinds = [term.kind for term in scale]
    if Kind.TO not in kinds and kinds.count(Kind.FROM) == (kinds[0] is Kind.FROM):
        if kinds[0] is Kind.FROM:
            return _level(scale[1:]), None
        # "increase the effusion slightly" tells a step and no level.
        return (None, _level(scale)) if not direction and not scale[-1].text.endswith("ly") else (None, None)
    if kinds[0] is Kind.TO and kinds.count(Kind.FROM) < 2:
        cut = kinds.index(Kind.FROM) if Kind.FROM in kinds else len(kinds)
        return _level(scale[cut:]) if scale[cut:] else None, _level(scale[:cut])
    parts: list[list[Term]] = [[]]
    for term in scale[1:] if kinds[0] is Kind.FROM else scale:
        if term.kind is Kind.LEVEL:
            parts[-1].append(term)
        elif not term.hyphenated:
            parts.append([])
    readings = _readings([_words(part) for part in parts])
    typed = " ".join(term.text for term in scale)
    if not readings or Kind.FROM in kinds[1:]:
        raise InstructionError(
            f"{quoted(typed)} leads from no level to another: write as in "
            '"Change the level of edema from mild to moderate."'
        )
    if len(readings) > 1:
        return notes.mended(f"{quoted(typed)} has two readings: tie the words of a level with hyphens", readings)
    return readings[0]


def _readings(parts: list[str]) -> list[tuple[str, str]]:
    """Every way to read words between "to"s as an old and a new level."""
    halves = [(" to ".join(parts[:cut]), " to ".join(parts[cut:])) for cut in range(1, len(parts))]
    return [(old, new) for old, new in halves if old in LEVELS and new in LEVELS]


def _tied(old: str, new: str) -> str:
    """Two levels whose own words are tied with hyphens: "mild to moderate-to-severe"."""
    return f"{old.replace(' ', '-')} to {new.replace(' ', '-')}"
