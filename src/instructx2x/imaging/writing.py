"""Files out: whole or not at all, in the source's format and depth, with the caller's words on them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from ..errors import OutputError
from ..results.folders import atomic_write
from .derived import derived
from .radiograph import Radiograph, label, png_values

_IEND = b"\0\0\0\0IEND\xae\x42\x60\x82"


def eight_bit(display: np.ndarray) -> np.ndarray:
    """Brightness of any shape as 8-bit values: [0, 1] -> uint8; what lies outside is clipped."""
    return np.round(np.clip(display, 0, 1) * 255).astype(np.uint8)


def edited_suffix(radiograph: Radiograph) -> str:
    """Suffix of the lossless file an edit goes to: ".png", ".tiff" or ".dcm"; ".png" for lossy sources."""
    if radiograph.lossy:
        return ".png"
    return {"png": ".png", "tiff": ".tiff", "jpeg": ".png", "dicom": ".dcm"}[radiograph.format]


def write(
    radiograph: Radiograph,
    path: str | os.PathLike,
    *,
    text: Mapping[str, str],
    source: Radiograph | None = None,
    keep_patient: bool = False,
) -> None:
    """Write a radiograph without loss; the suffix chooses the format.

    `.tif` and `.tiff` keep the stored values and WhiteIsZero; `.dcm`, for DICOM sources, keeps the pixel
    format and makes a derived instance of nobody (see `derived.derived`); `.png` keeps unsigned values as they
    are. PNG knows neither negative values nor WhiteIsZero: there the values are shifted or mirrored, and the
    entry "Stored value" says how to take them back.

    Args:
        radiograph: what to write.
        path: the new file; an existing one is replaced in one step.
        text: entries of the PNG (tEXt), or of the TIFF's or DICOM file's description.
        source, keep_patient: of `.dcm`, see `derived.derived`.

    Raises:
        OutputError: a suffix that cannot hold it, or a place that cannot be written to; nothing is left.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        pixels, formula = png_values(radiograph)
        write_png(pixels, path, text=text if formula is None else {**text, "Stored value": formula})
    elif suffix in (".tif", ".tiff"):
        tags = {
            "photometric": "miniswhite" if radiograph.inverted else "minisblack",
            "description": "\n".join(f"{key}: {value}" for key, value in text.items()).encode(),
            "software": "InstructX2X",
            "metadata": None,
        }
        atomic_write(path, lambda file: tifffile.imwrite(file, radiograph.pixels, **tags))
    elif suffix == ".dcm" and radiograph.dataset is not None:
        _write_dicom(radiograph, path, text, source, keep_patient)
    elif suffix == ".dcm":
        known = radiograph.format.upper()
        raise OutputError(f"{label(path)}: a {known} source has no DICOM header; write .png or .tiff")
    else:
        raise OutputError(f"{label(path)}: a radiograph is written as .png, .tiff or (from DICOM) .dcm")


def _write_dicom(
    radiograph: Radiograph, path: Path, text: Mapping[str, str], source: Radiograph | None, keep_patient: bool
) -> None:
    try:
        with warnings.catch_warnings():
            # Oddities of the source's header are left out, not told.
            warnings.simplefilter("ignore")
            dataset = derived(radiograph, text, source=source, keep_patient=keep_patient)
            atomic_write(path, lambda file: dataset.save_as(file, enforce_file_format=True))
    except OutputError:
        raise
    except Exception as error:
        # pydicom keeps elements unread until they are copied or written, and then stumbles in many ways.
        reason = "the source's DICOM header is too damaged to be written anew; write .png or .tiff"
        raise OutputError(f"{label(path)}: {reason}") from error


def write_png(array: np.ndarray, path: str | os.PathLike, *, text: Mapping[str, str]) -> None:
    """Write a PNG: (H, W) uint8 or uint16 gray, or (H, W, 3) uint8 colour, with text entries. Atomic.

    Raises:
        OutputError: a place that cannot be written to.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, str(value))
    image = Image.fromarray(np.ascontiguousarray(array))
    # On 16-bit noise the default level takes six times as long for the same size.
    atomic_write(path, lambda file: image.save(file, "PNG", pnginfo=info, compress_level=2))


def text_entries(path: Path) -> dict[str, str]:
    """Text entries of a PNG, from its head; empty when there are none, or no whole PNG."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            file.seek(-len(_IEND), os.SEEK_END)
            if file.read() != _IEND:
                return {}
            file.seek(0)
            with PngImagePlugin.PngImageFile(file) as image:
                return {key: value for key, value in image.info.items() if isinstance(value, str)}
    except Exception:
        # Whatever stands there: it is not ours, or not whole.
        return {}
