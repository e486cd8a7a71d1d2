"""Back-translation: what the model itself adds to normal X-rays, to be taken out again.

A painter's lesions have a painter's edges and textures, and a model can learn to undo those alone. What it draws itself
has other ones, and the X-ray without it is known here too. After Sennrich et al. (arXiv 1511.06709), where a
translator's own output becomes its input in the other direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from instructx2x.instructions import Operation, render
from instructx2x.models import Backbone
from instructx2x.progress import track
from instructx2x.training.pairs import Pair
from instructx2x.training.plain import edit_everywhere
from instructx2x.training.samples import Sampler, changed, name

# Few steps and several strengths: what is to be removed later was not all made by the recommended settings.
STEPS = 10
TEXT_GUIDANCE = (1.0, 2.5)
# An addition that changes less of the image than this has not come about.
LEAST = 0.004


def add_to_normals(backbone: Backbone, sampler: Sampler, count: int, *, seed: int = 0) -> dict[str, Any]:
    """Add what lesions of the bank are called to normal X-rays of its split.

    Args:
        backbone: the model as it is.
        sampler: gives normals and words.
        count: additions that are tried; those that hardly change the image are left out.

    Returns:
        What `additions_of` reads, made of tensors, numbers and words alone.
    """
    rng = np.random.default_rng(seed)
    latents, pairs = [], []
    for number in track(range(count), "back-translation"):
        row = int(rng.choice(sampler.normals))
        lesions = sampler.pick("painted", rng).lesions
        clean = sampler.bank.clean[row].float()
        edited = edit_everywhere(
            backbone,
            clean[None],
            clean[None] / backbone.vae.config.scaling_factor,
            render(name(lesions, Operation.ADD, rng)),
            torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(seed + number)),
            steps=STEPS,
            text_guidance=float(rng.uniform(*TEXT_GUIDANCE)),
        )[0].cpu()
        if changed(clean, edited).float().mean() >= LEAST:
            pairs.append(asdict(Pair(row, "back", lesions, [], len(latents), -1)))
            latents.append(edited.half())
    nothing = torch.zeros((0, *backbone.latent_shape[1:]), dtype=torch.float16)
    return {"latents": torch.stack(latents) if latents else nothing, "pairs": pairs}


def additions_of(made: Mapping[str, Any]) -> tuple[torch.Tensor, list[Pair]]:
    """(n, 4, s, s) float16 scaled latents of additions, and their pairs of kind "back" with places among these."""
    return made["latents"], [Pair.read(record) for record in made["pairs"]]
