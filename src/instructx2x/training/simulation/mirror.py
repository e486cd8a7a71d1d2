"""Real disease of one lung, told from the other one: what the painters cannot teach is how real lesions look.

Where one lung is much whiter than the other, beyond what heart and habit make of a normal chest, the excess is the
disease. Replacing it by the mirrored healthy lung gives a pair of real X-ray and healed X-ray: read forwards it
teaches removal of real disease, read backwards the adding of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from instructx2x.training.simulation.chest import SIDES, Chest, sigmoid

# Lung coordinates are compared on a grid of this many cells, v by u.
GRID = (48, 32)

# The part of the air that is gone: where the excess is of this height the lung is taken for half diseased. Experts'
# boxes say that there is disease, so that less will do inside them.
EXCESS = 0.28
EXCESS_BOXED = 0.12
SLOPE = 0.05

# What counts as one-sided disease: its share of that lung, at least (inside boxes) and at most, and of both lungs'
# excess. Of 100 normals one in ten passes, of 120 X-rays with an opacity or an effusion in their labels one in five:
# the rest is spread over both lungs, or too faint to be told from rotation.
EXTENT = (0.08, 0.75)
EXTENT_BOXED = 0.02
ONE_SIDED = 0.8


@dataclass(frozen=True)
class Symmetry:
    """How normal lungs look and differ: per side, mean brightness on the grid, scaled so that 0 is air and 1 is tissue.

    Attributes:
        mean: "right" and "left" -> GRID float32.
    """

    mean: dict[str, np.ndarray]

    @classmethod
    def of(cls, chests: Iterable[Chest]) -> Symmetry:
        """Mean over normal chests; at least one."""
        total = {side: np.zeros(GRID, np.float32) for side in SIDES}
        count = 0
        for chest in chests:
            for side in SIDES:
                total[side] += sample(scaled(chest), chest, side)
            count += 1
        return cls({side: total[side] / count for side in SIDES})


@dataclass(frozen=True)
class Healed:
    """A chest with its one-sided disease replaced by healthy lung.

    Attributes:
        side: of the disease.
        image: (S, S) float32 in [0, 1], healed.
        share: (S, S) float32 in [0, 1], how much of each pixel was replaced.
        centre: (u, v) of the disease in the lung's coordinates.
    """

    side: str
    image: np.ndarray
    share: np.ndarray
    centre: tuple[float, float]


def scaled(chest: Chest) -> np.ndarray:
    """Brightness with 0 where this patient's lungs are darkest and 1 at soft tissue: (S, S) float32."""
    air, tissue = levels(chest)
    return ((chest.image - air) / (tissue - air)).astype(np.float32)


def levels(chest: Chest) -> tuple[float, float]:
    """Brightness of this patient's air and soft tissue."""
    lungs = np.maximum(chest.lungs["right"], chest.lungs["left"]) > 0.5
    air = float(np.quantile(chest.image[lungs], 0.03))
    tissue = max(chest.soft_tissue(side) for side in SIDES)
    return air, max(tissue, air + 0.1)


def sample(
    values: np.ndarray, chest: Chest, side: str, *, shape: tuple[int, int] = GRID, blur: float = 5.0
) -> np.ndarray:
    """Values on a grid of one lung's coordinates: `shape` float32; row is v, column is u.

    `blur` is the standard deviation of the smoothing before, in pixels at 256.
    """
    smooth = ndimage.gaussian_filter(values, blur * chest.size / 256)
    v, u = np.meshgrid((np.arange(shape[0]) + 0.5) / shape[0], (np.arange(shape[1]) + 0.5) / shape[1], indexing="ij")
    top, bottom, medial, lateral = chest.boxes[side]
    points = (top + v * (bottom - top), medial + u * (lateral - medial))
    return ndimage.map_coordinates(smooth, points, order=1, mode="nearest").astype(np.float32)


