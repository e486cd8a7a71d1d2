"""Chests of known shape: two lungs, and a picture in which they are dark and the heart is not."""

import numpy as np

from instructx2x.anatomy.lungs import Lungs


def ellipse(shape, row, column, half_height, half_width):
    """Signed: above 0 inside, 1 in the middle; all fractions of the picture."""
    height, width = shape
    y, x = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None]
    return 1 - np.hypot((y - row) / half_height, (x - column) / half_width)


def make_lungs(shape=(240, 200), shift=0.03):
    """Two soft ellipses, a little to the image's right."""
    sides = (np.clip(ellipse(shape, 0.47, centre + shift, 0.33, 0.15) * 20 + 0.5, 0, 1) for centre in (0.30, 0.70))
    return Lungs(*(side.astype(np.float32) for side in sides), True)


def make_heart(shape=(240, 200), shift=0.03, row=0.60, column=0.53, half_height=0.15, half_width=0.13):
    """(H, W) bool."""
    return ellipse(shape, row, column + shift, half_height, half_width) > 0


def make_display(lungs, heart, air=0.3, tissue=0.8, noise=0.02, seed=0):
    """Brightness, (H, W) float32: tissue but for the lungs, which the heart hides where it lies before them."""
    dark = lungs.both * ~heart
    grain = np.random.default_rng(seed).normal(0, noise, heart.shape)
    return np.clip(tissue + (air - tissue) * dark + grain, 0, 1).astype(np.float32)
