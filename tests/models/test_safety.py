"""Models of anybody's: which files are read, what their configurations may say, and when the network is asked."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from instructx2x.errors import ModelError
from instructx2x.models import configs, load, locating
from instructx2x.models.clip_tokenizer import read_tokenizer

UNET, TEXT = "unet/diffusion_pytorch_model", "text_encoder/model"
CLIP_END = "<|endoftext|>"


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A copy of the tiny model to damage."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def connect(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def refused(model, **options):
    """The one line with which a model is refused, soon."""
    began = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load(model, device="cpu", **options)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 600 and time.monotonic() - began < 30
    return message


def change(file, **values):
    told = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in {**told, **values}.items() if value is not ...}))


def shard(stem, ending="safetensors", named=None, keep=False):
    """Split a weight file in two with an index; `named` is written into the index in place of the first shard."""
    single = stem.with_name(f"{stem.name}.safetensors")
    tensors = load_file(single)
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"{stem.name}-{number:05d}-of-00002.{ending}"
        save_file({name: tensors[name] for name in part}, stem.with_name(file), {"format": "pt"})
        index |= dict.fromkeys(part, named if named and number == 1 else file)
    told = {"metadata": {}, "weight_map": index}
    stem.with_name(f"{stem.name}.safetensors.index.json").write_text(json.dumps(told))
    if not keep:
        single.unlink()


# Which files are weights


@pytest.mark.parametrize("stem", [UNET, TEXT])
def test_shards_alone_are_the_same_model(copy, tiny_model, stem, capfd):
    shard(copy / stem)
    found, whole = load(copy, device="cpu"), load(tiny_model, device="cpu")
    for part in ("unet", "text_encoder"):
        pairs = zip(getattr(found, part).parameters(), getattr(whole, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert found.digest != whole.digest  # other files, as sha256sum would say
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stem", [UNET, TEXT])
def test_one_file_beside_shards_or_an_index_is_ambiguous(copy, stem):
    shard(copy / stem, keep=True)
    assert "ambiguous" in refused(copy)
    for file in (copy / stem).parent.glob("*-of-*"):
        file.unlink()
    assert "ambiguous" in refused(copy)


@pytest.mark.parametrize(
    "named", ["../vae/diffusion_pytorch_model.safetensors", "pytorch_model.bin", "/etc/hostname", "", "a\nb", "../.."]
)
def test_an_index_names_nothing_but_its_shards(copy, named):
    shard(copy / UNET, named=named or "other-00001-of-00002.safetensors")
    assert "index.json names" in refused(copy)


def test_sets_that_are_not_whole_are_refused(copy):
    shard(copy / UNET)
    first = copy / f"{UNET}-00001-of-00002.safetensors"
    shutil.copy(first, copy / f"{UNET}-00001-of-00003.safetensors")
    assert "more than one set" in refused(copy)
    (copy / f"{UNET}-00001-of-00003.safetensors").unlink()
    shutil.copy(first, copy / f"{UNET}-00002-of-00002.safetensors")
    assert "hold" in refused(copy)  # the same tensors twice
    (copy / f"{UNET}-00002-of-00002.safetensors").unlink()
    assert "incomplete" in refused(copy)
    first.unlink()
    assert "names" in refused(copy)  # an index alone


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
@pytest.mark.parametrize("stem", [UNET, TEXT])
def test_variants_stay_aside_and_are_named_where_they_are_alone(copy, tiny_model, stem, variant):
    plain, other = copy / f"{stem}.safetensors", copy / f"{stem}.{variant}.safetensors"
    other.write_bytes(b"never read")
    assert load(copy, device="cpu").digest == load(tiny_model, device="cpu").digest
    plain.unlink()
    assert f"variant {variant}" in refused(copy)


def test_what_the_libraries_would_follow_is_left_aside(copy, tiny_model):
    """An adapter beside a text encoder is loaded by transformers without being asked for."""
    (copy / "text_encoder/adapter_config.json").write_text('{"peft_type": "LORA"}')
    (copy / "text_encoder/pytorch_model.bin").write_bytes(b"never read")
    assert load(copy, device="cpu").digest == load(tiny_model, device="cpu").digest


@pytest.mark.parametrize(
    "file",
    [
        *(f"{UNET}.safetensors", f"{TEXT}.safetensors", "vae/diffusion_pytorch_model.safetensors"),
        *("unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"),
        *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "calibration.json"),
    ],
)
def test_the_digest_follows_every_file_that_decides(copy, tiny_model, file):
    with (copy / file).open("r+b") as stream:
        content = stream.read()
        # A space changes no meaning, and a bit of the last weight hardly any.
        changed = content + b" " if file.endswith("json") else content[:-1] + bytes([content[-1] ^ 1])
        stream.seek(0)
        stream.write(changed)
    assert load(copy, device="cpu").digest != load(tiny_model, device="cpu").digest


def test_weights_stay_when_their_file_is_gone(copy):
    loaded = load(copy, device="cpu")
    before = [parameter.clone() for parameter in loaded.unet.parameters()]
    (copy / f"{UNET}.safetensors").write_bytes(b"")
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.unet.parameters(), strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("stem", "name"), [(UNET, "conv_in.bias"), (TEXT, "final_layer_norm.bias")])
def test_weights_that_are_no_numbers_are_refused(copy, stem, name, value):
    file = copy / f"{stem}.safetensors"
    tensors = load_file(file)
    next(tensor for key, tensor in tensors.items() if key.endswith(name))[0] = value
    save_file(tensors, file, {"format": "pt"})
    assert "finite" in refused(copy)


def test_weights_that_overflow_are_refused(copy):
    file = copy / "vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["decoder.conv_in.weight"] = tensors["decoder.conv_in.weight"] * 0 + 3e38
    tensors["decoder.conv_in.bias"] = tensors["decoder.conv_in.bias"] * 0 + 3e38
    save_file(tensors, file, {"format": "pt"})
    assert "finite" in refused(copy)


# What configurations may say

CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "tokenizer": "tokenizer/tokenizer_config.json",
}


@pytest.mark.parametrize("part", CONFIGS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_attn_implementation", "kernels-community/flash-attn"),
        ("attn_implementation", "eager"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("auto_map", {"AutoModel": "owner/name--code.Model"}),
        ("trust_remote_code", True),
        ("custom_pipeline", "owner/name"),
        ("a_key_of_tomorrow", None),
    ],
)
def test_keys_that_are_not_known_are_refused(copy, part, key, value):
    change(copy / CONFIGS[part], **{key: value})
    assert key in refused(copy)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("text_encoder", {"num_hidden_layers": 100_000}),
        ("text_encoder", {"hidden_size": 10**12}),
        ("text_encoder", {"vocab_size": 2}),
        ("text_encoder", {"hidden_act": "no such thing"}),
        ("text_encoder", {"max_position_embeddings": 1}),
        ("unet", {"layers_per_block": 10**9}),
        ("unet", {"layers_per_block": -1}),
        ("unet", {"block_out_channels": [8] * 100_000}),
        ("unet", {"block_out_channels": []}),
        ("unet", {"transformer_layers_per_block": 10**6}),
        ("unet", {"attention_head_dim": 0}),
        ("unet", {"norm_num_groups": 0}),
        ("unet", {"norm_num_groups": 3}),
        ("unet", {"sample_size": 1024}),
        ("unet", {"sample_size": True}),
        ("unet", {"down_block_types": ["NoBlock", "DownBlock2D"]}),
        ("unet", {"act_fn": "no such thing"}),
        ("unet", {"downsample_padding": 5}),
        ("unet", {"class_embed_type": "timestep"}),
        ("unet", {"addition_embed_type": "text_time"}),
        ("unet", {"encoder_hid_dim": 8}),
        ("unet", {"time_cond_proj_dim": 8}),
        ("unet", {"_class_name": "UNet2DModel"}),
        ("vae", {"scaling_factor": 0}),
        ("vae", {"scaling_factor": -1}),
        ("vae", {"scaling_factor": "0.18215"}),
        ("vae", {"shift_factor": 0.1}),
        ("vae", {"latents_mean": [0, 0, 0, 0]}),
        ("vae", {"in_channels": 1}),
        ("vae", {"layers_per_block": 10**9}),
        ("vae", {"_class_name": "AutoencoderTiny"}),
        ("scheduler", {"prediction_type": "flow_prediction"}),
        ("scheduler", {"num_train_timesteps": 10**9}),
        ("scheduler", {"num_train_timesteps": 0}),
        ("scheduler", {"beta_end": 5.0}),
        ("scheduler", {"beta_schedule": "no such thing"}),
        ("scheduler", {"trained_betas": [0.1, 0.2]}),
        ("scheduler", {"trained_betas": [1.0] * 1000}),
        ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}),
        ("scheduler", {"_class_name": ["DDIMScheduler"]}),
        ("tokenizer", {"tokenizer_class": "T5Tokenizer"}),
        ("tokenizer", {"model_max_length": "many"}),
        ("tokenizer", {"model_max_length": 0}),
        ("tokenizer", {"pad_token": 5}),
        ("tokenizer", {"padding_side": "left"}),
    ],
)
def test_values_out_of_bounds_are_refused_before_anything_is_built(copy, part, values):
    change(copy / CONFIGS[part], **values)
    refused(copy)


@pytest.mark.parametrize("part", CONFIGS)
@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a":' * 100_000,
        '{"a": ' + "[" * 500 + "]" * 500 + "}",
        "9" * 100_000,
        '{"a": "' + "x" * (2 << 20) + '"}',
        "\udcff",
    ],
    ids=["empty", "list", "NaN", "infinite", "cut and deep", "deep", "long number", "large", "no text"],
)
def test_what_is_no_configuration_is_refused(copy, part, content):
    (copy / CONFIGS[part]).write_text(content, errors="surrogateescape")
    refused(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(
    "file", [*CONFIGS.values(), "tokenizer/tokenizer.json", "calibration.json", f"{UNET}.safetensors"]
)
def test_a_pipe_in_place_of_a_file_is_refused(copy, file):
    (copy / file).unlink()
    os.mkfifo(copy / file)
    refused(copy)


@pytest.mark.parametrize(
    "values",
    [
        {"timesteps": {str(t): {"null_p99": 0.1, "inside_median": 1.0} for t in range(1000)}},
        {"tau": 1e-46},
        {"tau": True},
        {"text_guidance": 1e20},
        {"image_guidance": -1e20},
        {"timesteps": {"8_0": {"null_p99": 0.1, "inside_median": 1.0}}},
        {"timesteps": {"800": {"null_p99": "0", "inside_median": 1.0}}},
    ],
)
def test_calibrations_have_limits(copy, values):
    change(copy / "calibration.json", **values)
    assert "calibration" in refused(copy)


# Tokenizers


def test_a_tokenizer_without_a_vocabulary_is_refused(copy):
    for content in ({}, {"model": {"type": "BPE", "vocab": {}, "merges": []}}, {"model": {"type": "WordLevel"}}):
        (copy / "tokenizer/tokenizer.json").write_text(json.dumps(content))
        assert "vocab" in refused(copy) or "tokenizer" in refused(copy)
    few = {"<|startoftext|>": 0, CLIP_END: 1, "a": 2}
    told = {"model": {"type": "BPE", "vocab": few, "merges": []}}
    (copy / "tokenizer/tokenizer.json").write_text(json.dumps(told))
    assert "no vocabulary" in refused(copy)
    (copy / "tokenizer/tokenizer.json").unlink()
    assert "no vocabulary" in refused(copy)


@pytest.mark.parametrize("where", ["vocabulary", "special token"])
def test_tokens_that_the_text_encoder_does_not_know_are_refused(copy, where):
    if where == "vocabulary":
        told = json.loads((copy / "tokenizer/tokenizer.json").read_text())
        told["model"]["vocab"]["far"] = 10_000
        (copy / "tokenizer/tokenizer.json").write_text(json.dumps(told))
    else:
        change(copy / "tokenizer/tokenizer_config.json", pad_token="<a token of its own>")
    assert "do not belong together" in refused(copy)


def test_two_vocabularies_must_agree(make_tiny_model, tmp_path, tiny_model):
    folder = make_tiny_model(tmp_path / "model", tokenizer_json=False)
    shutil.copy(tiny_model / "tokenizer/tokenizer.json", folder / "tokenizer")
    load(folder, device="cpu")
    vocabulary = json.loads((folder / "tokenizer/vocab.json").read_text())
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer/vocab.json").write_text(json.dumps(vocabulary))
    assert "ambiguous" in refused(folder)


# Models as they are published

NOTES = {"_diffusers_version": "0.6.0", "_name_or_path": "runwayml/stable-diffusion-v1-5"}
SD15 = {
    "unet": {
        **NOTES,
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 8,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        # of a training with a moving average
        **{"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 15000, "power": 0.6667},
        **{"update_after_step": 0, "use_ema_warmup": False},
    },
    "vae": {
        **NOTES,
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 512,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "text_encoder": {
        "_name_or_path": "openai/clip-vit-large-patch14",
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "projection_dim": 768,
        "torch_dtype": "float32",
        "transformers_version": "4.22.0.dev0",
        "vocab_size": 49408,
    },
}
KINDS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
EULER = {
    **PNDM,
    "_class_name": "EulerAncestralDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",
    "use_karras_sigmas": False,
}


@pytest.mark.parametrize("part", KINDS)
def test_published_configurations_are_read(tmp_path, part):
    (tmp_path / "config.json").write_text(json.dumps(SD15[part]))
    config = configs.network_config(KINDS[part], tmp_path)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in configs.build(KINDS[part], config).parameters())
    assert round(size / 1e6) == {"unet": 860, "vae": 84, "text_encoder": 123}[part]


@pytest.mark.parametrize("part", KINDS)
def test_configurations_that_the_installed_libraries_write_are_read(tmp_path, part):
    """Every key that they know, which is what newer versions publish."""
    (tmp_path / "config.json").write_text(json.dumps(SD15[part]))
    with torch.device("meta"):
        network = configs.build(KINDS[part], configs.network_config(KINDS[part], tmp_path))
    if part == "text_encoder":
        (tmp_path / "config.json").write_text(json.dumps(network.config.to_dict()))
    else:
        network.save_config(tmp_path)
    configs.network_config(KINDS[part], tmp_path)


@pytest.mark.parametrize("told", [PNDM, EULER, {**PNDM, "_class_name": "DDIMScheduler", "clip_sample_range": 1.0}])
def test_published_schedulers_are_read(tmp_path, told):
    (tmp_path / "scheduler_config.json").write_text(json.dumps(told))
    scheduler = configs.read_scheduler(tmp_path)
    assert type(scheduler).__name__ == told["_class_name"] and scheduler.config.beta_end == 0.012
    scheduler.save_config(tmp_path)  # with every key that the installed version knows
    configs.read_scheduler(tmp_path)


def test_a_published_tokenizer_is_read(make_tiny_model, tmp_path, tiny_model):
    folder = make_tiny_model(tmp_path / "model", tokenizer_json=False) / "tokenizer"
    token = {"__type": "AddedToken", "content": CLIP_END, "lstrip": False, "normalized": True, "rstrip": False}
    told = {
        "add_prefix_space": False,
        "bos_token": {**token, "content": "<|startoftext|>"},
        "do_lower_case": True,
        "eos_token": token,
        "errors": "replace",
        "model_max_length": 77,
        "name_or_path": "openai/clip-vit-large-patch14",
        "pad_token": CLIP_END,
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": token,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    names = {"bos_token": told["bos_token"], "eos_token": token, "pad_token": CLIP_END, "unk_token": token}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    found, other = read_tokenizer(folder), read_tokenizer(tiny_model / "tokenizer")
    text = "Add the finding of left pleural effusion."
    assert found(text).input_ids == other(text).input_ids and found.model_max_length == 77


def test_old_names_in_the_vae_are_read(copy, tiny_model):
    file = copy / "vae/diffusion_pytorch_model.safetensors"
    former = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(file)
    for new, old in former.items():
        tensors = {name.replace(new, old): value for name, value in tensors.items()}
    assert any(".query." in name for name in tensors)
    save_file(tensors, file, {"format": "pt"})
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(load(copy).encode(image), load(tiny_model).encode(image))


# Where models are


@pytest.mark.parametrize(
    "model", ["no/such", "runwayml/stable-diffusion-v1-5", "owner/name", "a/b/c", "x" * 5000, "a\0b"]
)
def test_a_path_that_is_not_there_never_asks_the_hub(monkeypatch, model):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    message = refused(model)
    assert ("hub:" in message) == (model.count("/") == 1)


def test_the_hub_is_asked_by_its_prefix_alone(monkeypatch, copy):
    import huggingface_hub

    asked = []

    def download(name, **patterns):
        asked.append((name, sorted(patterns)))
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load("hub:owner/name", device="cpu").name == "hub:owner/name"
    assert asked == [("owner/name", ["allow_patterns", "ignore_patterns"])]
    for wrong in ("hub:", "hub:name", "hub:a/b/c", "hub:../name", "hub:owner/..", "hub:/etc/passwd"):
        assert "hub:owner/name" in refused(wrong)
    assert len(asked) == 1


def test_a_hub_that_gives_nothing_is_told(monkeypatch):
    import huggingface_hub

    def download(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert "the hub did not give hub:owner/name" in refused("hub:owner/name")


def test_links_as_in_the_hubs_cache_are_followed(tiny_model, tmp_path):
    for file in tiny_model.rglob("*"):
        place = tmp_path / "linked" / file.relative_to(tiny_model)
        if file.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    assert load(tmp_path / "linked", device="cpu").digest == load(tiny_model, device="cpu").digest


def test_folders_that_are_no_model_are_told_apart(copy, tiny_model, tmp_path):
    assert str(copy) in refused(copy.parent)  # one folder deeper
    snapshot = tmp_path / "models--owner--name/snapshots/0123abc"
    shutil.copytree(tiny_model, snapshot)
    assert str(snapshot) in refused(tmp_path / "models--owner--name")
    assert str(copy) in refused(copy / "unet")  # the folder above
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert "FluxPipeline" in refused(other)


@pytest.mark.parametrize(
    "name", ["a.to_q.lora_A.weight", "lora_unet_down.lora_down.weight", "unet.x.processor.to_q_lora.up.weight"]
)
def test_a_lora_is_called_one(tmp_path, name):
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file({name: torch.zeros(4, 8)}, folder / "weights.safetensors")
    assert "is a LoRA" in refused(folder)
    assert "is a LoRA" in refused(folder / "weights.safetensors")


def test_parts_are_the_same_for_a_conversion(copy):
    """A converted folder is read by the same rule."""
    from instructx2x.models.conversion import convert

    shard(copy / UNET, keep=True)
    with pytest.raises(ModelError, match="ambiguous"):
        convert(copy, copy.parent / "converted")
    assert locating.PARTS[0] == "tokenizer"


FORKED = """
import os, sys, threading
import numpy as np, torch
from instructx2x import Editor
assert torch.get_num_threads() == 2
editor = Editor.from_pretrained(sys.argv[1], device="cpu")
torch.rand(400, 400) @ torch.rand(400, 400)  # both threads have worked
pixels = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
child = os.fork()
if not child:
    editor.open(pixels).edit("Add the finding of edema.", steps=2, anatomy="none", relevance=False)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forking here")
def test_a_forked_process_edits(tiny_model):
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FORKED, str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr
