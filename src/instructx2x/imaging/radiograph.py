"""The radiograph: stored pixels, and how each stored value is displayed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom

from ..errors import InputError
from ..files import label as label  # where others look for it
from . import tables

MIN_SIDE = 32
MAX_PIXELS = 100_000_000


def check_size(height: int, width: int) -> None:
    """Refuse what is no radiograph or would exhaust the memory; asked with the header's size, undecoded.

    Raises:
        InputError: a side under 32 px, or more than 100 megapixels.
    """
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{width} x {height} pixels is too small; a radiograph needs {MIN_SIDE} a side")
    if height * width > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels is more than 100 megapixels; scale the image down first")


def check_scans(data: bytes, pixels: int, pieces: int = 1) -> None:
    """Refuse a JPEG whose scans repeat, so that a small file keeps the decoder busy for minutes.

    Args:
        data: the bytes of one JPEG, or of a file that holds several.
        pixels: of the whole image.
        pieces: JPEGs that share the image (the strips of a TIFF).

    Raises:
        InputError: more work than 25 scans of 100 megapixels; progressive images have about ten.
    """
    # Entropy-coded bytes never hold this marker; each scan also costs something of its own.
    if data.count(b"\xff\xda") / pieces * (pixels + 10_000) > 25 * MAX_PIXELS:
        raise InputError("a JPEG with absurdly many scans; save it anew")


def bands(shape: tuple[int, int]) -> Iterator[slice]:
    """Rows of an (H, W) image in slices of about four megapixels.

    Looking values up takes 8 bytes a pixel; slice by slice, that does not add up for 100 megapixels.
    """
    rows = max(1, (1 << 22) // shape[1])
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def count_values(pixels: np.ndarray, first: int, size: int) -> np.ndarray:
    """How many of the (H, W) pixels hold each stored value first .. first + size - 1: (size,) int64."""
    counts = np.zeros(size, dtype=np.int64)
    for rows in bands(pixels.shape):
        counts += np.bincount(pixels[rows].ravel().astype(np.intp) - first, minlength=size)
    return counts


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One gray image as its file stores it.

    Attributes:
        pixels: (H, W) stored values in the source's dtype: uint8, uint16, int16 (int8 from signed 8-bit
            DICOM).
        table: (2**bits,) float64 in [0, 1]: brightness (0 black, 1 white) of the stored value `first + i`.
            Monotone; falling for MONOCHROME1 and WhiteIsZero. Holds rescale, VOI window or LUT, and
            inversion.
        first: the stored value of table[0]; the table covers all that `bits` can store.
        bits: bits stored of each pixel.
        format: "png", "tiff", "jpeg" or "dicom".
        lossy: the source was compressed with loss.
        dataset: the header of a DICOM source, without its pixel data (that is in `pixels`).
        path: the source file, if there is one.
        padding: lowest and highest stored value that mark padding (DICOM), both inclusive: displayed black
            whatever the table says, never edited, and never the result of an edit.
        warnings: what the source's header says against editing it, one line each.
        text: the text entries of a PNG, by which one that x2x wrote is known.
    """

    pixels: np.ndarray
    table: np.ndarray
    first: int
    bits: int
    format: str
    lossy: bool = False
    dataset: pydicom.Dataset | None = None
    path: Path | None = None
    padding: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    text: Mapping[str, str] = field(default_factory=dict)

    @property
    def inverted(self) -> bool:
        """Whether low stored values are bright (MONOCHROME1, WhiteIsZero)."""
        return bool(self.table[0] > self.table[-1])

    def _is_padding(self) -> np.ndarray:
        """(n,) bool over the table's entries."""
        low, high = self.padding or (1, 0)
        values = self.first + np.arange(len(self.table))
        return (low <= values) & (values <= high)

    def _entries(self, pixels: np.ndarray) -> np.ndarray:
        return pixels.astype(np.intp) - self.first

    def display(self) -> np.ndarray:
        """Brightness of every pixel: (H, W) float32 in [0, 1], padding 0."""
        shown = np.where(self._is_padding(), 0, self.table).astype(np.float32)
        display = np.empty(self.pixels.shape, dtype=np.float32)
        for rows in bands(display.shape):
            np.take(shown, self._entries(self.pixels[rows]), out=display[rows])
        return display

    def with_display(self, display: np.ndarray, where: np.ndarray) -> Radiograph:
        """The same radiograph with the brightness `display` inside `where`.

        Each pixel takes the stored value whose brightness is nearest to the wanted one. Where several stored
        values look the same, it takes the one nearest to its present value; so a pixel that should look as it
        does keeps its stored value, also on a plateau of the table, and `r.with_display(r.display(), all)` is
        `r`.

        Args:
            display: (H, W) brightness in [0, 1]; what lies outside goes to the darkest or brightest stored
                value.
            where: (H, W) bool. Outside it, and on padding, every pixel stays bit-identical.

        Raises:
            ValueError: other shapes, or brightness that is not finite inside `where`.
        """
        if display.shape != self.pixels.shape or where.shape != self.pixels.shape or where.dtype != bool:
            raise ValueError("display and where (bool) must have the radiograph's height x width")
        padding = self._is_padding()
        entries = np.flatnonzero(~padding)
        # In float32, as display() shows it: two entries that it cannot tell apart are one plateau.
        shown = self.table.astype(np.float32)[entries]
        levels, start, length = np.unique(shown, return_index=True, return_counts=True)
        lowest, highest = entries[start], entries[start + length - 1]
        middles = (levels[1:].astype(np.float64) + levels[:-1]) / 2

        pixels = self.pixels.copy()
        for rows in bands(pixels.shape):
            present, here = self._entries(self.pixels[rows]), where[rows]
            if padding.any():
                here = here & ~padding[present]
            wanted = np.asarray(display[rows][here], dtype=np.float32)
            if not np.isfinite(wanted).all():
                raise ValueError("display holds values that are not finite")
            nearest = np.searchsorted(middles, wanted)
            entry = np.clip(present[here], lowest[nearest], highest[nearest])
            pixels[rows][here] = (entry + self.first).astype(pixels.dtype)
        return replace(self, pixels=pixels)


