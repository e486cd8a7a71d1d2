"""Experts' marks (boxes and outlines) from the files in which they are published.

Every file becomes a list of `Mark`: which image, which finding, and a polygon in fractions of the image.
Formats are recognised by their columns or keys:

- plain CSV: `image_id, finding, x, y, w, h` with fractions of width and height; optional `finding_raw`,
  `source`, `licence`, `have_image`;
- MS-CXR: `dicom_id, category_name, x, y, w, h, image_width, image_height` (pixels, top left);
- NIH ChestX-ray14 `BBox_List_2017.csv`: `Image Index, Finding Label, Bbox [x, y, w, h]` (pixels of 1024 x
  1024);
- ChestX-Det JSON: a list of `{file_name, syms, polygons}` (pixels of 1024 x 1024);
- outlines as JSON lines, plain or gzipped: `{image_id, finding, points}` with fractions.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instructx2x.errors import InputError
from instructx2x.files import text

NIH_PIXELS = 1024
CHESTXDET = "ChestX-Det"
CHESTXDET_LICENCE = "Apache-2.0"

# What the sources' names count for. A mark of "Infiltration" is an opacity of the lung; RSNA's boxes are
# opacities read as suspicious of pneumonia, so they count for both, and NIH's pneumonias are opacities. An
# outline around diffuse nodules says where the disease is, not where a nodule lies: it is left out, as is
# everything not in this table.
FINDINGS = {
    "atelectasis": ("atelectasis",),
    "calcification": ("calcification",),
    "cardiomegaly": ("cardiomegaly",),
    "consolidation": ("consolidation",),
    "edema": ("edema",),
    "effusion": ("pleural effusion",),
    "emphysema": ("emphysema",),
    "fracture": ("fracture",),
    "infiltrate": ("lung opacity",),
    "infiltration": ("lung opacity",),
    "lung opacity": ("lung opacity",),
    "lung opacity (pneumonia)": ("lung opacity", "pneumonia"),
    "mass": ("mass",),
    "nodule": ("nodule",),
    "pleural effusion": ("pleural effusion",),
    "pleural thickening": ("pleural thickening",),
    "pneumonia": ("lung opacity", "pneumonia"),
    "pneumothorax": ("pneumothorax",),
}


@dataclass(frozen=True)
class Mark:
    """One expert's mark.

    Attributes:
        image: the image's name within its source.
        findings: names of the maps that the mark counts for; may be empty.
        points: (k, 2) float64 corners x, y as fractions of width and height, clipped to [0, 1]; a box has
            four.
        source, licence: where it comes from and on what terms.
        held_out: the image is at hand for measuring, so the mark may be kept out of the maps.
    """

    image: str
    findings: tuple[str, ...]
    points: np.ndarray
    source: str
    licence: str
    held_out: bool = False


def read_marks(path: Path) -> list[Mark]:
    """Read one file of marks, in the order of the file.

    Raises:
        InputError: the file cannot be read, its format is none of the known ones, or a row is broken (with
            its number).
    """
    path = Path(path)
    try:
        if path.suffix == ".json":
            return list(_chestxdet(json.loads(text(path))))
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            return list(_outlines(json.loads(line) for line in io.StringIO(text(path))))
        return list(_table(csv.reader(io.StringIO(text(path), newline=""))))
    except csv.Error as error:
        raise InputError(f"cannot read the marks in {path}: {error}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None
    except _BadMark as error:
        raise InputError(f"{path}: {error}") from None


class _BadMark(Exception):
    pass


def _table(rows: Iterator[list[str]]) -> Iterator[Mark]:
    header = [name.strip() for name in next(rows, [])]
    columns = set(header)
    if {"image_id", "finding", "x", "y", "w", "h"} <= columns:
        parse = _plain_row
    elif {"dicom_id", "category_name", "x", "y", "w", "h", "image_width", "image_height"} <= columns:
        parse = _ms_cxr_row
    elif {"Image Index", "Finding Label"} <= columns:
        parse = None
    else:
        raise _BadMark(
            "not a table of boxes; needed are the columns image_id, finding, x, y, w, h (fractions), or "
            "those of MS-CXR or of NIH's BBox_List_2017.csv"
        )
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        try:
            yield parse(dict(zip(header, row, strict=True))) if parse else _nih_row(row)
        except (ValueError, IndexError) as error:
            raise _BadMark(f"line {number} is no box ({error})") from None


def _plain_row(row: dict[str, str]) -> Mark:
    return Mark(
        image=row["image_id"],
        findings=_findings(row.get("finding_raw") or row["finding"]),
        points=_box(*(float(row[key]) for key in "xywh")),
        source=row.get("source") or "plain CSV",
        licence=row.get("licence") or "not stated",
        held_out=row.get("have_image") == "1",
    )


def _ms_cxr_row(row: dict[str, str]) -> Mark:
    width, height = float(row["image_width"]), float(row["image_height"])
    if not (width > 0 and height > 0):
        raise ValueError("the image has no size")
    x, y, w, h = (float(row[key]) for key in "xywh")
    return Mark(
        image=row["dicom_id"],
        findings=_findings(row["category_name"]),
        points=_box(x / width, y / height, w / width, h / height),
        source="MS-CXR",
        licence="PhysioNet Credentialed Health Data License 1.5.0",
    )


def _nih_row(row: list[str]) -> Mark:
    x, y, w, h = (float(value) / NIH_PIXELS for value in row[2:6])
    return Mark(
        image=row[0],
        findings=_findings(row[1]),
        points=_box(x, y, w, h),
        source="NIH BBox_List_2017",
        licence="NIH: no restrictions on use (attribution)",
    )


def _chestxdet(entries: object) -> Iterator[Mark]:
    if not isinstance(entries, list):
        raise _BadMark("not a ChestX-Det file; needed is a list of {file_name, syms, polygons}")
    for number, entry in enumerate(entries, start=1):
        try:
            for name, polygon in zip(entry["syms"], entry["polygons"], strict=True):
                points = _polygon(polygon, NIH_PIXELS)
                yield Mark(str(entry["file_name"]), _findings(name), points, CHESTXDET, CHESTXDET_LICENCE)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _BadMark(f"entry {number} is no image with outlines ({error})") from None


def _outlines(entries: Iterable[object]) -> Iterator[Mark]:
    for number, entry in enumerate(entries, start=1):
        try:
            points = _polygon(entry["points"], 1)
            yield Mark(str(entry["image_id"]), _findings(entry["finding"]), points, CHESTXDET, CHESTXDET_LICENCE)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _BadMark(f"line {number} is no outline ({error})") from None


def _findings(name: str) -> tuple[str, ...]:
    return FINDINGS.get(" ".join(name.lower().replace("_", " ").split()), ())


def _box(x: float, y: float, w: float, h: float) -> np.ndarray:
    if not all(math.isfinite(value) for value in (x, y, w, h)):
        raise ValueError("a number is missing")
    if not (w > 0 and h > 0 and x < 1 and y < 1 and x + w > 0 and y + h > 0):
        raise ValueError("it is empty or outside the image")
    if max(w, h) > 2:
        raise ValueError("it is larger than the image; fractions of width and height are needed")
    return np.clip(np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]), 0, 1)


def _polygon(points: object, size: float) -> np.ndarray:
    polygon = np.asarray(points, dtype=np.float64) / size
    if polygon.ndim != 2 or polygon.shape[1] != 2 or not np.isfinite(polygon).all():
        raise ValueError("an outline is a list of points x, y")
    if polygon.size and np.abs(polygon).max() > 2:
        raise ValueError("the outline leaves the image; is it in other units?")
    return np.clip(polygon, 0, 1)
