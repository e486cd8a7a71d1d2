"""What calibration.json is told from: numbers alone, without a model."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from instructx2x.instructions import Edit, Operation
from instructx2x.training import calibration
from instructx2x.training.calibration import (
    ADDED,
    REMOVED,
    STRENGTH_SAMPLES,
    TEXT_GUIDANCE,
    VALID_LOST,
    best_threshold,
    labelled,
    least_balance,
    least_balances,
    scale_of,
    strength,
    text_guidances,
)
from instructx2x.training.pairs import Bank, Pair
from instructx2x.training.samples import Sample, Sampler
from instructx2x.training.simulation.lesions import Lesion


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def table():
    return pl.DataFrame({"adult": [True], "split": ["train"], "findings": ["No Finding"]})


def test_the_scale_is_a_percentile_and_a_median_of_each_timestep(rng):
    null, valid = rng.gamma(2, 1, (2, 6, 4, 3, 5, 5))
    inside = rng.random((6, 5, 5)) < 0.3
    low, high = scale_of(null, valid, inside)
    for step in range(3):
        assert low[step] == pytest.approx(np.percentile(null[:, :, step], 99), abs=1e-5)
        cells = [valid[n, :, step, y, x].mean() for n, y, x in zip(*np.nonzero(inside), strict=True)]
        assert high[step] == pytest.approx(np.median(cells), abs=1e-5)


def test_the_threshold_tells_the_two_kinds_apart():
    null, valid = np.zeros((10, 2, 1, 4, 4)), np.zeros((10, 2, 1, 4, 4))
    null[:, :, :, 0, 0], valid[:, :, :, 1, 1] = 0.2, 0.8
    valid[0] = 0
    tau, told = best_threshold(null, valid, ([0.0], [1.0]))
    assert 0.2 < tau <= 0.5
    assert told == {"empty_when_nothing": 1.0, "empty_when_valid": 0.1}


def test_the_least_balance_loses_no_more_than_it_may(rng):
    valid = rng.lognormal(0.5, 0.5, 200)
    least, told = least_balance(rng.lognormal(-0.5, 0.5, 300), valid)
    assert (valid < least - 1e-4).mean() <= VALID_LOST <= (valid <= least + 1e-4).mean()
    assert told["under_least_balance_when_valid"] <= VALID_LOST < told["under_least_balance_when_nothing"]
    # Two lognormals: the chance that one passes the other is that of a normal deviate.
    assert told["auc"] == pytest.approx(0.92, abs=0.03)


def test_no_least_balance_where_it_tells_nothing(rng):
    same = rng.lognormal(0, 1, 400)
    least, told = least_balance(same[:200], same[200:])
    assert least is None and told["auc"] == pytest.approx(0.5, abs=0.06)
    # Upside down it is no better.
    assert least_balance(same + 10, same)[0] is None


def test_each_operation_has_its_own_least_balance(rng):
    def samples(operation, count):
        return [Sample("x", None, torch.zeros(4, 1, 1), (Edit(operation, "edema"),)) for _ in range(count)]

    # What is added is far from its opposite, what is removed less so: one limit for both would lose the removals.
    both = samples(Operation.ADD, 200) + samples(Operation.REMOVE, 200)
    nothing, valid = (
        np.concatenate((rng.lognormal(add, 0.2, 200), rng.lognormal(remove, 0.2, 200)))
        for add, remove in ((0.0, -1.0), (1.0, 0.0))
    )
    least, told = least_balances(both, both, nothing, valid)
    for operation, part in (("add", slice(200)), ("remove", slice(200, 400))):
        assert (least[operation], told[operation]) == least_balance(nothing[part], valid[part])
        assert told[operation]["under_least_balance_when_nothing"] > 0.9
    # An operation that nothing is known of has none, and none is written where it would tell nothing.
    assert set(least_balances(both[:200], both, nothing[:200], valid)[0]) == {"add"}
    assert least_balances(both, both, valid, valid)[0] == {}


def test_labels_tell_what_can_be_asked_of_real_disease(rng):
    clean = torch.arange(3.0)[:, None, None, None].expand(3, 4, 2, 2).half()
    labels = SimpleNamespace(
        names=[["edema", "mass"], [], ["edema"]],
        labelled=np.array([0, 2]),
        bank=Bank(clean, torch.zeros(0, 4, 2, 2), []),
    )
    drawn = [labelled(labels, operation, rng) for operation in (Operation.ADD, Operation.REMOVE) for _ in range(30)]
    told = {(int(s.source[0, 0, 0]), s.text) for s in drawn if s is not None}
    assert all(torch.equal(s.source, s.target) for s in drawn if s is not None)
    assert told == {
        (2, "Add the finding of mass."),
        (0, "Remove the finding of edema."),
        (0, "Remove the finding of mass."),
        (2, "Remove the finding of edema."),
    }
    assert None in drawn[:30] and None not in drawn[30:], "there is nothing to add where all is"


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0, 1.7])
def test_strength_is_the_part_of_the_wanted_change_that_is_made(monkeypatch, part):
    """What happens beside it counts for nothing."""
    source, target = torch.zeros(2, 4, 2, 2)
    target[:, 0, 0] = 0.3
    sample = Sample("add", source, target, (Edit(Operation.ADD, "edema"),))

    def edited(backbone, z0, image_latents, text, noise, *, steps, text_guidance):
        assert (text, text_guidance, steps) == ("Add the finding of edema.", 1.5, 12)
        out = z0 + part * (target - source)
        out[..., 1, 1] += 0.2
        return out

    monkeypatch.setattr(calibration, "edit_everywhere", edited)
    monkeypatch.setattr(calibration, "decode", lambda vae, latents: latents.mean(1).numpy())
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=0.5))
    backbone = SimpleNamespace(vae=vae, latent_shape=(1, 4, 2, 2))
    assert strength(backbone, sample, 1.5, 0) == pytest.approx(part, abs=1e-6)


def test_each_added_finding_has_the_guidance_that_adds_it_as_painted(monkeypatch, rng, table):
    """A nodule never reaches it, for chance puts it elsewhere: it has the guidance of removals, and no more."""
    findings = ["edema"] * 60 + ["nodule"] * 5 + ["pleural effusion"] * 5
    pairs = [Pair(0, "lesion", [Lesion(f, "", "", "", 3.0, n)], [], n, -1) for n, f in enumerate(findings)]
    # Two lesions at once say nothing about either.
    pairs.append(
        Pair(0, "lesion", [Lesion("mass", "", "", "", 3.0, 1), Lesion("edema", "", "", "", 3.0, 1)], [], 0, -1)
    )
    bank = Bank(torch.zeros(1, 4, 2, 2).half(), torch.ones(len(findings), 4, 2, 2).half(), pairs)
    # By operation and finding, at a guidance of 1.
    slope = {("add", "edema"): 0.95, ("add", "pleural effusion"): 0.75, ("add", "nodule"): -0.01}
    asked = []

    def made(backbone, sample, text_guidance, seed):
        (edit,) = sample.edits
        asked.append((edit.operation.value, edit.finding, text_guidance))
        return slope.get((edit.operation.value, edit.finding), 0.85) * text_guidance

    monkeypatch.setattr(calibration, "strength", made)
    recommended, measured = text_guidances(None, Sampler(bank, table), rng)
    assert recommended == {"text_guidance": 1.5, "text_guidance_of": {"add": {"edema": 1.0, "pleural effusion": 1.25}}}
    # 0.94 is nearer to 1 than 1.12, 0.95 than 1.19; what is measured ends where it is strong enough.
    assert measured["add"]["pleural effusion"] == {"1.0": 0.75, "1.25": 0.938, "1.5": 1.125}
    assert measured["add"]["edema"] == {"1.0": 0.95, "1.25": 1.188}
    assert [*measured["add"]["nodule"]] == ["1.0", "1.25", "1.5"]
    assert measured["remove"] == pytest.approx({"1.0": 0.85, "1.25": 1.062, "1.5": 1.275}, abs=1e-3)
    assert asked.count(("add", "edema", 1.0)) == STRENGTH_SAMPLES
    assert {finding for _, finding, _ in asked} == set(findings)
    removed = [finding for operation, finding, scale in asked if (operation, scale) == ("remove", 1.0)]
    assert {finding: removed.count(finding) for finding in set(findings)} == dict.fromkeys(set(findings), 5)
    assert ADDED < REMOVED, "real disease comes off less than what is painted"
    # 1.28 is nearer to REMOVED than 1.06 is.
    assert measured["remove"]["1.5"] > REMOVED > measured["remove"]["1.25"]


def test_nothing_painted_recommends_the_strongest(rng, table):
    empty = Bank(torch.zeros(1, 4, 2, 2).half(), torch.zeros(0, 4, 2, 2).half(), [])
    recommended, measured = text_guidances(None, Sampler(empty, table), rng)
    assert recommended == {"text_guidance": max(TEXT_GUIDANCE), "text_guidance_of": {"add": {}}}
    assert measured == {"add": {}, "remove": {}}
