"""The counterfactual measure CMIG and its parts (method section 7): pure functions on judges' answers.

Judges' answers come as arrays, one row an image; labels and answers of the same row belong to the same image.
"""

from __future__ import annotations

import math

import numpy as np

from instructx2x.errors import InputError
from instructx2x.evaluation.ranking import auroc


def pathology_auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each finding: does a classifier see in the edited images what they should show?

    Args:
        labels: (N, F) float: 1 the target has the finding, 0 it has not, NaN unknown (that image is left out).
        scores: (N, F) a classifier's scores of the edited images, any monotone scale.

    Returns:
        (F,) float64 in [0, 1]; NaN where only one kind of label is left.

    Raises:
        InputError: shapes differ, a score is not finite, or a label is none of 0, 1 and NaN.
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 2:
        raise InputError(f"labels {labels.shape} and scores {scores.shape} must be of one shape, images x findings")
    if not np.isfinite(scores).all():
        raise InputError("a classifier's score is not a finite number")
    if not np.isin(labels[~np.isnan(labels)], (0, 1)).all():
        raise InputError("labels must be 0, 1 or NaN")
    return auroc(labels, scores)


def agreement(source: np.ndarray, edited: np.ndarray, threshold: float = 0.5) -> tuple[float, float]:
    """How well a trait of the person (sex; race) survives the edit: AUROC and accuracy.

    The judge's answer to the source is the truth that its answer to the edited image is held against: called at
    `threshold` for a trait that one has or has not, and the likeliest of several classes. With classes, the AUROC is
    the plain mean over those that occur among the sources, each against the rest (macro, one versus rest).

    Args:
        source, edited: (N,) a judge's probabilities of the trait, or (N, C) of C classes, in one order.
        threshold: for (N,) only.

    Returns:
        (AUROC, accuracy), both in [0, 1]; the AUROC is NaN when all sources are called alike.

    Raises:
        InputError: shapes differ, there are no images or only one class, or an answer is not finite.
    """
    source, edited = _pairs(source, edited, dimensions=(1, 2))
    if source.ndim == 1:
        truth = source >= threshold
        area = auroc(truth[:, None].astype(np.float64), edited[:, None])[0]
        return float(area), float((truth == (edited >= threshold)).mean())
    if source.shape[1] < 2:
        raise InputError("classes are two or more; give the probabilities of a single trait as one row")
    truth = source.argmax(1)
    occurring = np.unique(truth)
    accuracy = float((truth == edited.argmax(1)).mean())
    if len(occurring) < 2:
        return math.nan, accuracy
    areas = auroc((truth[:, None] == occurring).astype(np.float64), edited[:, occurring])
    return float(areas.mean()), accuracy


def age_correlation(source: np.ndarray, edited: np.ndarray) -> float:
    """Pearson's correlation of a judge's ages of source and edited image: in [-1, 1]; NaN when either never varies.

    Args:
        source, edited: (N,) years.

    Raises:
        InputError: shapes differ, there are no images, or an age is not finite.
    """
    source, edited = _pairs(source, edited)
    if np.ptp(source) == 0 or np.ptp(edited) == 0:
        return math.nan
    return float(np.corrcoef(source, edited)[0, 1])


def cmig(pathology: float, trait: float, age: float) -> float:
    """CMIG = sqrt(P * sqrt(R * A)) with A = max(A, 0) (BiomedJourney, arXiv 2310.10765, as the paper uses it).

    With the race judge's AUROC as `trait` it is CMIG. With the sex judge's it is CMIG-S, a measure of our own that
    must be printed under that name.

    Args:
        pathology: mean AUROC of the findings, in [0, 1].
        trait: AUROC of race or sex, in [0, 1].
        age: correlation of ages, in [-1, 1]; below 0 counts as 0.

    Returns:
        In [0, 1]; NaN when a part is NaN.

    Raises:
        InputError: a part is outside its range.
    """
    for name, value, low in (("pathology", pathology, 0), ("trait", trait, 0), ("age", age, -1)):
        if value < low or value > 1:
            raise InputError(f"{name} must be in [{low}, 1], not {value}")
    return math.sqrt(pathology * math.sqrt(trait * max(age, 0.0))) if not math.isnan(age) else math.nan


def _pairs(source: np.ndarray, edited: np.ndarray, dimensions: tuple[int, ...] = (1,)) -> tuple[np.ndarray, np.ndarray]:
    source, edited = np.asarray(source, np.float64), np.asarray(edited, np.float64)
    if source.shape != edited.shape or source.ndim not in dimensions or not source.size:
        raise InputError(f"source {source.shape} and edited {edited.shape} must be as many answers, at least one")
    if not (np.isfinite(source).all() and np.isfinite(edited).all()):
        raise InputError("a judge's answer is not a finite number")
    return source, edited
