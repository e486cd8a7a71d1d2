import json
import shutil

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from instructx2x.editing import sampling
from instructx2x.errors import ModelError
from instructx2x.models import load, locating

TEXT = "Add the finding of left pleural effusion."


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A copy of the tiny model to damage."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


def refused(model, **options):
    """The one line with which a model is refused."""
    with pytest.raises(ModelError) as caught:
        load(model, **options)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize(("sample_size", "width", "text_width"), [(8, 8, 16), (16, 4, 8), (5, 12, 24)])
def test_any_widths_load(make_tiny_model, tmp_path, sample_size, width, text_width):
    folder = make_tiny_model(
        tmp_path / "model", sample_size=sample_size, width=width, text_width=text_width, model_max_length=24
    )
    loaded = load(folder)
    assert (loaded.vae_factor, loaded.size) == (8, 8 * sample_size)
    assert loaded.latent_shape == (1, 4, sample_size, sample_size)
    assert loaded.embed("").shape == (1, 24, text_width)
    latents = loaded.encode(torch.zeros(1, 3, loaded.size, loaded.size))
    assert latents.shape == loaded.latent_shape
    assert loaded.decode(latents).shape == (1, 3, loaded.size, loaded.size)


def test_encoding_is_deterministic(tiny_model):
    """Method section 4, row 9: the posterior's mode, so no noise enters."""
    loaded = load(tiny_model)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.equal(loaded.encode(image), loaded.encode(image))


def test_both_tokenizer_layouts_agree(make_tiny_model, tmp_path):
    new = load(make_tiny_model(tmp_path / "new", tokenizer_json=True))
    old = load(make_tiny_model(tmp_path / "old", tokenizer_json=False))
    assert torch.equal(new.embed(TEXT), old.embed(TEXT))
    assert new.count_tokens(TEXT) == old.count_tokens(TEXT) == len(TEXT.replace(" ", "")) + 2


