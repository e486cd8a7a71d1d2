"""Checkpoints of the original code, made here name by name.

The names and shapes are written down from how CompVis' code builds its networks.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def conv(name, inside, outside, side=3):
    return {f"{name}.weight": (outside, inside, side, side), f"{name}.bias": (outside,)}


def linear(name, inside, outside, bias=True):
    return {f"{name}.weight": (outside, inside)} | ({f"{name}.bias": (outside,)} if bias else {})


def unet_shapes(inputs, width, multiples, attended, context):
    """ldm's UNetModel with two residual blocks a level; `attended` are the levels with attention."""
    time = 4 * width

    def residual(name, inside, outside):
        return {
            **norm(f"{name}.in_layers.0", inside),
            **conv(f"{name}.in_layers.2", inside, outside),
            **linear(f"{name}.emb_layers.1", time, outside),
            **norm(f"{name}.out_layers.0", outside),
            **conv(f"{name}.out_layers.3", outside, outside),
            **(conv(f"{name}.skip_connection", inside, outside, 1) if inside != outside else {}),
        }

    def transformer(name, width):
        shapes = norm(f"{name}.norm", width) | conv(f"{name}.proj_in", width, width, 1)
        for attention, source in (("attn1", width), ("attn2", context)):
            block = f"{name}.transformer_blocks.0.{attention}"
            for projection, inside in (("to_q", width), ("to_k", source), ("to_v", source)):
                shapes |= linear(f"{block}.{projection}", inside, width, bias=False)
            shapes |= linear(f"{block}.to_out.0", width, width)
        block = f"{name}.transformer_blocks.0"
        shapes |= linear(f"{block}.ff.net.0.proj", width, 8 * width) | linear(f"{block}.ff.net.2", 4 * width, width)
        for number in (1, 2, 3):
            shapes |= norm(f"{block}.norm{number}", width)
        return shapes | conv(f"{name}.proj_out", width, width, 1)

    shapes = linear("time_embed.0", width, time) | linear("time_embed.2", time, time)
    shapes |= conv("input_blocks.0.0", inputs, width)
    skips, now, number = [width], width, 1
    for level, multiple in enumerate(multiples):
        for _ in range(2):
            shapes |= residual(f"input_blocks.{number}.0", now, multiple * width)
            now = multiple * width
            if level in attended:
                shapes |= transformer(f"input_blocks.{number}.1", now)
            skips.append(now)
            number += 1
        if level < len(multiples) - 1:
            shapes |= conv(f"input_blocks.{number}.0.op", now, now)
            skips.append(now)
            number += 1
    shapes |= residual("middle_block.0", now, now) | transformer("middle_block.1", now)
    shapes |= residual("middle_block.2", now, now)
    number = 0
    for level in reversed(range(len(multiples))):
        for place in range(3):
            shapes |= residual(f"output_blocks.{number}.0", now + skips.pop(), multiples[level] * width)
            now, child = multiples[level] * width, 1
            if level in attended:
                shapes |= transformer(f"output_blocks.{number}.{child}", now)
                child += 1
            if level and place == 2:
                shapes |= conv(f"output_blocks.{number}.{child}.conv", now, now)
            number += 1
    return shapes | norm("out.0", now) | conv("out.2", now, 4)


