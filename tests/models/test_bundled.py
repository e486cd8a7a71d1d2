"""The bundled model: whole, small, and run by diffusers as by us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from instructx2x import Editor
from instructx2x.imaging.reading import from_array
from instructx2x.models import BUNDLED

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "cxr"


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained("bundled", device="cpu")


def test_the_package_stays_small():
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < 26e6


def test_the_configs_name_no_place_on_a_disk():
    for file in BUNDLED.rglob("*.json"):
        assert "_name_or_path" not in file.read_text(), file


def test_a_plain_diffusers_pipeline_runs_it():
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL import Image

    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(BUNDLED, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    image = Image.fromarray(np.full((256, 256, 3), 128, np.uint8))
    edited = pipeline(
        "Add the finding of edema.",
        image=image,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    assert edited.shape == (1, 256, 256, 3) and np.isfinite(edited).all()


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="the open X-rays are not beside this clone")
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_effusion_appears_on_the_asked_side_and_nowhere_else(editor, side):
    from instructx2x.training.data import load_table

    table = load_table(DATA)
    normals = table.filter((table["split"] == "val") & (table["findings"] == "No Finding") & (table["group"] == "nih"))
    for file in normals["file"][:2]:
        pixels = editor.open(DATA / file).radiograph.pixels[:-7, :-3].astype(np.uint16) * 16
        study = editor.open(from_array(pixels, bits=12))
        result = study.edit(f"Add the finding of {side} pleural effusion.", steps=10)
        assert result.mask.any()
        assert np.array_equal(result.image.pixels[~result.mask], pixels[~result.mask])
        change = result.image.display() - study.display
        middle = round(study.lungs.midline * change.shape[1])
        half = change[:, middle:] if side == "left" else change[:, :middle]
        assert np.abs(half).sum() >= 0.95 * np.abs(change).sum()
        assert change[result.mask].mean() > 0.02
