"""Last stage: the 8-channel U-Net that follows instructions, on cached latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from instructx2x.models import Backbone, token_ids
from instructx2x.training.back_translation import add_to_normals, additions_of
from instructx2x.training.loop import Batch, fingerprint, fit
from instructx2x.training.samples import Sample, Sampler
from instructx2x.training.states import read_state, write_state

# From this timestep on there is so much noise that edits are decided: half of the draws fall there.
NOISY = 400


def build_unet(channels: tuple[int, ...], latent_size: int, text_width: int) -> UNet2DConditionModel:
    """An InstructPix2Pix U-Net: noisy and input latents in, noise out; text at all levels but the finest.

    Attention among the 1,024 cells of the finest level would take half of a step on a CPU.
    """
    levels = len(channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=8,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        cross_attention_dim=text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion v1.5's schedule (method section 2), with the settings its DDIM is used with."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def drop_conditions(
    sample: Sample, rng: np.random.Generator, text: float, image: float, both: float
) -> tuple[torch.Tensor | None, torch.Tensor, str]:
    """Conditioning dropout: (source or None, target, text).

    Where only the text is dropped the target is the source, so that e(I, 0) means "no change" and
    |e(I, T) - e(I, 0)| is 0 when there is nothing to do. A blank past image counts as a dropped one.
    """
    chance = rng.random()
    if sample.source is None:
        return None, sample.target, "" if chance < 0.3 else sample.text
    if chance < text:
        return sample.source, sample.source, ""
    if chance < text + image:
        return None, sample.target, sample.text
    if chance < text + image + both:
        return None, sample.source, ""
    return sample.source, sample.target, sample.text


def made_already(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """How much of its edit each sample's noisy latents show: (N,) float32, 1 all of it.

    Noisy latents made of the target alone show what is to be done: where they look like the source, nothing is. But
    sampling starts from the noised source, and the relevance map is measured on it. So at the levels of noise at which
    edits are decided, a quarter of the samples show the source and a quarter an edit that is half made.

    Args:
        t: (N,) timesteps.
    """
    chance, part = rng.random((2, len(t)))
    return np.where((t < NOISY) | (chance < 0.5), 1, np.where(chance < 0.75, 0, part)).astype(np.float32)


def filled_already(rng: np.random.Generator, t: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """The same where a blank is to be filled: half of the samples show what a sampler that began with it has by then.

    At a level of noise sigma it still shows sigma / sigma_max of the blank, and so do these.

    Args:
        t: (N,) timesteps.
        alphas: (T,) cumulative alphas.
    """
    sigmas = np.sqrt(1 / alphas - 1)
    return np.where(rng.random(len(t)) < 0.5, 1, 1 - sigmas[t] / sigmas[-1]).astype(np.float32)


def noised(
    source: torch.Tensor, target: torch.Tensor, made: torch.Tensor, noise: torch.Tensor, alpha: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents that show an edit as far as it is made, and the noise to predict so that they become the target.

    z_t = sqrt(a) (target + (1 - made) (source - target)) + sqrt(1 - a) noise, and what is to be predicted is
    (z_t - sqrt(a) target) / sqrt(1 - a): the noise itself where the edit is made.

    Args:
        source, target, noise: (N, c, h, w).
        made: (N,) in [0, 1], see `made_already`.
        alpha: (N,) a, cumulative alphas in (0, 1).

    Returns:
        (N, c, h, w) each.
    """
    alpha, made = (values[:, None, None, None] for values in (alpha, made))
    to_come = (1 - made) * (source - target)
    noisy = alpha.sqrt() * (target + to_come) + (1 - alpha).sqrt() * noise
    return noisy, noise + (alpha / (1 - alpha)).sqrt() * to_come


def hide(source: torch.Tensor, blank: torch.Tensor | None) -> torch.Tensor:
    """Latents under a blank: (c, s, s) and its opacity (s, s) or None -> (c, s, s). A blank is zeros."""
    return source if blank is None else source * (1 - blank)


def loss_weights(where: torch.Tensor, snr: torch.Tensor) -> torch.Tensor:
    """Weight of the squared error at every latent cell: (N, 1, s, s).

    Cells that the instruction is about count five times, and up to 20 times in small regions: else a nodule drowns in
    what must only be copied. They count so too where the instruction already holds, for what is learned is the weighted
    mean of what may be wanted: if they counted in changes alone, doubt would always decide for an edit.

    Over time the weight is 1 / sqrt(SNR), half way between an error in the noise (1) and in the image (1 / SNR): where
    there is much noise the noise is easily told, but an edit's shape is decided there.

    Args:
        where: (N, s, s) bool, see `Sample.where`; with no cell set the whole image counts alike.
        snr: (N,) signal to noise ratios.
    """
    region = F.max_pool2d(where[:, None].float(), 3, stride=1, padding=1)
    more = (0.25 / region.mean((1, 2, 3), keepdim=True).clamp_min(1e-6)).clamp(4, 19)
    return (1 + more * region) * (snr**-0.5).clamp(0.3, 6)[:, None, None, None]


