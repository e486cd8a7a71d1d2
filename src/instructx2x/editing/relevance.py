"""The relevance map R: where the instruction makes the model want something else (method section 3, step 1).

A difference map D compares what the U-Net predicts with and without the instruction, on the input's own
latents noised to one timestep. It becomes R in [0, 1] in one of three ways: as the official code does
(`normalise_official`), on the model's calibrated scale (`normalise_calibrated`), or inside the anatomy
(`normalise_inside`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage

from instructx2x.errors import ModelError

# e(noisy, timesteps, image_latents, text) for a batch: see `Backbone.predict`.
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# Holes in the relevance of what is taken away are closed up to this share of the latents' side.
HOLE = 7 / 32

# Latents the U-Net sees at once. Fixed, because the last bits of a prediction can depend on the batch's size.
BATCH = 16


def add_noise(
    alphas_cumprod: torch.Tensor, z0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Noise clean latents to training timesteps: sqrt(abar_t) z0 + sqrt(1 - abar_t) noise.

    Args:
        alphas_cumprod: (T,) abar of the model's training schedule.
        z0, noise: (n, c, h, w), or broadcastable to it.
        timesteps: (n,) integers in 0..T-1.
    """
    abar = alphas_cumprod.to(z0)[timesteps.to(z0.device)].view(-1, 1, 1, 1)
    return abar.sqrt() * z0 + (1 - abar).sqrt() * noise


