import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from instructx2x.editing import Editor, guidance, planning, sampling
from instructx2x.errors import AnatomyError, InputError, InstructionError
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.reading import from_array
from instructx2x.instructions import FINDINGS, parse

ADD = "Add the finding of left pleural effusion."
REMOVE = "Remove the finding of left pleural effusion."
# No lungs are looked for and few steps are done: most properties hold for any anatomy and number of steps.
QUICK = {"anatomy": "prior", "steps": 3}


@pytest.fixture(scope="session")
def editor(tiny_model):
    return Editor.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def uncalibrated(tiny_uncalibrated_model):
    return Editor.from_pretrained(tiny_uncalibrated_model, device="cpu")


@pytest.fixture(scope="session")
def study(editor, make_chest):
    return editor.open(make_chest())


def assert_confined(result):
    source, edited = result.source, result.image
    assert edited.pixels.shape == source.pixels.shape and edited.pixels.dtype == source.pixels.dtype
    assert edited.bits == source.bits
    np.testing.assert_array_equal(edited.pixels[~result.mask], source.pixels[~result.mask])
    assert result.report["pixels_changed_outside_mask"] == 0
    for name in ("relevance", "spread", "pseudo_mask", "guidance"):
        values = getattr(result, name)
        assert values.shape == source.pixels.shape and values.dtype == np.float32
        assert values.min() >= 0 and values.max() <= 1
    assert result.mask.dtype == bool


@pytest.mark.parametrize("profile", ["default", "official"])
@pytest.mark.parametrize(
    ("height", "width", "maximum", "dtype"),
    [
        (64, 64, 255, np.uint8),
        (97, 71, 255, np.uint8),
        (71, 140, 4095, np.uint16),
        (200, 33, 65535, np.uint16),
        (130, 97, 2047, np.int16),
    ],
)
def test_outside_the_mask_every_pixel_is_the_sources(editor, make_chest, height, width, maximum, dtype, profile):
    """Rows 10 and 12, guarantee 1: at any size and depth, non-square too."""
    opened = editor.open(make_chest(height, width, maximum, dtype))
    result = opened.edit(ADD, profile=profile, **QUICK)
    assert_confined(result)
    assert 0 < result.mask.mean() < 1
    assert result.report["pixels_changed"] > 0
    assert result.latents.shape == (1, 4, 8, 8) and result.latents.dtype == torch.float32


def test_the_mask_is_the_thresholded_product(study):
    """Rows 11 and 13: R, M_pseudo, G and M are returned, and belong together."""
    result = study.edit(ADD, threshold=0.25, **QUICK)
    np.testing.assert_array_equal(result.guidance, result.pseudo_mask * result.relevance)
    np.testing.assert_array_equal(result.mask, result.guidance >= 0.25)


def test_without_relevance_the_anatomy_alone_confines(study):
    """The ablation "mask only": R is 1, so G is M_pseudo."""
    result = study.edit(ADD, relevance=False, **QUICK)
    np.testing.assert_array_equal(result.relevance, 1)
    np.testing.assert_array_equal(result.guidance, result.pseudo_mask)
    assert_confined(result)
    assert result.report["parameters"]["relevance"] is False and result.report["relevance"]["timesteps"] == []
    maps = study.guidance(ADD, relevance=False, anatomy="prior")
    np.testing.assert_array_equal(maps.mask, result.mask)


def test_without_relevance_and_anatomy_nothing_confines(make_tiny_model, tmp_path, make_chest):
    """A model for which every cell is fully relevant: its edits without anatomy are those of plain InstructPix2Pix."""
    editor = Editor.from_pretrained(make_tiny_model(tmp_path / "open", calibration=None), device="cpu")
    editor.backbone.calibration = {
        "timesteps": {"800": {"null_p99": -2e6, "inside_median": -1e6}},
        "tau": 0.1,
        "text_guidance": 5.0,
        "image_guidance": 1.3,
    }
    study = editor.open(make_chest(90, 70))
    plain = study.edit(ADD, seed=3, anatomy="none", relevance=False)
    relevant = study.edit(ADD, seed=3, anatomy="none")
    assert plain.mask.all() and relevant.mask.all()
    np.testing.assert_array_equal(plain.image.pixels, relevant.image.pixels)
    confined = study.edit(ADD, seed=3, anatomy="none", relevance=False, region="10,10,20,20")
    assert (confined.image.pixels != plain.image.pixels).any()
    assert (plain.image.pixels != study.radiograph.pixels).mean() > 0.5


