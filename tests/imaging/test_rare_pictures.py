"""Pictures of rarer kinds: read with every value right, or refused by what they are."""

import struct
import zlib

import imagecodecs
import numpy as np
import polars as pl
import pytest
import tifffile
from PIL import Image

from instructx2x.columns import check_harmless
from instructx2x.errors import InputError, of_the_user
from instructx2x.imaging import edited_suffix, read, write
from instructx2x.imaging.pictures import open_picture


def line(path):
    with pytest.raises(InputError) as caught:
        read(path)
    assert "damaged" not in str(caught.value)
    return str(caught.value)


def waves(bits, height=40, width=56):
    rows, columns = np.mgrid[0:height, 0:width]
    shown = (np.sin(rows / 9) + np.cos(columns / 7) + 2) / 4
    return np.round(shown * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


# JPEG.


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("orientation", [1, 6])
def test_lossless_and_deep_jpegs(tmp_path, bits, orientation):
    pixels = waves(bits)
    body = imagecodecs.jpeg8_encode(pixels, bitspersample=bits, lossless=True)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0)
    body = body[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + body[2:]
    (tmp_path / "film.jpg").write_bytes(body)
    radiograph = read(tmp_path / "film.jpg")
    np.testing.assert_array_equal(radiograph.pixels, pixels if orientation == 1 else np.rot90(pixels, -1))
    assert (radiograph.bits, radiograph.format, edited_suffix(radiograph)) == (bits, "jpeg", ".png")


def test_a_lossy_jpeg_of_twelve_bits(tmp_path):
    pixels = waves(12)
    (tmp_path / "film.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, bitspersample=12, level=95))
    radiograph = read(tmp_path / "film.jpg")
    assert radiograph.bits == 12 and np.abs(radiograph.pixels.astype(int) - pixels).max() < 60
    write(radiograph, tmp_path / "edited.png", text={"Synthetic": "yes"})
    np.testing.assert_array_equal(read(tmp_path / "edited.png").pixels, radiograph.pixels)


def test_jpeg_ls_and_deep_colour(tmp_path):
    pixels = waves(12)
    (tmp_path / "film.jpg").write_bytes(imagecodecs.jpegls_encode(pixels))
    np.testing.assert_array_equal(read(tmp_path / "film.jpg").pixels, pixels)
    colour = np.stack([pixels] * 3, axis=-1)
    (tmp_path / "film.jpg").write_bytes(imagecodecs.jpeg8_encode(colour, bitspersample=12))
    assert "12 bits" in line(tmp_path / "film.jpg")


# TIFF.


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("rows", [40, 7])
def test_fill_order(tmp_path, dtype, order, photometric, compression, rows):
    pixels = waves(8 * int(dtype[1]))
    path = tmp_path / "film.tif"
    options = {"photometric": photometric, "compression": compression, "byteorder": order, "rowsperstrip": rows}
    tifffile.imwrite(path, pixels, metadata=None, **options)
    turned = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            bits = np.unpackbits(np.frombuffer(bytes(turned[offset : offset + count]), np.uint8), bitorder="little")
            turned[offset : offset + count] = np.packbits(bits).tobytes()
        # The tag in the place of one that says nothing of the pixels.
        spare = page.tags["XResolution"]
    struct.pack_into(f"{order}HHIHH", turned, spare.offset, 266, 3, 1, 2, 0)
    path.write_bytes(turned)
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    assert radiograph.inverted == (photometric == "miniswhite")


@pytest.mark.parametrize("compression, name", [("jpeg2000", "JPEG 2000"), ("jpegxl", "JPEG XL"), ("webp", "WebP")])
def test_other_compressions_are_named(tmp_path, compression, name):
    pixels = np.stack([waves(8)] * 3, axis=-1) if compression == "webp" else waves(8)
    tifffile.imwrite(tmp_path / "film.tif", pixels, metadata=None, compression=compression)
    assert name in line(tmp_path / "film.tif")


def test_a_tiff_that_does_not_say_what_black_is(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", waves(8), metadata=None)
    with tifffile.TiffFile(tmp_path / "film.tif") as file:
        offset = file.pages[0].tags["PhotometricInterpretation"].offset
    body = bytearray((tmp_path / "film.tif").read_bytes())
    body[offset : offset + 2] = struct.pack("<H", 263)
    (tmp_path / "film.tif").write_bytes(body)
    assert "PhotometricInterpretation" in line(tmp_path / "film.tif")


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_white_is_zero_is_named(tmp_path, order):
    pixels = waves(16).astype(np.int16)
    tifffile.imwrite(tmp_path / "film.tif", pixels, metadata=None, photometric="miniswhite", byteorder=order)
    assert "WhiteIsZero" in line(tmp_path / "film.tif")


@pytest.mark.parametrize("opened", [read, open_picture])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits"])
def test_a_damaged_tiff_is_one_line(tmp_path, capfd, compression, opened):
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, waves(8), metadata=None, compression=compression)
    with tifffile.TiffFile(path) as file:
        (offset,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
    body = bytearray(path.read_bytes())
    body[offset : offset + count] = bytes(count)
    path.write_bytes(body)
    capfd.readouterr()
    try:
        opened(path)
    except InputError as error:
        assert str(error).isprintable()
    # What libtiff would say of it.
    assert capfd.readouterr() == ("", "")


# PNG.


@pytest.mark.parametrize("opened", [read, open_picture])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 700])
@pytest.mark.parametrize("bits", [8, 16])
def test_packed_pixels_that_end_early(tmp_path, bits, cut, interlaced, opened):
    pixels, rows = waves(bits), b""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for left, top, right, down in passes if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[top::down, left::right]:
            rows += b"\0" + row.astype(f">u{bits // 8}").tobytes()
    head = struct.pack(">IIBBBBB", *pixels.shape[::-1], bits, 0, 0, 0, interlaced)
    packed = zlib.compress(rows[: len(rows) - cut])
    # In pieces, as most writers make them.
    chunks = [(b"IHDR", head), *((b"IDAT", packed[at : at + 100]) for at in range(0, len(packed), 100)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "film.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    if cut:
        with pytest.raises(InputError, match="cut short"):
            opened(tmp_path / "film.png")
    elif opened is read:
        np.testing.assert_array_equal(read(tmp_path / "film.png").pixels, pixels)
    else:
        assert opened(tmp_path / "film.png").size == pixels.shape[::-1]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("colour", [False, True])
def test_a_transparent_value(tmp_path, bits, used, colour):
    if colour and bits == 16:
        return  # refused as it is
    pixels = waves(bits)
    value = int(pixels[3, 4]) if used else int(np.setdiff1d(np.arange(1 << bits), pixels)[0])
    Image.fromarray(np.stack([pixels] * 3, axis=-1) if colour else pixels).save(tmp_path / "film.png")
    body = (tmp_path / "film.png").read_bytes()
    told = b"tRNS" + struct.pack(">H", value) * (3 if colour else 1)
    told = struct.pack(">I", len(told) - 4) + told + struct.pack(">I", zlib.crc32(told))
    at = body.index(b"IDAT") - 4
    (tmp_path / "film.png").write_bytes(body[:at] + told + body[at:])
    if used:
        assert "transparent" in line(tmp_path / "film.png")
    else:
        np.testing.assert_array_equal(read(tmp_path / "film.png").pixels, pixels)


# Memory.


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f8")),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["Python", "NumPy", "system", "torch"],
)
def test_too_little_memory_is_the_users_to_mend(error):
    assert "memory" in str(of_the_user(error))
    assert of_the_user(RuntimeError("another")) is None


# Tables that are written.


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_table_is_a_formula(tmp_path, text):
    check_harmless(pl.DataFrame({"instruction": ["Add edema.", "a=1", None, ""], "tokens": [-1, 2, 3, 4]}), tmp_path)
    with pytest.raises(InputError, match="formula") as caught:
        check_harmless(pl.DataFrame({"instruction": ["Add edema.", text]}), tmp_path / "instructions.csv")
    assert str(caught.value).isprintable()
