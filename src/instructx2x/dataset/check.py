"""Whether a built dataset is whole and says what it should, file by file and row by row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
from PIL import PngImagePlugin

from instructx2x.dataset.images import usable_processors
from instructx2x.dataset.output import official_table
from instructx2x.dataset.people import OLDEST, SEXES
from instructx2x.dataset.splits import SPLITS
from instructx2x.dataset.table import ORDER, edits_from_rows, load_dataset
from instructx2x.errors import InputError, InstructX2XError
from instructx2x.files import open_regular, text
from instructx2x.imaging.writing import text_entries
from instructx2x.instructions import parse, render
from instructx2x.instructions.tokens import clip_tokens
from instructx2x.progress import progress
from instructx2x.results.folders import is_plain_name


def check_dataset(folder: Path) -> list[str]:
    """Check a dataset: its tables against each other, its instructions, its splits and every image.

    Args:
        folder: what `x2x dataset build` wrote.

    Returns:
        One line for each kind of problem, with the first place where it stands; empty when all is well.

    Raises:
        InputError: the folder holds no finished dataset.
    """
    try:
        report = json.loads(text(folder / "report.json"))
        images = report["settings"]["images"]
        layout, size = images["layout"], images["preparation"] and images["preparation"]["size"]
        kept = {split: report["splits"][split]["instructions"] for split in SPLITS}
        rejected, rows = report["rejected"], report["difference_rows"] - report["rows_kept"]
    except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder} holds no finished dataset: run x2x dataset build again, it goes on") from error
    parts = {split: load_dataset(folder, split) for split in SPLITS}
    table = pl.concat(parts.values())
    problems = [*_rejects(folder, rejected, rows), *_rows(parts), *_places(table), *_instructions(table)]
    problems += _patients(folder, table)
    for split, part in parts.items():
        if len(part) != kept[split]:
            problems.append(f"data/{split}.parquet holds another number of instructions than report.json")
    if layout == "official":
        problems += _official(folder, table)
    if size:
        problems += _images(folder, table, size)
    return problems


def _rejects(folder: Path, expected: dict[str, int], rows: int) -> Iterator[str]:
    """The rejects against the counts of the report: by reason, and all in all."""
    try:
        with open_regular(folder / "rejects.parquet") as file:
            found = dict(pl.read_parquet(file)["reason"].value_counts().iter_rows())
    except (InputError, OSError, pl.exceptions.PolarsError):
        yield "rejects.parquet cannot be read"
        return
    if found != expected:
        yield "rejects.parquet holds other counts than report.json"
    if sum(found.values()) != rows:
        yield "report.json: the rows kept and left out do not add up to the rows of the source"


def _rows(parts: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    table = pl.concat(parts.values())
    if table.select("past_dicom_id", "current_dicom_id", "part").is_duplicated().any():
        yield "two rows have the same images and part"
    for name, wrong in {
        "a pair of an image with itself": pl.col("past_dicom_id") == pl.col("current_dicom_id"),
        "a current image that is not later than its past one": pl.col("days") <= 0,
        "a part that is none of its parts": ~pl.col("part").is_between(1, pl.col("parts")),
        "a sex that is neither F nor M": ~pl.col("sex").is_in(SEXES),
        "an age that nobody has": ~pl.col("age").is_between(0, OLDEST),
    }.items():
        found = table.filter(wrong)
        if len(found):
            yield f"{len(found)} rows: {name}, such as {found['current_dicom_id'][0]}"
    for split, part in parts.items():
        if not part["split"].eq_missing(split).all():
            yield f"data/{split}.parquet holds rows of another split"
        if not part.equals(part.sort(ORDER)):
            yield f"data/{split}.parquet is not in its order"


def _places(table: pl.DataFrame) -> Iterator[str]:
    """Ids and names of images that lead out of the dataset's folder, or that some system cannot hold."""
    for column in ("past_dicom_id", "current_dicom_id"):
        bad = [name for name in table[column].unique(maintain_order=True) if name is None or not is_plain_name(name)]
        if bad:
            yield f"{len(bad)} values of {column} cannot name a file, such as {bad[0]!r:.60}"
    for column in ("past_image", "current_image"):
        bad = [name for name in table[column].drop_nulls().unique(maintain_order=True) if not _is_inside(name)]
        if bad:
            yield f"{len(bad)} images of {column} do not lie in the dataset's folder, such as {bad[0]!r:.60}"