def train_unet(
    sampler: Sampler,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    *,
    work: Path,
    start: UNet2DConditionModel | None = None,
    channels: tuple[int, ...] = (64, 112, 160),
    steps: int = 6000,
    batch: int = 16,
    peak_lr: float = 5e-4,
    drop_text: float = 0.1,
    drop_image: float = 0.04,
    drop_both: float = 0.04,
    back_translations: int = 0,
    back_at: int = 0,
    seed: int = 0,
    device: str = "cpu",
) -> UNet2DConditionModel:
    """Train on the bank's pairs; the U-Net with EMA weights is also written to `work/unet`.

    With `back_translations`, the first `back_at` steps are a run of their own, up to the fall of its learning rate. The
    model then adds to that many normal X-rays, and goes on with removing these additions among the pairs.

    With `start` its weights are trained on, and `channels` are its own.

    As in Stable Diffusion, the input's conditioning latents are not multiplied by the VAE's scaling factor.
    """
    torch.manual_seed(seed)
    unet = start or build_unet(channels, sampler.bank.clean.shape[-1], text_encoder.config.hidden_size)
    unet.requires_grad_(True)
    if torch.device(device).type == "cpu":
        # The backward pass of torch's fused attention is slow on a CPU.
        unet.set_attn_processor(AttnProcessor())
    text_encoder.to(device).eval().requires_grad_(False)
    alphas = build_scheduler().alphas_cumprod.to(device)
    levels = alphas.cpu().numpy()

    def draw(rng: np.random.Generator) -> Batch:
        samples = [sampler.draw(rng) for _ in range(batch)]
        shown = [drop_conditions(sample, rng, drop_text, drop_image, drop_both) for sample in samples]
        target = torch.stack([target for _, target, _ in shown])
        source = torch.stack(
            [
                torch.zeros_like(target) if source is None else hide(source, sample.blank)
                for sample, (source, target, _) in zip(samples, shown, strict=True)
            ]
        )
        # With a condition dropped there is no instruction on this image, and every cell counts alike.
        nowhere = torch.zeros(target.shape[2:], dtype=torch.bool)
        where = [
            nowhere if sample.where is None or source is None or not text else sample.where
            for sample, (source, _, text) in zip(samples, shown, strict=True)
        ]
        early = rng.random(batch) < 0.5
        t = np.where(early, rng.integers(NOISY, 1000, batch), rng.integers(0, 1000, batch))
        blank = np.array([source is None for source, _, _ in shown])
        filled = np.array([sample.blank is not None for sample in samples])
        made = np.where(filled, filled_already(rng, t, levels), made_already(rng, t))
        made = torch.from_numpy(np.where(blank, np.float32(1), made))
        ids = token_ids(tokenizer, [text for _, _, text in shown], tokenizer.model_max_length)
        # The bank's latents are half precision, so nothing is lost.
        return source.half(), target.half(), torch.stack(where), made, torch.from_numpy(t), ids

    def loss(
        source: torch.Tensor,
        target: torch.Tensor,
        where: torch.Tensor,
        made: torch.Tensor,
        t: torch.Tensor,
        ids: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        source, target = source.float(), target.float()
        noisy, noise = noised(source, target, made, torch.randn_like(target), alphas[t])
        with torch.no_grad():
            words = text_encoder(ids).last_hidden_state
        inputs = torch.cat((noisy, source / vae.config.scaling_factor), dim=1)
        error = (unet(inputs, t, words).sample.float() - noise) ** 2
        weights = loss_weights(where, alphas[t] / (1 - alphas[t]))
        return (error * weights).mean(), {"error": error.mean()}

    run = {
        "channels": list(unet.config.block_out_channels),
        "encoders": fingerprint(vae.encoder, vae.quant_conv, text_encoder),
    }
    settings = {"work": work, "peak_lr": peak_lr, "run": run, "seed": seed, "ema_decay": 0.998, "device": device}
    if back_translations:
        own = work / "back.safetensors"
        if not own.is_file():
            fit("unet", unet, draw, loss, steps=back_at, **settings)
            networks = (tokenizer, text_encoder, vae.to(device), unet)
            model = Backbone(*networks, build_scheduler(), name="in training", path=work)
            write_state(add_to_normals(model, sampler, back_translations, seed=seed), own)
        sampler = sampler.also(*additions_of(read_state(own)))
    fit("unet", unet, draw, loss, steps=steps, **settings)
    unet.save_pretrained(work / "unet")
    return unet
