"""Lung coordinates: where a place is, measured by the lungs instead of by the picture.

`u` runs across the chest: -1 at the outer edge of the patient's right lung (the image's left), 0 at the
midline, 1 at the outer edge of the left lung. `v` runs down it: 0 at the top of the lungs, 1 at their lowest
point. Both go on linearly outside the lungs. Fractions of the image are measured from its upper left corner
to its lower right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from instructx2x.anatomy.lungs import Lungs


@dataclass(frozen=True)
class LungFrame:
    """The box around both lungs and the midline, as fractions of the image's height (top, bottom) and width.

    One box for both lungs: when fluid hides the base of one of them, the other still tells where the base is.

    Attributes:
        top, bottom: upper and lower edge of the lungs.
        right, left: outer edge of the patient's right lung (smaller) and left lung (larger).
        midline: column between the lungs.
    """

    top: float
    bottom: float
    right: float
    midline: float
    left: float

    def __post_init__(self):
        if not (self.top < self.bottom and self.right < self.midline < self.left):
            raise ValueError(f"no lungs lie like this: {self}")

    def u(self, x: np.ndarray) -> np.ndarray:
        """Across the chest: image fractions to lung units, element by element."""
        x = np.asarray(x, dtype=np.float64) - self.midline
        return np.where(x < 0, x / (self.midline - self.right), x / (self.left - self.midline))

    def v(self, y: np.ndarray) -> np.ndarray:
        """Down the chest: image fractions to lung units, element by element."""
        return (np.asarray(y, dtype=np.float64) - self.top) / (self.bottom - self.top)

    def x(self, u: np.ndarray) -> np.ndarray:
        """Inverse of `u`."""
        u = np.asarray(u, dtype=np.float64)
        return self.midline + np.where(u < 0, u * (self.midline - self.right), u * (self.left - self.midline))

    def y(self, v: np.ndarray) -> np.ndarray:
        """Inverse of `v`."""
        return self.top + np.asarray(v, dtype=np.float64) * (self.bottom - self.top)

    def grid(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Lung coordinates of an array's cell centres: u as (1, W), v as (H, 1), to be broadcast."""
        height, width = shape
        return self.u(centres(width))[None, :], self.v(centres(height))[:, None]

    def mirrored(self) -> LungFrame:
        """The frame of the image flipped left to right."""
        return LungFrame(self.top, self.bottom, 1 - self.left, 1 - self.midline, 1 - self.right)

    def centred(self) -> LungFrame:
        """The same size, symmetric about the image's centre: for a patient of whom nothing is known."""
        half = (self.left - self.right) / 2
        return LungFrame(self.top, self.bottom, 0.5 - half, 0.5, 0.5 + half)


# The lungs of the images that the experts' marks were drawn on: medians over every adult NIH training image
# whose lungs are found (`building.measure_frame`).
REFERENCE = LungFrame(top=0.127, bottom=0.785, right=0.133, midline=0.510, left=0.871)


def lung_frame(lungs: Lungs) -> LungFrame:
    """The frame of one patient's lungs. Only for plausible lungs, which hold both."""
    right, left = lungs.right_box, lungs.left_box
    return LungFrame(
        top=min(right[1], left[1]),
        bottom=max(right[1] + right[3], left[1] + left[3]),
        right=right[0],
        midline=lungs.midline,
        left=left[0] + left[2],
    )


def centres(count: int) -> np.ndarray:
    """Centres of `count` equal cells that fill [0, 1]: (count,) float64."""
    return (np.arange(count) + 0.5) / count


def place(prior: np.ndarray, reference: LungFrame, patient: LungFrame, shape: tuple[int, int]) -> np.ndarray:
    """Move a map from the reference lungs to a patient's, linearly along each axis (piecewise at the
    midline).

    Args:
        prior: (h, w) map over an image whose lungs lie in `reference`.
        reference, patient: the two frames.
        shape: (H, W) of the result; sampled bilinearly, so meant for grids no coarser than the map's.

    Returns:
        (H, W) float32; 0 where the prior's image does not reach.
    """
    rows = _sampled(prior.astype(np.float64), reference.y(patient.v(centres(shape[0]))))
    return _sampled(rows.T, reference.x(patient.u(centres(shape[1])))).T.astype(np.float32)


def mirror(prior: np.ndarray, frame: LungFrame) -> np.ndarray:
    """Swap the two lungs of a map, each taking the other's place: (h, w) -> (h, w) float32."""
    return place(prior[:, ::-1], frame.mirrored(), frame, prior.shape)


def _sampled(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Sample rows at fractions of their extent, linearly: (n, m) -> (len(positions), m); zero beyond it."""
    index = np.clip(positions * len(values) - 0.5, 0, len(values) - 1)
    low = np.minimum(index.astype(int), max(len(values) - 2, 0))
    share = (index - low)[:, None]
    inside = ((positions >= 0) & (positions <= 1))[:, None]
    return (values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share) * inside
