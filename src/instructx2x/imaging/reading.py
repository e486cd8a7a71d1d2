"""Files and arrays in: what is accepted, what is refused, and the line that says why."""

from __future__ import annotations

import os
import struct
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ..errors import InputError
from . import dicom
from .radiograph import Radiograph, bands, check_scans, check_size, from_file_values, label

MAX_BYTES = 1 << 30
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# None, LZW, Deflate, PackBits, Deflate again, LZMA, Zstandard.
LOSSLESS_TIFF = (1, 5, 8, 32773, 32946, 34925, 50000)
JPEG_TIFF = (6, 7)

# Pillow reads 16-bit WhiteIsZero from little-endian files only; the big-endian pixels are laid out like
# BlackIsZero.
TiffImagePlugin.OPEN_INFO.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def read(path: str | os.PathLike) -> Radiograph:
    """Read a PNG (8 or 16 bit), TIFF (8 or 16 bit), JPEG, or DICOM file (CR, DX, MG, SC).

    The content decides about the format, not the name. Gray stored as colour (R = G = B) is accepted as 8-bit
    gray. An orientation tag of PNG, TIFF or JPEG is applied, as every viewer does.

    Raises:
        InputError: what cannot be edited faithfully, damaged files included; one line with the file's name.
    """
    path = Path(path)
    try:
        # Decoders warn about oddities that are no user's business; what matters is raised.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(_contents(path), path)
    except InputError as error:
        raise InputError(f"{label(path)}: {error}") from error.__cause__
    except MemoryError as error:
        raise InputError(f"{label(path)}: not enough memory for this image; free some, or scale it down") from error
    except Exception as error:
        # Decoders answer damage with exceptions of every class, RecursionError and struct.error among them.
        raise InputError(
            f"{label(path)}: damaged, cut short or of a rare kind; get an intact copy or save it anew"
        ) from error


def from_array(pixels: np.ndarray, *, bits: int | None = None) -> Radiograph:
    """Radiograph of an array of stored values, 0 black.

    Args:
        pixels: (H, W) uint8, uint16 or int16; copied.
        bits: bits that the values use, 8 up to the dtype's; the dtype's by default.

    Raises:
        InputError: another dtype or shape, values beyond `bits`, a bad size, or all pixels equal.
    """
    pixels = np.asarray(pixels)
    if pixels.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.int16):
        raise InputError(f"an array of {pixels.dtype} is not stored values; use uint8, uint16 or int16")
    if pixels.ndim != 2:
        raise InputError(f"an array of shape {pixels.shape} is not one gray image; use height x width")
    check_size(*pixels.shape)
    pixels = np.array(pixels, dtype=pixels.dtype.newbyteorder("="), order="C")
    depth = 8 * pixels.dtype.itemsize
    bits = depth if bits is None else bits
    if not 8 <= bits <= depth:
        raise InputError(f"{bits} bits do not fit {pixels.dtype}; use 8 to {depth}")
    half = 1 << (bits - 1)
    low, high = (-half, half - 1) if pixels.dtype == np.int16 else (0, 2 * half - 1)
    if pixels.min() < low or pixels.max() > high:
        raise InputError(f"pixel values lie outside {low} to {high}, the range of {bits} bits")
    return from_file_values(pixels, bits=bits, format="tiff" if pixels.dtype == np.int16 else "png")


def _contents(path: Path) -> bytes:
    """The bytes of a regular file of sensible size; anything else (a pipe, say) could block or never end."""
    try:
        if not path.exists():
            raise InputError("no such file")
        if not path.is_file():
            raise InputError("not a file but a folder or device; name one image")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError("larger than 1 GiB, which no radiograph is")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid file name"
        raise InputError(f"cannot be read: {reason}") from error
    if not data:
        raise InputError("the file is empty")
    return data


def _decode(data: bytes, path: Path) -> Radiograph:
    if data.startswith(PNG):
        return _png(data, path)
    if data.startswith(JPEG):
        return _jpeg(data, path)
    # A DICOM preamble may hold the header of a TIFF, for readers of both.
    if data.startswith(TIFF) and data[128:132] != b"DICM":
        return _tiff(data, path)
    if dicom.looks_like_dicom(data):
        return dicom.read(data, path)
    raise InputError("not a PNG, TIFF, JPEG or DICOM file")


