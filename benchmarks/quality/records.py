"""The pictures that a benchmark leaves to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x import NOTICE
from instructx2x.evaluation.reporting.strips import CAPTION
from instructx2x.imaging.writing import write_png


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
