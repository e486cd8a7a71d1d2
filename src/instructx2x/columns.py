"""Columns of CSV files, read as text and checked by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from instructx2x.errors import InputError
from instructx2x.files import label
from instructx2x.results.folders import is_plain_name


def check_columns(path: Path, columns: Sequence[str]) -> list[str]:
    """The header of a CSV (plain or .gz), which must have these columns.

    Raises:
        InputError: the file cannot be read, or lacks a column; the line names it.
    """
    header = _read(path, n_rows=0).columns
    absent = [column for column in columns if column not in header]
    if absent:
        raise InputError(f"{path} has no column {', '.join(absent)}: give the file as it was published")
    return header


def read_columns(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pl.DataFrame:
    """Columns of a CSV (plain or .gz), all as text; of the optional ones those that are there.

    Raises:
        InputError: as for `check_columns`.
    """
    header = check_columns(path, columns)
    wanted = [*columns, *(column for column in optional if column in header)]
    return _read(path, columns=wanted).select(wanted)


def check_ids(table: pl.DataFrame, path: Path, columns: Sequence[str]) -> None:
    """Refuse ids that cannot name a file: files are called by them, here and on other systems.

    Args:
        table: columns as text; empty cells are passed over.
        path: the file it was read from, for the message.
        columns: which of them hold ids.

    Raises:
        InputError: with the first such id and its row, counted from 1 below the header.
    """
    for column in columns:
        # Nearly all are plain letters and digits, which polars sees at once.
        odd = table.select(pl.col(column)).with_row_index("row", 1).filter(~pl.col(column).str.contains(_PLAIN))
        for row, value in [*odd.iter_rows(), *_devices(table[column])]:
            if not is_plain_name(value):
                raise InputError(
                    f"{path}, row {row}: the {column} {value!r:.60} cannot name a file: use letters, digits, dots, "
                    "hyphens and underscores, 100 at most"
                )


_PLAIN = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{3,98}[A-Za-z0-9_-]$"


def _devices(values: pl.Series) -> Iterator[tuple[int, str]]:
    """Names that some systems keep for devices, however long they are."""
    found = values.str.contains(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)").fill_null(False)
    yield from ((row + 1, values[row]) for row in found.arg_true())


def check_harmless(table: pl.DataFrame, path: Path) -> None:
    """Refuse cells that a spreadsheet would run as a formula; asked of every CSV file before it is written.

    Raises:
        InputError: a text begins with =, +, -, @, a tab or a line end; the line shows it.
    """
    for column in table.select(pl.col(pl.String)):
        run = column.filter(column.str.contains(r"^[=+\-@\t\r\n]").fill_null(False))
        if len(run):
            raise InputError(
                f"{label(path)} would hold {run[0][:60]!r} in its column {column.name}, which spreadsheets run as a "
                "formula: rename it in the source"
            )


def _read(path: Path, **options: object) -> pl.DataFrame:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise InputError(f"{path} cannot be read: not a file but a folder or device")
    try:
        return pl.read_csv(path, infer_schema=False, **options)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
