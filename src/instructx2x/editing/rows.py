"""The rows of a batch: which image, which instruction, which seed, and the name of the result's folder."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from instructx2x.errors import InputError
from instructx2x.results.folders import folder_name

# Names that a batch uses itself, beside the results' folders.
RESERVED = ("manifest.jsonl", "seconds.jsonl", "sheet.png")
PAGE = re.compile(r"sheet(-\d+)?\.png", re.IGNORECASE)  # the contact sheet's pages
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
MAX_TABLE_BYTES = 100_000_000
OPTIONAL = ("instruction", "seed")


@dataclass(frozen=True)
class Row:
    """One edit of a batch.

    Attributes:
        number: its place, from 1.
        image: as the table names it.
        path: the image file.
        instruction: as typed.
        seed: of its noise; None where the table holds no number.
        folder: name of the result's folder, different for every row.
    """

    number: int
    image: str
    path: Path
    instruction: str
    seed: int | None
    folder: str


def table_rows(table: Path, instruction: str | None = None, seed: int | None = None) -> list[Row]:
    """Read a CSV file with the columns image, instruction and, if wanted, seed; others are passed over.

    Args:
        table: the file, UTF-8. Image paths in it are relative to its folder.
        instruction, seed: of rows that name none; without a seed, 0.

    Raises:
        InputError: the table cannot be read, lacks a column, or is empty; or no row is left for what is given.
    """
    cells = read_cells(table, ["image"] if instruction is not None else ["image", "instruction"])
    for option, column, value in (("--instruction", "instruction", instruction), ("--seed", "seed", seed)):
        if value is not None and all(cell.get(column) for cell in cells):
            raise InputError(f"{table} has its own {column} in every row: leave {option} out")
    return named(
        (
            cell["image"],
            table.parent / cell["image"],
            cell.get("instruction") or instruction or "",
            seed_in(cell.get("seed", ""), seed or 0),
        )
        for cell in cells
    )


def read_cells(table: Path, wanted: Sequence[str], optional: Sequence[str] = OPTIONAL) -> list[dict[str, str]]:
    """Read a CSV file of rows to edit: one mapping a row, from the column's name in small letters to its text.

    Args:
        table: the file, UTF-8.
        wanted: columns that must be there.
        optional: columns that mean something where they are there; all others are the reader's own.

    Raises:
        InputError: the table cannot be read, lacks a column or names one twice, seems to misspell one, or is empty.
    """
    try:
        if table.stat().st_size > MAX_TABLE_BYTES:
            raise InputError(f"{table} is larger than {MAX_TABLE_BYTES // 1_000_000} MB: split it")
        lines = [
            line for line in csv.reader(io.StringIO(table.read_text("utf-8-sig"), newline=""), strict=True) if line
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{table} cannot be read as a CSV file in UTF-8: {reason}") from error
    names = [name.strip().lower() for name in lines[0]] if lines else []
    if not set(wanted) <= set(names):
        raise InputError(f"{table} needs one column image and one column instruction in its first line, not: {names}")
    if len(set(filled := [name for name in names if name])) < len(filled):
        raise InputError(f"{table} has two columns of one name in its first line: {names}")
    absent = [name for name in optional if name not in names]
    for name in set(names) - {*wanted, *optional}:
        # Passed over in silence, it would be missed when hours of editing are done.
        if meant := get_close_matches(name, absent, n=1, cutoff=0.85):
            raise InputError(f"{table} has a column {name}: call it {meant[0]} if that is meant, or else less like it")
    longer = next((number for number, line in enumerate(lines) if any(line[len(names) :])), None)
    if longer is not None:
        raise InputError(f'{table}, row {longer}, has more cells than columns: put cells with commas into "quotes"')
    if len(lines) == 1:
        raise InputError(f"{table} has no rows below its first line")
    # A row may be cut short; what it does not hold is empty.
    return [dict.fromkeys(names, "") | dict(zip(names, map(str.strip, line), strict=False)) for line in lines[1:]]


def folder_rows(folder: Path, instruction: str, seed: int = 0) -> list[Row]:
    """One row for every image in a folder, by its name, the same instruction and seed for all.

    An image is a file with an ending of `IMAGE_SUFFIXES`, or without one, as DICOM files often are.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and _may_be_image(path))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}") from error
    if not files:
        raise InputError(f"{folder} holds no image: no file ends with {', '.join(IMAGE_SUFFIXES)}")
    return named((path.name, path, instruction, seed) for path in files)


def _may_be_image(path: Path) -> bool:
    # The numbers of a DICOM identifier look like an ending.
    suffix = path.suffix.lower()
    return not path.name.startswith(".") and (suffix in IMAGE_SUFFIXES or suffix[1:].isdigit() or not suffix)


def seed_in(cell: str, otherwise: int) -> int | None:
    """A seed in a table; None where it is no whole number of 0 or more."""
    if not cell:
        return otherwise
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 20 else None


def named(asked: Iterable[tuple[str, Path, str, int | None]]) -> list[Row]:
    """Give every row a folder of its own, by its image's name: chest, chest-2, ...

    A name depends on the rows before alone, so that rows may be added at a table's end. Names that differ in case
    alone count as one, because many file systems take them for one.
    """
    rows, taken, copies = [], set(RESERVED), defaultdict(int)
    for number, (image, path, instruction, seed) in enumerate(asked, start=1):
        stem = folder_name(path.stem)
        name = stem
        while name.casefold() in taken or PAGE.fullmatch(name):
            # Counted on from the last copy, so that thousands of rows of one image stay quick.
            copies[stem] = max(copies[stem], 1) + 1
            name = f"{stem}-{copies[stem]}"
        taken.add(name.casefold())
        rows.append(Row(number, image, path, instruction, seed, name))
    return rows
