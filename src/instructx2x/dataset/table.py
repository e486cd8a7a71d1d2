"""The table of a dataset: one row a pair and instruction. Every source is brought to it, and every reader takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from instructx2x.dataset.splits import SPLITS
from instructx2x.errors import InputError
from instructx2x.instructions import Edit

EDIT_FIELDS = ("operation", "finding", "side", "zone", "level", "from_level")

SCHEMA = pl.Schema(
    {
        "past_dicom_id": pl.String,
        "current_dicom_id": pl.String,
        "subject_id": pl.String,
        "past_study_id": pl.String,
        "current_study_id": pl.String,
        "instruction": pl.String,  # canonical text
        "edits": pl.List(pl.Struct(dict.fromkeys(EDIT_FIELDS, pl.String))),  # what it means
        "split": pl.String,  # train, validate or test, by patient
        "view": pl.String,  # of both images
        "sex": pl.String,  # F or M; null: not known
        "age": pl.Float64,  # years, at the past image; null: not known
        "days": pl.Float64,  # from the past to the current image; null: only their order is known
        "tokens": pl.Int64,  # of the instruction, as CLIP counts
        "part": pl.Int64,  # of an instruction that was divided, from 1
        "parts": pl.Int64,
        "past_findings": pl.List(pl.String),  # what the reports or labels name, null: unknown
        "current_findings": pl.List(pl.String),
        "past_image": pl.String,  # relative to the dataset's folder; null: tables only
        "current_image": pl.String,
        "registration": pl.Float64,  # quality of the alignment; null: not registered
    }
)

REJECTS = pl.Schema(
    {
        "row": pl.Int64,  # in the source's table, from 0
        "past_study_id": pl.String,
        "current_study_id": pl.String,
        "subject_id": pl.String,
        "text": pl.String,  # the answer, or what else the source says of the change
        "reason": pl.String,
        "detail": pl.String,
    }
)

ORDER = ("subject_id", "current_study_id", "current_dicom_id", "past_study_id", "past_dicom_id", "part")


@cache  # the language has few edits, a dataset many
def _edit_row(edit: Edit) -> dict[str, str | None]:
    return {**asdict(edit), "operation": edit.operation.value}


def edit_rows(edits: Sequence[Edit]) -> list[dict[str, str | None]]:
    """Edits as the table holds them."""
    return list(map(_edit_row, edits))


def edits_from_rows(rows: Sequence[dict[str, str | None]]) -> tuple[Edit, ...]:
    """Edits from the table; the inverse of `edit_rows`."""
    return tuple(Edit(**row) for row in rows)


def to_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows with the keys of SCHEMA, in the one order in which datasets are written; further keys are left out."""
    columns = {name: [row[name] for row in rows] for name in SCHEMA if name != "edits"}
    table = pl.DataFrame(columns, schema={name: SCHEMA[name] for name in columns}).with_row_index("number")
    # polars takes ten times as long over lists of structs, row by row.
    edits = [(number, *edit.values()) for number, row in enumerate(rows) for edit in row["edits"]]
    flat = pl.DataFrame(edits, schema={"number": pl.UInt32} | dict.fromkeys(EDIT_FIELDS, pl.String), orient="row")
    lists = flat.group_by("number").agg(pl.struct(EDIT_FIELDS).alias("edits"))
    table = table.join(lists, on="number", how="left", maintain_order="left").with_columns(
        pl.col("edits").fill_null([])
    )
    return table.select(SCHEMA.names()).cast(SCHEMA).sort(ORDER)


def load_dataset(folder: Path, split: str | None = None) -> pl.DataFrame:
    """Read a built dataset.

    Args:
        folder: what `x2x dataset build` wrote.
        split: train, validate or test; all of them by default.

    Returns:
        A table of SCHEMA.

    Raises:
        InputError: the folder holds no dataset, or another program's.
    """
    files = [folder / "data" / f"{name}.parquet" for name in SPLITS if split in (None, name)]
    if not files:
        raise InputError(f"split {split!r:.40} is unknown: use {', '.join(SPLITS)}")
    if not all(file.is_file() for file in files):
        raise InputError(f"{folder} holds no finished dataset: build one with x2x dataset build, or run it again")
    try:
        tables = [pl.read_parquet(file) for file in files]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{folder} holds a damaged table: build the dataset anew") from error
    for table, file in zip(tables, files, strict=True):
        if table.schema != SCHEMA:
            raise InputError(f"{file} has other columns than a dataset of x2x: build it anew with x2x dataset build")
    return pl.concat(tables)
