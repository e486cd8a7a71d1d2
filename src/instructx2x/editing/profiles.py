"""Profiles: the method's settings under a name, and what an edit finally uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers import SchedulerMixin

from instructx2x.errors import InputError
from instructx2x.instructions import Edit
from instructx2x.limits import MAX_GUIDANCE, MIN_THRESHOLD

# The paper's settings (method section 2 and section 3, step 3), for models that recommend none of their own.
TEXT_GUIDANCE, IMAGE_GUIDANCE, THRESHOLD = 7.5, 1.5, 0.1


@dataclass(frozen=True)
class Profile:
    """A named way to run the method.

    Attributes:
        official: reproduce the official code, differences and all (method section 4, left column).
        scheduler: a name of `sampling.SCHEDULERS`; the official profile always runs its own DDIM.
        steps: sampling steps.
        draws: noise draws of the relevance map.
        timesteps: of the relevance map, for a model without calibration, as fractions of T.
        anatomy: what `anatomy="default"` means.
    """

    name: str
    official: bool
    scheduler: str
    steps: int
    draws: int
    timesteps: tuple[float, ...]
    anatomy: str


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("default", False, "dpm++", 18, 4, (0.7, 0.8, 0.9), "default"),
        Profile("fast", False, "dpm++", 12, 2, (0.8,), "default"),
        Profile("official", True, "ddim", 100, 1, (0.8,), "union"),
    )
}


@dataclass(frozen=True)
class Settings:
    """What one edit runs with: the user's choices, the model's recommendations, the profile, resolved."""

    profile: Profile
    anatomy: str
    scheduler: str | SchedulerMixin
    steps: int
    text_guidance: float
    image_guidance: float
    threshold: float
    relevance: bool


def resolve(
    profile: str,
    calibration: Mapping[str, Any] | None,
    train_timesteps: int,
    edits: Sequence[Edit] = (),
    *,
    anatomy: Any = "default",
    scheduler: str | SchedulerMixin | None = None,
    steps: int | None = None,
    text_guidance: float | None = None,
    image_guidance: float | None = None,
    threshold: float | None = None,
    relevance: bool = True,
) -> Settings:
    """Settle every setting: the user's choice, else the model's recommendation, else the profile's own.

    The official profile asks no calibration. For several edits at once the strongest text guidance that the model
    recommends for one of them is taken.

    Raises:
        InputError: a profile that is not known, or a value that cannot be used.
    """
    if profile not in PROFILES:
        raise InputError(f"profile {profile} is not one of {', '.join(PROFILES)}")
    chosen = PROFILES[profile]
    if chosen.official and scheduler not in (None, chosen.scheduler):
        raise InputError("the official profile always samples with DDIM: leave the scheduler out")
    if chosen.official and not relevance:
        raise InputError("the official profile always follows its relevance map: leave relevance as it is")
    recommended = {} if chosen.official or calibration is None else calibration

    steps = chosen.steps if steps is None else steps
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps < train_timesteps:
        raise InputError(f"steps must be a whole number from 1 to {train_timesteps - 1}, not {steps}")
    threshold = _number("threshold", threshold, recommended.get("tau", THRESHOLD))
    # The official code switches its mask off with a threshold of 0; ours confines every edit.
    if not (MIN_THRESHOLD <= threshold <= 1 or (chosen.official and threshold == 0)):
        raise InputError(f"threshold must be from {MIN_THRESHOLD} to 1, not {threshold:g}")
    return Settings(
        profile=chosen,
        anatomy=chosen.anatomy if anatomy == "default" else anatomy,
        scheduler=scheduler or chosen.scheduler,
        steps=steps,
        text_guidance=_guidance("text_guidance", text_guidance, _text_guidance(recommended, edits)),
        image_guidance=_guidance("image_guidance", image_guidance, recommended.get("image_guidance", IMAGE_GUIDANCE)),
        threshold=threshold,
        relevance=bool(relevance),
    )


def _text_guidance(recommended: Mapping[str, Any], edits: Sequence[Edit]) -> float:
    otherwise = recommended.get("text_guidance", TEXT_GUIDANCE)
    own = recommended.get("text_guidance_of", {})
    return max((own.get(edit.operation.value, {}).get(edit.finding, otherwise) for edit in edits), default=otherwise)


def _guidance(name: str, value: float | None, otherwise: float) -> float:
    scale = _number(name, value, otherwise)
    if abs(scale) > MAX_GUIDANCE:
        raise InputError(f"{name} must be from {-MAX_GUIDANCE:g} to {MAX_GUIDANCE:g}, not {scale:g}")
    return scale


def _number(name: str, value: float | None, otherwise: float) -> float:
    value = otherwise if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InputError(f"{name} must be a finite number, not {value}")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
