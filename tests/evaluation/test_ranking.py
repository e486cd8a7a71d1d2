"""Ranking within strata: against counting pairs, and blind to what the stratum alone tells."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from instructx2x.evaluation.ranking import auroc, concordance, rank


def counted(scores, positive, strata):
    """Every pair of a positive and a negative of one stratum, one by one."""
    right, pairs = 0.0, 0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive & (strata == strata[i])):
            right += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
            pairs += 1
    return right, pairs


@pytest.mark.parametrize("seed", range(5))
def test_it_counts_concordant_pairs_within_strata(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 60).astype(float)  # with many ties
    positive, strata = rng.random(60) < 0.3, rng.choice(["PA", "AP", "LL"], 60)
    assert concordance(scores, positive, strata) == counted(scores, positive, strata)


def test_a_score_that_reads_the_stratum_alone_ranks_by_chance():
    strata = np.repeat(["AP", "PA"], 100)
    positive = np.concatenate([np.arange(100) < 80, np.arange(100) < 10])
    by_view = rank((strata == "AP").astype(float), positive, strata, np.arange(200).astype(str))
    assert by_view.auc == by_view.low == by_view.high == 0.5
    assert (by_view.positives, by_view.pairs) == (90, 80 * 20 + 10 * 90)


def test_the_interval_holds_the_value_and_patients_widen_it():
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.random(60) < 0.4, 10)
    scores = np.repeat(rng.normal(size=60), 10) + truth
    strata = np.full(600, "PA")
    by_patient = rank(scores, truth, strata, np.repeat(np.arange(60), 10).astype(str))
    by_image = rank(scores, truth, strata, np.arange(600).astype(str))
    assert by_patient.low < by_patient.auc == by_image.auc < by_patient.high
    assert by_patient.high - by_patient.low > 1.5 * (by_image.high - by_image.low)


def test_without_pairs_there_is_no_value():
    alone = rank(np.arange(4.0), np.array([True, True, False, False]), np.array(["PA", "PA", "AP", "AP"]), list("abcd"))
    assert np.isnan([alone.auc, alone.low, alone.high]).all() and (alone.positives, alone.pairs) == (2, 0)


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (50, 6)).astype(float)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    scores = np.round(rng.random(labels.shape), 1)  # with many ties
    labels[:, 4], labels[:, 5] = 1, np.nan
    found = auroc(labels, scores)
    assert np.isnan(found[4:]).all()
    for column in range(4):
        known = ~np.isnan(labels[:, column])
        expected = roc_auc_score(labels[known, column], scores[known, column])
        assert found[column] == pytest.approx(expected, abs=1e-12)
