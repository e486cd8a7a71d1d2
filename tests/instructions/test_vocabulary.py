"""The lists agree with the method and with each other."""

import itertools

import pytest

from instructx2x.instructions import (
    FINDINGS,
    LEVELS,
    PAPER_FINDINGS,
    SIDES,
    ZONES,
    Operation,
    canonical,
    parse,
    refusals,
    vocabulary,
)


def test_the_papers_findings_and_the_extension():
    assert len(PAPER_FINDINGS) == len(set(PAPER_FINDINGS)) == 31
    assert set(FINDINGS) - set(PAPER_FINDINGS) == {"nodule", "mass"}
    assert all(FINDINGS[name].name == name for name in FINDINGS)


def test_levels_are_the_methods_scale():
    assert LEVELS["trace"] == 1 and LEVELS["minor"] == 2 and LEVELS["mild to moderate"] == 2.5
    assert LEVELS["moderate"] == 3 and LEVELS["moderate to large"] == 3.5 and LEVELS["large"] == 4
    assert LEVELS["moderate to severe"] == 4 and LEVELS["massive"] == 5


@pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS.keys())
def test_every_synonym_is_its_finding(finding):
    for phrase in (finding.name, *finding.synonyms):
        for side in [None, *SIDES] if "*" in phrase else [None]:
            typed = phrase.replace("*", f"the {side}") if side else phrase.replace("* ", "")
            (edit,) = parse(f"add {typed}")
            assert (edit.finding, edit.side, edit.zone) == (finding.name, side, None)


def test_no_phrase_has_two_meanings():
    groups = (
        [phrase.replace("* ", "").replace("the ", "") for phrase in (finding.name, *finding.synonyms)]
        for finding in FINDINGS.values()
    )
    phrases = [
        *itertools.chain.from_iterable(groups),
        *LEVELS,
        *vocabulary.LEVEL_SYNONYMS,
        *SIDES,
        *vocabulary.SIDE_SYNONYMS,
        *ZONES,
        *vocabulary.ZONE_SYNONYMS,
        *vocabulary.PLACES,
        *vocabulary.VERBS,
        *vocabulary.CONJUNCTIONS,
        *vocabulary.PREPOSITIONS,
        *vocabulary.FILLERS,
        *vocabulary.WISHES,
        *vocabulary.COMPARATIVES,
        *vocabulary.PRONOUNS,
        *refusals.REFUSED,
        "from",
        "to",
    ]
    repeated = {phrase for phrase in phrases if phrases.count(phrase) > 1}
    # "blunting of the costophrenic angle" is a finding's name, and the same with a side inside.
    assert repeated <= {"blunting of costophrenic angle"}


def test_every_verb_does_its_operation():
    for verb, (operation, direction) in vocabulary.VERBS.items():
        levels = {0: " from mild to severe", 1: " from mild to severe", -1: " from severe to mild"}[direction]
        (edit,) = parse(f"{verb} the edema{levels if operation is Operation.CHANGE else ''}")
        assert edit.operation is operation


def test_fillers_change_nothing():
    for word in vocabulary.FILLERS:
        # Beside a side, "image left" and "my left" are no side of the patient.
        text = f"{word} add {word} mild left effusion {word}"
        assert canonical(text) == "Add the finding of mild left pleural effusion."
