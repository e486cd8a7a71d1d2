"""The open X-rays as one array in memory: letterboxed, 8 bit, with the table that describes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from instructx2x.errors import InputError
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.pictures import FORMATS
from instructx2x.imaging.writing import eight_bit
from instructx2x.progress import track

ADULT_SOURCES = ("nih", "han", "coh")


def load_table(data: Path) -> pl.DataFrame:
    """Read `metadata.csv` of the open data, keeping rows whose quality check is "ok".

    Adds `group` ("nih", "han", "coh" or "ker", from the id) and `adult` (bool).

    Raises:
        InputError: the folder or its table is missing, or the table cannot be read.
    """
    path = data / "metadata.csv"
    if not path.is_file():
        raise InputError(f"{path} not found: give the folder that holds metadata.csv and images/ with --data")
    group = pl.col("id").str.slice(0, 3)
    try:
        table = pl.read_csv(path, infer_schema_length=None).filter(pl.col("qc") == "ok")
        return table.with_columns(
            group.alias("group"), group.is_in(ADULT_SOURCES).alias("adult"), pl.col("findings").fill_null("")
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be used: {str(error).splitlines()[0]}") from error


def load_images(data: Path, table: pl.DataFrame, size: int, work: Path) -> np.ndarray:
    """Decode and letterbox every row's image once; later calls read the cache.

    Args:
        data: folder of the open data.
        table: rows whose `file` is to be read, in order.
        size: side of the model's square in pixels.
        work: folder of the cache, a `.npy` file named after the size and what the images are.

    Returns:
        (N, size, size) uint8, memory-mapped; 0 is black.

    Raises:
        InputError: an image is missing or damaged.
    """
    # Rows stand for images in all that is cached later, so another table must not find this one's.
    which = hashlib.sha256("\n".join(table["file"]).encode()).hexdigest()[:12]
    cache = work / f"images{size}_{which}.npy"
    if cache.is_file():
        return np.load(cache, mmap_mode="r")
    images = np.empty((len(table), size, size), dtype=np.uint8)
    for row, file in enumerate(track(table["file"], "reading images")):
        try:
            with Image.open(data / file, formats=FORMATS) as image:
                pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
        except OSError as error:
            raise InputError(f"{data / file} cannot be read: get it again, or set its qc in metadata.csv") from error
        images[row] = eight_bit(Frame(*pixels.shape, size).to_model(pixels))
    work.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npy")
    np.save(partial, images)
    partial.replace(cache)
    return np.load(cache, mmap_mode="r")
