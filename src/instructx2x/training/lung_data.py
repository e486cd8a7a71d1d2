"""The lung network's data: chest X-rays with reviewed lung masks, and those without, in the network's square."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from scipy import ndimage

from instructx2x.anatomy.lungs import SIZE
from instructx2x.errors import InputError
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.pictures import FORMATS


@dataclass(frozen=True)
class LungSet:
    """Pictures with both lungs outlined, letterboxed to the network's square.

    Attributes:
        images: (N, 1, S, S) float32 in [0, 1].
        masks: (N, 2, S, S) float32 in [0, 1]: patient's right lung, patient's left lung.
        patients: N patient identifiers.
    """

    images: torch.Tensor
    masks: torch.Tensor
    patients: tuple[str, ...]

    def take(self, indices: Iterable[int]) -> LungSet:
        indices = list(indices)
        return LungSet(self.images[indices], self.masks[indices], tuple(self.patients[i] for i in indices))


def split_sides(mask: np.ndarray) -> np.ndarray:
    """Tell the two lungs of one mask apart: of its two largest parts the one further left is the right lung.

    Args:
        mask: (H, W) bool, both lungs.

    Returns:
        (2, H, W) bool: patient's right lung, patient's left lung.

    Raises:
        InputError: the mask has fewer than two parts.
    """
    parts, count = ndimage.label(mask)
    if count < 2:
        raise InputError("a lung mask must hold two separate lungs; leave this one out of masks.csv")
    largest = 1 + np.argsort(np.bincount(parts.ravel())[1:])[-2:]
    centres = ndimage.center_of_mass(mask, parts, largest)
    order = np.argsort([column for _, column in centres])
    return np.stack([parts == largest[i] for i in order])


def read_square(path: Path) -> np.ndarray:
    """A gray picture in the network's square: (S, S) float32 in [0, 1]."""
    pixels = np.asarray(Image.open(path, formats=FORMATS).convert("L"), dtype=np.float32) / 255
    return Frame(*pixels.shape, SIZE).to_model(pixels)


def tables(data: Path) -> pl.DataFrame:
    """metadata.csv of usable pictures of adults (children are the Kermany source)."""
    if not (data / "metadata.csv").is_file():
        raise InputError(f"{data} holds no metadata.csv; give the folder of the chest X-rays with --data")
    rows = pl.read_csv(data / "metadata.csv", infer_schema_length=None)
    adult = pl.col("age").cast(pl.Float64, strict=False).fill_null(18) >= 18
    return rows.filter((pl.col("qc") == "ok") & adult & ~pl.col("id").str.starts_with("ker_"))


def reviewed(data: Path, *, split: str | None = None) -> LungSet:
    """The pictures with reviewed lung masks (masks.csv), of one split or of all."""
    rows = tables(data).select("id", "split", "patient_id", image="file")
    if not (data / "masks.csv").is_file():
        raise InputError(f"{data} holds no masks.csv; give the folder of the chest X-rays with --data")
    rows = pl.read_csv(data / "masks.csv").join(rows, on="id").sort("id")
    if split is not None:
        rows = rows.filter(pl.col("split") == split)
    images, masks = [], []
    for row in rows.iter_rows(named=True):
        images.append(read_square(data / row["image"]))
        sides = split_sides(np.asarray(Image.open(data / row["file"], formats=FORMATS).convert("L")) > 127)
        frame = Frame(*sides.shape[1:], SIZE)
        masks.append(np.stack([frame.to_model(side, Image.Resampling.BILINEAR) for side in sides]))
    return LungSet(
        torch.from_numpy(np.stack(images))[:, None],
        torch.from_numpy(np.stack(masks)),
        tuple(rows["patient_id"]),
    )


def unlabelled(data: Path, count: int, seed: int) -> tuple[torch.Tensor, tuple[str, ...]]:
    """A seeded draw of NIH training pictures, one picture a patient: (N, 1, S, S) and the patients."""
    rows = tables(data).filter((pl.col("split") == "train") & pl.col("id").str.starts_with("nih_"))
    rows = rows.sort("id").unique("patient_id", keep="first", maintain_order=True)
    rows = rows.sample(min(count, len(rows)), seed=seed, shuffle=True)
    images = np.stack([read_square(data / file) for file in rows["file"]])
    return torch.from_numpy(images)[:, None], tuple(rows["patient_id"])
