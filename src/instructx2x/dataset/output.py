"""A dataset on disk: images first, tables next, the report last, each file whole or not there.

    OUT/settings.json       what the dataset is built from and how; a run with others does not touch it
    OUT/images/ID.png       prepared images; registered/PAST__CURRENT.png past images aligned with their current one
    OUT/current/, past/     instead of these in the official layout, with instructions.csv
    OUT/data/SPLIT.parquet  the pairs (table.SCHEMA)
    OUT/rejects.parquet     what was left out, and why (table.REJECTS)
    OUT/test_images.txt     every image of the test patients, for keeping their boxes out of masks
    OUT/README.md           the dataset card
    OUT/report.json         every count; it is there once all the rest is

Nothing in these files depends on the time or on how often the run was cut off.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from instructx2x import __version__
from instructx2x.columns import check_harmless
from instructx2x.dataset.card import card
from instructx2x.dataset.images import Preparation, prepare_images
from instructx2x.dataset.rejects import Reason
from instructx2x.dataset.splits import SPLITS
from instructx2x.dataset.table import REJECTS, to_table
from instructx2x.errors import InputError, OutputError
from instructx2x.files import digest
from instructx2x.imaging.writing import atomic_write
from instructx2x.instructions.tokens import MAX_TOKENS
from instructx2x.results import folders

Layout = Literal["plain", "official"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Images:
    """What happens to the images.

    Attributes:
        preparation: size and mode; None: tables only.
        register: align every past image with its current one.
        layout: "plain", or "official" for the folders and the CSV that the paper's training code reads.

    Raises:
        InputError: registration is asked for, and its library is not installed.
    """

    preparation: Preparation | None = field(default_factory=Preparation)
    register: bool = False
    layout: Layout = "plain"

    def __post_init__(self) -> None:
        if self.register:
            # Loaded only when asked for; a missing library is told before the work, not after hours of it.
            from instructx2x.dataset.registration import register_images

            register_images([])


@dataclass
class Collected:
    """What a source gives: pairs without images, and where their images are.

    Attributes:
        source: name of the source, as in SOURCES of the card.
        settings: all that the result depends on, JSON values only.
        accepted: rows with the keys of table.SCHEMA less those of images, and `row` and `text` of the source.
        rejected: rows of table.REJECTS.
        files: dicom id to image file.
        test_images: every image of the test patients.
        facts: counts of the source for the report.
    """

    source: str
    settings: dict[str, Any]
    accepted: Rows
    rejected: Rows
    files: Mapping[str, Path]
    test_images: Iterable[str]
    facts: dict[str, Any] = field(default_factory=dict)


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Make OUT ours for these settings, or go on with a build of the same settings that was cut off.

    The caller holds the lock, see `folders.claim`.

    Raises:
        OutputError: OUT holds anything else.
    """
    text = json.dumps(settings, indent=2) + "\n"
    path = out / "settings.json"
    try:
        if path.is_file():
            if path.read_bytes() != text.encode() and not _only_begun(out):
                raise OutputError(f"{out} holds a dataset built with other files or settings: choose another folder")
        # A run that was killed at once leaves an empty folder.
        elif out.exists() and not (out.is_dir() and not folders.entries(out)):
            raise OutputError(f"{out} is in use for something else: name a new folder for the dataset")
        out.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: file.write_bytes(text.encode()))
        (out / "data").mkdir(exist_ok=True)
        # A folder with nothing but a report is a finished one; until then there is none.
        (out / "report.json").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be used ({error.strerror}): choose another folder") from error
    folders.sweep(out / "data")


def _only_begun(out: Path) -> bool:
    """Whether a build broke off here before it had made anything, over a damaged input perhaps."""
    try:
        ours = "x2x" in json.loads((out / "settings.json").read_bytes())
    except (ValueError, TypeError, RecursionError):
        return False
    files = [path.name for entry in folders.entries(out) for path in (entry, *entry.rglob("*")) if path.is_file()]
    return ours and files == ["settings.json"]


def input_record(path: Path) -> dict[str, Any]:
    """Name and SHA-256 of an input: the same build needs the same files."""
    return {"file": path.name, "sha256": digest(path)}


def finish(collected: Collected, out: Path, images: Images) -> dict[str, Any]:
    """Prepare the images, and write all tables.

    Returns:
        The report, as written.

    Raises:
        OutputError: a place that cannot be written to.
    """
    accepted, rejected = collected.accepted, list(collected.rejected)
    if images.preparation is not None:
        accepted = _with_images(accepted, rejected, collected.files, out, images)
    else:
        for row in accepted:
            row |= {"past_image": None, "current_image": None, "registration": None}
    rejected.sort(key=lambda row: row["row"])
    table = to_table(accepted)
    rejects = pl.DataFrame(rejected, schema=REJECTS, orient="row")
    parts = {split: table.filter(pl.col("split") == split) for split in SPLITS}
    for split, part in parts.items():
        atomic_write(out / "data" / f"{split}.parquet", part.write_parquet)
    atomic_write(out / "rejects.parquet", rejects.write_parquet)
    test_images = "".join(f"{dicom}\n" for dicom in sorted(collected.test_images))
    atomic_write(out / "test_images.txt", lambda file: file.write_text(test_images, encoding="utf-8"))
    if images.layout == "official":
        official = official_table(pl.concat(parts.values()))
        check_harmless(official, out / "instructions.csv")
        atomic_write(out / "instructions.csv", official.write_csv)
    report = _report(collected, table, rejects, {row["row"] for row in accepted})
    atomic_write(out / "README.md", lambda file: file.write_text(card(report), encoding="utf-8"))
    text = json.dumps(report, indent=2) + "\n"
    atomic_write(out / "report.json", lambda file: file.write_text(text, encoding="utf-8"))
    return json.loads(text)


