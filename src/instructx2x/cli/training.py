"""`x2x train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
