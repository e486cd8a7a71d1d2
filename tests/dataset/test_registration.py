"""Registration: known movements are found again, bad pairs score low, and runs are taken up where they stopped."""

import builtins
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from instructx2x.dataset import registration
from instructx2x.dataset.images import Preparation, prepare_image, prepare_images
from instructx2x.dataset.registration import MIN_QUALITY, register, register_images
from instructx2x.errors import InputError

pytest.importorskip("SimpleITK", reason='SimpleITK is not installed: pip install -c constraints.txt ".[register]"')

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cxr" / "images"
IDENTITY = np.eye(2, 3)


def patient(seed, size=128):
    """A drawing of one patient: body, two lungs, curved ribs, a heart, vessels; all a little different by seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    image = 0.75 / (1 + np.exp((((x - 0.5) / 0.46) ** 2 + ((y - 0.62) / 0.62) ** 2 - 1) * 25))
    lungs = np.zeros_like(image)
    for side in (-1, 1):
        cx, cy, w, h = 0.5 + side * rng.uniform(0.18, 0.2), rng.uniform(0.47, 0.5), 0.13, rng.uniform(0.26, 0.3)
        lungs += 1 / (1 + np.exp((((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 - 1) * 8))
    image -= 0.45 * lungs
    image += 0.15 * np.exp(-(((x - 0.55) / 0.1) ** 2 + ((y - 0.62) / 0.12) ** 2))
    pitch, slope, phase = rng.uniform(60, 75), rng.uniform(8, 22), rng.uniform(0, 6)
    image += 0.06 * np.maximum(np.sin(y * pitch - np.abs(x - 0.5) * slope + phase), 0) * (image > 0.1)
    for _ in range(25):
        cx, cy, width = rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.75), rng.uniform(0.01, 0.03)
        image += rng.uniform(0.05, 0.12) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def movement(degrees, scale, shift, size):
    """(2, 3) matrix about the centre; shift in shares of the side."""
    turn, centre = np.deg2rad(degrees), (size - 1) / 2
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, centre + np.array(shift) * size - linear @ [centre, centre]])


def moved(image, matrix, gamma=1.0, noise=2.0):
    """The past image that `matrix` lays on `image`: past(matrix(p)) = image(p), drawn by SciPy, exposed otherwise."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    rows = inverse[:2][::-1][:, [1, 0, 2]]
    past = ndimage.affine_transform(image.astype(float), rows[:, :2], rows[:, 2], order=3)
    past = 255 * (np.clip(past, 0, 255) / 255) ** gamma
    past += np.random.default_rng(0).normal(0, noise, past.shape)
    return np.round(np.clip(past, 0, 255)).astype(np.uint8)


def corner_error(found, true, size):
    corners = np.array([(x, y, 1) for x in (0, size - 1) for y in (0, size - 1)]).T
    return np.linalg.norm((found - true) @ corners, axis=0).mean()


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"),
    [(0, 1, (0, 0)), (7, 1, (0, 0)), (0, 1.09, (0, 0)), (0, 1, (0.08, -0.05)), (-8, 0.91, (-0.06, 0.07))],
)
def test_known_movements_are_found_again(degrees, scale, shift):
    current, true = patient(1), movement(degrees, scale, shift, 128)
    found = register(moved(current, true, gamma=1.2), current)
    assert corner_error(found.matrix, true, 128) < 1
    assert found.quality > 0.7
    # The matrix's direction and the image agree: the anatomy lies where it lies in the current image.
    inner = np.s_[32:96, 32:96]
    assert np.corrcoef(found.image[inner].ravel(), current[inner].ravel())[0, 1] > 0.98


def test_the_matrix_is_in_the_pixels_of_the_given_size_and_shape():
    current = np.array(Image.fromarray(patient(1, 512)).resize((512, 384)))  # twice the working grid, and not square
    true = np.array([[1.03, 0.04, -20.0], [-0.03, 0.98, 14.0]])
    found = register(moved(current, true), current)
    corners = np.array([(0, 0, 1), (511, 0, 1), (0, 383, 1), (511, 383, 1)]).T
    assert np.linalg.norm((found.matrix - true) @ corners, axis=0).mean() < 2


def test_where_the_past_image_does_not_reach_it_is_black():
    current = np.maximum(patient(1), 60)
    found = register(moved(current, movement(0, 1, (0.08, 0), 128)), current)
    # A past image moved right by 8 % has lost the last 8 % of the columns, 10 of 128.
    assert (found.image[:, -7:] == 0).all() and (found.image[:, :-14] > 0).mean() > 0.99


def test_the_image_is_the_past_drawn_through_the_matrix():
    current = patient(1)
    past = moved(current, movement(5, 1.05, (0.03, 0.02), 128))
    found = register(past, current)
    rows = found.matrix[::-1][:, [1, 0, 2]]
    drawn = ndimage.affine_transform(past.astype(float), rows[:, :2], rows[:, 2], order=3)
    inner = np.s_[15:-15, 15:-15]
    assert np.abs(found.image[inner] - np.clip(drawn, 0, 255)[inner]).mean() < 0.6


