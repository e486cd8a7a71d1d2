"""What the lung finder promises: bits, sides, sizes, and a plain no where there are no lungs."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from instructx2x.anatomy.lungs import (
    SIZE,
    Lungs,
    bounding_box,
    clean,
    implausibility,
    lung_probabilities,
    network,
    segment_lungs,
)

DATA = Path(__file__).resolve().parents[2].parent / "shared/data/cxr"


def ellipse(height, width, row, column, half_height, half_width):
    y, x = np.mgrid[0:height, 0:width]
    return ((y / height - row) / half_height) ** 2 + ((x / width - column) / half_width) ** 2 <= 1


def phantom(height=300, width=280):
    """A bright trunk before a dark ground with dark lungs, a brighter spine and a heart; and both lungs."""
    right = ellipse(height, width, 0.45, 0.30, 0.34, 0.14)
    left = ellipse(height, width, 0.45, 0.70, 0.34, 0.14)
    image = np.full((height, width), 0.08)
    image[ellipse(height, width, 0.6, 0.5, 0.75, 0.47)] = 0.65
    image[:, int(0.47 * width) : int(0.53 * width)] += 0.15
    image[right | left] = 0.25
    image[ellipse(height, width, 0.62, 0.56, 0.14, 0.13)] = 0.7
    image = ndimage.gaussian_filter(image, 2) + np.random.default_rng(0).normal(0, 0.01, image.shape)
    return np.clip(image, 0, 1).astype(np.float32), right, left


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_weights_are_small_and_complete():
    weights = files("instructx2x.anatomy") / "data/lungs.safetensors"
    assert len(weights.read_bytes()) < 2_000_000
    assert network() is network()
    assert all(torch.isfinite(value).all() for value in network().state_dict().values())


def test_a_phantom_gives_two_lungs_in_the_right_order():
    image, right, left = phantom()
    lungs = segment_lungs(image)
    assert lungs.plausible, lungs.reason
    assert lungs.reason == ""
    assert dice(lungs.right >= 0.5, right) > 0.8
    assert dice(lungs.left >= 0.5, left) > 0.75
    assert lungs.right_box[0] < lungs.left_box[0]
    assert abs(lungs.midline - 0.5) < 0.03
    assert np.array_equal(lungs.both, np.maximum(lungs.right, lungs.left))


def test_the_same_picture_gives_the_same_bits():
    image, _, _ = phantom()
    first, second = segment_lungs(image), segment_lungs(image.copy())
    assert first.right.tobytes() == second.right.tobytes()
    assert first.left.tobytes() == second.left.tobytes()


@pytest.mark.parametrize("shape", [(300, 300), (300, 280)])
def test_a_mirrored_picture_gives_mirrored_lungs_of_the_other_side(shape):
    image, _, _ = phantom(*shape)
    straight, mirrored = segment_lungs(image), segment_lungs(np.ascontiguousarray(image[:, ::-1]))
    for one, other in ((straight.right, mirrored.left), (straight.left, mirrored.right)):
        assert dice(one >= 0.5, other[:, ::-1] >= 0.5) > 0.97
        if shape[0] == shape[1]:  # otherwise the letterbox may lie one pixel off the square's centre
            assert np.abs(one - other[:, ::-1]).max() < 0.01
    assert straight.midline == pytest.approx(1 - mirrored.midline, abs=0.01)


def test_exposure_hardly_matters():
    image, _, _ = phantom()
    usual, pale = segment_lungs(image), segment_lungs(0.4 + 0.3 * image)
    assert pale.plausible
    assert dice(usual.both >= 0.5, pale.both >= 0.5) > 0.95


@pytest.mark.parametrize("shape", [(301, 247), (97, 130), (640, 512), (400, 613), (33, 40)])
def test_masks_have_the_size_of_the_picture(shape):
    lungs = segment_lungs(phantom(*shape)[0])
    for mask in (lungs.right, lungs.left):
        assert mask.shape == shape
        assert mask.dtype == np.float32
        assert 0 <= mask.min() and mask.max() <= 1


@pytest.mark.parametrize("aspect", [(320, 240), (240, 320)])
def test_lungs_lie_where_they_are_in_pictures_that_are_not_square(aspect):
    image, right, left = phantom(*aspect)
    lungs = segment_lungs(image)
    assert lungs.plausible, lungs.reason
    assert dice(lungs.right >= 0.5, right) > 0.75
    assert dice(lungs.left >= 0.5, left) > 0.7


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((256, 256)),
        np.ones((256, 256)),
        np.full((300, 200), 0.5),
        np.random.default_rng(1).random((256, 256)),
        np.clip(ndimage.gaussian_filter(np.random.default_rng(2).normal(0, 1, (256, 256)), 6) * 5 + 0.5, 0, 1),
        np.tile(np.linspace(0, 1, 256), (256, 1)),
        np.full((256, 256), np.nan),
        np.zeros((1, 1)),
        np.random.default_rng(3).random((2, 900)),
        1 - phantom()[0],
    ],
    ids=["black", "white", "gray", "noise", "clouds", "ramp", "nan", "pixel", "strip", "inverted"],
)
def test_what_is_no_chest_is_called_implausible(picture):
    lungs = segment_lungs(picture.astype(np.float32))
    assert not lungs.plausible
    assert lungs.reason and "\n" not in lungs.reason
    assert lungs.right.shape == lungs.left.shape == picture.shape
    assert np.isfinite(lungs.both).all()


def test_a_batch_agrees_with_single_pictures_at_any_size():
    image = phantom(SIZE, SIZE)[0]
    images = torch.from_numpy(np.stack([image, image[:, ::-1]]))[:, None]
    together = lung_probabilities(images)
    assert together.shape == (2, 2, SIZE, SIZE)
    torch.testing.assert_close(together[:1], lung_probabilities(images[:1]), atol=1e-4, rtol=0)
    larger = lung_probabilities(torch.nn.functional.interpolate(images, (256, 256), mode="bilinear"))
    assert larger.shape == (2, 2, 256, 256)
    back = torch.nn.functional.interpolate(larger, (SIZE, SIZE), mode="bilinear")
    assert (back - together).abs().mean() < 0.02


def pair(right, left):
    return np.stack([right, left]).astype(np.float32)


def test_each_rule_of_plausibility_names_its_reason():
    _, right, left = phantom(SIZE, SIZE)
    content = np.ones((SIZE, SIZE), bool)
    nothing, everything = np.zeros_like(right), np.ones_like(right)
    specks = nothing.copy()
    specks[::9, 96::9] = specks[1::9, 96::9] = specks[::9, 97::9] = specks[1::9, 97::9] = True
    small = ndimage.zoom(left.astype(float), 0.5, order=0) > 0.5
    quarter = nothing.copy()
    quarter[50 : 50 + len(small), 90 : 90 + len(small)] = small
    assert implausibility(pair(right, left), content) == ""
    assert "no left lung" in implausibility(pair(right, nothing), content)
    assert "no right lung" in implausibility(pair(nothing, left), content)
    assert "covers" in implausibility(pair(everything, left), content)
    assert "wrong sides" in implausibility(pair(left, right), content)
    assert "overlap" in implausibility(pair(right, right), content)
    assert "several parts" in implausibility(pair(right, specks), content)
    assert "uncertain" in implausibility(0.6 * pair(right, left), content)
    assert "size" in implausibility(pair(right, quarter), content)
    inside = (right | left).astype(np.float32)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    tight = np.zeros_like(content)
    tight[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    assert "all four sides" in implausibility(pair(right, left), tight)


def test_cleaning_keeps_the_largest_part_and_fills_holes():
    _, right, _ = phantom(SIZE, SIZE)
    holed = right.astype(np.float32)
    holed[80:90, 55:60] = 0.1
    holed[5:8, 180:184] = 1
    cleaned = clean(holed)
    assert np.array_equal(cleaned >= 0.5, right)
    assert clean(np.zeros((SIZE, SIZE), np.float32)).max() == 0


def test_boxes_and_midline_are_fractions_of_the_picture():
    mask = np.zeros((50, 100), np.float32)
    mask[10:20, 40:60] = 1
    assert bounding_box(mask) == (0.4, 0.2, 0.2, 0.2)
    assert bounding_box(np.zeros((5, 5))) is None
    right, left = np.zeros((2, 50, 100), np.float32)
    right[10:40, 10:45] = 1
    left[10:40, 60:80] = 1
    assert Lungs(right, left, True).midline == pytest.approx(0.525)
    assert Lungs(right, np.zeros_like(right), False).midline == 0.5


def read_gray(path):
    return np.asarray(Image.open(path).convert("L"), dtype=np.float32) / 255


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the open X-rays are not beside the repository")


@needs_data
@pytest.mark.real_data
def test_the_outline_agrees_with_reviewed_masks():
    from instructx2x.training.lung_data import split_sides

    def agreement(name):
        lungs = segment_lungs(read_gray(next((DATA / "images").glob(f"{name}.*"))))
        truth = split_sides(read_gray(DATA / f"masks/lung/{name}.png") > 0.5)
        assert lungs.plausible, lungs.reason
        return [dice(lungs.right >= 0.5, truth[0]), dice(lungs.left >= 0.5, truth[1])]

    assert min(agreement("han_441c9cdd")) > 0.9  # the one patient that training never sees
    names = [row.split(",")[0] for row in (DATA / "masks.csv").read_text().splitlines()[1::5]]
    assert np.mean([agreement(name) for name in names]) > 0.93


@needs_data
@pytest.mark.real_data
def test_unseen_adults_get_plausible_lungs():
    import polars as pl

    rows = pl.read_csv(DATA / "metadata.csv", infer_schema_length=None)
    rows = rows.filter((pl.col("split") == "val") & (pl.col("qc") == "ok"))
    rows = rows.filter(pl.col("id").str.starts_with("nih_"))
    rows = rows.sort("id").unique("patient_id", keep="first", maintain_order=True).sample(30, seed=0)
    verdicts = [segment_lungs(read_gray(DATA / file)).plausible for file in rows["file"]]
    assert sum(verdicts) > 27
