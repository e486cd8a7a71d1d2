"""What a pseudo mask promises: sides, zones, unions of edits, sane sizes, and its ways out when lungs are not found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from phantom_chests import make_display, make_heart, make_lungs
from PIL import Image

from instructx2x.anatomy.frames import REFERENCE, lung_frame
from instructx2x.anatomy.heart import enlarged
from instructx2x.anatomy.lungs import Lungs
from instructx2x.anatomy.places import HEART, LUNGS, PLACES
from instructx2x.anatomy.priors import SUBCELLS, packaged_priors, write_priors
from instructx2x.anatomy.pseudo_mask import (
    EDITABLE,
    narrow_side,
    narrow_zone,
    pseudo_mask,
    soft_cut,
    threshold_mass,
    union_mask,
)
from instructx2x.anatomy.regions import REGIONS, zone, zone_names
from instructx2x.errors import AnatomyError
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.vocabulary import FINDINGS, ZONES

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "cxr"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the open X-rays are not here")

DISPLAY = make_display(make_lungs(), make_heart())
SIDED = [name for name, finding in FINDINGS.items() if finding.has_side]
ZONED = [name for name, finding in FINDINGS.items() if finding.has_zone]


@pytest.fixture(scope="module")
def lungs():
    return make_lungs()


@pytest.fixture(params=["patient", "prior"])
def anatomy(request):
    return request.param


def mask(finding, lungs, anatomy="patient", side=None, zone=None, display=DISPLAY):
    return pseudo_mask([Edit("add", finding, side=side, zone=zone)], display, anatomy=anatomy, lungs=lungs)


def test_every_finding_has_a_place_that_exists():
    assert set(PLACES) == set(FINDINGS)
    known = {LUNGS, *REGIONS, *packaged_priors().counts}
    for place in PLACES.values():
        assert {layer.source for layer in place.layers} <= known
        assert {layer.within for layer in place.layers} <= {None, *REGIONS}


def test_stand_ins_say_so(lungs):
    own = {name for name, place in PLACES.items() if place.layers[0].source == name}
    for name, place in PLACES.items():
        assert bool(place.reason) == (name not in own)
        assert ("stand-in" in mask(name, lungs).sources[name]) == (name not in own)


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_mask_is_soft_and_of_sane_size(finding, lungs, anatomy):
    got = mask(finding, lungs, anatomy)
    assert got.values.shape == DISPLAY.shape and got.values.dtype == np.float32 and got.kind == anatomy
    assert 0 <= got.values.min() and 0.99 < got.values.max() <= 1
    assert 0.03 < got.coverage < 0.65
    assert (got.values == 0).mean() > 0.2
    assert not got.warnings and finding in got.sources


@pytest.mark.parametrize("finding", SIDED)
def test_sides_are_disjoint_hard_at_the_midline_and_only_shrink(finding, lungs, anatomy):
    whole = mask(finding, lungs, anatomy).values
    left, right = (mask(finding, lungs, anatomy, side).values for side in ("left", "right"))
    midline = lungs.midline if anatomy == "patient" else 0.5
    columns = (np.arange(DISPLAY.shape[1]) + 0.5) / DISPLAY.shape[1]
    assert not left[:, columns < midline].any() and not right[:, columns > midline].any()
    assert left.max() > 0.99 and right.max() > 0.99
    # Each side keeps its own share of its own marks, so where the two differ the cut moves a little.
    assert np.maximum(left, right).mean() < 1.05 * whole.mean()
    assert np.array_equal(mask(finding, lungs, anatomy, "bilateral").values, whole)


@pytest.mark.parametrize("finding", ["pleural effusion", "consolidation", "pneumothorax", "edema", "nodule"])
def test_a_mirrored_patient_has_the_mirrored_mask(finding, lungs, anatomy):
    mirrored = Lungs(lungs.left[:, ::-1], lungs.right[:, ::-1], True)
    left, right = mask(finding, lungs, anatomy, "left").values, mask(finding, mirrored, anatomy, "right").values
    assert np.abs(left - right[:, ::-1]).mean() < 0.02 * left.mean()


@pytest.mark.parametrize("zone_name", ZONES)
@pytest.mark.parametrize("finding", ["pleural effusion", "consolidation", "pneumothorax", "edema", "fracture", "mass"])
def test_a_zone_narrows_to_itself(finding, zone_name, lungs, anatomy):
    whole, part = mask(finding, lungs, anatomy), mask(finding, lungs, anatomy, zone=zone_name)
    assert part.coverage < 0.85 * whole.coverage
    frame = lung_frame(lungs) if anatomy == "patient" else REFERENCE.centred()
    allowed = zone(zone_name, *frame.grid(DISPLAY.shape)) > 0
    # One cell of the working grid may spread over the edge when the mask is brought to the image's size.
    assert part.values[~allowed].sum() < 0.02 * part.values.sum()


@pytest.mark.parametrize("finding", ZONED)
@pytest.mark.parametrize("zone_name", ZONES)
def test_every_zone_can_be_asked_for(finding, zone_name, lungs):
    """Each gives a mask, or an error that says what to do."""
    try:
        assert mask(finding, lungs, zone=zone_name).values.max() >= EDITABLE
    except AnatomyError as error:
        assert "leave the location out" in str(error)


def test_zones_of_the_language_are_known():
    assert set(ZONES) == set(zone_names())
    with pytest.raises(AnatomyError, match="apical"):
        zone("nowhere", np.zeros((1, 2)), np.zeros((2, 1)))


def test_several_edits_are_the_maximum_of_each(lungs, anatomy):
    edits = [Edit("add", "pleural effusion", side="left"), Edit("remove", "cardiomegaly")]
    one, two, both = (pseudo_mask(e, DISPLAY, anatomy=anatomy, lungs=lungs) for e in (edits[:1], edits[1:], edits))
    np.testing.assert_array_equal(both.values, np.maximum(one.values, two.values))
    assert both.sources == one.sources | two.sources
    assert len({f.tobytes() for f in (one.values, two.values, both.values)}) == 3


def test_the_operation_does_not_move_the_place(lungs):
    added = pseudo_mask([Edit("add", "edema")], DISPLAY, lungs=lungs).values
    np.testing.assert_array_equal(pseudo_mask([Edit("remove", "edema")], DISPLAY, lungs=lungs).values, added)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_size_of_the_image_hardly_matters(scale, anatomy):
    small, large = (300, 270), (300 * scale, 270 * scale)
    for finding in ("pleural effusion", "cardiomegaly", "edema"):
        a = mask(finding, make_lungs(small), anatomy, "left" if finding != "cardiomegaly" else None,
                 display=make_display(make_lungs(small), make_heart(small), noise=0)).values  # fmt: skip
        b = mask(finding, make_lungs(large), anatomy, "left" if finding != "cardiomegaly" else None,
                 display=make_display(make_lungs(large), make_heart(large), noise=0)).values  # fmt: skip
        pooled = b.reshape(300, scale, 270, scale).mean((1, 3))
        assert np.abs(pooled - a).mean() < 0.01


def test_the_mask_follows_the_patient():
    first, second = (lung_frame(make_lungs(shift=shift)) for shift in (-0.08, 0.08))
    centres = []
    for shift in (-0.08, 0.08):
        display = make_display(make_lungs(shift=shift), make_heart(shift=shift))
        values = mask("cardiomegaly", make_lungs(shift=shift), display=display).values
        centres.append((values.sum(0) @ np.arange(values.shape[1])) / values.sum() / values.shape[1])
    assert centres[1] - centres[0] == pytest.approx(second.midline - first.midline, abs=0.01)
    assert min(centres[0] - first.midline, centres[1] - second.midline) > 0.02  # the heart lies to the left


def test_lung_findings_keep_to_the_lungs_and_fluid_may_lie_below(lungs):
    far_below = np.arange(DISPLAY.shape[0]) / DISPLAY.shape[0] > lung_frame(lungs).bottom + 0.05
    assert not (mask("consolidation", lungs).values[far_below] >= EDITABLE).any()
    assert (mask("pleural effusion", lungs).values[far_below] >= EDITABLE).any()


def test_a_hidden_lung_base_stays_open(lungs):
    """Fluid hides the lower half of the left lung from the segmentation; the right lung tells where it ends."""
    hidden = lungs.left.copy()
    hidden[DISPLAY.shape[0] // 2 :] = 0
    got = mask("pleural effusion", Lungs(lungs.right, hidden, True), side="left")
    base = lungs.left >= 0.5
    base[: DISPLAY.shape[0] // 2] = False
    assert (got.values[base] >= EDITABLE).mean() > 0.95


def test_without_lungs_the_prior_is_used_and_said():
    nothing = np.zeros_like(DISPLAY)
    got = mask("edema", Lungs(nothing, nothing, False, "no right lung was found"), "default", "left")
    assert got.kind == "prior" and not got.values[:, : DISPLAY.shape[1] // 2].any()
    assert got.warnings == ["lungs not found (no right lung was found): population prior used"]
    np.testing.assert_array_equal(got.values, mask("edema", None, "prior", "left").values)


def test_lungs_are_looked_for_when_not_given():
    got = pseudo_mask([Edit("add", "edema")], np.zeros_like(DISPLAY))
    assert got.kind == "prior" and "lungs not found" in got.warnings[0]


def test_none_opens_everything_and_warns():
    got = mask("edema", None, "none", "left")
    assert (got.values == 1).all() and got.kind == "none" and len(got.warnings) == 1


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_paper_union_is_binary_and_wider(finding, lungs):
    union = union_mask([Edit("add", finding)], DISPLAY.shape)
    assert set(np.unique(union.values)) == {0, 1} and union.kind == "union"
    # Small marks leave gaps in a union, which our smoothing fills.
    assert union.coverage > 0.95 * mask(finding, lungs, "prior").coverage


def test_own_priors_are_taken_from_a_file(tmp_path, lungs):
    write_priors(packaged_priors(), tmp_path / "own.npz")
    got = mask("pneumonia", lungs, tmp_path / "own.npz")
    np.testing.assert_array_equal(got.values, mask("pneumonia", lungs).values)


@pytest.mark.parametrize("anatomy", ["patients", "", "missing.npz", "missing/folder", Path("missing")])
def test_unknown_anatomy(anatomy, lungs):
    with pytest.raises(AnatomyError):
        mask("edema", lungs, anatomy)


def test_no_edit_and_no_place_are_errors(lungs):
    with pytest.raises(AnatomyError, match="no finding"):
        pseudo_mask([], DISPLAY, lungs=lungs)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_the_threshold_keeps_the_share_and_no_more(seed, share):
    prior = np.random.default_rng(seed).gamma(0.5, size=(30, 40))
    level = threshold_mass(prior, share)
    kept, above = prior[prior >= level].sum(), prior[prior > level].sum()
    assert kept >= (share - 1e-9) * prior.sum()
    assert above < share * prior.sum()


def test_the_soft_cut():
    prior = np.random.default_rng(1).gamma(0.5, size=(60, 60))
    values = soft_cut(prior, share=0.95, core=0.7)
    assert prior[values == 1].sum() >= 0.7 * prior.sum()
    assert prior[values > 0].sum() <= 0.95 * prior.sum()
    order = np.argsort(prior, axis=None)
    assert (np.diff(values.ravel()[order]) >= 0).all()
    np.testing.assert_allclose(soft_cut(7 * prior, 0.95, 0.7), values, atol=1e-5)
    assert not soft_cut(np.zeros((4, 4))).any() and (soft_cut(np.ones((4, 4))) == 1).all()


def test_narrowing_is_a_plain_product():
    values = np.random.default_rng(2).random((20, 11)).astype(np.float32)
    left, right = narrow_side(values, "left", 0.5), narrow_side(values, "right", 0.5)
    np.testing.assert_array_equal(left[:, 6:], values[:, 6:])
    np.testing.assert_array_equal(right[:, :5], values[:, :5])
    assert not left[:, :6].any() and not right[:, 5:].any()  # the middle column belongs to neither side
    assert narrow_side(values, None, 0.5) is values and narrow_zone(values, None, REFERENCE) is values
    for name in zone_names():
        assert (narrow_zone(values, name, REFERENCE) <= values).all()


HEART_FINDINGS = [name for name, place in PLACES.items() if any(layer.limit == HEART for layer in place.layers)]


def test_findings_of_the_heart():
    assert set(HEART_FINDINGS) == {
        "cardiomegaly", "enlargement of the cardiac silhouette", "heart failure", "hypertensive heart disease",
    }  # fmt: skip


@pytest.mark.parametrize("finding", HEART_FINDINGS)
@pytest.mark.parametrize("half_width", [0.12, 0.18])
def test_the_heart_and_its_enlargement_are_open(finding, half_width, lungs):
    heart = make_heart(half_width=half_width)
    got = mask(finding, lungs, display=make_display(lungs, heart))
    assert not got.warnings and "patient's heart" in got.sources[finding]
    within = (lungs.both >= 0.5) & (np.arange(DISPLAY.shape[0])[:, None] / DISPLAY.shape[0] > 0.48)
    assert (got.values[heart & within] > 0.9).mean() > 0.97
    for factor in (1.3, 1.5):
        assert (got.values[enlarged(heart, factor) & within] >= EDITABLE).mean() > 0.97


def test_the_place_of_a_heart_is_smaller_than_the_populations(lungs):
    narrow = mask("cardiomegaly", lungs, display=make_display(lungs, make_heart(half_width=0.12)))
    wide = mask("cardiomegaly", lungs, display=make_display(lungs, make_heart(half_width=0.18)))
    population = mask("cardiomegaly", lungs, display=np.zeros_like(DISPLAY))
    assert narrow.coverage < wide.coverage < population.coverage


def test_a_heart_on_the_other_side_is_followed(lungs):
    turned = Lungs(lungs.left[:, ::-1], lungs.right[:, ::-1], True)
    display = make_display(lungs, make_heart(column=0.57))
    straight, mirrored = (
        mask("cardiomegaly", lungs, display=display),
        mask("cardiomegaly", turned, display=display[:, ::-1]),
    )
    heart = make_heart(column=0.57) & (lungs.both >= 0.5) & (np.arange(240)[:, None] > 115)
    assert (straight.values[heart] > 0.9).mean() > 0.97 and (mirrored.values[:, ::-1][heart] > 0.9).mean() > 0.97


@pytest.mark.parametrize(("finding", "zone"), [("cardiomegaly", None), ("lung opacity", "retrocardiac")])
def test_where_no_heart_is_seen_the_population_is_used_and_said(finding, zone, lungs):
    white = make_display(Lungs(lungs.right, lungs.left * 0, True), make_heart())
    got = mask(finding, lungs, zone=zone, display=white)
    assert got.kind == "patient"
    assert got.warnings == [
        "heart not found (it runs into an opaque left lung): where hearts lie in the population is used"
    ]
    np.testing.assert_array_equal(got.values, mask(finding, lungs, zone=zone, display=np.zeros_like(DISPLAY)).values)


def test_behind_the_heart_is_behind_this_patients(lungs):
    """The zone follows the heart; findings elsewhere do not hear of it."""
    heart = make_heart(half_width=0.16)
    display = make_display(lungs, heart)
    behind = mask("lung opacity", lungs, zone="retrocardiac", display=display)
    near = enlarged(heart, 1.3) | (np.abs(np.arange(200) / 200 - lungs.midline) < 0.1)
    assert not behind.warnings and (behind.values[~near & (lungs.both >= 0.5)] >= EDITABLE).mean() < 0.04
    low = heart & (lungs.both >= 0.5) & (np.arange(240)[:, None] > 130)
    assert (behind.values[low] >= EDITABLE).mean() > 0.9
    for finding, name in (("lung opacity", None), ("lung opacity", "basal"), ("pleural effusion", None)):
        here, without = (mask(finding, lungs, zone=name, display=d) for d in (display, np.zeros_like(DISPLAY)))
        np.testing.assert_array_equal(here.values, without.values)
        assert not without.warnings


@real_data
@pytest.mark.real_data
def test_unseen_boxes_lie_inside_and_the_mask_stays_small():
    """RSNA opacities on images whose boxes were kept out of the maps."""
    boxes = pl.read_csv(DATA / "boxes.csv").filter((pl.col("have_image") == 1) & (pl.col("finding") == "Lung Opacity"))
    files = dict(pl.read_csv(DATA / "metadata.csv").select("id", "file").iter_rows())
    inside, total, open_share = 0, 0, []
    for (image,), rows in list(boxes.sort("image_id").group_by("image_id", maintain_order=True))[::12]:
        with Image.open(DATA / files[image]) as picture:
            display = np.asarray(picture.convert("L").resize((256, 256)), np.float32) / 255
        box = np.zeros(display.shape, bool)
        for x, y, w, h in rows.select("x", "y", "w", "h").iter_rows():
            box[round(y * 256) : round((y + h) * 256), round(x * 256) : round((x + w) * 256)] = True
        got = pseudo_mask([Edit("add", "lung opacity")], display)
        inside, total = inside + ((got.values >= EDITABLE) & box).sum(), total + box.sum()
        open_share.append(got.coverage)
    assert inside / total > 0.88
    assert np.mean(open_share) < 0.38


@pytest.mark.parametrize("finding", ["edema", "vascular congestion", "hernia", "enlargement of the cardiac silhouette"])
def test_own_marks_of_a_finding_take_the_place_of_its_stand_in(finding, lungs, tmp_path):
    """No packaged source marks these; a file that does is followed, and the report says so."""
    known = packaged_priors()
    assert finding not in known.counts
    corner = np.zeros_like(known.lungs)
    corner[40:50, 60:75] = 4 * SUBCELLS**2
    own = replace(
        known,
        counts=known.counts | {finding: corner},
        unions=known.unions | {finding: corner > 0},
        images=known.images | {finding: 5},
        sources=known.sources | {"mine": {"licence": "own", "attribution": "me", "marks": {finding: 5}}},
    )
    write_priors(own, tmp_path / "mine.npz")
    edit = [Edit("add", finding)]
    mine = pseudo_mask(edit, DISPLAY, anatomy=tmp_path / "mine.npz", lungs=lungs)
    plain = pseudo_mask(edit, DISPLAY, anatomy="patient", lungs=lungs)
    assert "5 images (mine)" in mine.sources[finding] and "stand-in" not in mine.sources[finding]
    assert "stand-in" in plain.sources[finding] and not np.array_equal(mine.values, plain.values)
