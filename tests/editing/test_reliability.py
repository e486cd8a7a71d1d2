"""What a model does badly is told before, by what was measured of it."""

import pytest

from instructx2x.editing import Editor
from instructx2x.editing.reliability import announcements, reliability
from instructx2x.instructions import parse

MEASURED = {
    "reliability": {
        "add": {"nodule": {"moved": 1, "of": 3}, "edema": {"moved": 9, "of": 10}, "mass": {"moved": 0, "of": 4}},
        "remove": {"edema": {"moved": 1, "of": 12}},
    }
}


@pytest.mark.parametrize(
    ("instruction", "told"),
    [
        ("Add the finding of nodule.", ["this model rarely draws nodules convincingly (1 of 3 judged right)"]),
        ("Add the finding of mass.", ["this model never draws masses convincingly (0 of 4 judged right)"]),
        ("Remove the finding of edema.", ["this model rarely removes edema convincingly (1 of 12 judged right)"]),
        ("Add the finding of edema.", []),
        ("Add the finding of scoliosis.", []),
        ("Change the level of edema to mild.", []),
    ],
)
def test_what_is_done_badly_is_announced(instruction, told):
    assert announcements(MEASURED, parse(instruction)) == told


def test_of_several_edits_each_is_told_of_and_none_twice():
    edits = parse("Add the findings of left nodule and right nodule. Add the finding of edema.")
    assert len(announcements(MEASURED, edits)) == 1
    assert [(entry["finding"], entry["of"]) for entry in reliability(MEASURED, edits)][-1] == ("edema", 10)


@pytest.mark.parametrize("calibration", [None, {}, {"reliability": {}}])
def test_without_measurements_nothing_is_announced(calibration):
    edits = parse("Add the finding of nodule.")
    assert reliability(calibration, edits) is None and announcements(calibration, edits) == []


def test_the_report_warns_and_counts(make_tiny_model, tmp_path, make_chest):
    calibration = {"version": 1, "timesteps": {}} | MEASURED
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=calibration)).open(make_chest())
    report = opened.guidance("Add the finding of nodule.", anatomy="prior").report
    assert any("rarely draws nodules" in warning for warning in report["warnings"])
    assert report["reliability"] == [{"operation": "add", "finding": "nodule", "moved": 1, "of": 3}]