# The decoders are called by class and not through Image.open, which would try every format it knows, and
# warns about sizes by its own limit; ours is checked on the header.


def _png(data: bytes, path: Path) -> Radiograph:
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    check_size(height, width)
    if depth < 8 and colour == 0:
        raise InputError(f"{depth} bits a pixel is not a radiograph; save it with 8 or 16 bits")
    if depth == 16 and colour != 0:
        raise InputError("16-bit colour or transparency; convert to 16-bit grayscale first")
    image = PngImagePlugin.PngImageFile(BytesIO(data))
    if getattr(image, "n_frames", 1) > 1:
        raise InputError("an animated PNG; save the one picture to edit")
    image.load()
    bits = 16 if depth == 16 else 8
    return from_file_values(_gray(image, np.dtype(f"u{bits // 8}")), bits=bits, format="png", path=path)


def _jpeg(data: bytes, path: Path) -> Radiograph:
    image = JpegImagePlugin.JpegImageFile(BytesIO(data))
    check_size(image.height, image.width)
    check_scans(data, image.height * image.width)
    image.load()
    return from_file_values(_gray(image, np.uint8), bits=8, format="jpeg", lossy=True, path=path)


def _tiff(data: bytes, path: Path) -> Radiograph:
    big_endian, big_tiff = data[:1] == b"M", 43 in data[2:4]
    if big_endian and big_tiff:
        raise InputError("a big-endian BigTIFF; save it as an ordinary TIFF")
    stream = BytesIO(data)
    header = stream.read(16 if big_tiff else 8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    height, width = int(tags[TiffImagePlugin.IMAGELENGTH]), int(tags[TiffImagePlugin.IMAGEWIDTH])
    check_size(height, width)
    if tags.next:
        raise InputError("several pages in one TIFF; save the one to edit as a single page")
    depths = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    kinds = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if kinds & {3, 6}:
        raise InputError("float pixels have no stored range; save it as 8- or 16-bit integers")
    if depths not in ({8}, {16}) or (depths, kinds) == ({8}, {2}):
        sign = "signed " if 2 in kinds else ""
        raise InputError(f"{sign}{max(depths)} bits a pixel; save it as 8- or 16-bit grayscale")
    if depths == {16} and samples != 1:
        raise InputError("16-bit colour or transparency; convert to 16-bit grayscale first")

    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    if big_endian and compression != 1 and 2 in kinds:
        # Pillow would swap the bytes of these once too often.
        raise InputError("compressed signed values in a big-endian TIFF; save it as little endian")
    if compression in JPEG_TIFF:
        strips = tags.get(TiffImagePlugin.STRIPOFFSETS) or tags.get(TiffImagePlugin.TILEOFFSETS)
        check_scans(data, height * width, len(strips))
    stream.seek(0)
    image = TiffImagePlugin.TiffImageFile(stream)
    check_size(image.height, image.width)
    image.load()
    (bits,) = depths
    pixels = _gray(image, np.dtype(f"{'i' if 2 in kinds else 'u'}{bits // 8}"))
    if white_is_zero and bits == 8:
        # Pillow has inverted 8-bit WhiteIsZero; the stored values are wanted.
        pixels = ~pixels
    lossy = compression not in LOSSLESS_TIFF
    return from_file_values(pixels, bits=bits, format="tiff", inverted=white_is_zero, lossy=lossy, path=path)


def _gray(image: Image.Image, dtype: np.dtype) -> np.ndarray:
    """The (H, W) stored values of a loaded picture, upright; colour only if it is gray in truth."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "L" or image.mode.startswith("I"):
        # Pillow holds 16-bit values in the file's byte order, or widened to 32 bits.
        return np.array(image).astype(dtype, copy=False)
    if image.mode not in ("LA", "P", "PA", "RGB", "RGBA"):
        raise InputError(f"colour image ({image.mode}); convert to grayscale first")
    gray = np.empty((image.height, image.width), dtype)
    for rows in bands(gray.shape):
        stop = min(rows.stop, image.height)
        colours = np.asarray(image.crop((0, rows.start, image.width, stop)).convert("RGBA"))
        if (colours[..., :1] != colours[..., 1:3]).any():
            raise InputError("colour image; convert to grayscale first")
        if (colours[..., 3] != 255).any():
            raise InputError("transparent pixels have no brightness; flatten the image first")
        gray[rows] = colours[..., 0]
    return gray
