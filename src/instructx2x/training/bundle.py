"""Put the trained parts together as one folder in diffusers' layout, in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from instructx2x.training.unet import build_scheduler


def bundle(work: Path, out: Path) -> None:
    """Write `work`'s vae, text_encoder, tokenizer and unet as one pipeline folder."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(work / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(work / "unet"),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    for file in out.glob("*/config.json"):
        # Where the parts lay on the machine that trained them is nobody's business.
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        # Unless told otherwise diffusers reads float32, but transformers what this key says: the parts must agree.
        if "dtype" in config:
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n")
