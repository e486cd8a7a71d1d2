"""Painted lesions: where they are, how dense, and that they repeat."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from instructx2x.errors import InputError
from instructx2x.instructions import Operation, parse, render
from instructx2x.training.simulation.chest import Chest
from instructx2x.training.simulation.lesions import changed_region, corrupt, draw, load_outlines, traits

SIDED = ("pleural effusion", "consolidation", "lung opacity", "pneumothorax", "mass", "atelectasis")


@pytest.fixture(scope="module")
def chest() -> Chest:
    """A made thorax: bright body, two dark lungs with a little texture, a bright heart."""
    rows, columns = np.mgrid[:256, :256].astype(np.float32)
    lungs = {
        side: (((columns - x) / 42) ** 2 + ((rows - 120) / 85) ** 2 < 1).astype(np.float32)
        for side, x in (("right", 78), ("left", 178))
    }
    image = np.full((256, 256), 0.75, np.float32)
    noise = np.random.default_rng(0).normal(0, 0.02, image.shape)
    image = np.where(lungs["right"] + lungs["left"] > 0, 0.25 + noise, image).astype(np.float32)
    return Chest(image, lungs)


@pytest.fixture(scope="module")
def findings():
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    blob = np.stack([0.3 + 0.08 * np.cos(angles), 0.4 + 0.1 * np.sin(angles)], axis=1)
    return traits({"Consolidation": [blob]})


def lesion(findings, finding, side="left", seed=3):
    return replace(draw(findings, np.random.default_rng(seed), finding), side=side, severity=3.0)


def test_the_same_lesion_is_the_same_image(chest, findings):
    for finding in findings:
        drawn = draw(findings, np.random.default_rng(5), finding)
        np.testing.assert_array_equal(drawn.paint(chest, "PA", findings), drawn.paint(chest, "PA", findings))


@pytest.mark.parametrize("finding", SIDED)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_sided_lesion_stays_on_its_side(chest, findings, finding, side):
    change = np.abs(lesion(findings, finding, side).paint(chest, "PA", findings) - chest.image)
    wrong = change[:, :118] if side == "left" else change[:, 138:]
    assert change.max() > 0.02
    assert wrong.max() < 1e-3


@pytest.mark.parametrize("finding", ["edema", "vascular congestion"])
def test_edema_reaches_both_lungs(chest, findings, finding):
    painted = lesion(findings, finding, "bilateral").paint(chest, "PA", findings)
    for mask in chest.lungs.values():
        assert (painted - chest.image)[mask > 0.5].mean() > 0.02


@pytest.mark.parametrize("finding", ["pleural effusion", "edema", "consolidation", "lung opacity", "mass"])
def test_a_higher_level_is_denser(chest, findings, finding):
    drawn = lesion(findings, finding)
    amounts = [
        np.abs(drawn.at_level("", s).paint(chest, "PA", findings) - chest.image).sum() for s in (1.5, 2.5, 3.5, 4.5)
    ]
    assert amounts == sorted(amounts)


def test_density_is_added_and_never_taken(chest, findings):
    for finding in ("pleural effusion", "consolidation", "pneumonia", "nodule", "pleural thickening"):
        assert (lesion(findings, finding).paint(chest, "PA", findings) - chest.image).min() > -1e-6


def test_a_pneumothorax_takes_the_markings_away_at_the_apex(chest, findings):
    painted = lesion(findings, "pneumothorax", "left").paint(chest, "PA", findings)
    apex = (slice(52, 60), slice(172, 188))
    assert painted[apex].std() < 0.5 * chest.image[apex].std()
    assert painted[apex].mean() < chest.image[apex].mean()


def test_an_effusion_lies_at_the_base(chest, findings):
    change = lesion(findings, "pleural effusion").paint(chest, "PA", findings) - chest.image
    rows = np.arange(256)[:, None]
    assert (change * rows).sum() / change.sum() > 150


def test_every_drawn_lesion_has_words_that_parse_back(findings):
    rng = np.random.default_rng(0)
    for _ in range(300):
        drawn = draw(findings, rng)
        for operation in (Operation.ADD, Operation.REMOVE):
            edit = drawn.edit(operation, rng)
            assert parse(render((edit,))) == (edit,)
            if edit.side:
                assert edit.side == drawn.side


def test_spoiling_stays_near_its_region(chest):
    region = np.zeros((256, 256), bool)
    region[100:140, 60:100] = True
    for seed in range(8):
        rng = np.random.default_rng(seed)
        spoiled = corrupt(chest, rng.random((256, 256)).astype(np.float32), region, rng)
        changed = changed_region(chest.image, spoiled)
        assert changed[105:135, 65:95].mean() > 0.5
        assert not changed[:70].any() and not changed[:, 150:].any()


def test_outlines_are_read_and_specks_left_out(tmp_path):
    marks = [
        {"finding": "Mass", "points": [[0.1, 0.1], [0.3, 0.1], [0.3, 0.3], [0.1, 0.3]]},
        {"finding": "Mass", "points": [[0.1, 0.1], [0.101, 0.1], [0.101, 0.101], [0.1, 0.101]]},
    ]
    with gzip.open(tmp_path / "chestxdet_polygons.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(mark) + "\n" for mark in marks)
    assert [len(shapes) for shapes in load_outlines(tmp_path).values()] == [1]
    with pytest.raises(InputError, match="--data"):
        load_outlines(tmp_path / "nowhere")
