"""Files and arrays in: what is accepted, what is refused, and the line that says why."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ..errors import InputError
from ..files import contents, label
from . import compressed, dicom, jpeg, orientation, png, tiff
from .pictures import JPEG, MAX_BYTES, PNG, TIFF
from .radiograph import Radiograph, bands, check_scans, check_size, from_file_values

TRANSPARENT = "transparent pixels have no brightness; flatten the image first"

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
    data = contents(path, MAX_BYTES)
    try:
        # Decoders warn about oddities that are no user's business; what matters is raised.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data, path)
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
    found = png.survey(data)
    check_size(found.height, found.width)
    if found.bits < 8 and found.colour == 0:
        raise InputError(f"{found.bits} bits a pixel is not a radiograph; save it with 8 or 16 bits")
    if found.bits == 16 and found.colour != 0:
        raise InputError("16-bit colour or transparency; convert to 16-bit grayscale first")
    if found.frames > 1:
        raise InputError("an animated PNG; save the one picture to edit")
    png.check_pixels(data, found)
    image = PngImagePlugin.PngImageFile(BytesIO(data))
    image.load()
    bits = 16 if found.bits == 16 else 8
    pixels = _gray(orientation.upright(image, orientation.of_png(image.info)), np.dtype(f"u{bits // 8}"))
    if found.transparent is not None and (pixels == found.transparent).any():
        raise InputError(TRANSPARENT)
    text = {key: value for key, value in image.text.items() if isinstance(value, str)}
    radiograph = from_file_values(pixels, bits=bits, format="png", path=path)
    return replace(radiograph, text=text)


def _jpeg(data: bytes, path: Path) -> Radiograph:
    found = jpeg.bare(data)
    check_size(found.height, found.width)
    check_scans(found.data, found.height * found.width)
    if found.bits == 8 and found.process not in (3, 0xF7):
        image = JpegImagePlugin.JpegImageFile(BytesIO(found.data))
        image.load()
        pixels = _gray(orientation.upright(image, found.orientation), np.uint8)
        return from_file_values(pixels, bits=8, format="jpeg", lossy=True, path=path)
    if found.components != 1 or not 8 <= found.bits <= 16:
        kind = "gray" if found.components == 1 else "colour"
        raise InputError(f"a JPEG of {found.bits} bits in {kind}; save it as grayscale PNG of 8 or 16 bits")
    # What hospitals' archives hold: more bits than 8, lossless processes, JPEG-LS.
    codec = "jpegls" if found.process == 0xF7 else "jpeg8"
    pixels, header = compressed.decode(found.data, codec, found.height, found.width, 16)
    image = Image.fromarray(pixels.astype(np.uint8 if found.bits == 8 else np.uint16))
    pixels = np.array(orientation.upright(image, found.orientation))
    return from_file_values(pixels, bits=found.bits, format="jpeg", lossy=header.lossy, path=path)


def _tiff(data: bytes, path: Path) -> Radiograph:
    big_endian, big_tiff = data[:1] == b"M", 43 in data[2:4]
    if big_endian and big_tiff:
        raise InputError("a big-endian BigTIFF; save it as an ordinary TIFF")
    tags = tiff.tags(data)
    height, width = (tags.get(tag) for tag in (TiffImagePlugin.IMAGELENGTH, TiffImagePlugin.IMAGEWIDTH))
    if not isinstance(height, int) or not isinstance(width, int):
        raise InputError(tiff.DAMAGED)
    check_size(height, width)
    tags = tiff.checked(data)
    compression = tags.get(TiffImagePlugin.COMPRESSION, 1)
    if compression not in tiff.COMPRESSIONS:
        name = f" ({tiff.NAMES[compression]})" if compression in tiff.NAMES else ""
        raise InputError(f"TIFF compression {compression}{name} is not read; save it uncompressed or as PNG")
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
    if photometric is None:
        raise InputError("a TIFF without PhotometricInterpretation: black or white may be 0; save it anew")
    depths = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    kinds = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    white_is_zero = photometric == 0
    if kinds & {3, 6}:
        raise InputError("float pixels have no stored range; save it as 8- or 16-bit integers")
    if depths not in ({8}, {16}) or (depths, kinds) == ({8}, {2}):
        sign = "signed " if 2 in kinds else ""
        raise InputError(f"{sign}{max(depths)} bits a pixel; save it as 8- or 16-bit grayscale")
    if depths == {16} and samples != 1:
        raise InputError("16-bit colour or transparency; convert to 16-bit grayscale first")
    if depths == {16} and photometric not in (0, 1):
        raise InputError(f"16 bits of PhotometricInterpretation {photometric}; convert to 16-bit grayscale first")
    if big_endian and compression != 1 and 2 in kinds:
        # Pillow would swap the bytes of these once too often.
        raise InputError("compressed signed values in a big-endian TIFF; save it as little endian")
    if white_is_zero and 2 in kinds:
        raise InputError("signed values of which 0 is white (WhiteIsZero); save it with 0 as black (BlackIsZero)")
    with tiff.silenced():
        image = TiffImagePlugin.TiffImageFile(BytesIO(tiff.simple(data, tags)))
        check_size(image.height, image.width)
        image.load()  # upright, too
    (bits,) = depths
    pixels = _gray(image, np.dtype(f"{'i' if 2 in kinds else 'u'}{bits // 8}"))
    if white_is_zero and bits == 8:
        # Pillow has inverted 8-bit WhiteIsZero; the stored values are wanted.
        pixels = ~pixels
    lossy = compression in tiff.JPEG
    return from_file_values(pixels, bits=bits, format="tiff", inverted=white_is_zero, lossy=lossy, path=path)


def _gray(image: Image.Image, dtype: np.dtype) -> np.ndarray:
    """The (H, W) stored values of a loaded picture; colour only if it is gray in truth."""
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
            raise InputError(TRANSPARENT)
        gray[rows] = colours[..., 0]
    return gray
