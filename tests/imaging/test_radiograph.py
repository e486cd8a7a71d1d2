"""The display mapping and its inverse, over random tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructx2x.errors import InputError
from instructx2x.imaging import Radiograph, from_array

everywhere = np.ones((32, 32), dtype=bool)


@st.composite
def radiographs(draw):
    """Random monotone tables with plateaus, of either direction and sign, with and without padding."""
    bits = draw(st.sampled_from([8, 10, 12]))
    signed = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = rng.exponential(1.0, 1 << bits) * (rng.random(1 << bits) < draw(st.sampled_from([0.01, 0.3, 1.0])))
    steps[1 << (bits - 1)] += 1
    table = np.cumsum(steps) - steps[0]
    table /= table[-1]
    if draw(st.booleans()):
        table = 1 - table
    first = -(1 << (bits - 1)) if signed else 0
    pixels = rng.integers(first, first + (1 << bits), (32, 32)).astype(np.int16 if signed else np.uint16)
    padding = None
    if draw(st.booleans()):
        padding = tuple(sorted(rng.choice(np.unique(pixels), 2).tolist()))
    return Radiograph(pixels, table, first, bits, "png", padding=padding)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(radiographs())
def test_what_looks_the_same_is_the_same(radiograph):
    again = radiograph.with_display(radiograph.display(), everywhere)
    assert again.pixels.dtype == radiograph.pixels.dtype
    np.testing.assert_array_equal(again.pixels, radiograph.pixels)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(radiographs(), st.integers(0, 2**32 - 1))
def test_a_new_brightness_gets_the_nearest_stored_value(radiograph, seed):
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(-0.2, 1.2, (32, 32)).astype(np.float32)
    where = rng.random((32, 32)) < 0.5
    edited = radiograph.with_display(wanted, where)

    low, high = radiograph.padding or (1, 0)
    padded = (radiograph.pixels >= low) & (radiograph.pixels <= high)
    kept = ~where | padded
    np.testing.assert_array_equal(edited.pixels[kept], radiograph.pixels[kept])
    # Brute force over every value that may be stored.
    values = radiograph.first + np.arange(len(radiograph.table))
    allowed = radiograph.table[(values < low) | (values > high)].astype(np.float32)
    best = np.abs(allowed.astype(np.float64) - wanted[~kept][:, None]).min(axis=1, initial=np.inf)
    error = np.abs(edited.display()[~kept].astype(np.float64) - wanted[~kept])
    np.testing.assert_allclose(error, best, rtol=0, atol=0)
    changed = edited.pixels[~kept]
    assert not ((changed >= low) & (changed <= high)).any()


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(radiographs(), st.integers(0, 2**32 - 1))
def test_inverse_is_exact_on_the_tables_own_levels(radiograph, seed):
    values = radiograph.first + np.arange(len(radiograph.table))
    low, high = radiograph.padding or (1, 0)
    target = np.random.default_rng(seed).choice(values[(values < low) | (values > high)], (32, 32))
    wanted = radiograph.table[target - radiograph.first].astype(np.float32)
    edited = radiograph.with_display(wanted, everywhere)
    free = (radiograph.pixels < low) | (radiograph.pixels > high)
    np.testing.assert_array_equal(edited.display()[free], wanted[free])


def test_plateau_takes_the_value_nearest_to_the_present_one():
    table = np.clip((np.arange(256) - 100) / 100, 0, 1)  # 0 up to 100, 1 from 200
    pixels = np.resize(np.array([10, 100, 150, 200, 250], dtype=np.uint8), (32, 32))
    radiograph = Radiograph(pixels, table, 0, 8, "png")
    bright = radiograph.with_display(np.ones((32, 32), np.float32), everywhere)
    assert bright.pixels[0, :5].tolist() == [200, 200, 200, 200, 250]
    dark = radiograph.with_display(np.zeros((32, 32), np.float32), everywhere)
    assert dark.pixels[0, :5].tolist() == [10, 100, 100, 100, 100]


def test_inputs_are_left_alone(make_picture):
    pixels = make_picture(np.uint16, 0, 4095)
    before = pixels.copy()
    radiograph = from_array(pixels)
    where = np.ones(pixels.shape, dtype=bool)
    radiograph.with_display(1 - radiograph.display(), where)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(radiograph.pixels, before)
    assert where.all()


def test_eight_bits_are_brightness_over_255(make_picture):
    pixels = make_picture(np.uint8, 3, 200)
    display = from_array(pixels).display()
    assert display.dtype == np.float32
    np.testing.assert_array_equal(display, (pixels / 255).astype(np.float32))


@pytest.mark.parametrize("dtype, low, high", [(np.uint16, 0, 65535), (np.uint16, 500, 4000), (np.int16, -900, 900)])
def test_sixteen_bits_use_the_whole_display_and_never_leave_their_values(make_picture, dtype, low, high):
    radiograph = from_array(make_picture(dtype, low, high))
    display = radiograph.display()
    assert (display.min(), display.max()) == (0, 1)
    for wanted in (0, 1):
        edited = radiograph.with_display(np.full(display.shape, wanted, np.float32), display >= 0)
        assert low <= edited.pixels.min() and edited.pixels.max() <= high


def test_padding_is_black_and_stays(make_picture):
    pixels = make_picture(np.uint16, 0, 255)
    table = np.linspace(1, 0, 256)
    radiograph = Radiograph(pixels, table, 0, 8, "dicom", padding=(0, 10))
    padded = pixels <= 10
    assert (radiograph.display()[padded] == 0).all()
    edited = radiograph.with_display(np.ones(pixels.shape, np.float32), np.ones(pixels.shape, bool))
    np.testing.assert_array_equal(edited.pixels[padded], pixels[padded])
    assert (edited.pixels[~padded] == 11).all()  # the brightest value that is not padding


def test_with_display_refuses_what_it_cannot_mean(make_picture):
    radiograph = from_array(make_picture(np.uint8, 0, 255))
    display = radiograph.display()
    where = np.ones(display.shape, bool)
    for wrong in (
        lambda: radiograph.with_display(display[1:], where),
        lambda: radiograph.with_display(display, where[1:]),
        lambda: radiograph.with_display(display, where.astype(np.uint8)),
        lambda: radiograph.with_display(np.full_like(display, np.nan), where),
    ):
        with pytest.raises(ValueError):
            wrong()
    untouched = radiograph.with_display(np.full_like(display, np.nan), np.zeros_like(where))
    np.testing.assert_array_equal(untouched.pixels, radiograph.pixels)


@pytest.mark.parametrize(
    "pixels, bits",
    [
        (np.random.default_rng(0).random((40, 40)), None),
        (np.random.default_rng(0).integers(0, 9, (40, 40)), None),
        (np.zeros((40, 40), bool), None),
        (np.zeros((40, 40, 3), np.uint8), None),
        (np.zeros((40, 40), np.uint8), None),
        (np.arange(400, dtype=np.uint16).reshape(20, 20), None),
        (np.arange(1600, dtype=np.uint16).reshape(40, 40), 10),
        (np.arange(1600, dtype=np.uint16).reshape(40, 40), 17),
        (np.arange(1600, dtype=np.int16).reshape(40, 40), 11),
        (np.broadcast_to(np.arange(20_000, dtype=np.uint16), (20_000, 20_000)), None),
    ],
    ids=["float", "int64", "bool", "3-d", "constant", "small", "beyond 10", "17 bits", "beyond 11", "large"],
)
def test_arrays_that_are_no_radiograph(pixels, bits):
    with pytest.raises(InputError) as caught:
        from_array(pixels, bits=bits)
    assert "\n" not in str(caught.value)


def test_bits_set_the_storable_range():
    radiograph = from_array(np.arange(1600, dtype=np.uint16).reshape(40, 40), bits=12)
    assert len(radiograph.table) == 4096
    swapped = from_array(np.arange(1600, dtype=">u2").reshape(40, 40))
    assert swapped.pixels.dtype == np.dtype(np.uint16)
    assert swapped.pixels[39, 39] == 1599
