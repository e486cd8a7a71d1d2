"""Put trained parts together as one folder in diffusers' layout, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from instructx2x.errors import InputError
from instructx2x.files import content_digest
from instructx2x.models import places
from instructx2x.models.clip_tokenizer import read_tokenizer, rest
from instructx2x.models.parts import KINDS, fill, read_part
from instructx2x.results import folders
from instructx2x.training.unet import build_scheduler

# In the work folder: the digest of the model that was written last, which another run of it may replace.
PUBLISHED = "published.json"


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


def check_place(out: Path, work: Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse before the work a place that `put_in_place` must not replace.

    Raises:
        OutputError: `out` is or holds an input, cannot be written, or holds anything but a model of this work folder.
    """
    places.check_place(out, inputs=inputs, overwrite=_is_ours(out, work))


def put_in_place(out: Path, work: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write the finished model, whole or not at all; an earlier one of this work folder is replaced.

    Raises:
        OutputError: what is at `out` is not replaced, or the place cannot be written to.
    """
    folders.write_folder(out, fill, refuse_foreign=places.refuse_foreign if _is_ours(out, work) else None)
    published = json.dumps({"sha256": content_digest(out)}) + "\n"
    folders.atomic_write(work / PUBLISHED, lambda file: file.write_text(published))


def _is_ours(out: Path, work: Path) -> bool:
    """Whether what is at `out` was written by a run of this work folder, or is nothing."""
    if Path(os.path.abspath(work)) in Path(os.path.abspath(out)).parents:
        return True
    try:
        if out.is_dir() and not any(out.iterdir()):
            return True
        return json.loads((work / PUBLISHED).read_text())["sha256"] == content_digest(out)
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return False
