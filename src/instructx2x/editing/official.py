"""The parts of Region-Specific Editing in which the official code differs from ours, as it does them.

Everything here works on the model's square, with the image squashed to it (method section 4, left column and
"The official profile in full"). The order of sampling is `sampling.sample(..., keep="same")` and R is
`relevance.normalise_official`. z0 is the posterior's mode times the scaling factor, where their code draws a sample
without a generator: the profile has no noise but the two that it is given, so that it can be replayed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

# The noise level of the relevance map, as a fraction of T.
RELEVANCE_LEVEL = 0.8


def resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear without antialiasing, align_corners false: (H, W) -> (height, width) float32."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
    return functional.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()


def maps(pseudo_mask: np.ndarray, relevance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G on the latents' cells, and R and G on the square's pixels.

    R goes up to the pixels and M_pseudo goes down to the cells; the two masks are thresholded apart (row 11).

    Args:
        pseudo_mask: (n, n) on the model's square.
        relevance: (h, w) on the latents' cells.

    Returns:
        Three float32 maps: G (h, w), R (n, n), G (n, n).
    """
    upsampled = resize(relevance, *pseudo_mask.shape)
    return resize(pseudo_mask, *relevance.shape) * relevance, upsampled, pseudo_mask * upsampled


def composite(decoded: np.ndarray, display: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Hard composite in pixels, then the mean over the three channels.

    Args:
        decoded: (3, n, n) in [0, 1].
        display: (n, n) the input on the square.
        mask: (n, n) bool.

    Returns:
        (n, n) float32 in [0, 1].
    """
    return np.where(mask, decoded, display).mean(axis=0, dtype=np.float32)
