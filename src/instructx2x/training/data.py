"""The open X-rays as one array in memory: letterboxed, 8 bit, with the table that describes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from rich.progress import track

from instructx2x.errors import InputError
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.writing import eight_bit

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


def load_images(data: Path, table: pl.DataFrame, size: int, cache: Path) -> np.ndarray:
    """Decode and letterbox every row's image once; later calls read the cache.

    Args:
        data: folder of the open data.
        table: rows whose `file` is to be read, in order.
        size: side of the model's square in pixels.
        cache: a `.npy` file, made when absent or when it holds another number or size of images.

    Returns:
        (N, size, size) uint8, memory-mapped; 0 is black.

    Raises:
        InputError: an image is missing or damaged.
    """
    shape = (len(table), size, size)
    if cache.is_file():
        stored = np.load(cache, mmap_mode="r")
        if stored.shape == shape:
            return stored
    images = np.empty(shape, dtype=np.uint8)
    for row, file in enumerate(track(table["file"], description="reading images")):
        try:
            with Image.open(data / file) as image:
                pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
        except OSError as error:
            raise InputError(f"{data / file} cannot be read: get it again, or set its qc in metadata.csv") from error
        images[row] = eight_bit(Frame(*pixels.shape, size).to_model(pixels))
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npy")
    np.save(partial, images)
    partial.replace(cache)
    return np.load(cache, mmap_mode="r")
