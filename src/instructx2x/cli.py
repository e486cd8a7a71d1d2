"""The command line `x2x`: one verb per command, thin.

What cannot be used ends with one line on stderr and exit code 2, cheap checks first. Everything that needs torch is
imported only when a model is about to be loaded, so that help and refusals come at once.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from instructx2x import NOTICE, __version__
from instructx2x.errors import InstructX2XError, OutputError

if TYPE_CHECKING:
    from instructx2x.editing import Guidance, Study

DEMO_INSTRUCTION = "Add the finding of left pleural effusion."
BAR_AFTER = 2.0  # seconds: shorter work needs no progress bar

# What a command raises for wrong flags and arguments; older typers take the class from click, newer ones carry it.
UsageError = typer.BadParameter.__base__

app = typer.Typer(
    name="x2x",
    help=(
        "Counterfactual chest X-rays by instruction: the same patient with only the named finding changed, and a map "
        "of where the model edited. Research only, not for diagnosis.\n\n"
        "Start with `x2x demo -o out`, then try your own image:\n\n"
        '`x2x edit chest.png "Add the finding of left pleural effusion." -o out`'
    ),
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Image = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGE",
        help="A frontal chest X-ray: PNG or TIFF (8 or 16 bit), JPEG, or uncompressed DICOM (CR, DX).",
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
    typer.Option(metavar="NAME", help="bundled, a folder in diffusers' layout, or a hub id owner/name."),
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
        "pseudo_mask_*.npy, or a .npz of instructx2x.anatomy.building.",
        metavar="NAME",
    ),
]
# Ranges that hold for every model and profile are checked here, before the model is loaded; the editor checks the rest.
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="The same seed gives the same bytes.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        min=0,
        max=1,
        help="tau: the guidance that a pixel needs to be edited, up to 1.  [default: the model's]",
        show_default=False,
    ),
]
Region = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Edit nowhere else: a picture of the image's size, bright where editing is allowed. It narrows the "
        "anatomy; with --anatomy none it stands in its place.",
        show_default=False,
    ),
]
Protect = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="The opposite: a picture of the image's size, bright where nothing may change.",
        show_default=False,
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
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, ...  [default: cuda where there is one]", show_default=False),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(metavar="NAME", help="What the networks compute in: float32, bfloat16 or float16."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result of the same name.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 refused, 130 interrupted, 1 a defect of this program."""
    try:
        with warnings.catch_warnings():
            if not os.environ.get("X2X_DEBUG"):
                # Libraries warn their developers; what a user must know is in the result or in the error.
                warnings.simplefilter("ignore")
            return app(args=argv, prog_name="x2x", standalone_mode=False) or 0
    except InstructX2XError as error:
        return _refuse(str(error), 2)
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "x2x"
        return _refuse(f"{error.format_message().rstrip('.')}: see {command} --help", 2)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if os.environ.get("X2X_DEBUG"):
            traceback.print_exc()
            return 1
        kind = type(error).__name__
        return _refuse(f"{kind}: {error} - a defect of x2x: please report it with what X2X_DEBUG=1 shows", 1)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"x2x {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def edit(
    image: Image,
    instruction: Instruction,
    out: Out,
    model: Model = "bundled",
    profile: Profile = "default",
    anatomy: Anatomy = "default",
    seed: Seed = 0,
    samples: Annotated[
        int,
        typer.Option(
            metavar="K",
            min=1,
            max=64,
            help="Edit with the noise of K seeds from --seed on, within the first one's mask, and map their spread.",
        ),
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Sampling steps.  [default: the profile's]", show_default=False),
    ] = None,
    text_guidance: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="s_T: how strongly to follow the text.  [default: the model's]", show_default=False
        ),
    ] = None,
    image_guidance: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="s_I: how strongly to stay with the image.  [default: the model's]", show_default=False
        ),
    ] = None,
    threshold: Threshold = None,
    region: Region = None,
    protect: Protect = None,
    scheduler: Scheduler = None,
    device: Device = None,
    dtype: Dtype = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Edit an X-ray as an instruction says.

    Writes OUT/<image's name>/ with the edited image in the source's format, size and depth, comparison.png,
    guidance_map.png, maps.npz and report.json. Outside the mask no pixel changes.

    `x2x edit chest.png "Add the finding of left pleural effusion." -o out`

    `x2x edit chest.dcm "Change the level of edema from mild to moderate." -o out --seed 1`

    `x2x edit chest.png "remove the cardiomegaly" -o out --model my/model --device cuda`
    """
    study = _open(image, instruction, out, profile, model, device, dtype, overwrite)
    with _progress(samples) as callback:
        result = study.edit(
            instruction,
            seed=seed,
            samples=samples,
            profile=profile,
            anatomy=anatomy,
            steps=steps,
            text_guidance=text_guidance,
            image_guidance=image_guidance,
            threshold=threshold,
            region=region,
            protect=protect,
            scheduler=scheduler,
            callback=callback,
        )
    _save(result, out, overwrite)


@app.command()
def guidance(
    image: Image,
    instruction: Instruction,
    out: Out,
    model: Model = "bundled",
    profile: Profile = "default",
    anatomy: Anatomy = "default",
    seed: Seed = 0,
    threshold: Threshold = None,
    region: Region = None,
    protect: Protect = None,
    device: Device = None,
    dtype: Dtype = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Show where an instruction would edit an X-ray, without editing it.

    Writes OUT/<image's name>/ with guidance_map.png, maps.npz and report.json: the maps that `x2x edit` with the same
    arguments follows.

    `x2x guidance chest.png "Remove the finding of edema." -o maps`
    """
    study = _open(image, instruction, out, profile, model, device, dtype, overwrite)
    result = study.guidance(
        instruction,
        seed=seed,
        profile=profile,
        anatomy=anatomy,
        threshold=threshold,
        region=region,
        protect=protect,
    )
    _save(result, out, overwrite)