def test_the_official_profile_has_no_switch_for_relevance(study):
    with pytest.raises(InputError, match="always follows its relevance"):
        study.edit(ADD, profile="official", relevance=False)


@pytest.mark.parametrize("profile", ["default", "official"])
def test_same_seed_same_bytes_and_other_seed_other_image(study, profile):
    """Row 9, guarantee 2."""
    first, again, other = (study.edit(ADD, seed=seed, profile=profile, **QUICK) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image.pixels, again.image.pixels)
    np.testing.assert_array_equal(first.relevance, again.relevance)
    assert torch.equal(first.latents, again.latents)
    assert (first.image.pixels != other.image.pixels).any()
    assert (first.relevance != other.relevance).any()


def test_the_batch_does_not_matter(editor, study, make_chest):
    """Row 9, guarantee 2."""
    second = editor.open(make_chest(71, 140, 4095, np.uint16, seed=1))
    items = [(study, ADD, 1), (second, "Remove the finding of edema.", 2), (study, ADD, 3)]
    for (opened, instruction, seed), batched in zip(items, editor.edit_batch(items, **QUICK), strict=True):
        alone = opened.edit(instruction, seed=seed, **QUICK)
        np.testing.assert_array_equal(batched.image.pixels, alone.image.pixels)
        assert torch.equal(batched.latents, alone.latents)


