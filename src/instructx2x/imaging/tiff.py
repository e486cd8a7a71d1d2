"""Limits on the directory of a TIFF, asked before a library sees it, and its bits in the usual order."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO

from PIL import TiffImagePlugin

from ..errors import InputError
from .radiograph import MAX_PIXELS, check_scans

DAMAGED = "a damaged TIFF, or one cut short; get an intact copy"
MAX_ENTRIES = 1_000
MAX_VALUES = 64 << 20
MAX_PIECES = 100_000
# Offsets and byte counts of strips and of tiles.
PIECES = (273, 279, 324, 325)
# Bytes of a value of each type; unknown ones are passed over by readers.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# None, LZW, JPEG of both kinds, Deflate, PackBits, Deflate again, LZMA, Zstandard.
COMPRESSIONS = (1, 5, 6, 7, 8, 32773, 32946, 34925, 50000)
NAMES = {
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34892: "DNG JPEG",
    34887: "LERC",
    50001: "WebP",
    50002: "JPEG XL",
    22610: "JPEG XR",
    34934: "JPEG XR",
}
JPEG = (6, 7)
FILL_ORDER = 266
# Further pages, Exif, GPS and what cameras put below them: nothing of the picture.
BELOW = (330, 34665, 34853, 40965)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@contextmanager
def silenced() -> Iterator[None]:
    """Let libtiff say nothing: it tells of damage on the process's own stderr, beside the exception that follows.

    What other threads write there meanwhile is lost as well.
    """
    try:
        kept = os.dup(2)
    except OSError:
        yield  # there is no stderr
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of a TIFF's first page.

    Raises:
        InputError: damage, a directory or values of absurd size.
    """
    start, entry, entries = _directory(data)
    total = 0
    for tag, kind, number, _ in entry.iter_unpack(entries):
        total += number * SIZES.get(kind, 1)
        if tag in PIECES and number > MAX_PIECES:
            raise InputError(f"a TIFF cut into more than {MAX_PIECES:,} pieces; save it anew")
    if total > MAX_VALUES:
        raise InputError("a TIFF directory that claims megabytes; save it anew")
    stream = BytesIO(data)
    found = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if _is_big(data) else 8))
    stream.seek(start)
    found.load(stream)
    return found


def checked(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of a TIFF of one page that costs a decoder no more than its pixels.

    Raises:
        InputError: as `tags`; several pages; no strips, absurdly many, giant tiles, or the same bytes again and again;
            or a JPEG inside with absurdly many scans.
    """
    found = tags(data)
    try:
        pixels = found[TiffImagePlugin.IMAGELENGTH] * found[TiffImagePlugin.IMAGEWIDTH]
    except KeyError as error:
        raise InputError(DAMAGED) from error
    if found.next:
        raise InputError("several pages in one TIFF; save the one to edit as a single page")
    offsets, counts = pieces(found)
    if not offsets:
        raise InputError("a TIFF without strips or tiles; get an intact copy")
    if found.get(TiffImagePlugin.TILEWIDTH, 1) * found.get(TiffImagePlugin.TILELENGTH, 1) > MAX_PIXELS:
        raise InputError("a TIFF with tiles of more than 100 megapixels; save it anew")
    if sum(counts) > len(data):
        raise InputError("strips or tiles of a TIFF that are cut short or share their bytes; get an intact copy")
    if found.get(TiffImagePlugin.COMPRESSION, 1) in JPEG:
        check_scans(data, pixels, len(offsets))
    return found


def pieces(found: Mapping) -> tuple[Sequence[int], Sequence[int]]:
    """Offsets and byte counts of the strips, or of the tiles."""
    for offsets, counts in (PIECES[:2], PIECES[2:]):
        if offsets in found:
            return found[offsets], found.get(counts, ())
    return (), ()


def simple(data: bytes, found: Mapping) -> bytes:
    """The same TIFF with FillOrder 1 and without directories below its own; the same bytes where it has neither.

    With FillOrder 2, the bits of every byte of its pieces are turned round; those of JPEG have an order of their own.

    Raises:
        InputError: it does not say where its pieces end.
    """
    if found.get(FILL_ORDER, 1) != 2 and not any(tag in found for tag in BELOW):
        return data
    turned = bytearray(data)
    if found.get(FILL_ORDER, 1) == 2 and found.get(TiffImagePlugin.COMPRESSION, 1) not in JPEG:
        offsets, counts = pieces(found)
        if len(offsets) != len(counts):
            raise InputError("a TIFF of FillOrder 2 without byte counts; save it with FillOrder 1")
        for offset, count in zip(offsets, counts, strict=True):
            turned[offset : offset + count] = data[offset : offset + count].translate(_REVERSED)
    start, entry, entries = _directory(data)
    first = start + (8 if _is_big(data) else 2)
    for number, (tag, *_) in enumerate(entry.iter_unpack(entries)):
        if tag == FILL_ORDER or tag in BELOW:
            # Readers pass over types that they do not know; without the entry, FillOrder is 1.
            struct.pack_into(f"{entry.format[0]}H", turned, first + number * entry.size + 2, 0)
    return bytes(turned)


def _is_big(data: bytes) -> bool:
    return 43 in data[2:4]


def _directory(data: bytes) -> tuple[int, struct.Struct, bytes]:
    """Where the first directory begins, the layout of its entries (tag, type, count, value), and their bytes."""
    order = "<" if data[:1] == b"I" else ">"
    word, count_of = ("Q", "Q") if _is_big(data) else ("I", "H")
    entry = struct.Struct(f"{order}HH{word}{word}")
    try:
        (start,) = struct.unpack_from(f"{order}{word}", data, 8 if _is_big(data) else 4)
        (count,) = struct.unpack_from(f"{order}{count_of}", data, start)
    except (struct.error, OverflowError) as error:
        raise InputError(DAMAGED) from error
    if count > MAX_ENTRIES:
        raise InputError("a TIFF directory of more than a thousand entries; save it anew")
    first = start + struct.calcsize(f"{order}{count_of}")
    entries = data[first : first + count * entry.size]
    if len(entries) < count * entry.size:
        raise InputError(DAMAGED)
    return start, entry, entries
