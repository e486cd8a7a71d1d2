"""Stable Diffusion 1.x as its first authors' code lays it out, and the same networks in diffusers.

InstructPix2Pix and InstructX2X are trained with that code (CompVis' `ldm`). One checkpoint holds all networks:

| prefix | network |
|---|---|
| `model.diffusion_model.` | the U-Net as trained |
| `model_ema.` | its running average, the names' dots removed |
| `first_stage_model.` | the VAE |
| `cond_stage_model.transformer.` | CLIP's text encoder, named as in transformers |

What shapes tell is read off them: channels, layers, which levels attend to the text, widths. What they do not tell
is Stable Diffusion's: 8 attention heads in the U-Net, 64 channels a head in the text encoder, 32 groups in
normalisations, 512 pixels, latents scaled by 0.18215.

Why the names are mapped here although diffusers converts such checkpoints too, offline even
(`UNet2DConditionModel.from_single_file(state_dict, config=folder)`, which the tests compare with): it warns of
tensors that it does not know and goes on, guesses from their number whether there are averaged weights, needs the
configuration that is derived here, and has no public counterpart for the text encoder. Here every tensor is
accounted for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from instructx2x.errors import ModelError
from instructx2x.models.parts import Part, check, published_name, refuse

# What the code keeps beside the weights: the noise schedule, which is checked, and what follows from it.
SCHEDULE = "alphas_cumprod"
SCALE = "scale_factor"
BUFFERS = frozenset(
    {
        SCHEDULE,
        SCALE,
        "betas",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "logvar",
        "model_ema.decay",
        "model_ema.num_updates",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
    }
)
_FIRST = "input_blocks.0.0.weight"


@dataclass(frozen=True)
class Model:
    """What a checkpoint holds. `ema` says whether the U-Net is the running average."""

    unet: Part
    vae: Part
    text_encoder: Part
    scheduler: DDIMScheduler
    ema: bool


class _Weights:
    """A checkpoint's tensors by the names that one network's code gives them."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], key: Callable[[str], str]) -> None:
        self.tensors, self.key = tensors, key

    def __contains__(self, name: str) -> bool:
        return self.key(name) in self.tensors

    def shape(self, name: str) -> torch.Size:
        if name not in self:
            raise ModelError(f"the checkpoint lacks {self.key(name)}, without which it cannot be understood")
        return self.tensors[self.key(name)].shape

    def count(self, pattern: str) -> int:
        """How many of the names `pattern.format(0)`, `pattern.format(1)`, ... there are in a row: one or more."""
        self.shape(pattern.format(0))
        return next(number for number in itertools.count() if pattern.format(number) not in self)


def read_model(tensors: Mapping[str, torch.Tensor], ema: bool | None = None) -> Model:
    """The networks of a CompVis checkpoint, every tensor accounted for.

    Args:
        tensors: the checkpoint's `state_dict`.
        ema: take the U-Net's running average; None takes it where there is one.

    Raises:
        ModelError: tensors are missing, unknown, or of shapes that Stable Diffusion 1.x does not have.
    """
    trained, averaged = _Weights(tensors, _trained_key), _Weights(tensors, _averaged_key)
    if _FIRST not in trained and _FIRST not in averaged:
        raise ModelError(f"this is no checkpoint of Stable Diffusion's first layout: it lacks {_trained_key(_FIRST)}")
    if ema and _FIRST not in averaged:
        raise ModelError("the checkpoint holds no averaged weights (model_ema): leave --ema out")
    if ema is False and _FIRST not in trained:
        raise ModelError("the checkpoint holds averaged weights (model_ema) only: leave --no-ema out")
    ema = _FIRST in averaged if ema is None else ema
    sources = {
        "unet": averaged if ema else trained,
        "vae": _Weights(tensors, "first_stage_model.{}".format),
        "text_encoder": _Weights(tensors, "cond_stage_model.transformer.text_model.{}".format),
    }
    try:
        with torch.device("meta"):
            found = {
                "unet": _unet(sources["unet"]),
                "vae": _vae(sources["vae"], _scale(tensors)),
                "text_encoder": _text_encoder(sources["text_encoder"]),
            }
    except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ModelError(f"the checkpoint's shapes are not those of a Stable Diffusion 1.x: {reason}") from error

    known = {*BUFFERS, *map(_trained_key, found["unet"][1].values()), *map(_averaged_key, found["unet"][1].values())}
    for part in ("vae", "text_encoder"):
        known |= {sources[part].key(name) for name in found[part][1].values()}
    refuse([key for key in tensors if key not in known], "tensors that Stable Diffusion 1.x does not have")
    parts = {part: Part(network, _take(network, names, sources[part])) for part, (network, names) in found.items()}
    return Model(**parts, scheduler=_scheduler(tensors), ema=ema)