def test_the_global_generator_is_neither_used_nor_moved(study):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = study.edit(ADD, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    np.testing.assert_array_equal(study.edit(ADD, **QUICK).image.pixels, first.image.pixels)


def test_noise_given_from_outside_replays_the_seed(study):
    """`noise` and `relevance_noise` are the generator's own draws, in this order."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    relevance_noise = torch.randn(4, 4, 8, 8, generator=generator)
    seeded = study.edit(ADD, seed=7, **QUICK)
    for given in (
        {"noise": noise},
        {"relevance_noise": relevance_noise},
        {"noise": noise, "relevance_noise": relevance_noise},
    ):
        replayed = study.edit(ADD, seed=7, **given, **QUICK)
        assert torch.equal(replayed.latents, seeded.latents)
    other = study.edit(ADD, seed=7, noise=noise + 1, **QUICK)
    np.testing.assert_array_equal(other.relevance, seeded.relevance)
    assert not torch.equal(other.latents, seeded.latents)


@pytest.mark.parametrize("name", ["noise", "relevance_noise"])
def test_noise_of_another_shape_is_refused(study, name):
    for shape in ((4, 8, 8), (1, 4, 8, 9), (0, 4, 8, 8)):
        with pytest.raises(InputError, match=name):
            study.edit(ADD, **{name: torch.zeros(shape)}, **QUICK)


@pytest.mark.parametrize(("side", "half"), [("left", slice(48, None)), ("right", slice(None, 48))])
def test_a_side_keeps_the_edit_on_that_side_of_the_patient(editor, make_chest, side, half):
    """Row 4, guarantee 4: the patient's left is the image's right."""
    opened = editor.open(make_chest(96, 96))
    result = opened.edit(f"Add the finding of {side} pleural effusion.", **QUICK)
    changed = result.image.pixels != result.source.pixels
    assert changed.any()
    changed[:, half] = False
    assert not changed.any()


def test_the_patients_own_anatomy_is_the_default(study):
    result = study.edit(ADD, steps=2)
    assert_confined(result)
    assert result.report["parameters"]["anatomy"] == "default"
    patient = study.guidance(ADD, anatomy="patient")
    np.testing.assert_array_equal(result.pseudo_mask, patient.pseudo_mask)


def test_a_wide_image_is_edited_on_its_own_pixels_alone(editor, make_chest):
    """Row 10: the letterbox bars are never edited, in the latents either."""
    opened = editor.open(make_chest(40, 160))
    result = opened.edit(ADD, anatomy="none", steps=3)
    assert_confined(result)
    top, bottom, _, _ = Frame(40, 160, 64).content
    z0 = opened.view("letterbox").z0
    assert torch.equal(result.latents[:, :, : top // 8], z0[:, :, : top // 8])
    assert torch.equal(result.latents[:, :, -(-bottom // 8) :], z0[:, :, -(-bottom // 8) :])
    assert not torch.equal(result.latents, z0)


def test_nothing_to_edit_gives_the_source_back(make_tiny_model, tmp_path, make_chest):
    """Row 7, guarantee 5: on a calibrated scale the model can say that nothing is to be done."""
    quiet = {"version": 1, "timesteps": {"800": {"null_p99": 1e3, "inside_median": 1e4}}}
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=quiet)).open(make_chest())
    steps = []
    result = opened.edit(ADD, callback=lambda *step: steps.append(step), **QUICK)
    np.testing.assert_array_equal(result.image.pixels, result.source.pixels)
    assert not result.mask.any() and not steps
    assert torch.equal(result.latents, opened.view("letterbox").z0)
    assert any("nothing to edit" in warning for warning in result.report["warnings"])


def test_what_holds_already_gives_the_source_back(make_tiny_model, tmp_path, make_chest):
    """Guarantee 5: where the opposite would change more, by the model's own measure, nothing is to be done."""
    plain = {"version": 1, "timesteps": {}}
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=plain)).open(make_chest())
    without = opened.guidance(ADD)
    assert "balance" not in without.report["relevance"]
    told = {}

    def least(add: float, remove: float) -> None:
        opened.editor.backbone.calibration = plain | {"least_balance": {"add": add, "remove": remove}}

    for text in (ADD, REMOVE):
        least(1e-9, 1e-9)
        kept = opened.edit(text, **QUICK)
        told[text] = kept.report["relevance"]["balance"]
        assert kept.mask.any() and not any("hold already" in warning for warning in kept.report["warnings"])
        least(1e9, 1e9)
        held = opened.edit(text, **QUICK)
        np.testing.assert_array_equal(held.image.pixels, held.source.pixels)
        assert not held.mask.any() and held.report["relevance"]["balance"] == told[text]
        assert any("hold already" in warning for warning in held.report["warnings"])
        assert any("nothing to edit" in warning for warning in held.report["warnings"])
        assert opened.edit(text, relevance=False, **QUICK).mask.any(), "the way around it"
    assert told[ADD] * told[REMOVE] == pytest.approx(1, rel=1e-3)
    # D of the instruction itself does not depend on its opposite, but for the last bits of another batch.
    least(1e-9, 1e-9)
    np.testing.assert_allclose(opened.guidance(ADD).relevance, without.relevance, atol=1e-4)
    # Each operation has its own, and a change and the official profile have none.
    least(1e9, 1e-9)
    assert not opened.guidance(ADD).mask.any() and opened.guidance(REMOVE).mask.any()
    least(1e9, 1e9)
    assert opened.guidance("Change the level of left pleural effusion from mild to moderate.").mask.any()
    assert opened.guidance(ADD, profile="official").mask.any()
    opened.editor.backbone.calibration = plain | {"least_balance": {"remove": 1e9}}
    assert opened.guidance(ADD).mask.any() and not opened.guidance(REMOVE).mask.any()


HEALS = {"version": 1, "timesteps": {}, "heals": True}
LESSEN = "Change the level of left pleural effusion from large to small."


def blank_of(opened, monkeypatch, text, **options):
    """The blank that an edit was sampled with, and its result."""
    seen = []
    sample = sampling.sample

    def spy(*args, blank=None, **named):
        seen.append(blank)
        return sample(*args, blank=blank, **named)

    with monkeypatch.context() as patched:
        patched.setattr(sampling, "sample", spy)
        result = opened.edit(text, **{**QUICK, **options})
    return seen[0], result


