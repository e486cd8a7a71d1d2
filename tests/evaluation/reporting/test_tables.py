"""How values are written."""

import math

import numpy as np
import pytest

from instructx2x.evaluation.reporting.tables import Count, Report, Table, plain, written
from instructx2x.evaluation.resampling import Interval


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Interval(0.8123, 0.76, 0.8601), "0.812 (0.760 to 0.860)"),
        (Interval(0.8123, math.nan, math.nan), "0.812"),
        (Interval(math.nan, math.nan, math.nan), "-"),
        (Interval(-0.5, -1, 0), "-0.500 (-1 to 0)"),
        (Count(17, 20), "17 of 20 (64-95 %)"),
        (Count(0, 0), "-"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "inf"),
        (np.float32(0.25), "0.250"),
        (np.int64(1234), "1234"),
        (0.0, "0.000"),
        (1e300, "1.0e+300"),
        ("two\nlines", "two lines"),
    ],
)
def test_values_as_a_reader_sees_them(value, expected):
    assert written(value, 3) == expected


def test_no_small_number_is_taken_for_zero():
    """Above all of a change outside the mask, that is exactly 0 or is not."""
    for digits in (0, 1, 3, 5):
        for number in np.random.default_rng(0).choice([-1, 1], 200) * 10 ** np.random.default_rng(1).uniform(
            -12, 3, 200
        ):
            assert float(written(number, digits)) != 0
            assert float(written(number, digits)) == pytest.approx(number, abs=0.5 * 10**-digits + abs(number) / 10)
        assert float(written(0.0, digits)) == 0


def test_ends_of_a_count_are_the_roots_of_the_score_test():
    """At the ends p the observed share lies exactly 1.96 standard errors, those of p, away."""
    for hits, total in ((1, 7), (17, 20), (140, 220)):
        share = Count(hits, total).share
        assert share.value == hits / total
        for end in (share.low, share.high):
            assert abs(hits / total - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / total), rel=1e-5)
    nothing = Count(0, 0).share
    assert math.isnan(nothing.value) and (nothing.low, nothing.high) == (0, 1)


def test_columns_with_text_are_not_numeric(report):
    assert report.tables[0].numeric == (False, True, True, True, True, False)


def test_what_cannot_be_a_table_is_refused():
    with pytest.raises(ValueError, match="2 values"):
        Table("key", "title", ("a", "b"), (("x", 1), ("y",)))
    with pytest.raises(ValueError, match="drawn"):
        Table("key", "title", ("a", "b"), (("x", 1),), plot=("c",))
    # Both would be the same place of a page.
    one, other = (Table(key, "title", ("a",), ()) for key in ("a b", "a/b"))
    with pytest.raises(ValueError, match="key"):
        Report("title", (), {}, (one, other))


def test_plain_text_can_be_written_and_is_one_line():
    hostile = "".join(map(chr, range(0x300))) + "\ud800\udcff\u2028\u2029日本"
    assert plain(hostile).encode().decode().isprintable() or "\xad" in plain(hostile)
    assert len(plain(hostile).splitlines()) == 1 and plain(hostile).endswith("日本")
