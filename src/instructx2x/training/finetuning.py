"""Fine-tuning as the paper does it (method section 2): from an InstructPix2Pix model, on a dataset of pairs.

The loss is the mean squared error of the predicted noise on the current image's latents, shown the past image's and
the instruction. The text encoder and the autoencoder are frozen; what comes out is the moving average of the U-Net's
weights. accelerate brings devices, precision, checkpoints and trackers.

**On any number of devices a run is the same**: a step's samples, their dropout, noise and timesteps are functions of
the seed and the samples' numbers (`draws`), the batch is shared out among the processes, and how often a device
accumulates follows from the batch, the number of devices and how much goes through one at once. Sums of floats in
another order are all that differs. A run that was killed goes on from its newest whole checkpoint, also on another
number of devices, and on the same ones (on a CPU, with as many threads) ends in the same bits where the device's
arithmetic is repeatable.

WORK holds, all of it derived from the dataset's images and under their terms:

    settings.json           what decides the weights; a run with other settings does not touch it
    latents/                every image, encoded once
    checkpoints/step-N/     the last two states
    losses.csv, validation.csv, sheets/step-N.png, logs/ (trackers)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    set_seed,
)
from diffusers import StableDiffusionInstructPix2PixPipeline
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError

from instructx2x.dataset.table import load_dataset
from instructx2x.errors import InputError, ModelError, OutputError
from instructx2x.imaging.writing import atomic_write
from instructx2x.models import Backbone
from instructx2x.progress import quiet_libraries
from instructx2x.results import folders
from instructx2x.training import checkpoints, validation
from instructx2x.training.batches import Batch, Pairs, ahead, squared_errors
from instructx2x.training.bundle import check_place, put_in_place, save_pipeline
from instructx2x.training.draws import chunks, draw, numbers_of, row_of, validation_rows
from instructx2x.training.journal import Journal, check_trackers
from instructx2x.training.latents import check_images, encode_images
from instructx2x.training.model_card import model_card
from instructx2x.training.recipe import Finetuning
from instructx2x.training.start import load_start

# Settings that the weights after a number of steps do not depend on: a run may go on with others.
_FREE = ("steps", "per_device", "gradient_checkpointing", "log_every", "checkpoint_every", "validate_every")
_FREE += ("validation", "sheet", "sheet_steps", "text_guidance", "image_guidance")


def finetune(
    recipe: Finetuning,
    *,
    data: Path,
    work: Path,
    start: str | None = None,
    out: Path | None = None,
    trackers: tuple[str, ...] = (),
    cpu: bool = False,
) -> Path:
    """Fine-tune, or go on with a run that was cut off. Every process of a distributed run calls it.

    Args:
        recipe: see `recipe.Finetuning`.
        data: folder of a dataset (`x2x dataset build`), its images as large as the model's squares.
        work: folder of the run; one that all processes see.
        start: the model to start from, as for `models.load`, or a text-to-image model; the recipe's by default.
        out: folder of the finished model, replaced when it holds a model; `work/model` by default.
        trackers: names of accelerate's trackers, such as tensorboard.
        cpu: leave GPUs alone.

    Returns:
        `out`.

    Raises:
        InputError: the dataset has no rows to train or validate on, no images, or images of another size; a tracker
            is not installed.
        ModelError: the start model cannot be used, the loss is not finite any more, or a device's memory is too small.
        OutputError: `work` holds another run, or a place cannot be written to.
    """
    out = out or work / "model"
    if os.environ.get("RANK", "0") == "0":  # a launcher of several processes numbers them
        check_place(out, work, [data, start or recipe.start])
    check_trackers(list(trackers))
    start = start or recipe.start
    if not start:
        raise InputError("the recipe names no model to start from: give one with --start")
    train, held_out = _tables(data, recipe)
    accelerator = Accelerator(
        mixed_precision=recipe.precision,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(str(work), logging_dir=str(work / "logs")),
        # Accumulation follows from the batch and is done below, whatever the launcher's configuration says.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[
            # The others wait while one downloads the start model, or looks at every image over a slow network.
            InitProcessGroupKwargs(timeout=timedelta(hours=2)),
            # Gradients lie where they are summed over processes, and not once more beside it.
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
        cpu=cpu,
    )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise InputError("weights divided over devices are not supported: launch with accelerate launch --multi_gpu")
    set_seed(recipe.seed, device_specific=True)  # only for a U-Net that has dropout of its own

    splits = {"train": train, "validate": held_out}
    files = {name: sorted({*table["past_image"], *table["current_image"]}) for name, table in splits.items()}
    if accelerator.is_main_process:
        check_images(data, files["train"] + files["validate"], recipe.size)
    with accelerator.main_process_first():  # the others find a download done
        model = load_start(start, accelerator.device)
    if model.size != recipe.size:
        raise InputError(f"{start} works at {model.size} pixels, and the recipe says size = {recipe.size}")
    settings = _settings(recipe, data, start, model)
    if accelerator.is_main_process:
        _claim(work, settings)
        _tell_of_long_texts(train["instruction"].unique().to_list(), model)
    accelerator.wait_for_everyone()

    key = model.digest + settings["data"]
    with _explained(recipe, work):
        pairs = {
            name: Pairs(table, encode_images(model.vae, data, files[name], work / "latents", key, accelerator), model)
            for name, table in splits.items()
        }
        ema = _train(recipe, model, pairs, work, accelerator)
    if accelerator.is_main_process:
        ema.copy_to(model.unet.parameters())
        _publish(model, out, work, model_card(recipe, settings, data, len(train), accelerator.num_processes))
    accelerator.end_training()
    return out


def _tables(data: Path, recipe: Finetuning) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows to train on, and those to validate on."""
    train, validate = load_dataset(data, "train"), load_dataset(data, "validate")
    if not len(train):
        raise InputError(f"{data} has no train rows: build the dataset with another --split")
    if recipe.validation and not len(validate):
        raise InputError(
            f"{data} has no validate rows: build the dataset with another --split, or set validation = 0 and sheet = 0 "
            "in the recipe"
        )
    held_out = validate[validation_rows(len(validate), recipe.validation, recipe.seed)]
    if any(table[column].null_count() for table in (train, held_out) for column in ("past_image", "current_image")):
        raise InputError(f"{data} holds tables only: build the dataset without --tables-only")
    return train, held_out