def _unet(weights: _Weights) -> tuple[UNet2DConditionModel, dict[str, str]]:
    """The U-Net on the meta device, and for each of its tensors the name in CompVis' code.

    Input blocks are numbered through: the first convolution, then for each level its residual blocks and, but for
    the last level, a downsampling.
    """
    channels, attends, layers = [], [], []
    number = 1
    while f"input_blocks.{number}.0.in_layers.0.weight" in weights:
        first = number
        channels.append(weights.shape(f"input_blocks.{number}.0.out_layers.3.weight")[0])
        attends.append(f"input_blocks.{number}.1.norm.weight" in weights)
        while f"input_blocks.{number}.0.in_layers.0.weight" in weights:
            number += 1
        layers.append(number - first)
        number += f"input_blocks.{number}.0.op.weight" in weights
    if len(set(layers)) != 1:
        raise ModelError(f"the checkpoint's U-Net has {layers} layers on its levels, not one number on all")
    network = UNet2DConditionModel(
        sample_size=64,
        in_channels=weights.shape(_FIRST)[1],
        out_channels=weights.shape("out.2.weight")[0],
        block_out_channels=tuple(channels),
        down_block_types=tuple("CrossAttnDownBlock2D" if level else "DownBlock2D" for level in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if level else "UpBlock2D" for level in reversed(attends)),
        layers_per_block=layers[0],
        cross_attention_dim=weights.shape("middle_block.1.transformer_blocks.0.attn2.to_k.weight")[1],
        attention_head_dim=8,  # which in diffusers is the number of heads here
    )
    blocks = layers[0] + 1  # a level's residual blocks on the way up, or on the way down with the downsampling

    def original(name: str) -> str:
        where = re.fullmatch(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?([a-z]+)\.(\d+)\.(.+)", name)
        if not where:
            module, _, kind = name.rpartition(".")
            return f"{_UNET_ENDS[module]}.{kind}"
        way, level, kind, place, rest = where[1], int(where[2] or 0), where[3], int(where[4]), where[5]
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * blocks}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            return f"output_blocks.{level * blocks + layers[0]}.{2 if attends[-1 - level] else 1}.{rest}"
        if kind == "resnets":
            rest = _replace_module(rest, _UNET_RESNET)
        if way == "mid":
            return f"middle_block.{1 if kind == 'attentions' else 2 * place}.{rest}"
        side = (
            f"input_blocks.{1 + level * blocks + place}" if way == "down" else f"output_blocks.{level * blocks + place}"
        )
        return f"{side}.{1 if kind == 'attentions' else 0}.{rest}"

    return network, {name: original(name) for name in network.state_dict()}


_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _vae(weights: _Weights, scale: float) -> tuple[AutoencoderKL, dict[str, str]]:
    """The VAE on the meta device, and for each of its tensors the name in CompVis' code.

    Its decoder's levels are numbered from the finest, diffusers' from the coarsest.
    """
    levels = weights.count("encoder.down.{}.block.0.conv1.weight")
    network = AutoencoderKL(
        in_channels=weights.shape("encoder.conv_in.weight")[1],
        out_channels=weights.shape("decoder.conv_out.weight")[0],
        latent_channels=weights.shape("decoder.conv_in.weight")[1],
        block_out_channels=tuple(weights.shape(f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(levels)),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=weights.count("encoder.down.0.block.{}.conv1.weight"),
        sample_size=512,
        scaling_factor=scale,
    )

    def original(name: str) -> str:
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            side, _, rest = name.partition("mid_block.attentions.0.")
            return f"{side}mid.attn_1.{_replace_module(rest, _VAE_ATTENTION)}"
        return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")

    return network, {name: original(name) for name in network.state_dict()}


_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _text_encoder(weights: _Weights) -> tuple[CLIPTextModel, dict[str, str]]:
    """The text encoder on the meta device, and for each of its tensors the name in CompVis' code."""
    vocabulary, width = weights.shape("embeddings.token_embedding.weight")
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=weights.shape("encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=weights.count("encoder.layers.{}.mlp.fc1.weight"),
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=weights.shape("embeddings.position_embedding.weight")[0],
        projection_dim=width,
        # CLIP's vocabulary ends with the two tokens that start and end a text; the last also pads.
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        architectures=["CLIPTextModel"],
    )
    network = CLIPTextModel(config)
    return network, {name: name.removeprefix("text_model.") for name in network.state_dict()}


def _scheduler(tensors: Mapping[str, torch.Tensor]) -> DDIMScheduler:
    """The schedule that Stable Diffusion was trained with, once the checkpoint's own agrees with it."""
    told = tensors.get(SCHEDULE)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    ours = scheduler.alphas_cumprod
    # Half precision keeps two digits and more.
    if told is not None and (told.shape != ours.shape or not torch.allclose(told.float(), ours, rtol=0.01)):
        raise ModelError(
            "the checkpoint was trained with another noise schedule than Stable Diffusion's (1000 steps, scaled-linear "
            "betas 0.00085 to 0.012), so it would not run correctly"
        )
    return scheduler


def _scale(tensors: Mapping[str, torch.Tensor]) -> float:
    scale = tensors.get(SCALE)
    if scale is None:
        return 0.18215
    if scale.numel() != 1 or not 0 < scale.item() < float("inf"):
        raise ModelError(f"the checkpoint's {SCALE} is not one positive number")
    return scale.item()


def _take(network: torch.nn.Module, names: Mapping[str, str], weights: _Weights) -> dict[str, torch.Tensor]:
    """A network's tensors by their published names, checked against the network."""
    refuse([weights.key(name) for name in names.values() if name not in weights], "tensors too few")
    tensors = {}
    for name, wanted in network.state_dict().items():
        value = weights.tensors[weights.key(names[name])]
        if value.ndim == 4 and wanted.ndim == 2 and value.shape == (*wanted.shape, 1, 1):
            value = value[:, :, 0, 0]  # the VAE's attention is written with 1 x 1 convolutions
        tensors[published_name(network, name)] = value
    check(network, tensors)
    return tensors


def _trained_key(name: str) -> str:
    return f"model.diffusion_model.{name}"


def _averaged_key(name: str) -> str:
    return "model_ema." + f"diffusion_model.{name}".replace(".", "")


def _replace_module(name: str, table: Mapping[str, str]) -> str:
    """`name` with its module, all but the last word, replaced by the table's."""
    module, _, kind = name.rpartition(".")
    return f"{table[module]}.{kind}"
