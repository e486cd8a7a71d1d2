import math

import pytest

from instructx2x.editing.profiles import PROFILES, resolve
from instructx2x.errors import InputError
from instructx2x.instructions import parse

CALIBRATION = {"tau": 0.3, "text_guidance": 4.0, "image_guidance": 1.2}


def test_the_users_choice_then_the_models_then_the_papers():
    assert resolve("default", None, 1000).text_guidance == 7.5
    assert resolve("default", CALIBRATION, 1000).text_guidance == 4.0
    assert resolve("default", CALIBRATION, 1000, text_guidance=2).text_guidance == 2.0
    assert resolve("default", CALIBRATION, 1000).threshold == 0.3
    assert resolve("default", {}, 1000).image_guidance == 1.5


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Add the finding of edema.", 1.5),
        ("Add the finding of severe left pleural effusion.", 5.0),
        ("Remove the finding of edema.", 4.0),
        ("Change the level of edema to severe.", 4.0),
        ("Add the finding of nodule.", 4.0),
        ("Add the finding of edema and pleural effusion.", 5.0),
        ("Add the finding of edema. Remove the finding of nodule.", 4.0),
    ],
)
def test_the_model_may_recommend_a_guidance_for_a_finding(instruction, expected):
    """Of several edits the one that needs most decides: none comes out too weak."""
    calibration = CALIBRATION | {"text_guidance_of": {"add": {"edema": 1.5, "pleural effusion": 5.0}}}
    edits = parse(instruction)
    assert resolve("default", calibration, 1000, edits).text_guidance == expected
    assert resolve("default", calibration, 1000, edits, text_guidance=2).text_guidance == 2.0
    assert resolve("official", calibration, 1000, edits).text_guidance == 7.5
    assert resolve("default", CALIBRATION, 1000, edits).text_guidance == 4.0
    assert resolve("default", None, 1000, edits).text_guidance == 7.5


def test_official_is_the_paper_whatever_the_model_recommends():
    settings = resolve("official", CALIBRATION, 1000)
    assert (settings.text_guidance, settings.image_guidance, settings.threshold) == (7.5, 1.5, 0.1)
    assert (settings.steps, settings.scheduler, settings.anatomy) == (100, "ddim", "union")


def test_fast_is_faster_than_default():
    assert PROFILES["fast"].steps < PROFILES["default"].steps < PROFILES["official"].steps


@pytest.mark.parametrize(
    "choice",
    [
        {"steps": 0},
        {"steps": 1000},
        {"steps": 2.5},
        {"steps": True},
        {"threshold": 0},
        {"threshold": 1.01},
        {"threshold": -0.1},
        {"threshold": 1e-46},
        {"threshold": 1e-9},
        {"text_guidance": 1e20},
        {"image_guidance": -1e20},
        {"text_guidance": 10**400},
        {"text_guidance": math.nan},
        {"image_guidance": math.inf},
        {"text_guidance": "7.5"},
    ],
)
def test_values_that_cannot_be_used(choice):
    with pytest.raises(InputError, match=next(iter(choice))):
        resolve("default", None, 1000, **choice)


def test_unknown_profile_and_a_scheduler_for_official():
    with pytest.raises(InputError, match="official"):
        resolve("paper", None, 1000)
    with pytest.raises(InputError, match="DDIM"):
        resolve("official", None, 1000, scheduler="euler")
