"""Several seeds' edits of one image, summarised: what of an edit chance decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instructx2x.imaging.radiograph import Radiograph


def mean_and_spread(images: Sequence[Radiograph], mask: np.ndarray) -> tuple[Radiograph, np.ndarray]:
    """Mean and standard deviation of the brightness over edits of one image, in one pass.

    Args:
        images: edits that agree outside the mask.
        mask: (H, W) bool.

    Returns:
        The mean as a radiograph, in which only what chance does not decide stays sharp, equal to the edits outside
        the mask bit for bit; and the standard deviation, (H, W) float32, 0 outside the mask.
    """
    first = images[0].display()
    total, squares = np.zeros(first.shape), np.zeros(first.shape)
    for image in images[1:]:
        step = image.display().astype(np.float64) - first
        total += step
        squares += step * step
    shift = total / len(images)
    variance = squares / len(images) - shift * shift
    return images[0].with_display(first + shift, mask), np.sqrt(np.maximum(variance, 0)).astype(np.float32)
