"""Prepared images: their geometry, what is refused, and runs that are cut off."""

import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from instructx2x.dataset import images
from instructx2x.dataset.images import Preparation, prepare_image, prepare_images
from instructx2x.errors import InputError, OutputError
from instructx2x.imaging import atomic_write
from instructx2x.results.folders import staging

LANCZOS = Image.Resampling.LANCZOS


@pytest.fixture
def make_jpeg(tmp_path, make_chest):
    def make(name="chest.jpg", height=300, width=240, quality=95, **options):
        Image.fromarray(make_chest(height, width, seed=len(name))).save(tmp_path / name, quality=quality, **options)
        return tmp_path / name

    return make


def jpeg_bytes(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Geometry


def test_squash_is_what_pillow_makes_of_the_file(make_jpeg):
    source = make_jpeg()
    with Image.open(source) as image:
        expected = np.asarray(image.resize((64, 64), LANCZOS))
    prepared = prepare_image(source, Preparation(64))
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared, expected)


@pytest.mark.parametrize(("height", "width", "box"), [(300, 240, (6, 0, 57, 64)), (100, 400, (0, 24, 64, 40))])
def test_letterbox_keeps_the_aspect_and_centres_on_black(make_jpeg, height, width, box):
    left, top, right, bottom = box
    source = make_jpeg(height=height, width=width)
    with Image.open(source) as image:
        expected = np.asarray(image.resize((right - left, bottom - top), LANCZOS))
    prepared = prepare_image(source, Preparation(64, "letterbox"))
    np.testing.assert_array_equal(prepared[top:bottom, left:right], expected)
    outside = np.ones((64, 64), bool)
    outside[top:bottom, left:right] = False
    assert (prepared[outside] == 0).all()
    # 300 x 240 reduces to 64 x 51.2 pixels, 400 x 100 to 64 x 16: the sides' ratio is kept within half a pixel.
    assert abs((right - left) * height / width - (bottom - top)) < 1


def test_a_square_image_needs_no_bars(make_jpeg):
    source = make_jpeg(height=128, width=128)
    np.testing.assert_array_equal(
        prepare_image(source, Preparation(64, "letterbox")), prepare_image(source, Preparation(64, "squash"))
    )


def test_formats_of_the_same_pixels_agree(tmp_path, make_chest, make_jpeg):
    with Image.open(make_jpeg()) as image:
        pixels = np.asarray(image)
    Image.fromarray(pixels).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / "gray-in-colour.png")
    expected = prepare_image(tmp_path / "chest.jpg", Preparation(64))
    for name in ("gray.png", "gray-in-colour.png"):
        np.testing.assert_array_equal(prepare_image(tmp_path / name, Preparation(64)), expected)


def test_deep_images_come_through_their_window(tmp_path, make_chest):
    pixels = make_chest(200, 160, maximum=4095, dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    prepared = prepare_image(tmp_path / "deep.png", Preparation(64)).astype(float)
    expected = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((64, 64), LANCZOS))
    assert np.corrcoef(prepared.ravel(), expected.ravel())[0, 1] > 0.999
    assert prepared.max() > 200 and prepared.min() < 40


def test_an_orientation_tag_is_applied(tmp_path, make_chest):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(jpeg_bytes(make_chest(200, 160), exif=exif))
    (tmp_path / "plain.jpg").write_bytes(jpeg_bytes(make_chest(200, 160)))
    upright = prepare_image(tmp_path / "turned.jpg", Preparation(64))
    as_stored = prepare_image(tmp_path / "plain.jpg", Preparation(64))
    # Code 6 is shown after a quarter turn clockwise.
    np.testing.assert_allclose(upright.astype(int), np.rot90(as_stored, -1).astype(int), atol=1)


def test_preparations_without_sense():
    for size, mode in ((0, "squash"), (10**9, "squash"), (512, "crop")):
        with pytest.raises(InputError):
            Preparation(size, mode)


# Hostile files


