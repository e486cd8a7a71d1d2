import json
import os

import numpy as np
import pytest
from PIL import Image

from instructx2x.editing import Editor, pictures
from instructx2x.errors import OutputError
from instructx2x.imaging.reading import read

ADD = "Add the finding of left pleural effusion."
QUICK = {"anatomy": "prior", "steps": 2}
FILES = {"edited.png", "guidance_map.png", "comparison.png", "mask.png", "maps.npz", "report.json"}


@pytest.fixture(scope="module")
def editor(tiny_model):
    return Editor.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def result(editor, make_chest):
    return editor.open(make_chest()).edit(ADD, seed=11, **QUICK)


def entries(folder):
    return {path.name for path in folder.iterdir()}


def unsealed(folder):
    """The report without what a seal adds to it."""
    report = json.loads((folder / "report.json").read_text())
    return {key: value for key, value in report.items() if key not in ("schema", "files", "sha256")}


def test_everything_is_written_and_reads_back(result, tmp_path):
    folder = result.save(tmp_path / "deep" / "out")
    assert folder == tmp_path / "deep" / "out" / "image"
    assert entries(folder) == FILES and entries(folder.parent) == {"image"}
    np.testing.assert_array_equal(read(folder / "edited.png").pixels, result.image.pixels)
    maps = np.load(folder / "maps.npz")
    for name in ("relevance", "pseudo_mask", "guidance"):
        assert maps[name].dtype == np.float32
        np.testing.assert_array_equal(maps[name], getattr(result, name))
    assert maps["mask"].dtype == bool
    np.testing.assert_array_equal(maps["mask"], result.mask)
    np.testing.assert_array_equal(maps["relevance_spread"], result.spread)
    assert unsealed(folder) == result.report


def test_pictures_say_that_they_are_synthetic(result, tmp_path):
    folder = result.save(tmp_path)
    for name in ("edited.png", "guidance_map.png", "comparison.png"):
        text = Image.open(folder / name).text
        assert text["Synthetic"] == "yes"
        assert text["Instruction"] == ADD and text["Seed"] == "11"
        assert result.report["model"]["sha256"] in text["Model"]


@pytest.mark.parametrize(
    ("name", "dtype", "maximum", "written", "lossy"),
    [
        ("film.png", np.uint8, 255, "edited.png", False),
        ("deep.png", np.uint16, 65535, "edited.png", False),
        ("scan.tiff", np.uint16, 4000, "edited.tiff", False),
        ("photo.jpg", np.uint8, 255, "edited.png", True),
    ],
)
def test_the_written_file_equals_its_source_outside_the_mask(
    editor, make_chest, tmp_path, name, dtype, maximum, written, lossy
):
    """Guarantees 1 and 6, on the files themselves."""
    source = tmp_path / name
    Image.fromarray(make_chest(90, 75, maximum, dtype)).save(source)
    before = source.read_bytes()
    result = editor.open(source).edit(ADD, **QUICK)
    folder = result.save(tmp_path / "out")
    assert folder.name == source.stem and source.read_bytes() == before
    edited, original = read(folder / written), read(source)
    assert edited.pixels.dtype == original.pixels.dtype
    changed = edited.pixels != original.pixels
    assert changed.any() and not changed[~result.mask].any()
    assert result.report["written_as"] == written and result.report["source"]["lossy"] == lossy
    assert any("loss" in warning for warning in result.report["warnings"]) == lossy


def test_samples_are_written_with_what_they_have_in_common(editor, make_chest, tmp_path):
    result = editor.open(make_chest()).edit(ADD, seed=3, samples=3, **QUICK)
    folder = result.save(tmp_path)
    pictures = {"edited_seed_4.png", "edited_seed_5.png", "edited_mean.png", "samples.png"}
    assert entries(folder) == FILES | pictures
    np.testing.assert_array_equal(read(folder / "edited_seed_5.png").pixels, result.samples[2].pixels)
    np.testing.assert_array_equal(read(folder / "edited_mean.png").pixels, result.sample_mean.pixels)
    for name, seed in (("edited_seed_5.png", "5"), ("edited_mean.png", "3 to 5"), ("samples.png", "3 to 5")):
        text = Image.open(folder / name).text
        assert (text["Synthetic"], text["Seed"], text["Mask of seed"]) == ("yes", seed, "3")
    with np.load(folder / "maps.npz") as maps:
        np.testing.assert_array_equal(maps["sample_spread"], result.sample_spread)
        np.testing.assert_array_equal(maps["mask_frequency"], result.mask_frequency)


