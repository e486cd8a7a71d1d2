"""Limits on the chunks of a PNG, asked before a library sees them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from ..errors import InputError

DAMAGED = "a damaged PNG, or one cut short; get an intact copy"
# Pixel data in pieces of a few KiB is common; texts and profiles are small.
MAX_CHUNKS = 100_000
MAX_BESIDE = 16 << 20
MAX_TEXT = 1 << 20
# Of interlaced pictures: the first column and row of each pass, and the steps between its columns and rows.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class Png:
    """What the chunks of a PNG say.

    Attributes:
        width, height, bits: of the picture as stored.
        colour: 0 gray, 2 colour, 3 palette, 4 and 6 with transparency.
        transparent: the gray value that tRNS declares transparent, or None.
        frames: more than 1 for an animation.
        interlaced: in seven passes (Adam7).
        pieces: where the packed pixels lie in the file.
    """

    width: int
    height: int
    bits: int
    colour: int
    transparent: int | None
    frames: int
    interlaced: bool
    pieces: tuple[slice, ...]


def survey(data: bytes) -> Png:
    """Walk the chunks of a PNG file.

    Raises:
        InputError: damage, absurdly many chunks, or megabytes beside the picture, packed or not.
    """
    at, beside, transparent, frames, head, pieces = 8, 0, None, 1, None, []
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            if head is None or at < len(data):
                raise InputError(DAMAGED)
            break
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start, at = at + 8, at + 12 + length
        if at > len(data) or (head is None) != (kind == b"IHDR"):
            raise InputError(DAMAGED)
        if kind == b"IEND":
            break
        if kind == b"IHDR":
            head = data[start : start + 13]
        elif kind == b"IDAT":
            pieces.append(slice(start, start + length))
        elif kind != b"fdAT":
            beside += length
            if beside > MAX_BESIDE:
                raise InputError("megabytes of text and profiles in a PNG; save it anew without them")
            _check_packed(kind, data[start : start + length])
        if kind == b"tRNS" and head[9] == 0:
            transparent = int.from_bytes(data[start : start + 2], "big") & ((1 << head[8]) - 1)
        elif kind == b"acTL":
            frames = int.from_bytes(data[start : start + 4], "big")
    else:
        raise InputError("tens of thousands of chunks in a PNG; save it anew")
    if len(head) < 13:
        raise InputError(DAMAGED)
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    return Png(width, height, head[8], head[9], transparent, frames, head[12] == 1, tuple(pieces))


def check_pixels(data: bytes, found: Png) -> None:
    """Refuse a PNG whose packed pixels end early: a library would take the rest for black, without a word.

    Asked after the size was checked, for this unpacks them once, a piece at a time.

    Raises:
        InputError: fewer bytes than its size needs, or none that can be unpacked.
    """
    depth = found.bits * {2: 3, 4: 2, 6: 4}.get(found.colour, 1)
    passes = PASSES if found.interlaced else ((0, 0, 1, 1),)
    sides = (
        (len(range(left, found.width, right)), len(range(top, found.height, down))) for left, top, right, down in passes
    )
    # Each row begins with a byte for its filter.
    needed = sum(height * (1 + (width * depth + 7) // 8) for width, height in sides if width)
    unpacker, unpacked = zlib.decompressobj(), 0
    try:
        for piece in found.pieces:
            packed = data[piece]
            while packed and unpacked < needed:
                unpacked += len(unpacker.decompress(packed, MAX_TEXT))
                packed = unpacker.unconsumed_tail
        unpacked += len(unpacker.flush())
    except zlib.error as error:
        raise InputError(DAMAGED) from error
    if unpacked < needed:
        raise InputError(f"pixel data cut short: {unpacked} of {needed} bytes; get an intact copy")


def _check_packed(kind: bytes, body: bytes) -> None:
    """Refuse a text or profile that unpacks to more than 1 MiB."""
    _, _, rest = body.partition(b"\0")
    if kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].split(b"\0", 2)[-1]
    elif kind in (b"zTXt", b"iCCP"):
        packed = rest[1:]
    else:
        return
    try:
        # What cannot be unpacked at all is the library's to judge.
        unpacked = len(zlib.decompressobj().decompress(packed, MAX_TEXT + 1))
    except zlib.error:
        return
    if unpacked > MAX_TEXT:
        raise InputError(f"a text or profile ({kind.decode()}) of more than 1 MiB in a PNG; save it anew without it")
