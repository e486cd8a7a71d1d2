"""Pictures to look at: panels of one image in a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x.imaging.geometry import resize

# Side of a panel, and height of the title above it, in pixels.
PANEL, CAPTION = 256, 18


def strip(title: str, panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels in a row under a title: (h, w) in [0, 1] or (h, w, 3) uint8 each -> (rows, columns, 3) uint8."""
    picture = Image.new("RGB", (PANEL * len(panels), PANEL + CAPTION))
    for column, panel in enumerate(panels):
        if panel.ndim == 2:
            panel = np.round(255 * np.clip(resize(panel, PANEL, PANEL), 0, 1)).astype(np.uint8)
        shown = Image.fromarray(panel).convert("RGB").resize((PANEL, PANEL), Image.Resampling.BOX)
        picture.paste(shown, (PANEL * column, CAPTION))
    ImageDraw.Draw(picture).text((4, 2), title, fill="white", font=ImageFont.load_default(12))
    return np.asarray(picture)
