"""Built files that would keep a decoder busy for minutes or fill the memory: refused before a library sees them."""

import io
import os
import struct
import time
import zlib

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from instructx2x.errors import InputError
from instructx2x.files import check_archive, contents, digest, open_regular
from instructx2x.imaging import read
from instructx2x.imaging.pictures import open_picture

SECONDS = 3  # of processor time, on a slow machine; most take some milliseconds


def soon(path, reader=read):
    """The line with which a reader refuses a file, or None where it reads it; either way at once."""
    started = time.process_time()
    try:
        reader(path)
        line = None
    except InputError as error:
        line = str(error)
        assert line.isprintable() and "\n" not in line
    assert time.process_time() - started < SECONDS
    return line


def picture(kind, dtype=np.uint8, **options):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 56)).astype(dtype)).save(buffer, kind, **options)
    return buffer.getvalue()


EXIF = b"\xff\xe1\x00\x0aExif\0\0aa"
COMMENT = b"\xff\xfe\x00\x03a"
READERS = {"radiograph": read, "picture": open_picture}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("piece", [EXIF, COMMENT, b"\xff\xd8", b"\xff\xdb\x00\x02", b"\xff\xff\xff\xff", b"\0\0\0\0"])
@pytest.mark.parametrize("place", ["head", "scan", "scan alone"])
def test_millions_of_jpeg_segments(tmp_path, reader, piece, place):
    body = picture("JPEG")
    many = piece * (20_000_000 // len(piece))
    scan = body.index(b"\xff\xda")
    bodies = {
        "head": body[:2] + many + body[2:],
        "scan": body[:-2] + many + body[-2:],
        "scan alone": body[:scan] + many,
    }
    (tmp_path / "bomb.jpg").write_bytes(bodies[place])
    line = soon(tmp_path / "bomb.jpg", reader)
    # Bytes between segments, or behind the last row, are passed over by every reader.
    assert line is not None or piece == b"\0\0\0\0" or (piece == b"\xff\xd8" and place == "head")


def test_what_cameras_add_is_passed_over(tmp_path):
    body = picture("JPEG")
    (tmp_path / "plain.jpg").write_bytes(body)
    large = b"".join(b"\xff\xe2" + struct.pack(">H", 60_002) + bytes(60_000) for _ in range(200))
    (tmp_path / "photo.jpg").write_bytes(body[:2] + EXIF * 50 + large + body[2:] + bytes(5_000_000))
    assert soon(tmp_path / "photo.jpg") is None
    np.testing.assert_array_equal(read(tmp_path / "photo.jpg").pixels, read(tmp_path / "plain.jpg").pixels)


def test_an_exif_block_whose_entries_all_claim_it_whole(tmp_path):
    entries = b"".join(struct.pack("<HHII", tag, 7, 60_000, 8) for tag in range(1, 5_000))
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 4_999) + entries
    body = picture("JPEG")
    (tmp_path / "bomb.jpg").write_bytes(body[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + body[2:])
    assert soon(tmp_path / "bomb.jpg") is None


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PACKED = zlib.compress(bytes(50_000_000), 9)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"tEXt", b"a\0b") * 500_000,
        chunk(b"tEXt", b"a\0" + bytes(20_000_000)),
        chunk(b"zTXt", b"a\0\0" + PACKED),
        chunk(b"iTXt", b"a\0\1\0\0\0" + PACKED),
        chunk(b"iCCP", b"a\0\0" + PACKED),
        chunk(b"IDAT", b"") * 200_000,
        chunk(b"eXIf", b"MM\0*" + bytes(20_000_000)),
    ],
    ids=["many-texts", "long-text", "packed-text", "packed-text-2", "packed-profile", "empty-pixels", "exif"],
)
def test_png_chunks(tmp_path, reader, chunks):
    body = picture("PNG")
    (tmp_path / "bomb.png").write_bytes(body[:33] + chunks + body[33:])
    assert "save it anew" in soon(tmp_path / "bomb.png", reader)


def directory(entries, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    packed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + packed + bytes(4)


USUAL = [(256, 3, 1, 40), (257, 3, 1, 40), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "entries",
    [
        [(tag, 4, 1, 0) for tag in range(2_000)],
        [*USUAL, *((tag, 7, 10_000_000, 8) for tag in range(40_000, 40_100))],
        [*USUAL, (273, 4, 4_000_000, 8), (279, 4, 4_000_000, 8)],
        [*USUAL, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8), (325, 4, 1, 100)],
        [*USUAL, (273, 4, 1, 8), (279, 4, 1, 2_000_000_000)],
        USUAL,
    ],
    ids=["entries", "values", "strips", "tiles", "shared", "none"],
)
def test_tiff_directories(tmp_path, reader, entries):
    (tmp_path / "bomb.tif").write_bytes(directory(entries) + bytes(20_000_000))
    assert soon(tmp_path / "bomb.tif", reader) is not None


def test_directories_below_a_tiffs_own_are_not_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56)).astype(np.uint8)
    # An Exif directory of 60,000 entries that all claim ten megabytes.
    below = struct.pack("<H", 60_000) + b"".join(struct.pack("<HHII", tag, 7, 10**7, 8) for tag in range(60_000))
    path = tmp_path / "exif.tif"
    tifffile.imwrite(path, pixels, metadata=None, photometric="minisblack", extratags=[(34664, 4, 1, 0, True)])
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[34664]
    offset, body = tag.valueoffset, bytearray(path.read_bytes())
    body[tag.offset : tag.offset + 2] = struct.pack("<H", 34665)
    body[offset : offset + 4] = struct.pack("<I", len(body))
    path.write_bytes(bytes(body) + below + bytes(10**7))
    for reader in READERS.values():
        assert soon(path, reader) is None
    np.testing.assert_array_equal(read(path).pixels, pixels)


