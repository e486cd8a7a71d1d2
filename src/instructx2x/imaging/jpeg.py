"""What a JPEG says of itself, and its bytes without all that is no picture.

Cameras and archives add segments of their own, and a built file can hold millions. Libraries collect them, some in
quadratic time; here they are walked once, within limits, and only what a decoder needs is handed on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InputError
from . import orientation

DAMAGED = "a damaged JPEG, or one cut short; get an intact copy"
# A progressive image has about 40 segments; photographs with large profiles some hundreds.
FILLED = "a JPEG with thousands of fill bytes; save it anew"
MAX_SEGMENTS = 2_000
MAX_FILL = 4_096
# The next marker within entropy-coded data: no stuffed zero (JPEG-LS stuffs a bit), no restart, no fill byte.
_NEXT = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_FILL = re.compile(rb"\xff+")
# Huffman tables, arithmetic conditioning, scans, quantization, lines, restarts, JFIF, JPEG-LS, Adobe's colours.
_NEEDED = {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xE0, 0xF8, 0xEE}
# Without a length: junk, TEM, restarts, SOI.
_BARE = {0x00, 0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class Jpeg:
    """A JPEG's frame header, and the file without what no decoder needs.

    Attributes:
        data: SOI, tables, frame, scans and EOI alone.
        height, width, bits, components: of the picture as stored.
        process: low half of its SOF marker, 3 for lossless; 0xF7 for JPEG-LS.
        orientation: 1 to 8, as Exif or XMP says.
    """

    data: bytes
    height: int
    width: int
    bits: int
    components: int
    process: int
    orientation: int


def is_frame(marker: int) -> bool:
    """Whether a marker begins a frame header: SOF 0 to 15, or SOF 55 of JPEG-LS."""
    return (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7


def segments(data: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and stop of each segment, data[begin:stop], up to EOI; that of a scan holds its coded data too.

    A segment's own bytes begin four later, behind the marker and the length.

    Raises:
        InputError: damage, or absurdly many segments or fill bytes.
    """
    run = at
    for _ in range(MAX_SEGMENTS):
        at = data.find(b"\xff", at)
        fill = _FILL.match(data, at) if at >= 0 else None
        if fill is None or fill.end() == len(data):
            raise InputError(DAMAGED)
        if fill.end() - at > MAX_FILL:
            raise InputError(FILLED)
        begin, marker = fill.end() - 1, data[fill.end()]
        at = begin + 2
        if marker == 0xD9:
            return
        if marker in _BARE:
            continue
        stop = at + int.from_bytes(data[at : at + 2], "big")
        if not at + 2 <= stop <= len(data):
            raise InputError(DAMAGED)
        if marker == 0xDA:
            # The next run of fill bytes is looked for once, not from every scan anew.
            if run < stop:
                run = data.find(b"\xff" * MAX_FILL, stop)
                run = len(data) if run < 0 else run
            following = _NEXT.search(data, stop, run + 1)
            if following is None:
                raise InputError(DAMAGED if run == len(data) else FILLED)
            stop = following.start()
        yield marker, begin, stop
        at = stop
    raise InputError("a JPEG with thousands of segments; save it anew")


def bare(data: bytes) -> Jpeg:
    """Walk a JPEG file once, and keep what its picture needs.

    Raises:
        InputError: damage, no frame or two, or absurdly many segments or fill bytes.
    """
    view, frame, turned = memoryview(data), None, 0
    kept = [view[:2]]
    for marker, begin, stop in segments(data):
        if is_frame(marker):
            if frame is not None or stop - begin < 10:
                raise InputError(DAMAGED)
            frame = (marker, *struct.unpack(">BHHB", data[begin + 4 : begin + 10]))
        elif marker == 0xE1 and not turned:
            turned = orientation.of_exif(data[begin + 4 : stop]) or orientation.of_xmp(data[begin + 4 : stop])
        if is_frame(marker) or marker in _NEEDED:
            kept.append(view[begin:stop])
    if frame is None:
        raise InputError(DAMAGED)
    marker, bits, height, width, components = frame
    process = marker if marker == 0xF7 else marker & 0x0F
    return Jpeg(b"".join((*kept, b"\xff\xd9")), height, width, bits, components, process, turned or 1)
