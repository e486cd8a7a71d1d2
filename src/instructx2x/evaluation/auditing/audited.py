"""What a classifier answered to one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from instructx2x.evaluation.auditing.classifier import Question
from instructx2x.evaluation.auditing.movement import Movement
from instructx2x.evaluation.cases import Case


@dataclass(frozen=True, eq=False)
class Audited:
    """The answers to one question.

    Attributes:
        question: what was asked.
        cases: N of them: those whose image was edited, read and judged.
        movement: of the classifier's answers.
        scorer: of the bundled scorer's, the same way; None: it does not know the finding.
        scorer_auc: how well that tells the finding on real patients; None: not known.
        changed: (N,) share of the pixels whose change can be seen.
        edited: (N,) bool: any pixel changed at all. Where none did, nothing is to be said of the classifier.
        paths: the edited images by the case's name.
    """

    question: Question
    cases: tuple[Case, ...]
    movement: Movement
    scorer: Movement | None
    scorer_auc: float | None
    changed: np.ndarray
    edited: np.ndarray
    paths: Mapping[str, Path]

    @cached_property
    def asked(self) -> np.ndarray:
        """Rows of the cases that count: something was to be done, and something was."""
        return np.flatnonzero(self.edited & ~np.array([case.holds for case in self.cases]))

    @cached_property
    def idle(self) -> np.ndarray:
        """Rows of the cases with nothing to do, in which pixels changed all the same."""
        return np.flatnonzero(self.edited & np.array([case.holds for case in self.cases]))
