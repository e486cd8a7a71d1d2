"""From edited latents back to the source's pixels (method section 4, rows 11 and 12)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from instructx2x.imaging.geometry import Frame

# Detail is the local contrast of what a blur of BAND pixels takes away, averaged over a neighbourhood of AREA
# pixels (standard deviations of Gaussians on the model's square); contrasts below FLOOR count as no detail. BAND is
# the size of vessels, which is what a small autoencoder still draws and an opacity hides.
BAND, AREA, FLOOR = 2.5, 4.0, 1 / 510


def detail(image: np.ndarray) -> np.ndarray:
    """Local standard deviation of an image's fine structure: (n, n) brightness -> (n, n) float32."""
    fine = image - ndimage.gaussian_filter(image, BAND)
    return np.sqrt(np.maximum(ndimage.gaussian_filter(fine * fine, AREA), 0)).astype(np.float32)


def detail_gain(edited: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """g = min(1, local detail of the edited / of the reconstructed picture).

    Args:
        edited, reconstructed: (n, n) decoded brightness, D(z_edit) and D(z_rec).

    Returns:
        (n, n) float32 in (0, 1]; 1 where the edit took no detail away.
    """
    return np.minimum(1, (detail(edited) + FLOOR) / (detail(reconstructed) + FLOOR))


def composite(
    display: np.ndarray, edited: np.ndarray, reconstructed: np.ndarray, soft_mask: np.ndarray, frame: Frame
) -> np.ndarray:
    """out = src + m * (up(D(z_edit) - D(z_rec)) + (g - 1) * src's high band).

    The difference of two decoded pictures carries the change alone: what the VAE does to every picture
    cancels. Detail that the model does not draw is not in that difference and would stay behind as a ghost
    of what was removed, so the source's own high band shrinks where the edit took detail away. That band is
    what is finer than the model's pixels, and what its VAE loses of the structures up to BAND pixels.

    Args:
        display: (H, W) the source's brightness in [0, 1].
        edited, reconstructed: (n, n) decoded brightness in [0, 1] of the edited latents and of the input's
            own.
        soft_mask: (H, W) m in [0, 1]; where it is 0, the output is `display` exactly.
        frame: how the source lies in the model's square.

    Returns:
        (H, W) float32 in [0, 1].
    """
    shown = frame.to_model(display)
    lost = shown - reconstructed
    lost = lost - ndimage.gaussian_filter(lost, BAND)
    high_band = display - frame.to_source(shown - lost)
    change = frame.to_source(edited - reconstructed)
    gain = np.clip(frame.to_source(detail_gain(edited, reconstructed)), 0, 1)
    out = np.clip(display + soft_mask * (change + (gain - 1) * high_band), 0, 1)
    return np.where(soft_mask > 0, out, display).astype(np.float32)
