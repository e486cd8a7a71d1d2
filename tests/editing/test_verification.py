"""Verification: what was asked is told apart from what was not, and judging changes nothing."""

import json

import numpy as np
import pytest

from instructx2x.editing import Editor, study
from instructx2x.editing.verification import direction, locate, preferences, verify
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


NOISE = {"add": {"pleural effusion": 0.5}, "remove": {"pleural effusion": 0.2}}


def _scores(odds):
    """Scores of FixedJudge's findings with the effusion's log-odds."""
    return np.array([1 / (1 + np.exp(-odds)), 0.5, 0.5])


@pytest.mark.parametrize(
    ("instruction", "movement", "verdict"),
    [
        ("Add the finding of pleural effusion.", 0.6, "moved"),
        ("Add the finding of pleural effusion.", 0.4, "did not move"),
        ("Add the finding of pleural effusion.", -0.6, "did not move"),
        ("Add the finding of pleural effusion.", 0, "did not move"),
        ("Remove the finding of pleural effusion.", -0.3, "moved"),
        ("Remove the finding of pleural effusion.", -0.1, "did not move"),
        ("Remove the finding of pleural effusion.", 0.3, "did not move"),
        ("Change the level of pleural effusion from small to large.", 0.4, "did not move"),
        ("Change the level of pleural effusion from large to small.", -0.4, "moved"),
        ("Change the level of pleural effusion to large.", 3, "cannot tell"),
        ("Add the finding of left pleural effusion. Remove the finding of right pleural effusion.", 3, "cannot tell"),
    ],
)
@pytest.mark.parametrize("start", [-4.0, 0.0, 2.0])
def test_only_what_is_beyond_the_judges_own_noise_has_moved(instruction, movement, verdict, start):
    told = verify(FixedJudge(), parse(instruction), _scores(start), _scores(start + movement), NOISE)
    for entry in told["findings"]:
        assert entry["verdict"] == verdict and (entry["auc"], json.dumps(entry)) == (0.8, json.dumps(entry))
        assert ("why" in entry) == (verdict == "cannot tell")
        if verdict != "cannot tell":
            assert abs(entry["movement"]) == pytest.approx(abs(movement), abs=1e-3)


@pytest.mark.parametrize("noise", [None, {}, {"add": {}}, {"add": None}, {"remove": {"pleural effusion": 0.1}}])
def test_without_a_noise_nothing_can_be_told(noise):
    (entry,) = verify(FixedJudge(), parse("Add the finding of pleural effusion."), _scores(0), _scores(3), noise)[
        "findings"
    ]
    assert entry["verdict"] == "cannot tell" and "not measured" in entry["why"] and entry["movement"] == 3


@pytest.mark.parametrize("finding", ["edema", "nodule"])
@pytest.mark.parametrize("auc", [None, 0.7499])
def test_a_judge_that_tells_a_finding_badly_cannot_tell(finding, auc):
    judge = FixedJudge()
    judge.auc = {} if auc is None else {finding: auc}
    noise = {"add": {finding: 0.0}}
    (entry,) = verify(judge, parse(f"Add the finding of {finding}."), np.full(3, 0.1), np.full(3, 0.9), noise)[
        "findings"
    ]
    assert entry["verdict"] == "cannot tell" and "AUC" in entry["why"] and entry["before"] == 0.1
    judge.auc = {finding: 0.75}
    (entry,) = verify(judge, parse(f"Add the finding of {finding}."), np.full(3, 0.1), np.full(3, 0.9), noise)[
        "findings"
    ]
    assert entry["verdict"] == "moved"


def test_where_the_change_lies():
    (edit,) = parse("Add the finding of left pleural effusion.")
    change, anatomy = np.zeros((4, 8), np.float32), np.zeros((4, 8), bool)
    assert locate(edit, change, anatomy, 0.5) == {"in_anatomy": None, "on_side": None}, "nothing changed"
    change[0, 7], change[0, 0], anatomy[:, 6:] = 0.3, -0.1, True
    assert locate(edit, change, anatomy, 0.5) == {"in_anatomy": 0.75, "on_side": 0.75}
    (both,) = parse("Add the finding of bilateral pleural effusion.")
    assert locate(both, change, None, 0.5) == {"in_anatomy": None, "on_side": None}


def test_an_unknown_finding_is_said_to_be_unknown():
    edits = parse("Add the findings of scoliosis and pleural effusion.")
    unknown, known = verify(FixedJudge(), edits, np.full(3, 0.1), np.full(3, 0.9), NOISE)["findings"]
    assert set(unknown) == {"operation", "finding", "verdict", "why"} and "does not know scoliosis" in unknown["why"]
    assert unknown["verdict"] == "cannot tell" and known["verdict"] == "moved"


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
    assert edema["auc"] == judge.auc["edema"] and "does not know" in scoliosis["why"]
    # The pseudo mask of both was followed, so that no change lies outside; the tiny model has no measured noise.
    assert 0 < edema["in_anatomy"] <= 1 and edema["on_side"] is None and edema["verdict"] == "cannot tell"


def test_the_verdict_follows_the_noise_of_the_model(make_tiny_model, tmp_path, make_chest):
    quiet = {"version": 1, "timesteps": {}, "verifier_noise": {"add": {"edema": 0.0}, "remove": {"edema": 30.0}}}
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=quiet)).open(make_chest())
    (added,) = opened.edit("Add the finding of edema.", **QUICK).report["verification"]["findings"]
    assert added["noise"] == 0 and added["verdict"] == ("moved" if added["movement"] > 0 else "did not move")
    (removed,) = opened.edit("Remove the finding of edema.", **QUICK).report["verification"]["findings"]
    assert removed["noise"] == 30 and removed["verdict"] == "did not move"


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
