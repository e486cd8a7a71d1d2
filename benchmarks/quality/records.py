"""What a long benchmark keeps on the disk, so that a killed run goes on, and the pictures that it leaves to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x import NOTICE
from instructx2x.errors import OutputError
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.writing import write_png

PANEL, CAPTION = 256, 18


class Journal:
    """Records by their key, one JSON object a line of a file; a line that a kill cut off is dropped.

    Args:
        path: the file; made with its folder when it is not there.
        settings: what decides about the records' values. A file of other settings is refused.

    Raises:
        OutputError: the file is no journal, or one of other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.records = path, {}
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            self.records = {record.pop("key"): record for record in lines}
        except (ValueError, KeyError, AttributeError) as error:
            raise OutputError(f"{path} is no journal of this program: choose another --out") from error
        if self.records and self.records.get("settings") != json.loads(json.dumps(settings)):
            raise OutputError(f"{path} was begun with another model or judge: choose another --out")
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        if not self.records:
            self.add("settings", settings)

    def __contains__(self, key: str) -> bool:
        return key in self.records

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.records[key]

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Append a record; in one write, so that a kill leaves at most one part of a line."""
        line = json.dumps({"key": key, **record}, allow_nan=False) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self.records[key] = json.loads(line)
        del self.records[key]["key"]


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
