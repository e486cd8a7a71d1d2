"""Plain InstructPix2Pix edits of latents, without Region-Specific Editing: what training looks at and learns from."""

from __future__ import annotations

import torch

from instructx2x.editing import sampling
from instructx2x.models import Backbone


@torch.no_grad()
def edit_everywhere(
    backbone: Backbone,
    z0: torch.Tensor,
    image_latents: torch.Tensor,
    text: str,
    noise: torch.Tensor,
    *,
    steps: int,
    text_guidance: float,
    image_guidance: float = 1.0,
) -> torch.Tensor:
    """Sample an instruction over the whole image, without a mask.

    Args:
        z0: (1, c, h, w) scaled latents of the input.
        image_latents: (1, c, h, w) its latents as condition, not scaled.
        noise: (1, c, h, w).

    Returns:
        (1, c, h, w) float32 scaled latents, on the model's device.
    """
    return sampling.sample(
        backbone.predict,
        sampling.make_scheduler("dpm++", backbone.scheduler.config),
        z0.to(backbone.device),
        image_latents.to(backbone.device),
        backbone.embed(text),
        backbone.embed(""),
        torch.ones(backbone.latent_shape[2:], dtype=torch.bool),
        noise.to(backbone.device),
        steps=steps,
        text_guidance=text_guidance,
        image_guidance=image_guidance,
    )
