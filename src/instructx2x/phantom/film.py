"""The film's grid, and how a point of the body falls on it.

Lengths are in centimetres. x runs to the image's right (the patient's left), y from back to front, z upwards; the
origin lies between the lungs at the height of the carina.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

CENTRE = -4.4  # height of the central ray
SOURCE = {"PA": 170.0, "AP": 105.0}  # from the tube to the origin
LEANING = {"PA": 0.0, "AP": 6.0}  # degrees backwards

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Film:
    """Where the pixels' rays cross the plane y = 0.

    Attributes:
        height, width: in pixels.
        pitch: centimetres a pixel in the plane y = 0.
        view: "PA" (the tube behind the patient) or "AP".
        rotation: of the patient about the vertical axis, degrees; positive turns the front to the image's right.
    """

    height: int
    width: int
    pitch: float
    view: str = "PA"
    rotation: float = 0.0

    @cached_property
    def x(self) -> np.ndarray:
        """(1, W) float32, of every column."""
        return ((np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) * self.pitch)[None]

    @cached_property
    def z(self) -> np.ndarray:
        """(H, 1) float32, of every row, falling."""
        return ((self.height / 2 - 0.5 - np.arange(self.height, dtype=np.float32)) * self.pitch + CENTRE)[:, None]

    def magnification(self, y: np.ndarray | float) -> np.ndarray | float:
        """How much larger than at y = 0 a thing at depth y appears: it grows towards the tube."""
        source = SOURCE[self.view]
        return source / (source + y) if self.view == "PA" else source / (source - y)

    @cached_property
    def turning(self) -> np.ndarray:
        """(3, 3) how the patient stands: turned about the vertical, then leaning backwards."""
        a, b = np.deg2rad(self.rotation), np.deg2rad(LEANING[self.view])
        vertical = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
        return np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]) @ vertical

    def turn(self, points: np.ndarray) -> np.ndarray:
        """Points of the body as the patient stands: (..., 3) -> (..., 3)."""
        return points @ self.turning.T

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where turned points fall in the plane y = 0: (..., 3) -> (..., 2) as x and z, and (...) magnifications."""
        m = self.magnification(points[..., 1])
        return np.stack([points[..., 0] * m, (points[..., 2] - CENTRE) * m + CENTRE], -1), m

    def box(self, low: tuple[float, float], high: tuple[float, float]) -> Box:
        """Rows and columns that hold everything between two corners (x, z) of the plane y = 0."""
        columns = (np.array([low[0], high[0]]) / self.pitch + self.width / 2).clip(0, self.width)
        rows = (self.height / 2 - (np.array([high[1], low[1]]) - CENTRE) / self.pitch).clip(0, self.height)
        return slice(int(rows[0]), int(np.ceil(rows[1]))), slice(int(columns[0]), int(np.ceil(columns[1])))