def _is_inside(name: str) -> bool:
    # Names of registered images are two ids long.
    return all(is_plain_name(piece) for part in name.removesuffix(".png").split("/") for piece in part.split("__"))


def _instructions(table: pl.DataFrame) -> Iterator[str]:
    """Every instruction is the canonical text of its edits, and is read back as them."""
    unique = table.select("instruction", "edits", "tokens").unique(maintain_order=True)
    wrong = []
    with progress("Checking instructions", len(unique)) as advance:
        for text, rows, tokens in unique.iter_rows():
            advance()
            try:
                edits = edits_from_rows(rows)
                right = text == (render(edits) if edits else "") and (not edits or parse(text) == edits)
                if not right or clip_tokens(text) != tokens:
                    wrong.append(text)
            except InstructX2XError:
                wrong.append(text)
    if wrong:
        yield f"{len(wrong)} instructions do not say what their edits say, such as {wrong[0]!r:.100}"


def _patients(folder: Path, table: pl.DataFrame) -> Iterator[str]:
    several = table.group_by("subject_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)
    if len(several):
        yield f"{len(several)} patients are in several splits, such as {several['subject_id'].min()}"
    try:
        listed = folder / "test_images.txt"
        # Sets without a test split have none.
        empty = listed.is_file() and not listed.stat().st_size
        held_out = set() if empty else set(text(listed).split())
    except InputError:
        yield "test_images.txt cannot be read"
        return
    for split in SPLITS:
        part = table.filter(pl.col("split") == split)
        images = {*part["past_dicom_id"], *part["current_dicom_id"]}
        if split == "test" and not images <= held_out:
            yield "test_images.txt lacks images of the test split"
        if split != "test" and images & held_out:
            yield f"images of the {split} split stand in test_images.txt"


def _official(folder: Path, table: pl.DataFrame) -> Iterator[str]:
    try:
        lines = io.StringIO(text(folder / "instructions.csv", 1 << 30), newline="")
        rows = [tuple(row) for row in csv.reader(lines)]
    except (InputError, csv.Error):
        yield "instructions.csv cannot be read"
        return
    expected = official_table(table)
    if rows != [tuple(expected.columns), *expected.iter_rows()]:
        yield "instructions.csv does not hold the rows of data/*.parquet"


def _images(folder: Path, table: pl.DataFrame, size: int) -> Iterator[str]:
    """Every image is there, whole, square, gray, and one that was prepared."""
    names = sorted({*table["past_image"], *table["current_image"]} - {None})
    names = [name for name in names if _is_inside(name)]  # the others are told of already, and are nobody's to open
    if table["past_image"].has_nulls() or table["current_image"].has_nulls():
        yield "some rows name no images"

    def whole(name: str) -> bool:
        try:
            with open_regular(folder / name) as file, PngImagePlugin.PngImageFile(file) as image:
                right = image.size == (size, size) and image.mode == "L"
                return right and bool(image.load()) and bool(text_entries(folder / name))
        except Exception:  # whatever a decoder says of damage
            return False

    bad = []
    with ThreadPoolExecutor(usable_processors()) as pool, progress("Checking images", len(names)) as advance:
        for name, good in zip(names, pool.map(whole, names), strict=True):
            advance()
            if not good:
                bad.append(name)
    if bad:
        yield f"{len(bad)} images are missing, damaged or of another size, such as {bad[0]}: build again, it goes on"
