"""Where an edit changed an image, and how much: pure functions on arrays of brightness."""

from __future__ import annotations

import math

import numpy as np

# Brightness; half of an 8-bit step. What changes less looks the same on every display.
SEEN = 0.5 / 255


def amount(change: np.ndarray) -> float:
    """Mean absolute change of the pixels: (H, W) edited - source, in brightness -> at least 0 (minimality)."""
    return float(np.abs(change, dtype=np.float64).mean())


def changed_share(change: np.ndarray) -> float:
    """Share of the pixels whose change can be seen, in [0, 1]."""
    return float((np.abs(change) > SEEN).mean())


def inside_share(change: np.ndarray, where: np.ndarray) -> float:
    """Share of the absolute change that lies in `where`, (H, W) bool; NaN where nothing changed."""
    total = float(np.abs(change, dtype=np.float64).sum())
    return float(np.abs(change[where], dtype=np.float64).sum()) / total if total > 0 else math.nan


def changed_outside(change: np.ndarray, mask: np.ndarray) -> int:
    """Number of pixels outside a mask, (H, W) bool, that are not exactly as they were."""
    return int(np.count_nonzero(change[~mask]))


def half(shape: tuple[int, int], side: str, midline: float) -> np.ndarray:
    """(H, W) bool: the patient's "left" (the image's right) or "right" half, cut at a fraction of the width."""
    columns = np.arange(shape[1]) >= round(midline * shape[1])
    return np.broadcast_to(columns if side == "left" else ~columns, shape)


def remaining(first: np.ndarray, back: np.ndarray) -> float:
    """What is left of a change after it was taken back: 0 nothing, 1 all of it; more, where taking back did harm.

    Args:
        first: (H, W) edited - source.
        back: (H, W) taken back - source.

    Returns:
        Mean absolute change left over that first made; NaN where nothing was changed.
    """
    return amount(back) / amount(first) if amount(first) > 0 else math.nan
