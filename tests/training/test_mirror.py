"""Real disease told from the other lung: found where it is, taken away, carried over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from instructx2x.errors import InputError
from instructx2x.training.simulation import mirror
from instructx2x.training.simulation.chest import Chest
from instructx2x.training.simulation.lesions import traits
from instructx2x.training.simulation.transplants import RealLesion, box_mask, collect, load_boxes, transplant


def made_chest(seed: int, shift: int = 0) -> Chest:
    """A made thorax: bright body, two dark lungs with texture, a heart that reaches into the left lung."""
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    lungs = {
        side: (((columns - x - shift) / 22) ** 2 + ((rows - 60) / 42) ** 2 < 1).astype(np.float32)
        for side, x in (("right", 38), ("left", 90))
    }
    noise = np.random.default_rng(seed).normal(0, 0.01, rows.shape)
    image = np.where(lungs["right"] + lungs["left"] > 0, 0.25 + noise, 0.8)
    heart = ((columns - 72 - shift) / 18) ** 2 + ((rows - 80) / 20) ** 2 < 1
    return Chest(np.where(heart, 0.8, image).astype(np.float32), lungs)


def diseased(chest: Chest, row: int, column: int, radius: int = 12, alpha: float = 0.8) -> Chest:
    rows, columns = chest.grid
    spot = np.hypot(rows - row, columns - column) < radius
    return replace(chest, image=np.where(spot, chest.image + alpha * (0.8 - chest.image), chest.image))


@pytest.fixture(scope="module")
def symmetry() -> mirror.Symmetry:
    return mirror.Symmetry.of(made_chest(seed, shift) for seed, shift in enumerate((-2, -1, 0, 1, 2)))


def test_normal_chests_have_nothing_to_heal(symmetry):
    for seed in range(10, 16):
        assert mirror.heal(made_chest(seed, seed % 3 - 1), symmetry) is None


@pytest.mark.parametrize(("side", "column"), [("right", 36), ("left", 98)])
def test_disease_of_one_lung_is_found_and_taken_away(symmetry, side, column):
    clean = made_chest(20)
    ill = diseased(clean, 45, column)
    healed = mirror.heal(ill, symmetry)
    assert healed.side == side
    spot = np.hypot(clean.grid[0] - 45, clean.grid[1] - column) < 8
    before, after = (abs(image - clean.image)[spot].mean() for image in (ill.image, healed.image))
    assert after < 0.3 * before
    # The other lung, the heart and everything outside the lungs stay as they are.
    far = np.hypot(clean.grid[0] - 45, clean.grid[1] - column) > 30
    np.testing.assert_allclose(healed.image[far], ill.image[far], atol=0.004)
    assert (healed.image <= ill.image + 1e-6).all(), "healing added density"
    assert abs(healed.centre[1] - (45 - 18) / 84) < 0.12


def test_disease_of_both_lungs_is_left_alone(symmetry):
    chest = diseased(diseased(made_chest(21), 45, 36), 45, 98)
    assert mirror.heal(chest, symmetry) is None


def test_boxes_confine_healing_and_let_fainter_disease_through(symmetry):
    faint = diseased(made_chest(22), 45, 36, alpha=0.27)
    assert mirror.heal(faint, symmetry) is None
    here, elsewhere = box_mask([(0.18, 0.25, 0.2, 0.2)], 128), box_mask([(0.6, 0.5, 0.2, 0.2)], 128)
    assert mirror.heal(faint, symmetry, here).side == "right"
    assert mirror.heal(faint, symmetry, elsewhere) is None


def test_a_transplant_lies_where_the_lesion_lay_on_either_side(symmetry):
    ill = diseased(made_chest(23), 45, 36)
    healed = mirror.heal(ill, symmetry)
    density = mirror.density(ill, healed)
    assert density.min() >= 0 and 0.5 < density.max() <= 1
    lesion = RealLesion(0, ("consolidation",), "right", "upper", np.zeros((128, 128), np.uint8), density)
    target = made_chest(24)
    for side in ("right", "left"):
        change = transplant([lesion])(target, side, "", 3.0, "PA", np.random.default_rng(0)) - target.image
        assert change.min() > -1e-6
        rows, columns = (float((change * axis).sum() / change.sum()) for axis in target.grid)
        assert abs(rows - 45) < 5
        assert abs(columns - {"right": 37, "left": 91}[side]) < 8
        assert abs(change[target.lungs[side] < 0.5]).max() < 0.2


def test_collect_names_side_and_zone_and_keeps_to_its_split(symmetry):
    chests = [made_chest(30 + i) for i in range(6)]
    chests[4], chests[5] = diseased(chests[4], 80, 36), diseased(chests[5], 45, 98)
    images = np.stack([np.round(chest.image * 255).astype(np.uint8) for chest in chests])
    table = pl.DataFrame(
        {
            "id": [f"nih_{i}" for i in range(6)],
            "group": ["nih"] * 6,
            "split": ["train"] * 5 + ["val"],
            "view": ["PA", "AP"] * 2 + ["PA", "AP"],
            "findings": ["No Finding"] * 4 + ["Effusion", "Consolidation"],
        }
    )
    names = [[], [], [], [], ["pleural effusion"], ["consolidation"]]
    found = collect(images, table, names, lambda row: chests[row], {})
    assert [(lesion.image, lesion.findings, lesion.side, lesion.zone) for lesion in found] == [
        (4, ("pleural effusion",), "right", "lower")
    ]
    # An effusion does not lie at the apex: a label that does not fit the place is not believed.
    chests[4] = diseased(made_chest(34), 35, 36)
    assert collect(images, table, names, lambda row: chests[row], {}) == []


def test_real_lesions_join_the_painters(symmetry):
    ill = diseased(made_chest(23), 45, 36)
    density = mirror.density(ill, mirror.heal(ill, symmetry))
    lesion = RealLesion(0, ("pneumonia",), "right", "upper", np.zeros((128, 128), np.uint8), density)
    outlines = {"Consolidation": [np.array([[0.2, 0.2], [0.4, 0.2], [0.4, 0.4], [0.2, 0.4]], np.float32)]}
    painted, mixed = traits(outlines), traits(outlines, [lesion])
    assert mixed["edema"].painter is painted["edema"].painter
    chest = made_chest(25)
    differ = 0
    for seed in range(12):
        images = [
            kind["pneumonia"].painter(chest, "right", "upper", 3.0, "PA", np.random.default_rng(seed))
            for kind in (painted, mixed)
        ]
        differ += not np.array_equal(*images)
    assert differ


def test_only_boxes_of_opacities_on_images_at_hand_are_read(tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "image_id,finding,x,y,w,h,kind,have_image\n"
        "a,Lung Opacity,0.1,0.2,0.3,0.4,pathology,1\n"
        "a,Pneumonia,0.5,0.2,0.3,0.4,pathology,1\n"
        "b,Lung Opacity,0.1,0.2,0.3,0.4,pathology,0\n"
        "c,Right Lung,0.1,0.2,0.3,0.4,anatomy,1\n"
    )
    with pytest.raises(InputError, match="--data"):
        load_boxes(tmp_path / "nowhere")
    assert load_boxes(tmp_path) == {"a": [(0.1, 0.2, 0.3, 0.4), (0.5, 0.2, 0.3, 0.4)]}
