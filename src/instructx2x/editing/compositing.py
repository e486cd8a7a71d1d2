"""From edited latents back to the source's pixels (method section 4, rows 11 and 12)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from instructx2x.imaging.geometry import Frame, resize

# Detail is the local contrast of what a blur of BAND pixels takes away, averaged over a neighbourhood of AREA
# pixels (standard deviations of Gaussians on the model's square); contrasts below FLOOR count as no detail. BAND is
# the size of vessels, which is what a small autoencoder still draws and an opacity hides.
BAND, AREA, FLOOR = 2.5, 4.0, 1 / 510

# Devices are looked for on at most DEVICE_SIDE pixels; lengths are shares of the longer side, contrasts of the film's.
# Leads are bright lines narrower than LINE_WIDTH, straight over LINE_LENGTH, and brighter than what is around by more
# than LINE_CONTRAST, which counts in full from twice as much; vessels have less. Ports and pacemakers are bright bodies
# of BODY_LEAST to BODY_SIZE, at one of BODY_CONTRASTS, whose edge rises by BODY_EDGE a pixel of DEVICE_SIDE (the median
# along it; it counts from the first value, in full from the second). Masses and fluid have softer edges.
DEVICE_SIDE = 512
LINE_WIDTH, LINE_LENGTH, LINE_CONTRAST = 1 / 48, 1 / 16, 0.11
BODY_SIZE, BODY_LEAST, BODY_CONTRASTS, BODY_EDGE = 1 / 10, 1 / 100, (0.15, 0.3, 0.5, 0.7), (0.05, 0.08)

# Standard deviation of the Gaussian over which an image becomes brighter or darker as a whole, as a share of its side.
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
    """How surely each pixel is of a lead or another bright line that no body has: (h, w) in [0, 1], both of them."""
    near = ndimage.maximum_filter(above_surroundings(display, LINE_WIDTH), 3)
    half = max(1, round(LINE_LENGTH * max(display.shape) / 2))
    along = np.arange(-half, half + 1)
    straight = np.zeros_like(near)
    for angle in np.arange(8) * np.pi / 8:
        line = np.zeros((2 * half + 1, 2 * half + 1), bool)
        line[half + np.round(along * np.sin(angle)).astype(int), half + np.round(along * np.cos(angle)).astype(int)] = (
            True
        )
        straight = np.maximum(straight, ndimage.grey_opening(near, footprint=line))
    return np.clip(straight / LINE_CONTRAST - 1, 0, 1)


def sharp_bodies(display: np.ndarray) -> np.ndarray:
    """How surely each pixel is of a port, a pacemaker or a marker: (h, w) in [0, 1], both of them."""
    size = max(3, round(BODY_SIZE * max(display.shape)))
    least = (BODY_LEAST * max(display.shape)) ** 2
    hat = above_surroundings(display, BODY_SIZE)
    steepness = ndimage.gaussian_gradient_magnitude(display, 1.0) * max(display.shape) / DEVICE_SIDE
    sure = np.zeros_like(hat)
    low, high = BODY_EDGE
    for contrast in BODY_CONTRASTS:
        labels, _ = ndimage.label(hat > contrast)
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            wide = tuple(slice(max(span.start - 2, 0), span.stop + 2) for span in box)
            body = labels[wide] == number
            if body.sum() < least or max(span.stop - span.start for span in box) > size:
                continue
            edge = ndimage.binary_dilation(body, iterations=2) & ~ndimage.binary_erosion(body)
            certainty = np.clip((np.median(steepness[wide][edge]) - low) / (high - low), 0, 1)
            sure[wide] = np.maximum(sure[wide], certainty * body)
    return sure


def above_surroundings(image: np.ndarray, width: float) -> np.ndarray:
    """How much brighter what is narrower than a share of the longer side is than all around it: (H, W), at least 0."""
    side = max(3, round(width * max(image.shape)))
    return image - np.minimum(ndimage.grey_opening(image, size=(side, side)), image)


def keep_devices(source: np.ndarray, out: np.ndarray) -> np.ndarray:
    """An edited image with the source's leads and devices laid over it again: both (H, W) brightness in [0, 1].

    What was hidden from the model is drawn without them. Of a lead its contrast comes back, of a body its pixels.
    """
    height, width = source.shape
    scale = min(1, DEVICE_SIDE / max(height, width))
    small = resize(source, max(1, round(scale * height)), max(1, round(scale * width)))
    # Contrasts count by those of the film.
    small = small / max(np.ptp(np.percentile(small, (2, 98))), 0.2)
    missing = np.maximum(above_surroundings(source, LINE_WIDTH) - above_surroundings(out, LINE_WIDTH), 0)
    out = out + np.clip(resize(bright_lines(small), height, width), 0, 1) * missing
    bodies = ndimage.gaussian_filter(ndimage.maximum_filter(sharp_bodies(small), 7), 1.0)
    return np.clip(out + np.clip(resize(bodies, height, width), 0, 1) * (source - out), 0, 1).astype(np.float32)


def one_direction(change: np.ndarray, direction: int) -> np.ndarray:
    """A change of brightness without what goes in the other direction as a whole: (n, n) -> (n, n) float32.

    Where a density is taken away there is more air than before, and where air is, less. A model that no longer sees how
    bright the patient's lung is may fill it in too bright or too dark. Structures finer than SPREAD may go in either.

    Args:
        direction: 1 brighter, -1 darker, 0 either.
    """
    if direction == 0:
        return change
    return change - direction * np.minimum(direction * ndimage.gaussian_filter(change, SPREAD * len(change)), 0)


def composite(
    display: np.ndarray,
    edited: np.ndarray,
    reconstructed: np.ndarray,
    soft_mask: np.ndarray,
    frame: Frame,
    *,
    devices: bool = False,
    direction: int = 0,
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
        devices: keep the source's leads and devices, see `keep_devices`.
        direction: 1 or -1 where the image may only become brighter or darker over more than SPREAD, see
            `one_direction`.

    Returns:
        (H, W) float32 in [0, 1].
    """
    shown = frame.to_model(display)
    lost = shown - reconstructed
    lost = lost - ndimage.gaussian_filter(lost, BAND)
    high_band = display - frame.to_source(shown - lost)
    change = frame.to_source(one_direction(edited - reconstructed, direction))
    gain = np.clip(frame.to_source(detail_gain(edited, reconstructed)), 0, 1)
    out = np.clip(display + soft_mask * (change + (gain - 1) * high_band), 0, 1)
    out = keep_devices(display, out) if devices else out
    return np.where(soft_mask > 0, out, display).astype(np.float32)