@pytest.mark.parametrize("piece", [EXIF, COMMENT, b"\xff\xff\xff\xff"])
def test_dicom_jpeg_segments(tmp_path, make_dicom, piece):
    path = make_dicom(np.random.default_rng(0).integers(0, 256, (40, 56)).astype(np.uint8), 8)
    dataset = pydicom.dcmread(path)
    body = picture("JPEG")
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.PixelData = encapsulate([body[:2] + piece * (20_000_000 // len(piece)) + body[2:]])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert "JPEG" in soon(path)


@pytest.mark.parametrize("table, fragments", [(10**8, 1), (0, 200_000), (2**32 - 2, 1)])
def test_dicom_fragments(tmp_path, make_dicom, table, fragments):
    path = make_dicom(np.random.default_rng(0).integers(0, 256, (40, 56)).astype(np.uint8), 8)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    item = b"\xfe\xff\x00\xe0"
    offsets = item + struct.pack("<I", table) + bytes(min(table, 10**7))
    dataset.PixelData = (
        offsets + (item + struct.pack("<I", 2) + b"\xff\xd8") * fragments + b"\xfe\xff\xdd\xe0" + bytes(4)
    )
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert soon(path) is not None


def test_sequences_of_known_length_within_each_other(tmp_path, make_dicom):
    inner = b""
    for _ in range(5_000):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(inner)) + inner
        inner = b"\x54\x00\x20\x02SQ\0\0" + struct.pack("<I", len(item)) + item
        if len(inner) > 200_000:
            break
    path = make_dicom(np.random.default_rng(0).integers(0, 256, (40, 56)).astype(np.uint8), 8)
    body = path.read_bytes()
    at = body.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(body[:at] + inner + body[at:])
    soon(path)


# What is no picture of the four formats.


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n{} loop\n%%EOF\n"
OTHERS = {
    "PostScript": POSTSCRIPT,
    "binary EPS": b"\xc5\xd0\xd3\xc6"
    + struct.pack("<6IH", 32, len(POSTSCRIPT), 0, 0, 0, 0, 65535)
    + bytes(2)
    + POSTSCRIPT,
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(200),
    "GIF": picture("GIF"),
    "WebP": picture("WEBP"),
    "ICO": b"\0\0\1\0" + bytes(100),
    "PPM": b"P6 40 40 255\n" + bytes(4800),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": b"%PDF-1.4\n" + bytes(100),
    "XPM": b"/* XPM */\n" + bytes(100),
    "ICNS": b"icns" + bytes(100),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "packed BMP": b"BM" + bytes(12) + struct.pack("<IIIHHI", 40, 40, 40, 1, 8, 1) + bytes(2000),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_unopened(tmp_path, monkeypatch, name):
    monkeypatch.setattr("subprocess.Popen", None)  # no other program is started
    (tmp_path / "region.png").write_bytes(OTHERS[name])
    assert "region.png" in soon(tmp_path / "region.png", open_picture)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP"])
def test_the_four_formats_are_opened(tmp_path, kind):
    pixels = np.zeros((40, 56), np.uint8)
    pixels[:20] = 255
    Image.fromarray(pixels).save(tmp_path / "region", kind)
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "region")) > 127, pixels > 127)
    sizes = []
    open_picture(tmp_path / "region", lambda *size: sizes.append(size))
    assert sizes == [(56, 40)]
    (tmp_path / "region").write_bytes((tmp_path / "region").read_bytes()[:60])
    assert "region" in soon(tmp_path / "region", open_picture)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_picture_is_upright(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 56), np.uint8)
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(tmp_path / "region", kind, exif=exif)
    found = np.asarray(open_picture(tmp_path / "region", lambda *size: size == (40, 56) or pytest.fail(str(size))))
    np.testing.assert_array_equal(found > 127, np.rot90(pixels, -1) > 127)


# What is no file.


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("reader", [read, open_picture, digest, open_regular, check_archive])
def test_pipes_devices_and_folders_do_not_block(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/zero", tmp_path, tmp_path / "none", "a\0b", "x" * 5000):
        assert soon(path, reader) is not None


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc on this system")
def test_files_without_a_size_are_not_waited_for():
    for path in ("/proc/kmsg", "/proc/self/stat", "/proc/self/mem"):
        assert soon(path) is not None


def test_files_are_read_up_to_their_limit(tmp_path):
    (tmp_path / "five").write_bytes(b"12345")
    assert contents(tmp_path / "five", 5) == b"12345"
    with pytest.raises(InputError, match="larger"):
        contents(tmp_path / "five", 4)


@pytest.mark.parametrize("tail", [b"", b"PK\5\6" + bytes(8) + struct.pack("<II", 1 << 30, 0) + bytes(2), b"PK\5\6"])
def test_archives_with_absurd_lists_are_not_opened(tmp_path, tail):
    (tmp_path / "maps.npz").write_bytes(b"PK\3\4" + bytes(1000) + tail)
    assert "maps.npz" in soon(tmp_path / "maps.npz", check_archive)
    np.savez(tmp_path / "maps.npz", mask=np.zeros((9, 9)))
    check_archive(tmp_path / "maps.npz")
