"""What is measured of a method over some of the cases (method section 7): numbers from the arrays of `Scored`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from instructx2x.evaluation import distributions, scores
from instructx2x.evaluation.resampling import Interval, bootstrap, difference, interval, sample
from instructx2x.evaluation.scored import Method, Scored, log_odds
from instructx2x.instructions import LEVELS, Operation

# Fewer images on either side give no covariance worth a distance, fewer patients no interval.
MIN_IMAGES = 10
MIN_PATIENTS = 10

MEASURES = (
    *("pathology", "pathology, judged", "race", "race accuracy", "sex", "sex accuracy", "age", "CMIG", "CMIG-S"),
    *("moved", "size", "in anatomy", "on side", "change"),
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
    found["pathology, judged"] = mean(areas[scored.told_well])
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
    found["moved"] = mean(moved_as_asked(scored, method)[rows])
    found["size"] = median(sizes(scored, method)[rows])
    valid = rows[~scored.holds[rows]]
    for name, entry in (("in anatomy", "in_anatomy"), ("on side", "on_side"), ("change", "amount")):
        found[name] = mean(method.values(entry)[valid])
    return np.array([found[name] for name in MEASURES])


def pathology(scored: Scored, method: Method, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean AUROC of the averaged findings, and that of each finding: (findings,), NaN where all labels are alike."""
    areas = scores.pathology_auroc(scored.wanted[rows], method.answers[np.ix_(rows, scored.findings)])
    return mean(areas[scored.averaged]), areas


def moved_as_asked(scored: Scored, method: Method, *, held: bool = True) -> np.ndarray:
    """Whether each edited finding's score moved as asked, by more than under edits of other findings.

    Any edit moves every score a little, half of the time in the right direction. So a movement counts only beyond the
    judge's own noise, see `Scored.noise`.

    Args:
        held: of the findings that the judge tells well alone.

    Returns:
        (N, findings) float of 1 and 0; NaN where nothing was to move, no image is there, or the noise is not known.
    """
    asked = (scored.ways != 0) & method.present[:, None]
    if held:
        asked &= scored.told_well
    up, down = scored.noise[method.name]
    limit = np.where(scored.ways > 0, up, down)
    right = scored.ways * scored.moved(method) > limit
    return np.where(asked & ~np.isnan(limit), right, np.nan)


def sizes(scored: Scored, method: Method, *, held: bool = True) -> np.ndarray:
    """How far each edited finding's score moved as asked, in units of the gap between real films with and without it.

    1 is as far as from the mean film without the finding to the mean film with it, in the same view (`Scored.gaps`);
    below 0 it moved the wrong way.

    Returns:
        (N, findings) float; NaN where nothing was to move, no image is there, or the gap is not known.
    """
    asked = (scored.ways != 0) & method.present[:, None]
    if held:
        asked &= scored.told_well
    change = log_odds(method.answers[:, scored.findings]) - log_odds(scored.source[:, scored.findings])
    return np.where(asked, scored.ways * change / scored.gaps, np.nan)


def median(values: np.ndarray) -> float:
    """Of the values that are known; NaN when none is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else math.nan


def measured(
    scored: Scored, *, count: int = 1000, seed: int = 0, on_resample: Callable[[], None] = lambda: None
) -> tuple[dict[str, dict[str, Interval]], dict[str, np.ndarray]]:
    """MEASURES of all methods with bootstrap intervals by patient, over the same resamples for all.

    Returns:
        method -> measure -> interval; and method -> (count, len(MEASURES)), for `paired`. NaN in place of intervals for
        fewer than MIN_PATIENTS patients, of whom a bootstrap knows too little.
    """
    every = np.arange(len(scored.cases))

    def all_methods(rows: np.ndarray) -> np.ndarray:
        on_resample()
        return np.stack([measure(scored, method, rows) for method in scored.methods])

    samples = sample(all_methods, scored.patients, count=count, seed=seed)
    found, kept = {}, {}
    for place, method in enumerate(scored.methods):
        values = measure(scored, method, every)
        if _patients(scored, method.present) < MIN_PATIENTS:
            samples[:, place] = np.nan
        kept[method.name] = samples[:, place]
        found[method.name] = {
            name: interval(values[column], samples[:, place, column]) for column, name in enumerate(MEASURES)
        }
    return found, kept


def paired(
    scored: Scored, one: str, other: str, samples: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, tuple[Interval, float]]:
    """How much more of each measure one method has than another, over the cases that both have, and the p-values.

    Args:
        samples: of `measured`, with the same seed; made anew where only one of both has an image of some cases.
    """
    methods = [next(method for method in scored.methods if method.name == name) for name in (one, other)]
    both = methods[0].present & methods[1].present
    rows, count = np.flatnonzero(both), len(samples[one])
    values = [measure(scored, method, rows) for method in methods]
    drawn = [samples[method.name] for method in methods]
    if _patients(scored, both) < MIN_PATIENTS:
        drawn = [np.full((count, len(MEASURES)), np.nan)] * 2
    elif any((method.present != both).any() for method in methods):
        of_both = [scored.patients[row] for row in rows]
        drawn = sample(
            lambda chosen: np.stack([measure(scored, method, rows[chosen]) for method in methods]),
            of_both,
            count=count,
            seed=seed,
        ).swapaxes(0, 1)
    return {
        name: difference(*(value[column] for value in values), *(sampled[:, column] for sampled in drawn))
        for column, name in enumerate(MEASURES)
    }


def _patients(scored: Scored, chosen: np.ndarray) -> int:
    return len({scored.patients[row] for row in np.flatnonzero(chosen)})


def distances(scored: Scored, method: Method, target: Method) -> dict[str, Interval | float]:
    """KL with its interval, Frechet and kernel distance from the real targets, and the number of images.

    NaN for fewer than MIN_IMAGES, and for the last two without features. A resample repeats images, which biases both
    distances, so that they have no interval.
    """
    rows = method.present & target.present
    found: dict[str, Interval | float] = dict.fromkeys(("KL", "Frechet", "kernel"), math.nan)
    found["images"] = int(rows.sum())
    if rows.sum() < MIN_IMAGES:
        return found
    columns = [scored.findings[place] for place in scored.averaged]
    one, other = (m.answers[np.ix_(rows, columns)] for m in (target, method))
    patients = [scored.patients[row] for row in np.flatnonzero(rows)]
    found["KL"] = bootstrap(lambda drawn: distributions.prediction_divergence(one[drawn], other[drawn]), patients)
    if method.features.shape[1]:
        found["Frechet"] = distributions.frechet_distance(target.features[rows], method.features[rows])
        found["kernel"] = distributions.kernel_distance(target.features[rows], method.features[rows])[0]
    return found


def levels(scored: Scored, method: Method) -> list[bool]:
    """For each two cases that differ in the level alone, next to each other: whether the higher one changed more.

    Of cases that do not differ at all, the last counts.
    """
    groups: dict[tuple, dict[int, float]] = defaultdict(dict)
    amounts = method.values("amount")
    for case, amount in zip(scored.cases, amounts, strict=True):
        if len(case.edits) == 1 and case.edits[0].operation is Operation.ADD and case.edits[0].level is not None:
            edit = case.edits[0]
            groups[(case.row.path, case.row.seed, edit.finding, edit.side, edit.zone)][LEVELS[edit.level]] = amount
    ordered = [[group[level] for level in sorted(group)] for group in groups.values()]
    pairs = [pair for amounts in ordered for pair in pairwise(amounts) if not np.isnan(pair).any()]
    return [bool(higher > lower) for lower, higher in pairs]


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Of the values that are known; NaN when none is."""
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
