"""From edited latents back to the source's pixels (method section 4, rows 11 and 12)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from instructx2x.imaging.geometry import Frame, resize

# Detail is the local contrast of what a blur of BAND pixels takes away, averaged over a neighbourhood of AREA
# pixels (standard deviations of Gaussians on the model's square); contrasts below FLOOR count as no detail. BAND is
# the size of vessels, which is what a small autoencoder still draws and an opacity hides.
BAND, AREA, FLOOR = 2.5, 4.0, 1 / 510

# Leads and other devices: bright lines narrower than LINE_WIDTH, straight over LINE_LENGTH (both a share of the longer
# side), brighter than what is around by more than LINE_CONTRAST; that counts in full from twice as much. Vessels have
# less contrast, nodules and calcifications are no lines. They are looked for on LINE_SIDE pixels.
LINE_WIDTH, LINE_LENGTH, LINE_CONTRAST, LINE_SIDE = 1 / 48, 1 / 16, 0.08, 512

# Standard deviation of the Gaussian over which an image becomes brighter as a whole, as a share of its side.
SPREAD = 1 / 50


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


def bright_lines(display: np.ndarray) -> np.ndarray:
    """How surely each pixel is of a lead or another bright line that no body has.

    Args:
        display: (H, W) brightness in [0, 1].

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = display.shape
    scale = min(1, LINE_SIDE / max(height, width))
    small = resize(display, max(1, round(scale * height)), max(1, round(scale * width)))
    hat = above_surroundings(small)
    half = max(1, round(LINE_LENGTH * max(small.shape) / 2))
    straight = np.zeros_like(hat)
    for angle in np.arange(8) * np.pi / 8:
        along = np.arange(-half, half + 1)
        line = np.zeros((2 * half + 1, 2 * half + 1), bool)
        line[half + np.round(along * np.sin(angle)).astype(int), half + np.round(along * np.cos(angle)).astype(int)] = (
            True
        )
        # What is left of it by a line in this direction, and a pixel of slack for the edges between two directions.
        straight = np.maximum(straight, ndimage.grey_opening(ndimage.maximum_filter(hat, 3), footprint=line))
    sure = np.clip(np.minimum(straight, ndimage.maximum_filter(hat, 3)) / LINE_CONTRAST - 1, 0, 1)
    return np.clip(resize(sure, height, width), 0, 1)


def above_surroundings(image: np.ndarray) -> np.ndarray:
    """By how much structures narrower than LINE_WIDTH are brighter than what is around them: (H, W), at least 0."""
    side = max(3, round(LINE_WIDTH * max(image.shape)))
    return image - np.minimum(ndimage.grey_opening(image, size=(side, side)), image)


def keep_lines(source: np.ndarray, out: np.ndarray) -> np.ndarray:
    """An edited image with the source's bright lines laid over it again: both (H, W) brightness in [0, 1].

    What was hidden from the model is drawn without its leads.
    """
    missing = np.maximum(above_surroundings(source) - above_surroundings(out), 0)
    return np.clip(out + bright_lines(source) * missing, 0, 1).astype(np.float32)


def only_darker(change: np.ndarray) -> np.ndarray:
    """A change of brightness without the parts of it that make the image brighter as a whole: (n, n) -> (n, n) float32.

    Where a density is taken away there is more air than before. A model that no longer sees how bright the patient's
    lung is may fill it in too bright. Structures finer than SPREAD may come out brighter than what they replace.
    """
    return change - np.maximum(ndimage.gaussian_filter(change, SPREAD * len(change)), 0)


def composite(
    display: np.ndarray,
    edited: np.ndarray,
    reconstructed: np.ndarray,
    soft_mask: np.ndarray,
    frame: Frame,
    *,
    lines: bool = False,
    darker: bool = False,
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
        lines: keep the source's bright lines, see `keep_lines`.
        darker: leave out what would make the image brighter over more than SPREAD, see `only_darker`.

    Returns:
        (H, W) float32 in [0, 1].
    """
    shown = frame.to_model(display)
    lost = shown - reconstructed
    lost = lost - ndimage.gaussian_filter(lost, BAND)
    high_band = display - frame.to_source(shown - lost)
    change = edited - reconstructed
    change = frame.to_source(only_darker(change) if darker else change)
    gain = np.clip(frame.to_source(detail_gain(edited, reconstructed)), 0, 1)
    out = np.clip(display + soft_mask * (change + (gain - 1) * high_band), 0, 1)
    out = keep_lines(display, out) if lines else out
    return np.where(soft_mask > 0, out, display).astype(np.float32)
