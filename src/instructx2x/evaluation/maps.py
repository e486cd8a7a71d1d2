"""What a guidance map is worth: pure functions on maps, experts' boxes and what an edit changed.

A map is (H, W), finite, of any scale. A measure that is not defined for what it is given is NaN, so that a table can
count it; only what is no map, or does not fit, is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, stats

from instructx2x.errors import InputError

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels; (0, 0) is the top left corner of the top left pixel."""


def box_mask(boxes: Sequence[Box], shape: tuple[int, int]) -> np.ndarray:
    """The union of boxes: (H, W) bool, true for the pixels whose centre lies in one.

    Its mean is the `box_share` of a flat map, which any map must be compared with.

    Args:
        boxes: clipped to the frame; none give an empty union.
        shape: height and width of the frame.

    Raises:
        InputError: a box is not four finite numbers, or holds no pixel of the frame.
    """
    height, width = shape
    union = np.zeros((height, width), bool)
    for box in boxes:
        edges = np.asarray(box, np.float64)
        if edges.shape != (4,) or not np.isfinite(edges).all():
            raise InputError(f"a box is x, y, width and height in pixels, not {box!r:.100}")
        x, y, w, h = edges
        left, right = np.clip(np.ceil([x - 0.5, x + w - 0.5]), 0, width).astype(int)
        top, bottom = np.clip(np.ceil([y - 0.5, y + h - 0.5]), 0, height).astype(int)
        if left >= right or top >= bottom:
            raise InputError(f"box {x:g},{y:g},{w:g},{h:g} holds no pixel of an image of {width} x {height}")
        union[top:bottom, left:right] = True
    return union


def box_share(values: np.ndarray, boxes: Sequence[Box]) -> float:
    """Share of a map's sum that lies in the union of experts' boxes.

    Args:
        values: (H, W), nowhere negative.

    Returns:
        In [0, 1]; NaN for a map of zeros, and without boxes.

    Raises:
        InputError: see `box_mask`; or the map is not 2-D and finite, or negative somewhere.
    """
    values = _map(values)
    if (values < 0).any():
        raise InputError("a share of a map needs values of at least 0")
    inside = box_mask(boxes, values.shape)
    # Both parts are summed alike, so that a map inside the boxes scores exactly 1.
    held, missed = values[inside].sum(), values[~inside].sum()
    return float(held / (held + missed)) if held + missed > 0 and inside.any() else math.nan


def pointing_game(values: np.ndarray, boxes: Sequence[Box], *, tolerance: float = 0) -> float:
    """Whether a map's highest point hits an expert's box (Zhang et al. 2016, arXiv 1608.00507).

    A point hits that is no farther from a pixel of a box than `tolerance`, centre to centre. On natural images the
    field allows 15 pixels; a chest X-ray has no such convention, so the default allows none. Of several highest
    points, where the published game takes whichever comes first, the share that hits counts: it is what a random one
    of them would score.

    Args:
        values: (H, W).
        tolerance: in pixels of the map.

    Returns:
        In [0, 1]: 0 or 1 for a single highest point. NaN for a flat map, and without boxes. The mean over images is
        the accuracy.

    Raises:
        InputError: see `box_mask`; or the map is not 2-D and finite, or the tolerance is negative.
    """
    values = _map(values)
    if not tolerance >= 0:
        raise InputError(f"a tolerance is at least 0 pixels, not {tolerance}")
    inside = box_mask(boxes, values.shape)
    if np.ptp(values) == 0 or not inside.any():
        return math.nan
    hit = ndimage.distance_transform_edt(~inside) <= tolerance
    return float(hit[values == values.max()].mean())


def change_correlation(values: np.ndarray, change: np.ndarray, where: np.ndarray | None = None) -> float:
    """Spearman's rank correlation of a map with how much an edit changed each pixel.

    Over the whole frame it flatters: where nothing may change, both are 0, and those ties agree. `where`, such as
    the anatomy or the mask of the edit, asks whether the map is right about *where within it* the image changed.

    Args:
        values: (H, W).
        change: (H, W) edited - source; its sign does not count.
        where: (H, W) bool, the pixels to look at; all by default.

    Returns:
        In [-1, 1]; NaN where either side never varies, or fewer than two pixels are left.

    Raises:
        InputError: shapes differ, a value is not finite, or `where` is not bool.
    """
    one, other = _within(values, np.abs(_map(change)), where)
    if one.size < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(stats.spearmanr(one, other).statistic)


def map_correlation(one: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Pearson's correlation of two maps, for how stable a map is over draws of noise and paraphrases.

    Args:
        one, other: (H, W).
        where: see `change_correlation`.

    Returns:
        In [-1, 1]; NaN where either never varies, or fewer than two pixels are left.

    Raises:
        InputError: shapes differ, a value is not finite, or `where` is not bool.
    """
    one, other = _within(one, _map(other), where)
    if one.size < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice's overlap of two masks, twice the common pixels over the sum of both: in [0, 1]; 1 when both are empty.

    Args:
        one, other: (H, W) bool.

    Raises:
        InputError: shapes differ, or a mask is not bool.
    """
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype != bool or other.dtype != bool or one.shape != other.shape:
        raise InputError(
            f"masks are bool and of one shape, not {one.dtype} {one.shape} and {other.dtype} {other.shape}"
        )
    total = int(one.sum()) + int(other.sum())
    return float(2 * (one & other).sum() / total) if total else 1.0


def _map(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiub":
        raise InputError(f"a map is height x width numbers, not {values.dtype} {values.shape}")
    if not np.isfinite(values).all():
        raise InputError("a map holds a value that is not a finite number")
    return values.astype(np.float64)


def _within(one: np.ndarray, other: np.ndarray, where: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The values of two maps at the pixels to look at, flat."""
    one = _map(one)
    where = np.ones(one.shape, bool) if where is None else np.asarray(where)
    if where.dtype != bool:
        raise InputError(f"the pixels to look at are given as bool, not {where.dtype}")
    if not one.shape == other.shape == where.shape:
        raise InputError(f"maps and the pixels to look at differ in shape: {one.shape}, {other.shape}, {where.shape}")
    return one[where], other[where]
