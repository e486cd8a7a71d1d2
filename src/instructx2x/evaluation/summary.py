"""The tables of an evaluation, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from instructx2x.evaluation import measures
from instructx2x.evaluation.reporting.tables import Count, Table, Value
from instructx2x.evaluation.resampling import Interval, bootstrap
from instructx2x.evaluation.scored import COPY, GOOD_AUC, MIN_CONTROLS, TARGET, Method, Scored
from instructx2x.evaluation.scoring import COMPARED_MAPS
from instructx2x.instructions import Operation

Measured = Mapping[str, Mapping[str, Interval]]

_OPERATIONS = {Operation.ADD: "add", Operation.REMOVE: "remove", Operation.CHANGE: "change"}


def main(scored: Scored, measured: Measured) -> Table:
    """One row a method: what it reaches, what it keeps, where it edits."""
    trait, name = ("race", "CMIG") if scored.panel.races else ("sex", "CMIG-S")
    columns = {
        "pathology AUROC": "pathology",
        f"{trait} AUROC": trait,
        "age r": "age",
        name: name,
        "moved": "moved",
        "size": "size",
        "in anatomy": "in anatomy",
        "on side": "on side",
        "mean change": "change",
    }
    rows = []
    for method in scored.methods:
        found = measured[method.name]
        outside = method.values("outside_mask")
        known = outside[~np.isnan(outside)]
        rows.append(
            (
                method.name,
                int(method.present.sum()),
                *(_blank(method, key, found[key]) for key in columns.values()),
                int(known.sum()) if known.size else None,
            )
        )
    stated = (
        "sqrt(P * sqrt(R * max(A, 0))) of pathology, race and age"
        if scored.panel.races
        else "sqrt(P * sqrt(S * max(A, 0))) of pathology, sex and age: a measure of our own in the place of CMIG, for "
        "which a judge of race is missing"
    )
    note = (
        f"{name} is {stated}. Pathology: mean AUROC over {_averaged(scored)} against what "
        "the edited image should show. "
        f"{trait.capitalize()} and age: agreement of the judge's answers to edited and unedited image. Moved: "
        "share of edited findings whose score moves as asked by more than the 95th percentile of its movement under "
        f"edits of other findings, of those that the judge tells well ({_held(scored)}). Size: the median movement of "
        "these, in units of the gap between real films with and without the finding in that view. "
        "In anatomy, on side: share of the absolute change where the finding can be in this patient, and on the side "
        "that the instruction names; cases with nothing to do are left out of these. In brackets: 95 % bootstrap "
        "intervals by patient. The last column counts the pixels that changed outside the method's own mask, if it "
        "says what that is."
    )
    header = ("method", "images", *columns, "pixels changed outside the mask")
    plot = ("pathology AUROC", name, "moved", "in anatomy")
    return Table("methods", "Methods", header, tuple(rows), note, 3, plot)


def _blank(method: Method, key: str, value: Interval) -> Value:
    """A copy agrees with itself by definition: that has no interval."""
    if method.name == COPY and key in ("sex", "sex accuracy", "race", "race accuracy", "age"):
        return value.value
    return value


def _averaged(scored: Scored) -> str:
    chosen = scored.panel.averaged
    return "all findings with labels" if chosen == scored.panel.findings else ", ".join(chosen)


def _held(scored: Scored) -> str:
    known = sorted(scored.held)
    if not scored.panel.auc:
        return "all findings: this judge does not say how well it tells them"
    return f"AUC of {GOOD_AUC} or more within a view: {', '.join(known) or 'none'}"


def identity(scored: Scored, measured: Measured) -> Table:
    """How well the person survives, part by part."""
    parts = ("race", "race accuracy", "sex", "sex accuracy", "age")
    names = ("race AUROC", "race accuracy", "sex AUROC", "sex accuracy", "correlation of ages")
    rows = [(m.name, *(_blank(m, part, measured[m.name][part]) for part in parts)) for m in scored.methods]
    note = (
        "The judge's answer to the unedited image is the truth that its answer to the edited one is held against. "
        "Race: mean over the classes, each against the rest, which is under 1 even for a copy. A dash: not judged."
    )
    return Table("identity", "Identity", ("method", *names), tuple(rows), note)


def by_finding(scored: Scored, measured: Measured) -> Table:
    """Pathology AUROC of each finding, with the judge's own AUC on real patients beside it."""
    every = np.arange(len(scored.cases))
    areas = {}
    for method in scored.methods:
        areas[method.name] = measures.pathology(scored, method, every[method.present])[1]
    rows = []
    for column, finding in enumerate(scored.panel.findings):
        labels = scored.wanted[:, column]
        counts = int((labels == 1).sum()), int((labels == 0).sum())
        if min(counts):
            values = [float(areas[method.name][column]) for method in scored.methods]
            rows.append((finding, *counts, scored.panel.auc.get(finding), *values))
    for name, key in (("mean of those averaged", "pathology"), ("mean of those told well", "pathology, judged")):
        rows.append((name, None, None, None, *(measured[method.name][key] for method in scored.methods)))
    header = ("finding", "with", "without", "judge's own AUC", *(method.name for method in scored.methods))
    note = (
        "With and without: how many edited images should show the finding, and should not. Averaged: "
        f"{_averaged(scored)}. Told well: {_held(scored)}."
    )
    return Table("pathology", "Pathology AUROC by finding", header, tuple(rows), note, 2)


