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

from instructx2x.errors import InputError
from instructx2x.files import contents, digest

REPORT = "report.json"
SCHEMA = 2

# Bytes that a report may have, many times those of a long one. Parsed, JSON can take thirty times its size.
MAX_REPORT = 4 << 20


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a result folder, as it stands there: a JSON object, unchecked.

    Raises:
        InputError: there is none, or what stands there is no such file, or too large or too deep to be one.
    """
    path = folder / REPORT
    try:
        report = json.loads(contents(path, MAX_REPORT))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged, or no report of a result") from error
    if not isinstance(report, dict):
        raise InputError(f"{path}: no report of a result")
    return report


def marks(report: dict[str, Any], name: str) -> dict[str, str]:
    """What a picture of a result says of itself in its file.

    Args:
        report: of the result.
        name: the picture's, as in the result folder.
    """
    first, stem = report["seed"], name.partition(".")[0]
    text = {
        "Synthetic": "yes",
        "Instruction": report["instruction"]["text"],
        "Model": f"{report['model']['name']} sha256:{report['model']['sha256']}",
        "Seed": str(first),
    }
    if stem.startswith("edited_seed_"):
        return text | {"Seed": stem.removeprefix("edited_seed_"), "Mask of seed": str(first)}
    if stem in ("edited_mean", "samples"):
        return text | {"Seed": f"{first} to {first + report['samples'] - 1}", "Mask of seed": str(first)}
    return text


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
