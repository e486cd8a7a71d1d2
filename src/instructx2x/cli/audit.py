"""`x2x audit`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from instructx2x.cli.console import stderr
from instructx2x.cli.evaluation import Data, Images, Out, Partial, Resamples, Split, tell, typed
from instructx2x.cli.options import Device, Dtype, Model, Profile, refuse_ignored
from instructx2x.errors import InputError
from instructx2x.results.folders import claim


def audit(
    context: typer.Context,
    classifier: Annotated[
        str,
        typer.Option(
            metavar="MODULE:CALLABLE",
            help="Yours, or path/to/file.py:callable. It gets a list of one (height, width) float32 array in [0, 1] "
            "and answers with one number, or with a mapping from names to one number each.",
            show_default=False,
        ),
    ],
    data: Data,
    instruction: Annotated[
        list[str],
        typer.Option(
            "--instruction",
            "-i",
            metavar="TEXT",
            help="Done to every image, in place of the data's own; several times for several, such as a control.",
            show_default=False,
        ),
    ],
    out: Out,
    model: Model = "bundled",
    profile: Profile = "default",
    edited: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Take the edited images from here, one an image by its name, and edit nothing; with one instruction.",
            show_default=False,
        ),
    ] = None,
    partial: Partial = False,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which of a mapping's numbers to follow.  [default: the edited finding's]",
            show_default=False,
        ),
    ] = None,
    finding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the answer is about. Instructions that edit something else are controls.  [default: the edited "
            "finding]",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="From which answer on it says yes, on its own scale.  [default: 0.5, for probabilities]",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    images: Images = None,
    resamples: Resamples = 1000,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Stress-test your own classifier: how its answer moves when a finding is added or removed, and for whom.

    Edits every image, asks the classifier before and after, and reports the movement by sex, age group and view with
    intervals, and the images on which it should have reacted and did not. Writes report.md, report.json, report.html,
    the edits and the answers.

    `x2x audit --classifier my.py:predict --data cases.csv -i "Add the finding of left pleural effusion." -o audit`
    """
    from instructx2x.evaluation.cases import read_cases

    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"--threshold must be a finite number, not {threshold}")
    if edited is not None:
        refuse_ignored(context, ("model", "profile", "device", "dtype"), "with --edited nothing is edited")
    else:
        refuse_ignored(context, ("partial",), "without --edited every image is edited")
    if not data.is_dir():
        refuse_ignored(context, ("split",), f"{data} is no dataset and has no splits")
    if edited is not None and len(instruction) > 1:
        raise InputError("--edited holds the images of one instruction: give one -i")
    from instructx2x.instructions import parse

    for text in instruction:
        parse(text)
    cases = read_cases(data, split=split, images=images, instruction=instruction[0])
    if out is None:
        raise InputError("name a folder for the results: -o OUT")
    with claim(out, inputs=[data, images, edited, model]):
        pass  # refused before anything is loaded
    with stderr().status("Loading the classifier and the model"):
        from instructx2x.editing import Editor
        from instructx2x.evaluation.audit import Plan
        from instructx2x.evaluation.audit import audit as carry_out
        from instructx2x.evaluation.auditing.classifier import load_classifier, questions

        asked = load_classifier(classifier)
        wanted = questions(asked, instruction, output=output, finding=finding)
        editor = None if edited is not None else Editor.from_pretrained(model, device=device, dtype=dtype)
    plan = Plan(cases, asked, wanted, editor, edited, profile, threshold, partial, resamples)
    tell(out, carry_out(plan, out, command=typed()))