@pytest.mark.parametrize("seed", range(2))
def test_never_worse_than_leaving_the_image_where_it_is(seed):
    for past in (patient(seed + 10), np.rot90(patient(seed)).copy(), patient(seed)[::-1].copy()):
        current = patient(seed)
        found = register(past, current)
        assert -1 <= found.before <= found.quality <= 1
        if np.array_equal(found.matrix, IDENTITY):
            np.testing.assert_array_equal(found.image, past)
            assert found.quality == found.before


def test_an_image_on_itself_stays_in_place():
    found = register(patient(3), patient(3))
    assert found.before == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(found.matrix, IDENTITY)
    np.testing.assert_array_equal(found.image, patient(3))


def hopeless():
    rng = np.random.default_rng(0)
    speck = np.zeros((128, 128), np.uint8)
    speck[50:54, 45:49] = 255
    return {
        "black": np.zeros((128, 128), np.uint8),
        "white": np.full((128, 128), 255, np.uint8),
        "noise": rng.integers(0, 256, (128, 128), dtype=np.uint8),
        "ramp": np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1)),
        "speck": speck,
    }


@pytest.mark.parametrize("kind", hopeless())
@pytest.mark.parametrize("swap", [False, True])
def test_hopeless_pairs_score_low_and_do_no_harm(kind, swap, capfd):
    pair = (hopeless()[kind], patient(1))
    found = register(*pair[:: -1 if swap else 1])
    assert found.quality < MIN_QUALITY
    assert np.isfinite(found.matrix).all() and found.image.shape == (128, 128)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (33, 47), (40, 2000)])
def test_odd_sizes(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = register(pixels, pixels[::-1].copy())
    assert found.image.shape == shape and found.quality < 0.5


def test_pairs_that_cannot_be_compared():
    for past in (patient(1)[:100], patient(1).astype(float), np.stack([patient(1)] * 3, -1)):
        with pytest.raises(InputError, match="same size"):
            register(past, patient(1))


@pytest.mark.parametrize(
    ("matrix", "plausible"),
    [
        (movement(15, 1.2, (0.1, 0), 128), True),
        (movement(25, 1, (0, 0), 128), False),
        (movement(0, 1.4, (0, 0), 128), False),
        (movement(0, 0.7, (0, 0), 128), False),
        (np.array([[1.2, 0, 0], [0, 0.9, 0]]), False),
        (np.array([[1, 0.4, 0], [0, 1, 0]]), False),
        (np.array([[-1.0, 0, 127], [0, 1, 0]]), False),
    ],
)
def test_what_a_patient_cannot_do_is_implausible(matrix, plausible):
    assert registration._plausible(matrix) == plausible


def test_an_implausible_alignment_is_not_taken_however_well_it_fits(monkeypatch):
    past = moved(patient(1), movement(24, 1, (0, 0), 128))
    found = register(past, patient(1))
    assert registration._plausible(found.matrix) and found.quality < 0.9
    # With a wider limit it would be found, so the limit it is that held.
    monkeypatch.setattr(registration, "TURN", 180.0)
    assert register(past, patient(1)).quality > 0.9


def test_the_same_images_give_the_same_bytes_in_any_process_or_thread(tmp_path):
    current = patient(1)
    past = moved(current, movement(4, 1.05, (0.03, 0.02), 128))
    np.savez(tmp_path / "pair.npz", past=past, current=current)
    code = (
        "import sys, numpy as np; from instructx2x.dataset.registration import register\n"
        "p = np.load(sys.argv[1]); r = register(p['past'], p['current'])\n"
        "sys.stdout.buffer.write(r.image.tobytes() + r.matrix.tobytes() + np.float64(r.quality).tobytes())"
    )
    environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pair.npz"], capture_output=True, env=environment, check=True
    ).stdout
    found = register(past, current)
    assert found.image.tobytes() + found.matrix.tobytes() + np.float64(found.quality).tobytes() == other


def test_without_the_library_one_line_names_the_extra(monkeypatch, tmp_path):
    real_import = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "SimpleITK":
            raise ModuleNotFoundError("No module named 'SimpleITK'")
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for call in (lambda: register(patient(1), patient(1)), lambda: register_images([])):
        with pytest.raises(InputError, match=r'pip install -c .*constraints.txt "instructx2x\[register\]"'):
            call()


# Runs


