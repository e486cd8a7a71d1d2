"""The seal of a result: `report.json` names every other file of the folder with its SHA-256, and itself.

A seal shows that nothing was changed by accident or in passing. It is no signature: who rewrites all files and all
digests can make a consistent forgery.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from instructx2x.files import digest

REPORT = "report.json"
SCHEMA = 2


def report_digest(report: dict[str, Any]) -> str:
    """SHA-256 of a report's content without its own digest, in hexadecimal digits."""
    content = {key: value for key, value in report.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def pixels_digest(pixels: np.ndarray, where: np.ndarray) -> str:
    """SHA-256 of the stored values of chosen pixels, row by row, as 32-bit little-endian integers.

    Args:
        pixels: (H, W) stored values.
        where: (H, W) bool, the pixels that count.
    """
    return hashlib.sha256(pixels[where].astype("<i4").tobytes()).hexdigest()


def seal(folder: Path, report: dict[str, Any]) -> None:
    """Write `report.json` beside the other files of a finished result folder.

    Raises:
        OSError: the file cannot be written.
    """
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != REPORT}
    sealed = {"schema": SCHEMA, **report, "files": files}
    sealed["sha256"] = report_digest(sealed)
    (folder / REPORT).write_text(json.dumps(sealed, indent=2, allow_nan=False) + "\n", encoding="utf-8")
