"""A checkpoint of the original code, or a published folder, into safetensors in diffusers' InstructPix2Pix layout.

Offline, and without running what a checkpoint carries beside its weights (see `weights`). The weights keep their
values and their dtype. They are mapped from the checkpoint and not loaded, so memory stays far below its size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import SchedulerMixin
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizerFast

from instructx2x.errors import ModelError, OutputError
from instructx2x.models import backbone, compvis, locating, places, weights
from instructx2x.models.clip_tokenizer import tokenizer
from instructx2x.models.configs import read_scheduler
from instructx2x.models.parts import KINDS, Part, read_part
from instructx2x.models.weight_files import STEMS
from instructx2x.progress import quiet_libraries
from instructx2x.results import folders

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        folder: the new model.
        instructed: whether it is an InstructPix2Pix model; else its U-Net sees no input image (text to image).
        averaged: whether the U-Net's weights are the running average of the training; None where nothing tells.
        size: of the weights, in bytes.
    """

    folder: Path
    instructed: bool
    averaged: bool | None
    size: int


def convert(
    source: str | Path,
    out: str | Path,
    *,
    ema: bool | None = None,
    tokenizer_from: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert a model; the folder appears whole or not at all.

    Args:
        source: a .ckpt or .safetensors file of the CompVis layout (see `compvis`), or a folder in diffusers' layout,
            whose weights may be pickles.
        out: the folder to write.
        ema: take the running average of the U-Net's weights; None takes it where there is one.
        tokenizer_from: where CLIP's vocabulary is (see `clip_tokenizer`); None looks for an installed package, or in
            the source's own folder.
        overwrite: replace a model that `out` already is.
        progress: called with the bytes done and the bytes in all; each weight is read once and written once.

    Raises:
        ModelError: the source cannot be read safely, is not such a model, is incomplete or holds unknown tensors.
        OutputError: something is at `out` already, or it cannot be written.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    if not source.exists():
        raise ModelError(f"there is no checkpoint {source}")
    places.check_place(out, inputs=[source, tokenizer_from], overwrite=overwrite)
    with quiet_libraries():
        if source.is_dir():
            if ema is not None:
                raise ModelError(f"{source} is a folder and holds one set of weights: leave --ema and --no-ema out")
            parts, scheduler, averaged = *_read_folder(source), None
            tokenizer_from = tokenizer_from or source
        else:
            model = compvis.read_model(weights.read(source), ema)
            parts = {part: getattr(model, part) for part in KINDS}
            scheduler, averaged = model.scheduler, model.ema
        text = parts["text_encoder"].network.config
        words = tokenizer(
            None if tokenizer_from is None else Path(tokenizer_from).expanduser(),
            text.vocab_size,
            text.max_position_embeddings,
        )
        instructed = _is_instructed(parts)
        calibration = source / "calibration.json"
        backbone.read_calibration(calibration, scheduler.config.num_train_timesteps)

        size = sum(tensor.nbytes for part in parts.values() for tensor in part.tensors.values())
        tell = progress or (lambda done, total: None)

        def fill(folder: Path) -> None:
            _check_room(out, size)
            _write(folder, parts, scheduler, words, instructed, size, tell)
            if calibration.is_file():
                shutil.copyfile(calibration, folder / "calibration.json")

        try:
            folders.write_folder(out, fill, refuse_foreign=places.refuse_foreign if overwrite else None)
        except SafetensorError as error:
            raise OutputError(f"{out} cannot be written: {error}") from error
    return Converted(out, instructed, averaged, size)


def _check_room(out: Path, size: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < size:
        raise OutputError(f"{out} needs {size / 1e9:.1f} GB and its disk has {free / 1e9:.1f} free: make room for it")


def _read_folder(folder: Path) -> tuple[dict[str, Part], SchedulerMixin]:
    """The networks and the scheduler of a folder in diffusers' layout, checked against their configurations."""
    locating.check_layout(folder, str(folder))
    return {part: read_part(folder, part, pickles=True) for part in KINDS}, read_scheduler(folder / "scheduler")


def _is_instructed(parts: Mapping[str, Part]) -> bool:
    """Whether the U-Net sees an input image beside the noisy latents; ModelError when the networks do not fit."""
    unet, vae, text = (parts[part].network.config for part in ("unet", "vae", "text_encoder"))
    latent, channels = vae.latent_channels, unet.in_channels
    if channels not in (latent, 2 * latent) or unet.out_channels != latent:
        raise ModelError(
            f"this is neither an InstructPix2Pix nor a text-to-image model: its U-Net takes {channels} channels and "
            f"gives {unet.out_channels}, and its VAE has {latent}"
        )
    if unet.cross_attention_dim != text.hidden_size:
        raise ModelError(
            f"the U-Net attends to texts of width {unet.cross_attention_dim}, and the text encoder's is "
            f"{text.hidden_size}: they are not parts of one model"
        )
    return channels == 2 * latent


def _write(
    folder: Path,
    parts: Mapping[str, Part],
    scheduler: SchedulerMixin,
    words: CLIPTokenizerFast,
    instructed: bool,
    size: int,
    progress: Progress,
) -> None:
    done, total = 0, 2 * size
    for part, content in parts.items():
        (folder / part).mkdir()
        for name, tensor in content.tensors.items():
            if not tensor.isfinite().all():
                raise ModelError(f"the model's {part} holds numbers that are not finite, in {name}: it would not run")
            done += tensor.nbytes
            progress(done, total)
        packed = {name: tensor.contiguous() for name, tensor in content.tensors.items()}
        save_file(packed, folder / part / f"{STEMS[part]}.safetensors", metadata={"format": "pt"})
        done += sum(tensor.nbytes for tensor in packed.values())
        progress(done, total)
        _save_config(content.network, folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    words.save_pretrained(folder / "tokenizer")
    index = json.dumps(_index(scheduler, instructed), indent=2)
    (folder / "model_index.json").write_text(index + "\n", encoding="utf-8")


def _save_config(network: torch.nn.Module, folder: Path) -> None:
    if isinstance(network, CLIPTextModel):
        network.config.save_pretrained(folder)
    else:
        network.save_config(folder)


def _index(scheduler: SchedulerMixin, instructed: bool) -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionInstructPix2PixPipeline" if instructed else "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