def moved(scored: Scored) -> Table:
    """Real movement by operation and finding: how often, and how far. Two columns a method."""
    methods = [method for method in scored.methods if method.name != COPY]
    hits = {method.name: measures.moved_as_asked(scored, method, held=False) for method in methods}
    sizes = {method.name: measures.sizes(scored, method, held=False) for method in methods}
    rows = []
    for operation, word in _OPERATIONS.items():
        where = np.array(
            [
                [any(e.finding == f and e.operation is operation for e in case.edits) for f in scored.panel.findings]
                for case in scored.cases
            ]
        ).reshape(len(scored.cases), -1)
        where &= scored.ways != 0

        def row(name: str, chosen: np.ndarray) -> None:
            if chosen.any():
                counts = {m: Count.of(hits[m][chosen]) for m in hits}
                pairs = [(counts[m] if counts[m].total else None, measures.median(sizes[m][chosen])) for m in hits]
                rows.append((name, *(cell for pair in pairs for cell in pair)))

        for column, finding in enumerate(scored.panel.findings):
            only = where & (np.arange(where.shape[1]) == column)
            row(f"{word} {finding}{'' if finding in scored.held else ' (not judged)'}", only)
        row(f"{word}, judged findings together", where & scored.told_well)
    note = (
        "Moved: how often the score of the edited finding moved as asked, by more than the 95th percentile of its "
        "movement under edits that ask the same of other findings; counts of edits, with Wilson's interval. It is "
        f"not counted where there are fewer than {MIN_CONTROLS} such edits. Size: the median movement as asked, in "
        "units of the gap between the mean scores of real films with and without the finding in that view: 1 is as "
        "far as real films lie apart, and a dash is a gap that is not known. Edits with nothing to do are left out. "
        f"Findings that the judge does not tell well (AUC under {GOOD_AUC}) are not judged: they are shown, and count "
        "nowhere else."
    )
    header = ("edit", *(cell for name in hits for cell in (f"{name}: moved", f"{name}: size")))
    return Table("moved", "Movement beyond the judge's noise", header, tuple(rows), note, 2)


def differences(scored: Scored, samples: Mapping[str, np.ndarray], one: str) -> Table:
    """How far ahead one method is of the others, in paired tests."""
    names = ("pathology", "CMIG" if scored.panel.races else "CMIG-S", "moved", "in anatomy", "on side")
    rows = []
    for method in scored.methods:
        if method.name != one:
            found = measures.paired(scored, one, method.name, samples)
            if method.name == COPY:
                # A copy moves no score by definition: to be ahead of it in movement is no finding.
                found["moved"] = Interval(math.nan, math.nan, math.nan), math.nan
            rows.append((f"{one} - {method.name}", *(cell for name in names for cell in found[name])))
    header = ("difference", *(part for name in names for part in (name, f"p {name}")))
    note = (
        "Paired over the same bootstrap resamples of patients; p is two-sided, not corrected for the number of "
        f"comparisons. No interval under {measures.MIN_PATIENTS} patients. The anatomy is what the default method "
        "follows, so that it is ahead there by construction of those that follow another or none: the figure says by "
        "how much."
    )
    return Table("differences", f"{one.capitalize()} against the others", header, tuple(rows), note)


def distances(scored: Scored) -> Table | None:
    """Distances from the real targets; None without targets."""
    target = next((method for method in scored.methods if method.name == TARGET), None)
    if target is None:
        return None
    rows = []
    for method in scored.methods:
        if method.name != TARGET:
            found = measures.distances(scored, method, target)
            rows.append((method.name, found["images"], *(found[name] for name in ("KL", "Frechet", "kernel"))))
    trunk = scored.panel.trunk.name if scored.panel.trunk else "no judge has any"
    note = (
        "KL: mean divergence of the judge's answers on the edited from those on the real target, in nats. Frechet and "
        f"kernel distance of the judge's features ({trunk}), not Inception's: not FID, not KID, and no figure to "
        "compare with published ones. Both depend on the number of images, and both are too small for images of the "
        "same patients as the targets, the copy's above all, where the kernel distance, which is unbiased for "
        "independent sets, falls below 0."
    )
    header = ("method", "images", "KL", "Frechet distance", "kernel distance")
    return Table("distances", "Distance from the real targets", header, tuple(rows), note)


