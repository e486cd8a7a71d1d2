"""`x2x batch`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from instructx2x import NOTICE
from instructx2x.cli.console import one_line, stderr
from instructx2x.cli.editing import announce
from instructx2x.cli.options import (
    Anatomy,
    Device,
    Dtype,
    ImageGuidance,
    KeepPatient,
    Model,
    Profile,
    Relevance,
    Samples,
    Scheduler,
    Steps,
    TextGuidance,
    Threshold,
)
from instructx2x.errors import InputError
from instructx2x.progress import progress


def batch(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv|FOLDER",
            help="A CSV file with columns image, instruction and, if wanted, seed; image paths are relative to it. "
            "Or a folder of images; those in folders within it are left out.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT", help="Folder for results; each row has a folder in it.", show_default=False
        ),
    ],
    instruction: Annotated[
        str | None,
        typer.Option(
            "--instruction",
            "-i",
            metavar="TEXT",
            help="For all images of a FOLDER, and for rows of a table that name none.",
            show_default=False,
        ),
    ] = None,
    model: Model = "bundled",
    profile: Profile = "default",
    anatomy: Anatomy = "default",
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of rows that name none.  [default: 0]", show_default=False)
    ] = None,
    samples: Samples = 1,
    steps: Steps = None,
    text_guidance: TextGuidance = None,
    image_guidance: ImageGuidance = None,
    threshold: Threshold = None,
    relevance: Relevance = True,
    scheduler: Scheduler = None,
    keep_patient: KeepPatient = False,
    device: Device = None,
    dtype: Dtype = "float32",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace earlier results of other rows or settings, manifest and sheet too."),
    ] = False,
) -> None:
    """Edit many X-rays; a run that was cut off goes on where it stopped.

    Writes a folder for every row as `x2x edit` does, manifest.jsonl (one line a row, with what was done or why it
    failed), sheet.png (input, edited and difference of every row) and seconds.jsonl. A row that fails fails no other;
    the exit code is 2 when any did. Run the same command again to go on after a kill, or to try failed rows again; the
    table may grow meanwhile. A batch with other rows or settings needs another folder.

    `x2x batch cohort.csv -o out`

    `x2x batch images/ -i "Add the finding of left pleural effusion." -o out --profile fast`
    """
    rows = _rows(images, out, instruction, seed, profile)
    with stderr().status("Loading the model"):
        from instructx2x.editing import Editor
        from instructx2x.editing.batch import MANIFEST, run_batch

        editor = Editor.from_pretrained(model, device=device, dtype=dtype)
    with progress("Editing rows") as advance:
        entries = run_batch(
            editor,
            rows,
            out,
            inputs=[images],
            overwrite=overwrite,
            on_row=lambda done, total: advance(to=done, total=total),
            profile=profile,
            anatomy=anatomy,
            samples=samples,
            steps=steps,
            text_guidance=text_guidance,
            image_guidance=image_guidance,
            threshold=threshold,
            relevance=relevance,
            scheduler=scheduler,
            keep_patient=keep_patient,
        )
    announce(editor.backbone.calibration, [row.instruction for row in rows])
    failed = sum(entry["status"] == "failed" for entry in entries)
    print(one_line(f"{out}: {len(entries) - failed} of {len(entries)} rows done; see sheet.png and {MANIFEST}"))
    print(NOTICE)
    if failed:
        raise InputError(f"{failed} of {len(entries)} rows failed: {out / MANIFEST} says why")


def _rows(images: Path, out: Path, instruction: str | None, seed: int | None, profile: str) -> list:
    """The batch's rows. What can be refused in milliseconds is refused here."""
    from instructx2x.editing.rows import folder_rows, table_rows
    from instructx2x.instructions import parse

    if instruction is not None and profile != "official":  # which takes any text, as the official code does
        parse(instruction)
    if not images.is_dir():
        rows = table_rows(images, instruction, seed)
        _try_out(out, images, rows)
        return rows
    if instruction is None:
        raise InputError("a folder of images needs an instruction for them: give --instruction")
    if os.path.realpath(images) == os.path.realpath(out):
        raise InputError(f"results cannot go among the images in {images}: choose another folder")
    rows = folder_rows(images, instruction, seed or 0)
    _try_out(out, images, rows)
    if any(entry.is_dir() and not entry.name.startswith(".") for entry in os.scandir(images)):
        told = f"warning: images in the folders within {images} are left out: a CSV file can list them"
        print(one_line(told))
    return rows


def _try_out(out: Path, images: Path, rows: list) -> None:
    """Refuse a folder that is an input or contains one, is in use, or cannot be written to."""
    from instructx2x.results.folders import claim

    with claim(out, inputs=[images, *(row.path for row in rows)]):
        pass
