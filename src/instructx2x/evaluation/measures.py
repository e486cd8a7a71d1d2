"""What is measured of a method over some of the cases (method section 7): numbers from the arrays of `Scored`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from instructx2x.evaluation import distributions, scores
from instructx2x.evaluation.resampling import Interval, difference, interval, sample
from instructx2x.evaluation.scored import Method, Scored
from instructx2x.instructions import LEVELS, Operation

# Fewer images on either side give no covariance worth a distance.
MIN_IMAGES = 10

MEASURES = (
    *("pathology", "pathology, judged", "race", "race accuracy", "sex", "sex accuracy", "age", "CMIG", "CMIG-S"),
    *("direction", "direction, most", "in anatomy", "on side", "in boxes", "change"),
)


def measure(scored: Scored, method: Method, rows: np.ndarray) -> np.ndarray:
    """MEASURES of a method over some rows: (len(MEASURES),) float64, NaN where one is not defined or not judged.

    Args:
        rows: of the cases, as a bootstrap draws them; those that the method has no image for are left out.
    """
    rows = rows[method.present[rows]]
    if not len(rows):
        return np.full(len(MEASURES), np.nan)
    found = dict.fromkeys(MEASURES, math.nan)
    found["pathology"], areas = pathology(scored, method, rows)
    found["pathology, judged"] = _mean(areas[scored.told_well])
    outputs = scored.panel.outputs
    before, after = scored.source[rows], method.answers[rows]
    if scored.panel.races:
        columns = [outputs.index(race) for race in scored.panel.races]
        found["race"], found["race accuracy"] = scores.agreement(before[:, columns], after[:, columns])
    if "female" in outputs:
        column = outputs.index("female")
        found["sex"], found["sex accuracy"] = scores.agreement(before[:, column], after[:, column])
    if "age" in outputs:
        column = outputs.index("age")
        found["age"] = scores.age_correlation(before[:, column], after[:, column])
    for name, trait in (("CMIG", "race"), ("CMIG-S", "sex")):
        found[name] = scores.cmig(found["pathology"], found[trait], found["age"])
    hits, most = directions(scored, method)
    found["direction"], found["direction, most"] = _mean(hits[rows]), _mean(most[rows])
    valid = rows[~scored.holds[rows]]
    for name, entry in (
        ("in anatomy", "in_anatomy"),
        ("on side", "on_side"),
        ("in boxes", "in_boxes"),
        ("change", "amount"),
    ):
        found[name] = _mean(method.values(entry)[valid])
    return np.array([found[name] for name in MEASURES])


def pathology(scored: Scored, method: Method, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean AUROC of the averaged findings, and that of each finding: (findings,), NaN where all labels are alike."""
    areas = scores.pathology_auroc(scored.wanted[rows], method.answers[np.ix_(rows, scored.findings)])
    return _mean(areas[scored.averaged]), areas


def directions(scored: Scored, method: Method, *, held: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Whether each edited finding's score moved the right way, and whether further than any other's.

    Args:
        held: of the findings that the judge tells well alone.

    Returns:
        Two (N, findings) float arrays of 1 and 0; NaN where nothing was to move, or no image is there.
    """
    moved, ways = scored.moved(method), scored.ways
    asked = (ways != 0) & method.present[:, None]
    if held:
        asked &= scored.told_well
    right = ways * moved
    # Further in the asked direction than any other finding moved in that direction.
    along = ways[:, :, None] * moved[:, None, :]
    along[:, np.arange(moved.shape[1]), np.arange(moved.shape[1])] = -np.inf
    further = right > along.max(axis=2, initial=-np.inf)
    return np.where(asked, right > 0, np.nan), np.where(asked, (right > 0) & further, np.nan)


def measured(
    scored: Scored, *, count: int = 1000, seed: int = 0, on_resample=lambda: None
) -> tuple[dict[str, dict[str, Interval]], dict[str, np.ndarray]]:
    """MEASURES of all methods with bootstrap intervals by patient, over the same resamples for all.

    Returns:
        method -> measure -> interval; and method -> (count, len(MEASURES)), for `against`.
    """
    every = np.arange(len(scored.cases))

    def all_methods(rows: np.ndarray) -> np.ndarray:
        on_resample()
        return np.stack([measure(scored, method, rows) for method in scored.methods])

    samples = sample(all_methods, scored.patients, count=count, seed=seed)
    found, kept = {}, {}
    for place, method in enumerate(scored.methods):
        values = measure(scored, method, every)
        kept[method.name] = samples[:, place]
        found[method.name] = {
            name: interval(values[column], samples[:, place, column]) for column, name in enumerate(MEASURES)
        }
    return found, kept


def against(
    scored: Scored, one: str, other: str, samples: dict[str, np.ndarray], name: str, *, seed: int = 0
) -> tuple[Interval, float]:
    """How much more of a measure one method has than another, over the cases that both have, and its p-value.

    Args:
        samples: of `measured`, with the same seed; made anew where only one of both has an image of some cases.
    """
    methods = [next(method for method in scored.methods if method.name == name) for name in (one, other)]
    both = methods[0].present & methods[1].present
    column, rows = MEASURES.index(name), np.flatnonzero(both)
    if not len(rows):
        return Interval(math.nan, math.nan, math.nan), math.nan
    values = [measure(scored, method, rows)[column] for method in methods]
    drawn = [samples[method.name][:, column] for method in methods]
    if any((method.present != both).any() for method in methods):
        drawn = sample(
            lambda chosen: np.array([measure(scored, method, rows[chosen])[column] for method in methods]),
            [scored.patients[row] for row in rows],
            count=len(drawn[0]),
            seed=seed,
        ).T
    return difference(*values, *drawn)


def distances(scored: Scored, method: Method, target: Method) -> dict[str, float]:
    """KL, Frechet and kernel distance from the real targets; NaN for fewer than MIN_IMAGES, and without features."""
    rows = method.present & target.present
    found = dict.fromkeys(("KL", "Frechet", "kernel", "kernel, spread", "images"), math.nan)
    found["images"] = int(rows.sum())
    if rows.sum() < MIN_IMAGES:
        return found
    columns = [scored.findings[place] for place in scored.averaged]
    one, other = (m.answers[np.ix_(rows, columns)] for m in (target, method))
    found["KL"] = distributions.prediction_divergence(one, other)
    if method.features.shape[1]:
        found["Frechet"] = distributions.frechet_distance(target.features[rows], method.features[rows])
        kernel = distributions.kernel_distance(target.features[rows], method.features[rows])
        found["kernel"], found["kernel, spread"] = kernel
    return found


def levels(scored: Scored, method: Method) -> list[bool]:
    """For each two cases that differ in the level alone, next to each other: whether the higher one changed more."""
    groups: dict[tuple, dict[int, float]] = defaultdict(dict)
    amounts = method.values("amount")
    for case, amount in zip(scored.cases, amounts, strict=True):
        if len(case.edits) == 1 and case.edits[0].operation is Operation.ADD and case.edits[0].level is not None:
            edit = case.edits[0]
            groups[(case.row.path, edit.finding, edit.side, edit.zone)][LEVELS[edit.level]] = amount
    ordered = [[group[level] for level in sorted(group)] for group in groups.values()]
    pairs = [pair for amounts in ordered for pair in pairwise(amounts) if not np.isnan(pair).any()]
    return [bool(higher > lower) for lower, higher in pairs]


def _mean(values: Sequence[float] | np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
