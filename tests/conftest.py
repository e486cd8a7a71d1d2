"""What the rooms' tests share: a tiny model, made here from a seed, that runs in milliseconds.

Its weights are random, so its edits mean nothing; every property of the method holds for any weights.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
os.environ["OMP_NUM_THREADS"] = "1"  # here and in every process started: rounding depends on the number of threads

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from instructx2x import cli

torch.set_num_threads(1)  # whatever had loaded torch before


def pytest_collection_modifyitems(config, items):
    """What is marked "ci" waits for CI, or for `-m ci`."""
    if os.environ.get("CI") or "ci" in config.option.markexpr.split():
        return
    for item in items:
        if item.get_closest_marker("ci"):
            item.add_marker(pytest.mark.skip(reason="runs where the variable CI is set"))


CALIBRATION = {
    "version": 1,
    "timesteps": {
        "600": {"null_p99": 0.2, "inside_median": 1.2},
        "800": {"null_p99": 0.2, "inside_median": 1.2},
    },
    "tau": 0.1,
    "text_guidance": 5.0,
    "image_guidance": 1.3,
}


def tiny_pipeline_folder(
    folder,
    *,
    sample_size=8,
    width=8,
    text_width=16,
    seed=0,
    in_channels=8,
    calibration=None,
    tokenizer_json=True,
    model_max_length=77,
):
    """Write a random InstructPix2Pix model in diffusers' layout and return its folder.

    Args:
        folder: an empty or new folder.
        sample_size: side of the latents; the model's square has 8 times as many pixels.
        width: channels of the narrowest layers, a multiple of 4.
        text_width: width of the text encoder and of the U-Net's cross-attention, a multiple of 4.
        in_channels: of the U-Net; 4 makes a model that is not InstructPix2Pix.
        calibration: content of calibration.json, or None for none.
        tokenizer_json: one tokenizer.json, or the older vocab.json with merges.txt.
        model_max_length: tokens of a text.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from tokenizers import pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    # Byte-level alphabet without merges: every character is a token, so no vocabulary has to be trained.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(c + "</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=text_width,
                intermediate_size=2 * text_width,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=model_max_length,
                projection_dim=text_width,
                bos_token_id=len(vocabulary) - 2,
                eos_token_id=len(vocabulary) - 1,
            )
        )
        vae = AutoencoderKL(
            block_out_channels=(width,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=8 * sample_size,
            scaling_factor=0.5,
        )
        unet = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=4,
            block_out_channels=(width, 2 * width),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=text_width,
            attention_head_dim=2,
        )
        # Default weights barely look at the text; a model whose D is about 1 exercises every threshold.
        for name, parameter in unet.named_parameters():
            if "attn2" in name and parameter.ndim == 2:
                parameter.data.mul_(6)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    for part, network in (
        ("text_encoder", text_encoder),
        ("vae", vae),
        ("unet", unet),
        ("scheduler", scheduler),
    ):
        network.save_pretrained(folder / part)
    tokens = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": model_max_length,
    }
    if tokenizer_json:
        CLIPTokenizer(vocab=vocabulary, merges=[], **tokens).save_pretrained(folder / "tokenizer")
    else:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer/vocab.json").write_text(json.dumps(vocabulary))
        (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
        config = {"tokenizer_class": "CLIPTokenizer", **tokens}
        (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(config))
    if calibration is not None:
        (folder / "calibration.json").write_text(json.dumps(calibration))
    (folder / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "StableDiffusionInstructPix2PixPipeline",
                "_diffusers_version": "0.35.0",
                "feature_extractor": [None, None],
                "image_encoder": [None, None],
                "requires_safety_checker": False,
                "safety_checker": [None, None],
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"],
            }
        )
    )
    return folder


@pytest.fixture(scope="session")
def make_tiny_model():
    """The function above, for tests that need a model of their own."""
    return tiny_pipeline_folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a tiny calibrated model: square of 64 px, latents 8 x 8. Do not write into it."""
    return tiny_pipeline_folder(tmp_path_factory.mktemp("models") / "tiny", calibration=CALIBRATION)


@pytest.fixture(scope="session")
def tiny_uncalibrated_model(tmp_path_factory):
    """The same without calibration.json."""
    return tiny_pipeline_folder(tmp_path_factory.mktemp("models") / "tiny-uncalibrated")


def chest(height=96, width=80, maximum=255, dtype=np.uint8, seed=0):
    """A drawing of a frontal chest film: bright body, dark lungs, ribs, film noise. Integers 0..maximum."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) / height, (x + 0.5) / width
    image = np.full((height, width), 0.62)
    for centre in (0.3, 0.7):
        image -= 0.42 / (1 + np.exp((((x - centre) / 0.15) ** 2 + ((y - 0.5) / 0.33) ** 2 - 1) * 6))
    image += 0.04 * np.sin(y * 60 + np.abs(x - 0.5) * 12)
    image += np.random.default_rng(seed).normal(0, 0.01, image.shape)
    return np.round(np.clip(image, 0, 1) * maximum).astype(dtype)


@pytest.fixture(scope="session")
def make_chest():
    """The function above."""
    return chest


@pytest.fixture
def few_steps(monkeypatch):
    """Every profile with 3 sampling steps and one draw: for tests of what becomes of edits, whatever their quality."""
    from instructx2x.editing import PROFILES

    for name, profile in list(PROFILES.items()):
        monkeypatch.setitem(PROFILES, name, replace(profile, steps=3, draws=1))


@pytest.fixture
def run(capfd):
    """run(*args) -> (exit code, stdout, stderr), in this process."""

    def call(*args):
        code = cli.main([str(arg) for arg in args])
        said = capfd.readouterr()
        return code, said.out, said.err

    return call