def png_values(radiograph: Radiograph) -> tuple[np.ndarray, str | None]:
    """The stored values as a PNG holds them, and the formula that takes them back, or None where they are the same.

    PNG knows neither negative values nor low ones that are bright: they are shifted, or mirrored.
    """
    pixels, formula = radiograph.pixels, None
    if radiograph.inverted:
        last = radiograph.first + len(radiograph.table) - 1
        pixels, formula = last - pixels.astype(np.int32), f"{last} - PNG value"
    elif radiograph.first:
        pixels, formula = pixels.astype(np.int32) - radiograph.first, f"PNG value - {-radiograph.first}"
    return pixels.astype(np.uint8 if radiograph.pixels.itemsize == 1 else np.uint16), formula


def stored_values(radiograph: Radiograph) -> np.ndarray:
    """The stored values that an edited image stands for, as its source had them: the inverse of `png_values`.

    Returns:
        (H, W) int32; the pixels as they are, unless they are a PNG's with a formula of x2x.

    Raises:
        InputError: its formula is none of x2x.
    """
    values, formula = radiograph.pixels.astype(np.int32), radiograph.text.get("Stored value")
    if formula is None:
        return values
    if match := re.fullmatch(r"(-?\d{1,6}) - PNG value|PNG value - (\d{1,6})", formula, re.ASCII):
        return int(match[1]) - values if match[1] else values - int(match[2])
    raise InputError(f"its text entry 'Stored value' ({formula:.40}) is not of x2x; get an intact copy")


def as_stored(edited: Radiograph, source: Radiograph) -> Radiograph | None:
    """An edited image as `source` with other pixels, where it holds stored values of the same kind; else None.

    That is a file of the source's format, depth and polarity, or a PNG with the marks of x2x, which carries the stored
    values of any source (`png_values`). Anyone else's picture holds brightness.
    """
    if edited.pixels.shape != source.pixels.shape:
        return None
    if all(getattr(edited, name) == getattr(source, name) for name in ("format", "bits", "first", "inverted")):
        return replace(source, pixels=edited.pixels)
    last = source.first + len(source.table) - 1
    same_words = edited.pixels.itemsize == source.pixels.itemsize
    if (
        edited.text.get("Synthetic") != "yes"
        or edited.text.get("Stored value") != png_values(source)[1]
        or not same_words
    ):
        return None
    values = stored_values(edited)
    if values.min() < source.first or values.max() > last:
        return None
    return replace(source, pixels=values.astype(source.pixels.dtype))


def from_file_values(
    pixels: np.ndarray,
    *,
    bits: int,
    format: str,
    inverted: bool = False,
    lossy: bool = False,
    path: Path | None = None,
) -> Radiograph:
    """Radiograph of stored values that come without a display window.

    8-bit values are brightness / 255; deeper ones are shown through `tables.robust_range`.

    Raises:
        InputError: all pixels are equal.
    """
    values = tables.storable(bits, signed=bool(np.iinfo(pixels.dtype).min))
    first = int(values[0])
    counts = count_values(pixels, first, len(values))
    if np.count_nonzero(counts) < 2:
        raise InputError("no contrast: every pixel has the same value")
    low, high = (values[0], values[-1]) if bits <= 8 else tables.robust_range(values, counts)
    table = tables.ramp(values, low, high)
    return Radiograph(pixels, 1 - table if inverted else table, first, bits, format, lossy, path=path)
