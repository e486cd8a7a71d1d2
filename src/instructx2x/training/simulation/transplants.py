"""Real lesions of the open data, taken out of one chest and put into another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import ndimage

from instructx2x.columns import read_columns
from instructx2x.errors import InputError
from instructx2x.imaging.writing import eight_bit
from instructx2x.progress import track
from instructx2x.training.simulation import mirror
from instructx2x.training.simulation.chest import SIDES, Chest, whiten
from instructx2x.training.simulation.painters import Painter, by_level

# The data's findings that make a lung white on one side, and where the disease's centre may lie (v, 0 apex to 1 base).
ONE_SIDED = {
    "pleural effusion": (0.55, 1.0),
    "consolidation": (0.0, 1.0),
    "lung opacity": (0.0, 1.0),
    "pneumonia": (0.0, 1.0),
    "atelectasis": (0.3, 1.0),
}
NORMALS = 60


@dataclass(frozen=True)
class RealLesion:
    """One-sided disease of a real X-ray.

    Attributes:
        image: row of the X-ray in the image array.
        findings: what its labels call it.
        side: "right" or "left".
        zone: "upper", "middle" or "lower", by its centre.
        healed: (S, S) uint8, the X-ray without it.
        density: share of the air it replaced, in lung coordinates (mirror.density).
    """

    image: int
    findings: tuple[str, ...]
    side: str
    zone: str
    healed: np.ndarray
    density: np.ndarray


def collect(
    images: np.ndarray,
    table: pl.DataFrame,
    names: Sequence[Sequence[str]],
    chest_of: Callable[[int], Chest | None],
    boxes: dict[str, list[tuple[float, float, float, float]]],
    *,
    split: str = "train",
    seed: int = 0,
) -> list[RealLesion]:
    """Every one-sided disease of NIH's X-rays of one split.

    Args:
        images: (N, S, S) uint8.
        table: their rows.
        names: per row, its findings in our words.
        chest_of: row -> chest, None where no lungs were found.
        boxes: image id -> experts' boxes of opacities as (x, y, w, h) fractions of the model's square.
    """
    nih = ((table["group"] == "nih") & (table["split"] == split)).to_numpy()
    views = table["view"].to_list()
    normal = np.flatnonzero(nih & (table["findings"] == "No Finding").to_numpy())
    symmetry = {}
    for view in ("PA", "AP"):
        rows = [row for row in np.random.default_rng(seed).permutation(normal) if views[row] == view][:NORMALS]
        normals = [chest for chest in map(chest_of, rows) if chest is not None]
        if normals:
            symmetry[view] = mirror.Symmetry.of(normals)
    diseased = [row for row in np.flatnonzero(nih) if set(names[row]) & set(ONE_SIDED) and views[row] in symmetry]
    found = []
    for row in track(diseased, "real lesions"):
        chest = chest_of(row)
        if chest is None:
            continue
        marked = boxes.get(table["id"][int(row)])
        region = None if marked is None else box_mask(marked, chest.size)
        healed = mirror.heal(chest, symmetry[views[row]], region)
        if healed is None:
            continue
        centre = healed.centre[1]
        fitting = tuple(
            name for name in names[row] if name in ONE_SIDED and ONE_SIDED[name][0] <= centre <= ONE_SIDED[name][1]
        )
        if fitting:
            zone = "upper" if centre < 0.33 else "middle" if centre < 0.6 else "lower"
            found.append(
                RealLesion(
                    int(row),
                    fitting,
                    healed.side,
                    zone,
                    eight_bit(healed.image),
                    mirror.density(chest, healed),
                )
            )
    return found


def load_boxes(data: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """Experts' boxes of opacities on images at hand: image id -> (x, y, w, h) fractions. NIH's images are square.

    Raises:
        InputError: the data has no boxes.csv.
    """
    path = data / "boxes.csv"
    if not path.is_file():
        raise InputError(f"{path} not found: give the folder of the open data with --data")
    columns = ["image_id", "finding", "kind", "have_image", "x", "y", "w", "h"]
    rows = read_columns(path, columns).filter(
        (pl.col("have_image") == "1")
        & (pl.col("kind") == "pathology")
        & pl.col("finding").is_in(["Lung Opacity", "Pneumonia", "Infiltration", "Consolidation", "Effusion"])
    )
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for image, *box in rows.select("image_id", "x", "y", "w", "h").iter_rows():
        boxes.setdefault(image, []).append(tuple(map(float, box)))
    return boxes


def box_mask(boxes: Sequence[tuple[float, float, float, float]], size: int) -> np.ndarray:
    """1 inside any box, with a soft rim: (size, size) float32."""
    mask = np.zeros((size, size), np.float32)
    for x, y, w, h in boxes:
        top, left, bottom, right = (round(size * edge) for edge in (y, x, y + h, x + w))
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    return ndimage.gaussian_filter(mask, 4 * size / 256)


def transplant(lesions: Sequence[RealLesion]) -> Painter:
    """Painter that lays a real lesion, of either side, over the patient's lung; `lesions` of one finding, at least one.

    A zone picks among the lesions of that zone, if there are any.
    """

    def paint(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
        image = chest.image
        near = {"apical": "upper", "basal": "lower", "perihilar": "middle"}.get(zone, zone)
        fitting = [lesion for lesion in lesions if lesion.zone == near] or lesions
        for lung in SIDES if side == "bilateral" else (side,):
            lesion = fitting[int(rng.integers(len(fitting)))]
            stretch = by_level(severity, (0.5, 0.75, 1.0, 1.2, 1.4)) * rng.uniform(0.9, 1.1)
            alpha = np.clip(stretch * mirror.lay(lesion.density, chest, lung), 0, 0.95) * chest.inside(lung, 2.5, 1.5)
            image = whiten(image, alpha, 0.96 * chest.soft_tissue(lung))
        return image

    return paint


def either(first: Painter, second: Painter, share: float) -> Painter:
    """Painter that is `second` with probability `share`, else `first`."""

    def paint(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
        return (second if rng.random() < share else first)(chest, side, zone, severity, view, rng)

    return paint
