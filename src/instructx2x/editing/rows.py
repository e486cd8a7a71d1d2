"""The rows of a batch: which image, which instruction, which seed, and the name of the result's folder."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from instructx2x.errors import InputError
from instructx2x.files import contents, label
from instructx2x.results.folders import folder_name

# Names that a batch uses itself, beside the results' folders.
RESERVED = ("manifest.jsonl", "seconds.jsonl", "sheet.png")
PAGE = re.compile(r"sheet(-\d+)?\.png", re.IGNORECASE)  # the contact sheet's pages
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
MAX_TABLE_BYTES = 100_000_000
OPTIONAL = ("instruction", "seed")
DELIMITERS = (",", ";", "\t")
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Row:
    """One edit of a batch.

    Attributes:
        number: its place, from 1.
        image: as the table names it, on one line.
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
        table: the file. Image paths in it are relative to its folder.
        instruction, seed: of rows that name none; without a seed, 0.

    Raises:
        InputError: the table cannot be read, lacks a column, or is empty; or no row is left for what is given.
    """
    cells = read_cells(table, ["image"] if instruction is not None else ["image", "instruction"])
    for option, column, value in (("--instruction", "instruction", instruction), ("--seed", "seed", seed)):
        if value is not None and all(cell.get(column) for cell in cells):
            raise InputError(f"{table} has its own {column} in every row: leave {option} out")
    find = finder(table.parent)
    return named(
        (
            cell["image"],
            find(cell["image"]),
            cell.get("instruction") or instruction or "",
            seed_in(cell.get("seed", ""), seed or 0),
        )
        for cell in cells
    )


def read_cells(table: Path, wanted: Sequence[str], optional: Sequence[str] = OPTIONAL) -> list[dict[str, str]]:
    """Read a CSV file of rows to edit: one mapping a row, from the column's name in small letters to its text.

    Cells may have commas, semicolons or tabs between them, and the file may be UTF-8, or UTF-16 as spreadsheets save
    "Unicode text". Rows without text are passed over. Line breaks and other blanks in an instruction are spaces.

    Args:
        table: the file.
        wanted: columns that must be there.
        optional: columns that mean something where they are there; all others are the reader's own.

    Raises:
        InputError: the table cannot be read, lacks a column or names one twice, seems to misspell one, or is empty.
    """
    try:
        data = contents(table, MAX_TABLE_BYTES)
    except InputError as error:
        raise InputError(f"{error} (needed is a CSV table with the columns {' and '.join(wanted)})") from error
    text = _text(data, table)
    lines = _lines(text, wanted, table)
    names = [name.strip().lower() for name in lines[0]]
    shown = label(table)
    if not set(wanted) <= set(names):
        raise InputError(
            f"{shown} needs one column image and one column instruction in its first line, with commas between them, "
            f"not: {str(names)[:200]}"
        )
    if len(set(filled := [name for name in names if name])) < len(filled):
        raise InputError(f"{shown} has two columns of one name in its first line: {names}")
    absent = [name for name in optional if name not in names]
    for name in set(names) - {*wanted, *optional}:
        # Passed over in silence, it would be missed when hours of editing are done.
        if meant := get_close_matches(name, absent, n=1, cutoff=0.85):
            raise InputError(
                f"{shown} has a column {label(name)}: call it {meant[0]} if that is meant, or else less like it"
            )
    longer = next((number for number, line in enumerate(lines) if any(line[len(names) :])), None)
    if longer is not None:
        raise InputError(f'{shown}, row {longer}, has more cells than columns: put cells with commas into "quotes"')
    if len(lines) == 1:
        raise InputError(f"{shown} has no rows below its first line")
    # A row may be cut short; what it does not hold is empty.
    cells = [dict.fromkeys(names, "") | dict(zip(names, map(str.strip, line), strict=False)) for line in lines[1:]]
    return [
        cell | {"instruction": " ".join(cell["instruction"].split())} if "instruction" in cell else cell
        for cell in cells
    ]


def _text(data: bytes, table: Path) -> str:
    """The characters of a table, with plain line ends."""
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    # UTF-16 without its mark is text to UTF-8, with a zero beside every letter.
    if text.count("\0") * 4 >= len(text) > 0:
        raise InputError(f"{label(table)} is not UTF-8 text: save it as CSV UTF-8 with commas between cells")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(text: str, wanted: Sequence[str], table: Path) -> list[list[str]]:
    """Cells of every row that holds text, by the first delimiter that gives a first line with the wanted columns."""
    # What spreadsheets put first to say which it is.
    text = re.sub(r"""\A["']?sep=.["']?\n""", "", text, flags=re.IGNORECASE)
    first: list[list[str]] = []
    failed: csv.Error | None = None
    try:
        for delimiter in DELIMITERS:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            rows = (line for line in reader if any(map(str.strip, line)))
            try:
                head = next(rows, [])
            except csv.Error as error:
                # Cells in quotes are an error to every delimiter but their own.
                failed = failed or error
                continue
            if set(wanted) <= {name.strip().lower() for name in head}:
                return [head, *rows]
            first = first or [head]
        if failed is not None and not first:
            raise failed
    except csv.Error as error:
        raise InputError(f"{label(table)} cannot be read as a CSV file: {error}; save it as CSV UTF-8") from error
    return first


def folder_rows(folder: Path, instruction: str, seed: int = 0) -> list[Row]:
    """One row for every image in a folder, by its name, the same instruction and seed for all.

    An image is a file with an ending of `IMAGE_SUFFIXES`, or without one, as DICOM files often are.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and _may_be_image(path))
    except OSError as error:
        raise InputError(f"{label(folder)} cannot be read: {error.strerror or error}") from error
    if not files:
        raise InputError(f"{label(folder)} holds no image: no file ends with {', '.join(IMAGE_SUFFIXES)}")
    return named((path.name, path, instruction, seed) for path in files)


def _may_be_image(path: Path) -> bool:
    # The list of a disc is no image, though it is DICOM. The numbers of a DICOM identifier look like an ending.
    if path.name.upper().rstrip(".").partition(";")[0] == "DICOMDIR":
        return False
    suffix = path.suffix.lower()
    return not path.name.startswith(".") and (suffix in IMAGE_SUFFIXES or suffix[1:].isdigit() or not suffix)


def seed_in(cell: str, otherwise: int) -> int | None:
    """A seed in a table; None where it is no whole number of 0 or more. Spreadsheets may write 3 as 3.0."""
    if not cell:
        return otherwise
    seed = whole_in(cell)
    return seed if seed is not None and len(str(seed)) < 20 else None


def whole_in(cell: str) -> int | None:
    """A whole number of 0 or more in a table, with or without a point and zeros behind it; None for all else."""
    found = re.fullmatch(r"([0-9]{1,30})(\.0*)?", cell.strip())
    return int(found[1]) if found else None


def finder(folder: Path) -> Callable[[str], Path]:
    """A function from a path in a table to the file that it means.

    Paths are relative to `folder`; ~ is the home folder. Where no file has the very name, one is taken whose letters
    are composed in another way (as on other systems), and backslashes are taken for the slashes of Windows.
    """
    listings: dict[Path, dict[str, str]] = {}

    def composed(path: Path) -> Path:
        """The path with each part as its folder spells it, as far as it is there."""
        at = Path(path.anchor)
        for part in path.parts[1:] if path.anchor else path.parts:
            if part not in ("..", "") and not (at / part).exists():
                if at not in listings:
                    # Listed once: tables have thousands of rows.
                    names = os.listdir(at) if at.is_dir() else []
                    listings[at] = {unicodedata.normalize("NFC", name): name for name in names}
                part = listings[at].get(unicodedata.normalize("NFC", part), part)
            at /= part
        return at

    def find(cell: str) -> Path:
        plain = folder / cell
        try:
            if plain.exists():
                return plain
            for text in dict.fromkeys((cell, cell.replace("\\", "/"))):
                path = composed(folder / os.path.expanduser(text))
                if path.exists():
                    return path
        except (OSError, ValueError):
            pass  # no name that a file can have; reading it says so
        return plain

    return find


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
        rows.append(Row(number, label(image), path, instruction, seed, name))
    return rows
