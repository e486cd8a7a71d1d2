"""A backbone: the networks of an InstructPix2Pix model, loaded from safetensors in diffusers' layout.

The layout is the one of `StableDiffusionInstructPix2PixPipeline`: `model_index.json` and the folders
`tokenizer`, `text_encoder`, `vae`, `unet`, `scheduler`. A model may carry `calibration.json` beside them,
written by our training (see `read_calibration`). Weights are read from safetensors only, because unpickling a
file can run code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizerFast

from instructx2x.errors import ModelError

BUNDLED = Path(__file__).parent / "bundled"

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# The stem of each network's weight file in diffusers' layout.
_WEIGHTS = {"text_encoder": "model", "vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model"}

# What a hub snapshot needs; single-file checkpoints at its root, EMA and half-precision twins stay where they
# are.
_HUB_ALLOW = [
    "model_index.json",
    "calibration.json",
    *(
        f"{part}/*.{end}"
        for part in ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
        for end in ("json", "txt", "safetensors")
    ),
]
_HUB_IGNORE = [
    "*.fp16.safetensors",
    "*.non_ema.safetensors",
    "*.fp16-*.safetensors",
    "*.non_ema-*.safetensors",
]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass
class Backbone:
    """The networks of one model, on one device, in one dtype.

    Latents that come out of or go into these methods are float32; the networks run in `dtype`.

    Attributes:
        name: what the user asked for: "bundled", a folder, or a hub id.
        path: the folder the weights were read from.
        calibration: the content of `calibration.json`, or None.
    """

    tokenizer: CLIPTokenizerFast
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin
    name: str
    path: Path
    calibration: dict[str, Any] | None = field(default=None)

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

    @cached_property
    def digest(self) -> str:
        """sha256 over the names and bytes of the weight files and of calibration.json; the same model has it anywhere.

        With the calibration, because what it recommends decides the edits as the weights do.
        """
        digest = hashlib.sha256()
        files = [file for part in sorted(_WEIGHTS) for file in _weight_files(self.path, part)]
        for file in [*files, *self.path.glob("calibration.json")]:
            digest.update(f"{file.relative_to(self.path).as_posix()}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

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
        """
        return self.vae.encode(images.to(self.device, self.dtype)).latent_dist.mode().float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (n, c, h, w) -> (n, 3, size, size) float32 display brightness, clamped to [0, 1]."""
        latents = (latents / self.vae.config.scaling_factor).to(self.device, self.dtype)
        return (self.vae.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1)

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
    """Load a model.

    Args:
        model: "bundled" (the small model of this package), a folder in diffusers' layout, or a hub id
            "owner/name". A folder wins over a hub id of the same name.
        device: "cpu", "cuda", ...; by default a CUDA device when there is one.
        dtype: float32 (the default, whatever the files hold), bfloat16 or float16. Any of them runs on any
            device, but on a CPU the half precisions are slower than float32.
        text_to_image: take a U-Net that sees no input image as well, which training extends and nothing can edit with.

    Raises:
        ModelError: the model is not there, is not safe to read, or is not an InstructPix2Pix model.
    """
    path = _locate(str(model))
    device, dtype = usable_device(device), _dtype(dtype)
    for part in ("tokenizer", "text_encoder", "vae", "unet", "scheduler"):
        if not (path / part).is_dir():
            raise ModelError(f"{model} is not a model in diffusers' layout: it has no folder {part!r}")
    unet_config, vae_config = _config(path / "unet"), _config(path / "vae")
    _check_channels(str(model), unet_config, vae_config, text_to_image)
    for part in _WEIGHTS:
        _check_weights(path, part)

    try:
        with quiet():
            # The small files first: what is wrong with them need not wait for gigabytes.
            scheduler = _scheduler(path / "scheduler")
            calibration = read_calibration(path / "calibration.json", scheduler.config.num_train_timesteps)
            tokenizer = CLIPTokenizerFast.from_pretrained(path / "tokenizer", local_files_only=True)
            tokenizer("", padding="max_length", max_length=3, truncation=True)
            text_encoder, vae, unet = (
                _network(kind, path / part).to(device=device, dtype=dtype).eval().requires_grad_(False)
                for kind, part in (
                    (CLIPTextModel, "text_encoder"),
                    (AutoencoderKL, "vae"),
                    (UNet2DConditionModel, "unet"),
                )
            )
    except ModelError:
        raise
    except Exception as error:  # the libraries raise nearly anything for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{model} cannot be loaded: {reason}") from error
    told, taken = text_encoder.config.hidden_size, unet.config.cross_attention_dim
    if told != taken or len(tokenizer) > text_encoder.config.vocab_size:
        raise ModelError(
            f"the parts of {model} do not belong together: {len(tokenizer)} tokens and width {taken} "
            f"are asked of a text encoder with {text_encoder.config.vocab_size} and {told}"
        )
    return Backbone(tokenizer, text_encoder, vae, unet, scheduler, name=str(model), path=path, calibration=calibration)


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
    """
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != 1:
            raise ValueError(f"version {content['version']} is not known here")
        for timestep, scale in content["timesteps"].items():
            if not 0 <= int(timestep) < train_timesteps:
                raise ValueError(f"timestep {timestep} is outside 0..{train_timesteps - 1}")
            if not 0 <= scale["null_p99"] < scale["inside_median"] < math.inf:
                raise ValueError(f"timestep {timestep} needs 0 <= null_p99 < inside_median")
        if not 0 < content.get("tau", 0.1) <= 1:
            raise ValueError("tau must be above 0 and at most 1")
        if not all(0 < least < math.inf for least in content.get("least_balance", {}).values()):
            raise ValueError("least_balance must be above 0 for each operation")
        if not isinstance(content.get("heals", False), bool):
            raise ValueError("heals must be true or false")
        guidance = [content.get(name, 1.0) for name in ("text_guidance", "image_guidance")]
        guidance += [scale for own in content.get("text_guidance_of", {}).values() for scale in own.values()]
        if not all(math.isfinite(scale) for scale in guidance):
            raise ValueError("text_guidance, text_guidance_of and image_guidance must be finite numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not a calibration of this version: {str(error).splitlines()[0]}") from error
    return content


