"""Sampling inside a mask: three-branch guidance, the noised original put back outside (method section 3)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import diffusers
import torch
from diffusers import SchedulerMixin

from instructx2x.editing.relevance import Predict
from instructx2x.errors import InputError, ModelError

SCHEDULERS: dict[str, type[SchedulerMixin]] = {
    "ddim": diffusers.DDIMScheduler,
    "dpm++": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-ancestral": diffusers.EulerAncestralDiscreteScheduler,
}

# Beside the model's noise schedule and timesteps spread down to t = 0. Karras' spacing (arXiv 2206.00364, eq. 5)
# brings the two multistep solvers as near to 100 steps with 12 of them as even spacing with 18: docs/speed.md.
_SOLVERS: dict[str, dict[str, Any]] = {
    "ddim": {"set_alpha_to_one": True, "clip_sample": False},
    "dpm++": {"use_karras_sigmas": True},
    "unipc": {"use_karras_sigmas": True},
}

# The part of a scheduler's configuration that belongs to the model and not to the way of sampling from it.
_TRAINING = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)

Callback = Callable[[int, int, torch.Tensor], None]


def training_schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    """The noise schedule a model was trained with, out of its scheduler's configuration."""
    return {key: config[key] for key in _TRAINING if config.get(key) is not None}


def official_scheduler(config: Mapping[str, Any]) -> diffusers.DDIMScheduler:
    """DDIM as the official code runs it, whatever scheduler the folder holds (method section 4)."""
    return diffusers.DDIMScheduler(
        **training_schedule(config),
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )


def make_scheduler(wanted: str | SchedulerMixin, config: Mapping[str, Any]) -> SchedulerMixin:
    """A fresh scheduler on the model's noise schedule.

    Args:
        wanted: a name of `SCHEDULERS`: steps spread over the whole schedule down to an exact x0. Or any
            scheduler of diffusers' that has `add_noise`: a copy of it is used as it is.
        config: the configuration of the model's own scheduler.

    Raises:
        InputError: the scheduler is not known, or has no `add_noise`.
    """
    if isinstance(wanted, SchedulerMixin):
        if not hasattr(wanted, "add_noise"):
            raise InputError(f"{type(wanted).__name__} has no add_noise, which the kept region needs: choose another")
        return type(wanted).from_config(wanted.config)
    if wanted not in SCHEDULERS:
        raise InputError(f"scheduler {wanted} is not one of {', '.join(SCHEDULERS)}")
    solver = _SOLVERS.get(wanted, {})
    return SCHEDULERS[wanted](**training_schedule(config), timestep_spacing="trailing", **solver)


def guide(
    with_text: torch.Tensor,
    with_image: torch.Tensor,
    with_none: torch.Tensor,
    text_guidance: float,
    image_guidance: float,
) -> torch.Tensor:
    """e = e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0)) (method section 2)."""
    return with_none + image_guidance * (with_image - with_none) + text_guidance * (with_text - with_image)


def stand_ins(text_guidance: float, image_guidance: float) -> list[int]:
    """Which prediction serves as each of e(I,T), e(I,0), e(0,0), numbered 0, 1, 2, in `guide`.

    They enter with the factors s_T, s_I - s_T and 1 - s_I. One whose factor is 0 cancels, so that it need not be
    computed: its neighbour stands in for it. Every other stands for itself.
    """
    needed = [text_guidance != 0, image_guidance != text_guidance, image_guidance != 1]
    computed = [branch for branch in range(3) if needed[branch]]
    return [min(computed, key=lambda other: abs(other - branch)) for branch in range(3)]


def sample(
    predict: Predict,
    scheduler: SchedulerMixin,
    z0: torch.Tensor,
    image_latents: torch.Tensor,
    text: torch.Tensor,
    empty: torch.Tensor,
    mask: torch.Tensor,
    noise: torch.Tensor,
    *,
    steps: int,
    text_guidance: float,
    image_guidance: float,
    keep: Literal["next", "same"] = "next",
    blank: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Edit the latents of one image inside a mask.

    Starts from z0 noised to the first timestep; after every step the region outside the mask is replaced by
    z0 with the same noise at a known level. Of the three branches, those that cancel are not computed.

    Args:
        predict: the U-Net.
        scheduler: from `make_scheduler` or `official_scheduler`; its timesteps are set here.
        z0: (1, c, h, w) scaled latents of the input.
        image_latents: (1, c, h, w) its latents as condition, not scaled.
        text, empty: (1, tokens, width) embeddings.
        mask: (h, w) bool, the cells to edit.
        noise: (1, c, h, w), one draw for the start and for every replacement.
        keep: the level of the kept region after a step from t_i to t_(i+1). "next": t_(i+1), as the edited
            region has by then, and exactly z0 after the last step. "same": t_i, as the official code does
            (section 4, row 5).
        blank: (h, w) in [0, 1], for a model that heals: how much of the input's latents is hidden, in the condition
            and in the start. What is hidden is zeros. None: nothing.
        generator: for schedulers that draw noise in a step.
        callback: called after every step with (steps done, steps in all, latents).

    Returns:
        (1, c, h, w) float32 scaled latents.

    Raises:
        ModelError: the model gives numbers that are not finite.
    """
    scheduler.set_timesteps(steps, device=z0.device)
    if hasattr(scheduler, "set_begin_index"):
        # It then adds noise at the level it has come to, also where two levels round to one timestep.
        scheduler.set_begin_index(0)
    timesteps = scheduler.timesteps
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    inside = mask.to(z0.device)
    stands = stand_ins(text_guidance, image_guidance)
    computed = sorted(set(stands))
    start = z0
    if blank is not None:
        shown = 1 - blank.to(z0)
        start, image_latents = z0 * shown, image_latents * shown
    all_conditions = (image_latents, image_latents, torch.zeros_like(image_latents))
    conditions = torch.cat([all_conditions[branch] for branch in computed])
    texts = torch.cat([(text, empty, empty)[branch] for branch in computed])

    latents = scheduler.add_noise(start, noise, timesteps[:1])
    for index, timestep in enumerate(timesteps):
        shown = scheduler.scale_model_input(latents, timestep)
        branches = predict(shown.expand(len(computed), -1, -1, -1), timestep, conditions, texts).split(1)
        prediction = guide(*(branches[computed.index(branch)] for branch in stands), text_guidance, image_guidance)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **extra)[0]
        if keep == "same":
            kept = scheduler.add_noise(z0, noise, timesteps[index : index + 1])
        elif index + 1 < len(timesteps):
            kept = scheduler.add_noise(z0, noise, timesteps[index + 1 : index + 2])
        else:
            kept = z0
        latents = torch.where(inside, latents, kept)
        if callback is not None:
            callback(index + 1, len(timesteps), latents)
    if not torch.isfinite(latents).all():
        raise ModelError("the model gave numbers that are not finite: let it compute in float32")
    return latents
