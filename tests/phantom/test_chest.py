"""The made chest: its masks, its repeatability, and what every parameter changes."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from instructx2x.errors import InputError
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.reading import read
from instructx2x.phantom import BODIES, Body, Exposure, any_body, chest
from instructx2x.phantom.anatomy import Structure, lung_outlines, structures
from instructx2x.phantom.film import Film
from instructx2x.phantom.shapes import length
from instructx2x.phantom.skeleton import skeleton
from instructx2x.phantom.thorax import Thorax

# Nothing that spreads from one ray to another.
RAYS = Exposure(photons=float("inf"), scatter=0, blur=0, detail=0)
PITCH = 41 / 128


@pytest.fixture(scope="module")
def man():
    return chest(128, seed=1)


def film_of(body):
    return Film(128, 128, PITCH, body.view, body.rotation)


def build(**parameters):
    """Structures of an ordinary man but for these parameters, on a coarse film."""
    body = Body(**parameters)
    return structures(body, film_of(body), 0)


@pytest.fixture(scope="module")
def ordinary():
    return build()


@pytest.fixture(scope="module")
def other():
    """One body that differs in what does not meet in one structure."""
    return build(padding=5.0, breasts=1.0, bone=0.5, inspiration=0.2)


def columns(structure):
    return structure.box[1].start, structure.box[1].stop


def reach(part, **parameters):
    """First and last column of the heart or the aorta of an ordinary man but for these parameters."""
    body = Body(**parameters)
    film = film_of(body)
    thorax = Thorax(body, film, np.random.default_rng(0))
    filled = np.flatnonzero(sum(map(length, getattr(thorax, part)(film.x, film.z))).any(0))
    return filled[0], filled[-1]


def bones(**parameters):
    body = Body(**parameters)
    rest = np.random.default_rng(1)
    found = skeleton(Thorax(body, film_of(body), np.random.default_rng(0)), rest)
    return {name: Structure("bone", *patch) for name, patch in found.items()}


def outline(**parameters):
    body = Body(**parameters)
    return lung_outlines(body, film_of(body), 0)


def extent(mask, axis):
    filled = np.flatnonzero(mask.any(axis))
    return filled[-1] - filled[0] + 1


# ---------------------------------------------------------------------- the film


def test_the_image_is_a_film_with_dark_lungs_and_a_light_middle(man):
    image = man.image
    assert image.shape == (128, 128) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1 and np.isfinite(image).all()
    right, left = man.lungs
    heart = man.mask("heart") & ~man.mask("spine")
    lung = np.median(image[(right | left) & ~man.mask("heart")])
    assert 0.05 < lung < 0.45 < np.median(image[heart]) < np.median(image[man.mask("spine")]) < 0.97
    assert image[:10, :10].max() < 0.05  # open air beside the neck


def test_the_same_arguments_give_the_same_bits_and_another_seed_does_not(man):
    again = chest(128, seed=1)
    assert (again.image == man.image).all()
    assert all((again.structures[n].length == s.length).all() for n, s in man.structures.items())
    assert (chest(128, seed=2).image != man.image).mean() > 0.5


def test_the_same_body_is_seen_at_any_size():
    quiet = replace(Exposure(), photons=float("inf"))
    small, large = (chest(size, exposure=quiet) for size in (256, 384))

    def shrunk(values):
        return resize(np.asarray(values, np.float32), 256, 256)

    def overlap(one, other):
        return 2 * (one & other).sum() / (one.sum() + other.sum())

    assert np.abs(shrunk(large.image) - small.image).mean() < 0.01
    assert np.corrcoef(shrunk(large.image).ravel(), small.image.ravel())[0, 1] > 0.998
    assert overlap(shrunk(large.lungs[0]) > 0.5, small.lungs[0]) > 0.99
    for name, least in (("heart", 0.98), ("right lung", 0.98), ("left clavicle", 0.85)):
        assert overlap(shrunk(large.mask(name)) > 0.5, small.mask(name)) > least


def test_a_film_may_be_higher_than_wide():
    made = chest((260, 200))
    assert made.image.shape == made.mask("heart").shape == made.lungs[0].shape == (260, 200)


def test_the_packages_example_is_the_phantom():
    path = files("instructx2x") / "data" / "example.png"
    example = read(path)
    assert example.pixels.shape == (1024, 1024)
    made = chest(256).image
    assert np.corrcoef(resize(example.display(), 256, 256).ravel(), made.ravel())[0, 1] > 0.995


# ---------------------------------------------------------------------- masks


@pytest.mark.parametrize("name", ["heart", "left clavicle", "right rib 5", "stomach gas", "aorta", "left vessels"])
def test_removing_a_structure_changes_its_mask_and_nothing_else(man, name):
    whole = replace(man, exposure=RAYS)
    changed = whole.image != whole.without(name).image
    mask = man.mask(name)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.5
    assert mask.any() and not mask.all()


def test_the_body_is_the_sum_of_its_structures(man):
    nothing = replace(man, exposure=RAYS).without(*man.structures)
    assert (nothing.image == 0).all()


def test_lungs_are_told_apart_and_hold_what_lies_behind_the_heart(man):
    right, left = man.lungs
    assert not (right & left).any()
    assert right[:, :64].any() and not right[:, 64:].any()
    assert (left & man.mask("heart")).sum() > 20
    assert 0.1 < (right | left).mean() < 0.4
    # The right dome stands higher.
    assert np.flatnonzero(right[:, 38]).max() <= np.flatnonzero(left[:, 128 - 38]).max()


def test_sides_are_the_patients(man):
    assert columns(man.structures["right clavicle"])[1] < columns(man.structures["left clavicle"])[0] + 8
    centre = np.average(np.arange(128), weights=man.mask("heart").sum(0))
    assert centre > 65  # the heart lies to the patient's left, the image's right


def test_what_is_not_there_cannot_be_asked_for(man):
    for call in (man.mask, man.without):
        with pytest.raises(InputError, match="no structure of the phantom"):
            call("third lung")


# ---------------------------------------------------------------------- bodies


def test_height_makes_lungs_longer():
    assert extent(outline(height=1.12), 1) > extent(outline(), 1) > extent(outline(height=0.88), 1)


def test_breadth_makes_lungs_wider():
    assert extent(outline(breadth=1.12), 0) > extent(outline(), 0) > extent(outline(breadth=0.88), 0)


def test_inspiration_lowers_the_diaphragm_and_darkens_the_lungs(ordinary, other):
    assert outline(inspiration=1.0).sum() > 1.1 * outline(inspiration=0.2).sum()
    full, less = (np.abs(s["right lung"].length).max() for s in (ordinary, other))
    assert less < 0.95 * full


def test_padding_thickens_the_wall_and_leaves_the_lungs(ordinary, other):
    assert other["soft tissue"].length.sum() > 1.2 * ordinary["soft tissue"].length.sum()
    assert outline(padding=5.0).sum() == outline().sum()


def test_breasts_are_shadows_over_the_lower_lungs(ordinary, other):
    assert "breasts" not in ordinary
    breasts = other["breasts"]
    weight = breasts.length.sum(1)
    lowest = np.flatnonzero(outline().any(1)).max()
    assert lowest - 40 < np.average(np.arange(*breasts.box[0].indices(128)), weights=weight) < lowest
    left, right = columns(breasts)
    assert left < 40 and right > 88


def test_the_heart_widens():
    widths = [np.ptp(reach("heart", heart=size)) for size in (0.88, 1.0, 1.4)]
    assert widths[0] + 2 < widths[1] < widths[2] - 6
    assert np.ptp(reach("heart", view="AP")) > widths[1]


def test_an_old_aorta_is_wider():
    assert reach("aorta", aorta=1.0)[1] > reach("aorta", aorta=0.0)[1]
    assert reach("aorta", aorta=1.0)[0] < reach("aorta", aorta=0.0)[0]


def test_mineral_is_in_all_bones(ordinary, other):
    assert {structure.material for name, structure in ordinary.items() if "rib" in name} == {"bone"}
    for name in ("spine", "left clavicle", "right humerus"):  # they do not move with the breath
        assert np.allclose(other[name].length, 0.5 * ordinary[name].length, atol=1e-6), name


def test_shoulders_rotation_and_view_move_bones():
    usual, broad, turned, ap = bones(), bones(shoulders=1.12), bones(rotation=10), bones(view="AP")

    def apart(found):
        return columns(found["left scapula"])[0] - columns(found["right scapula"])[1]

    assert apart(broad) > apart(usual) + 3
    assert apart(ap) < apart(usual) - 6  # the blades lie over the lungs

    def gaps(found):
        """From the midline to the inner ends of the clavicles, in pixels."""
        return 64 - columns(found["right clavicle"])[1], columns(found["left clavicle"])[0] - 64

    right, left = gaps(usual)
    assert abs(right - left) <= 1
    right, left = gaps(turned)
    assert left > right + 4


@pytest.mark.parametrize("parameter", [{"heart": 3.0}, {"rotation": 90}, {"padding": -1}, {"bone": float("nan")}])
def test_what_no_body_has_is_refused(parameter):
    with pytest.raises(InputError, match="outside the range"):
        Body(**parameter)


def test_other_views_and_sizes_are_refused():
    with pytest.raises(InputError, match="PA or AP"):
        Body(view="lateral")
    for size in (8, (64, 5000), 0):
        with pytest.raises(InputError, match="no size of a phantom"):
            chest(size)


def test_random_bodies_repeat_and_differ():
    assert any_body(3) == any_body(3) != any_body(4)
    drawn = [any_body(seed) for seed in range(40)]
    assert {body.view for body in drawn} == {"PA", "AP"}
    assert 10 < sum(body.breasts > 0 for body in drawn) < 30
    assert len(BODIES) >= 8


def test_clinical_exposure_holds_lungs_at_one_tone_whatever_the_body(man):
    large = chest(128, BODIES["large"], seed=1)
    tones = [np.median(made.image[made.lungs[0]]) for made in (man, large)]
    assert abs(tones[0] - tones[1]) < 0.15
    fixed = replace(large, level=man.level)
    assert np.median(fixed.image[large.lungs[0]]) > tones[1] + 0.1
