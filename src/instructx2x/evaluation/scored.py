"""Scored images as arrays: one row a case, one column an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from instructx2x.editing.verification import GOOD_AUC, direction, log_odds
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.panel import Panel

TARGET, COPY = "real target", "copy of the input"

# Fewer control edits tell no 95th percentile; fewer films with or without a finding tell no gap.
MIN_CONTROLS, MIN_FILMS = 20, 5


@dataclass(frozen=True, eq=False)
class Method:
    """What one method did to the cases.

    Attributes:
        name: as tables print it.
        answers: (N, outputs) of the judges; NaN in the rows of cases that it has no image for.
        features: (N, D) of the judges' trunk; NaN likewise.
        changes: what changed where, see `scoring.changes`; {} where that is not measured.
    """

    name: str
    answers: np.ndarray
    features: np.ndarray
    changes: tuple[Mapping[str, Any], ...]

    @cached_property
    def present(self) -> np.ndarray:
        """(N,) bool: the cases that it has an image for."""
        return ~np.isnan(self.answers).any(axis=1)

    def values(self, name: str) -> np.ndarray:
        """(N,) float64 of one entry of `changes`; NaN where it is not known."""
        found = [change.get(name) for change in self.changes]
        return np.array([np.nan if value is None else value for value in found], np.float64)


@dataclass(frozen=True, eq=False)
class Scored:
    """All that was measured.

    Attributes:
        cases: in order.
        panel: the judges.
        source: (N, outputs) the judges' answers to the unedited images.
        methods: TARGET (where a case has one) and COPY first.
    """

    cases: tuple[Case, ...]
    panel: Panel
    source: np.ndarray
    methods: tuple[Method, ...]

    @classmethod
    def of(cls, cases: Sequence[Case], panel: Panel, records: Mapping[str, Mapping[str, Any]]) -> Scored:
        """From the records of `scoring.score`; cases without a source's record were left out there."""
        kept = tuple(case for case in cases if case.name in records["source"])
        source = method(COPY, kept, panel, records["source"])
        others = [method(name, kept, panel, records[name]) for name in records if name not in ("source", "target")]
        target = [method(TARGET, kept, panel, records["target"])] if records["target"] else []
        return cls(kept, panel, source.answers, (*target, source, *others))

    @cached_property
    def patients(self) -> list[str]:
        return [case.patient for case in self.cases]

    @cached_property
    def findings(self) -> list[int]:
        """Columns of the findings."""
        return [self.panel.outputs.index(finding) for finding in self.panel.findings]

    @cached_property
    def averaged(self) -> list[int]:
        """Places among the findings of those that are averaged over."""
        return [self.panel.findings.index(finding) for finding in self.panel.averaged]

    @cached_property
    def held(self) -> set[str]:
        """Findings that the judge tells well; all, when it does not say how well it tells any."""
        auc = self.panel.auc
        return {f for f in self.panel.findings if not auc or auc.get(f, 0) >= GOOD_AUC}

    @cached_property
    def told_well(self) -> np.ndarray:
        """(findings,) bool: those of `held`."""
        return np.array([finding in self.held for finding in self.panel.findings])

    @cached_property
    def wanted(self) -> np.ndarray:
        """(N, findings) what the edited images should show."""
        return np.array([case.wanted(self.panel.findings) for case in self.cases])

    @cached_property
    def spread(self) -> np.ndarray:
        """(findings,) standard deviation of each finding's log-odds over the unedited images."""
        _, first = np.unique([str(case.row.path) for case in self.cases], return_index=True)
        odds = log_odds(self.source[np.ix_(first, self.findings)])
        return np.maximum(odds.std(axis=0, ddof=1), 1e-9) if len(first) > 1 else np.ones(len(self.findings))

    def moved(self, method: Method) -> np.ndarray:
        """(N, findings) change of the findings' log-odds, in units of their spread."""
        return (log_odds(method.answers[:, self.findings]) - log_odds(self.source[:, self.findings])) / self.spread

    @cached_property
    def ways(self) -> np.ndarray:
        """(N, findings) which way each finding should move: 1 up, -1 down, 0 either way or not edited.

        0 as well where there is nothing to do.
        """
        ways = np.zeros((len(self.cases), len(self.panel.findings)), int)
        for row, case in zip(ways, self.cases, strict=True):
            for edit in case.edits:
                if edit.finding in self.panel.findings and not case.has_already(edit):
                    row[self.panel.findings.index(edit.finding)] += direction(edit)
        return np.sign(ways)

    @cached_property
    def noise(self) -> dict[str, np.ndarray]:
        """How far each finding's score moves when other findings are edited, by method: (2, findings), >= 0.

        The 95th percentile of the movement up (first row) under edits that add other findings, and of the movement down
        (second row) under edits that remove others; in the units of `moved`. A finding has moved as asked only if it
        moved further than this. NaN where there are fewer than MIN_CONTROLS such edits.
        """
        named = np.array([[any(e.finding == f for e in c.edits) for f in self.panel.findings] for c in self.cases])
        asks = np.stack([(self.ways == way).any(axis=1) & ~(self.ways == -way).any(axis=1) for way in (1, -1)])
        found = {}
        for method in self.methods:
            moved = self.moved(method)
            limits = np.full((2, len(self.panel.findings)), np.nan)
            for row, way in enumerate((1, -1)):
                for column in range(len(self.panel.findings)):
                    control = asks[row] & method.present & ~named[:, column]
                    if control.sum() >= MIN_CONTROLS:
                        limits[row, column] = max(0.0, np.percentile(way * moved[control, column], 95))
            found[method.name] = limits
        return found

    @cached_property
    def gaps(self) -> np.ndarray:
        """(N, findings) mean log-odds of real films with the finding less those without, in each case's view.

        Over the unedited images, each counted once. Of all views together where one has fewer than MIN_FILMS on either
        side; NaN where that is too few as well, or where the films with the finding score no higher.
        """
        _, first = np.unique([str(case.row.path) for case in self.cases], return_index=True)
        odds = log_odds(self.source[np.ix_(first, self.findings)])
        shown = [self.cases[row].findings for row in first]
        known = np.array([findings is not None for findings in shown])
        has = np.array([[f in (findings or ()) for f in self.panel.findings] for findings in shown])
        views = np.array([self.cases[row].view for row in first])

        def gap(films: np.ndarray) -> np.ndarray:
            gaps = np.full(len(self.panel.findings), np.nan)
            for column in range(len(gaps)):
                groups = [odds[films & known & (has[:, column] == which), column] for which in (True, False)]
                if min(map(len, groups)) >= MIN_FILMS and groups[0].mean() > groups[1].mean():
                    gaps[column] = groups[0].mean() - groups[1].mean()
            return gaps

        everywhere = gap(np.ones(len(first), bool))
        by_view = {view: gap(views == view) for view in set(views)}
        by_view = {view: np.where(np.isnan(own), everywhere, own) for view, own in by_view.items()}
        return np.array([by_view[case.view] for case in self.cases])

    @cached_property
    def holds(self) -> np.ndarray:
        """(N,) bool: there is nothing to do."""
        return np.array([case.holds for case in self.cases])


def method(name: str, cases: Sequence[Case], panel: Panel, records: Mapping[str, Mapping[str, Any]]) -> Method:
    """The records of one method as arrays."""
    size = max((len(record["features"]) for record in records.values()), default=0)
    answers = np.full((len(cases), len(panel.outputs)), np.nan)
    features = np.full((len(cases), size), np.nan)
    changes: list[Mapping[str, Any]] = []
    for row, case in enumerate(cases):
        record = records.get(case.name, {})
        if record:
            answers[row], features[row] = record["answers"], record["features"]
        changes.append(record.get("change", {}))
    return Method(name, answers, features, tuple(changes))