@pytest.fixture
def pairs(tmp_path):
    """Jobs of four pairs: three of one patient each, one with a past image that is only noise."""
    (tmp_path / "sources").mkdir()
    jobs = []
    for number in range(4):
        past, current = tmp_path / "sources" / f"{number}p.png", tmp_path / "sources" / f"{number}c.png"
        picture = patient(number, 96)
        turned = moved(picture, movement(2 * number, 1, (0.02, 0), 96)) if number else hopeless()["noise"][:96, :96]
        Image.fromarray(turned).save(past)
        Image.fromarray(picture).save(current)
        jobs.append((past, current, tmp_path / "out" / f"{number}.png"))
    return jobs


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_writes_what_register_returns(pairs):
    qualities = register_images(pairs, workers=2)
    assert list(qualities) == [target for _, _, target in pairs]
    for past, current, target in pairs:
        found = register(np.asarray(Image.open(past)), np.asarray(Image.open(current)))
        np.testing.assert_array_equal(np.asarray(Image.open(target)), found.image)
        assert qualities[target] == pytest.approx(found.quality, abs=1e-6)
    assert qualities[pairs[0][2]] < MIN_QUALITY < min(qualities[target] for _, _, target in pairs[1:])


def test_qualities_outlive_the_run(pairs, monkeypatch):
    first, files = register_images(pairs), contents(pairs[0][2].parent)
    pairs[1][2].unlink()
    calls = []
    real = register
    monkeypatch.setattr(registration, "register", lambda *images: (calls.append(1), real(*images))[1])
    assert register_images(pairs, workers=1) == first
    assert len(calls) == 1
    assert contents(pairs[0][2].parent) == files


def test_the_number_of_workers_changes_no_byte(pairs, tmp_path):
    others = [(past, current, tmp_path / "one" / target.name) for past, current, target in pairs]
    assert list(register_images(pairs, workers=4).values()) == list(register_images(others, workers=1).values())
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_other_sources_under_the_same_target_are_registered_anew(pairs):
    past, current, target = pairs[1]
    before = register_images([(past, current, target)])[target]
    assert register_images([(pairs[0][0], current, target)])[target] != before
    assert register_images([(past, current, target)])[target] == before


def test_sources_prepared_anew_are_registered_anew(tmp_path):
    for size in (128, 64):
        for name, turned in (("past", movement(4, 1, (0, 0), 128)), ("current", IDENTITY)):
            Image.fromarray(moved(patient(2), turned)).save(tmp_path / f"{name}-original.png")
            prepare_images([(tmp_path / f"{name}-original.png", tmp_path / f"{name}.png")], Preparation(size))
        register_images([(tmp_path / "past.png", tmp_path / "current.png", tmp_path / "target.png")])
        assert Image.open(tmp_path / "target.png").size == (size, size)


def test_failures_are_told_and_stop_nothing(pairs, tmp_path):
    pairs[0][0].unlink()
    pairs[1][1].write_bytes(pairs[1][1].read_bytes()[:500])
    Image.fromarray(patient(1, 64)).save(pairs[2][1])
    outcomes = list(register_images(pairs, workers=2).values())
    assert "no such file" in outcomes[0] and "cut short" in outcomes[1] and "same size" in outcomes[2]
    assert all(outcome.isprintable() for outcome in outcomes[:3])
    assert outcomes[3] > MIN_QUALITY
    assert list(contents(tmp_path / "out")) == ["3.png"]


RUN = """
import sys
from pathlib import Path
from instructx2x.dataset.registration import register_images
sources, out = map(Path, sys.argv[1:])
register_images([(sources / f"{n % 4}p.png", sources / f"{n % 4}c.png", out / f"{n}.png") for n in range(400)])
"""


def test_a_killed_run_is_taken_up(pairs, tmp_path):
    out, sources = tmp_path / "out", tmp_path / "sources"
    process = subprocess.Popen([sys.executable, "-c", RUN, sources, out])
    deadline = time.monotonic() + 30
    while len(list(out.glob("?.png")) if out.is_dir() else ()) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    jobs = [(*job[:2], out / f"{n}.png") for n, job in enumerate(pairs)]
    undisturbed = [(*job[:2], tmp_path / "undisturbed" / job[2].name) for job in pairs]
    assert list(register_images(jobs).values()) == list(register_images(undisturbed).values())
    # What the killed run wrote beyond these jobs is whole as well.
    assert all(Image.open(path).load() for path in out.iterdir())
    for *_, target in undisturbed:
        assert (out / target.name).read_bytes() == target.read_bytes()


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="the open X-rays are not here")
def test_real_radiographs_are_laid_back():
    errors, rng = [], np.random.default_rng(0)
    for path in sorted(REAL.glob("nih*"))[5::1000]:
        current = prepare_image(path, Preparation(512))
        true = movement(rng.uniform(-8, 8), rng.uniform(0.9, 1.1), rng.uniform(-0.08, 0.08, 2), 512)
        errors.append(corner_error(register(moved(current, true, gamma=1.15), current).matrix, true, 512))
    assert np.median(errors) < 2
