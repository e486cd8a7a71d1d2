"""How well scores rank: the area under the ROC curve within strata, with an interval by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from instructx2x.evaluation.resampling import bootstrap


@dataclass(frozen=True)
class Ranking:
    """How well a score tells positives from negatives.

    Attributes:
        auc: share of pairs (a positive and a negative of one stratum) in which the positive scores higher; a tie is
            half. NaN without pairs.
        low, high: 95 % bootstrap interval over patients; NaN without pairs.
        positives: number of positives.
        pairs: number of pairs.
    """

    auc: float
    low: float
    high: float
    positives: int
    pairs: int


def auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, from rank sums (Mann and Whitney 1947): a tie is half a pair.

    It is scikit-learn's `roc_auc_score`, a hundred times as fast, which a bootstrap over many findings needs.

    Args:
        labels: (N, F) 1, 0, or NaN for a row that does not count in this column.
        scores: (N, F) any monotone scale.

    Returns:
        (F,) float64 in [0, 1]; NaN where only one kind of label is left.
    """
    positive, negative = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    ranks = rankdata(np.where(np.isnan(labels), np.nan, scores), axis=0, nan_policy="omit")
    wins = np.where(labels == 1, ranks, 0).sum(axis=0) - positive * (positive + 1) / 2
    pairs = (positive * negative).astype(np.float64)
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def concordance(scores: np.ndarray, positive: np.ndarray, strata: np.ndarray) -> tuple[float, int]:
    """Concordant pairs (ties count half) and all pairs of a positive and a negative within the same stratum.

    From rank sums (Mann and Whitney 1947), stratum by stratum, so that what the stratum alone tells counts nothing.

    Args:
        scores: (N,) float.
        positive: (N,) bool.
        strata: (N,) labels, such as the view.
    """
    concordant, pairs = 0.0, 0
    for stratum in np.unique(strata):
        inside = strata == stratum
        truth = positive[inside]
        count = int(truth.sum())
        if 0 < count < len(truth):
            concordant += rankdata(scores[inside])[truth].sum() - count * (count + 1) / 2
            pairs += count * (len(truth) - count)
    return float(concordant), pairs


def rank(
    scores: np.ndarray,
    positive: np.ndarray,
    strata: np.ndarray,
    patients: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Ranking:
    """AUC within strata, pooled by number of pairs, and its percentile bootstrap interval by patient.

    Args:
        scores, positive, strata: see `concordance`.
        patients: whose each of the N images is; all images of a patient are drawn together.
        resamples: bootstrap resamples; those without a pair are left out.
    """
    _, pairs = concordance(scores, positive, strata)
    if not pairs:
        return Ranking(np.nan, np.nan, np.nan, int(positive.sum()), 0)

    def auc(rows: np.ndarray) -> float:
        right, count = concordance(scores[rows], positive[rows], strata[rows])
        return right / count if count else np.nan

    found = bootstrap(auc, patients, count=resamples, seed=seed)
    return Ranking(found.value, found.low, found.high, int(positive.sum()), pairs)
