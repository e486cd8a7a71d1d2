"""Contact sheets: input, edited and difference of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x import NOTICE
from instructx2x.editing import pictures
from instructx2x.editing.rows import PAGE
from instructx2x.imaging.pictures import FORMATS
from instructx2x.imaging.writing import text_entries, write_png
from instructx2x.results.folders import clean

# Side of a panel's square in pixels; tiles of three panels, so many across a page and so many down.
PANEL, ACROSS, DOWN = 200, 3, 12
_CAPTION, _GAP = 34, 6
CONTENTS = "contact sheet of x2x batch"  # the mark in a page's text entries
_TILE = (3 * PANEL + _GAP, PANEL + _CAPTION + _GAP)


def write_sheets(entries: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Write `sheet.png`, and `sheet-2.png`, ... where the rows do not fit on one page.

    Args:
        entries: of the batch's manifest, see `batch.run_batch`.
        out: the batch's folder, with the results in it.

    Returns:
        The pages. Pages of an earlier, longer batch are removed; files of others that are called like pages stay.
    """
    size = ACROSS * DOWN
    pages = []
    for number, start in enumerate(range(0, len(entries), size), start=1):
        path = out / page_name(number)
        write_png(_page(entries[start : start + size], out), path, text={"Synthetic": "yes", "Contents": CONTENTS})
        pages.append(path)
    for path in out.glob("sheet*.png"):
        if PAGE.fullmatch(path.name) and path not in pages and is_page(path):
            path.unlink()
    return pages


def page_name(number: int) -> str:
    """Of the page with this number, from 1."""
    return "sheet.png" if number == 1 else f"sheet-{number}.png"


def is_page(path: Path) -> bool:
    """Whether a file is a page that this module wrote, whatever else is called like one."""
    return not path.is_symlink() and text_entries(path).get("Contents") == CONTENTS


def _page(entries: Sequence[dict[str, Any]], out: Path) -> np.ndarray:
    """(h, w, 3) uint8: one tile an entry, from left to right and down."""
    across = min(ACROSS, len(entries))
    down = -(-len(entries) // across)
    page = Image.new("RGB", (across * _TILE[0], down * _TILE[1] + _CAPTION))
    for number, entry in enumerate(entries):
        page.paste(_tile(entry, out), (number % across * _TILE[0], number // across * _TILE[1]))
    position = (_GAP, down * _TILE[1] + 8)
    ImageDraw.Draw(page).text(position, NOTICE, fill=(255, 190, 60), font=ImageFont.load_default(14))
    return np.asarray(page)


def _tile(entry: dict[str, Any], out: Path) -> Image.Image:
    tile = Image.new("RGB", _TILE)
    lines = [f"{entry['row']}  {entry['image']}  seed {entry['seed']}", entry["instruction"]]
    if entry["status"] == "done":
        try:
            with Image.open(out / entry["folder"] / "comparison.png", formats=FORMATS) as picture:
                panels = pictures.panels(np.asarray(picture))
        except OSError:
            lines[1] = "its comparison.png is gone"
        else:
            for number, panel in enumerate(panels[:3]):
                small = Image.fromarray(panel)
                small.thumbnail((PANEL, PANEL))
                tile.paste(small, (number * PANEL + (PANEL - small.width) // 2, _CAPTION))
    else:
        lines.append(f"failed: {entry['reason']}")
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(11)
    for number, line in enumerate(lines):
        # What the font has no glyphs for, or what is no glyph at all, is no reason to fail.
        text = clean(line).encode("ascii", "replace").decode()
        while text and draw.textlength(text, font) > _TILE[0] - 2 * _GAP:
            text = text[: -max(1, len(text) // 20)]
        draw.text((4, 2 + 15 * number), text, fill="white", font=font)
    return tile
