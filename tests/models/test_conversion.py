"""Checkpoints of the original code, made name by name (conftest.py), and what becomes of them.

What each tensor should become is said by diffusers' own converter, which shares nothing with ours.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

from instructx2x import Editor
from instructx2x.cli import main
from instructx2x.errors import ModelError, OutputError
from instructx2x.imaging.reading import from_array
from instructx2x.models import compvis, load, weights
from instructx2x.models.clip_tokenizer import FILE
from instructx2x.models.conversion import convert

TEXT = "Add the finding of edema."


def save(tensors, file):
    torch.save({"state_dict": tensors, "epoch": 3, "global_step": 6500, "hyper_parameters": {"lr": 1e-4}}, file)
    return file


@pytest.fixture(scope="module")
def words(tmp_path_factory, make_tiny_model):
    """A folder with a tokenizer of 514 tokens."""
    return make_tiny_model(tmp_path_factory.mktemp("words") / "model") / "tokenizer"


@pytest.fixture(scope="module")
def made(tmp_path_factory, words, make_compvis_checkpoint):
    """A tiny checkpoint and the folder it became."""
    folder = tmp_path_factory.mktemp("made")
    tensors = make_compvis_checkpoint()
    convert(save(tensors, folder / "last.ckpt"), folder / "model", tokenizer_from=words)
    return tensors, folder / "model", folder / "last.ckpt"


def diffusers_says(tensors, folder, words, ema, inputs=8):
    """The model that diffusers' own converter makes of a tiny checkpoint, from configurations written down here."""
    UNet2DConditionModel(
        sample_size=64,
        in_channels=inputs,
        block_out_channels=(32, 64, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=8,
    ).save_config(folder / "unet")
    AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    ).save_config(folder / "vae")
    options = {"config": str(folder), "local_files_only": True}
    unet = UNet2DConditionModel.from_single_file(dict(tensors), subfolder="unet", extract_ema=ema, **options)
    vae = AutoencoderKL.from_single_file(dict(tensors), subfolder="vae", **options)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=1,
            bos_token_id=512,
            eos_token_id=513,
        )
    )
    prefix = "cond_stage_model.transformer.text_model."
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    state.pop("embeddings.position_ids")
    held = {name.removeprefix("text_model."): name for name in text.state_dict()}  # transformers 5 or older
    text.load_state_dict({held[name]: value for name, value in state.items()})
    return StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=text.eval(),
        tokenizer=CLIPTokenizerFast.from_pretrained(words),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def theirs(made, words, tmp_path_factory):
    return diffusers_says(made[0], tmp_path_factory.mktemp("theirs"), words, ema=True)


