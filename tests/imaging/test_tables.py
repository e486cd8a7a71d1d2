"""Display tables against the standard's examples and pydicom's own calculation."""

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_rescale, apply_windowing

from instructx2x.errors import InputError
from instructx2x.imaging import tables


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("center, width", [(2048, 4096), (1000.5, 701), (-40, 333.3), (5000, 12)])
def test_window_agrees_with_pydicom(function, center, width):
    dataset = pydicom.Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 12, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = center, width, function
    stored = tables.storable(12, signed=False)
    # pydicom returns the window's output on the scale of the stored values.
    with np.errstate(over="ignore"):
        expected = apply_windowing(stored, dataset) / 4095
    np.testing.assert_allclose(tables.window(stored, center, width, function), expected, atol=1e-12)


@pytest.mark.parametrize("slope, intercept", [(1, -1024), (0.25, 3), (-2, 100)])
def test_window_after_rescale_agrees_with_pydicom(slope, intercept):
    dataset = pydicom.Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 10, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.WindowCenter, dataset.WindowWidth = 20, 400
    stored = tables.storable(10, signed=True)
    low, high = stored[[0, -1]] * slope + intercept
    values = apply_rescale(stored, dataset)
    expected = (apply_windowing(values, dataset) - low) / (high - low)
    np.testing.assert_allclose(tables.window(values, 20, 400), expected, atol=1e-12)


def test_linear_window_of_width_one_is_a_threshold():
    np.testing.assert_array_equal(tables.window(np.array([98, 99, 100, 101]), 100, 1), [0, 0, 1, 1])


@pytest.mark.parametrize(
    "center, width, function",
    [(0, 0.5, "LINEAR"), (0, 0, "LINEAR_EXACT"), (0, -3, "SIGMOID"), (np.nan, 5, "LINEAR"), (0, 5, "CUBIC")],
)
def test_impossible_windows_are_refused(center, width, function):
    with pytest.raises(InputError):
        tables.window(np.arange(4), center, width, function)


def test_lookup_holds_its_ends():
    values = np.array([-5, 9, 10, 11.7, 12, 99])
    np.testing.assert_array_equal(tables.lookup(values, 10, np.array([7, 8, 9])), [7, 7, 7, 8, 9, 9])


def test_storable_ranges():
    assert tables.storable(12, signed=False)[[0, -1]].tolist() == [0, 4095]
    assert tables.storable(10, signed=True)[[0, -1]].tolist() == [-512, 511]


def test_robust_range_stays_among_the_values_and_ignores_outliers():
    values = tables.storable(16, signed=False)
    counts = np.zeros(len(values), dtype=np.int64)
    counts[1000:3001] = 10
    assert tables.robust_range(values, counts) == (1000, 3000)
    counts[65535] = 100  # a white marker, half a percent of the image
    low, high = tables.robust_range(values, counts)
    assert low == 1000
    assert 3000 < high < 3600


def test_robust_range_of_an_almost_empty_image_spans_what_occurs():
    values = np.arange(256)
    counts = np.zeros(256, dtype=np.int64)
    counts[[0, 200]] = 100_000, 1
    assert tables.robust_range(values, counts) == (0, 200)


def test_robust_range_does_not_care_about_the_order():
    values, counts = np.arange(100), np.random.default_rng(0).integers(1, 9, 100)
    assert tables.robust_range(values, counts) == tables.robust_range(values[::-1], counts[::-1])