def test_half_precision_weights_load_as_float32(copy):
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        file = copy / part / f"{name}.safetensors"
        save_file({key: value.half() for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    loaded = load(copy, device="cpu")
    assert {p.dtype for net in (loaded.unet, loaded.vae, loaded.text_encoder) for p in net.parameters()} == {
        torch.float32
    }


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_other_dtypes(tiny_model, dtype):
    loaded = load(tiny_model, dtype=dtype)
    latents = loaded.encode(torch.zeros(1, 3, 64, 64))
    predicted = loaded.predict(latents, torch.tensor(500), latents, loaded.embed(TEXT))
    assert loaded.dtype in (torch.bfloat16, torch.float16)
    assert latents.dtype == predicted.dtype == loaded.decode(latents).dtype == torch.float32


def test_digest_follows_the_weights_and_not_the_place(copy, tiny_model):
    assert load(copy).digest == load(tiny_model).digest
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.bias"] += 1
    save_file(weights, file, metadata={"format": "pt"})
    assert load(copy).digest != load(tiny_model).digest


def test_digest_follows_the_calibration(copy, tiny_model):
    """It decides edits as the weights do: a batch must not take those made before for its own."""
    calibration = json.loads((copy / "calibration.json").read_text())
    (copy / "calibration.json").write_text(json.dumps(calibration | {"text_guidance": 2.0}))
    other = load(copy).digest
    (copy / "calibration.json").unlink()
    assert len({other, load(copy).digest, load(tiny_model).digest}) == 3


def test_plain_diffusers_runs_the_same_folder_and_agrees_with_our_sampler(tiny_model, monkeypatch):
    """The whole mask open, our sampler is diffusers' own pipeline started from the same latents.

    Both compute in float64. The two multiply in other orders: the pipeline cuts a batch of three and scales the
    condition elsewhere. Five steps of strong guidance through this U-Net, whose attention to the text is made sharp,
    enlarge a difference by up to 1e5. In float32 (2 ** -24 = 6e-8) either side so came out up to 7e-3 from its own
    result in float64, and the two up to 5e-4 from each other, depending on the CPU's instructions and the number of
    threads. In float64 (2 ** -53 = 1.1e-16) the same enlargement gives 1e-11. The bound leaves a factor of 100 and is
    still 1e5 times sharper than float32 would allow.
    """
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tiny_model, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(torch.float64)
    loaded = load(tiny_model)
    for network in (loaded.vae, loaded.text_encoder, loaded.unet):
        network.double()
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # what networks give is kept as float32 elsewhere
    seeded = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 64, 64, generator=seeded, dtype=torch.float64)
    noise = torch.randn(loaded.latent_shape, generator=seeded, dtype=torch.float64)
    condition = loaded.encode(image * 2 - 1)
    z0 = condition * loaded.vae.config.scaling_factor
    scheduler = sampling.official_scheduler(loaded.scheduler.config)
    ours = sampling.sample(
        loaded.predict,
        scheduler,
        z0,
        condition,
        loaded.embed(TEXT),
        loaded.embed(""),
        torch.ones(8, 8, dtype=torch.bool),
        noise,
        steps=5,
        text_guidance=7.5,
        image_guidance=1.5,
    )
    start = scheduler.add_noise(z0, noise, scheduler.timesteps[:1])
    theirs = pipeline(
        TEXT,
        image=image,
        latents=start,
        num_inference_steps=5,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        output_type="latent",
    ).images
    assert ours.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_a_mistyped_path_is_told_from_a_hub_id(tmp_path):
    assert "no folder" in refused(tmp_path / "nowhere")
    assert "no folder" in refused("./models/nowhere")
    assert "hub" in refused("some-owner/some-model-that-is-not-here")


def test_a_checkpoint_file_is_no_folder(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"")
    assert "x2x convert" in refused(tmp_path / "model.ckpt")


def test_missing_bundle(monkeypatch, tmp_path):
    monkeypatch.setattr(locating, "BUNDLED", tmp_path)
    assert "bundled" in refused("bundled")


def test_a_hub_snapshot_takes_only_what_is_needed_and_safe():
    wanted = [
        "model_index.json",
        "calibration.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
        "text_encoder/model-00001-of-00002.safetensors",
    ]
    unwanted = [
        "instruct-pix2pix.ckpt",
        "instruct-pix2pix.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "safety_checker/model.safetensors",
        "code.py",
    ]
    taken = filter_repo_objects(
        wanted + unwanted, allow_patterns=locating.HUB_ALLOW, ignore_patterns=locating.HUB_IGNORE
    )
    assert set(taken) == set(wanted)


def test_pickles_are_refused(copy):
    (copy / "unet/diffusion_pytorch_model.safetensors").rename(copy / "unet/diffusion_pytorch_model.bin")
    assert "pickle" in refused(copy)


def test_a_text_to_image_model_is_refused(make_tiny_model, tmp_path):
    folder = make_tiny_model(tmp_path / "plain", in_channels=4)
    assert "not an InstructPix2Pix model" in refused(folder)


def test_a_config_without_a_sensible_number_of_channels_is_refused(copy):
    config = copy / "vae/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": None}))
    assert "latent_channels" in refused(copy)


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "vae", "unet", "scheduler"])
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    assert part in refused(copy)


def cut(file):
    file.write_bytes(file.read_bytes()[:1000])


def drop_a_tensor(file):
    weights = load_file(file)
    del weights["conv_in.bias"]
    save_file(weights, file, metadata={"format": "pt"})


def reshape_a_tensor(file):
    weights = load_file(file)
    weights["conv_in.bias"] = torch.zeros(3)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [cut, drop_a_tensor, reshape_a_tensor])
