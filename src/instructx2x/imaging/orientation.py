"""Which way up a picture lies, as Exif and XMP say, without handing their tags to a library.

A built Exif block of 64 KiB can make a reader collect hundreds of megabytes; one tag is wanted.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

TAG = 0x0112
_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""")
# How a viewer sets each orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def of_exif(block: bytes) -> int:
    """1 to 8, or 0 where an Exif block (with or without its "Exif" mark) says nothing."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return 0
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return 0
    (count,) = struct.unpack_from(f"{order}H", block, start)
    entries = block[start + 2 : start + 2 + 12 * count]
    for tag, kind, number, value in struct.iter_unpack(f"{order}HHI4s", entries[: len(entries) // 12 * 12]):
        if tag == TAG and number == 1 and kind in (1, 3, 4):
            (found,) = struct.unpack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], value)
            return found if 1 <= found <= 8 else 0
    return 0


def of_xmp(block: bytes | str) -> int:
    """1 to 8, or 0 where an XMP packet says nothing."""
    found = _XMP.search(block if isinstance(block, bytes) else block.encode("utf-8", "replace"))
    return int(found[1]) if found else 0


def of_png(info: dict) -> int:
    """1 to 8, from what Pillow found in the chunks of a PNG."""
    profile = str(info.get("Raw profile type exif") or "")  # ImageMagick's way, in hexadecimal digits
    try:
        raw = bytes.fromhex("".join(profile.split("\n")[3:]))
    except ValueError:
        raw = b""
    packets = (info.get("XML:com.adobe.xmp"), info.get("xmp"))
    return of_exif(info.get("exif") or b"") or of_exif(raw) or max(of_xmp(packet or b"") for packet in packets) or 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """A loaded picture as every viewer shows it."""
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)