def vae_shapes(width, multiples):
    """ldm's AutoencoderKL with two residual blocks a level, and three on the way up."""

    def residual(name, inside, outside):
        return {
            **norm(f"{name}.norm1", inside),
            **conv(f"{name}.conv1", inside, outside),
            **norm(f"{name}.norm2", outside),
            **conv(f"{name}.conv2", outside, outside),
            **(conv(f"{name}.nin_shortcut", inside, outside, 1) if inside != outside else {}),
        }

    def middle(name, width):
        shapes = residual(f"{name}.block_1", width, width) | residual(f"{name}.block_2", width, width)
        shapes |= norm(f"{name}.attn_1.norm", width)
        for projection in ("q", "k", "v", "proj_out"):
            shapes |= conv(f"{name}.attn_1.{projection}", width, width, 1)
        return shapes

    shapes, now, last = conv("encoder.conv_in", 3, width), width, len(multiples) - 1
    for level, multiple in enumerate(multiples):
        for place in range(2):
            shapes |= residual(f"encoder.down.{level}.block.{place}", now, multiple * width)
            now = multiple * width
        if level < last:
            shapes |= conv(f"encoder.down.{level}.downsample.conv", now, now)
    shapes |= middle("encoder.mid", now) | norm("encoder.norm_out", now) | conv("encoder.conv_out", now, 8)
    shapes |= conv("quant_conv", 8, 8, 1) | conv("post_quant_conv", 4, 4, 1)
    shapes |= conv("decoder.conv_in", 4, now) | middle("decoder.mid", now)
    for level in reversed(range(len(multiples))):
        for place in range(3):
            shapes |= residual(f"decoder.up.{level}.block.{place}", now, multiples[level] * width)
            now = multiples[level] * width
        if level:
            shapes |= conv(f"decoder.up.{level}.upsample.conv", now, now)
    return shapes | norm("decoder.norm_out", now) | conv("decoder.conv_out", now, 3)


def text_shapes(vocabulary, width, layers):
    """CLIP's text encoder as transformers 4 names it, with its one buffer."""
    shapes = {
        "embeddings.position_ids": (1, 77),
        "embeddings.token_embedding.weight": (vocabulary, width),
        "embeddings.position_embedding.weight": (77, width),
    }
    for layer in range(layers):
        name = f"encoder.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= linear(f"{name}.self_attn.{projection}", width, width)
        shapes |= linear(f"{name}.mlp.fc1", width, 4 * width) | linear(f"{name}.mlp.fc2", 4 * width, width)
        shapes |= norm(f"{name}.layer_norm1", width) | norm(f"{name}.layer_norm2", width)
    return shapes | norm("final_layer_norm", width)


def checkpoint_shapes(unet, vae, text, ema=True):
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in unet.items()}
    if ema:
        shapes |= {f"model_ema.diffusion_model{name.replace('.', '')}": shape for name, shape in unet.items()}
    shapes |= {f"first_stage_model.{name}": shape for name, shape in vae.items()}
    return shapes | {f"cond_stage_model.transformer.text_model.{name}": shape for name, shape in text.items()}


def compvis_shapes(size, inputs=8, ema=True):
    """Names and shapes of a whole checkpoint: "full" is Stable Diffusion 1.5's, with `inputs` channels, "tiny" runs."""
    if size == "full":
        unet = unet_shapes(inputs, 320, (1, 2, 4, 4), (0, 1, 2), 768)
        return checkpoint_shapes(unet, vae_shapes(128, (1, 2, 4, 4)), text_shapes(49408, 768, 12), ema)
    unet = unet_shapes(inputs, 32, (1, 2, 2), (0, 1), 64)
    return checkpoint_shapes(unet, vae_shapes(32, (1, 1, 2, 2)), text_shapes(514, 64, 2), ema)


def compvis_checkpoint(size="tiny", inputs=8, ema=True, dtype=torch.float32):
    """Random weights that let numbers through at about their size, and the buffers of the training code."""
    seeded = torch.Generator().manual_seed(0)

    def weights(name, shape):
        value = torch.randn(shape, generator=seeded)
        if len(shape) > 1:
            return (value / np.prod(shape[1:]) ** 0.5).to(dtype)
        return (0.1 * value + (1 if "norm" in name and name.endswith("weight") else 0)).to(dtype)

    tensors = {name: weights(name, shape) for name, shape in compvis_shapes(size, inputs, ema).items()}
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    tensors |= {
        "betas": betas.to(dtype),
        "alphas_cumprod": kept.to(dtype),
        "sqrt_alphas_cumprod": kept.sqrt().to(dtype),
    }
    if ema:
        tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(6500)}
    return tensors


@pytest.fixture(scope="session")
def make_compvis_shapes():
    """The function `compvis_shapes`."""
    return compvis_shapes


@pytest.fixture(scope="session")
def make_compvis_checkpoint():
    """The function `compvis_checkpoint`."""
    return compvis_checkpoint