def test_a_model_that_heals_does_not_see_what_it_takes_away(make_tiny_model, tmp_path, make_chest, monkeypatch):
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=HEALS)).open(make_chest())
    plans = {}
    for text in (REMOVE, LESSEN):
        blank, result = blank_of(opened, monkeypatch, text)
        assert_confined(result)
        assert 0 <= blank.min() and 0.5 < blank.max() <= 1
        assert result.report["mask"]["hidden_latent_cells"] == pytest.approx(float(blank.sum()), abs=0.01)
        frame = Frame(*opened.display.shape, opened.editor.backbone.size)
        assert not blank[~torch.from_numpy(guidance.latent_mask(result.mask, frame, len(blank)))].any()
        again = opened.edit(text, **QUICK)
        np.testing.assert_array_equal(again.image.pixels, result.image.pixels)
        plans[text] = blank
    both, _ = blank_of(opened, monkeypatch, REMOVE + " Add the finding of right pleural effusion.")
    columns = both.any(dim=0)
    assert columns.any() and torch.equal(columns, columns & plans[REMOVE].any(dim=0)), "hidden where something is added"


@pytest.mark.parametrize(
    "text", [ADD, LESSEN.replace("from large to small", "from small to large"), LESSEN.replace("from large ", "")]
)
def test_what_is_not_lessened_for_certain_is_seen(make_tiny_model, tmp_path, make_chest, monkeypatch, text):
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=HEALS)).open(make_chest())
    assert blank_of(opened, monkeypatch, text)[0] is None


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        (REMOVE, -1),
        (LESSEN, -1),
        (REMOVE + " Remove the finding of nodule.", -1),
        ("Remove the finding of left pneumothorax.", 1),
        (REMOVE + " Remove the finding of left pneumothorax.", 0),
        ("Remove the finding of scoliosis.", 0),
        (REMOVE + " Add the finding of right pleural effusion.", 0),
        (ADD, 0),
    ],
)
def test_in_which_direction_alone_brightness_can_go(text, direction):
    assert planning.brightness_direction(parse(text)) == direction


def test_dense_and_lucent_findings_are_findings_and_not_both():
    assert set(FINDINGS) > planning.DENSE | planning.LUCENT and not planning.DENSE & planning.LUCENT


@pytest.mark.parametrize("heals", [False, None])
def test_other_models_see_what_they_take_away(make_tiny_model, tmp_path, make_chest, monkeypatch, heals):
    told = {key: value for key, value in (HEALS | {"heals": heals}).items() if value is not None}
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=told)).open(make_chest())
    blank, result = blank_of(opened, monkeypatch, REMOVE)
    assert blank is None and "hidden_latent_cells" not in result.report["mask"]


def test_the_official_profile_hides_nothing(make_tiny_model, tmp_path, make_chest, monkeypatch):
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=HEALS)).open(make_chest())
    assert blank_of(opened, monkeypatch, REMOVE, profile="official")[0] is None


def test_of_several_edits_those_that_hold_already_are_left_out(make_tiny_model, tmp_path, make_chest):
    """Each edit is decided for itself; the model is told the others alone, and the report tells of all."""
    plain = {"version": 1, "timesteps": {}, "text_guidance_of": {"remove": {"edema": 9.0}}}
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=plain)).open(make_chest())
    other = "Remove the finding of edema."

    def least(add: float, remove: float) -> None:
        opened.editor.backbone.calibration = plain | {"least_balance": {"add": add, "remove": remove}}

    least(1e-9, 1e9)
    both = opened.edit(f"{ADD} {other}", **QUICK)
    alone = opened.edit(ADD, **QUICK)
    told = both.report["instruction"]
    assert [edit["finding"] for edit in told["edits"]] == ["pleural effusion", "edema"]
    assert told["given_to_model"] == ADD and told["tokens"] == alone.report["instruction"]["tokens"]
    assert told["outcomes"][0] == "done" and told["outcomes"][1].startswith("skipped: ")
    (warning, _) = (line for line in both.report["warnings"] if "hold" in line)
    assert other in warning and "skipped" in warning
    # As if nothing else had been asked for, to the last bit; the guidance of what is left out counts no more.
    assert both.report["parameters"] == alone.report["parameters"]
    np.testing.assert_array_equal(both.image.pixels, alone.image.pixels)
    np.testing.assert_array_equal(both.guidance, alone.guidance)
    assert [entry["finding"] for entry in both.report["verification"]["findings"]] == ["pleural effusion"]
    assert [found["least_balance"] for found in both.report["relevance"]["balances"]] == [1e-9, 1e9]
    np.testing.assert_array_equal(opened.guidance(f"{ADD} {other}").guidance, alone.guidance)

    least(1e-9, 1e-9)
    every = opened.edit(f"{ADD} {other}", **QUICK).report
    assert every["instruction"]["outcomes"] == ["done", "done"] and every["parameters"]["text_guidance"] == 9
    least(1e9, 1e9)
    held = opened.edit(f"{ADD} {other}", samples=2, **QUICK)
    assert not held.mask.any() and not held.mask_frequency.any()
    np.testing.assert_array_equal(held.image.pixels, held.source.pixels)
    assert all(outcome.startswith("skipped: ") for outcome in held.report["instruction"]["outcomes"])
    # A change that no balance is known of is done, and so is all where no relevance is used.
    mixed = f"{other} Change the level of left pleural effusion to severe."
    assert opened.guidance(mixed).report["instruction"]["outcomes"][1] == "done"
    assert opened.guidance(f"{ADD} {other}", relevance=False).report["instruction"]["outcomes"] == ["done", "done"]


