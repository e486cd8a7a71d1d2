"""A backbone: the networks of an InstructPix2Pix model, loaded from safetensors in diffusers' layout.

The layout is the one of `StableDiffusionInstructPix2PixPipeline`: `model_index.json` and the folders
`tokenizer`, `text_encoder`, `vae`, `unet`, `scheduler`. A model may carry `calibration.json` beside them,
written by our training (see `read_calibration`). Weights are read from safetensors only, because unpickling a
file can run code.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizerFast

from instructx2x.errors import ModelError
from instructx2x.limits import MAX_GUIDANCE, MIN_THRESHOLD
from instructx2x.models.clip_tokenizer import read_tokenizer, tokenizer_files
from instructx2x.models.configs import MAX_SIZE, read_scheduler
from instructx2x.models.files import digest, read_json
from instructx2x.models.locating import BUNDLED, locate
from instructx2x.models.parts import KINDS, fill, read_part
from instructx2x.progress import quiet_libraries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MAX_CALIBRATED = 16  # timesteps: each is a prediction of the U-Net in every edit
_TRIAL = 8  # latent cells along the square that a model is tried out on

# A process that is forked has none of the threads that its parent computes with, and OpenMP waits for them for ever.
# With one thread it needs none.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass
class Backbone:
    """The networks of one model, on one device, in one dtype.

    Latents that come out of or go into these methods are float32; the networks run in `dtype`.

    Attributes:
        name: what the user asked for: "bundled", a folder, or "hub:owner/name".
        path: the folder the weights were read from.
        calibration: the content of `calibration.json`, or None.
        digest: SHA-256 of every file that was read: weights, configurations, scheduler, tokenizer, calibration. The
            same model has it anywhere. It is that of the lines "SHA-256  NAME", sorted by name. Empty for networks
            that come from no file.
    """

    tokenizer: CLIPTokenizerFast
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin
    name: str
    path: Path
    calibration: dict[str, Any] | None = None
    digest: str = ""

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def calibrated(self) -> bool:
        """Whether the model has a scale of its own for the relevance map."""
        return bool(self.calibration and self.calibration["timesteps"])

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell, along each axis."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size(self) -> int:
        """Side of the square the model works on, in pixels."""
        return self.unet.config.sample_size * self.vae_factor

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape of one image's latents: (1, channels, rows, columns)."""
        side = self.unet.config.sample_size
        return 1, self.vae.config.latent_channels, side, side

    @property
    def token_limit(self) -> int:
        """Tokens a text may have, the start and end tokens included."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, with start and end; `embed` cuts off what exceeds `token_limit`."""
        return len(self.tokenizer(text, truncation=False, verbose=False).input_ids)

    def embed(self, text: str) -> torch.Tensor:
        """Text -> (1, token_limit, width) in `dtype`: the text encoder's last hidden state."""
        ids = token_ids(self.tokenizer, [text], self.token_limit)
        return self.text_encoder(ids.to(self.device))[0].to(self.dtype)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, size, size) in [-1, 1] -> (n, c, h, w) float32: the posterior's mode, not scaled.

        The mode and not a sample, so that encoding needs no noise and is the same every time.

        Raises:
            ModelError: it gives numbers that are not finite.
        """
        latents = self.vae.encode(images.to(self.device, self.dtype)).latent_dist.mode().float()
        return _finite(latents, "autoencoder")

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (n, c, h, w) -> (n, 3, size, size) float32 display brightness, clamped to [0, 1].

        Raises:
            ModelError: it gives numbers that are not finite.
        """
        latents = (latents / self.vae.config.scaling_factor).to(self.device, self.dtype)
        return (_finite(self.vae.decode(latents).sample.float(), "autoencoder") / 2 + 0.5).clamp(0, 1)

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, image_latents: torch.Tensor, text: torch.Tensor
    ) -> torch.Tensor:
        """The U-Net's prediction e(image, text) for a batch.

        Args:
            noisy: (n, c, h, w) noisy scaled latents, as the scheduler wants them shown to the model.
            timesteps: scalar or (n,).
            image_latents: (n, c, h, w), not scaled; zeros drop the image condition.
            text: (n, tokens, width) from `embed`; the empty text's drops the text condition.

        Returns:
            (n, c, h, w) float32.
        """
        sample = torch.cat([noisy, image_latents], dim=1).to(self.device, self.dtype)
        return self.unet(sample, timesteps.to(self.device), encoder_hidden_states=text).sample.float()


