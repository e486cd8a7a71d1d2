import math

import pytest

from instructx2x.editing.profiles import PROFILES, resolve
from instructx2x.errors import InputError

CALIBRATION = {"tau": 0.3, "text_guidance": 4.0, "image_guidance": 1.2}


def test_the_users_choice_then_the_models_then_the_papers():
    assert resolve("default", None, 1000).text_guidance == 7.5
    assert resolve("default", CALIBRATION, 1000).text_guidance == 4.0
    assert resolve("default", CALIBRATION, 1000, text_guidance=2).text_guidance == 2.0
    assert resolve("default", CALIBRATION, 1000).threshold == 0.3
    assert resolve("default", {}, 1000).image_guidance == 1.5


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