def run(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seeded = torch.Generator().manual_seed(2)
    return pipeline(TEXT, image=image, num_inference_steps=3, generator=seeded, output_type="np").images


def test_the_layout_is_stable_diffusions(make_compvis_shapes):
    """The counts that every Stable Diffusion 1.5 checkpoint has."""
    shapes = make_compvis_shapes("full", inputs=4, ema=False)
    for prefix, count in (("model.diffusion_model", 686), ("first_stage_model", 248), ("cond_stage_model", 197)):
        assert sum(name.startswith(prefix) for name in shapes) == count
    unet = [np.prod(shape) for name, shape in shapes.items() if name.startswith("model.")]
    assert sum(unet) == 859_520_964


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("inputs", [4, 8])
def test_a_full_size_checkpoint_fits_name_by_name_and_shape_by_shape(make_compvis_shapes, inputs, ema):
    shapes = make_compvis_shapes("full", inputs, ema)
    model = compvis.read_model({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert model.ema is ema
    assert [len(part.tensors) for part in (model.unet, model.vae, model.text_encoder)] == [686, 248, 196]
    config = model.unet.network.config
    assert (config.in_channels, config.out_channels, config.sample_size) == (inputs, 4, 64)
    assert config.block_out_channels == (320, 640, 1280, 1280)
    assert config.down_block_types == (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D")
    assert config.up_block_types == ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3)
    assert (config.layers_per_block, config.cross_attention_dim, config.attention_head_dim) == (2, 768, 8)
    config = model.vae.network.config
    assert (config.block_out_channels, config.layers_per_block) == ((128, 256, 512, 512), 2)
    assert (config.latent_channels, config.scaling_factor, config.sample_size) == (4, 0.18215, 512)
    config = model.text_encoder.network.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (3072, 49408, 77)
    assert (config.bos_token_id, config.eos_token_id, config.hidden_act) == (49406, 49407, "quick_gelu")


def test_diffusers_runs_it_and_gives_what_its_own_conversion_gives_bit_for_bit(made, theirs):
    ours = StableDiffusionInstructPix2PixPipeline.from_pretrained(made[1], safety_checker=None)
    for part in ("unet", "vae", "text_encoder"):
        one, other = getattr(ours, part).state_dict(), getattr(theirs, part).state_dict()
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert np.array_equal(run(ours), run(theirs))


def test_our_editor_runs_it_and_edits_as_the_source_model_bit_for_bit(made, theirs, tmp_path, make_chest):
    theirs.save_pretrained(tmp_path / "theirs")
    shutil.copytree(made[1], tmp_path / "ours")
    results = []
    for name in ("ours", "theirs"):
        file = tmp_path / name / "unet/config.json"  # 64 pixels in place of 512, for speed: the weights fit any
        file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": 8}))
        study = Editor.from_pretrained(tmp_path / name, device="cpu").open(from_array(make_chest(), bits=8))
        results.append(study.edit(TEXT, steps=3, anatomy="none"))
    assert results[0].mask.any()
    assert np.array_equal(results[0].image.pixels, results[1].image.pixels)
    assert torch.equal(results[0].latents, results[1].latents)


@pytest.mark.parametrize(("ema", "averaged"), [(None, True), (True, True), (False, False)])
def test_which_weights_are_taken(made, ema, averaged):
    tensors = made[0]
    model = compvis.read_model(tensors, ema)
    assert model.ema is averaged
    name = "model_ema.diffusion_modelout2weight" if averaged else "model.diffusion_model.out.2.weight"
    assert torch.equal(model.unet.tensors["conv_out.weight"], tensors[name])


def test_a_checkpoint_with_one_kind_of_weights(made):
    last = {name: value for name, value in made[0].items() if not name.startswith("model_ema")}
    assert compvis.read_model(last).ema is False
    with pytest.raises(ModelError, match="leave --ema out"):
        compvis.read_model(last, ema=True)
    averaged = {name: value for name, value in made[0].items() if not name.startswith("model.")}
    assert compvis.read_model(averaged).ema is True
    with pytest.raises(ModelError, match="leave --no-ema out"):
        compvis.read_model(averaged, ema=False)


def test_half_precision_and_safetensors_stay_as_they_are(make_compvis_checkpoint, words, tmp_path):
    tensors = make_compvis_checkpoint(dtype=torch.float16)
    save_file(tensors, tmp_path / "pruned.safetensors")
    convert(tmp_path / "pruned.safetensors", tmp_path / "model", ema=False, tokenizer_from=words)
    written = load_file(tmp_path / "model/vae/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in written.values()} == {torch.float16}
    query = tensors["first_stage_model.decoder.mid.attn_1.q.weight"][:, :, 0, 0]
    assert torch.equal(written["decoder.mid_block.attentions.0.to_q.weight"], query)
    assert load(tmp_path / "model").dtype == torch.float32


def test_four_channels_make_a_text_to_image_model(make_compvis_checkpoint, words, tmp_path, capsys):
    file = save(make_compvis_checkpoint(inputs=4, ema=False), tmp_path / "sd.ckpt")
    assert main(["convert", str(file), str(tmp_path / "model"), "--tokenizer", str(words)]) == 0
    assert "not a model that edits" in capsys.readouterr().out
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.unet.config.in_channels == 4
    with pytest.raises(ModelError, match="not an InstructPix2Pix model"):
        load(tmp_path / "model")


def test_the_folder_names_no_place_on_a_disk(made):
    for file in made[1].rglob("*.json"):
        assert str(made[1].parent) not in file.read_text(), file


UNET = "model_ema.diffusion_modelmiddle_block0in_layers0weight"
VAE = "first_stage_model.decoder.up.3.block.1.conv1.bias"
WORD = "cond_stage_model.transformer.text_model.final_layer_norm.bias"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop(UNET), UNET),
        (lambda t: t.pop(VAE), VAE),
        (lambda t: t.pop(WORD), WORD),
        (lambda t: t.pop("first_stage_model.encoder.down.0.block.0.conv1.weight"), "encoder.down.0.block.0"),
        (lambda t: t.update(surprise=torch.ones(1)), "surprise"),
        (lambda t: t.update({"first_stage_model.loss.logvar": torch.ones(1)}), "first_stage_model.loss.logvar"),
        (lambda t: t.update({"model.diffusion_model.extra": torch.ones(1)}), "model.diffusion_model.extra"),
        (lambda t: t.update({VAE: torch.ones(3)}), "decoder.up_blocks.0.resnets.1.conv1.bias"),
        (lambda t: t.update({VAE: torch.ones(64, dtype=torch.int64)}), "no weights"),
        (lambda t: t.update(alphas_cumprod=torch.linspace(1, 0.1, 1000)), "noise schedule"),
        (lambda t: t.update(alphas_cumprod=t["alphas_cumprod"][:500]), "noise schedule"),
        (lambda t: t.update(scale_factor=torch.tensor(float("nan"))), "scale_factor"),
        (
            lambda t: [t.pop(k) for k in list(t) if "model_ema" in k or "diffusion_model" in k],
            "input_blocks.0.0.weight",
        ),
        (lambda t: [t.pop(k) for k in list(t) if "cond_stage" in k], "token_embedding"),
    ],
)
def test_no_tensor_is_missing_or_unknown_in_silence(made, change, told):
    tensors = dict(made[0])
    change(tensors)
    with pytest.raises(ModelError) as caught:
        compvis.read_model(tensors)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_checkpoint_leaves_nothing_behind(made, words, tmp_path):
    file = save({**made[0], VAE: torch.full((64,), float("nan"))}, tmp_path / "bad.ckpt")
    with pytest.raises(ModelError, match="not finite"):
        convert(file, tmp_path / "model", tokenizer_from=words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]


def test_a_scale_in_the_checkpoint_is_kept(made):
    model = compvis.read_model({**made[0], "scale_factor": torch.tensor(0.25)})
    assert model.vae.network.config.scaling_factor == 0.25


def test_a_published_folder_with_pickles_and_former_names(made, words, tmp_path):
    _, folder, _ = made
    old = shutil.copytree(folder, tmp_path / "old")
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        held = load_file(old / part / f"{stem}.safetensors")
        (old / part / f"{stem}.safetensors").unlink()
        if part == "vae":
            for now, then in former.items():
                held = {k.replace(f"attentions.0.{now}.", f"attentions.0.{then}."): v for k, v in held.items()}
            assert any("proj_attn" in name for name in held)
        if part == "text_encoder":
            held["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(held, old / part / f"{'pytorch_model' if part == 'text_encoder' else stem}.bin")
    done = convert(old, tmp_path / "new")
    assert done.averaged is None and done.instructed
    convert(folder, tmp_path / "same")
    assert load(tmp_path / "new").digest == load(tmp_path / "same").digest
    assert not list((tmp_path / "new").rglob("*.bin"))


def test_a_folder_is_checked(made, tmp_path):
    bad = shutil.copytree(made[1], tmp_path / "bad")
    file = bad / "unet/diffusion_pytorch_model.safetensors"
    held = load_file(file)
    del held["conv_in.bias"]
    save_file(held, file)
    with pytest.raises(ModelError, match=r"conv_in\.bias"):
        convert(bad, tmp_path / "new")
    file.unlink()
    with pytest.raises(ModelError, match="no unet"):
        convert(bad, tmp_path / "new")
    with pytest.raises(ModelError, match="leave --ema and --no-ema out"):
        convert(made[1], tmp_path / "new", ema=True)
    assert not (tmp_path / "new").exists()


def test_what_is_at_out_is_only_replaced_when_asked_and_a_model(made, words, tmp_path):
    file, out = made[2], tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="--overwrite"):
        convert(file, out, tokenizer_from=words)
    with pytest.raises(OutputError, match="not a model"):
        convert(file, out, tokenizer_from=words, overwrite=True)
    assert (out / "notes.txt").read_text() == "keep"
    (out / "model_index.json").write_text("{}")
    with pytest.raises(OutputError, match="notes"):
        convert(file, out, tokenizer_from=words, overwrite=True)
    assert (out / "notes.txt").read_text() == "keep"
    (out / "notes.txt").unlink()
    convert(file, out, tokenizer_from=words, overwrite=True)
    assert load(out).size == 512
    with pytest.raises(OutputError, match="is an input"):
        convert(out, out, overwrite=True)
    for target in (file, file.parent):
        with pytest.raises(OutputError, match="input"):
            convert(file, target, tokenizer_from=words, overwrite=True)


def test_a_failure_half_way_leaves_nothing(made, words, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("instructx2x.models.conversion._save_config", fail)
    with pytest.raises(OutputError, match="No space left"):
        convert(made[2], tmp_path / "model", tokenizer_from=words)
    assert not list(tmp_path.iterdir())


def test_progress_counts_every_byte_twice(made, words, tmp_path):
    told = []
    done = convert(made[2], tmp_path / "model", tokenizer_from=words, progress=lambda *pair: told.append(pair))
    assert [pair[0] for pair in told] == sorted(pair[0] for pair in told)
    assert told[-1] == (2 * done.size, 2 * done.size)


def test_the_command_line(made, words, tmp_path, capsys):
    file, out = made[2], tmp_path / "model"
    assert main(["convert", str(file), str(out), "--tokenizer", str(words), "--no-ema"]) == 0
    assert "weights as last trained" in capsys.readouterr().out
    assert main(["convert", str(file), str(out), "--tokenizer", str(words)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "nothing.ckpt"), str(out)]) == 2
    assert "no checkpoint" in capsys.readouterr().err


# A process of its own, whose memory holds nothing but the conversion; what no file backs is what counts.
MEASURED = """
import sys, time
from instructx2x.models.conversion import convert

peak, start = 0, time.monotonic()
def watch(done, total):
    global peak
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = max(peak, next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")))
convert(sys.argv[1], sys.argv[2], tokenizer_from=sys.argv[3], progress=watch)
print(peak, time.monotonic() - start)
"""


@pytest.mark.skipif("X2X_FULL_SIZE" not in os.environ, reason="writes 12 GB: set X2X_FULL_SIZE=1 on Linux to run it")
def test_a_full_size_file_takes_little_memory(make_compvis_checkpoint, tmp_path):
    file = save(make_compvis_checkpoint("full"), tmp_path / "full.ckpt")
    with gzip.open(tmp_path / FILE, "wt", encoding="utf-8") as stream:  # as long as CLIP's, of other words
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        stream.write("\n".join(["version", *(f"{a} {b}" for a, b in product(letters, letters))]))
    command = [sys.executable, "-c", MEASURED, file, tmp_path / "model", tmp_path / FILE]
    peak, seconds = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    size = sum(part.stat().st_size for part in (tmp_path / "model").rglob("*.safetensors"))
    print(f"{file.stat().st_size:.1e} bytes read, {size:.1e} written, {peak:.1e} of memory, {seconds:.0f} s")
    assert peak < 0.5 * size
    options = {"config": str(tmp_path / "model"), "local_files_only": True}
    for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        theirs = kind.from_single_file(weights.read(file), subfolder=part, extract_ema=True, **options).state_dict()
        ours = load_file(tmp_path / "model" / part / "diffusion_pytorch_model.safetensors")
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