def test_where_nothing_is_edited_there_is_no_mean_edit(editor, make_chest, tmp_path):
    nowhere = np.zeros((96, 80), bool)
    folder = editor.open(make_chest()).edit(ADD, samples=2, region=nowhere, **QUICK).save(tmp_path)
    assert entries(folder) == FILES | {"edited_seed_1.png", "samples.png"}


def test_guidance_alone_writes_its_maps(editor, make_chest, tmp_path):
    folder = editor.open(make_chest()).guidance(ADD, anatomy="prior").save(tmp_path)
    assert entries(folder) == {"guidance_map.png", "mask.png", "maps.npz", "report.json"}


def test_an_earlier_result_is_only_replaced_when_asked(result, tmp_path):
    folder = result.save(tmp_path)
    (folder / "report.json").write_text("{}")
    with pytest.raises(OutputError, match="overwrite"):
        result.save(tmp_path)
    assert (folder / "report.json").read_text() == "{}"
    result.save(tmp_path, overwrite=True)
    assert unsealed(folder) == result.report
    assert entries(tmp_path) == {"image"} and entries(folder) == FILES


def test_nothing_but_a_result_is_ever_replaced(result, tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a result"):
        result.save(tmp_path, overwrite=True)
    assert (tmp_path / "image" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("failing", ["write", "write_png", "_write_maps", "seal"])
def test_a_result_appears_whole_or_not_at_all(result, tmp_path, monkeypatch, failing, overwrite):
    """Guarantee 6: a full disk at any moment leaves what was there, and nothing half written."""
    if overwrite:
        result.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"instructx2x.editing.result.{failing}", full)
    with pytest.raises(OutputError, match="No space left"):
        result.save(tmp_path, overwrite=overwrite)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert entries(tmp_path) == ({"image"} if overwrite else set())


def test_an_earlier_result_survives_a_failing_move(result, tmp_path, monkeypatch):
    folder = result.save(tmp_path)
    rename = os.rename

    def refuse(source, target):
        if str(source).endswith("new"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr("instructx2x.results.folders.os.rename", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        result.save(tmp_path, overwrite=True)
    assert entries(tmp_path) == {"image"} and entries(folder) == FILES


def test_places_that_cannot_be_written(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        result.save(tmp_path / "file")
    with pytest.raises(OutputError):
        result.save(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="too long"):
        result.save(tmp_path, name="n" * 300)
    for name in ("..", ".", "a/b"):
        with pytest.raises(OutputError, match="name"):
            result.save(tmp_path, name=name)


def test_overlay_keeps_the_inputs_brightness_and_normalises_nothing(make_chest):
    """Row 13: where nothing guides, the picture is the input; the veil has one scale for all pictures."""
    display = make_chest().astype(np.float32) / 255
    nothing = np.zeros(display.shape, np.float32)
    picture = pictures.overlay(display, nothing, nothing > 0, nothing)
    np.testing.assert_array_equal(picture, np.repeat(make_chest()[..., None], 3, axis=2))
    weak, strong = nothing.copy(), nothing.copy()
    weak[40:60, 40:60], strong[40:60, 40:60] = 0.2, 0.9
    redness = [
        int(shown[50, 50, 0]) - int(shown[50, 50, 1])
        for shown in (pictures.overlay(display, guided, nothing > 0, nothing) for guided in (weak, strong))
    ]
    assert 10 < redness[0] < redness[1] / 3


def test_an_empty_overlay_still_shows_where_it_looked(make_chest):
    display = make_chest().astype(np.float32) / 255
    nothing, allowed = np.zeros(display.shape, np.float32), np.zeros(display.shape, np.float32)
    allowed[20:70, 45:70] = 1
    picture = pictures.overlay(display, nothing, nothing > 0, allowed).astype(int)
    assert (picture[20, 50] != picture[25, 50]).any() and picture[20, 50, 2] > picture[20, 50, 0]


def test_large_pictures_are_shrunk():
    display = np.zeros((100, 5000), np.float32)
    picture = pictures.overlay(display, display, display > 0, display)
    assert picture.shape == (41, pictures.OVERLAY_SIDE, 3)
    assert pictures.comparison(display, display, picture).shape[1] < 4 * (pictures.PANEL_SIDE + 20)


def test_difference_is_signed():
    before = np.full((4, 4), 0.5, np.float32)
    after = before.copy()
    after[0], after[1] = 0.7, 0.4
    change, scale = pictures.difference(before, after)
    assert scale == pytest.approx(0.2)
    assert (change[0, :, 0] > change[0, :, 2]).all() and (change[1, :, 2] > change[1, :, 0]).all()
    assert not change[2:].any()
