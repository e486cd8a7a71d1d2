"""Batches that are made beside the device's work."""

from threading import Event

import pytest

from instructx2x.training.batches import ahead


def test_what_is_made_ahead_comes_in_order():
    assert list(ahead(lambda number: number**2, range(5))) == [0, 1, 4, 9, 16]
    assert list(ahead(lambda number: number, [])) == []


def test_the_next_is_made_while_one_is_in_use_and_no_more():
    made = [Event() for _ in range(4)]
    batches = ahead(lambda number: made[number].set(), range(4))
    next(batches)
    assert made[1].wait(10)
    assert not made[2].wait(0.1)


def test_what_goes_wrong_ahead_is_raised_in_its_place():
    batches = ahead(lambda number: 1 / (1 - number), range(3))
    assert next(batches) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)
