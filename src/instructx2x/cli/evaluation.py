"""`x2x evaluate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from instructx2x import NOTICE
from instructx2x.cli.console import one_line, stderr
from instructx2x.cli.options import Device, Dtype, refuse_ignored
from instructx2x.errors import InputError
from instructx2x.results.folders import claim

Data = Annotated[
    Path,
    typer.Option(
        metavar="DATASET|CASES.csv",
        help="A folder of x2x dataset build, or a CSV file with columns image and instruction and, if known, seed, "
        "patient, view, sex, age, findings, target, target_findings, boxes.",
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option(metavar="NAME", help="Of a dataset: train, validate or test.")]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder that a CSV file's image paths are relative to.  [default: its own]",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        help="Folder for the edits, what is kept of them, and the report; the same command goes on there after a kill.",
        show_default=False,
    ),
]
Partial = Annotated[bool, typer.Option("--partial", help="Let cases without an edited image pass.")]
Resamples = Annotated[int, typer.Option(metavar="N", min=2, help="Bootstrap resamples.")]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Who scores: scorer, demographics, torchxrayvision:densenet, torchxrayvision:race, torchxrayvision:age, "
        "module:callable or file.py:callable; several times for several.  [default: scorer and demographics]",
        show_default=False,
    ),
]


def evaluate(
    context: typer.Context,
    data: Data,
    out: Out = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Edit with this model, then score: bundled, a folder in diffusers' layout, or hub:owner/name; "
            "several times for several.",
            show_default=False,
        ),
    ] = None,
    edited: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="Score the images in this folder, whoever made them, one a case by its name; several times for "
            "several.",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    images: Images = None,
    judge: Judges = None,
    findings: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Average pathology and KL over these, with commas between, or over the paper's five: paper.  "
            "[default: all that are judged]",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option(metavar="LIST", help="What to do with a model: default, official, plain, or some of them.")
    ] = "default,official,plain",
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation",
            help="Also take Region-Specific Editing apart: relevance or mask alone, other anatomies, other thresholds.",
        ),
    ] = False,
    probes: Annotated[
        bool,
        typer.Option(
            "--probes/--no-probes", help="Also edit with another seed, take edits back, and read paraphrases."
        ),
    ] = True,
    partial: Partial = False,
    names: Annotated[
        bool, typer.Option("--names", help="Only print what the edited image of each case must be called.")
    ] = False,
    resamples: Resamples = 1000,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Measure counterfactual edits: pathology, identity, locality, movement, guidance map, against baselines.

    With --model, edits are made first; with --edited, anyone's images are scored. Every table has the real targets
    (where there are any) and a copy of the input beside the methods. Writes report.md, report.json, report.html, the
    edits and the scores.

    `x2x evaluate --data edit-dataset --split test --model bundled -o results`

    `x2x evaluate --data cases.csv --edited RoentGen=generated/ --edited RadEdit=others/ -o results`
    """
    from instructx2x.evaluation.cases import read_cases

    folders = _folders(edited or [])
    editing = ("methods", "ablation", "probes", "device", "dtype")
    if names:
        others = ("model", "edited", "findings", "partial", *editing)
        refuse_ignored(context, others, "--names only prints names")
    elif not model:
        refuse_ignored(context, editing, "nothing is edited without --model")
    if not folders:
        refuse_ignored(context, ("partial",), "without --edited every case has an edited image")
    if not data.is_dir():
        refuse_ignored(context, ("split",), f"{data} is no dataset and has no splits")
    cases = read_cases(data, split=split, images=images)
    if names:
        for case in cases:
            print("\t".join(map(one_line, (case.name, case.row.image, case.row.instruction))))
        return
    if out is None:
        raise InputError("name a folder for the results: -o OUT")
    if not model and not folders:
        raise InputError("name what to evaluate: --model to edit with, or --edited with a folder of images")
    chosen = _methods(methods)
    with claim(out, inputs=[data, images, *folders.values(), *(model or ())]):
        pass  # refused before anything is loaded
    with stderr().status("Loading judges and models"):
        from instructx2x.editing import Editor
        from instructx2x.evaluation.evaluate import Plan
        from instructx2x.evaluation.evaluate import evaluate as carry_out
        from instructx2x.evaluation.judges.plugins import find_judge
        from instructx2x.evaluation.panel import Panel

        panel = Panel([find_judge(name) for name in judge or ("scorer", "demographics")], _averaged(findings))
        editors = {
            name: Editor.from_pretrained(name, device=device, dtype=dtype) for name in dict.fromkeys(model or ())
        }
    plan = Plan(cases, editors, folders, ablation, probes, chosen, partial, resamples)
    tell(out, carry_out(plan, panel, out, command=typed()))


def typed() -> str:
    """The command line, for a report."""
    return shlex.join(["x2x", *sys.argv[1:]])


def tell(out: Path, files: Mapping[str, Path]) -> None:
    """Where the report is."""
    print(one_line(f"{out}: {', '.join(path.name for path in files.values())}"))
    print(NOTICE)


def _folders(given: list[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for entry in given:
        name, equals, folder = ("", "", entry) if Path(entry).is_dir() else entry.partition("=")
        path = Path(folder if equals else entry)
        name = name if equals else path.resolve().name
        if name in folders:
            raise InputError(f"two folders are called {name}: name them as NAME=FOLDER")
        folders[name] = path
    return folders


def _averaged(text: str | None) -> tuple[str, ...] | None:
    from instructx2x.evaluation.panel import PAPER_FIVE

    if text is None:
        return None
    return PAPER_FIVE if text == "paper" else tuple(part.strip().lower() for part in text.split(",") if part.strip())


def _methods(text: str) -> tuple[str, ...]:
    """The wanted keys of `methods.METHODS`."""
    from instructx2x.evaluation.methods import PLAIN

    names = {"default": "default", "official": "official", "plain": PLAIN}
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if not asked or not set(asked) <= set(names):
        raise InputError(f"--methods takes some of {', '.join(names)}, not {text!r:.60}")
    return tuple(names[name] for name in names if name in asked)
