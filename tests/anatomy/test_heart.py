"""What the heart finder promises: known hearts at any size and exposure, and a plain no where there is none to see."""

import numpy as np
import pytest
from phantom_chests import ellipse, make_display, make_heart, make_lungs

from instructx2x.anatomy.frames import lung_frame
from instructx2x.anatomy.heart import TOP, cardiothoracic_ratio, diaphragm, enlarged, find_heart, trace
from instructx2x.anatomy.lungs import Lungs

SHAPE = (240, 200)


def extent(mask):
    columns = np.flatnonzero((mask >= 0.5).any(0))
    return columns[0] / mask.shape[1], (columns[-1] + 1) / mask.shape[1]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("shape", [SHAPE, (512, 512), (97, 130), (700, 560)])
@pytest.mark.parametrize("half_width", [0.12, 0.16, 0.20])
def test_a_known_heart_is_found(shape, half_width):
    lungs, heart = make_lungs(shape), make_heart(shape, half_width=half_width)
    found = find_heart(make_display(lungs, heart), lungs)
    assert found.plausible, found.reason
    assert found.reason == "" and found.mask.shape == shape and found.mask.dtype == np.float32
    assert 0 <= found.mask.min() and found.mask.max() <= 1
    assert extent(found.mask) == pytest.approx(extent(heart), abs=0.02)
    # What lies between the lungs, above and below the ellipse, is as opaque as the heart.
    within = lungs.both >= 0.5
    assert dice((found.mask >= 0.5) & within, heart & within) > 0.88
    frame = lung_frame(lungs)
    assert cardiothoracic_ratio(found.mask, lungs) == pytest.approx(
        2 * half_width / (frame.left - frame.right), abs=0.04
    )


@pytest.mark.parametrize(
    ("air", "tissue", "gamma"), [(0.3, 0.8, 1.0), (0.1, 0.4, 1.0), (0.6, 0.75, 1.0), (0.3, 0.8, 0.5), (0.3, 0.8, 2.0)]
)
def test_exposure_hardly_matters(air, tissue, gamma):
    lungs, heart = make_lungs(), make_heart()
    found = find_heart(make_display(lungs, heart, air, tissue, noise=0.01) ** gamma, lungs)
    assert found.plausible, found.reason
    assert extent(found.mask) == pytest.approx(extent(heart), abs=0.02)


@pytest.mark.parametrize("shift", [-0.08, 0.0, 0.08])
def test_it_follows_the_patient(shift):
    lungs, heart = make_lungs(shift=shift), make_heart(shift=shift)
    found = find_heart(make_display(lungs, heart), lungs)
    assert found.plausible and extent(found.mask) == pytest.approx(extent(heart), abs=0.02)


def test_the_side_of_the_heart_is_not_assumed():
    lungs, heart = make_lungs(), make_heart(column=0.56)
    display = make_display(lungs, heart)
    turned = Lungs(lungs.left[:, ::-1], lungs.right[:, ::-1], True)
    straight, mirrored = find_heart(display, lungs), find_heart(display[:, ::-1], turned)
    assert straight.plausible and mirrored.plausible
    assert dice(straight.mask >= 0.5, mirrored.mask[:, ::-1] >= 0.5) > 0.97
    assert extent(straight.mask)[0] > 1 - extent(mirrored.mask)[1] - 0.02


def test_the_same_picture_gives_the_same_bits():
    lungs = make_lungs()
    display = make_display(lungs, make_heart())
    assert find_heart(display, lungs).mask.tobytes() == find_heart(display.copy(), lungs).mask.tobytes()


def test_without_a_heart_there_is_none():
    """Between these lungs lies no more than a spine."""
    lungs = make_lungs()
    narrow = Lungs(
        *(np.clip(ellipse(SHAPE, 0.47, c, 0.33, 0.20) * 20 + 0.5, 0, 1).astype(np.float32) for c in (0.29, 0.73)), True
    )
    found = find_heart(make_display(narrow, np.zeros(SHAPE, bool)), narrow)
    assert not found.plausible and "of the chest" in found.reason
    flat = find_heart(np.full(SHAPE, 0.5, np.float32), lungs)
    assert not flat.plausible and "equally bright" in flat.reason and not flat.mask.any()


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_white_lung_is_not_taken_for_a_heart(side):
    lungs, heart = make_lungs(), make_heart()
    display = make_display(lungs, heart)
    white = np.where(getattr(lungs, side) >= 0.5, 0.8, display).astype(np.float32)
    found = find_heart(white, lungs)
    assert not found.plausible and found.reason == f"it runs into an opaque {side} lung"


