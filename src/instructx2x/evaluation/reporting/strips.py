"""Pictures to look at: panels of one image in a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x import NOTICE
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.writing import eight_bit, write_png

# Side of a panel, and height of the title above it, in pixels.
PANEL, CAPTION = 256, 18


def strip(title: str, panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels in a row under a title: (h, w) in [0, 1] or (h, w, 3) uint8 each -> (rows, columns, 3) uint8."""
    picture = Image.new("RGB", (PANEL * len(panels), PANEL + CAPTION))
    for column, panel in enumerate(panels):
        if panel.ndim == 2:
            panel = eight_bit(resize(panel, PANEL, PANEL))
        shown = Image.fromarray(panel).convert("RGB").resize((PANEL, PANEL), Image.Resampling.BOX)
        picture.paste(shown, (PANEL * column, CAPTION))
    ImageDraw.Draw(picture).text((4, 2), title, fill="white", font=ImageFont.load_default(12))
    return np.asarray(picture)


def write_sheet(columns: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Strips below each other, in columns beside each other, over the notice that they are synthetic."""
    columns = [np.concatenate(column) for column in columns if column]
    if not columns:
        return
    height, width = max(len(column) for column in columns), sum(column.shape[1] for column in columns)
    sheet = Image.new("RGB", (width, height + CAPTION))
    left = 0
    for column in columns:
        sheet.paste(Image.fromarray(column), (left, 0))
        left += column.shape[1]
    ImageDraw.Draw(sheet).text((4, height + 2), NOTICE, fill=(255, 190, 60), font=ImageFont.load_default(12))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(np.asarray(sheet), path, text={"Synthetic": "yes", "Notice": NOTICE})
