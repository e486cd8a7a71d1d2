"""`x2x convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from instructx2x.cli.console import one_line
from instructx2x.progress import progress


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT",
            help="A .ckpt or .safetensors file of the original code, or a folder in diffusers' layout.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the model to.", show_default=False)],
    ema: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema",
            help="Take the running average of the training's weights, or the last weights.  [default: the average "
            "where the checkpoint has one]",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="CLIP's vocabulary: a folder with vocab.json and merges.txt, or with tokenizer.json; or the file "
            "bpe_simple_vocab_16e6.txt.gz.  [default: an installed open_clip's; a folder's own]",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that OUT already is.")] = False,
) -> None:
    """Turn a checkpoint of the original code into a folder that --model takes.

    The checkpoint is read without running what it may carry beside its weights. OUT holds safetensors in diffusers'
    InstructPix2Pix layout and appears whole or not at all. Nothing is downloaded.

    `x2x convert instructx2x.ckpt models/instructx2x`

    `x2x edit chest.png "Add the finding of edema." -o out --model models/instructx2x`
    """
    from instructx2x.models.conversion import convert

    with progress("Converting", in_bytes=True) as advance:

        def tell(done: int, total: int) -> None:
            advance(to=done, total=total)

        done = convert(checkpoint, out, ema=ema, tokenizer_from=tokenizer, overwrite=overwrite, progress=tell)
    taken = {True: ", averaged weights", False: ", weights as last trained", None: ""}[done.averaged]
    print(one_line(f"model: {done.folder} ({done.size / 1e9:.2f} GB{taken})"))
    if done.instructed:
        print(one_line(f'try it: x2x edit IMAGE "Add the finding of edema." -o OUT --model {done.folder}'))
    else:
        print("its U-Net sees no input image: a start for training, not a model that edits")
