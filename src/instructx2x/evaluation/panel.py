"""The judges of an evaluation, each for what it answers, asked together about one image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from instructx2x.errors import InputError
from instructx2x.evaluation.judges.plugins import RACES, AnyJudge
from instructx2x.instructions import FINDINGS

# The five most prevalent findings of MIMIC-CXR, over which the paper averages.
PAPER_FIVE = ("atelectasis", "cardiomegaly", "edema", "pleural effusion", "pneumothorax")


class Panel:
    """Judges with disjoint outputs.

    Attributes:
        judges: one for findings at most, and whatever others.
        outputs: of all of them, in order.
        averaged: the findings that pathology and KL are averaged over; all that are judged by default.

    Raises:
        InputError: two judges answer the same, or none answers about findings, or not about all to be averaged.
    """

    def __init__(self, judges: Sequence[AnyJudge], averaged: Sequence[str] | None = None) -> None:
        self.judges = tuple(judges)
        self.outputs = tuple(output for judge in judges for output in judge.outputs)
        for output in self.outputs:
            both = [judge.name for judge in judges if output in judge.outputs]
            if len(both) > 1:
                raise InputError(f"{both[0]} and {both[1]} both answer about {output}: leave one of the judges out")
        if not self.findings:
            raise InputError("no judge answers about findings: add --judge scorer, or another one that does")
        self.averaged = self.findings if averaged is None else tuple(dict.fromkeys(averaged))
        unknown = [finding for finding in self.averaged if finding not in self.findings]
        if unknown or not self.averaged:
            told = ", ".join(unknown) or "nothing"
            raise InputError(f"no judge answers about {told}: choose from {', '.join(self.findings)}")

    @cached_property
    def findings(self) -> tuple[str, ...]:
        return tuple(output for output in self.outputs if output in FINDINGS)

    @cached_property
    def races(self) -> tuple[str, ...]:
        """The race outputs, if all of RACES are answered."""
        return RACES if set(RACES) <= set(self.outputs) else ()

    @cached_property
    def auc(self) -> dict[str, float]:
        """Area under the ROC curve on held-out patients, by finding, where the judge says it."""
        told = {output: value for judge in self.judges for output, value in getattr(judge, "auc", {}).items()}
        return {finding: told[finding] for finding in self.findings if finding in told}

    @cached_property
    def trunk(self) -> AnyJudge | None:
        """The judge whose features tell sets of images apart; None: no judge has features."""
        return next((judge for judge in self.judges if hasattr(judge, "features")), None)

    def roles(self) -> dict[str, str]:
        """Which judge answers what, as a report says it."""
        return {judge.name: ", ".join(judge.outputs) for judge in self.judges}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(outputs,) float64 of one (H, W) image in [0, 1]."""
        return np.concatenate([np.asarray(judge([image])[0], np.float64) for judge in self.judges])

    def features(self, image: np.ndarray) -> np.ndarray:
        """(D,) float32 of one image; (0,) when no judge has features."""
        return self.trunk.features([image])[0] if self.trunk else np.empty(0, np.float32)

    @cached_property
    def fingerprint(self) -> str:
        """Tells these judges from others: a digest of their names and of their answers to two fixed images.

        Answers to five decimals, so that another machine's rounding makes no other judge.
        """
        ramp = np.linspace(0, 1, 256, dtype=np.float32)
        answers = [self(image) for image in (np.tile(ramp, (256, 1)), np.outer(ramp, ramp))]
        told = repr(([judge.name for judge in self.judges], self.outputs, np.round(answers, 5).tolist()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]
