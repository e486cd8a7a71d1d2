"""Arguments and flags that several commands share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from instructx2x.errors import InputError

Image = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE",
        help="A frontal chest X-ray: PNG or TIFF (8 or 16 bit), JPEG, or single-frame DICOM (CR, DX, MG, SC).",
        show_default=False,
    ),
]
Instruction = Annotated[
    str,
    typer.Argument(
        metavar="INSTRUCTION",
        help='What to change, such as "Remove the finding of edema." or "add a small left pleural effusion and '
        'remove the cardiomegaly".',
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="OUT", help="Folder for results: each goes to OUT/<image's name>.", show_default=False
    ),
]
Model = Annotated[
    str,
    typer.Option(metavar="NAME", help="bundled, a folder in diffusers' layout, or hub:owner/name (Hugging Face)."),
]
Profile = Annotated[
    Literal["default", "official", "fast"],
    typer.Option(
        metavar="NAME", help="default: ours; fast: the same in fewer steps; official: what the paper's code computes."
    ),
]
Anatomy = Annotated[
    str,
    typer.Option(
        help="Where a finding may be: default or patient (laid on this patient's lungs), prior (the average patient), "
        "union (all boxes of experts, whatever side and zone), none (anywhere), a folder of official "
        "pseudo_mask_*.npy, or a .npz of x2x masks build.",
        metavar="NAME",
    ),
]
# Ranges that hold for every model and profile are checked here, before the model is loaded; the editor checks the rest.
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="The same seed and number of threads give the same bytes.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        min=0,
        max=1,
        help="tau: the guidance that a pixel needs to be edited, above 0.  [default: the model's]",
        show_default=False,
    ),
]

Relevance = Annotated[
    bool,
    typer.Option(
        "--relevance/--no-relevance",
        help="Whether the relevance map confines the edit. Without it, the anatomy alone does, and with --anatomy none "
        "nothing does: plain InstructPix2Pix, to compare with.",
    ),
]


def _file_or_boxes(value: str | None) -> str | None:
    """Refuse a file that is not there, before the model is loaded; the editor reads the rest."""
    if value is not None and not re.fullmatch(r"[\d,;\s]+", value) and not Path(value).is_file():
        raise typer.BadParameter(f"{value} is neither a file nor boxes such as 100,80,200,150")
    return value


Region = Annotated[
    str | None,
    typer.Option(
        callback=_file_or_boxes,
        metavar="FILE|BOXES",
        help="Edit nowhere else: a picture of the image's size, bright where editing is allowed, or boxes in pixels, "
        "x,y,width,height, several with ; between them. It narrows the anatomy; with --anatomy none it stands in its "
        "place.",
        show_default=False,
    ),
]
Protect = Annotated[
    str | None,
    typer.Option(
        callback=_file_or_boxes,
        metavar="FILE|BOXES",
        help="The opposite: a picture bright where nothing may change, or boxes.",
        show_default=False,
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        metavar="K",
        min=1,
        max=64,
        help="Edit with the noise of K seeds from --seed on, within the first one's mask, and map where they differ.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Sampling steps, fewer than the model's 1,000.  [default: the profile's]",
        show_default=False,
    ),
]
TextGuidance = Annotated[
    float | None,
    typer.Option(metavar="S", help="s_T: how strongly to follow the text.  [default: the model's]", show_default=False),
]
ImageGuidance = Annotated[
    float | None,
    typer.Option(
        metavar="S", help="s_I: how strongly to stay with the image.  [default: the model's]", show_default=False
    ),
]
Scheduler = Annotated[
    Literal["ddim", "dpm++", "unipc", "euler", "euler-ancestral"] | None,
    typer.Option(
        metavar="NAME",
        help="ddim, dpm++, unipc, euler or euler-ancestral.  [default: the profile's]",
        show_default=False,
    ),
]
KeepPatient = Annotated[
    bool,
    typer.Option(
        "--keep-patient",
        help="Keep the patient's and study's identity in DICOM results, for work inside an archive. By default they "
        "belong to nobody.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, ...  [default: cuda where there is one]", show_default=False),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(metavar="NAME", help="What the networks compute in: float32, bfloat16 or float16."),
]


def refuse_ignored(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that were typed, and that would be passed over in silence."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next((p.opts[0] for p in context.command.params if p.name == name), name)
            raise InputError(f"{why}: leave {option} out")


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result of the same name.")]
