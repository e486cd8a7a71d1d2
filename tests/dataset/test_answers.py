"""Difference answers: what is read is what was meant, and whatever else is typed is refused with a reason."""

import pytest
import synthetic_mimic as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from instructx2x.dataset.answers import (
    LEVEL_WORDS,
    Answer,
    LevelClause,
    finding_name,
    level_readings,
    normalised,
    parse_answer,
    render_answer,
)
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.instructions import PAPER_FINDINGS


def read(text):
    """The answer, or the reason why it was refused."""
    try:
        return parse_answer(text)
    except Rejected as rejected:
        return rejected.reason


def spoken(answer):
    """An answer in the words of the truth: levels as texts, each with all its readings."""
    levels = [(c.finding, {(" ".join(old), " ".join(new)) for old, new in c.readings}) for c in answer.levels]
    return levels, answer.additional, answer.missing


def test_every_generated_answer_is_read_as_it_was_meant_or_refused():
    kinds, accepted = set(), 0
    for case in synthetic.generated_answers(3000, seed=11):
        kinds.add(case.kind)
        answer = read(case.text)
        if case.truth is None:
            assert isinstance(answer, Reason), case
            continue
        accepted += 1
        assert isinstance(answer, Answer), (case, answer)
        levels, additional, missing = spoken(answer)
        true_levels, *true_lists = case.truth
        assert [additional, missing] == true_lists, case
        assert len(levels) == len(true_levels), case
        for (name, readings), (true_name, old, new) in zip(levels, true_levels, strict=True):
            assert name == true_name and readings == set(synthetic.splits(old, new)), case
        assert any(len(readings) > 1 for _, readings in levels) == case.ambiguous, case
    assert accepted > 1500 and {"plain", "junk", "ambiguous", "duplicates", *synthetic.MEANING_LOST} <= kinds


def test_writing_a_read_answer_gives_its_text_back():
    for case in synthetic.generated_answers(3000, seed=12):
        if case.truth is not None and case.kind != "duplicates":
            assert render_answer(parse_answer(case.text)) == normalised(case.text)


def test_malformed_lists_are_recovered_to_what_a_well_formed_one_says():
    for case in synthetic.generated_answers(1500, seed=13):
        if case.kind == "duplicates":
            answer = parse_answer(case.text)
            assert parse_answer(render_answer(answer)) == answer


words = st.sampled_from(
    [
        *(*LEVEL_WORDS, *PAPER_FINDINGS, "and", ",", ".", "to", "from", "the", "nothing has changed.", "ödem", "no"),
        *("the level of", "has changed from", "the main image has additional findings of"),
        *("the main image has an additional finding of", "the main image is missing the finding of"),
        "than the reference image.",
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text() | st.lists(words, max_size=14).map(" ".join))
def test_no_text_does_more_than_be_refused(text):
    answer = read(text)
    if isinstance(answer, Answer):
        assert parse_answer(render_answer(answer)) == answer


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(LEVEL_WORDS), min_size=2, max_size=6), st.data())
def test_every_reading_of_a_level_makes_the_text_again(level_words, data):
    cut = data.draw(st.integers(1, len(level_words) - 1))
    text = f"{' '.join(level_words[:cut])} to {' '.join(level_words[cut:])}"
    readings = level_readings(text)
    assert len(set(readings)) == len(readings) > 0
    assert all(f"{' '.join(old)} to {' '.join(new)}" == text for old, new in readings)
    assert {(" ".join(old), " ".join(new)) for old, new in readings} == set(
        synthetic.splits(" ".join(level_words[:cut]), " ".join(level_words[cut:]))
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.MALFORMED_ANSWER),
        ("the heart is larger than before.", Reason.MALFORMED_ANSWER),
        ("the level of edema has changed from mild to moderate", Reason.MALFORMED_ANSWER),  # cut from "... to severe"?
        ("the main image has an additional finding of than the reference image.", Reason.MALFORMED_ANSWER),
        ("the main image has an additional finding of xyzzy than the reference image.", Reason.UNKNOWN_FINDING),
        ("the level of edema has changed from enormous to mild.", Reason.UNKNOWN_LEVEL),
        ("nothing has changed. nothing has changed.", Reason.MALFORMED_ANSWER),
        (synthetic.answer([], ["edema"], ["edema"]), Reason.CONTRADICTION),
        (synthetic.answer([("edema", "mild", "severe"), ("edema", "small", "severe")]), Reason.CONTRADICTION),
    ],
)
def test_reasons_say_what_is_wrong(text, reason):
    assert read(text) is reason


def test_a_level_that_could_be_cut_in_two_places_has_two_readings():
    (clause,) = parse_answer(synthetic.answer([("edema", "mild", "moderate to severe")])).levels
    expected = ((("mild",), ("moderate to severe",)), (("mild to moderate",), ("severe",)))
    assert clause == LevelClause("edema", expected)


def test_answers_say_the_same_in_any_order():
    one, other = (parse_answer(synthetic.answer([], names)) for names in (["edema", "hernia"], ["hernia", "edema"]))
    assert one != other and one.says_the_same_as(other)
    assert not one.says_the_same_as(parse_answer(synthetic.answer([], [], ["edema", "hernia"])))


def test_every_stored_name_is_known():
    for name in PAPER_FINDINGS:
        assert finding_name(name) == finding_name(f" {name.title()} ") == name
    assert finding_name("xyzzy") is None and finding_name("") is None
