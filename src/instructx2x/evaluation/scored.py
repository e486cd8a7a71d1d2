"""Scored images as arrays: one row a case, one column an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from instructx2x.editing.verification import direction
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.panel import Panel

TARGET, COPY = "real target", "copy of the input"

# A judge's finding that reaches this area under the ROC curve within a view is told well enough to be held to.
GOOD_AUC = 0.75
LIMIT = 1e-6  # probabilities are kept this far from 0 and 1, so that log-odds are finite


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), float64, p kept within [LIMIT, 1 - LIMIT]."""
    kept = np.clip(np.asarray(probabilities, np.float64), LIMIT, 1 - LIMIT)
    return np.log(kept / (1 - kept))


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
