"""Fine-tuning: what each sample is, what is learned from it, and that a run is the same however it is run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from safetensors.torch import load_file

from instructx2x import Editor
from instructx2x.cli import main
from instructx2x.dataset.table import SCHEMA, edit_rows, load_dataset, to_table
from instructx2x.errors import InputError, ModelError, OutputError
from instructx2x.imaging.reading import from_array
from instructx2x.instructions import parse
from instructx2x.models import load
from instructx2x.training import finetuning as loop
from instructx2x.training.batches import Pairs, embed, squared_errors
from instructx2x.training.draws import chunks, draw, numbers_of, row_of, validation_draw
from instructx2x.training.finetuning import finetune
from instructx2x.training.latents import encode_images
from instructx2x.training.recipe import Finetuning, finetuning, read_toml
from instructx2x.training.start import load_start
from instructx2x.training.states import read_state

SHAPE = (4, 8, 8)
TEXTS = ("Add the finding of edema.", "Remove the finding of left pleural effusion.")
RECIPE = {
    "size": 64, "steps": 6, "batch": 4, "per_device": 2, "precision": "no", "learning_rate": 1e-3, "log_every": 2,
    "checkpoint_every": 2, "validate_every": 3, "validation": 2, "sheet": 1, "sheet_steps": 2,
    "gradient_checkpointing": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """accelerate holds a process's first settings; each run here stands for a process of its own."""
    yield
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_chest):
    """A built dataset: seven train pairs, three to validate on, squares of 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "set"
    (folder / "images").mkdir(parents=True)
    (folder / "data").mkdir()
    rows = []
    for number in range(10):
        text = TEXTS[number % 2]
        row = dict.fromkeys(SCHEMA) | {"subject_id": f"p{number}", "part": 1, "parts": 1, "instruction": text}
        row |= {"edits": edit_rows(parse(text)), "split": "train" if number < 7 else "validate", "tokens": 9}
        for when in ("past", "current"):
            name = f"{number}{when}"
            Image.fromarray(make_chest(64, 64, seed=sum(name.encode()))).save(folder / "images" / f"{name}.png")
            row |= {f"{when}_dicom_id": name, f"{when}_image": f"images/{name}.png"}
        rows.append(row)
    write_tables(folder, to_table(rows))
    (folder / "settings.json").write_text('{"made": "for a test"}')
    return folder


def write_tables(folder, table):
    for split in ("train", "validate", "test"):
        table.filter(table["split"] == split).write_parquet(folder / "data" / f"{split}.parquet")


def settings(**changed):
    return Finetuning(**{**RECIPE, **changed})


def weights(model):
    return load_file(model / "unet/diffusion_pytorch_model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def undisturbed(data, tiny_model, tmp_path_factory):
    """WORK of a run on one process; its model is WORK/model."""
    work = tmp_path_factory.mktemp("undisturbed") / "work"
    finetune(settings(), data=data, work=work, start=str(tiny_model), cpu=True)
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    return work


# What each sample is


def test_an_epoch_shows_every_pair_once_in_an_order_of_its_own():
    epochs = [[row_of(number, 50, 3) for number in range(start, start + 50)] for start in (0, 50, 100)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [row_of(number, 50, 4) for number in range(50)]


def test_a_sample_is_a_function_of_seed_and_number():
    def drawn(number, seed):
        return draw(number, seed, SHAPE, 1000, 0.05, 0.05, 0.05)

    one, again, other, seeded = drawn(7, 0), drawn(7, 0), drawn(8, 0), drawn(7, 1)
    assert torch.equal(one.noise, again.noise) and torch.equal(one.posterior, again.posterior)
    assert (one.timestep, one.keep_text, one.keep_image) == (again.timestep, again.keep_text, again.keep_image)
    for different in (other.noise, seeded.noise, one.posterior, validation_draw(7, 9, 0, SHAPE, 1000).noise):
        assert not torch.equal(one.noise, different)


def test_dropout_has_its_shares_and_excludes_each_other():
    drawn = [draw(number, 0, (1, 1, 1), 1000, 0.05, 0.1, 0.15) for number in range(4000)]
    kept = Counter((one.keep_text, one.keep_image) for one in drawn)
    shares = {(False, True): 0.05, (True, False): 0.1, (False, False): 0.15, (True, True): 0.7}
    for kind, share in shares.items():
        assert kept[kind] / len(drawn) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(drawn)))
    timesteps = np.array([one.timestep for one in drawn])
    assert timesteps.min() < 5 and timesteps.max() > 994 and abs(timesteps.mean() - 499.5) < 20
    noise = torch.stack([one.noise for one in drawn])
    assert abs(noise.mean()) < 0.07 and abs(noise.std() - 1) < 0.05


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("per_device", [1, 3, 4, 100])
@pytest.mark.parametrize("batch", [8, 24, 1024])
def test_chunks_cover_a_batch_on_any_number_of_devices(batch, processes, per_device):
    rounds = chunks(batch, processes, per_device)
    assert all(len(parts) == processes for parts in rounds)
    flat = [part for parts in rounds for part in parts]
    assert [position for part in flat for position in part] == list(range(batch))
    lengths = {len(part) for part in flat}
    assert max(lengths) <= per_device and max(lengths) - min(lengths) <= 1
    assert len(rounds) == -(-batch // (processes * per_device))
    assert list(numbers_of(3, batch, flat[0])) == list(range(3 * batch, 3 * batch + len(flat[0])))


# What is learned from a batch


@pytest.fixture(scope="module")
def encoded(data, tiny_model, tmp_path_factory):
    """The tiny model, and the train pairs as latents."""
    model, table = load(tiny_model, device="cpu"), load_dataset(data, "train")
    files = sorted({*table["past_image"], *table["current_image"]})
    accelerator = Accelerator(cpu=True)
    latents = encode_images(model.vae, data, files, tmp_path_factory.mktemp("latents"), "key", accelerator)
    return model, table, Pairs(table, latents, model)


@torch.no_grad()
def test_the_loss_is_that_of_the_published_convention(encoded, data):
    model, table, pairs = encoded
    draws = [draw(number, 0, SHAPE, 1000) for number in range(3)]
    draws[1] = replace(draws[1], keep_text=False)
    draws[2] = replace(draws[2], keep_image=False)
    values = squared_errors(model.unet, model, pairs.batch([5, 2, 4], draws))
    for row, one, value in zip([5, 2, 4], draws, values, strict=True):
        images = {}
        for when in ("past", "current"):
            pixels = np.asarray(Image.open(data / table[f"{when}_image"][row]), np.float32) / 127.5 - 1
            images[when] = model.vae.encode(torch.from_numpy(pixels).expand(1, 3, -1, -1)).latent_dist
        target = (images["current"].mean + images["current"].std * one.posterior) * 0.5
        past = images["past"].mode() if one.keep_image else torch.zeros(1, *SHAPE)
        alpha = model.scheduler.alphas_cumprod[one.timestep]
        noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * one.noise
        text = model.embed(table["instruction"][row] if one.keep_text else "")
        expected = (model.predict(noisy, torch.tensor([one.timestep]), past, text) - one.noise).square().mean()
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_shares_of_any_division_add_up_to_one_gradient(encoded):
    model, _, pairs = encoded
    recipe = settings(batch=5, drop_text=0.3)
    gradients = []
    model.unet.requires_grad_(True)
    for processes, per_device in ((1, 5), (3, 1), (4, 2)):
        model.unet.zero_grad()
        for parts in chunks(5, processes, per_device):
            for part in parts:
                batch = loop._samples(recipe, model, pairs, 2, part)
                loop._share(recipe, model.unet, model, batch, part).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.unet.parameters()]))
    model.unet.requires_grad_(False).zero_grad()
    for other in gradients[1:]:
        assert (gradients[0] - other).norm() < 1e-4 * gradients[0].norm()


def test_texts_are_embedded_as_the_editor_embeds_them(encoded):
    model, _, _ = encoded
    together = embed(model, ["", *TEXTS, "long " * 100])
    for text, row in zip(("", *TEXTS, "long " * 100), together, strict=True):
        torch.testing.assert_close(row, model.embed(text)[0], rtol=1e-5, atol=1e-5)


# Where it starts


def test_an_instructpix2pix_model_is_kept(tiny_model):
    kept = load_start(str(tiny_model), torch.device("cpu")).unet.state_dict()
    assert same(kept, weights(tiny_model))


@torch.no_grad()
def test_a_text_to_image_model_is_extended_and_predicts_what_it_did(make_tiny_model, tmp_path):
    folder = make_tiny_model(tmp_path / "model", in_channels=4)
    model = load_start(str(folder), torch.device("cpu"))
    assert model.unet.config.in_channels == 8
    from diffusers import UNet2DConditionModel

    before = UNet2DConditionModel.from_pretrained(folder / "unet")
    noisy, past = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    text, timestep = model.embed(TEXTS[0]), torch.tensor([400])
    expected = before(noisy, timestep, text).sample
    torch.testing.assert_close(model.predict(noisy, timestep, 9 * past, text), expected, rtol=1e-5, atol=1e-5)


def test_a_model_that_predicts_no_noise_is_refused(make_tiny_model, tmp_path):
    folder = make_tiny_model(tmp_path / "model")
    config = folder / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "v_prediction"}))
    with pytest.raises(ModelError, match="v_prediction"):
        load_start(str(folder), torch.device("cpu"))


# The run


def test_what_comes_out_runs_everywhere(undisturbed, tiny_model):
    model = undisturbed / "model"
    newest = undisturbed / "checkpoints/step-0000006"
    averaged = read_state(newest / "state.safetensors")["average"]["shadow_params"]
    assert all(torch.equal(a, b) for a, b in zip(averaged, load(model, device="cpu").unet.parameters(), strict=True))
    assert not same(weights(model), load_file(newest / "model.safetensors")), "the average is not the last weights"
    for part in ("vae/diffusion_pytorch_model", "text_encoder/model"):
        assert same(*(load_file(folder / f"{part}.safetensors") for folder in (model, tiny_model))), part
    result = Editor.from_pretrained(model).open(from_array(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))))
    assert result.edit(TEXTS[0], steps=2).report["model"]["calibrated"] is False
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(model, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(TEXTS[0], image=Image.new("RGB", (64, 64)), num_inference_steps=1).images[0].size == (64, 64)
    card = (model / "README.md").read_text()
    assert "| steps | 6 |" in card and "for a test" in card and "7 train pairs" in card


def test_a_finished_run_that_is_started_again_changes_no_byte(undisturbed, data, tiny_model, tmp_path):
    work = shutil.copytree(undisturbed, tmp_path / "work")
    finetune(settings(), data=data, work=work, start=str(tiny_model), cpu=True)
    for file in (file for file in undisturbed.rglob("*") if file.is_file()):
        assert (work / file.relative_to(undisturbed)).read_bytes() == file.read_bytes(), file.name


def test_a_run_leaves_curves_sheets_and_two_checkpoints(undisturbed):
    assert [path.name for path in sorted((undisturbed / "checkpoints").iterdir())] == ["step-0000004", "step-0000006"]
    rows = (undisturbed / "losses.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6"]
    rows = (undisturbed / "validation.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "3", "6"]
    for step in (0, 3, 6):
        with Image.open(undisturbed / f"sheets/step-{step:07d}.png") as sheet:
            assert sheet.text["Synthetic"] == "yes" and np.asarray(sheet)[22:86, :192].std() > 1


@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ({"per_device": 4, "sheet": 8}, torch.float32),
        pytest.param(
            {"per_device": 2, "precision": "bf16", "gradient_checkpointing": True},
            torch.bfloat16,
            marks=pytest.mark.ci,
        ),
    ],
    ids=["plain", "as in the paper's recipes"],
)
def test_training_learns(changed, dtype, data, tiny_model, tmp_path, monkeypatch):
    recipe = settings(steps=20, learning_rate=5e-3, validation=64, validate_every=20, **changed)
    computed, checkpoint = set(), Mock(wraps=torch.utils.checkpoint.checkpoint)
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", checkpoint)

    def look(module, _, output):
        if module.training and isinstance(module, torch.nn.Conv2d):
            computed.add(output.dtype)

    with torch.nn.modules.module.register_module_forward_hook(look):
        finetune(recipe, data=data, work=tmp_path / "work", start=str(tiny_model), cpu=True)
    assert computed == {dtype} and checkpoint.called is recipe.gradient_checkpointing
    rows = (tmp_path / "work/validation.csv").read_text().splitlines()[1:]
    before, after = (float(row.split(",")[1]) for row in rows)
    assert after < 0.9 * before, (before, after)


def command(*arguments):
    return [sys.executable, "-m", "instructx2x.cli", *arguments]


@pytest.fixture
def quick(tmp_path):
    """The recipe as a file."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in RECIPE.items()]
    (tmp_path / "quick.toml").write_text("\n".join(["[finetune]", *lines]))
    return tmp_path / "quick.toml"