def token_ids(tokenizer: CLIPTokenizerFast, texts: list[str], length: int) -> torch.Tensor:
    """Token ids with start and end, padded or cut to `length` as diffusers' pipeline does: (n, length) int64."""
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def load(
    model: str | Path = "bundled",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    text_to_image: bool = False,
) -> Backbone:
    """Load a model. Nothing but "hub:owner/name" contacts the network.

    Args:
        model: "bundled" (the small model of this package), a folder in diffusers' layout, or "hub:owner/name", a model
            of Hugging Face's hub.
        device: "cpu", "cuda", ...; by default a CUDA device when there is one.
        dtype: float32 (the default, whatever the files hold), bfloat16 or float16. Any of them runs on any
            device, but on a CPU the half precisions are slower than float32.
        text_to_image: take a U-Net that sees no input image as well, which training extends and nothing can edit with.

    Raises:
        ModelError: the model is not there, is not safe to read, or is not an InstructPix2Pix model.
    """
    name = str(model)
    path = locate(name)
    device, dtype = usable_device(device), _dtype(dtype)
    with quiet_libraries():
        # The small files first: what is wrong with them need not wait for gigabytes.
        scheduler = read_scheduler(path / "scheduler")
        calibration = read_calibration(path / "calibration.json", scheduler.config.num_train_timesteps)
        tokenizer = read_tokenizer(path / "tokenizer")
        parts = {part: read_part(path, part) for part in KINDS}
        unet, vae, text_encoder = (parts[part].network for part in ("unet", "vae", "text_encoder"))
        _check_channels(name, unet.config, vae.config, text_to_image)
        _check_texts(name, tokenizer, unet.config, text_encoder.config)
        files = [path / "scheduler/scheduler_config.json", *tokenizer_files(path / "tokenizer")]
        files += [file for part in parts.values() for file in part.files]
        files += [path / "calibration.json"] if calibration is not None else []
        before = [_stamp(file) for file in files]
        sha256 = digest(path, files)
        for part in parts.values():
            fill(part, device, dtype)
        if before != [_stamp(file) for file in files]:
            raise ModelError(f"{name} changed while it was read: try again when its files are at rest")
    loaded = Backbone(tokenizer, text_encoder, vae, unet, scheduler, name, path, calibration, sha256)
    if path != BUNDLED:  # which its tests run
        _try_out(loaded)
    return loaded


def _check_texts(name: str, tokenizer: CLIPTokenizerFast, unet: Any, text_encoder: Any) -> None:
    """What the tokenizer says must be what the text encoder knows, and what that says must be what the U-Net takes."""
    numbers = [*tokenizer.get_vocab().values(), *token_ids(tokenizer, [""], 3)[0].tolist()]
    tokenizer_size = max(numbers) + 1
    told, taken = text_encoder.hidden_size, unet.cross_attention_dim
    if told != taken or tokenizer_size > text_encoder.vocab_size:
        raise ModelError(
            f"the parts of {name} do not belong together: {tokenizer_size} tokens and width {taken} "
            f"are asked of a text encoder with {text_encoder.vocab_size} and {told}"
        )


def _try_out(model: Backbone) -> None:
    """Run a model on a corner of its square, so that one that cannot run is refused now and not in an edit.

    Raises:
        ModelError: it fails, or gives other shapes than it should, or numbers that are not finite.
    """
    side = min(model.unet.config.sample_size, _TRIAL)
    shape = (1, model.latent_shape[1], side, side)
    image = torch.zeros(1, 3, side * model.vae_factor, side * model.vae_factor)
    try:
        with torch.no_grad():
            latents, text = model.encode(image), model.embed("")
            condition = latents[:, : model.unet.config.in_channels - shape[1]]  # none for text to image
            predicted = _finite(model.predict(latents, torch.tensor(1), condition, text), "U-Net")
            fits = latents.shape == predicted.shape == shape and model.decode(latents).shape == image.shape
    except ModelError as error:
        raise ModelError(f"{model.name} cannot be used: {error}") from error
    except Exception as error:  # torch raises nearly anything where sizes do not fit
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{model.name} does not run: {reason}") from error
    if not fits:
        raise ModelError(f"{model.name} gives latents or images of another size than it takes")


def _finite(tensor: torch.Tensor, network: str) -> torch.Tensor:
    if not torch.isfinite(tensor).all():
        raise ModelError(f"the model's {network} gave numbers that are not finite: load it with dtype float32")
    return tensor


def _stamp(file: Path) -> tuple[int, ...]:
    told = file.stat()
    return told.st_ino, told.st_size, told.st_mtime_ns