def lay(grid: np.ndarray, chest: Chest, side: str) -> np.ndarray:
    """A grid of one lung's coordinates, of any size, laid over that lung: (S, S) float32; its rim goes on outside."""
    u, v = chest.coordinates(side)
    points = (v * grid.shape[0] - 0.5, u * grid.shape[1] - 0.5)
    return ndimage.map_coordinates(grid, points, order=1, mode="nearest").astype(np.float32)


def mirrored(chest: Chest, side: str) -> np.ndarray:
    """The other lung laid over this one, by lung coordinates: (S, S) float32."""
    u, v = chest.coordinates(side)
    top, bottom, medial, lateral = chest.boxes["left" if side == "right" else "right"]
    points = (top + v * (bottom - top), medial + u * (lateral - medial))
    return ndimage.map_coordinates(chest.image, points, order=1, mode="nearest").astype(np.float32)


def heal(chest: Chest, symmetry: Symmetry, boxes: np.ndarray | None = None) -> Healed | None:
    """Replace one-sided disease by the healthy lung's mirror image; None when disease is not clearly one-sided.

    Args:
        chest: of a patient with disease.
        symmetry: of normal chests of the same view.
        boxes: (S, S) float32 in [0, 1], where experts marked the disease, if they did; nothing else is healed then.
    """
    values = scaled(chest)
    grids = {side: sample(values, chest, side) for side in SIDES}
    # How much whiter each lung is than the other, beyond the same difference in normal chests.
    excess = {
        side: (grids[side] - grids[other]) - (symmetry.mean[side] - symmetry.mean[other])
        for side, other in (("right", "left"), ("left", "right"))
    }
    # Only what is whiter than normal as well: else a black (over-inflated, collapsed) other lung makes an excess.
    excess = {side: np.minimum(excess[side], grids[side] - symmetry.mean[side]) for side in SIDES}
    threshold, least = (EXCESS, EXTENT[0]) if boxes is None else (EXCESS_BOXED, EXTENT_BOXED)
    weight = {side: sigmoid((excess[side] - threshold) / SLOPE) for side in SIDES}
    if boxes is not None:
        weight = {side: weight[side] * sample(boxes, chest, side) for side in SIDES}
    mass = {side: float(weight[side].mean()) for side in SIDES}
    side = max(mass, key=mass.get)
    if not least <= mass[side] <= EXTENT[1] or mass[side] < ONE_SIDED * sum(mass.values()):
        return None
    share = lay(ndimage.gaussian_filter(weight[side], 1), chest, side)
    share = np.clip(1.25 * share, 0, 1) * chest.inside(side, 3.0, 2.0)
    other = "left" if side == "right" else "right"
    air, tissue = levels(chest)
    usual = lay(symmetry.mean[side] - symmetry.mean[other], chest, side) * (tissue - air)
    healthy = np.clip(mirrored(chest, side) + usual, 0, 1)
    # Healing takes density away and never adds any.
    image = chest.image + share * np.minimum(healthy - chest.image, 0)
    total = weight[side].sum()
    rows, columns = np.indices(GRID)
    centre = (
        float((weight[side] * (columns + 0.5)).sum() / total / GRID[1]),
        float((weight[side] * (rows + 0.5)).sum() / total / GRID[0]),
    )
    return Healed(side, image.astype(np.float32), share.astype(np.float32), centre)


def density(chest: Chest, healed: Healed, shape: tuple[int, int] = (96, 64)) -> np.ndarray:
    """What share of the air the disease had replaced, in the lung's coordinates: `shape` float32 in [0, 1].

    Laid over another patient's lung, of either side, and whitened there, it is the same disease transplanted.
    """
    tissue = max(chest.soft_tissue(healed.side), float(chest.image[healed.share > 0.5].max(initial=0.3)))
    gone = (chest.image - healed.image) / np.maximum(tissue - healed.image, 0.08)
    return sample(np.clip(gone, 0, 1), chest, healed.side, shape=shape, blur=1.2)