def test_damaged_weights_never_run(copy, damage):
    damage(copy / "unet/diffusion_pytorch_model.safetensors")
    refused(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("unet/config.json", "{"),
        ("unet/config.json", "[]"),
        ("vae/config.json", "nothing"),
        ("scheduler/scheduler_config.json", '{"_class_name": "os"}'),
        ("scheduler/scheduler_config.json", '{"_class_name": "UNet2DModel"}'),
        ("tokenizer/tokenizer.json", "{}"),
    ],
)
def test_damaged_configurations_are_refused(copy, file, content):
    (copy / file).write_text(content)
    refused(copy)


def test_parts_of_different_models_are_refused(copy, make_tiny_model, tmp_path):
    other = make_tiny_model(tmp_path / "other", text_width=24)
    shutil.rmtree(copy / "text_encoder")
    shutil.copytree(other / "text_encoder", copy / "text_encoder")
    assert "do not belong together" in refused(copy)


def test_unknown_device_and_dtype(tiny_model):
    assert "device" in refused(tiny_model, device="abacus")
    assert "dtype" in refused(tiny_model, dtype="int3")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"version": 2}',
        '{"version": 1, "timesteps": []}',
        '{"version": 1, "timesteps": {"800": {"null_p99": 2.0, "inside_median": 1.0}}}',
        '{"version": 1, "timesteps": {"800": {"null_p99": 0.1, "inside_median": NaN}}}',
        '{"version": 1, "timesteps": {"1000": {"null_p99": 0.1, "inside_median": 1.0}}}',
        '{"version": 1, "timesteps": {"800": {"null_p99": 0.1, "inside_median": 1.0}}, "tau": 0}',
        '{"version": 1, "timesteps": {"800": {"null_p99": 0.1, "inside_median": 1}}, "text_guidance": "x"}',
        '{"version": 1, "timesteps": {}, "text_guidance_of": 1.5}',
        '{"version": 1, "timesteps": {}, "text_guidance_of": {"add": 1.5}}',
        '{"version": 1, "timesteps": {}, "text_guidance_of": {"add": {"edema": "x"}}}',
        '{"version": 1, "timesteps": {}, "text_guidance_of": {"add": {"edema": NaN}}}',
        '{"version": 1, "timesteps": {}, "heals": 1}',
        '{"version": 1, "timesteps": {}, "heals": "yes"}',
        '{"version": 1, "timesteps": {}, "least_balance": 0.4}',
        '{"version": 1, "timesteps": {}, "least_balance": {"add": 0}}',
        '{"version": 1, "timesteps": {}, "least_balance": {"add": 0.4, "remove": "x"}}',
        '{"version": 1, "timesteps": {}, "verifier_noise": 0.4}',
        '{"version": 1, "timesteps": {}, "verifier_noise": {"add": {"edema": -0.1}}}',
        '{"version": 1, "timesteps": {}, "verifier_noise": {"add": {"edema": NaN}}}',
        '{"version": 1, "timesteps": {}, "reliability": {"add": 3}}',
        '{"version": 1, "timesteps": {}, "reliability": {"add": {"edema": {"moved": 1}}}}',
        '{"version": 1, "timesteps": {}, "reliability": {"add": {"edema": {"moved": 0, "of": 0}}}}',
        '{"version": 1, "timesteps": {}, "reliability": {"add": {"edema": {"moved": 4, "of": 3}}}}',
        '{"version": 1, "timesteps": {}, "reliability": {"add": {"edema": {"moved": 0.5, "of": 3}}}}',
    ],
)
def test_a_wrong_calibration_is_refused(copy, content):
    (copy / "calibration.json").write_text(content)
    assert "calibration" in refused(copy)


def test_a_calibration_without_a_scale_still_recommends(copy):
    (copy / "calibration.json").write_text('{"version": 1, "timesteps": {}, "tau": 0.2, "text_guidance": 2.0}')
    model = load(copy)
    assert not model.calibrated and model.calibration["text_guidance"] == 2.0


def test_calibration_is_optional(tiny_model, tiny_uncalibrated_model):
    assert load(tiny_uncalibrated_model).calibration is None
    assert load(tiny_model).calibration == json.loads((tiny_model / "calibration.json").read_text())
