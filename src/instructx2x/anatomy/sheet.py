"""One sheet of all pseudo masks: every finding, side and zone, over an image or over the average lungs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x.anatomy.lungs import Lungs, segment_lungs
from instructx2x.anatomy.priors import packaged_priors
from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.errors import AnatomyError
from instructx2x.imaging.geometry import resize
from instructx2x.instructions import FINDINGS, ZONES, Edit, Operation

PANEL, GAP, TITLE = 96, 4, 16  # pixels
COLUMNS = (("any side", None, None), *((s, s, None) for s in ("left", "right")), *((z, None, z) for z in ZONES))
RED, YELLOW = np.array([255.0, 40.0, 40.0]), (255, 220, 0)


def mask_sheet(
    display: np.ndarray | None = None, anatomy: str | Path = "default"
) -> tuple[np.ndarray, dict[str, float], list[str]]:
    """Draw the masks of all findings, a row each: anywhere, left, right, and in every zone.

    Args:
        display: (H, W) brightness in [0, 1] to draw on; None: the average lungs, with the average patient's masks.
        anatomy: as for `pseudo_mask`; without an image, what needs lungs falls back to "prior".

    Returns:
        The sheet, (h, w, 3) uint8; finding -> share of the image that its mask opens, any side and zone; and what the
        user should know of the masks, one line each.

    Raises:
        AnatomyError: an unknown `anatomy`, or an unusable folder or file.
    """
    if display is None:
        display = resize(packaged_priors().lung_share().astype(np.float32) * -0.6 + 0.7, 2 * PANEL, 2 * PANEL)
        anatomy = "prior" if anatomy in ("default", "patient") else anatomy
        nothing = np.zeros(display.shape, bool)
        lungs = Lungs(nothing, nothing, False, "there is no image")
    else:
        lungs = segment_lungs(display)
    font = ImageFont.load_default(11)
    columns, rows = len(COLUMNS), len(FINDINGS)
    sheet = Image.new("RGB", (columns * (PANEL + GAP) + GAP, rows * (PANEL + TITLE + GAP) + GAP))
    draw = ImageDraw.Draw(sheet)
    base = np.clip(resize(display, PANEL, PANEL), 0, 1)[..., None] * 255
    coverage: dict[str, float] = {}
    warnings: dict[str, None] = {}
    for row, column, finding, edit in _panels():
        left, top = GAP + column * (PANEL + GAP), GAP + row * (PANEL + TITLE + GAP)
        if column == 0:
            draw.text((left, top), finding, fill="white", font=font)
        try:
            mask = pseudo_mask([edit], display, anatomy=anatomy, lungs=lungs)
        except AnatomyError as error:
            if column == 0:
                # A folder of masks need not hold every finding; anything else holds for all of them.
                if not Path(anatomy).is_dir():
                    raise
                warnings[str(error)] = None
            continue
        warnings |= dict.fromkeys(mask.warnings)
        if column == 0:
            coverage[finding] = mask.coverage
        veil = 0.6 * np.clip(resize(mask.values, PANEL, PANEL), 0, 1)[..., None]
        panel = base * (1 - veil) + RED * veil
        sheet.paste(Image.fromarray(np.round(panel).astype(np.uint8)), (left, top + TITLE))
        draw.text((left + 3, top + TITLE + 1), COLUMNS[column][0], fill=YELLOW, font=font)
    if not coverage:
        raise AnatomyError(f"{anatomy} holds no mask of any finding")
    return np.asarray(sheet), coverage, list(warnings)


def _panels() -> Iterator[tuple[int, int, str, Edit]]:
    """Row, column, finding and edit of every panel that makes sense."""
    for row, (name, finding) in enumerate(FINDINGS.items()):
        for column, (_, side, zone) in enumerate(COLUMNS):
            if (side is None or finding.has_side) and (zone is None or finding.has_zone):
                yield row, column, name, Edit(Operation.ADD, name, side, zone)
