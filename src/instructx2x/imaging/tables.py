"""Display tables: the brightness of every value that an image can store.

A table is computed for the whole storable range, not for the pixels, so that it can be inverted exactly. Its
steps follow DICOM PS3.3: modality transform (C.11.1), then the values of interest (C.11.2).
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# Of a window that a header asks for. Four times too wide, as a window of two bits more is, shows less contrast.
LEAST_CONTRAST = 0.25
MOST_BEYOND = 0.9
# And a window of two bits less holds a quarter of the values' range.
LEAST_PART = 0.3
BEYOND_ONE_END = 0.6


def storable(bits: int, signed: bool) -> np.ndarray:
    """Every value that `bits` bits can store, in rising order: (2**bits,) int64."""
    return np.arange(1 << bits, dtype=np.int64) - ((1 << (bits - 1)) if signed else 0)


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high`, linear between: (n,) -> (n,) float64 in [0, 1]. Needs low < high."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def robust_range(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Window for an image that names none: its 1st to 99th percentile, a quarter of that wider on each side.

    The window never reaches beyond the values that occur, so that an edited pixel stays among them: a 12-bit
    image in a 16-bit file gets no 16-bit highlights. A few outliers (a bright marker, a dead pixel) do not
    stretch it.

    Args:
        values: (n,) value of each table entry, in any order.
        counts: (n,) number of pixels with that value, not all 0.

    Returns:
        (low, high); equal only if a single value occurs.
    """
    order = np.argsort(values, kind="stable")
    values, total = values[order], np.cumsum(counts[order])
    least, low, high, most = (
        float(values[np.searchsorted(total, share * total[-1], side=side)])
        for share, side in ((0.0, "right"), (0.01, "left"), (0.99, "left"), (1.0, "left"))
    )
    if low == high:
        return least, most
    margin = (high - low) / 4
    return max(least, low - margin), min(most, high + margin)


def window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """VOI window of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3: (n,) -> (n,) float64 in [0, 1].

    Args:
        values: (n,) output of the modality transform.
        center, width: in the same units.
        function: "LINEAR" (width at least 1), "LINEAR_EXACT" or "SIGMOID" (width above 0).

    Raises:
        InputError: a width or function outside the standard.
    """
    if not (np.isfinite(center) and np.isfinite(width)):
        raise InputError("the VOI window is not a finite number; correct WindowCenter and WindowWidth")
    if width < 1 if function == "LINEAR" else width <= 0:
        raise InputError(f"WindowWidth {width:g} is too small for a {function} window; correct or remove it")
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if function in ("LINEAR", "LINEAR_EXACT"):
        if width == 0:
            return (values > center).astype(np.float64)
        return ramp(values, center - width / 2, center + width / 2)
    if function == "SIGMOID":
        # The limit keeps exp finite; at 4 * 150 the curve is 0 or 1 in float64 anyway.
        return 1 / (1 + np.exp(-4 * np.clip((values - center) / width, -150, 150)))
    raise InputError(f"VOILUTFunction {function!r} is unknown; use LINEAR, LINEAR_EXACT or SIGMOID")


def is_telling(table: np.ndarray, counts: np.ndarray) -> bool:
    """Whether a table shows an image, rather than one black, white or gray with a trace of it.

    A window of another bit depth does not: the values lie in a small part of it, nearly all lie beyond one of its ends,
    or it begins with them and ends long before most. A hard window within the values is meant so.

    Args:
        table: (n,) brightness of each storable value, in rising order of the values.
        counts: (n,) number of pixels with that value, not all 0.
    """
    total = np.cumsum(counts)
    beyond = max(counts[table <= 0].sum(), counts[table >= 1].sum()) / total[-1]
    low, high = (int(np.searchsorted(total, share * total[-1])) for share in (0.01, 0.99))
    if abs(table[high] - table[low]) < LEAST_CONTRAST or beyond > MOST_BEYOND:
        return False
    between = (table > 0) & (table < 1)
    margin = (high - low) // 100  # the very first values may lie on its edge
    one_end_alone = between[low + margin] != between[high - margin]
    return not (one_end_alone and beyond > BEYOND_ONE_END and between[low : high + 1].mean() < LEAST_PART)


def lookup(values: np.ndarray, first: int, entries: np.ndarray) -> np.ndarray:
    """Lookup table of DICOM PS3.3 C.11.1.1 and C.11.2.1.1: (n,) values -> (n,) entries.

    Values below `first` take the first entry, values past the end the last one; fractions are dropped.
    """
    return entries[np.clip(np.floor(values).astype(np.int64) - first, 0, len(entries) - 1)]


def is_monotone(table: np.ndarray) -> bool:
    """Whether the table never falls, or never rises; only then can brightness be taken back."""
    steps = np.diff(table)
    return bool((steps >= 0).all() or (steps <= 0).all())
