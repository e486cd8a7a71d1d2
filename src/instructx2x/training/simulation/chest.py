"""One patient's thorax in coordinates of the patient's own lungs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from instructx2x.anatomy.lungs import segment_lungs

SIDES = ("right", "left")


@dataclass(frozen=True)
class Chest:
    """A square X-ray with its lungs.

    Attributes:
        image: (S, S) float32 in [0, 1], 0 black (air), display brightness rising with density.
        lungs: "right" and "left" (the patient's) -> (S, S) float32 in [0, 1]. The left lies in the image's right half.
    """

    image: np.ndarray
    lungs: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        return self.image.shape[0]

    @cached_property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every pixel, float32."""
        rows, columns = np.mgrid[: self.size, : self.size].astype(np.float32)
        return rows, columns

    @cached_property
    def boxes(self) -> dict[str, tuple[float, float, float, float]]:
        """Per side (top, bottom, medial, lateral): rows and columns that hold the lung but for 1 % at each end."""
        boxes = {}
        for side in SIDES:
            mask = self.lungs[side] > 0.5
            rows, columns = np.nonzero(mask)
            top, bottom = np.quantile(rows, (0.005, 0.995))
            low, high = np.quantile(columns, (0.01, 0.99))
            boxes[side] = (top, bottom, low, high) if side == "left" else (top, bottom, high, low)
        return boxes

    def coordinates(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) of every pixel: u is 0 at the lung's medial and 1 at its lateral edge, v 0 at apex and 1 at base."""
        top, bottom, medial, lateral = self.boxes[side]
        rows, columns = self.grid
        return (columns - medial) / (lateral - medial), (rows - top) / (bottom - top)

    @cached_property
    def midline(self) -> float:
        """Column between the two lungs' medial edges."""
        return (self.boxes["right"][2] + self.boxes["left"][2]) / 2

    @cached_property
    def width(self) -> float:
        """Inner width of the thorax in pixels."""
        return self.boxes["left"][3] - self.boxes["right"][3]

    def soft_tissue(self, side: str) -> float:
        """Brightness of tissue without air on that side: what lies just under the lung, else the heart's."""
        top, bottom, medial, lateral = self.boxes[side]
        height = bottom - top
        low, high = sorted((medial, lateral))
        below = self.image[int(bottom) : int(bottom + 0.15 * height) + 1, int(low) : int(high) + 1]
        heart = self.image[
            int(top + 0.6 * height) : int(top + 0.85 * height),
            int(self.midline - 0.04 * self.width) : int(self.midline + 0.1 * self.width) + 1,
        ]
        samples = np.concatenate((below.ravel(), heart.ravel()))
        return float(np.clip(np.quantile(samples, 0.5), 0.2, 0.95))

    def inside(self, side: str, margin: float = 2.0, blur: float = 1.2) -> np.ndarray:
        """The lung widened by `margin` pixels with a soft rim, (S, S) in [0, 1]: where density can be added."""
        grown = self.lungs[side] > 0.5
        if margin > 0:
            grown = ndimage.distance_transform_edt(~grown) <= margin
        return ndimage.gaussian_filter(grown.astype(np.float32), blur)


def find_chest(image: np.ndarray) -> Chest | None:
    """A square X-ray, (S, S) float32 in [0, 1], with its lungs; None where they were not found."""
    lungs = segment_lungs(image)
    return Chest(image, {"right": lungs.right, "left": lungs.left}) if lungs.plausible else None


def texture(size: int, rng: np.random.Generator, scales: tuple[float, ...] = (2, 4, 8, 16)) -> np.ndarray:
    """Cloudy noise: a sum of octaves, (size, size) float32 with mean 0 and standard deviation 1."""
    total = np.zeros((size, size), dtype=np.float32)
    for scale in scales:
        coarse = max(2, int(np.ceil(size / scale)) + 1)
        octave = ndimage.zoom(rng.standard_normal((coarse, coarse)).astype(np.float32), size / coarse, order=1)
        total += octave[:size, :size] * scale**0.5
    return (total - total.mean()) / (total.std() + 1e-6)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def whiten(image: np.ndarray, alpha: np.ndarray, tissue: float | np.ndarray) -> np.ndarray:
    """Replace a share `alpha` of the air by tissue: image + alpha (tissue - image), never darker than before."""
    return image + alpha * np.maximum(tissue - image, 0)
