"""`x2x batch`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from instructx2x import NOTICE
from instructx2x.cli.console import one_line, stderr
from instructx2x.cli.options import Anatomy, Device, Dtype, Model, Profile, Scheduler, Threshold
from instructx2x.errors import InputError


def batch(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv|FOLDER",
            help="A CSV file with columns image, instruction and, if wanted, seed; image paths are relative to it. "
            "Or a folder of images.",
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
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of rows that name none.")] = 0,
    samples: Annotated[
        int, typer.Option(metavar="K", min=1, max=64, help="Edit every row with the noise of K seeds; see x2x edit.")
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Sampling steps.  [default: the profile's]", show_default=False),
    ] = None,
    text_guidance: Annotated[
        float | None, typer.Option(metavar="S", help="s_T.  [default: the model's]", show_default=False)
    ] = None,
    image_guidance: Annotated[
        float | None, typer.Option(metavar="S", help="s_I.  [default: the model's]", show_default=False)
    ] = None,
    threshold: Threshold = None,
    scheduler: Scheduler = None,
    device: Device = None,
    dtype: Dtype = "float32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier results of other rows or settings.")
    ] = False,
) -> None:
    """Edit many X-rays; a run that was cut off goes on where it stopped.

    Writes a folder for every row as `x2x edit` does, manifest.jsonl (one line a row, with what was done or why it
    failed), sheet.png (input, edited and difference of every row) and seconds.jsonl. A row that fails fails no other;
    the exit code is 2 when any did. Run the same command again to go on after a kill, or to try failed rows again.

    `x2x batch cohort.csv -o out`

    `x2x batch images/ -i "Add the finding of left pleural effusion." -o out --profile fast`
    """
    rows = _rows(images, out, instruction, seed, profile)
    with stderr().status("Loading the model"):
        from instructx2x.editing import Editor
        from instructx2x.editing.batch import MANIFEST, run_batch

        editor = Editor.from_pretrained(model, device=device, dtype=dtype)
    with _progress() as on_row:
        entries = run_batch(
            editor,
            rows,
            out,
            overwrite=overwrite,
            on_row=on_row,
            profile=profile,
            anatomy=anatomy,
            samples=samples,
            steps=steps,
            text_guidance=text_guidance,
            image_guidance=image_guidance,
            threshold=threshold,
            scheduler=scheduler,
        )
    failed = sum(entry["status"] == "failed" for entry in entries)
    print(one_line(f"{out}: {len(entries) - failed} of {len(entries)} rows done; see sheet.png and {MANIFEST}"))
    print(NOTICE)
    if failed:
        raise InputError(f"{failed} of {len(entries)} rows failed: {out / MANIFEST} says why")


def _rows(images: Path, out: Path, instruction: str | None, seed: int, profile: str) -> list:
    """The batch's rows. What can be refused in milliseconds is refused here."""
    from instructx2x.editing.rows import folder_rows, table_rows
    from instructx2x.instructions import parse

    if instruction is not None and profile != "official":  # which takes any text, as the official code does
        parse(instruction)
    if not images.is_dir():
        return table_rows(images, instruction, seed)
    if instruction is None:
        raise InputError("a folder of images needs an instruction for them: give --instruction")
    if os.path.realpath(images) == os.path.realpath(out):
        raise InputError(f"results cannot go among the images in {images}: choose another folder")
    return folder_rows(images, instruction, seed)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on stderr, on terminals. What is done at the first call tells nothing about speed."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (
        TextColumn("Editing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows, left"),
        TimeRemainingColumn(),
    )
    # A row can take longer than the half minute that rich looks back by default.
    bar = Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=3600
    )
    with bar:
        tasks = []

        def tell(done: int, total: int) -> None:
            if tasks:
                bar.update(tasks[0], completed=done)
            else:
                tasks.append(bar.add_task("rows", total=total, completed=done))

        yield tell
