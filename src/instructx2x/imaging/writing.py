"""Files out: whole or not at all, in the source's format and depth, with the caller's words on them."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from ..errors import OutputError
from . import dicom
from .radiograph import Radiograph, label, png_values


def eight_bit(display: np.ndarray) -> np.ndarray:
    """Brightness of any shape as 8-bit values: [0, 1] -> uint8; what lies outside is clipped."""
    return np.round(np.clip(display, 0, 1) * 255).astype(np.uint8)


def edited_suffix(radiograph: Radiograph) -> str:
    """Suffix of the lossless file an edit goes to: ".png", ".tiff" or ".dcm"; ".png" for lossy sources."""
    if radiograph.lossy:
        return ".png"
    return {"png": ".png", "tiff": ".tiff", "jpeg": ".png", "dicom": ".dcm"}[radiograph.format]


def write(radiograph: Radiograph, path: str | os.PathLike, *, text: Mapping[str, str]) -> None:
    """Write a radiograph without loss; the suffix chooses the format.

    `.tif` and `.tiff` keep the stored values and WhiteIsZero; `.dcm`, for DICOM sources, keeps the pixel
    format and makes a derived instance; `.png` keeps unsigned values as they are. PNG knows neither negative
    values nor WhiteIsZero: there the values are shifted or mirrored, and the entry "Stored value" says how to
    take them back.

    Args:
        radiograph: what to write.
        path: the new file; an existing one is replaced in one step.
        text: entries of the PNG (tEXt), or of the TIFF's or DICOM file's description.

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
        _write_dicom(radiograph, path, text)
    elif suffix == ".dcm":
        source = radiograph.format.upper()
        raise OutputError(f"{label(path)}: a {source} source has no DICOM header; write .png or .tiff")
    else:
        raise OutputError(f"{label(path)}: a radiograph is written as .png, .tiff or (from DICOM) .dcm")


def _write_dicom(radiograph: Radiograph, path: Path, text: Mapping[str, str]) -> None:
    try:
        with warnings.catch_warnings():
            # Oddities of the source's header are kept, not judged.
            warnings.simplefilter("ignore")
            dataset = dicom.derived(radiograph, text)
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


def atomic_write(path: str | os.PathLike, writer: Callable[[Path], object]) -> None:
    """Let `writer` fill a temporary file beside `path`, then put it in place in one step.

    The temporary name keeps the suffix, because some writers append a missing one. Whatever goes wrong, the
    temporary file is removed and `path` is as it was.

    Raises:
        OutputError: the system refused (no such folder, no permission, full disk). Others of `writer` pass.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        try:
            writer(temporary)
            os.replace(temporary, path)
        except BaseException:
            # missing_ok and the suppressed OSError: the first error is the one to report.
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass
            raise
    except OSError as error:
        reason = error.strerror or "the system refused"
        raise OutputError(f"{label(path)}: cannot be written ({reason}); choose another folder") from error


def replace_folder(partial: Path, folder: Path, *, overwrite: bool) -> None:
    """Put a finished folder in its place; an earlier one is moved away first, and back when that fails.

    Raises:
        OSError: the system refused, or `folder` is in use and must not be replaced.
    """
    if not (overwrite and folder.exists()):
        os.rename(partial, folder)
        return
    earlier = partial.with_suffix(".earlier")
    os.rename(folder, earlier)
    try:
        os.rename(partial, folder)
    except OSError:
        os.rename(earlier, folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
