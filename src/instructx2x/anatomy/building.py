"""Build the anatomical priors from experts' marks.

    x2x masks build --open DIR -o FILE

What leaves the data are counts over all images only: for each finding and each cell of a coarse grid, how
many experts' marks cover it. They are integers, so the same marks give the same arrays on every machine;
smoothing and everything that follows happens when they are read (priors.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from instructx2x.anatomy.frames import REFERENCE, LungFrame, centres, lung_frame
from instructx2x.anatomy.lungs import segment_lungs
from instructx2x.anatomy.marks import CHESTXDET, Mark, read_marks
from instructx2x.anatomy.priors import GRID, SUBCELLS, Priors
from instructx2x.columns import read_columns
from instructx2x.errors import InputError
from instructx2x.files import text
from instructx2x.imaging.pictures import FORMATS, open_picture

ATTRIBUTIONS = {
    "NIH BBox_List_2017": "Wang et al., ChestX-ray8, CVPR 2017; NIH Clinical Center, "
    "https://nihcc.app.box.com/v/ChestXray-NIHCC",
    CHESTXDET: "Deepwise, ChestX-Det: outlines by three radiologists on NIH ChestX-ray14 images",
    "RSNA Pneumonia 2018 (NIH images)": "Shih et al., Radiology: Artificial Intelligence 2019; RSNA and STR "
    "radiologists' boxes on NIH ChestX-ray14 images",
    "MS-CXR": "Boecking et al., MS-CXR v1.1.0, PhysioNet: credentialed, check its terms before sharing maps",
    "lung masks": "V7 Labs, human-reviewed lung masks on images of the Hannover and Cohen collections",
}
LUNG_MASK_LICENCE = "CC BY 4.0"


def count_marks(marks: Sequence[Mark]) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """How often experts marked each place, per finding (method section 6).

    An image counts once: the union of its marks of the finding is drawn on a grid of GRID * SUBCELLS cells a
    side, and SUBCELLS x SUBCELLS of them are added up in each cell. The union over all images is of the
    marks' bounding boxes, as the paper makes it.

    Returns:
        name -> (counts, (GRID, GRID) int64 in [0, images * SUBCELLS ** 2]; union, (GRID, GRID) bool; images),
        by name.
    """
    by_image: dict[str, dict[tuple[str, str], list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for mark in marks:
        for finding in mark.findings:
            by_image[finding][mark.source, mark.image].append(mark.points)
    result = {}
    for finding in sorted(by_image):
        counts = np.zeros((GRID * SUBCELLS, GRID * SUBCELLS), np.int64)
        union = np.zeros((GRID, GRID), bool)
        for outlines in by_image[finding].values():
            counts += np.any([cells_inside(points, GRID * SUBCELLS) for points in outlines], axis=0)
            for points in outlines:
                (left, top), (right, bottom) = points.min(0), points.max(0)
                union[_touched(top, bottom), _touched(left, right)] = True
        result[finding] = _pool(counts), union, len(by_image[finding])
    return result


def cells_inside(points: np.ndarray, size: int) -> np.ndarray:
    """Rasterise a polygon: which cells of a size x size grid have their centre inside, by the even-odd rule.

    Args:
        points: (k, 2) corners x, y as fractions of the image; fewer than three enclose nothing.

    Returns:
        (size, size) bool.
    """
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    middle = centres(size)
    edges, rows = np.nonzero((y0[:, None] <= middle) != (y1[:, None] <= middle))
    slope = (x1 - x0)[edges] / (y1 - y0)[edges]
    crossing = x0[edges] + (middle[rows] - y0[edges]) * slope
    columns = np.clip(np.ceil(crossing * size - 0.5), 0, size).astype(int)
    inside = np.zeros((size, size), bool)
    if rows.size:
        # Only the rows and columns that the outline crosses: most marks are small.
        top, left = rows.min(), columns.min()
        crossings = np.zeros((rows.max() + 1 - top, columns.max() + 1 - left), np.uint8)
        np.add.at(crossings, (rows - top, columns - left), 1)
        height, width = crossings.shape
        # The last column only closes runs.
        filled = np.cumsum(crossings, axis=1, dtype=np.uint8)[:, :-1] & 1
        inside[top : top + height, left : left + width - 1] = filled
    return inside


def _touched(low: float, high: float) -> slice:
    """The cells of the coarse grid that [low, high] touches."""
    first = min(GRID - 1, int(low * GRID))
    return slice(first, max(first + 1, int(np.ceil(high * GRID))))


def _pool(counts: np.ndarray) -> np.ndarray:
    """Add up the SUBCELLS x SUBCELLS subcells of each cell."""
    return counts.reshape(GRID, SUBCELLS, GRID, SUBCELLS).sum((1, 3))


def count_lungs(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Add up lung masks after moving each one's box onto the reference lungs: list of (H, W) bool -> (GRID,
    GRID) int64.

    A single mask of both lungs does not tell where the midline is; the middle of its box stands in for it.
    """
    fine = centres(GRID * SUBCELLS)
    counts = np.zeros((len(fine), len(fine)), np.int64)
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        height, width = mask.shape
        right, left = columns[0] / width, (columns[-1] + 1) / width
        own = LungFrame(rows[0] / height, (rows[-1] + 1) / height, right, (right + left) / 2, left)
        y = np.clip(np.floor(own.y(REFERENCE.v(fine)) * height), -1, height).astype(int)
        x = np.clip(np.floor(own.x(REFERENCE.u(fine)) * width), -1, width).astype(int)
        # The border of one cell stands for everything outside the picture.
        counts += np.pad(mask, 1)[np.ix_(y + 1, x + 1)]
    return _pool(counts)


