"""Compressed DICOM frames: which transfer syntaxes are read, what a codestream says of itself, its decoding."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import uid

from ..errors import InputError
from . import jpeg
from .radiograph import check_scans

# Transfer syntax -> the decoder of imagecodecs, and whether it is meant to lose something. One library for all:
# libjpeg-turbo (jpeg8: baseline, extended to 12 bits, lossless to 16), CharLS (jpegls), OpenJPEG (jpeg2k) and
# PackBits (rle). The decoder plugins of pydicom were weighed: Pillow's lacks 12 bits, JPEG lossless and JPEG-LS,
# pylibjpeg's libjpeg is GPL, and gdcm's ended the process on damaged codestreams.
CODECS = {
    uid.JPEGBaseline8Bit: ("jpeg8", True),
    uid.JPEGExtended12Bit: ("jpeg8", True),
    uid.JPEGLossless: ("jpeg8", False),
    uid.JPEGLosslessSV1: ("jpeg8", False),
    uid.JPEGLSLossless: ("jpegls", False),
    uid.JPEGLSNearLossless: ("jpegls", True),
    uid.JPEG2000Lossless: ("jpeg2k", False),
    uid.JPEG2000: ("jpeg2k", True),
    uid.HTJ2KLossless: ("jpeg2k", False),
    uid.HTJ2KLosslessRPCL: ("jpeg2k", False),
    uid.HTJ2K: ("jpeg2k", True),
    uid.RLELossless: ("rle", False),
}
DECODER = Path(__file__).with_name("decoder.py")
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
MAX_FRAGMENTS = 100_000
# Of processor time, which the decoder bounds itself; on a busy machine the clock may show ten times as much.
START_SECONDS = 6
PATIENCE = 10
DAMAGED = "the compressed pixel data is damaged or cut short; get an intact copy"


@dataclass(frozen=True)
class Codestream:
    """What a codestream's own header says.

    Attributes:
        rows, columns, components: its size.
        bits: precision of a sample.
        lossy: the coding process loses something, whatever the transfer syntax claims.
    """

    rows: int
    columns: int
    components: int
    bits: int
    lossy: bool


def frame(pixel_data: bytes) -> bytes:
    """The codestream of encapsulated single-frame pixel data: its fragments, joined.

    Raises:
        InputError: damaged, or in absurdly many pieces.
    """
    fragments, at = [], 0
    while len(fragments) <= MAX_FRAGMENTS and pixel_data[at : at + 4] == ITEM:
        start = at + 8
        at = start + int.from_bytes(pixel_data[at + 4 : start], "little")
        if at > len(pixel_data):
            raise InputError(DAMAGED)
        fragments.append(memoryview(pixel_data)[start:at])
    # The first is the table of offsets, which one frame does not need.
    if not 2 <= len(fragments) <= MAX_FRAGMENTS or pixel_data[at : at + 4] not in (DELIMITER, b""):
        raise InputError(DAMAGED)
    return b"".join(fragments[1:])


def decode(data: bytes, codec: str, rows: int, columns: int, allocated: int) -> tuple[np.ndarray, Codestream]:
    """Decode one gray frame in a process of its own, bounded in time and memory.

    Args:
        data: the codestream.
        codec: a decoder named in `CODECS`.
        rows, columns, allocated: size and bits allocated, as the DICOM header says; the codestream must agree.

    Returns:
        (rows, columns) integers as the decoder gives them, and what the codestream says of itself.

    Raises:
        InputError: a codestream that is damaged or is not the image of the header.
    """
    if codec == "jpeg2k":
        # Some writers wrap the codestream in a JP2 file.
        data = data[max(0, data.find(b"\xff\x4f\xff\x51")) :]
    try:
        header = {"rle": _rle, "jpeg2k": _jpeg2k}.get(codec, _jpeg)(data, rows, columns)
    except (struct.error, IndexError) as error:
        raise InputError(DAMAGED) from error
    if (header.rows, header.columns) != (rows, columns):
        raise InputError(
            f"the compressed image is {header.columns} x {header.rows} pixels, its DICOM header says "
            f"{columns} x {rows}; correct the header"
        )
    if header.components != 1:
        raise InputError(f"{header.components} components in the compressed pixel data; only gray is read")
    if codec != "rle" and b"\xff\xd9" not in data.rstrip(b"\0")[-16:]:
        # Without its end marker a stream is cut short, which libjpeg would only warn about.
        raise InputError(DAMAGED)
    if not 2 <= header.bits <= allocated:
        raise InputError(f"{header.bits} bits in the compressed pixel data, {allocated} in the DICOM header")
    if codec == "jpeg8":
        check_scans(data, rows * columns)
    return _run(data, codec, rows, columns), header


def _run(data: bytes, codec: str, rows: int, columns: int) -> np.ndarray:
    # Ten times what the slowest decoder, JPEG 2000 of noise, took on one core; most of the rest is start-up.
    seconds = START_SECONDS + 5 * rows * columns // 1_000_000
    command = [sys.executable, "-P", str(DECODER), codec, str(rows), str(columns), str(seconds)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command,
                input=data,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE * seconds,
                env=environment,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(DAMAGED) from error
        if done.returncode:
            raise InputError(DAMAGED)
        output.seek(0)
        dtype = np.dtype(output.readline().strip().decode())
        return np.fromfile(output, dtype, count=rows * columns).reshape(rows, columns)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker segments of a JPEG, JPEG-LS or JPEG 2000 main header, up to the first scan or tile."""
    for marker, begin, stop in jpeg.segments(data):
        if marker in (0xDA, 0x90):
            yield marker, data[begin + 4 : begin + 2 + int.from_bytes(data[begin + 2 : begin + 4], "big")]
            return
        yield marker, data[begin + 4 : stop]


