"""Put trained parts together as one folder in diffusers' layout, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from instructx2x.errors import OutputError
from instructx2x.imaging.writing import replace_folder
from instructx2x.models.clip_tokenizer import read_tokenizer, rest
from instructx2x.models.parts import KINDS, fill, read_part
from instructx2x.training.unet import build_scheduler


def bundle(work: Path, out: Path) -> None:
    """Write `work`'s vae, text_encoder, tokenizer and unet as one pipeline folder, in half precision."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        **{part: fill(read_part(work, part), "cpu", torch.float32) for part in KINDS},
        tokenizer=read_tokenizer(work / "tokenizer"),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_pipeline(pipeline.to(torch.float16), out)


def save_pipeline(pipeline: StableDiffusionInstructPix2PixPipeline, out: Path) -> None:
    """Write a pipeline as safetensors, without traces of the machine that trained it."""
    rest(pipeline.tokenizer)
    pipeline.save_pretrained(out, safe_serialization=True)
    for file in out.glob("*/config.json"):
        # Where the parts lay on the machine that trained them is nobody's business.
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        # Unless told otherwise diffusers reads float32, but transformers what this key says: the parts must agree.
        if "dtype" in config:
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n")


def check_place(out: Path) -> None:
    """Refuse before the work what `put_in_place` must not replace.

    Raises:
        OutputError: something is at `out` that is no model.
    """
    if out.exists() and not (out / "model_index.json").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out} is not a model, so it is not replaced: choose another folder with -o")


def put_in_place(partial: Path, out: Path) -> None:
    """Move a finished folder to `out`; an earlier model there is replaced.

    Raises:
        OutputError: what is at `out` is no model.
    """
    check_place(out)
    replace_folder(partial, out, overwrite=True)
