"""Pictures for people: the guidance map on the input, and input and edit side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from instructx2x import NOTICE
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.writing import eight_bit

# Height of a title above panels and of the notice below, and the black between panels, in pixels.
TITLE, GAP = 24, 8

# Longest side of a picture, in pixels. The full resolution is in the maps and the edited file.
OVERLAY_SIDE, PANEL_SIDE = 2048, 640

RED, BLUE = np.array([1.0, 0.1, 0.1], np.float32), np.array([0.35, 0.6, 1.0], np.float32)


def _fit(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _outline(region: np.ndarray) -> np.ndarray:
    return region & ~ndimage.binary_erosion(region, border_value=1)


def overlay(display: np.ndarray, guidance: np.ndarray, mask: np.ndarray, pseudo_mask: np.ndarray) -> np.ndarray:
    """The guidance map as a red veil on the input.

    The input keeps its own brightness. The guidance is drawn on its own scale, 0 to 1, so that two pictures
    can be compared. Outlines show the mask (red) and where the pseudo mask lets the paper's
    threshold of 0.1 be reached at all (blue), so that a picture where nothing is to be edited still says
    where it looked.

    Args:
        display: (H, W) brightness in [0, 1].
        guidance, pseudo_mask: (H, W) in [0, 1].
        mask: (H, W) bool.

    Returns:
        (h, w, 3) uint8, shrunk to a longest side of OVERLAY_SIDE pixels.
    """
    height, width = _fit(*display.shape, OVERLAY_SIDE)
    gray, veil, region, allowed = (
        resize(array, height, width)[..., None] for array in (display, guidance, mask, pseudo_mask)
    )
    veil = 0.7 * np.clip(veil, 0, 1)
    picture = np.clip(gray, 0, 1) * (1 - veil) + RED * veil
    picture[_outline(allowed[..., 0] >= 0.1)] = BLUE
    picture[_outline(region[..., 0] >= 0.5)] = RED
    return eight_bit(picture)


def difference(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float]:
    """Signed change: brighter is red, darker is blue, unchanged is black.

    Args:
        before, after: (H, W) brightness in [0, 1].

    Returns:
        (H, W, 3) float32 in [0, 1], and the change that has full colour: the largest, but at least 0.05.
    """
    change = after - before
    scale = max(float(np.abs(change).max()), 0.05)
    strength = (np.abs(change) / scale)[..., None]
    return np.where(change[..., None] > 0, RED, BLUE) * strength, scale


def comparison(before: np.ndarray, after: np.ndarray, guidance: np.ndarray) -> np.ndarray:
    """Four titled panels in a row: input, edited, difference, guidance map.

    Args:
        before, after: (H, W) brightness in [0, 1].
        guidance: (h, w, 3) uint8 from `overlay`.

    Returns:
        (rows, columns, 3) uint8; the notice that the picture is synthetic is part of it.
    """
    height, width = _fit(*before.shape, PANEL_SIDE)
    before, after = resize(before, height, width), resize(after, height, width)
    change, scale = difference(before, after)
    return _sheet(
        (
            ("input", eight_bit(np.repeat(before[..., None], 3, axis=2))),
            ("edited", eight_bit(np.repeat(after[..., None], 3, axis=2))),
            (f"difference (red +, blue -, full {scale:.2f})", eight_bit(change)),
            ("guidance map", np.asarray(Image.fromarray(guidance).resize((width, height), Image.Resampling.BOX))),
        )
    )


def seeds(before: np.ndarray, mean: np.ndarray, spread: np.ndarray, frequency: np.ndarray, count: int) -> np.ndarray:
    """Four titled panels in a row: mean edit, mean difference, spread, how often each pixel is in the mask.

    Args:
        before, mean: (H, W) brightness in [0, 1] of the input and of the mean of `count` edits.
        spread: (H, W) standard deviation of their brightness.
        frequency: (H, W) in [0, 1].

    Returns:
        (rows, columns, 3) uint8, with the notice as in `comparison`.
    """
    height, width = _fit(*before.shape, PANEL_SIDE)
    before, mean, spread, frequency = (resize(array, height, width) for array in (before, mean, spread, frequency))
    change, scale = difference(before, mean)
    full = max(float(spread.max()), 0.05)
    return _sheet(
        (
            (f"mean of {count} seeds", eight_bit(np.repeat(mean[..., None], 3, axis=2))),
            (f"difference (red +, blue -, full {scale:.2f})", eight_bit(change)),
            (f"spread (white {full:.2f})", eight_bit(np.repeat(spread[..., None] / full, 3, axis=2))),
            ("in the mask (white: always)", eight_bit(np.repeat(frequency[..., None], 3, axis=2))),
        )
    )


def _sheet(panels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Titled panels of one size in a row, over the notice that the picture is synthetic."""
    height, width = panels[0][1].shape[:2]
    # The titles need some room even where the image is narrow.
    font, column = ImageFont.load_default(14), max(width, 240)
    sheet = Image.new("RGB", (len(panels) * (column + GAP) + GAP, height + 2 * TITLE + GAP))
    draw = ImageDraw.Draw(sheet)
    for number, (name, panel) in enumerate(panels):
        left = GAP + number * (column + GAP)
        draw.text((left, 4), name, fill="white", font=font)
        sheet.paste(Image.fromarray(panel), (left + (column - width) // 2, TITLE))
    draw.text((GAP, height + TITLE + 8), NOTICE, fill=(255, 190, 60), font=font)
    return np.asarray(sheet)


def panels(sheet: np.ndarray) -> list[np.ndarray]:
    """Take `comparison` or `seeds` apart: (rows, columns, 3) -> its four panels, without titles, (h, w, 3) each."""
    column = (sheet.shape[1] - GAP) // 4 - GAP
    rows = slice(TITLE, sheet.shape[0] - TITLE - GAP)
    return [sheet[rows, left : left + column] for left in range(GAP, 4 * (column + GAP), column + GAP)]