def _locate(model: str) -> Path:
    """The folder of a model; downloads a hub id that is not in the local cache."""
    if model == "bundled":
        if not (BUNDLED / "model_index.json").is_file():
            raise ModelError("this installation carries no bundled model: name a folder or a hub id instead")
        return BUNDLED
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(f"{model} is a file: turn a checkpoint into a model folder with x2x convert {model} FOLDER")
    if not _HUB_ID.fullmatch(model):
        raise ModelError(f"there is no folder {model}, and it is not a hub id of the form owner/name")
    return _download(model)


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=_HUB_ALLOW, ignore_patterns=_HUB_IGNORE))
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{model} is neither a folder here nor a public model on the hub: check the spelling, or log in "
            "if it is private"
        ) from error
    # No network, a proxy, a full disk, ...: what the hub's client raises shares no base class.
    except Exception as error:
        raise ModelError(
            f"{model} is not a folder here, and the hub did not give it ({type(error).__name__}): check "
            "the spelling of the path, or the network"
        ) from error


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


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} is missing or is not JSON") from error
    return config


def _check_channels(model: str, unet: dict[str, Any], vae: dict[str, Any], text_to_image: bool) -> None:
    """An InstructPix2Pix U-Net sees the noisy latents and the input image's: twice the VAE's channels."""
    latent = vae.get("latent_channels", 4)
    seen = unet.get("in_channels", 4)
    if not isinstance(latent, int):
        raise ModelError(f"{model} does not name its VAE's latent_channels as a whole number")
    taken = (latent, 2 * latent) if text_to_image else (2 * latent,)
    if seen not in taken or unet.get("out_channels", 4) != latent:
        raise ModelError(
            f"{model} is not an InstructPix2Pix model: its U-Net takes {seen} channels, not {2 * latent} "
            "(noisy latents and the input image's)"
        )
    if not isinstance(unet.get("sample_size"), int) or not 1 <= unet["sample_size"] <= 1024:
        raise ModelError(f"{model} does not name its U-Net's sample_size as one whole number, so its size is unknown")


def _weight_files(path: Path, part: str) -> list[Path]:
    """The safetensors that make up one network: a single file, or its shards."""
    single = path / part / f"{_WEIGHTS[part]}.safetensors"
    return [single] if single.is_file() else sorted((path / part).glob(f"{_WEIGHTS[part]}-*-of-*.safetensors"))


def _check_weights(path: Path, part: str) -> None:
    if _weight_files(path, part):
        return
    wanted = f"{part}/{_WEIGHTS[part]}.safetensors"
    if any(any((path / part).glob(f"*.{end}")) for end in ("bin", "ckpt", "pt", "pth")):
        raise ModelError(
            f"{path} holds {part} as a pickle, which can run code when read: save it again with "
            "diffusers' save_pretrained, which writes safetensors"
        )
    raise ModelError(f"{path} has no {wanted}")


def _network(kind: type, folder: Path) -> torch.nn.Module:
    network, info = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True, output_loading_info=True)
    # Both libraries fill what a file lacks with random numbers and go on; a picture made with those means
    # nothing.
    missing = [*info["missing_keys"], *info["mismatched_keys"]]
    if missing:
        raise ModelError(f"{folder} is incomplete: {len(missing)} tensors are missing or of another shape")
    return network


def _scheduler(folder: Path) -> SchedulerMixin:
    name = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8")).get("_class_name")
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise ModelError(f"{folder} names a scheduler that diffusers does not have: {name}")
    return kind.from_pretrained(folder, local_files_only=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and advice off the user's screen; what matters is raised."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    levels = [logger.level for logger in loggers]
    bars.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()
