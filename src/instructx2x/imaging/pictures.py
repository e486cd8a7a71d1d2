"""Pictures that are no radiographs: regions, masks, panels. One rule for all that the package opens.

PNG, TIFF, JPEG and BMP, known by their first bytes. What else an image library would open (PostScript starts another
program, other formats decode code of their own) is refused before the library sees it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from io import BytesIO

from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ..errors import InputError
from ..files import contents, label
from . import jpeg, orientation, png, tiff
from .radiograph import MAX_PIXELS, check_scans

MAX_BYTES = 1 << 30
PNG, JPEG, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
# For Image.open, where the package opens pictures of its own.
FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_picture(path: str | os.PathLike, check: Callable[[int, int], None] | None = None) -> Image.Image:
    """Read a PNG, TIFF, JPEG or BMP, upright as every viewer shows it.

    Args:
        path: the file; its content decides about the format.
        check: called with width and height before anything is decoded, to raise an InputError of its own.

    Returns:
        The loaded picture, in whatever mode.

    Raises:
        InputError: another format, damage, absurd contents, or more than 100 megapixels; one line with its name.
    """
    data = contents(path, MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _open(data, check)
    except InputError as error:
        raise InputError(f"{label(path)}: {error}") from error.__cause__
    except MemoryError as error:
        raise InputError(f"{label(path)}: not enough memory for this picture; free some, or scale it down") from error
    except Exception as error:
        # Decoders answer damage with exceptions of every class.
        raise InputError(f"{label(path)}: not a whole picture; get an intact copy or save it anew") from error


def _open(data: bytes, check: Callable[[int, int], None] | None) -> Image.Image:
    turned = 1
    if data.startswith(PNG):
        found = png.survey(data)
        if found.frames > 1:
            raise InputError("an animated PNG; save the one picture")
        image = PngImagePlugin.PngImageFile(BytesIO(data))
    elif data.startswith(JPEG):
        found = jpeg.bare(data)
        check_scans(found.data, found.height * found.width)
        image, turned = JpegImagePlugin.JpegImageFile(BytesIO(found.data)), found.orientation
    elif data.startswith(TIFF):
        tags = tiff.checked(data)
        # Pillow sets a TIFF upright by itself.
        image = TiffImagePlugin.TiffImageFile(BytesIO(tiff.simple(data, tags)))
    elif data.startswith(BMP):
        # Packed runs are unpacked by Python, pixel by pixel.
        if int.from_bytes(data[14:18], "little") >= 40 and int.from_bytes(data[30:34], "little") not in (0, 3):
            raise InputError("a compressed BMP; save it as PNG")
        image = BmpImagePlugin.BmpImageFile(BytesIO(data))
    else:
        raise InputError("not a PNG, TIFF, JPEG or BMP picture; save it as PNG")
    if data.startswith(PNG):
        turned = orientation.of_png(image.info)
    width, height = image.size[::-1] if turned >= 5 else image.size
    if width * height > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels is more than 100 megapixels; scale it down")
    if check is not None:
        check(width, height)
    if data.startswith(PNG):
        png.check_pixels(data, found)
    with tiff.silenced():
        image.load()
    # The chunk that says so may follow the picture.
    return orientation.upright(image, orientation.of_png(image.info) if data.startswith(PNG) else turned)
