"""First stage: the autoencoder of the bundled model, from single X-rays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from instructx2x.training.loop import Batch, fast_halves, fingerprint, fit


def build_vae(channels: tuple[int, ...], size: int) -> AutoencoderKL:
    """An SD-style autoencoder: f = 8, four latent channels, three image channels that all carry the same gray."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=size,
        mid_block_add_attention=False,
    )


def random_crops(images: np.ndarray, rows: np.ndarray, crop: int, rng: np.random.Generator) -> torch.Tensor:
    """Crops with a small change of brightness and contrast: (len(rows), 1, crop, crop) float32 in [-1, 1]."""
    batch = np.empty((len(rows), crop, crop), dtype=np.float32)
    for i, row in enumerate(rows):
        y, x = rng.integers(0, images.shape[1] - crop + 1, 2)
        patch = images[row, y : y + crop, x : x + crop].astype(np.float32) / 255
        batch[i] = (patch ** rng.uniform(0.8, 1.25)) * rng.uniform(0.9, 1.1)
    return torch.from_numpy(np.clip(batch, 0, 1) * 2 - 1)[:, None]


def train_vae(
    images: np.ndarray,
    table: pl.DataFrame,
    *,
    work: Path,
    size: int,
    channels: tuple[int, ...] = (16, 32, 64, 96),
    steps: int = 5000,
    decoder_steps: int = 0,
    batch: int = 8,
    crop: int = 128,
    peak_lr: float = 1.5e-3,
    child_share: float = 0.06,
    seed: int = 0,
    device: str = "cpu",
) -> AutoencoderKL:
    """Train on crops of train images: L1 on pixels and on their gradients, with a faint KL term.

    Gradients are weighted because what matters in an X-ray (vessel, fissure, pleural line) is an edge of low contrast.
    The last `decoder_steps` train the decoder alone: latents stay what they are, so that whatever was learned or cached
    on them stays good. The latents' standard deviation over train images becomes the config's `scaling_factor` inverse.

    Returns:
        The autoencoder with EMA weights, also written to `work/vae` in diffusers' layout.
    """
    torch.manual_seed(seed)
    vae = build_vae(channels, size)
    train = (table["split"] == "train").to_numpy()
    adult = table["adult"].to_numpy()
    adults, children = np.flatnonzero(train & adult), np.flatnonzero(train & ~adult)

    def draw(rng: np.random.Generator) -> Batch:
        young = rng.random(batch) < child_share
        rows = np.where(young, rng.choice(children, batch), rng.choice(adults, batch))
        return (random_crops(images, rows, crop, rng),)

    def loss(crops: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = crops.expand(-1, 3, -1, -1).contiguous()
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample.float()
        pixel = (y - x).abs().mean()
        edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (2, 3))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        psnr = -10 * torch.log10(F.mse_loss(y.detach(), x) / 4)
        return pixel + edges + 1e-4 * kl, {"pixel": pixel, "psnr": psnr, "kl": kl}

    settings = {"work": work, "seed": seed, "ema_decay": 0.998, "device": device}
    fit("vae", vae, draw, loss, steps=steps, peak_lr=peak_lr, run={"channels": list(channels)}, **settings)
    if decoder_steps:
        for part in (vae.encoder, vae.quant_conv):
            part.requires_grad_(False)
        run = {"encoder": which_encoder(vae)}
        fit("decoder", vae, draw, loss, steps=decoder_steps, peak_lr=peak_lr * 2 / 3, run=run, **settings)
    sample = images[adults[:: max(1, len(adults) // 64)]]
    vae.register_to_config(scaling_factor=round(1 / float(encode(vae, sample, scaled=False).std()), 5))
    vae.save_pretrained(work / "vae")
    return vae


def which_encoder(vae: AutoencoderKL) -> str:
    """Tells autoencoders apart by their encoder: latents belong to the one that made them."""
    return fingerprint(vae.encoder, vae.quant_conv)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, *, scaled: bool = True, batch: int = 8) -> torch.Tensor:
    """Posterior modes of whole images: (N, S, S) uint8 -> (N, 4, S/8, S/8) float32, times `scaling_factor` if asked."""
    device = next(vae.parameters()).device
    halves = fast_halves(device)
    layout = torch.channels_last if halves else torch.contiguous_format
    vae.to(memory_format=layout)
    latents = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch].astype(np.float32) / 127.5 - 1).to(device)
        # bfloat16 moves the latents by 0.3 % of their spread and is three times as fast.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=halves):
            x = x[:, None].repeat(1, 3, 1, 1).contiguous(memory_format=layout)
            posterior = vae.encode(x).latent_dist
        latents.append(posterior.mode().float().cpu())
    factor = vae.config.scaling_factor if scaled else 1.0
    return torch.cat(latents) * factor


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, *, batch: int = 8) -> np.ndarray:
    """Scaled latents (N, 4, s, s) -> images (N, 8s, 8s) float32 in [0, 1], the mean of the three channels."""
    device = next(vae.parameters()).device
    images = []
    for start in range(0, len(latents), batch):
        z = latents[start : start + batch].to(device) / vae.config.scaling_factor
        images.append(vae.decode(z).sample.float().mean(1).cpu() / 2 + 0.5)
    return torch.cat(images).clamp(0, 1).numpy()