def progressive_bomb():
    """A whole progressive JPEG with its last scan repeated, as a small file that would keep a decoder busy for long."""
    ramp = np.tile(np.linspace(0, 255, 1600).astype(np.uint8), (1600, 1))
    data = jpeg_bytes(ramp, progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 1_000 + data[-2:]


def huge_header(data, height=60_000, width=60_000):
    """The same JPEG, saying in its frame header that it has other sides."""
    at = re.search(rb"\xff\xc0", data).start() + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


HOSTILE = {
    "empty": (lambda chest: b"", "empty"),
    "text": (lambda chest: b"not an image at all", "not a PNG"),
    "half": (lambda chest: jpeg_bytes(chest(300, 240))[:4000], "cut short"),
    "header-only": (lambda chest: jpeg_bytes(chest(300, 240))[:300], "cut short"),
    "no-frame": (lambda chest: b"\xff\xd8\xff\xd9" * 50, "damaged"),
    "noise": (lambda chest: b"\xff\xd8\xff" + np.random.default_rng(0).bytes(5000), "damaged"),
    "colour": (
        lambda chest: jpeg_bytes(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)),
        "colour",
    ),
    "huge": (lambda chest: huge_header(jpeg_bytes(chest(300, 240))), "100 megapixels"),
    "tiny": (lambda chest: jpeg_bytes(chest(8, 8)), "too small"),
    "one-pixel": (lambda chest: jpeg_bytes(np.zeros((1, 1), np.uint8)), "too small"),
    "blank": (lambda chest: jpeg_bytes(np.full((300, 240), 77, np.uint8)), "no contrast"),
    "many-scans": (lambda chest: progressive_bomb(), "scans"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path, make_chest, kind):
    make, reason = HOSTILE[kind]
    source = tmp_path / "hostile.jpg"
    source.write_bytes(make(make_chest))
    started = time.process_time()  # not the clock: these machines are busy
    with pytest.raises(InputError) as caught:
        prepare_image(source, Preparation(64))
    assert reason in str(caught.value) and "hostile.jpg" in str(caught.value)
    assert str(caught.value).isprintable()
    assert time.process_time() - started < 5


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in ("pipe.jpg", "folder.jpg", "loop.jpg", "missing.jpg", "nul\0.jpg", "x" * 300 + ".jpg"):
        with pytest.raises(InputError):
            prepare_image(tmp_path / name, Preparation(64))


def test_every_cut_of_a_file_is_refused_or_whole(make_jpeg):
    source = make_jpeg(height=64, width=64)
    data, whole = source.read_bytes(), prepare_image(source, Preparation(64))
    for end in range(0, len(data), 97):
        source.write_bytes(data[:end])
        try:
            np.testing.assert_array_equal(prepare_image(source, Preparation(64)), whole)
        except InputError:
            continue


def test_an_ordinary_progressive_file_is_taken(make_jpeg):
    assert prepare_image(make_jpeg(progressive=True), Preparation(64)).std() > 10


# Runs


def batch(make_jpeg, target, number=12):
    return [(make_jpeg(f"{'x' * i}.jpg", height=260 + i), target / "deep" / f"{i}.png") for i in range(1, number + 1)]


def test_a_run_writes_what_prepare_image_returns(make_jpeg, tmp_path):
    jobs = batch(make_jpeg, tmp_path / "out")
    assert prepare_images(jobs, Preparation(64, "letterbox")) == {}
    for source, target in jobs:
        with Image.open(target) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.asarray(image), prepare_image(source, Preparation(64, "letterbox")))


def test_failures_are_told_and_stop_nothing(make_jpeg, tmp_path):
    jobs = batch(make_jpeg, tmp_path / "out", 4)
    jobs[1][0].write_bytes(jobs[1][0].read_bytes()[:2000])
    jobs[2][0].unlink()
    failures = prepare_images(iter(jobs), Preparation(64), workers=2)
    assert list(failures) == [jobs[1][1], jobs[2][1]]
    assert "cut short" in failures[jobs[1][1]] and "no such file" in failures[jobs[2][1]]
    assert sorted(contents(tmp_path / "out" / "deep")) == ["1.png", "4.png"]


@pytest.mark.parametrize("workers", [2, 7, None])
def test_the_number_of_workers_changes_no_byte(make_jpeg, tmp_path, workers):
    jobs = batch(make_jpeg, tmp_path / "one")
    prepare_images(jobs, Preparation(64), workers=1)
    others = [(source, tmp_path / "many" / "deep" / target.name) for source, target in jobs]
    prepare_images(others, Preparation(64), workers=workers)
    assert contents(tmp_path / "many" / "deep") == contents(tmp_path / "one" / "deep")


def test_whole_targets_are_left_alone_and_others_made_anew(make_jpeg, tmp_path):
    jobs = batch(make_jpeg, tmp_path / "out", 5)
    targets = [target for _, target in jobs]
    prepare_images(jobs, Preparation(64))
    first = contents(tmp_path / "out" / "deep")
    targets[0].write_bytes(first["1.png"][:-20])
    targets[1].write_bytes(b"")
    targets[2].unlink()
    times = [target.stat().st_mtime_ns for target in targets[3:]]
    jobs[3][0].unlink()  # a whole target needs no source
    assert prepare_images(jobs, Preparation(64)) == {}
    assert contents(tmp_path / "out" / "deep") == first
    assert [target.stat().st_mtime_ns for target in targets[3:]] == times


def test_targets_of_another_preparation_are_made_anew(make_jpeg, tmp_path):
    jobs = batch(make_jpeg, tmp_path / "out", 2)
    for preparation in (Preparation(64), Preparation(32), Preparation(32, "letterbox")):
        assert prepare_images(jobs, preparation) == {}
        for source, target in jobs:
            with Image.open(target) as image:
                np.testing.assert_array_equal(np.asarray(image), prepare_image(source, preparation))