def _settings(recipe: Finetuning, data: Path, start: str, model: Backbone) -> dict[str, Any]:
    """What decides the weights of a run."""
    table = (data / "data" / "train.parquet").read_bytes()
    built = (data / "settings.json").read_bytes() if (data / "settings.json").is_file() else b""
    return {
        "recipe": {name: value for name, value in asdict(recipe).items() if name not in (*_FREE, "start")},
        "start": {"name": start, "sha256": model.digest},
        "data": sha256(sha256(table).digest() + sha256(built).digest()).hexdigest(),
    }


def _tell_of_long_texts(texts: list[str], model: Backbone) -> None:
    tokens = model.tokenizer(texts, truncation=False, verbose=False).input_ids
    if long := sum(len(ids) > model.token_limit for ids in tokens):
        told = f"{long} of {len(texts)} instructions are cut off at the {model.token_limit} tokens that the model reads"
        print(told)


def _claim(work: Path, settings: dict[str, Any]) -> None:
    """Make WORK this run's, or go on with the same."""
    path = work / "settings.json"
    try:
        if path.is_file():
            held = json.loads(path.read_text())
            if {**held, "start": held["start"]["sha256"]} != {**settings, "start": settings["start"]["sha256"]}:
                raise OutputError(f"{work} holds a run with another recipe, start model or dataset: name a new --work")
            return
        occupied = work.exists() and bool(folders.entries(work))
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{work} cannot be written to ({error.strerror}): name another --work") from error
    except (ValueError, KeyError, TypeError):
        occupied = True
    if occupied:
        raise OutputError(f"{work} is in use for something else: name a new folder with --work")
    atomic_write(path, lambda file: file.write_text(json.dumps(settings, indent=2) + "\n"))


