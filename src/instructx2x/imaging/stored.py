"""The stored values of a DICOM image: uncompressed or compressed, signed, with overlays in unused bits."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom import uid

from ..errors import InputError
from . import compressed
from .header import quoted, whole, word
from .radiograph import check_size

COLOURS = ("RGB", "PALETTE COLOR", "YBR_", "XYB", "HSV", "ARGB", "CMYK")


def values(dataset: pydicom.Dataset) -> tuple[np.ndarray, bool]:
    """Check that this is an image we can edit, and take its pixels out of the data set.

    The data set is left as the header of uncompressed little-endian pixels: a compressed source's transfer
    syntax and offset tables are replaced, and an overlay in the pixels' unused bits is moved to one of its own.

    Args:
        dataset: in little endian; its pixel data is removed.

    Returns:
        (H, W) stored values, uint8, int8, uint16 or int16, and whether the codestream lost something.

    Raises:
        InputError: several frames, colour, other depths, a bad size, or pixel data that is damaged.
    """
    allocated, bits, signed, height, width = _layout(dataset)
    element = dataset["PixelData"]
    del dataset["PixelData"]
    lossy = False
    if dataset.file_meta.TransferSyntaxUID in compressed.CODECS:
        pixels, lossy = _decompressed(dataset, element, (height, width), allocated, bits, signed)
    else:
        pixels = _native(element, (height, width), allocated)
    pixels = _without_overlays(dataset, pixels, bits)
    unused = allocated - bits
    if signed:
        # The standard leaves the bits above the sign bit open; extend the sign over them.
        pixels = pixels.view(f"i{allocated // 8}")
        pixels <<= unused
        pixels >>= unused
    elif unused and pixels.max() >> bits:
        raise InputError(f"pixel values beyond the {bits} bits stored; correct BitsStored or drop overlays")
    return pixels, lossy


def _layout(dataset: pydicom.Dataset) -> tuple[int, int, int, int, int]:
    """Bits allocated, bits stored, 1 if signed, height and width."""
    if "PixelData" not in dataset:
        raise InputError("the DICOM file holds no pixel data, or is cut short before it")
    found = {keyword: whole(dataset, keyword) for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored")}
    photometric = word(dataset, "PhotometricInterpretation")
    for keyword, value in (found | {"PhotometricInterpretation": photometric}).items():
        if value is None:
            raise InputError(f"the DICOM file names no {keyword}, so its pixels cannot be read")
    frames = whole(dataset, "NumberOfFrames")
    if frames not in (None, 0, 1):
        raise InputError(f"{frames} frames in one file (NumberOfFrames); save the one to edit by itself")
    if photometric.startswith(COLOURS):
        raise InputError(f"colour DICOM ({photometric.split()[0].split('_')[0]}); convert to MONOCHROME2 first")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        told = quoted(dataset, "PhotometricInterpretation")
        raise InputError(f"PhotometricInterpretation is {told}; correct it to MONOCHROME1 or MONOCHROME2")
    samples = whole(dataset, "SamplesPerPixel")
    if samples not in (None, 1):
        raise InputError(f"SamplesPerPixel is {samples}, but {photometric} has 1; correct it, or convert to gray")
    height, width, allocated, bits = found.values()
    check_size(height, width)
    signed = whole(dataset, "PixelRepresentation") or 0
    if signed not in (0, 1):
        raise InputError(f"PixelRepresentation is {signed}; correct it to 0 (unsigned) or 1 (signed)")
    if allocated not in (8, 16) or not 8 <= bits <= allocated:
        raise InputError(f"{bits} bits stored of {allocated} allocated; only 8 to 16 bits can be used")
    high = whole(dataset, "HighBit")
    if high not in (None, bits - 1):
        # Values at the top of their words and a wrong tag look alike; a guess would be wrong by a factor of 16.
        raise InputError(
            f"high bit {high} (HighBit), not {bits - 1} as BitsStored asks for; correct it, or shift the values"
        )
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = photometric, signed
    dataset.BitsStored = bits
    return allocated, bits, signed, height, width


def _native(element: pydicom.DataElement, shape: tuple[int, int], allocated: int) -> np.ndarray:
    """Uncompressed pixels as unsigned words: (H, W) uint8 or uint16."""
    if element.is_undefined_length:
        raise InputError("encapsulated pixel data, against the transfer syntax; rewrite the file first")
    needed = shape[0] * shape[1] * allocated // 8
    if len(element.value or b"") < needed:
        raise InputError(f"pixel data cut short: {len(element.value or b'')} of {needed} bytes")
    words = np.frombuffer(element.value, f"<u{allocated // 8}", count=shape[0] * shape[1])
    return words.reshape(shape).astype(f"u{allocated // 8}")


def _decompressed(dataset, element, shape, allocated, bits, signed) -> tuple[np.ndarray, bool]:
    """Compressed pixels as unsigned words, (H, W) uint8 or uint16, and whether they lost something."""
    codec, lossy = compressed.CODECS[dataset.file_meta.TransferSyntaxUID]
    if not element.is_undefined_length:
        raise InputError("pixel data that is not encapsulated, against the transfer syntax; rewrite the file")
    pixels, header = compressed.decode(compressed.frame(element.value), codec, *shape, allocated)
    word = f"{allocated // 8}"
    if pixels.dtype.kind == "i" and not signed and pixels.min() < 0:
        raise InputError("negative values in the codestream of an unsigned image; correct PixelRepresentation")
    if pixels.dtype.kind == "u" and signed and header.bits < bits:
        # Codestreams without a sign hold two's complement of their own precision (JPEG, JPEG-LS).
        unused = 16 - header.bits
        pixels = pixels.astype(np.uint16).view(np.int16) << unused >> unused
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return pixels.astype(f"i{word}").view(f"u{word}") if signed else pixels.astype(f"u{word}"), lossy or header.lossy


def _without_overlays(dataset: pydicom.Dataset, pixels: np.ndarray, bits: int) -> np.ndarray:
    """Move overlays out of the unused high bits (retired, PS3.5 section 8.1.2): to OverlayData, bits cleared."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0010) not in dataset or (group, 0x3000) in dataset or (group, 0x0102) not in dataset:
            continue
        position = int(dataset[group, 0x0102].value)
        if not bits <= position < 8 * pixels.itemsize:
            continue
        plane = np.packbits((pixels >> position & 1).astype(bool).ravel(), bitorder="little").tobytes()
        dataset.add_new((group, 0x3000), "OW", plane + bytes(len(plane) % 2))
        dataset[group, 0x0100].value, dataset[group, 0x0102].value = 1, 0
        pixels &= pixels.dtype.type(~(1 << position) & (256**pixels.itemsize - 1))
    return pixels