def behaviour(scored: Scored) -> Table:
    """Levels, minimality, and what is done where nothing is to be done."""
    rows = []
    for method in scored.methods:
        if method.name in (TARGET, COPY):
            continue
        amounts, masks = method.values("amount"), method.values("mask")
        idle, valid = scored.holds & method.present, ~scored.holds & method.present
        rows.append(
            (
                method.name,
                _true(measures.levels(scored, method)),
                measures.mean(amounts[valid]),
                measures.mean(method.values("changed")[valid]),
                Count.of(np.where(np.isnan(masks[idle]), np.nan, masks[idle] == 0)),
                Count.of(np.where(np.isnan(masks[valid]), np.nan, masks[valid] == 0)),
                _ratio(measures.mean(amounts[idle]), measures.mean(amounts[valid])),
            )
        )
    header = (
        *("method", "the higher level changes more", "mean change", "share of pixels changed"),
        *("empty mask, nothing to do", "empty mask, valid instruction", "change, nothing to do / valid"),
    )
    note = (
        "Levels: pairs of cases that differ in the level alone. Nothing to do: what is to be added is there already, "
        "or what is to be removed is not."
    )
    return Table("behaviour", "Level, minimality, nothing to do", header, tuple(rows), note)


def boxes(scored: Scored) -> Table | None:
    """Where images with experts' boxes changed; None without boxes."""
    if not any(case.boxes for case in scored.cases):
        return None
    rows = []
    for method in scored.methods:
        values = method.values("in_boxes")
        if (~np.isnan(values)).any():
            rows.append((method.name, int((~np.isnan(values)).sum()), _spread(scored, values)))
    flat = _map_values(scored, "flat", None)
    note = (
        f"Share of the absolute change inside the experts' boxes; a change spread evenly has {measures.mean(flat):.3f}."
    )
    return Table("boxes", "Change in experts' boxes", ("method", "images", "share in the boxes"), tuple(rows), note)


def guidance(scored: Scored) -> Table | None:
    """The guidance map of the first method that has one, against either factor alone; None without maps."""
    method = _with_maps(scored)
    if method is None:
        return None
    rows = []
    for letter in COMPARED_MAPS.values():
        share, hits, follows = (_map_values(scored, letter, entry) for entry in ("in_boxes", "pointing", "follows"))
        rows.append((letter, *(_spread(scored, values) for values in (share, hits, follows))))
    flat = _map_values(scored, "flat", None)
    rows.append(("a flat map", _spread(scored, flat), measures.mean(flat), None))
    number = int((~np.isnan(flat)).sum())
    note = (
        f"Of {method.name}: G = M * R, M the anatomical pseudo mask, R the relevance. Boxes: {number} images with "
        "experts' boxes of the edited finding. Pointing game: the highest point lies in a box (Zhang et al. 2016; no "
        "tolerance). Follows the change: Spearman's correlation with |edited - source| within the anatomy."
    )
    header = ("map", "share in the boxes", "pointing game", "follows the change")
    return Table("guidance", "What the guidance map is worth", header, tuple(rows), note)


def stability(rows: Sequence[tuple[str, str, Mapping[str, Sequence[float]]]]) -> Table:
    """Stability of edits and maps: (method, what varies, values by measure)."""
    names = {"images": "distance of the images", "guidance": "correlation of G", "masks": "overlap of the masks"}
    cells = [
        (
            f"{method}: {what}",
            max(map(len, values.values()), default=0),
            *(float(np.median(values[name])) if values.get(name) else math.nan for name in (*names, "left")),
        )
        for method, what, values in rows
    ]
    note = (
        "Medians, because a share of a change that is hardly there has no bound. Distance of the images: mean absolute "
        "difference over the mean change (0 the same edit). Correlation of G: "
        "Pearson's. Overlap: Dice. Left of the change: what was added is removed again from the edited image; 0 "
        "nothing is left of it, 1 all, more than 1 harm."
    )
    header = ("what varies", "pairs", *names.values(), "left of the change")
    return Table("stability", "Seeds, paraphrases, reversal", header, tuple(cells), note)


def _with_maps(scored: Scored) -> Method | None:
    return next((m for m in scored.methods if any("maps" in change for change in m.changes)), None)


def _map_values(scored: Scored, letter: str, entry: str | None) -> np.ndarray:
    """(N,) of the first method's maps; NaN where they are not known."""
    method = _with_maps(scored)
    changes = method.changes if method else ()
    found = [change.get("maps", {}).get(letter) for change in changes]
    if entry is not None:
        found = [None if one is None else one[entry] for one in found]
    return np.array([np.nan if one is None else one for one in found], np.float64)


def _spread(scored: Scored, values: np.ndarray) -> Interval:
    """The mean with its bootstrap interval by patient."""
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return Interval(math.nan, math.nan, math.nan)
    kept = values[known]
    return bootstrap(lambda rows: float(kept[rows].mean()), [scored.patients[row] for row in known])


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.nan


def _true(values: Sequence[bool]) -> Count:
    return Count(sum(values), len(values))