@pytest.mark.ci
def test_a_killed_run_ends_as_an_undisturbed_one(undisturbed, data, tiny_model, quick, tmp_path):
    work = tmp_path / "work"
    arguments = ["train", quick, "--data", data, "--work", work, "--start", tiny_model, "--device", "cpu"]
    # As many threads as this process has: sums of floats depend on how they are split.
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(*arguments), env=one, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (work / "checkpoints/step-0000002").is_dir():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (work / "model").exists()
    # What a kill in the middle of writing leaves.
    (work / "checkpoints/.partial").mkdir(exist_ok=True)
    (work / "checkpoints/.partial/model.safetensors").write_bytes(b"half")
    with (work / "losses.csv").open("a") as curve:
        curve.write("5,1,1\n6,")
    assert main([str(argument) for argument in arguments]) == 0
    assert same(weights(work / "model"), weights(undisturbed / "model"))
    for name in ("losses.csv", "validation.csv"):
        assert (work / name).read_text() == (undisturbed / name).read_text()


@pytest.mark.ci
def test_two_processes_end_as_one(undisturbed, data, tiny_model, quick, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        arguments = ["train", quick, "--data", data, "--work", tmp_path / "work", "--start", tiny_model]
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
        processes.append(
            subprocess.Popen(
                command(*arguments, "--device", "cpu"), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
    for process in processes:
        _, told = process.communicate(timeout=120)
        assert process.returncode == 0, told.decode()
    assert "2\ndevices" in (tmp_path / "work/model/README.md").read_text()
    for name in ("losses.csv", "validation.csv"):
        one, two = (np.loadtxt(work / name, delimiter=",", skiprows=1) for work in (undisturbed, tmp_path / "work"))
        np.testing.assert_allclose(one, two, rtol=1e-5)
    one, two = weights(undisturbed / "model"), weights(tmp_path / "work/model")
    # Here not even rounding differs: one sum of two chunks, accumulated or averaged over processes.
    assert same(one, two)


# What cannot be used


def test_the_paper_recipes_say_what_the_paper_says():
    for name, steps in (("paper-v1", 4500), ("paper-v2", 6500)):
        recipe = finetuning(read_toml(name))
        assert (recipe.steps, recipe.batch, recipe.size, recipe.learning_rate) == (steps, 1024, 512, 1e-4)
        assert (recipe.drop_text, recipe.drop_image, recipe.drop_both) == (0.05, 0.05, 0.05)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"learning_rat": 1}, "no setting 'learning_rat'"),
        ({"steps": "many"}, "steps must be of type int"),
        ({"steps": True}, "steps must be of type int"),
        ({"steps": 0}, "steps must be above 0"),
        ({"precision": "int8"}, "precision is one of"),
        ({"drop_text": 0.9, "drop_both": 0.2}, "their sum"),
        ({"sheet": 3}, "sheet"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_a_recipe_with_mistakes_is_refused(changed, told):
    with pytest.raises(InputError, match=told) as error:
        finetuning({"finetune": {**RECIPE, **changed}})
    assert "\n" not in str(error.value)


def test_a_recipe_without_size_is_refused():
    with pytest.raises(InputError, match="lacks size"):
        finetuning({"finetune": {"steps": 3}})


def copied(data, to, **changes):
    """The dataset with columns of its table changed, None for null."""
    import polars as pl

    table = load_dataset(data).with_columns(**{name: pl.lit(value, pl.String) for name, value in changes.items()})
    (to / "data").mkdir(parents=True)
    (to / "images").symlink_to(data / "images")
    write_tables(to, table)
    return to


def test_data_are_checked_before_the_work(data, tiny_model, tmp_path, make_chest, make_tiny_model):
    def refused(folder, told, kind=InputError, start=tiny_model, **changed):
        with pytest.raises(kind, match=told) as error:
            finetune(settings(**changed), data=folder, work=tmp_path / "work", start=str(start), cpu=True)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "work/checkpoints").exists()

    refused(tmp_path / "nothing", "holds no finished dataset")
    refused(copied(data, tmp_path / "a", split="validate"), "no train rows")
    refused(copied(data, tmp_path / "b", split="train"), "no validate rows")
    refused(copied(data, tmp_path / "c", past_image=None), "tables only")
    refused(data, "64 x 64 pixels and the model 128 x 128", size=128)
    refused(data, "no model to start from", start="")
    refused(data, "works at 32 pixels", start=make_tiny_model(tmp_path / "small", sample_size=4))
    (tmp_path / "d").mkdir()
    for number, (name, told) in enumerate((("gone", "missing"), ("odd", "72 x 64"), ("cut", "cannot be read"))):
        folder = copied(data, tmp_path / f"d{number}", current_image=f"../d/{name}.png")
        Image.fromarray(make_chest(64, 72)).save(tmp_path / "d/odd.png")
        (tmp_path / "d/cut.png").write_bytes(b"\x89PNG\r\n")
        with pytest.raises(InputError, match=told):
            finetune(settings(), data=folder, work=tmp_path / f"work{number}", start=str(tiny_model), cpu=True)
        assert not (tmp_path / f"work{number}/checkpoints").exists()


def test_a_damaged_image_is_refused_while_it_is_encoded(data, tiny_model, tmp_path):
    folder = copied(data, tmp_path / "set", current_image="../half.png")
    whole = (data / "images/1past.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.png is missing or damaged"):
        finetune(settings(), data=folder, work=tmp_path / "work", start=str(tiny_model), cpu=True)


def test_other_settings_do_not_go_on_and_more_steps_do(undisturbed, data, tiny_model, tmp_path):
    work = shutil.copytree(undisturbed, tmp_path / "work")
    with pytest.raises(OutputError, match="another recipe"):
        finetune(settings(seed=1), data=data, work=work, start=str(tiny_model), cpu=True)
    with pytest.raises(OutputError, match="in use for something else"):
        finetune(settings(), data=data, work=data, start=str(tiny_model), cpu=True)
    with pytest.raises(OutputError, match="is an input"):
        finetune(settings(), data=data, work=work, start=str(tiny_model), cpu=True, out=data)
    finetune(settings(steps=7, per_device=4, sheet=0), data=data, work=work, start=str(tiny_model), cpu=True)
    assert (work / "losses.csv").read_text().splitlines()[-1].startswith("7,")
    assert "| steps | 7 |" in (work / "model/README.md").read_text()
    with pytest.raises(OutputError, match="7 steps already"):
        finetune(settings(), data=data, work=work, start=str(tiny_model), cpu=True)
    newest = work / "checkpoints/step-0000007"
    (newest / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(OutputError, match="delete it"):
        finetune(settings(steps=8), data=data, work=work, start=str(tiny_model), cpu=True)


@pytest.mark.parametrize(
    ("changed", "step"), [({"validation": 0, "sheet": 0}, 2), ({"validate_every": 1, "log_every": 10}, 1)]
)
def test_a_loss_that_is_not_finite_ends_the_run(changed, step, data, tiny_model, tmp_path):
    recipe = settings(learning_rate=1e30, **changed)
    with pytest.raises(ModelError, match=f"loss is not finite at step {step}: .* lower learning_rate"):
        finetune(recipe, data=data, work=tmp_path / "work", start=str(tiny_model), cpu=True)
    assert not (tmp_path / "work/model").exists()


def test_a_device_that_is_too_small_is_told(data, tiny_model, tmp_path, monkeypatch):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(loop, "squared_errors", too_large)
    work, start = tmp_path / "work", str(tiny_model)
    with pytest.raises(ModelError, match=r"^out of memory: lower --per-device \(now 2\), or set gradient_ch"):
        finetune(settings(validation=0, sheet=0), data=data, work=work, start=start, cpu=True)
    least = settings(validation=0, sheet=0, per_device=1, gradient_checkpointing=True)
    with pytest.raises(ModelError, match=r"^out of memory: take a device with more memory"):
        finetune(least, data=data, work=work, start=start, cpu=True)


def test_a_disk_that_is_full_is_told(undisturbed, data, tiny_model, tmp_path, full_disk):
    work, out = shutil.copytree(undisturbed, tmp_path / "work"), tmp_path / "out/model"
    run = {"data": data, "work": work, "start": str(tiny_model), "out": out, "cpu": True}
    with full_disk(20_000), pytest.raises(OutputError, match=r"out/model cannot be written .* another -o"):
        finetune(settings(), **run)
    assert not out.parent.exists()
    shutil.rmtree(work / "sheets")
    (work / "sheets").touch()
    with pytest.raises(OutputError, match=r"sheets: File exists: put that right"):
        finetune(settings(steps=7), **run)
    assert not out.exists()


def test_trackers_get_losses_and_sheets(data, tiny_model, tmp_path):
    with pytest.raises(InputError, match="'nonesuch' is not installed"):
        finetune(settings(), data=data, work=tmp_path / "a", start=str(tiny_model), trackers=("nonesuch",), cpu=True)
    pytest.importorskip("tensorboard", reason="needs the training extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work = tmp_path / "work"
    finetune(settings(steps=2), data=data, work=work, start=str(tiny_model), trackers=("tensorboard",), cpu=True)
    events = EventAccumulator(str(work / "logs/instructx2x"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [2]
    assert [event.step for event in events.Scalars("validation_loss")] == [0, 2]
    assert [event.step for event in events.Images("validation")] == [0, 2]


def test_the_command_line_refuses_in_one_line(data, tmp_path, capsys):
    for arguments, told in (
        (["open-cpu", "--start", "x"], "leave out --start"),
        (["paper-v1", "--stage", "unet"], "leave out --stage"),
        (["paper-v1", "--device", "cuda:3"], "CUDA_VISIBLE_DEVICES"),
        (["paper-v3"], "paper-v1, paper-v2"),
        (["paper-v1", "--tracker", "nonesuch"], "is not installed"),
    ):
        assert main(["train", *arguments, "--data", str(data), "--work", str(tmp_path / "work")]) == 2
        told_line = capsys.readouterr().err
        assert told in told_line and told_line.count("\n") == 1
