"""A tiny recipe on made X-rays, from pictures to a model that edits."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from instructx2x import Editor
from instructx2x.errors import InputError
from instructx2x.models import load
from instructx2x.training import pairs
from instructx2x.training.data import load_images, load_table
from instructx2x.training.healing import read_regions
from instructx2x.training.pairs import encode_bank
from instructx2x.training.run import run
from instructx2x.training.simulation.lesions import load_outlines
from instructx2x.training.simulation.transplants import load_boxes

RECIPE = """
size = 64
seed = 0
[vae]
channels = [8, 8, 8, 8]
steps = 3
batch = 2
crop = 64
decoder_steps = 2
[pairs]
per_normal = 4
per_abnormal = 2
[text_encoder]
width = 32
layers = 1
steps = 2
batch = 8
[unet]
channels = [16, 32]
steps = 3
batch = 4
back_translations = 4
back_at = 1
[calibration]
count = 4
"""


def phantom(rng: np.random.Generator, ill: bool) -> np.ndarray:
    """A made chest: bright body, two dark lungs, ribs; the base of one lung white where it is ill."""
    rows, columns = np.mgrid[:160, :160].astype(np.float32)
    image = np.where(np.abs(columns - 80) < 72, 190.0, 10.0)
    for centre in (48, 112):
        inside = ((columns - centre) / 25) ** 2 + ((rows - 78) / 52) ** 2 < 1
        image = np.where(inside, 70 + 12 * np.sin(rows / 4), image)
    if ill:
        image = np.where(np.hypot(columns - 48, rows - 100) < 18, 190.0, image)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        name, group = f"{'ker' if number == 11 else 'nih'}_{number:03d}", "train" if number not in (3, 7) else "val"
        Image.fromarray(phantom(rng, number % 3 == 0)).save(folder / "images" / f"{name}.jpg", quality=95)
        rows.append(
            {
                "id": name,
                "file": f"images/{name}.jpg",
                "view": "PA" if number % 2 else "AP",
                "findings": "No Finding" if number % 3 else "Effusion|Infiltration",
                "split": group,
                "qc": "ok",
            }
        )
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "boxes.csv").write_text("image_id,finding,x,y,w,h,kind,have_image\n")
    points = [[0.3 + 0.1 * np.cos(a), 0.4 + 0.1 * np.sin(a)] for a in np.linspace(0, 6, 10)]
    with gzip.open(folder / "chestxdet_polygons.jsonl.gz", "wt") as file:
        file.write(json.dumps({"finding": "Consolidation", "points": points}) + "\n")
    return folder


def test_what_is_missing_is_told(data, tmp_path):
    with pytest.raises(InputError, match="no pairs yet"):
        encode_bank(None, np.zeros((1, 64, 64), np.uint8), tmp_path)
    (tmp_path / "metadata.csv").write_text("id,file\n1,2\n")
    with pytest.raises(InputError, match="qc"):
        load_table(tmp_path)
    (tmp_path / "metadata.csv").write_text("id,file,findings,qc\nnih_1,gone.png,,ok\n")
    with pytest.raises(InputError, match=r"gone\.png"):
        load_images(tmp_path, load_table(tmp_path), 64, tmp_path)


@pytest.mark.ci
def test_processors_change_no_byte_of_the_bank(data, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "CHUNK", 4)
    table = load_table(data)
    images = load_images(data, table, 64, tmp_path)
    outlines, boxes = load_outlines(data), load_boxes(data)

    def bank(processors):
        out = tmp_path / str(processors)
        monkeypatch.setattr(pairs, "usable_processors", lambda: processors)
        pairs.simulate(images, table, outlines, boxes, out, per_normal=3, per_abnormal=2)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}

    alone = bank(0)
    assert [f"chunk_{number}.npy" in alone for number in ("000", "001", "002", "003", "real")] == [1, 1, 1, 0, 1]
    assert json.loads((tmp_path / "0/chunk_001.json").read_text())
    assert bank(1) == alone and bank(2) == alone
    (tmp_path / "2/chunk_001.npy").unlink()
    assert bank(2) == alone


@pytest.mark.ci
def test_a_recipe_runs_to_a_model_that_edits(data, tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    work = tmp_path / "work"
    stages = ("vae", "pairs", "text_encoder", "unet", "bundle")
    with pytest.raises(InputError, match="run the stages before"):
        run(recipe, data=data, work=tmp_path / "other", stages=("unet",))
    misspelt = tmp_path / "misspelt.toml"
    misspelt.write_text(RECIPE.replace("layers", "layer"))
    with pytest.raises(InputError, match=r"\[text_encoder\] has no setting 'layer'"):
        run(misspelt, data=data, work=tmp_path / "other")
    model = run(recipe, data=data, work=work, stages=stages)
    assert [path.is_file() for path in work.glob("images64*.npy")] == [True]
    calibration = json.loads((model / "calibration.json").read_text())
    assert set(calibration["measured"]["scale"]) == {"700", "800", "900"}
    assert calibration["timesteps"] in ({}, calibration["measured"]["scale"])
    for operation, held in calibration["measured"]["balance"].items():
        assert held["under_least_balance_when_valid"] <= 0.05 and 0 <= held["auc"] <= 1
        assert (operation in calibration["least_balance"]) == (held["under_least_balance_when_nothing"] > 0.15)
    strengths = calibration["measured"]["strength"]
    assert set(calibration["text_guidance_of"]["add"]) <= set(strengths["add"]) and strengths["remove"]
    for finding, scale in calibration["text_guidance_of"]["add"].items():
        assert str(scale) in strengths["add"][finding] and scale < calibration["text_guidance"]

    result = Editor.from_pretrained(model).open(data / "images/nih_003.jpg").edit("Add the finding of edema.", steps=3)
    changed = result.image.pixels != result.source.pixels
    assert not (changed & ~result.mask).any()
    assert result.report["model"]["calibrated"] == bool(calibration["timesteps"])

    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("per_normal = 4", "per_normal = 5"))
    with pytest.raises(InputError, match="other settings"):
        run(other, data=data, work=work, stages=("pairs",))
    wider = tmp_path / "wider.toml"
    wider.write_text(RECIPE.replace("[16, 32]", "[16, 48]"))
    with pytest.raises(InputError, match=r"unet\.safetensors is of a run with other settings"):
        run(wider, data=data, work=work, stages=("unet",))

    weights = {path.relative_to(model): path.read_bytes() for path in model.rglob("*.safetensors")}
    again = run(recipe, data=data, work=work, stages=stages, out=tmp_path / "again")
    assert weights == {path.relative_to(again): path.read_bytes() for path in again.rglob("*.safetensors")}

    # The bank has regions to heal, and the model says that it learned from them.
    assert read_regions(work / "pairs_train" / "regions.pt", 8) and calibration["heals"] is True

    # A recipe that starts from a model trains its U-Net on and keeps the rest.
    onward, begun = tmp_path / "onward.toml", tmp_path / "onward"
    onward.write_text(
        f"start = {json.dumps(str(model))}\n" + RECIPE.replace("back_translations = 4\nback_at = 1\n", "")
    )
    begun.mkdir()
    for name in ("pairs_train", "pairs_val"):
        shutil.copytree(work / name, begun / name)
    run(onward, data=data, work=begun, stages=("vae", "text_encoder", "unet"))
    assert not (begun / "vae.csv").exists() and not (begun / "text_encoder.csv").exists()
    before, after = load(model, device="cpu"), UNet2DConditionModel.from_pretrained(begun / "unet")
    change = [(p - q).abs().max() for p, q in zip(before.unet.parameters(), after.parameters(), strict=True)]
    assert 0 < max(change) < 0.01, "not the weights of the start, a few steps on"
    kept = AutoencoderKL.from_pretrained(begun / "vae").state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in before.vae.state_dict().items())

    # A finished bank is not looked for real lesions again.
    monkeypatch.setattr(pairs, "collect", None)
    run(recipe, data=data, work=work, stages=("pairs",))
