"""The model that fine-tuning starts from: any InstructPix2Pix model, or a text-to-image model that becomes one."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from instructx2x.errors import ModelError
from instructx2x.models import Backbone, load


def load_start(model: str, device: torch.device) -> Backbone:
    """Load a start model in float32, its U-Net with 8 input channels.

    A U-Net with 8 channels is kept as it is. diffusers' own training script makes `conv_in` anew from 4 channels and
    therefore cannot go on from such a model (huggingface/diffusers#3455). One with 4 channels is extended.

    Args:
        model: as for `models.load`.

    Raises:
        ModelError: the model is not there, is not safe to read, is of another kind, or does not predict noise.
    """
    loaded = load(model, device=device, text_to_image=True)
    if loaded.unet.config.in_channels == loaded.vae.config.latent_channels:
        extend(loaded.unet)
    predicts = loaded.scheduler.config.get("prediction_type", "epsilon")
    if predicts != "epsilon":
        raise ModelError(f"{model} predicts {predicts} and not noise: start from a model of Stable Diffusion 1's kind")
    return loaded


def extend(unet: UNet2DConditionModel) -> None:
    """Give a text-to-image U-Net input channels for the past image, in place.

    Their weights are zero, as in InstructPix2Pix (arXiv 2211.09800, section 3.2), so that the U-Net predicts what it
    did, whatever image it is shown.
    """
    old, latent = unet.conv_in, unet.config.in_channels
    new = torch.nn.Conv2d(
        2 * latent, old.out_channels, old.kernel_size, old.stride, old.padding, device=old.weight.device
    )
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :latent] = old.weight
        new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=2 * latent)