def build(marks: Sequence[Mark], lungs: np.ndarray, lung_masks: int) -> Priors:
    """Priors from marks, and counts of lungs from `count_lungs`.

    Raises:
        InputError: no mark is of a known finding.
    """
    counted = count_marks(marks)
    if not counted:
        raise InputError("none of the marks is of a known finding; nothing to build")
    sources: dict[str, dict] = {}
    for mark in marks:
        if not mark.findings:
            continue
        entry = sources.setdefault(
            mark.source,
            {"licence": mark.licence, "attribution": ATTRIBUTIONS.get(mark.source, mark.source), "marks": {}},
        )
        for finding in mark.findings:
            entry["marks"][finding] = entry["marks"].get(finding, 0) + 1
    sources["lung masks"] = {
        "licence": LUNG_MASK_LICENCE,
        "attribution": ATTRIBUTIONS["lung masks"],
        "marks": {"lungs": lung_masks},
    }
    return Priors(
        counts={name: counts for name, (counts, _, _) in counted.items()},
        unions={name: union for name, (_, union, _) in counted.items()},
        images={name: images for name, (_, _, images) in counted.items()},
        lungs=lungs,
        lung_masks=lung_masks,
        frame=REFERENCE,
        sources=sources,
    )


def build_from_data(data: Path) -> Priors:
    """The packaged priors, from the folder of open X-rays (`boxes.csv`, `chestxdet_polygons.jsonl.gz`,
    `masks.csv`).

    ChestX-Det's outlines stand in for its boxes. Boxes on images that are in the folder themselves are left
    out, so that those images can be used to judge the maps.

    Raises:
        InputError: a file is missing or broken.
    """
    data = Path(data)
    boxes = [mark for mark in read_marks(data / "boxes.csv") if mark.source != CHESTXDET and not mark.held_out]
    outlines = read_marks(data / "chestxdet_polygons.jsonl.gz")
    table = read_columns(data / "masks.csv", ["file", "structure"])
    masks = [_read_mask(data / name) for name in table.filter(pl.col("structure") == "lungs")["file"]]
    return build(boxes + outlines, count_lungs(masks), len(masks))


def only_pa(marks: Sequence[Mark], table: Path) -> list[Mark]:
    """The marks on posteroanterior views, as the paper takes them from MS-CXR.

    Args:
        marks: any marks; their image is a DICOM id.
        table: MIMIC-CXR's `mimic-cxr-2.0.0-metadata.csv.gz`, or another CSV with `dicom_id` and `ViewPosition`.
    """
    views = read_columns(Path(table), ["dicom_id", "ViewPosition"])
    wanted = set(views.filter(pl.col("ViewPosition") == "PA")["dicom_id"])
    return [mark for mark in marks if mark.image in wanted]


def without(marks: Sequence[Mark], listed: Path) -> list[Mark]:
    """The marks on images that a file does not list, one name a line: a mask must not know the test patients.

    Args:
        marks: any marks.
        listed: such as `test_images.txt` of a dataset.
    """
    names = set(text(listed).split())
    return [mark for mark in marks if mark.image not in names]


def measure_frame(data: Path, every: int = 1) -> LungFrame:
    """Median lung frame of the adult NIH training images: how REFERENCE (frames.py) was found, before
    symmetrising.

    Args:
        data: the folder of open X-rays.
        every: look at each `every`-th image only.
    """
    wanted = pl.col("source").str.starts_with("NIH") & (pl.col("split") == "train") & (pl.col("qc") == "ok")
    table = read_columns(Path(data) / "metadata.csv", ["file", "source", "split", "qc"]).filter(wanted).sort("file")
    found = []
    for name in table["file"][::every]:
        with Image.open(Path(data) / name, formats=FORMATS) as image:
            lungs = segment_lungs(np.asarray(image.convert("L"), dtype=np.float32) / 255)
        if lungs.plausible:
            frame = lung_frame(lungs)
            found.append((frame.top, frame.bottom, frame.right, frame.midline, frame.left))
    if not found:
        raise InputError(f"no lungs found in the images of {data}")
    return LungFrame(*np.median(found, axis=0).tolist())


def _read_mask(path: Path) -> np.ndarray:
    try:
        mask = np.asarray(open_picture(path).convert("L")) > 127
    except InputError as error:
        raise InputError(f"cannot read the lung mask {error}") from None
    if not mask.any():
        raise InputError(f"the lung mask {path} is empty")
    return mask
