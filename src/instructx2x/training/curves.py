"""Curves of a run as CSV files, one row a report; a resumed run has every row once."""

from __future__ import annotations

import csv
from pathlib import Path

from instructx2x.errors import InputError
from instructx2x.imaging.writing import atomic_write


def cut(path: Path, step: int) -> None:
    """Drop the rows after `step`: a resumed run writes them again."""
    if path.is_file():
        # A kill can leave the last row, or the head, half written.
        # As bytes: csv ends its lines with two characters, of which text loses one.
        content = path.read_bytes()
        head, *rows = [row for row in content.splitlines(keepends=True) if row.endswith(b"\n")] or [b""]
        kept = head + b"".join(row for row in rows if _step(path, row) <= step)
        if kept != content:
            atomic_write(path, lambda file: file.write_bytes(kept))


def append(path: Path, row: dict[str, float]) -> None:
    """Add a row; its keys, of which the first is the step, head the file."""
    new = not path.is_file() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def _step(path: Path, row: bytes) -> int:
    try:
        return int(row.split(b",")[0])
    except ValueError as error:
        raise InputError(f"{path} is no curve of a run, for a line starts without a step: delete it") from error