def test_leftovers_of_a_killed_run_are_swept_and_nothing_else(make_jpeg, tmp_path):
    out = tmp_path / "out" / "deep"
    out.mkdir(parents=True)
    kept = {"old.png", ".hidden.png", "notes.txt", ".0123456789abcdef.png"}
    for name in kept:
        (out / name).write_text("x")
    # What is left is what atomic_write leaves, not this test's idea of it.
    left = []
    atomic_write(
        out / "old.png",
        lambda file: (file.write_text("x"), left.append(shutil.copytree(file.parent, out / f".x2x-{'0' * 16}"))),
    )
    assert left[0].is_dir()
    prepare_images(batch(make_jpeg, tmp_path / "out", 1), Preparation(64))
    assert set(contents(out)) == kept | {"1.png"}


def test_no_source_is_ever_replaced(tmp_path, make_chest):
    Image.fromarray(make_chest()).save(tmp_path / "own.png")
    (tmp_path / "alias.png").symlink_to(tmp_path / "own.png")
    before = (tmp_path / "own.png").read_bytes()
    failures = prepare_images([(tmp_path / "alias.png", tmp_path / "own.png")], Preparation(64))
    assert "source" in failures[tmp_path / "own.png"]
    assert (tmp_path / "own.png").read_bytes() == before


def test_places_that_cannot_be_written_are_told(make_jpeg, tmp_path):
    source = make_jpeg()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for target in (tmp_path / "file" / "a.png", tmp_path / "folder.png", tmp_path / ("x" * 300 + ".png")):
        with pytest.raises(OutputError, match="cannot be written") as error:
            prepare_images([(source, target)], Preparation(64))
        assert str(error.value).isprintable()


def test_jobs_that_contradict_each_other(make_jpeg, tmp_path):
    a, b = make_jpeg("a.jpg"), make_jpeg("bb.jpg")
    with pytest.raises(InputError, match="twice"):
        prepare_images([(a, tmp_path / "t.png"), (b, tmp_path / "t.png")], Preparation(64))
    with pytest.raises(InputError, match=r"\.png"):
        prepare_images([(a, tmp_path / "t.jpg")], Preparation(64))
    assert not (tmp_path / "t.png").exists()
    assert prepare_images([(a, tmp_path / "t.png")] * 2, Preparation(64)) == {}
    assert prepare_images([], Preparation(64)) == {}


RUN = """
import sys
from pathlib import Path
from instructx2x.dataset.images import Preparation, prepare_images
sources, out = map(Path, sys.argv[1:])
jobs = [(source, out / f"{source.stem}.png") for source in sorted(sources.iterdir())]
print("started", flush=True)
sys.exit(len(prepare_images(jobs, Preparation(512), workers=2)))
"""


def run(sources, out):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, sources, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start what runs in the background with Ctrl-C ignored, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def many(tmp_path, make_chest):
    (tmp_path / "sources").mkdir()
    data = jpeg_bytes(make_chest(1000, 800))
    for number in range(24):
        (tmp_path / "sources" / f"{number:02}.jpg").write_bytes(data)
    return tmp_path / "sources"


def stop_after(process, out, number, how):
    """Send a signal once so many targets are there; returns how many there are when the process has ended."""
    deadline = time.monotonic() + 30
    while len(list(out.glob("??.png")) if out.is_dir() else ()) < number:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(how)
    process.communicate(timeout=10)
    return len(list(out.glob("??.png")))


def test_a_killed_run_leaves_whole_files_only_and_is_taken_up(tmp_path, many):
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    done = stop_after(run(many, out), out, 5, signal.SIGKILL)
    assert 5 <= done < 24
    for path in out.glob("??.png"):
        with Image.open(path) as image:
            image.load()
    with staging(out) as stage:  # as if killed within a write
        (stage / "new.png").write_bytes(b"half of a file")
        shutil.copytree(stage, out / f".x2x-{'0' * 16}")
    early = {path: path.stat().st_mtime_ns for path in out.glob("??.png")}
    for folder in (out, undisturbed):
        jobs = [(source, folder / f"{source.stem}.png") for source in many.iterdir()]
        assert prepare_images(jobs, Preparation(512), workers=2) == {}
    assert contents(out) == contents(undisturbed)
    assert len(contents(out)) == 24
    assert all(path.stat().st_mtime_ns == then for path, then in early.items())


def test_ctrl_c_ends_promptly_and_leaves_whole_files_only(tmp_path, many):
    process, out = run(many, tmp_path / "out"), tmp_path / "out"
    done = stop_after(process, out, 5, signal.SIGINT)
    assert process.returncode not in (0, None)
    # At most what was in work, two images, is finished after the signal; the other files are as they were.
    assert done < 15
    assert all(images.text_entries(path) == {"Preparation": "squash 512"} for path in out.iterdir())
