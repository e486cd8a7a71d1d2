"""`x2x dataset build`, `x2x dataset check` and `x2x dataset show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from instructx2x.cli.console import one_line
from instructx2x.cli.options import refuse_ignored
from instructx2x.errors import InputError

app = typer.Typer(
    name="dataset",
    help="Pairs of X-rays with instructions, for training and evaluation: MIMIC-EDIT-INSTRUCTION from your own copies "
    "of MIMIC-Diff-VQA and MIMIC-CXR-JPG, or the same from open X-rays.",
    rich_markup_mode="markdown",
    no_args_is_help=True,
)

CONTENTS = "contact sheet of x2x dataset show"  # the mark of a sheet, in its text entries

Dataset = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a built dataset.", show_default=False)]


@app.command()
def build(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", help="Folder of the dataset; a run that was cut off goes on there."),
    ],
    diff_vqa: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Medical-Diff-VQA 1.0.0 or 1.0.1, as PhysioNet serves it."),
    ] = None,
    mimic_cxr_jpg: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="MIMIC-CXR-JPG 2.0.0 or 2.1.0, as PhysioNet serves it."),
    ] = None,
    open_data: Annotated[
        Path | None,
        typer.Option("--open", metavar="DIR", help="Instead of both: open X-rays with metadata.csv and pairs.csv."),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="MIMIC-IV's hosp/patients.csv.gz: sex and age, for audits by group."),
    ] = None,
    version: Annotated[
        Literal["v1", "v2"], typer.Option(metavar="V", help="v1, or v2 with side, zone and severity of each finding.")
    ] = "v1",
    views: Annotated[
        str, typer.Option(metavar="LIST", help="Views in order of preference, such as PA,AP; one for both images.")
    ] = "PA",
    strict: Annotated[
        bool, typer.Option("--strict", help="Remove only what the later report denies, not what it leaves unsaid.")
    ] = False,
    keep_unchanged: Annotated[
        bool, typer.Option("--keep-unchanged", help="Keep pairs without a change; their instruction is empty.")
    ] = False,
    long: Annotated[
        Literal["drop", "split", "keep"],
        typer.Option(metavar="HOW", help="What to do with instructions over CLIP's 77 tokens: drop, split or keep."),
    ] = "drop",
    split: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="By patient: mimic (the split of MIMIC-CXR-JPG), p19 (BiomedJourney's: test on p19), or shares for "
            "train, validate and test such as 0.8,0.1,0.1. Open X-rays bring their own.",
        ),
    ] = "mimic",
    size: Annotated[int, typer.Option(metavar="PX", help="Side of the prepared square images.")] = 512,
    fit: Annotated[
        Literal["squash", "letterbox"],
        typer.Option(metavar="HOW", help="squash to the square, as the official code does, or letterbox."),
    ] = "squash",
    register: Annotated[
        bool,
        typer.Option("--register", help="Align past images with current ones, and drop pairs where that fails."),
    ] = False,
    layout: Annotated[
        Literal["plain", "official"],
        typer.Option(metavar="NAME", help="plain, or official: also instructions.csv, current/ and past/."),
    ] = "plain",
    tables_only: Annotated[bool, typer.Option("--tables-only", help="Leave the images alone.")] = False,
) -> None:
    """Build a dataset of pairs with instructions.

    Writes OUT/data/*.parquet, images, rejects.parquet with the reason for every row left out, report.json and a dataset
    card. Nothing leaves this machine.

    `x2x dataset build --diff-vqa DIR --mimic-cxr-jpg DIR -o mimic-edit --version v2`

    `x2x dataset build --open DIR -o open-edit --views PA,AP`
    """
    from instructx2x.dataset.build import build as build_mimic
    from instructx2x.dataset.images import Preparation
    from instructx2x.dataset.open_data import build_open
    from instructx2x.dataset.output import Images
    from instructx2x.dataset.pairs import Rules

    if tables_only:
        refuse_ignored(context, ("size", "fit", "register"), "--tables-only leaves the images alone")
    order = tuple(dict.fromkeys(view.strip().upper() for view in views.split(",") if view.strip()))
    rules = Rules(version, order, strict, keep_unchanged, long)
    images = Images(None if tables_only else Preparation(size, fit), register and not tables_only, layout)
    if open_data is not None and diff_vqa is None and mimic_cxr_jpg is None:
        refuse_ignored(context, ("split",), "open X-rays bring their own split, by patient")
        refuse_ignored(context, ("long",), "the instructions of open X-rays are short")
        if patients is not None:
            raise InputError("open X-rays say sex and age themselves: leave --patients out")
        report = build_open(open_data, out, rules=rules, images=images)
    elif open_data is None and diff_vqa is not None and mimic_cxr_jpg is not None:
        report = build_mimic(diff_vqa, mimic_cxr_jpg, out, rules=rules, split=split, images=images, patients=patients)
    else:
        raise InputError("name the source: --diff-vqa with --mimic-cxr-jpg, or --open alone")
    _print(out, report)


@app.command()
def check(dataset: Dataset) -> None:
    """Verify a built dataset: counts, instructions, splits, and every image. Exit code 2 when something is wrong.

    `x2x dataset check mimic-edit`
    """
    from instructx2x.dataset.check import check_dataset

    problems = check_dataset(dataset)
    for problem in problems:
        print(one_line(f"problem: {problem}"))
    if problems:
        raise typer.Exit(2)
    print(one_line(f"{dataset}: all is well"))


@app.command()
def show(
    dataset: Dataset,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Picture to write.  [default: OUT/sheet.png]", show_default=False
        ),
    ] = None,
    split: Annotated[
        Literal["train", "validate", "test"] | None,
        typer.Option(metavar="NAME", help="train, validate or test.  [default: all]", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="Pairs to show.")] = 12,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Which ones are drawn.")] = 0,
) -> None:
    """Draw pairs with their instructions on a contact sheet. An earlier sheet is replaced, and no other file.

    `x2x dataset show mimic-edit --split test`
    """
    from instructx2x.dataset.sheet import contact_sheet
    from instructx2x.dataset.table import load_dataset
    from instructx2x.imaging import write_png
    from instructx2x.imaging.writing import text_entries
    from instructx2x.results.folders import check_file

    def is_ours(path: Path) -> bool:
        return text_entries(path).get("Contents") == CONTENTS

    path = out or dataset / "sheet.png"
    table = load_dataset(dataset, split)
    check_file(path, inputs=[dataset], is_ours=is_ours)
    write_png(contact_sheet(dataset, table, count, seed), path, text={"Contents": CONTENTS})
    print(one_line(str(path)))


def _print(out: Path, report: dict) -> None:
    """The funnel and the splits."""
    from rich.console import Console
    from rich.table import Table

    from instructx2x.dataset.card import funnel

    steps = Table("step", "rows", title="from rows to pairs")
    steps.columns[1].justify = "right"
    for step, rows in funnel(report):
        steps.add_row(step, f"{rows:,}")
    splits = Table("split", "instructions", "pairs", "patients")
    for split, counts in report["splits"].items():
        splits.add_row(split, *(f"{count:,}" for count in counts.values()))
    Console().print(steps, splits)
    print(one_line(f"{out}: data/*.parquet, rejects.parquet, report.json, README.md"))
