"""`x2x train`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from instructx2x.errors import InputError
from instructx2x.results.folders import claim


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe of this package (paper-v1, paper-v2, open, open-cpu, heal-cpu), or a TOML file.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DATA",
            help="Folder of a dataset (x2x dataset build); for open and open-cpu, of the open X-rays.",
            show_default=False,
        ),
    ],
    work: Annotated[
        Path,
        typer.Option(
            metavar="WORK",
            help="Folder for checkpoints and curves; a run that was cut off goes on there.",
            show_default=False,
        ),
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
    start: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Fine-tuning: the model to start from: bundled, a folder in diffusers' layout, or hub:owner/name; "
            "InstructPix2Pix (8 channels) or text-to-image (4).  [default: the recipe's]",
            show_default=False,
        ),
    ] = None,
    per_device: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Fine-tuning: samples that go through a device at once; the batch stays the recipe's.  "
            "[default: the recipe's]",
            show_default=False,
        ),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Fine-tuning: tensorboard, wandb or another of accelerate's trackers; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="open, open-cpu: vae, lungs, pairs, text_encoder, unet or bundle; repeatable.  [default: all]",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cpu, cuda, ...  [default: cpu for open, open-cpu; GPUs where there are any for fine-tuning]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a model with a recipe.

    Fine-tune as the paper does, on one device or, through torchrun or accelerate, on many:

    `x2x train paper-v1 --data mimic-edit --work runs/v1`

    `torchrun --nproc_per_node 8 -m instructx2x.cli train paper-v1 --data mimic-edit --work runs/v1`

    Train the bundled model from scratch, stage by stage:

    `x2x train open-cpu --data DATA --work runs/first`
    """
    from instructx2x.training.recipe import finetuning, read_toml

    content = read_toml(recipe)
    if "finetune" not in content:
        given = {"--start": start, "--per-device": per_device, "--tracker": tracker}
        _refuse(given, f"recipe {recipe} does not fine-tune")
        from instructx2x.training.run import run

        if stage and "bundle" not in stage:
            _refuse({"--out": out}, "only the stage bundle writes a model")
        stages = {"stages": stage} if stage else {}
        with claim(work, inputs=[data]):
            model = run(recipe, data=data, work=work, out=out, device=device or "cpu", **stages)
        print(f"model: {model}")
        return

    from dataclasses import replace

    settings = finetuning(content)
    settings = replace(settings, per_device=per_device or settings.per_device)
    _refuse({"--stage": stage}, f"recipe {recipe} has no stages")
    if device not in (None, "cpu"):
        raise InputError("fine-tuning takes --device cpu or the devices it is launched on: set CUDA_VISIBLE_DEVICES")
    from instructx2x.training.finetuning import finetune

    main = os.environ.get("RANK", "0") == "0"  # a launcher of several processes numbers them
    with claim(work, inputs=[data, start or settings.start]) if main else nullcontext():
        model = finetune(
            settings, data=data, work=work, start=start, out=out, trackers=tuple(tracker or ()), cpu=device == "cpu"
        )
    if main:
        print(f"model: {model}")


def _refuse(options: dict[str, object], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{why}: leave out {name}")
