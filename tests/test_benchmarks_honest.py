"""The benchmarks of what the editor says of itself: their counting, on answers that are made up."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from instructx2x.editing.verification import log_odds
from instructx2x.evaluation.judges import load_judge
from instructx2x.instructions import Edit, Operation

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def _judged(reliability, shifts):
    """One case for each (edit, shift of the log-odds of every finding, of the edited one) on films of random scores."""
    rng = np.random.default_rng(0)
    cases, answers = [], {"verifier": [], "scorer": []}
    for number, (edit, others, own) in enumerate(shifts):
        findings = "Effusion" if edit.operation is Operation.REMOVE else "No Finding"
        row = {"file": f"{number}.png", "patient_id": str(number), "view": "PA", "findings": findings}
        cases.append(reliability._case(number, row, edit))
        for role, told in answers.items():
            judge = load_judge(role)
            odds = rng.normal(size=len(judge.findings))
            moved = odds + others
            moved[judge.findings.index(edit.finding)] = odds[judge.findings.index(edit.finding)] + own
            told.append({"before": 1 / (1 + np.exp(-odds)), "after": 1 / (1 + np.exp(-moved))})
    return cases, [{role: told[number] for role, told in answers.items()} for number in range(len(cases))]


def test_noise_is_the_movement_under_other_edits_and_reliability_what_is_beyond(benchmark):
    reliability = benchmark("reliability")
    fluid, edema = Edit(Operation.ADD, "pleural effusion"), Edit(Operation.ADD, "edema")
    # Every score goes up by as much as 0.4 whatever is added; 30 effusions by 2, of which the last ten fail.
    shifts = [(edema, (number % 5) / 10, 0.1) for number in range(40)]
    shifts += [(fluid, 0.0, 2.0 if number < 20 else 0.1) for number in range(30)]
    cases, answers = _judged(reliability, shifts)
    limits = reliability.noise(reliability.scored(cases, answers, "verifier"))
    assert limits["add"]["pleural effusion"] == pytest.approx(0.4, abs=2e-3)
    assert limits["add"]["edema"] == 0, "under effusions its score stays"
    assert limits["remove"] == {}, "too few to tell"
    told = reliability.reliability(reliability.scored(cases, answers, "scorer"))
    assert told["add"]["pleural effusion"] == {"moved": 20, "of": 30} and told["remove"] == {}
    assert reliability.higher({"add": {"edema": 0.1, "mass": 3}}, {"add": {"edema": 0.2, "mass": 1}}) == {
        "add": {"edema": 0.2, "mass": 3}
    }


def test_the_verdicts_are_counted_by_what_was_painted(benchmark):
    verdicts, judge = benchmark("verdicts"), load_judge("verifier")
    place = judge.findings.index("pleural effusion")

    def made(painted, shift):
        before = np.full(len(judge.findings), 0.3)
        after = before.copy()
        after[place] = 1 / (1 + np.exp(-(log_odds(0.3) + shift)))
        return painted, before, after

    films = [
        made("pleural effusion", 2),
        made("pleural effusion", 0.1),
        made("mass", 0.6),
        made("mass", 0),
        made("", 0),
    ]
    noise = {"add": {"pleural effusion": 0.5}, "remove": {"pleural effusion": 1.0}}
    lines = {(line[0], line[1]): line[2:] for line in verdicts.rows(judge, noise, films)}
    right, other, nothing = lines["add", "pleural effusion"][1:]
    assert right.startswith("1 of 2") and other.startswith("1 of 2") and nothing.startswith("0 of 1")
    right, other, nothing = lines["remove", "pleural effusion"][1:]
    assert right.startswith("1 of 2") and other.startswith("0 of 2") and nothing.startswith("0 of 1")
    assert lines["add", "edema"][1] == "-", "without a noise there is no verdict"