def read_calibration(file: Path, train_timesteps: int = 1000) -> dict[str, Any] | None:
    """Read `calibration.json`: None when there is none, ModelError when it cannot be right.

    It holds, per timestep, what D = sum_channels |e(I,T) - e(I,0)| is where nothing is to be done
    (`null_p99`, its 99th percentile) and inside true regions (`inside_median`), and the recommended settings:
    `{"version": 1, "timesteps": {"800": {"null_p99": ..., "inside_median": ...}}, "tau": 0.1,
    "text_guidance": ..., "text_guidance_of": {"add": {"edema": ...}}, "image_guidance": ...,
    "least_balance": {"add": ..., "remove": ...}, "heals": true}`. The settings are optional. `timesteps` may be empty:
    the two kinds overlap, so the model has no scale of its own but still recommends settings. `text_guidance_of` names
    what has another guidance than `text_guidance`, by operation and finding. Where `relevance.balance` is under the
    operation's `least_balance` the instruction is taken to hold already. `heals` is whether the model was trained to
    fill in what is blanked in its condition.

    Two more are measured by benchmarks/reliability.py: `verifier_noise`, by operation and finding, how far the
    verifier's log-odds move as asked under edits of other findings by this model (the 95th percentile, see
    `editing.verification.verify`); and `reliability`, how many edits another judge found right:
    `{"add": {"edema": {"moved": 9, "of": 15}}}`.
    """
    if not os.path.lexists(file):
        return None
    content = read_json(file)
    try:
        if content["version"] != 1:
            raise ValueError(f"version {content['version']!r:.40} is not known here")
        if len(content["timesteps"]) > MAX_CALIBRATED:
            raise ValueError(f"{len(content['timesteps'])} timesteps are too many; {MAX_CALIBRATED} are supported")
        for timestep, scale in content["timesteps"].items():
            if not (timestep.isascii() and timestep.isdecimal()) or int(timestep) >= train_timesteps:
                raise ValueError(f"timestep {timestep!r:.40} is outside 0..{train_timesteps - 1}")
            if not 0 <= _number(scale["null_p99"]) < _number(scale["inside_median"]):
                raise ValueError(f"timestep {timestep} needs 0 <= null_p99 < inside_median")
        if not MIN_THRESHOLD <= _number(content.get("tau", 0.1)) <= 1:
            raise ValueError(f"tau must be from {MIN_THRESHOLD} to 1")
        if not all(0 < _number(least) for least in content.get("least_balance", {}).values()):
            raise ValueError("least_balance must be above 0 for each operation")
        if not isinstance(content.get("heals", False), bool):
            raise ValueError("heals must be true or false")
        noise = [limit for of in content.get("verifier_noise", {}).values() for limit in of.values()]
        if not all(0 <= _number(limit) for limit in noise):
            raise ValueError("verifier_noise must be at least 0 for each finding")
        counts = [count for of in content.get("reliability", {}).values() for count in of.values()]
        if not all(type(n) is int for count in counts for n in (count["moved"], count["of"])):
            raise ValueError("reliability needs whole numbers moved and of for each finding")
        if not all(0 <= count["moved"] <= count["of"] and count["of"] for count in counts):
            raise ValueError("reliability needs 0 <= moved <= of and of above 0 for each finding")
        guidance = [content.get(name, 1.0) for name in ("text_guidance", "image_guidance")]
        guidance += [scale for own in content.get("text_guidance_of", {}).values() for scale in own.values()]
        if not all(abs(_number(scale)) <= MAX_GUIDANCE for scale in guidance):
            raise ValueError(f"text_guidance, text_guidance_of and image_guidance must be at most {MAX_GUIDANCE}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not a calibration of this version: {str(error).splitlines()[0]}") from error
    return content


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is not a finite number")
    return value


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device by its name; without one CUDA, or the CPU where there is none.

    Raises:
        ModelError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ModelError(f"device {device} cannot be used here: try cpu") from error
    return device


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    chosen = DTYPES.get(str(dtype).removeprefix("torch."))
    if chosen is None:
        raise ModelError(f"dtype {dtype} is not one of {', '.join(DTYPES)}")
    return chosen


def _check_channels(model: str, unet: Any, vae: Any, text_to_image: bool) -> None:
    """An InstructPix2Pix U-Net sees the noisy latents and the input image's: twice the VAE's channels."""
    latent = vae.latent_channels
    taken = (latent, 2 * latent) if text_to_image else (2 * latent,)
    if unet.in_channels not in taken or unet.out_channels != latent:
        raise ModelError(
            f"{model} is not an InstructPix2Pix model: its U-Net takes {unet.in_channels} channels, not {2 * latent} "
            "(noisy latents and the input image's)"
        )
    if not isinstance(unet.sample_size, int):
        raise ModelError(f"{model} does not name its U-Net's sample_size as one whole number, so its size is unknown")
    size = unet.sample_size * 2 ** (len(vae.block_out_channels) - 1)
    if size > MAX_SIZE:
        raise ModelError(f"{model} works on squares of {size} pixels, and at most {MAX_SIZE} are supported")
