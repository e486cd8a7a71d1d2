"""Shares of counts: published intervals."""

import pytest

from instructx2x.evaluation.proportions import wilson


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, count, low, high):
    """Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3."""
    assert wilson(successes, count) == pytest.approx((low, high), abs=6e-5)


def test_wilson_ends_are_the_roots_of_the_score_test():
    """At the ends p the observed share lies exactly 1.96 standard errors, those of p, away."""
    for successes, count in ((1, 7), (17, 20), (140, 220)):
        for p in wilson(successes, count):
            assert abs(successes / count - p) == pytest.approx(1.959964 * (p * (1 - p) / count) ** 0.5)
    assert wilson(0, 0) == (0, 1)
