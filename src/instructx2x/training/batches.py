"""Pairs of a dataset as batches of latents, and what a U-Net makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import polars as pl
import torch
from diffusers import DDPMScheduler

from instructx2x.editing.sampling import training_schedule
from instructx2x.models import Backbone, token_ids
from instructx2x.training.draws import Draw
from instructx2x.training.latents import Latents

Item, Made = TypeVar("Item"), TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """Samples, on the CPU.

    Attributes:
        current: (n, c, h, w) scaled latents of the current images, sampled from their posteriors.
        past: (n, c, h, w) latents of the past images as condition: their posteriors' modes, not scaled, as the
            published code shows them to the model; zeros where dropped.
        texts: n instructions, empty where dropped.
        timesteps: (n,).
        noise: (n, c, h, w), to be predicted.
        noisy: (n, c, h, w) `current` with `noise` at its timestep.
    """

    current: torch.Tensor
    past: torch.Tensor
    texts: list[str]
    timesteps: torch.Tensor
    noise: torch.Tensor
    noisy: torch.Tensor


class Pairs:
    """The pairs of one split, their images encoded."""

    def __init__(self, table: pl.DataFrame, latents: Latents, model: Backbone):
        """Args:
        table: columns past_image, current_image, instruction.
        latents: of all images in it.
        model: whose scaling and noise schedule to use.
        """
        columns = (table[name].to_list() for name in ("past_image", "current_image", "instruction"))
        self._rows = list(zip(*columns, strict=True))
        self._latents = latents
        self._scale = model.vae.config.scaling_factor
        self._schedule = DDPMScheduler(**training_schedule(model.scheduler.config))
        self.timesteps = self._schedule.config.num_train_timesteps

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Iterable[int], draws: Sequence[Draw]) -> Batch:
        """Rows of the table with the random part of their samples."""
        samples = [(*self._rows[row], draw) for row, draw in zip(rows, draws, strict=True)]
        current = [self._latents.sample(file, draw.posterior) * self._scale for _, file, _, draw in samples]
        past = [self._latents.mean(file) * draw.keep_image for file, _, _, draw in samples]
        texts = [text if draw.keep_text else "" for _, _, text, draw in samples]
        timesteps = torch.tensor([draw.timestep for draw in draws])
        current, noise = torch.stack(current), torch.stack([draw.noise for draw in draws])
        noisy = self._schedule.add_noise(current, noise, timesteps)
        return Batch(current, torch.stack(past), texts, timesteps, noise, noisy)


def ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `make` makes of each item, in order; a thread makes the next one while one is in use."""
    with ThreadPoolExecutor(1) as pool:
        futures = (pool.submit(make, item) for item in items)
        current = next(futures, None)
        while current:
            upcoming = next(futures, None)
            yield current.result()
            current = upcoming


def squared_errors(unet: torch.nn.Module, model: Backbone, batch: Batch) -> torch.Tensor:
    """(n,) float32: each sample's mean squared error of the predicted noise.

    Args:
        unet: the U-Net as it is trained, which accelerate may have wrapped.
        model: the networks around it, frozen.
    """
    noisy, past, noise, timesteps = (
        _moved(tensor, model.device) for tensor in (batch.noisy, batch.past, batch.noise, batch.timesteps)
    )
    predicted = unet(torch.cat((noisy, past), dim=1), timesteps, embed(model, batch.texts)).sample
    return ((predicted.float() - noise) ** 2).mean((1, 2, 3))


@torch.no_grad()
def embed(model: Backbone, texts: list[str]) -> torch.Tensor:
    """(n, tokens, width): the frozen text encoder's last hidden states."""
    ids = token_ids(model.tokenizer, texts, model.token_limit)
    return model.text_encoder(_moved(ids, model.device))[0].to(model.dtype)


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device. A GPU takes it out of pinned memory when it comes to it, so that nobody waits for that."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
