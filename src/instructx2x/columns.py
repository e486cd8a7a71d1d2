"""Columns of CSV files, read as text and checked by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from instructx2x.errors import InputError
from instructx2x.files import label


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
    try:
        return pl.read_csv(path, infer_schema=False, **options)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