@contextmanager
def _explained(recipe: Finetuning, work: Path) -> Iterator[None]:
    """Say what commonly ends a long run, and what to do about it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        ways = {
            f"lower --per-device (now {recipe.per_device})": recipe.per_device > 1,
            "set gradient_checkpointing = true in the recipe": not recipe.gradient_checkpointing,
            "take a device with more memory": True,
        }
        what = ", or ".join(way for way, helps in ways.items() if helps)
        raise ModelError(f"out of memory: {what}, and start again to go on") from error
    except OSError as error:  # a disk that is full or gone
        where, why = error.filename or work, error.strerror or error
        raise OutputError(f"{where}: {why}: put that right, and start again to go on") from error


def _train(
    recipe: Finetuning,
    model: Backbone,
    pairs: dict[str, Pairs],
    work: Path,
    accelerator: Accelerator,
) -> EMAModel:
    """The loop; returns the moving average of the weights after the last step."""
    model.unet.requires_grad_(True).train()
    if recipe.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    ema = EMAModel(model.unet.parameters(), decay=recipe.ema_decay, foreach=True)
    optimiser = torch.optim.AdamW(
        model.unet.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    unet, optimiser = accelerator.prepare(model.unet, optimiser)
    first = checkpoints.restore(accelerator, work / "checkpoints", model.unet, optimiser, ema)
    if first > recipe.steps:
        raise OutputError(f"{work} holds a run of {first} steps already, and the recipe says {recipe.steps}")
    ema.to(accelerator.device)
    rounds = [
        parts[accelerator.process_index] for parts in chunks(recipe.batch, accelerator.num_processes, recipe.per_device)
    ]
    places = product(range(first, recipe.steps), rounds)
    batches = ahead(lambda place: _samples(recipe, model, pairs["train"], *place), places)
    total, counted = torch.zeros((), device=accelerator.device), 0

    def validate(step: int) -> None:
        with _averaged(model.unet, ema), accelerator.autocast():
            value = _finite(validation.loss(model, pairs["validate"], recipe, accelerator), step)
            picture = validation.sheet(model, pairs["validate"], recipe, accelerator) if recipe.sheet else None
        if picture is not None and accelerator.is_main_process:
            validation.write_sheet(picture, work / "sheets", step)
        journal.report_validation(step, value, picture)

    with Journal(accelerator, work, asdict(recipe), first, recipe.steps) as journal:
        if first == 0 and recipe.validation:
            validate(0)  # what cannot be sampled or written shows now and not after hours
        for step in range(first, recipe.steps):
            for number, part in enumerate(rounds, 1):
                with nullcontext() if number == len(rounds) else accelerator.no_sync(unet):
                    with accelerator.autocast():
                        loss = _share(recipe, unet, model, next(batches), part)
                    # Gradients are averaged over processes, and the batch's mean is a sum of shares.
                    accelerator.backward(loss * accelerator.num_processes)
                    total += loss.detach()
            counted += 1
            accelerator.clip_grad_norm_(unet.parameters(), recipe.max_grad_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=False)  # which keeps gradients where processes sum them
            ema.step(model.unet.parameters())
            journal.advance()
            done = step + 1
            keep = done % recipe.checkpoint_every == 0 or done == recipe.steps
            if keep or done % recipe.log_every == 0:
                mean = _finite(accelerator.reduce(total, "sum").item() / counted, done)
                journal.report(done, {"loss": mean, "learning_rate": recipe.learning_rate})
                total.zero_()
                counted = 0
            if recipe.validation and (done % recipe.validate_every == 0 or done == recipe.steps):
                validate(done)
            if keep:
                checkpoints.save(accelerator, work / "checkpoints", done, model.unet, optimiser, ema)
    return ema


def _samples(recipe: Finetuning, model: Backbone, pairs: Pairs, step: int, positions: range) -> Batch:
    """The samples at some positions of a step's batch."""
    # Every process must go through the U-Net in every round; one without samples takes one that adds nothing.
    numbers = list(numbers_of(step, recipe.batch, positions or range(1)))
    dropped = (recipe.drop_text, recipe.drop_image, recipe.drop_both)
    draws = [draw(number, recipe.seed, model.latent_shape[1:], pairs.timesteps, *dropped) for number in numbers]
    return pairs.batch([row_of(number, len(pairs), recipe.seed) for number in numbers], draws)


def _share(recipe: Finetuning, unet: torch.nn.Module, model: Backbone, batch: Batch, positions: range) -> torch.Tensor:
    """The share of `_samples` in their step's mean loss; the shares of all positions add up to it."""
    return squared_errors(unet, model, batch).sum() * (bool(positions) / recipe.batch)


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise ModelError(
            f"the loss is not finite at step {step}: start again in a new --work with a lower learning_rate, or with "
            "precision bf16 or no"
        )
    return loss


@contextmanager
def _averaged(unet: torch.nn.Module, ema: EMAModel):
    """The U-Net with its averaged weights, as it is when it is used."""
    ema.store(unet.parameters())
    ema.copy_to(unet.parameters())
    unet.eval()
    try:
        yield
    finally:
        unet.train()
        ema.restore(unet.parameters())


def _publish(model: Backbone, out: Path, work: Path, card: str) -> None:
    """Write the finished model, whole or not at all."""
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=model.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    def fill(folder: Path) -> None:
        with quiet_libraries():
            save_pipeline(pipeline, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")

    try:
        put_in_place(out, work, fill)
    except SafetensorError as error:
        raise OutputError(f"{out} cannot be written ({error}): start again with another -o") from error
