"""A finding that is removed or changed without a side is edited where it is."""

import numpy as np
import pytest

from instructx2x.editing import Editor, placing, relevance
from instructx2x.editing.placing import CLEAR, side_of, unplaced
from instructx2x.instructions import parse

QUICK = {"anatomy": "prior", "profile": "fast"}
REMOVE = "Remove the finding of pleural effusion."


@pytest.mark.parametrize(
    ("instruction", "open_"),
    [
        (REMOVE, True),
        ("Change the level of pleural effusion from small to large.", True),
        ("Change the level of pleural effusion to large.", True),
        ("Add the finding of pleural effusion.", False),
        ("Remove the finding of left pleural effusion.", False),
        ("Remove the finding of bilateral pleural effusion.", False),
        ("Remove the finding of cardiomegaly.", False),
        ("Remove the finding of edema.", False),
    ],
)
def test_only_what_is_there_and_has_an_unnamed_side_is_looked_for(instruction, open_):
    (edit,) = parse(instruction)
    assert unplaced(edit) == open_


@pytest.mark.parametrize("weak", [0.3, 1.0, 4.0])
def test_the_side_that_has_the_finding_is_the_one_with_the_clearly_higher_balance(weak):
    for side, other in (("left", "right"), ("right", "left")):
        assert side_of({side: 1.01 * CLEAR * weak, other: weak}) == (side, True)
        near = {side: 0.99 * CLEAR * weak, other: weak}
        assert side_of(near) == (None, weak >= CLEAR), "both have it, or nobody can tell"


@pytest.fixture
def opened(make_tiny_model, tmp_path, make_chest):
    calibration = {"version": 1, "timesteps": {}, "least_balance": {"remove": 1e-9, "add": 1e-9}}
    return Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=calibration)).open(make_chest())


def test_the_edit_is_carried_out_on_the_side_found(opened, monkeypatch):
    monkeypatch.setattr(placing, "CLEAR", 1.0)
    for instruction in (REMOVE, "Change the level of pleural effusion from small to large."):
        result = opened.edit(instruction, **QUICK)
        told = result.report["instruction"]
        side = told["carried_out"][0]["side"]
        assert side in ("left", "right") and told["edits"][0]["side"] is None and told["outcomes"] == ["done"]
        named = instruction.replace("pleural", f"{side} pleural")
        assert told["given_to_model"] == named
        alone = opened.edit(named, **QUICK)
        np.testing.assert_array_equal(result.mask, alone.mask)
        half = result.mask.shape[1] // 2 - 2
        assert not (result.mask[:, :half] if side == "left" else result.mask[:, -half:]).any()
        assert (result.image.pixels == result.source.pixels)[~result.mask].all()


def test_both_sides_are_edited_with_a_warning_where_nobody_can_tell(opened, monkeypatch):
    monkeypatch.setattr(placing, "CLEAR", 1e9)
    report = opened.guidance(REMOVE, **QUICK).report
    assert any("which side" in warning for warning in report["warnings"])
    assert report["instruction"]["given_to_model"] == REMOVE
    monkeypatch.undo()
    monkeypatch.setattr(relevance, "balance", lambda *_: 5.0)
    assert not any("which side" in warning for warning in opened.guidance(REMOVE, **QUICK).report["warnings"])


@pytest.mark.parametrize("options", [{"region": "0,0,64,64"}, {"anatomy": "none"}, {"relevance": False}])
def test_who_says_where_is_followed(opened, monkeypatch, options):
    monkeypatch.setattr(placing, "CLEAR", 1.0)
    report = opened.guidance(REMOVE, **QUICK | options).report
    assert report["instruction"]["carried_out"][0]["side"] is None


def test_other_models_are_used_as_before(opened, monkeypatch):
    monkeypatch.setattr(placing, "CLEAR", 1.0)
    opened.editor.backbone.calibration = {"version": 1, "timesteps": {}}
    assert opened.guidance(REMOVE, **QUICK).report["instruction"]["given_to_model"] == REMOVE