def differences(
    predict: Predict,
    alphas_cumprod: torch.Tensor,
    z0: torch.Tensor,
    image_latents: torch.Tensor,
    texts: Sequence[torch.Tensor],
    empty: torch.Tensor,
    noise: torch.Tensor,
    timesteps: Sequence[int],
) -> np.ndarray:
    """D = sum over channels of |e(I,T) - e(I,0)|, for every text, noise draw and timestep.

    Only e(I,0) and each e(I,T) are computed; e(0,0) does not enter D.

    Args:
        predict: the U-Net.
        alphas_cumprod: (T,) abar of the training schedule.
        z0: (1, c, h, w) scaled latents of the input.
        image_latents: (1, c, h, w) its latents as condition, not scaled.
        texts: embeddings of instructions, (1, tokens, width) each.
        empty: (1, tokens, width) embedding of the empty text.
        noise: (draws, c, h, w); each draw serves every text and timestep.
        timesteps: training timesteps.

    Returns:
        (texts, draws, timesteps, h, w) float32, >= 0, in units of predicted noise.

    Raises:
        ModelError: the model gives numbers that are not finite.
    """
    draws, _, height, width = noise.shape
    count = draws * len(timesteps)
    each = torch.tensor(timesteps, device=z0.device).repeat(draws)
    noisy = add_noise(alphas_cumprod, z0, noise.repeat_interleave(len(timesteps), dim=0), each)
    branches = [*texts, empty]
    maps = []
    for some in torch.arange(count, device=z0.device).split(max(1, BATCH // len(branches))):
        n = len(some)
        *asked, unasked = predict(
            noisy[some].repeat(len(branches), 1, 1, 1),
            each[some].repeat(len(branches)),
            image_latents.expand(len(branches) * n, -1, -1, -1),
            torch.cat([text.expand(n, -1, -1) for text in branches]),
        ).split(n)
        maps.append(torch.stack([(branch - unasked).abs().sum(dim=1) for branch in asked]))
    found = torch.cat(maps, dim=1).view(len(texts), draws, len(timesteps), height, width).cpu().numpy()
    if not np.isfinite(found).all():
        raise ModelError("the model gave numbers that are not finite: load it with dtype float32")
    return found


def balance(asked: np.ndarray, contrary: np.ndarray, where: np.ndarray) -> float:
    """How much more the model would change for what is asked than for its opposite, within the anatomy.

    The mean of D of an instruction over that of the instruction that would undo it. How strongly a model reacts to a
    finding and to an image is in both and cancels; what remains is whether the finding is there. Around 1 it can
    not tell; far below, what is asked holds already.

    Args:
        asked, contrary: (draws, timesteps, h, w), D of the two.
        where: (h, w) bool, the cells that the pseudo mask allows.

    Returns:
        0 or more; 1 where there is no cell or nothing differs at all.
    """
    above, below = (float(d.mean(axis=(0, 1), dtype=np.float64)[where].sum()) for d in (asked, contrary))
    return above / below if below > 0 else 1.0


def _upper_limit(values: np.ndarray) -> float:
    """Q3 + 1.5 IQR, quartiles by midpoint: what lies above is an outlier."""
    q1, q3 = np.percentile(values, (25, 75), method="midpoint")
    return q3 + 1.5 * (q3 - q1)


def _min_max(values: np.ndarray) -> np.ndarray:
    """To [0, 1]; a flat input has no relevance anywhere and becomes zeros."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def normalise_official(difference: np.ndarray) -> np.ndarray:
    """R of the paper: D clipped to [0, Q3 + 1.5 IQR] and stretched to [0, 1] over the whole image.

    Where the official code divides zero by zero (a flat D gives NaN everywhere), this gives zeros.

    Args:
        difference: (h, w), >= 0.

    Returns:
        (h, w) float32 in [0, 1], with a 1 somewhere unless D is flat.
    """
    return _min_max(np.clip(difference, 0, _upper_limit(difference))).astype(np.float32)


def normalise_calibrated(
    differences: np.ndarray, null_p99: Sequence[float], inside_median: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """R on the model's own scale: clip((D - null_p99) / (inside_median - null_p99), 0, 1), averaged.

    The scale is absolute, so an instruction with nothing to do gives a map of (nearly) zeros.

    Args:
        differences: (draws, timesteps, h, w).
        null_p99, inside_median: one number per timestep, from calibration.json.

    Returns:
        R, the mean over draws and timesteps, and its spread, the standard deviation across draws of each
        draw's mean over timesteps: both (h, w) float32 in [0, 1].
    """
    null = np.asarray(null_p99, np.float32)[:, None, None]
    inside = np.asarray(inside_median, np.float32)[:, None, None]
    per_draw = np.clip((differences - null) / (inside - null), 0, 1).mean(axis=1)
    return per_draw.mean(axis=0, dtype=np.float32), per_draw.std(axis=0, dtype=np.float32)


def normalise_inside(differences: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R without a calibration: clip outliers and stretch to [0, 1] among the cells of the anatomy alone.

    Relative, like the paper's: the most relevant cell of the anatomy always gets 1.

    Args:
        differences: (draws, timesteps, h, w).
        where: (h, w) bool, the cells the pseudo mask allows.

    Returns:
        R and its spread across draws, (h, w) float32 in [0, 1], zero outside `where`.
    """
    relevance = np.zeros(where.shape, np.float32)
    spread = np.zeros(where.shape, np.float32)
    if where.any():
        per_draw = differences.mean(axis=1)[:, where]
        mean = per_draw.mean(axis=0)
        clipped = np.clip(mean, 0, _upper_limit(mean))
        relevance[where] = _min_max(clipped)
        step = clipped.max() - clipped.min()
        if step > 0:
            spread[where] = np.clip(per_draw.std(axis=0) / step, 0, 1)
    return relevance, spread


def close_holes(relevance: np.ndarray) -> np.ndarray:
    """R without the holes in it: (h, w) in [0, 1] -> (h, w) float32, nowhere lower than before.

    In the depth of a large opacity a model sees little that it would change, although all of it should go.
    """
    radius = HOLE * len(relevance) / 2
    reach = np.arange(-int(radius), int(radius) + 1)
    disc = np.hypot(*np.meshgrid(reach, reach)) <= radius
    return np.maximum(ndimage.grey_closing(relevance, footprint=disc), relevance).astype(np.float32)
