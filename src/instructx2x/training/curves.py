"""Curves of a run as CSV files, one row a report; a resumed run has every row once."""

from __future__ import annotations

import csv
from pathlib import Path

from instructx2x.imaging.writing import atomic_write


def cut(path: Path, step: int) -> None:
    """Drop the rows after `step`: a resumed run writes them again."""
    if path.is_file():
        # A kill can leave the last row, or the head, half written.
        head, *rows = [row for row in path.read_text().splitlines(keepends=True) if row.endswith("\n")] or [""]
        kept = head + "".join(row for row in rows if int(row.split(",")[0]) <= step)
        atomic_write(path, lambda file: file.write_text(kept))


def append(path: Path, row: dict[str, float]) -> None:
    """Add a row; its keys, of which the first is the step, head the file."""
    new = not path.is_file() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