def _jpeg(data: bytes, rows: int, columns: int) -> Codestream:
    """JPEG (ISO 10918-1, B.2.2) and JPEG-LS (ISO 14495-1, C.2.2)."""
    if data[:2] != b"\xff\xd8":
        raise InputError(DAMAGED)
    size = near = None
    for marker, body in _segments(data):
        if jpeg.is_frame(marker):
            if size:
                raise InputError(DAMAGED)
            size, kind = struct.unpack(">BHHB", body[:6]), marker
        elif marker == 0xDA:
            near = body[1 + 2 * body[0]]
    if not size:
        raise InputError(DAMAGED)
    bits, height, width, components = size
    # SOF 3 is the lossless process, SOF 55 JPEG-LS, which loses up to NEAR in a value.
    return Codestream(height, width, components, bits, lossy=near > 0 if kind == 0xF7 else kind != 0xC3)


def _jpeg2k(data: bytes, rows: int, columns: int) -> Codestream:
    """JPEG 2000 (ISO 15444-1, A.5.1 SIZ and A.6.1 COD)."""
    size = lossy = None
    for marker, body in _segments(data):
        if marker == 0x51:
            right, bottom, left, top = struct.unpack(">4I", body[2:18])
            (components,) = struct.unpack(">H", body[34:36])
            bits, step_x, step_y = body[36:39]
            size = (bottom - top, right - left, components, (bits & 0x7F) + 1)
            if (step_x, step_y) != (1, 1):
                raise InputError(DAMAGED)
        elif marker == 0x52:
            lossy = body[9] == 0
    if size is None or lossy is None:
        raise InputError(DAMAGED)
    return Codestream(*size, lossy=lossy)


def _rle(data: bytes, rows: int, columns: int) -> Codestream:
    """DICOM RLE, which names no size: PS3.5 annex G."""
    (segments,) = struct.unpack("<I", data[:4])
    return Codestream(rows, columns, 1, 8 * segments, lossy=False)
