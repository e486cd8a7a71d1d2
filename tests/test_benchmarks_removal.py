"""What removal.py counts as moved, and which other edits it measures that by."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import removal

from instructx2x.evaluation.judges import load_judge


def test_only_what_other_edits_do_not_move_counts():
    others = np.linspace(-1, 1, 41)
    movement = removal.Movement(np.array([-2.0, -0.9, 0.0, 2.0]), others)
    assert movement.bar == pytest.approx(0.975, abs=0.03)
    assert movement.moved(-1) == [True, False, False, False]
    assert movement.moved(1) == [False, False, False, True]
    # A judge that any edit moves tells nothing.
    assert not any(removal.Movement(movement.asked, 5 * others).moved(-1))


@pytest.mark.parametrize("finding", removal.FINDINGS.values())
def test_other_edits_are_of_other_findings_and_take_turns(finding):
    asked = [edit for number in range(len(removal.OTHERS)) for edit in removal.others_of(finding, number)]
    assert finding not in {edit.finding for edit in asked}
    assert set(asked) == {edit for edit in removal.OTHERS if edit.finding != finding}
    assert len(set(removal.others_of(finding, 1))) == removal.OTHERS_PER_FILM
    assert all(finding in load_judge(name).findings for name in removal.JUDGES)


def test_logits_of_what_is_certain_are_finite():
    np.testing.assert_allclose(removal.logit(np.array([0.5, 0.75])), [0, np.log(3)])
    assert np.isfinite(removal.logit(np.array([0.0, 1.0]))).all()