def test_two_white_lungs_are_no_heart_either():
    lungs = make_lungs()
    found = find_heart(np.random.default_rng(1).normal(0.8, 0.01, SHAPE).astype(np.float32), lungs)
    assert not found.plausible and found.reason


@pytest.mark.parametrize("half_width", [0.30, 0.34])
def test_a_heart_as_wide_as_the_chest_is_doubted(half_width):
    lungs = make_lungs()
    found = find_heart(make_display(lungs, make_heart(half_width=half_width)), lungs)
    assert not found.plausible and "\n" not in found.reason and found.reason


def test_implausible_lungs_have_no_heart():
    nothing = np.zeros(SHAPE, np.float32)
    found = find_heart(nothing, Lungs(nothing, nothing, False, "no right lung was found"))
    assert not found.plausible and found.reason == "lungs not found: no right lung was found"
    assert found.mask.shape == SHAPE and not found.mask.any()


def test_nothing_raises_on_odd_pictures():
    lungs = make_lungs()
    rng = np.random.default_rng(0)
    for display in (np.full(SHAPE, np.nan), np.full(SHAPE, np.inf), rng.random(SHAPE), np.zeros(SHAPE)):
        found = find_heart(display.astype(np.float32), lungs)
        assert np.isfinite(found.mask).all() and found.plausible == (found.reason == "")
    short = np.zeros(SHAPE, np.float32)
    short[100:110, 30:60] = 1
    for odd in (Lungs(short, short[:, ::-1], True), Lungs(short[::-1], short[:, ::-1], True)):
        assert not find_heart(rng.random(SHAPE).astype(np.float32), odd).plausible


def test_it_lies_between_hila_and_diaphragm():
    lungs = make_lungs()
    found = find_heart(make_display(lungs, make_heart()), lungs)
    frame = lung_frame(lungs)
    rows = np.flatnonzero((found.mask >= 0.5).any(1)) / SHAPE[0]
    assert frame.y(TOP) - 0.01 < rows[0] and rows[-1] < frame.bottom


def test_the_diaphragm_is_the_lungs_lower_edge_and_a_line_between():
    right, left = np.zeros((2, 100, 100), bool)
    right[10:80, 10:40] = left[10:70, 60:90] = True
    right[10:50, 40:44] = True  # its inner edge leans over
    frame = lung_frame(Lungs(right.astype(np.float32), left.astype(np.float32), True))
    floor = diaphragm([right, left], frame)
    assert (floor[:10] == -1).all() and (floor[90:] == -1).all()
    assert (floor[10:40] == 79).all() and (floor[60:90] == 69).all()
    np.testing.assert_allclose(floor[39:61], np.linspace(79, 69, 22))


def test_the_border_is_the_best_of_all():
    """Against trying every border of a small picture."""
    from itertools import product

    from instructx2x.anatomy.heart import BEND, EDGE, EDGE_REACH, STEEPEST

    rng = np.random.default_rng(0)
    for _ in range(20):
        votes, wall = rng.uniform(-1, 1, (4, 6)), rng.integers(2, 6, 4)
        padded = np.pad(votes, ((0, 0), (EDGE_REACH, EDGE_REACH)), mode="edge")

        def worth(border, votes=votes, padded=padded, wall=wall):
            steps = np.diff(border)
            if (np.abs(steps) > STEEPEST).any() or (np.array(border) > wall).any():
                return -np.inf
            total = -BEND * (steps**2).sum()
            for row, cell in enumerate(border):
                total += votes[row, : cell + 1].sum()
                total += EDGE * (padded[row, cell] - padded[row, cell + 2 * EDGE_REACH]) / 2
            return total

        best = max(worth(border) for border in product(range(6), repeat=4))
        assert worth(trace(votes, wall)) == pytest.approx(best)


@pytest.mark.parametrize("factor", [1.0, 1.3, 1.6])
def test_an_enlarged_heart_holds_the_heart_and_is_wider(factor):
    heart = make_heart(half_width=0.12) & (np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1])) < 260)
    grown = enlarged(heart, factor)
    assert (grown >= heart).all()
    widths = [np.ptp(np.flatnonzero(mask.any(0))) for mask in (heart, grown)]
    assert widths[1] / widths[0] == pytest.approx(factor, abs=0.03)
    assert np.array_equal(grown.any(1), heart.any(1))


@pytest.mark.parametrize("heart", [np.zeros((9, 9), bool), np.eye(9, dtype=bool)[:, :1] * np.ones(9, bool)])
def test_an_outline_without_an_area_stays(heart):
    assert np.array_equal(enlarged(heart, 1.5), heart)
