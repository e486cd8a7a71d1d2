"""A contact sheet of pairs: past image, current image, and the instruction that leads from one to the other."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageFont

from instructx2x.errors import InputError
from instructx2x.imaging.pictures import FORMATS

PANEL, GAP, CAPTION = 256, 8, 62  # pixels
MAX_PAIRS = 60


def contact_sheet(folder: Path, table: pl.DataFrame, count: int = 12, seed: int = 0) -> np.ndarray:
    """Draw pairs at random from a dataset, two to a row.

    Args:
        folder: the dataset's.
        table: its rows, of one split or of all (`table.load_dataset`).
        count: pairs to draw, up to 60; all when there are fewer.
        seed: which ones.

    Returns:
        (height, width) uint8.

    Raises:
        InputError: no rows, tables only, or an image that is missing or damaged.
    """
    if not 1 <= count <= MAX_PAIRS:
        raise InputError(f"{count} pairs on a sheet: choose 1 to {MAX_PAIRS}")
    if table.is_empty():
        raise InputError("there are no pairs to show: choose another split")
    rows = table.sample(min(count, len(table)), seed=seed, shuffle=True).to_dicts()
    if any(row["current_image"] is None for row in rows):
        raise InputError("this dataset has tables only: build it with images to see them")
    font = ImageFont.load_default(12)
    width, height = 2 * (PANEL + GAP) + GAP, PANEL + CAPTION + GAP
    columns = min(2, len(rows))
    sheet = Image.new("L", (columns * width, -(-len(rows) // columns) * height + GAP))
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        left, top = number % columns * width + GAP, number // columns * height + GAP
        for offset, name in ((0, row["past_image"]), (PANEL + GAP, row["current_image"])):
            sheet.paste(_panel(folder / name), (left + offset, top))
        days = "" if row["days"] is None else f", {row['days']:g} days apart"
        words = textwrap.wrap(row["instruction"] or "(nothing has changed)", 84)[:3]
        caption = "\n".join([*words, f"{row['split']}, {row['view']}{days}"])
        draw.multiline_text((left, top + PANEL + 4), caption, fill="white", font=font, spacing=2)
    return np.asarray(sheet)


def _panel(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.convert("L").resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    except Exception as error:  # whatever a decoder says of damage
        raise InputError(f"{path} is missing or damaged: run x2x dataset build again, it goes on there") from error