def _with_images(accepted: Rows, rejected: Rows, files: Mapping[str, Path], out: Path, images: Images) -> Rows:
    """Prepare the images of the rows; those whose images cannot be used move to the rejects."""
    past_folder, current_folder = ("past", "current") if images.layout == "official" else ("images", "images")
    sources: dict[Path, Path] = {}
    alignments: dict[Path, tuple[Path, Path]] = {}
    needed: list[tuple[Path, ...]] = []
    for row in accepted:
        past, current = row["past_dicom_id"], row["current_dicom_id"]
        for name in (past, current):
            if not folders.is_plain_name(name):
                raise InputError(f"the image {name!r:.60} cannot name a file in {out}: give it another id")
        # An unaligned past image is only a step on the way; it has no place among the official ones.
        plain = out / ("images" if images.register else past_folder) / f"{past}.png"
        now = out / current_folder / f"{current}.png"
        sources |= {plain: files[past], now: files[current]}
        needed.append((plain, now))
        if images.register:
            folder = "past" if images.layout == "official" else "registered"
            target = out / folder / f"{past}__{current}.png"
            alignments[target] = plain, now
            needed[-1] = plain, now, target
            plain = target
        row["past_image"], row["current_image"] = (path.relative_to(out).as_posix() for path in (plain, now))
        row["registration"] = None
    unusable = {
        target: (Reason.IMAGE_MISSING, target.stem) for target, source in sources.items() if not source.is_file()
    }
    failures = prepare_images(
        ((source, target) for target, source in sources.items() if target not in unusable), images.preparation
    )
    unusable |= {target: (Reason.IMAGE_UNUSABLE, target.stem) for target in failures}
    qualities: dict[Path, float | str] = {}
    if alignments:
        from instructx2x.dataset.registration import MIN_QUALITY, register_images

        qualities = register_images(
            (*pair, target) for target, pair in alignments.items() if not any(path in unusable for path in pair)
        )
        for target, quality in qualities.items():
            if isinstance(quality, str):
                unusable[target] = Reason.IMAGE_UNUSABLE, target.stem
            elif quality < MIN_QUALITY:
                unusable[target] = Reason.POOR_REGISTRATION, f"quality {quality:.3f}"
    kept = []
    for row, paths in zip(accepted, needed, strict=True):
        problem = next((unusable[path] for path in paths if path in unusable), None)
        if problem is None:
            row["registration"] = qualities.get(paths[-1])
            kept.append(row)
        elif row["part"] == 1:
            reason, detail = problem
            rejected.append(
                {key: row[key] for key in ("row", "past_study_id", "current_study_id", "subject_id", "text")}
                | {"reason": reason.value, "detail": detail}
            )
    return kept


def official_table(table: pl.DataFrame) -> pl.DataFrame:
    """The official training code's table: ids are names of files in past/ and current/ (method section 5.5)."""
    files = [
        pl.col(f"{when}_image").str.split("/").list.last().alias(f"{when}_dicom_id") for when in ("current", "past")
    ]
    return table.select("split", *files, "instruction")


def _report(collected: Collected, table: pl.DataFrame, rejects: pl.DataFrame, rows: set[int]) -> dict[str, Any]:
    """Every count of the funnel and of what came out of it."""
    by_reason = Counter(rejects["reason"])
    edits = table.select(pl.col("edits").explode()).drop_nulls().unnest("edits")
    return {
        "source": collected.source,
        "x2x": __version__,
        "settings": collected.settings,
        **collected.facts,
        "rejected": {reason.value: by_reason[reason.value] for reason in Reason if by_reason[reason.value]},
        "rows_kept": len(rows),
        "instructions": len(table),
        "instructions_over_77_tokens": int((table["tokens"] > MAX_TOKENS).sum()),
        "tokens": {"median": table["tokens"].median(), "max": table["tokens"].max()},
        "splits": {
            split: {
                "instructions": len(part),
                "pairs": part.select("past_dicom_id", "current_dicom_id").n_unique(),
                "patients": part["subject_id"].n_unique(),
            }
            for split in SPLITS
            for part in [table.filter(pl.col("split") == split)]
        },
        "operations": _counts(edits["operation"]),
        "findings": _counts(edits["finding"]),
        "sides": _counts(edits["side"].drop_nulls()),
        "zones": _counts(edits["zone"].drop_nulls()),
        "levels": _counts(edits["level"].drop_nulls()),
    }


def _counts(values: pl.Series) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
