"""Outputs appear whole or not at all."""

import os

import numpy as np
import pytest
from PIL import Image

from instructx2x.errors import OutputError
from instructx2x.imaging import atomic_write, eight_bit, from_array, write, write_png


def test_atomic_write_puts_the_file_in_place(tmp_path):
    atomic_write(tmp_path / "report.json", lambda file: file.write_text("{}"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "{}"
    atomic_write(tmp_path / "report.json", lambda file: file.write_text("[]"))
    assert (tmp_path / "report.json").read_text() == "[]"


def test_writers_that_append_a_suffix_find_theirs(tmp_path):
    maps = {"mask": np.ones((2, 3), bool)}
    atomic_write(tmp_path / "maps.npz", lambda file: np.savez(file, **maps))
    assert [entry.name for entry in tmp_path.iterdir()] == ["maps.npz"]
    np.testing.assert_array_equal(np.load(tmp_path / "maps.npz")["mask"], maps["mask"])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, ValueError])
def test_a_failing_writer_leaves_nothing_and_harms_nothing(tmp_path, error):
    (tmp_path / "old.txt").write_text("old")

    def writer(file):
        file.write_text("half")
        raise error("stop")

    with pytest.raises(error):
        atomic_write(tmp_path / "old.txt", writer)
    assert [entry.name for entry in tmp_path.iterdir()] == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


def test_a_full_disk_is_one_line(tmp_path):
    def writer(file):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        atomic_write(tmp_path / "new.txt", writer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing/edited.png", "file/edited.png", "folder.png", "x" * 300 + ".png"])
def test_places_that_cannot_be_written(tmp_path, make_picture, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError) as caught:
        write(from_array(make_picture(np.uint8, 0, 255)), tmp_path / name, text={})
    assert str(caught.value).isprintable()
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder.png"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder(tmp_path, make_picture):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write(from_array(make_picture(np.uint8, 0, 255)), tmp_path / "edited.png", text={})
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("suffix", [".jpg", "", ".npy"])
def test_other_suffixes(tmp_path, make_picture, suffix):
    with pytest.raises(OutputError, match=r"\.png, \.tiff"):
        write(from_array(make_picture(np.uint8, 0, 255)), tmp_path / f"edited{suffix}", text={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_pictures(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_png(array, tmp_path / "overlay.png", text={"Synthetic": "yes"})
    with Image.open(tmp_path / "overlay.png") as image:
        assert image.text == {"Synthetic": "yes"}
        np.testing.assert_array_equal(np.asarray(image), array)


def test_the_same_content_gives_the_same_bytes(tmp_path, make_picture):
    radiograph = from_array(make_picture(np.uint16, 0, 60_000))
    for suffix in (".png", ".tiff"):
        for name in ("a", "b"):
            write(radiograph, tmp_path / f"{name}{suffix}", text={"Seed": "1"})
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_eight_bits_and_back():
    stored = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(eight_bit(stored.astype(np.float32) / 255), stored)
    np.testing.assert_array_equal(eight_bit(np.array([-0.1, 1.1, 0.4999 / 255, 0.5001 / 255])), [0, 255, 0, 1])
