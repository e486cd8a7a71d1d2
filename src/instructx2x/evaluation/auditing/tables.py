"""The tables and sentences of an audit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from instructx2x.evaluation.auditing.audited import Audited
from instructx2x.evaluation.auditing.classifier import Classifier
from instructx2x.evaluation.auditing.movement import MIN_PATIENTS, UNKNOWN, Movement, Resampled, members, pairs, traits
from instructx2x.evaluation.reporting.tables import Count, Table, Value
from instructx2x.evaluation.resampling import Interval, bootstrap
from instructx2x.evaluation.scored import GOOD_AUC

LISTED = 50  # cases where the answer should have moved and did not

CHANGE, AS_ASKED = 0, 1  # columns of what is resampled

_COUNTED = (
    "Counts have Wilson's interval, which takes images for independent; means have bootstrap intervals by patient. "
    f"With fewer than {MIN_PATIENTS} patients these are too narrow."
)


def said(classifier: Classifier, audits: Sequence[Audited], threshold: float) -> tuple[str, ...]:
    """What a reader must know first."""
    sentences = [f"{classifier.name} says yes from {threshold:g} on. Every edited image is synthetic."]
    for found in audits:
        text, movement = found.question.instruction, found.movement.of(found.asked)
        if not found.question.way:
            moved = f"A control: its answer about {found.question.finding} should stay; it changed its yes or no in "
            sentences.append(f"{text} {moved}{_said(movement.crossed)}.")
        else:
            sentences.append(
                f"{text} Its answer about {found.question.finding} moved as asked in {_said(movement.as_asked)}. Of "
                f"those that were on the wrong side of the threshold, it crossed it in {_said(movement.crossed)}."
            )
        if empty := int((~found.edited).sum()):
            sentences.append(
                f"{text} {empty} of {len(found.edited)} edits changed no pixel. That is no fault of the classifier: "
                "they are left out of every rate."
            )
        if found.question.way:
            sentences.append(f"{text} {_reference(found)}")
    return tuple(sentences)


def _reference(found: Audited) -> str:
    finding = found.question.finding
    if found.scorer is None:
        return f"The bundled scorer does not know {finding}: whether the edits show is for you to see in the pictures."
    auc = found.scorer_auc
    seen = f"For reference: the bundled scorer saw them move as asked in {_said(found.scorer.of(found.asked).as_asked)}"
    if auc is None or math.isnan(auc):
        return f"{seen}; how well it tells {finding} is not known."
    if auc < GOOD_AUC:
        return (
            f"{seen}, but it tells {finding} poorly on real patients (AUC {auc:.2f}), and so may the model that edits: "
            "look at the pictures before you blame the classifier."
        )
    return (
        f"{seen}; its AUC for {finding} on real patients is {auc:.2f}. Where neither moved, the edit may have failed."
    )


def overview(audits: Sequence[Audited], resamples: int) -> Table:
    """One row an instruction, so that a control stands beside what it controls; and one where nothing was to do."""
    rows = []
    for found in audits:
        idle = np.array([case.holds for case in found.cases], bool)
        text = found.question.instruction
        rows.append(_row(text, found, found.asked, found.question.way, ~idle, resamples))
        if idle.any():
            rows.append(_row(f"{text} Nothing to do", found, found.idle, 0, idle, resamples))
    header = ("instruction", "images", "patients", "left out: no pixel changed", *_MEASURED)
    note = (
        "Moved as asked: the answer rose where the finding was to be added, fell where it was to be removed. Crossed "
        "the threshold: of the answers on the wrong side before, those on the right side after. Where the answer "
        "should not move (a control, or nothing to do: what is to be added is there already, what is to be removed is "
        "not), all whose yes or no changed. Scorer: the bundled judge on the same edits, as a reference that they show "
        f"at all. {_COUNTED}"
    )
    return Table("overview", "All instructions", header, tuple(rows), note, 3, ("mean change", "moved as asked"))


_MEASURED = ("mean before", "mean change", "moved as asked", "crossed the threshold", "scorer moved as asked")


def _row(name: str, found: Audited, rows: np.ndarray, way: int, among: np.ndarray, resamples: int) -> tuple[Value, ...]:
    patients = [found.cases[row].patient for row in rows]
    change = found.movement.of(rows).change
    mean = Interval(float(change.mean()) if len(rows) else math.nan, math.nan, math.nan)
    if len(set(patients)) > 1:
        mean = bootstrap(lambda drawn: float(change[drawn].mean()), patients, count=resamples)
    empty = int((among & ~found.edited).sum())
    return (name, len(rows), len(set(patients)), empty, *_measured(found, rows, way, mean))


def _measured(found: Audited, rows: np.ndarray, way: int, mean: Interval) -> tuple[Value, ...]:
    movement = found.movement.of(rows, way)
    scorer = None if found.scorer is None or not way else Count.of(found.scorer.of(rows, way).as_asked)
    before = float(movement.before.mean()) if len(rows) else None
    return before, mean, Count.of(movement.as_asked) if way else None, Count.of(movement.crossed), scorer


def of_one(number: int, found: Audited, resampled: Resampled) -> list[Table]:
    """The tables of one instruction."""
    tables = [by_group(number, found, resampled), differences(number, found, resampled)]
    if found.question.way:
        tables.append(missed(number, found))
    return tables


def by_group(number: int, found: Audited, resampled: Resampled) -> Table:
    """How the answer moves in each group of patients."""
    cases = [found.cases[row] for row in found.asked]
    rows = []
    for place, (group, member) in enumerate(members(cases).items()):
        kept = found.asked[member]
        cells = _measured(found, kept, found.question.way, resampled.mean(group, CHANGE))
        rows.append((_name(group), len(kept), resampled.patients[place], *cells))
    header = ("group", "images", "patients", *_MEASURED)
    note = (
        "Images with nothing to do, and edits that changed no pixel, are left out. Not known: the data do not say, and "
        f"nothing is guessed. {_COUNTED}"
    )
    title = f"By group: {found.question.instruction}"
    return Table(f"groups-{number}", title, header, tuple(rows), note, 3, ("mean change", "moved as asked"))


def differences(number: int, found: Audited, resampled: Resampled) -> Table:
    """How the groups differ."""
    rows = []
    for one, other in pairs(resampled.groups):
        cells: list[Value] = []
        for column in (CHANGE, AS_ASKED):
            cells += resampled.difference(one, other, column)
        sizes = "{} / {}".format(*(resampled.patients[resampled.groups.index(group)] for group in (one, other)))
        rows.append((f"{one[0]}: {one[1]} - {other[1]}", sizes, *cells))
    header = ("difference", "patients", "mean change", "p mean change", "share moved as asked", "p moved as asked")
    note = (
        "Bootstrap by patient, all groups over the same resamples of all patients; p is two-sided, not corrected for "
        f"the number of comparisons, and not given when either group has fewer than {MIN_PATIENTS} patients. A share "
        "of none or all has no spread to resample, so its interval is too narrow. A group in which the edits "
        "themselves turn out weaker differs too: compare the scorer's column by group."
    )
    title = f"Differences between groups: {found.question.instruction}"
    return Table(f"differences-{number}", title, header, tuple(rows), note)


def missed(number: int, found: Audited) -> Table:
    """Cases where the answer should have moved and did not, the smallest movement first."""
    movement = found.movement.of(found.asked)
    scorer = None if found.scorer is None else found.scorer.of(found.asked)
    places = worst(movement)
    cases = [found.cases[row] for row in found.asked]
    labels = traits(cases)
    rows = [
        (
            cases[place].row.image,
            cases[place].sex or UNKNOWN,
            _years(cases[place].age),
            labels["view"][place].item(),
            float(movement.before[place]),
            float(movement.after[place]),
            float(movement.way * movement.change[place]),
            None if scorer is None else float(movement.way * scorer.change[place]),
            float(found.changed[found.asked[place]]),
        )
        for place in places[:LISTED]
    ]
    header = ("image", "sex", "age", "view", "before", "after", "movement", "scorer's movement", "pixels changed")
    note = (
        f"{len(places)} of {len(cases)}: the answer did not move as asked, or stayed on the wrong side of the "
        f"threshold; the smallest movement first, at most {LISTED}. Movement: in the direction asked. Scorer's: of the "
        "bundled judge's probability; where it is small, too, the edit may be at fault. Pixels changed: their share."
    )
    title = f"Did not react: {found.question.instruction}"
    return Table(f"missed-{number}", title, header, tuple(rows), note)


def worst(movement: Movement) -> list[int]:
    """Rows that are `missed`, the smallest movement in the direction asked first."""
    order = np.argsort(movement.way * movement.change, kind="stable")
    return [int(row) for row in order if movement.missed[row]]


def _years(age: float) -> Value:
    return UNKNOWN if math.isnan(age) else int(age) if age.is_integer() else age


def _name(group: tuple[str, str]) -> str:
    return ": ".join(filter(None, group))


def _said(values: np.ndarray) -> str:
    counted = Count.of(values)
    return f"{counted.hits} of {counted.total}"