def test_an_edit_that_reaches_nothing_is_not_said_to_be_done(make_tiny_model, tmp_path, make_chest):
    quiet = {"version": 1, "timesteps": {"800": {"null_p99": 1e3, "inside_median": 1e4}}}
    opened = Editor.from_pretrained(make_tiny_model(tmp_path / "m", calibration=quiet)).open(make_chest())
    (outcome,) = opened.guidance(ADD).report["instruction"]["outcomes"]
    assert outcome.startswith("skipped: ") and "threshold" in outcome


def test_uncalibrated_is_said_and_normalised_inside_the_anatomy(uncalibrated, make_chest):
    """Rows 7 and 8."""
    result = uncalibrated.open(make_chest()).edit(ADD, **QUICK)
    assert not any("uncalibrated" in warning for warning in result.report["warnings"]), "a fact of the model"
    assert "uncalibrated" in result.report["relevance"]["normalised"]
    assert result.report["model"]["calibrated"] is False
    assert_confined(result)
    # The right lung has no say: R is zero there, but for the interpolation between cells.
    assert not result.relevance[:, :20].any()


def test_spread_is_reported_where_draws_disagree(study):
    """Row 6."""
    several = study.guidance(ADD, anatomy="prior")
    assert several.report["relevance"]["draws"] == 4 and several.spread.any()
    single = study.guidance(ADD, anatomy="prior", relevance_noise=torch.ones(1, 4, 8, 8))
    assert single.report["relevance"]["draws"] == 1 and not single.spread.any()


def test_guidance_alone_is_that_of_the_edit(study):
    maps, result = study.guidance(ADD, seed=3, anatomy="prior"), study.edit(ADD, seed=3, **QUICK)
    for name in ("relevance", "spread", "pseudo_mask", "guidance", "mask"):
        np.testing.assert_array_equal(getattr(maps, name), getattr(result, name))