@app.command()
def demo(out: Out, overwrite: Overwrite = False) -> None:
    """Edit the example X-ray with the bundled model.

    The example is itself synthetic: no patient's image is part of this package. Look at OUT/example/comparison.png.

    `x2x demo -o out`
    """
    with as_file(files("instructx2x") / "data" / "example.png") as image:
        edit(image, DEMO_INSTRUCTION, out, overwrite=overwrite)
    print('your own image: x2x edit IMAGE "Add the finding of edema." -o OUT')


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe of this package (open-cpu), or a TOML file.")
    ],
    data: Annotated[Path, typer.Option(metavar="DATA", help="Folder of the open X-rays.")],
    work: Annotated[
        Path,
        typer.Option(metavar="WORK", help="Folder for checkpoints and curves; a run that was cut off goes on there."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="Folder of the finished model.  [default: WORK/model]",
            show_default=False,
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="vae, lungs, pairs, text_encoder, unet or bundle; repeat it for several.  [default: all]",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Train a model with a recipe, stage by stage.

    `x2x train open-cpu --data DATA --work runs/first`

    `x2x edit chest.png "Add the finding of edema." -o out --model runs/first/model`
    """
    from instructx2x.training.run import run

    stages = {"stages": stage} if stage else {}
    print(f"model: {run(recipe, data=data, work=work, out=out, device=device, **stages)}")


def _open(
    image: Path,
    instruction: str,
    out: Path,
    profile: str,
    model: str,
    device: str | None,
    dtype: str,
    overwrite: bool,
) -> Study:
    """Refuse what can be refused in milliseconds; only then load the model."""
    from instructx2x.imaging import read
    from instructx2x.instructions import parse

    if profile != "official":  # which takes any text, as the official code does
        parse(instruction)
    # The name in full: "." and ".." have none of their own.
    _check_output(out, Path(os.path.abspath(image)).stem, overwrite)
    radiograph = read(image)
    with _stderr().status("Loading the model"):
        from instructx2x.editing import Editor

        return Editor.from_pretrained(model, device=device, dtype=dtype).open(radiograph)


def _check_output(out: Path, name: str, overwrite: bool) -> None:
    """Refuse before the work what saving would refuse after it. Nothing is left behind."""
    folder = out / name
    if os.path.lexists(folder) and not overwrite:
        raise OutputError(f"{folder} is there already: choose another folder, or give --overwrite")
    place = next(path for path in folder.parents if os.path.exists(path))
    if not place.is_dir():
        raise OutputError(f"{place} is a file: name a folder for the results")
    try:
        # Permissions alone do not tell: the file system may be read-only, or not a place for files at all.
        tempfile.TemporaryDirectory(dir=place, prefix=".x2x-").cleanup()
    except OSError as error:
        raise OutputError(f"{out} cannot be written to ({error.strerror}): choose another folder") from error


def _save(result: Guidance, out: Path, overwrite: bool) -> None:
    """Write a result and say what it is."""
    folder = result.save(out, overwrite=overwrite)
    report = result.report
    mask = report["mask"]
    print(_line(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}"))
    print(_line(f"instruction: {report['instruction']['given_to_model']}"))
    print(f"mask: {mask['fraction']:.1%} of the image, {mask['pixels']} pixels")
    if "pixels_changed" in report:
        outside = report["pixels_changed_outside_mask"]
        print(f"changed: {report['pixels_changed']} pixels, {outside} of them outside the mask")
    for warning in report["warnings"]:
        print(_line(f"warning: {warning}"))
    print(NOTICE)


@contextmanager
def _progress(samples: int = 1) -> Iterator[Callable[[int, int, Any], None]]:
    """A callback for sampling steps: a bar on stderr, on terminals, once the work has taken BAR_AFTER seconds."""
    from rich.progress import Progress

    console, start = _stderr(), time.monotonic()
    bar = Progress(console=console, transient=True)
    taken = 0
    with ExitStack() as stack:

        def step(done: int, total: int, latents: Any) -> None:
            nonlocal taken
            taken += 1  # and not `done`, which starts again with every sample
            if not bar.tasks and console.is_terminal and time.monotonic() - start > BAR_AFTER:
                stack.enter_context(bar)
                bar.add_task("Editing", total=samples * total)
            for task in bar.task_ids:
                bar.update(task, completed=taken)

        yield step


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _refuse(message: str, code: int) -> int:
    print(_line(f"error: {message}"), file=sys.stderr)
    return code


def _line(text: str) -> str:
    """One printable line: file names and libraries' messages may hold line breaks and terminal codes."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
