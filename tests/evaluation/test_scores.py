"""CMIG and its parts against other ways to calculate them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from instructx2x.errors import InputError
from instructx2x.evaluation.scores import age_correlation, agreement, cmig, pathology_auroc


def pairs_won(truth, score):
    """AUROC by its definition: of all pairs, those in which the positive wins; ties are half."""
    margins = score[truth == 1][:, None] - score[truth == 0][None]
    return ((margins > 0) + 0.5 * (margins == 0)).mean()


def test_pathology_is_the_share_of_pairs_won_and_leaves_unknown_labels_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (200, 3)).astype(float)
    scores = np.round(rng.normal(size=(200, 3)) + labels, 1)  # rounded: there are ties
    labels[rng.random((200, 3)) < 0.2] = np.nan
    areas = pathology_auroc(labels, scores)
    for column in range(3):
        known = ~np.isnan(labels[:, column])
        expected = pairs_won(labels[known, column], scores[known, column])
        assert areas[column] == pytest.approx(expected, abs=1e-12)


def test_pathology_does_not_depend_on_the_scale_of_scores():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, (50, 2)), rng.normal(size=(50, 2))
    np.testing.assert_array_equal(pathology_auroc(labels, scores), pathology_auroc(labels, np.exp(3 * scores)))


def test_a_finding_of_one_kind_has_no_auroc():
    areas = pathology_auroc(np.array([[1, 0], [1, 1], [1, np.nan]]), np.zeros((3, 2)))
    assert math.isnan(areas[0]) and areas[1] == 0.5


def test_copies_keep_every_trait():
    rng = np.random.default_rng(2)
    traits, ages = rng.random(60), rng.normal(50, 15, 60)
    assert agreement(traits, traits) == (1.0, 1.0)
    assert age_correlation(ages, ages) == pytest.approx(1)
    assert cmig(0.5, 1, 1) == pytest.approx(math.sqrt(0.5))


def test_agreement_calls_the_source():
    source, edited = np.array([0.9, 0.8, 0.2, 0.4]), np.array([0.7, 0.3, 0.1, 0.6])
    assert agreement(source, edited) == (0.75, 0.5)
    area, accuracy = agreement(np.array([0.9, 0.8]), np.array([0.9, 0.1]))
    assert math.isnan(area) and accuracy == 0.5


def test_agreement_of_classes_is_the_mean_of_one_against_the_rest():
    rng = np.random.default_rng(5)
    source = rng.dirichlet((1, 1, 1), 150)
    edited = np.round(rng.dirichlet((2, 2, 2), 150) + source, 1)  # rounded: there are ties
    truth = source.argmax(1)
    area, accuracy = agreement(source, edited)
    each = [pairs_won((truth == number).astype(int), edited[:, number]) for number in range(3)]
    assert area == pytest.approx(np.mean(each), abs=1e-12)
    assert accuracy == np.mean([max(range(3), key=row.__getitem__) == t for row, t in zip(edited, truth, strict=True)])
    shares = rng.dirichlet((1, 1, 1), 150)
    expected = roc_auc_score(truth, shares, multi_class="ovr", average="macro")
    assert agreement(source, shares)[0] == pytest.approx(expected, abs=1e-12)
    assert agreement(source, source)[1] == 1


def test_agreement_leaves_out_classes_that_do_not_occur():
    rng = np.random.default_rng(6)
    source, edited = rng.random((40, 3)), rng.random((40, 3))
    source[:, 1] = -1
    truth = source.argmax(1)
    each = [pairs_won((truth == number).astype(int), edited[:, number]) for number in (0, 2)]
    assert agreement(source, edited)[0] == pytest.approx(np.mean(each), abs=1e-12)
    area, accuracy = agreement(np.tile([0.2, 0.7, 0.1], (4, 1)), np.eye(3)[[1, 1, 0, 1]])
    assert math.isnan(area) and accuracy == 0.75


def test_agreement_of_two_classes_is_that_of_one_trait():
    rng = np.random.default_rng(7)
    source, edited = rng.random(60), rng.random(60)
    two = [np.stack([1 - one, one], 1) for one in (source, edited)]
    assert agreement(*two) == pytest.approx(agreement(source, edited), abs=1e-12)


def test_age_correlation_is_pearsons():
    rng = np.random.default_rng(3)
    one = rng.normal(50, 15, 80)
    other = one + rng.normal(0, 10, 80)
    assert age_correlation(one, other) == pytest.approx(stats.pearsonr(one, other).statistic, abs=1e-12)
    assert math.isnan(age_correlation(one, np.full(80, 3.0)))


def test_cmig_is_the_stated_formula():
    rng = np.random.default_rng(4)
    for pathology, trait, age in rng.random((50, 3)):
        expected = pathology**0.5 * trait**0.25 * age**0.25
        assert cmig(pathology, trait, age) == pytest.approx(expected, abs=1e-12)
    assert cmig(0.9, 0.9, -0.3) == 0
    assert math.isnan(cmig(0.9, 0.9, math.nan)) and math.isnan(cmig(math.nan, 0.9, 0.9))


@pytest.mark.parametrize("parts", [(1.1, 0.5, 0.5), (0.5, -0.1, 0.5), (0.5, 0.5, -1.5)])
def test_parts_outside_their_range_are_refused(parts):
    with pytest.raises(InputError, match="must be in"):
        cmig(*parts)


def test_bad_answers_are_refused():
    with pytest.raises(InputError, match="one shape"):
        pathology_auroc(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(InputError, match="0, 1 or NaN"):
        pathology_auroc(np.full((3, 1), 2.0), np.zeros((3, 1)))
    with pytest.raises(InputError, match="finite"):
        pathology_auroc(np.zeros((1, 1)), np.array([[np.nan]]))
    for call in (agreement, age_correlation):
        with pytest.raises(InputError, match="at least one"):
            call(np.zeros(0), np.zeros(0))
        with pytest.raises(InputError, match="finite"):
            call(np.array([0.1, np.inf]), np.array([0.1, 0.2]))
    for shape in ((0, 3), (5, 1), (2, 2, 2)):
        with pytest.raises(InputError, match=r"at least one|two or more"):
            agreement(np.zeros(shape), np.zeros(shape))
    with pytest.raises(InputError, match="at least one"):
        age_correlation(np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(InputError, match="finite"):
        agreement(np.eye(2), np.full((2, 2), np.nan))
