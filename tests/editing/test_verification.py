"""Verification: what was asked is told apart from what was not, and judging changes nothing."""

import json

import numpy as np
import pytest

from instructx2x.editing import Editor, study
from instructx2x.editing.verification import direction, preferences, verify
from instructx2x.evaluation.judges import load_judge
from instructx2x.instructions import parse

QUICK = {"anatomy": "prior", "steps": 3}


class FixedJudge:
    """A judge of three findings; the tests make up its scores."""

    name = "verifier"
    findings = ("pleural effusion", "edema", "nodule")

    def __init__(self):
        self.auc = {"pleural effusion": 0.8, "edema": 0.7, "nodule": 0.6}


@pytest.fixture(scope="session")
def editor(tiny_model):
    return Editor.from_pretrained(tiny_model, device="cpu")


@pytest.mark.parametrize(
    ("instruction", "way"),
    [
        ("Add the finding of edema.", 1),
        ("Remove the finding of edema.", -1),
        ("Change the level of edema from mild to severe.", 1),
        ("Change the level of edema from severe to mild.", -1),
        ("Change the level of edema to mild.", 0),
    ],
)
def test_the_instruction_gives_the_direction(instruction, way):
    (edit,) = parse(instruction)
    assert direction(edit) == way
    before, after = np.array([0.5, 0.4, 0.5]), np.array([0.5, 0.6, 0.5])
    (entry,) = verify(FixedJudge(), [edit], before, after)["findings"]
    assert entry["moved_as_asked"] == {1: True, -1: False, 0: None}[way]
    assert (entry["before"], entry["after"], entry["auc"]) == (0.4, 0.6, 0.7)
    (entry,) = verify(FixedJudge(), [edit], before, before)["findings"]
    assert entry["moved_as_asked"] == (None if way == 0 else False)


def test_an_unknown_finding_is_said_to_be_unknown():
    told = verify(FixedJudge(), parse("Add the findings of scoliosis and edema."), np.zeros(3), np.ones(3))
    unknown, known = told["findings"]
    assert set(unknown) == {"operation", "finding", "note"} and "does not know scoliosis" in unknown["note"]
    assert known["moved_as_asked"] is True and json.dumps(told)


def test_preference_is_the_movement_asked_less_the_movement_of_others():
    edits = parse("Add the finding of pleural effusion. Remove the finding of edema.")
    before = np.array([0.2, 0.6, 0.5])
    after = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.5], [0.2, 0.6, 0.5], [0.1, 0.9, 0.5]])
    expected = [(0.6 + 0.5) / 2 - 0.4, (0.4 + 0.3) / 2, 0, (-0.1 - 0.3) / 2]
    np.testing.assert_allclose(preferences(FixedJudge(), edits, before, after), expected, atol=1e-12)


@pytest.mark.parametrize(
    "instruction",
    [
        "Add the finding of scoliosis.",
        "Change the level of edema to mild.",
        "Add the finding of left pleural effusion. Remove the finding of right pleural effusion.",
    ],
)
def test_what_no_score_can_tell_is_no_preference(instruction):
    assert preferences(FixedJudge(), parse(instruction), np.zeros(3), np.ones((2, 3))) is None


def test_the_report_holds_the_verifiers_scores_of_source_and_edit(editor, make_chest):
    result = editor.open(make_chest()).edit("Add the findings of edema and scoliosis.", **QUICK)
    judge = load_judge("verifier")
    scores = judge([result.source.display(), result.image.display()])[:, judge.findings.index("edema")]
    told = result.report["verification"]
    assert told["judge"] == "verifier" and "preferred_seed" not in told
    edema, scoliosis = told["findings"]
    assert [edema["before"], edema["after"]] == pytest.approx(scores.tolist(), abs=1e-4)
    assert edema["auc"] == judge.auc["edema"] and "note" in scoliosis


def test_the_sample_preferred_is_the_best_of_all(editor, make_chest):
    result = editor.open(make_chest()).edit("Add the finding of edema.", seed=5, samples=3, **QUICK)
    told = result.report["verification"]
    judge = load_judge("verifier")
    before, *after = judge([result.source.display(), *(sample.display() for sample in result.samples)])
    expected = preferences(judge, parse("Add the finding of edema."), before, np.array(after))
    assert told["preferences"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert told["preferred_seed"] == 5 + int(np.argmax(expected))
    json.dumps(result.report, allow_nan=False)


def test_judging_changes_no_pixel(editor, make_chest, monkeypatch):
    options = {"seed": 2, "samples": 2, **QUICK}
    judged = editor.open(make_chest()).edit("Add the finding of edema.", **options)
    monkeypatch.setattr(study.Study, "_verify", lambda *args: None)
    alone = editor.open(make_chest()).edit("Add the finding of edema.", **options)
    for one, other in zip(judged.samples, alone.samples, strict=True):
        assert one.pixels.tobytes() == other.pixels.tobytes()
    assert judged.mask.tobytes() == alone.mask.tobytes()


def test_the_official_profile_is_verified_as_far_as_it_is_understood(editor, make_chest):
    opened = editor.open(make_chest(64, 64))
    told = opened.edit("make it look ill", profile="official", anatomy="none", steps=1).report["verification"]
    assert told == {"judge": "verifier", "findings": []}
