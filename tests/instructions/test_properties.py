"""Properties over the whole grammar, and over anything that can be typed."""

import itertools
import re
import time
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from instructx2x.errors import InstructionError
from instructx2x.instructions import (
    FINDINGS,
    LEVELS,
    SIDES,
    ZONES,
    Edit,
    Operation,
    consistent,
    opposite,
    parse,
    render,
    terms,
    vocabulary,
)

seeded = settings(derandomize=True, deadline=None, max_examples=120)


@st.composite
def valid_edits(draw):
    finding = FINDINGS[draw(st.sampled_from(list(FINDINGS)))]
    operation = draw(st.sampled_from(list(Operation)))

    def word(allowed, applies):
        return draw(st.none() | st.sampled_from(list(allowed))) if applies else None

    side, zone = word(SIDES, finding.has_side), word(ZONES, finding.has_zone)
    level, from_level = word(LEVELS, finding.has_level), None
    if operation is Operation.CHANGE:
        assume(level is not None)
        from_level = word(set(LEVELS) - {level}, True)
    return Edit(operation, finding.name, side, zone, level, from_level)


@st.composite
def valid_instructions(draw):
    edits = draw(st.lists(valid_edits(), min_size=1, max_size=4))
    try:
        return consistent(edits)
    except InstructionError:
        assume(False)


@seeded
@given(valid_instructions())
def test_parse_reads_what_render_writes(edits):
    assert parse(render(edits)) == edits


@seeded
@given(valid_instructions())
def test_the_opposite_of_the_opposite_is_the_instruction(edits):
    undoing = opposite(edits)
    if undoing is None:
        assert any(edit.operation is Operation.CHANGE and edit.from_level is None for edit in edits)
    else:
        assert opposite(undoing) == edits and all(one != other for one, other in zip(edits, undoing, strict=True))
        assert parse(render(undoing)) == undoing, "it can be said"
        assert [(e.finding, e.side, e.zone) for e in undoing] == [(e.finding, e.side, e.zone) for e in edits]


@seeded
@given(valid_instructions(), st.integers(0, 2**32))
def test_case_articles_spaces_and_full_stops_do_not_matter(edits, seed):
    random = Random(seed)
    text = render(edits).replace(".", random.choice([".", "", " ;", "!\n"])).replace("the ", "")
    text = "".join(random.choice([letter.lower(), letter.upper()]) for letter in text)
    assert parse(text.replace(" ", random.choice(["  ", "\n", "\t "]))) == edits


def test_every_single_edit_makes_the_round_trip():
    for finding in FINDINGS.values():
        sides = [None, *SIDES] if finding.has_side else [None]
        zones = [None, *ZONES] if finding.has_zone else [None]
        for side, zone in itertools.product(sides, zones):
            for operation in (Operation.ADD, Operation.REMOVE):
                edit = Edit(operation, finding.name, side, zone)
                assert parse(render([edit])) == (edit,)
    for old, new in itertools.permutations([None, *LEVELS], 2):
        if new:
            edit = Edit(Operation.CHANGE, "pleural effusion", level=new, from_level=old)
            assert parse(render([edit])) == (edit,)


LISTED = [" ".join(phrase) for phrase in terms._LEXICON]
# What frames.py knows beside the lexicon, and what no list knows.
SPOKEN = (
    "what if he had; what would this look like without; make; it look like; disappear; should be removed; no longer; "
    "of the image; of the film; on the viewer's; top; 20 percent; 2 cm; twice as large; half of; larger on the right; "
    "right > left; replace; into; instead of; lower the; from none to; 5th rib; plueral efusion; xyzzy; 3; ü; ->; w/o"
).split("; ")


def typed_words():
    return st.lists(st.sampled_from(LISTED) | st.sampled_from(SPOKEN), max_size=14).map(" ".join)


@seeded
@given(st.text() | typed_words() | st.tuples(typed_words(), st.text(max_size=3), typed_words()).map(" ".join))
def test_any_text_is_read_or_refused_in_one_line(text):
    check(text)


def check(text):
    try:
        edits = parse(text)
    except InstructionError as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and message.isprintable()
        assert len(message) < 1000
        for sentence in re.findall(r'"([^"]*)"', message):
            assert render(parse(sentence)) == sentence, "what a refusal offers can be pasted"
    else:
        assert edits and parse(render(edits)) == edits


@seeded
@given(typed_words())
def test_words_of_the_vocabulary_after_a_verb(text):
    check(f"add {text}")
    check(f"change {text} to mild")
    check(f"show me {text}")


@seeded
@given(
    valid_edits().filter(lambda edit: edit.operation is not Operation.CHANGE),
    st.sampled_from(["acute", "patchy", "bacterial", "2 cm", "several", "20 percent", "peripheral"]),
)
def test_what_is_offered_keeps_all_that_was_named(edit, word):
    """A word that is refused for itself alone: the sentence that is offered is the one without it."""
    written = render([edit])
    with pytest.raises(InstructionError) as error:
        parse(written.replace("finding of ", f"finding of {word} ", 1))
    assert re.findall(r'"([^"]*)"', str(error.value)) == [written]


@seeded
@given(st.sampled_from(list(Operation)), typed_words())
def test_no_sentence_does_the_opposite(operation, text):
    """Whatever stands behind a lone verb, every edit is that verb's."""
    assume(not any(verb in text.split() for verb in {phrase.split()[0] for phrase in vocabulary.VERBS}))
    try:
        edits = parse(f"{operation.value} {text}")
    except InstructionError:
        return
    assert {edit.operation for edit in edits} == {operation}


HOSTILE = {
    "one long word": "a" * 2000,
    "long word after a verb": "add " + "pleural" * 285,
    "and": "and " * 500,
    "add": "add " * 500,
    "levels": ("change edema from mild" + " to mild" * 300)[:2000],
    "compound levels": ("add mild" + " to moderate" * 200)[:2000],
    "hyphens": "-" * 2000,
    "apostrophes": "add a" + "'" * 1990,
    "tied words": ("add " + "a-" * 1000)[:2000],
    "findings": ("add " + "mass, " * 400)[:1998],
    "places": "add " + ", ".join([f"{s} {z}" for s in ("left", "right") for z in ZONES] * 9)[:1990] + " mass",
    "distinct edits": (
        "add " + ", ".join(f"{level} {side} {zone} mass" for zone in ZONES for side in SIDES for level in ["mild"])
    )[:2000],
    "places on both sides": (
        "add " + ", ".join(LEVELS)[:180] + " and trace effusion " + "and in the left and in the right " * 50
    )[:2000],
    "prepositions": ("add edema " + "in of to from " * 200)[:2000],
    "ligatures": "add edema " + "\ufdfa" * 1900,
    "lone surrogate": "add \ud800 edema",
    "null": "add edema\0",
    "unknown words": "add " + "efusion pnemonia " * 117,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_read_quickly(text):
    assert len(text) <= 2000
    check(text)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        try:
            parse(text)
        except InstructionError:
            pass
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05