def test_region_and_protect_narrow_the_edit(study):
    whole = study.edit(ADD, anatomy="none", steps=3)
    region = np.zeros(study.display.shape, bool)
    region[30:60, 20:60] = True
    protect = np.zeros(study.display.shape, np.uint8)
    protect[:, 40:] = 255
    result = study.edit(ADD, anatomy="none", region=region, protect=protect, steps=3)
    np.testing.assert_array_equal(result.mask, whole.mask & region & (protect == 0))
    assert_confined(result)
    with pytest.raises(InputError, match="region"):
        study.edit(ADD, region=region[1:], **QUICK)
    with pytest.raises(InputError, match="official"):
        study.edit(ADD, region=region, profile="official", steps=2)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_a_region_is_read_from_any_kind_of_picture(study, tmp_path, mode):
    region = np.zeros(study.display.shape, np.uint8)
    region[30:60, 20:60] = 255
    Image.fromarray(region).convert(mode).save(tmp_path / "region.png")
    expected = study.guidance(ADD, anatomy="none", region=region // 255).mask
    np.testing.assert_array_equal(study.guidance(ADD, anatomy="none", region=tmp_path / "region.png").mask, expected)


def test_boxes_are_the_regions_that_they_name(study):
    height, width = study.display.shape
    region = np.zeros((height, width), bool)
    region[30:60, 20:60] = region[5:9, 70 : width + 50] = True
    boxes = f"20,30,40,30; 70,5,{width},4"
    for flag in ("region", "protect"):
        by_boxes, by_array = (study.guidance(ADD, anatomy="none", **{flag: each}) for each in (boxes, region))
        np.testing.assert_array_equal(by_boxes.mask, by_array.mask)
        told = by_boxes.report["mask"][flag]
        assert told == {"from": boxes, "fraction": region.mean()}
        assert by_array.report["mask"][flag]["from"] == "an array"
    with pytest.raises(InputError, match="no pixel"):
        study.guidance(ADD, region=f"{width},0,10,10")


def test_regions_that_cannot_be_read(study, tmp_path):
    (tmp_path / "text.png").write_text("a mask")
    Image.new("L", (3, 3)).save(tmp_path / "small.png")
    for path in (tmp_path / "nowhere.png", tmp_path / "text.png", tmp_path / "small.png", tmp_path):
        with pytest.raises(InputError, match="protect"):
            study.guidance(ADD, anatomy="none", protect=path)


@pytest.mark.parametrize("profile", ["default", "official"])
def test_every_sample_keeps_to_the_one_mask_that_is_published(study, profile):
    result = study.edit(ADD, seed=4, samples=4, profile=profile, **QUICK)
    assert 0 < result.mask.mean() < 1 and len(result.samples) == 4
    for sample in result.samples:
        np.testing.assert_array_equal(sample.pixels[~result.mask], result.source.pixels[~result.mask])
    assert len({sample.pixels.tobytes() for sample in result.samples}) == 4
    assert not result.sample_spread[~result.mask].any()


@pytest.mark.parametrize("scheduler", ["dpm++", "euler-ancestral"])
def test_samples_differ_in_the_noise_of_sampling_alone(study, scheduler):
    """A sample is the edit of its own seed with the first seed's relevance noise; the first is that of no others."""
    generator = torch.Generator().manual_seed(4)
    torch.randn(1, 4, 8, 8, generator=generator)
    planned = torch.randn(4, 4, 8, 8, generator=generator)
    options = {"scheduler": scheduler, **QUICK}
    result, single = (study.edit(ADD, seed=4, samples=samples, **options) for samples in (3, 1))
    np.testing.assert_array_equal(result.image.pixels, single.image.pixels)
    np.testing.assert_array_equal(result.mask, single.mask)
    assert torch.equal(result.latents, single.latents)
    for number, sample in enumerate(result.samples):
        alone = study.edit(ADD, seed=4 + number, relevance_noise=planned, **options)
        np.testing.assert_array_equal(sample.pixels, alone.image.pixels)


@pytest.mark.parametrize("profile", ["default", "official"])
def test_mask_frequency_counts_the_seeds_own_masks(study, profile):
    result = study.edit(ADD, seed=4, samples=3, profile=profile, **QUICK)
    masks = [study.guidance(ADD, seed=seed, profile=profile, anatomy="prior").mask for seed in (4, 5, 6)]
    np.testing.assert_allclose(result.mask_frequency, np.mean(masks, axis=0), atol=1e-6)
    assert len(np.unique(result.mask_frequency)) > 2, "the masks of these seeds should differ"
    assert result.mask_frequency.dtype == np.float32


def test_samples_are_counted_and_compared(study):
    steps = []
    result = study.edit(ADD, samples=3, callback=lambda done, total, latents: steps.append(done), **QUICK)
    assert result.report["samples"] == 3 and steps == [1, 2, 3] * 3
    assert result.samples[0] is result.image
    displays = np.stack([sample.display() for sample in result.samples])
    np.testing.assert_allclose(result.sample_spread, displays.std(axis=0), atol=1e-5)
    np.testing.assert_allclose(result.sample_mean.display(), displays.mean(axis=0), atol=0.5 / 255 + 1e-5)
    np.testing.assert_array_equal(result.sample_mean.pixels[~result.mask], result.source.pixels[~result.mask])
    single = study.edit(ADD, **QUICK)
    assert single.sample_spread is single.sample_mean is single.mask_frequency is None
    for wrong in (0, 65, 1.5, True):
        with pytest.raises(InputError, match="samples"):
            study.edit(ADD, samples=wrong, **QUICK)
    with pytest.raises(InputError, match="noise"):
        study.edit(ADD, samples=2, noise=torch.zeros(1, 4, 8, 8), **QUICK)


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler-ancestral", "unipc"])
def test_any_scheduler(study, scheduler):
    first, again = (study.edit(ADD, scheduler=scheduler, **QUICK) for _ in range(2))
    assert_confined(first)
    assert torch.equal(first.latents, again.latents)
    assert first.report["parameters"]["scheduler"] == scheduler


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(tiny_model, make_chest, dtype):
    result = Editor.from_pretrained(tiny_model, device="cpu", dtype=dtype).open(make_chest()).edit(ADD, **QUICK)
    assert_confined(result)
    assert result.report["model"]["dtype"] == dtype


def test_the_model_is_told_the_canonical_text(study):
    typed = "  please ADD the finding of a LEFT-sided effusion "
    result = study.edit(typed, **QUICK)
    assert result.report["instruction"]["text"] == typed
    assert result.report["instruction"]["given_to_model"] == ADD
    np.testing.assert_array_equal(result.image.pixels, study.edit(ADD, **QUICK).image.pixels)


def test_official_tells_the_model_what_was_typed(study):
    typed = "add LEFT pleural effusion"
    assert study.guidance(typed, profile="official").report["instruction"]["given_to_model"] == typed


def test_official_takes_text_outside_the_grammar(study):
    """Row 2, left column: no name recognised opens the whole image; ours says so."""
    result = study.guidance("make it worse", profile="official")
    assert (result.pseudo_mask == 1).all()
    assert any("whole image" in warning for warning in result.report["warnings"])
    with pytest.raises(InstructionError):
        study.guidance("make it worse")


@pytest.mark.parametrize("instruction", [None, 7, b"Add edema", "Add edema. " * 1000, "\ud800", ""])
def test_instructions_that_are_no_text(study, instruction):
    with pytest.raises(InstructionError):
        study.guidance(instruction)


def test_official_survives_any_text(study):
    study.guidance("\ud800 \x00 \N{GRINNING FACE}", profile="official")


def test_a_text_longer_than_the_model_reads(make_tiny_model, tmp_path, make_chest):
    """Cut off in silence, an instruction loses edits; only the official profile does that, and says so."""
    short = Editor.from_pretrained(make_tiny_model(tmp_path / "m", model_max_length=20)).open(make_chest())
    with pytest.raises(InstructionError, match=r"37 tokens.* 20"):
        short.edit(ADD, **QUICK)
    report = short.guidance(ADD, profile="official").report
    assert any("37 tokens" in warning for warning in report["warnings"])


def test_a_missing_mask_is_an_error_not_the_whole_image(study, tmp_path):
    """Row 1."""
    for profile in ("default", "official"):
        for anatomy in (tmp_path, tmp_path / "nowhere", "imaginary"):
            with pytest.raises(AnatomyError):
                study.edit(ADD, profile=profile, anatomy=anatomy, steps=2)
    with pytest.raises(AnatomyError, match="patient"):
        study.edit(ADD, profile="official", anatomy="patient", steps=2)


def test_official_masks_of_a_folder_are_used(study, tmp_path):
    mask = np.zeros((512, 512), np.uint8)
    mask[256:, 256:] = 1
    np.save(tmp_path / "pseudo_mask_Effusion.npy", mask)
    result = study.edit(ADD, profile="official", anatomy=tmp_path, steps=3)
    assert_confined(result)
    assert result.mask.any() and not result.mask[:46].any() and not result.mask[:, :38].any()


def test_official_at_the_working_size_is_untouched_by_geometry(editor, make_chest):
    """At the model's size nothing is resampled: the composite's bytes are the rounded decoded brightness."""
    opened = editor.open(make_chest(64, 64))
    result = opened.edit(ADD, profile="official", anatomy="none", steps=3)
    decoded = editor.backbone.decode(result.latents)[0].mean(0).detach().numpy()
    expected = np.where(result.mask, np.round(decoded * 255), result.source.pixels)
    np.testing.assert_allclose(result.image.pixels, expected, atol=1)


def test_flat_relevance_in_the_official_profile_is_said(study, monkeypatch):
    """Row 7: where the official code gives NaN, nothing is edited."""
    monkeypatch.setattr("instructx2x.editing.relevance.differences", lambda *_: np.full((1, 1, 1, 8, 8), 0.5, "f"))
    result = study.edit(ADD, profile="official", steps=2)
    np.testing.assert_array_equal(result.image.pixels, result.source.pixels)
    assert any("flat" in warning for warning in result.report["warnings"])


def test_an_image_is_encoded_once(editor, make_chest, monkeypatch):
    calls = []
    encode = editor.backbone.encode
    monkeypatch.setattr(editor.backbone, "encode", lambda image: calls.append(1) or encode(image))
    opened = editor.open(make_chest())
    for seed in range(3):
        opened.edit(ADD, seed=seed, **QUICK)
    assert len(calls) == 1


def test_the_models_drawing_of_the_input_is_made_once(editor, make_chest, monkeypatch):
    calls = []
    decode = editor.backbone.decode
    monkeypatch.setattr(editor.backbone, "decode", lambda latents: calls.append(1) or decode(latents))
    editor.open(make_chest()).edit(ADD, samples=3, **QUICK)
    assert len(calls) == 3 + 1


def test_what_reading_warned_of_is_in_the_report(editor, make_chest):
    radiograph = replace(from_array(make_chest()), warnings=("it was turned upright",))
    for result in (editor.open(radiograph).edit(ADD, **QUICK), editor.open(radiograph).guidance(ADD, anatomy="prior")):
        assert result.report["warnings"][0] == "it was turned upright"


def test_callback_sees_every_step(study):
    steps = []
    study.edit(ADD, callback=lambda done, total, latents: steps.append((done, total)), **QUICK)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_the_source_is_not_touched(editor, make_chest):
    """Guarantee 6."""
    pixels = make_chest()
    before = pixels.copy()
    editor.open(pixels).edit(ADD, **QUICK)
    np.testing.assert_array_equal(pixels, before)


def test_numpys_whole_numbers_are_seeds(study):
    plain = study.guidance(ADD, seed=7, anatomy="prior")
    for kind in (np.int64, np.uint8):
        result = study.guidance(ADD, seed=kind(7), anatomy="prior")
        np.testing.assert_array_equal(result.relevance, plain.relevance)
        assert type(result.report["seed"]) is int and json.dumps(result.report)


@pytest.mark.parametrize("wrong", [-1, 2**63, 1.5, True, "7", None, np.float64(7), np.True_, np.int64(-1)])
def test_seeds_that_cannot_be_used(study, wrong):
    with pytest.raises(InputError, match="seed"):
        study.edit(ADD, seed=wrong, **QUICK)


def test_the_number_of_threads_is_told(study, monkeypatch):
    """Sums of floats depend on how they are split, so it decides bytes as the seed does."""
    assert study.guidance(ADD).report["model"]["threads"] == torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert study.guidance(ADD).report["model"]["threads"] == 7


def test_report_is_complete_and_plain(study):
    result = study.edit(ADD, **QUICK)
    report = json.loads(json.dumps(result.report, allow_nan=False))
    assert report == result.report
    (edit,) = report["instruction"]["edits"]
    assert (edit["operation"], edit["side"], edit["finding"]) == ("add", "left", "pleural effusion")
    assert len(report["model"]["sha256"]) == 64
    assert report["profile"] == "default" and report["seed"] == 0
    assert report["parameters"] == {
        "anatomy": "prior",
        "threshold": 0.1,
        "relevance": True,
        "steps": 3,
        "scheduler": "dpm++",
        "text_guidance": 5.0,
        "image_guidance": 1.3,
    }
    assert report["relevance"] == {"normalised": "calibrated", "draws": 4, "timesteps": [600, 800]}
    assert report["mask"]["pixels"] == result.mask.sum()
    assert report["mask"]["fraction"] == pytest.approx(result.mask.mean())
    assert set(report["seconds"]) == {"encoding", "anatomy", "relevance", "sampling", "compositing", "judging"}
    assert report["synthetic"] is True and report["pseudo_mask"]["kind"] == "prior"
