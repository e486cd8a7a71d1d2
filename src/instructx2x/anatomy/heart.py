"""Where the patient's heart is: the opaque part between hila and diaphragm, within and between the lungs.

The lungs' masks (lungs.py) include what lies behind the heart, so the heart is looked for inside them: in every row,
outwards from the midline, the tissue that ends where this patient's aerated lung begins. One border a side runs down
all rows and is found at once, so that ribs, vessels and noise of single rows do not draw it away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from instructx2x.anatomy.frames import LungFrame, lung_frame
from instructx2x.anatomy.lungs import Lungs
from instructx2x.imaging.geometry import resize

# The heart is looked for on a square grid over the image, whatever its size.
SIZE = 256
BLUR = 1.2  # cells: the vessels' texture

# Where brightness is measured and the heart is looked for, in lung coordinates (frames.py): aerated lung in the outer
# half of the lungs, tissue without air between them, and the heart from the lower hila down to the diaphragm.
LATERAL, LATERAL_HEIGHT = (0.45, 0.90), (0.30, 0.85)
MEDIAL, MEDIAL_HEIGHT = 0.12, (0.55, 0.85)
TOP = 0.40
BASE = 0.62  # the medial ends of the diaphragm lie below this height
CONTRAST = 0.04  # between lung and tissue, in units of the display; below it there is no border to find
HAZE = 0.35  # how much of that contrast one lung may lie above the other before its level is no longer its own

# The border's cost, in cells of tissue or air on the wrong side of it: what a full edge is worth, how steep the border
# may run (columns a row), and what a bend costs.
EDGE, EDGE_REACH = 3.0, 3
STEEPEST = 2
BEND = 0.3

# Shape: what is thinner than this share of the lungs' width is no heart (the dome's rim below, vessels above).
THIN = 0.055
RIM = 2.5  # cells, standard deviation of the soft edge

# What a heart can be: cardiothoracic ratios, shares of the lungs' box, and the share of rows in which its border may
# lie at the lung's outer edge (an opaque lung has no border to show).
RATIO = (0.30, 0.80)
AREA = (0.06, 0.45)
AT_WALL, LEAK = 0.93, 0.30


@dataclass(frozen=True)
class Heart:
    """The heart of one image, at the image's size.

    Attributes:
        mask: (H, W) float32 in [0, 1], soft; all 0 where nothing was found.
        plausible: whether it looks like a heart. When False, the mask is not to be relied on.
        reason: why not, in one line; empty when plausible.
    """

    mask: np.ndarray
    plausible: bool
    reason: str = ""


def find_heart(display: np.ndarray, lungs: Lungs) -> Heart:
    """Find the heart of a frontal chest X-ray.

    Deterministic. Nothing is assumed about the side to which the heart points.

    Args:
        display: (H, W) brightness in [0, 1], 0 black. Values that are not finite count as black.
        lungs: of the same image.

    Returns:
        The soft mask at (H, W), with a verdict. Nothing raises: without plausible lungs, or where lung and heart are
        equally bright, the answer is implausible.
    """
    nothing = np.zeros(display.shape, np.float32)
    if not lungs.plausible:
        return Heart(nothing, False, f"lungs not found: {lungs.reason}")
    frame = lung_frame(lungs)
    image = resize(np.nan_to_num(display, nan=0.0, posinf=1.0, neginf=0.0), SIZE, SIZE)
    image = ndimage.gaussian_filter(image.astype(np.float64), BLUR)
    sides = [resize(side, SIZE, SIZE) >= 0.5 for side in (lungs.right, lungs.left)]
    air, tissue = levels(image, sides, frame)
    if tissue - min(air) < CONTRAST:
        return Heart(nothing, False, "lungs and heart are equally bright")
    floor = diaphragm(sides, frame)
    middle = round(frame.midline * SIZE)
    top = round(float(frame.y(TOP)) * SIZE)
    rows = slice(top, max(top + 2, int(floor.max()) + 1))
    solid, leaking = np.zeros((SIZE, SIZE), bool), []
    columns = np.arange(SIZE)
    for name, lung, aerated, outward in zip(("right", "left"), sides, air, (-1, 1), strict=True):
        # Both sides are seen from the midline outwards.
        own = slice(middle, None, outward)
        half, above = (tissue - aerated) / 2, np.arange(SIZE)[rows, None] <= floor[own]
        votes = np.clip((image[rows, own] - aerated - half) / half, -1, 1) * above
        wall = np.where(lung.any(1), np.abs((columns - middle) * lung).max(1), SIZE)[rows]
        border = trace(votes, wall)
        solid[rows, own] |= np.arange(votes.shape[1]) <= border[:, None]
        shown = above[np.arange(len(border)), border]
        if (border >= AT_WALL * wall)[shown].sum() > LEAK * max(1, shown.sum()):
            leaking.append(name)
    solid &= np.arange(SIZE)[:, None] <= floor
    solid = _largest(_opened(solid, THIN * (frame.left - frame.right) * SIZE))
    mask = np.clip(resize(ndimage.gaussian_filter(solid.astype(np.float32), RIM), *display.shape), 0, 1)
    reason = _implausibility(solid, frame, leaking)
    return Heart(mask, reason == "", reason)


def cardiothoracic_ratio(heart: np.ndarray, lungs: Lungs) -> float:
    """Width of the heart over the inner width of the chest, both at their widest: about 0.5 at most in healthy adults
    on PA views.

    Args:
        heart: (H, W) in [0, 1].
        lungs: plausible lungs of the same image.
    """
    frame = lung_frame(lungs)
    return _width(heart >= 0.5) / (frame.left - frame.right)


def enlarged(heart: np.ndarray, factor: float) -> np.ndarray:
    """The outline of a heart that has grown: rounder, and wider by a factor about the middle of its width.

    Args:
        heart: (H, W) bool, the outline, filled.
        factor: of its width, at least 1; what leaves the picture is lost.

    Returns:
        (H, W) bool; the heart itself lies inside.
    """
    cells = np.argwhere(heart)
    if not len(cells) or not np.ptp(cells, axis=0).all():
        return heart
    middle = (cells[:, 1].min() + cells[:, 1].max()) / 2
    stretched = np.stack([cells[:, 0], middle + (cells[:, 1] - middle) * factor], axis=1)
    # Large hearts are round: the convex hull, as the half planes of its edges.
    rows, columns = np.indices(heart.shape)
    inside = np.ones(heart.shape, bool)
    for down, across, offset in ConvexHull(np.concatenate([cells, stretched])).equations:
        inside &= down * rows + across * columns + offset <= 1e-9
    return inside


def levels(image: np.ndarray, sides: list[np.ndarray], frame: LungFrame) -> tuple[list[float], float]:
    """Brightness of this patient's aerated lung and of tissue without air.

    Medians, so that ribs, vessels and tubes hardly count. A lung much brighter than the other is diseased, not
    aerated: what is taken for its air is at most HAZE of the contrast above the other's.

    Args:
        image: (S, S) brightness.
        sides: the right and the left lung, (S, S) bool each.
        frame: of these lungs.

    Returns:
        Right and left lung's level, and tissue's.
    """
    u, v = frame.grid(image.shape)
    across, down = np.broadcast_arrays(np.abs(u), v)
    lateral = _between(across, LATERAL) & _between(down, LATERAL_HEIGHT)
    medians = [float(np.median(image[lateral & side])) if (lateral & side).any() else np.inf for side in sides]
    tissue = float(np.median(image[(across < MEDIAL) & _between(down, MEDIAL_HEIGHT)]))
    clear = min(medians)
    return [min(median, clear + HAZE * max(tissue - clear, 0)) for median in medians], tissue


def diaphragm(sides: list[np.ndarray], frame: LungFrame) -> np.ndarray:
    """The lowest row of the chest in each column: the lungs' lower edge, and a line between its medial ends.

    Args:
        sides: the right and the left lung, (S, S) bool each.
        frame: of these lungs.

    Returns:
        (S,) float64 rows; -1 beside the lungs.
    """
    size = sides[0].shape[0]
    base = float(frame.y(BASE)) * size
    columns, lowest = [], []
    for side, inwards in zip(sides, (-1, 1), strict=True):
        low = np.where(side.any(0), size - 1 - np.argmax(side[::-1], axis=0), -1)
        own = np.flatnonzero(low >= base)
        if not own.size:
            continue
        # The inner edge leans: columns beyond its lowest corner end higher up, at the mediastinum.
        medial = own[::inwards][: max(1, own.size // 4)]
        corner = medial[np.argmax(low[medial])]
        kept = own[own <= corner] if inwards < 0 else own[own >= corner]
        columns.append(kept)
        lowest.append(low[kept])
    floor = np.full(size, -1.0)
    if columns:
        known, rows = np.concatenate(columns), np.concatenate(lowest)
        reach = np.arange(known[0], known[-1] + 1)
        floor[reach] = np.interp(reach, known, rows)
    return floor


def trace(votes: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """The border of one side that parts tissue from air best, over all rows at once (dynamic programming).

    It maximises the votes inside plus EDGE for a full step from tissue to air at the border, less BEND times the square
    of each row's step aside.

    Args:
        votes: (n, m) in [-1, 1], from the midline outwards: 1 tissue, -1 air, 0 what counts for neither.
        wall: (n,) where the lung ends in each row; the border does not pass it.

    Returns:
        (n,) int: the border's cell in each row.
    """
    count, width = votes.shape
    padded = np.pad(votes, ((0, 0), (EDGE_REACH, EDGE_REACH)), mode="edge")
    step = (padded[:, : -2 * EDGE_REACH] - padded[:, 2 * EDGE_REACH :]) / 2
    gain = np.cumsum(votes, axis=1) + EDGE * step
    gain[np.arange(width) > wall[:, None]] = -np.inf
    moves = np.arange(-STEEPEST, STEEPEST + 1)
    came = np.zeros((count, width), np.int64)
    best = gain[0]
    for row in range(1, count):
        around = np.pad(best, STEEPEST, constant_values=-np.inf)
        options = np.lib.stride_tricks.sliding_window_view(around, len(moves)) - BEND * moves**2
        came[row] = np.argmax(options, axis=1)
        best = gain[row] + options[np.arange(width), came[row]]
    border = np.empty(count, np.int64)
    border[-1] = np.argmax(best)
    for row in range(count - 1, 0, -1):
        border[row - 1] = np.clip(border[row] + moves[came[row, border[row]]], 0, width - 1)
    return border


def _implausibility(solid: np.ndarray, frame: LungFrame, leaking: list[str]) -> str:
    """Why a shape on the working grid is no heart, in one line; empty when it could be one."""
    if leaking:
        return f"it runs into an opaque {' and '.join(leaking)} lung"
    area = solid.mean() / ((frame.left - frame.right) * (frame.bottom - frame.top))
    if not AREA[0] <= area <= AREA[1]:
        return f"it takes {area:.0%} of the chest"
    ratio = _width(solid) / (frame.left - frame.right)
    if not RATIO[0] <= ratio <= RATIO[1]:
        return f"it takes {ratio:.0%} of the chest's width"
    if not solid[:, round(frame.midline * SIZE)].any():
        return "it lies apart from the mediastinum"
    return ""


def _width(solid: np.ndarray) -> float:
    """Distance of the outermost columns inside, as a fraction of the width; 0 for an empty shape."""
    columns = np.flatnonzero(solid.any(0))
    return (columns[-1] + 1 - columns[0]) / solid.shape[1] if columns.size else 0.0


def _opened(solid: np.ndarray, radius: float) -> np.ndarray:
    """Take away what a disc of `radius` cells does not fit into."""
    inside = ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1] > radius
    if not inside.any():
        return inside
    return ndimage.distance_transform_edt(~inside) <= radius


def _largest(solid: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(solid)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else solid


def _between(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (values > limits[0]) & (values < limits[1])
