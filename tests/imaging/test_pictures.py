"""PNG, TIFF and JPEG: what comes in, what goes out, and every refusal in one line."""

import io
import os
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from instructx2x.errors import InputError
from instructx2x.imaging import edited_suffix, read, write

REAL = Path(__file__).parents[2] / "../shared/data/cxr/images"
TEXT = {"Synthetic": "yes", "Instruction": "Add the finding of left pleural effusion.", "Seed": "7"}


def refused(path):
    """The message of the InputError that reading raises, checked to be one line that names the file."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert os.path.basename(path)[:4] in message
    return message


def encoded(pixels, suffix):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}[suffix])
    return buffer.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width, height, depth=8, colour=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("dtype, high", [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_round_trip_is_bit_identical(tmp_path, make_picture, dtype, high, suffix):
    pixels = make_picture(dtype, 0, high)
    source = tmp_path / f"chest{suffix}"
    Image.fromarray(pixels).save(source)
    radiograph = read(source)
    assert radiograph.pixels.dtype == dtype
    assert (radiograph.format, radiograph.lossy, radiograph.path) == (suffix[1:], False, source)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    assert edited_suffix(radiograph) == suffix

    write(radiograph, tmp_path / f"edited{suffix}", text=TEXT)
    again = read(tmp_path / f"edited{suffix}")
    assert again.pixels.dtype == dtype
    np.testing.assert_array_equal(again.pixels, pixels)
    np.testing.assert_array_equal(again.table, radiograph.table)


@pytest.mark.parametrize("dtype, low, high", [("u1", 0, 255), ("u2", 0, 65535), ("i2", -3000, 3000)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_stored_values(tmp_path, make_picture, dtype, low, high, order, photometric, compression, big):
    pixels = make_picture(dtype, low, high)
    path = tmp_path / "chest.tif"
    options = {"photometric": photometric, "compression": compression, "byteorder": order, "bigtiff": big}
    tifffile.imwrite(path, pixels, metadata=None, **options)
    rare = dtype == "i2" and (photometric == "miniswhite" or (order == ">" and compression))
    if rare or (big and order == ">"):
        assert "save it" in refused(path)
        return
    radiograph = read(path)
    assert radiograph.pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    assert radiograph.inverted == (photometric == "miniswhite")
    darkest = radiograph.display().argmin()
    assert pixels.flat[darkest] == (pixels.max() if radiograph.inverted else pixels.min())

    write(radiograph, tmp_path / "edited.tiff", text=TEXT)
    with tifffile.TiffFile(tmp_path / "edited.tiff") as file:
        assert file.pages[0].photometric.name.lower() == photometric
        assert "Synthetic: yes" in file.pages[0].description
        np.testing.assert_array_equal(file.asarray(), pixels)
    again = read(tmp_path / "edited.tiff")
    np.testing.assert_array_equal(again.display(), radiograph.display())


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("dtype, high", [(np.uint8, 255), (np.uint16, 65535)])
def test_tiff_lossless_compression(tmp_path, make_picture, compression, dtype, high):
    pixels = make_picture(dtype, 0, high)
    path = tmp_path / "chest.tif"
    try:
        Image.fromarray(pixels).save(path, compression=compression)
    except (OSError, RuntimeError, KeyError):
        pytest.skip(f"this Pillow does not write {compression}")
    radiograph = read(path)
    assert not radiograph.lossy
    np.testing.assert_array_equal(radiograph.pixels, pixels)


def test_lossy_sources_go_to_png(tmp_path, make_picture):
    image = Image.fromarray(make_picture(np.uint8, 0, 255))
    image.save(tmp_path / "chest.jpg", quality=80)
    image.save(tmp_path / "chest.tif", compression="jpeg")
    for name in ("chest.jpg", "chest.tif"):
        radiograph = read(tmp_path / name)
        assert radiograph.lossy
        assert edited_suffix(radiograph) == ".png"
        write(radiograph, tmp_path / "edited.png", text=TEXT)
        np.testing.assert_array_equal(read(tmp_path / "edited.png").pixels, radiograph.pixels)
        np.testing.assert_array_equal(radiograph.pixels, np.asarray(Image.open(tmp_path / name)))


def test_png_carries_the_text(tmp_path, make_picture):
    Image.fromarray(make_picture(np.uint16, 0, 65535)).save(tmp_path / "chest.png")
    text = TEXT | {"Model": "größer"}
    write(read(tmp_path / "chest.png"), tmp_path / "edited.png", text=text)
    with Image.open(tmp_path / "edited.png") as image:
        assert image.text == text


def test_png_of_signed_and_inverted_values_tells_the_way_back(tmp_path, make_picture):
    pixels = make_picture(np.int16, -700, 900)
    tifffile.imwrite(tmp_path / "signed.tif", pixels, metadata=None, photometric="minisblack")
    write(read(tmp_path / "signed.tif"), tmp_path / "signed.png", text=TEXT)
    with Image.open(tmp_path / "signed.png") as image:
        assert image.text["Stored value"] == "PNG value - 32768"
        np.testing.assert_array_equal(np.asarray(image).astype(np.int64) - 32768, pixels)

    pixels = make_picture(np.uint8, 10, 200)
    tifffile.imwrite(tmp_path / "white.tif", pixels, metadata=None, photometric="miniswhite")
    radiograph = read(tmp_path / "white.tif")
    write(radiograph, tmp_path / "white.png", text=TEXT)
    with Image.open(tmp_path / "white.png") as image:
        assert image.text["Stored value"] == "255 - PNG value"
        np.testing.assert_array_equal(255 - np.asarray(image), pixels)
    np.testing.assert_allclose(read(tmp_path / "white.png").display(), radiograph.display(), atol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_stored_as_colour_is_gray(tmp_path, make_picture, mode, suffix):
    pixels = make_picture(np.uint8, 0, 255)
    path = tmp_path / f"chest{suffix}"
    Image.fromarray(pixels).convert(mode).save(path)
    radiograph = read(path)
    assert radiograph.pixels.dtype == np.uint8
    np.testing.assert_array_equal(radiograph.pixels, pixels)


def test_gray_colour_jpeg_is_gray(tmp_path, make_picture):
    path = tmp_path / "chest.jpg"
    Image.fromarray(make_picture(np.uint8, 0, 255)).convert("RGB").save(path)
    np.testing.assert_array_equal(read(path).pixels, np.asarray(Image.open(path))[..., 0])


def test_two_bit_gray_palette(tmp_path, make_picture):
    image = Image.fromarray(make_picture(np.uint8, 0, 3)).convert("P")
    image.putpalette([0, 0, 0, 80, 80, 80, 160, 160, 160, 255, 255, 255])
    image.save(tmp_path / "chest.png", bits=2)
    assert set(np.unique(read(tmp_path / "chest.png").pixels)) == {0, 80, 160, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_is_what_a_viewer_shows(tmp_path, orientation, suffix):
    rows, columns = np.mgrid[0:40, 0:64]
    upright = (rows * 2 + columns * 2).astype(np.uint8)
    upright[:8, :8] = 255  # top left, so every turn and mirror differs
    # How a file with this tag stores that picture: the inverse of the viewer's operation.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"chest{suffix}"
    options = {"quality": 95} if suffix == ".jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    pixels = read(path).pixels
    assert pixels.shape == (40, 64)
    assert np.abs(pixels.astype(int) - upright).mean() < (3 if suffix == ".jpg" else 1e-9)


def test_the_content_decides_not_the_name(tmp_path, make_picture):
    Image.fromarray(make_picture(np.uint8, 0, 255)).save(tmp_path / "chest.png")
    (tmp_path / "chest.png").rename(tmp_path / "chest.dcm")
    assert read(str(tmp_path / "chest.dcm")).format == "png"


@pytest.mark.parametrize("height, width", [(32, 32), (32, 900), (900, 33)])
def test_any_size_and_aspect(tmp_path, make_picture, height, width):
    pixels = make_picture(np.uint16, 0, 65535, height=height, width=width)
    Image.fromarray(pixels).save(tmp_path / "chest.png")
    np.testing.assert_array_equal(read(tmp_path / "chest.png").pixels, pixels)


# What is refused.


def test_no_file(tmp_path):
    assert "no such file" in refused(tmp_path / "gone.png")
    assert "folder" in refused(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    assert "empty" in refused(tmp_path / "empty.png")
    with pytest.raises(InputError):
        read("nul\0byte.png")
    with pytest.raises(InputError):
        read("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "device" in refused(tmp_path / "pipe.png")


def test_a_huge_file_is_not_loaded(tmp_path):
    with open(tmp_path / "huge.dcm", "wb") as file:
        file.truncate(1 << 40)
    assert "1 GiB" in refused(tmp_path / "huge.dcm")


def test_odd_names_stay_on_one_line(tmp_path):
    (tmp_path / "a\nb.png").write_bytes(b"text")
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a\nb.png")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("body", [b"hello, world", b"GIF89a" + bytes(50), b"\0" * 300, b"BM" + bytes(60)])
def test_not_an_image(tmp_path, body):
    (tmp_path / "chest.png").write_bytes(body)
    assert "not a PNG, TIFF, JPEG or DICOM" in refused(tmp_path / "chest.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_cut_short_anywhere(tmp_path, make_picture, suffix):
    whole = encoded(make_picture(np.uint8, 0, 255), suffix)
    path = tmp_path / f"chest{suffix}"
    for share in (0.01, 0.05, 0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_damage_is_an_input_error_or_harmless(tmp_path, make_picture, suffix):
    whole = np.frombuffer(encoded(make_picture(np.uint8, 0, 255), suffix), np.uint8)
    rng = np.random.default_rng(0)
    path = tmp_path / f"chest{suffix}"
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(8, min(len(whole), 400), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read(path)
        except InputError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize("side", [60_000, 9_480, 11_000, 2**31 - 1])
def test_giant_headers_are_refused_before_decoding(tmp_path, side):
    width = side if side != 9_480 else 11_000  # 104 megapixels: below Pillow's own limit
    started = time.monotonic()
    (tmp_path / "bomb.png").write_bytes(png_header(width, side))
    assert "100 megapixels" in refused(tmp_path / "bomb.png")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("big_endian", [False, True])
def test_giant_tiff_header(tmp_path, make_picture, big_endian):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, make_picture(np.uint16, 0, 9), metadata=None, byteorder="<>"[big_endian])
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(60_000)
        file.pages[0].tags["ImageLength"].overwrite(60_000)
    assert "100 megapixels" in refused(path)


def test_giant_jpeg_header(tmp_path, make_picture):
    body = bytearray(encoded(make_picture(np.uint8, 0, 255), ".jpg"))
    frame = body.index(b"\xff\xc0")
    body[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    (tmp_path / "bomb.jpg").write_bytes(body)
    assert "100 megapixels" in refused(tmp_path / "bomb.jpg")


def scans(body, side, repeats):
    """A progressive JPEG with another size, whose first scan comes again and again."""
    body = bytearray(body)
    frame, first = body.index(b"\xff\xc2"), body.index(b"\xff\xda")
    body[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    second = body.index(b"\xff\xda", first + 2)
    return bytes(body[:second] + body[first:second] * repeats + body[second:])


@pytest.mark.parametrize("side, repeats", [(9_990, 50), (3_000, 2_000), (40, 250_000)])
def test_scans_without_end_are_refused_before_decoding(tmp_path, make_picture, side, repeats):
    buffer = io.BytesIO()
    flat = Image.fromarray(make_picture(np.uint8, 100, 101))
    flat.convert("RGB").save(buffer, "JPEG", progressive=True, quality=20)
    started = time.process_time()
    (tmp_path / "bomb.jpg").write_bytes(scans(buffer.getvalue(), side, repeats))
    assert "scans" in refused(tmp_path / "bomb.jpg")
    assert time.process_time() - started < 1
    (tmp_path / "bomb.jpg").write_bytes(buffer.getvalue())
    read(tmp_path / "bomb.jpg")


def test_scans_without_end_in_a_tiff(tmp_path, make_picture):
    path = tmp_path / "bomb.tif"
    Image.fromarray(make_picture(np.uint8, 0, 255, height=400, width=300)).save(path, compression="jpeg")
    read(path)
    path.write_bytes(path.read_bytes() + b"\xff\xda" * 1_000_000)
    assert "scans" in refused(path)


def test_too_little_memory_is_said(tmp_path, make_picture, monkeypatch):
    Image.fromarray(make_picture(np.uint8, 0, 255)).save(tmp_path / "chest.png")

    def full(*args):
        raise MemoryError

    monkeypatch.setattr("instructx2x.imaging.reading._png", full)
    assert "not enough memory" in refused(tmp_path / "chest.png")


def test_a_size_that_pillow_only_warns_about_is_read(tmp_path, monkeypatch, recwarn, make_picture):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    Image.fromarray(make_picture(np.uint8, 0, 255)).save(tmp_path / "chest.png")
    read(tmp_path / "chest.png")
    assert not recwarn.list


@pytest.mark.parametrize("height, width", [(1, 1), (31, 200), (200, 31)])
def test_too_small(tmp_path, height, width):
    pixels = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    Image.fromarray(pixels).save(tmp_path / "tiny.png")
    assert "too small" in refused(tmp_path / "tiny.png")


@pytest.mark.parametrize("value, dtype", [(0, np.uint8), (255, np.uint8), (4000, np.uint16)])
def test_no_contrast(tmp_path, value, dtype):
    Image.fromarray(np.full((40, 40), value, dtype)).save(tmp_path / "flat.png")
    assert "no contrast" in refused(tmp_path / "flat.png")


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.tif"])
def test_photographs(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    assert "convert to grayscale" in refused(tmp_path / name)


def test_cmyk(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 4), dtype=np.uint8)
    Image.fromarray(pixels, "CMYK").save(tmp_path / "photo.jpg")
    assert "CMYK" in refused(tmp_path / "photo.jpg")


def test_transparency(tmp_path, make_picture):
    pixels = make_picture(np.uint8, 0, 255)
    Image.merge("LA", [Image.fromarray(pixels), Image.fromarray(pixels)]).save(tmp_path / "clear.png")
    assert "transparent" in refused(tmp_path / "clear.png")


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_sixteen_bit_colour_png(tmp_path, colour):
    (tmp_path / "deep.png").write_bytes(png_header(40, 40, 16, colour))
    assert "16-bit colour or transparency" in refused(tmp_path / "deep.png")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_png(tmp_path, depth):
    (tmp_path / "bits.png").write_bytes(png_header(40, 40, depth))
    assert f"{depth} bits a pixel" in refused(tmp_path / "bits.png")


def test_animated_png(tmp_path, make_picture):
    frames = [Image.fromarray(make_picture(np.uint8, 0, 255, seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    assert "animated" in refused(tmp_path / "film.png")


def test_png_text_bomb(tmp_path, make_picture):
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "x" * 50_000_000, zip=True)
    Image.fromarray(make_picture(np.uint8, 0, 255)).save(tmp_path / "bomb.png", pnginfo=info)
    refused(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    "pixels, reason",
    [
        (np.random.default_rng(0).random((40, 40)).astype(np.float32), "float pixels"),
        (np.full((40, 40), np.nan, np.float32), "float pixels"),
        (np.random.default_rng(0).random((40, 40)), "float pixels"),
        (np.random.default_rng(0).random((40, 40)).astype(np.float16), "float pixels"),
        (np.arange(1600, dtype=np.uint32).reshape(40, 40), "32 bits"),
        (np.arange(1600, dtype=np.int32).reshape(40, 40), "signed 32 bits"),
        (np.zeros((40, 40), np.int8), "signed 8 bits"),
        (np.zeros((40, 40), bool), "1 bits"),
        (np.zeros((40, 40, 3), np.uint16), "16-bit colour"),
        (np.zeros((3, 40, 40), np.uint8), "several pages"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else str(value.dtype),
)
def test_tiff_pixel_kinds(tmp_path, pixels, reason):
    photometric = "rgb" if pixels.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "odd.tif", pixels, metadata=None, photometric=photometric)
    assert reason in refused(tmp_path / "odd.tif")


def test_messages_say_what_to_do(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "tiny.png")
    assert re.search(r"tiny\.png: 9 x 9 pixels is too small; .*32", refused(tmp_path / "tiny.png"))


@pytest.mark.parametrize("name", ["chest.png", "chest.tif"])
def test_a_detector_sized_image_is_read_within_a_second(tmp_path, name):
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 60_000, (300, 300)).repeat(10, axis=0).repeat(10, axis=1)
    pixels = (smooth + rng.integers(0, 4, smooth.shape)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / name, **({"compress_level": 1} if name.endswith("png") else {}))
    started = time.process_time()
    radiograph = read(tmp_path / name)
    spent = time.process_time() - started
    radiograph.display()
    # Processor time with room for a slow or busy machine; about 0.3 s on an idle one.
    assert spent < 2


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="the open X-rays are not here")
def test_real_radiographs(tmp_path):
    for path in sorted(REAL.iterdir())[::400]:
        radiograph = read(path)
        with Image.open(path) as image:
            np.testing.assert_array_equal(radiograph.pixels, np.asarray(image.convert("L")))
        write(radiograph, tmp_path / "edited.png", text=TEXT)
        np.testing.assert_array_equal(read(tmp_path / "edited.png").pixels, radiograph.pixels)
