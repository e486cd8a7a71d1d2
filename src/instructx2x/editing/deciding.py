"""What of an instruction is to be done in an image: each of its edits is decided for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from instructx2x.editing.request import Request, only
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.language import render
from instructx2x.models import Backbone

DONE = "done"
UNREACHED = "skipped: the guidance is below the threshold everywhere"


@dataclass(frozen=True)
class Balance:
    """Of one edit: how much more the model would change for it than for its opposite, see `relevance.balance`.

    Attributes:
        value: 0 or more.
        least: under it the edit is taken to hold already.
    """

    value: float
    least: float

    @property
    def holds(self) -> bool:
        return self.value < self.least

    def __str__(self) -> str:
        return f"balance {self.value:.2f}, least {self.least:.2f}"


@dataclass(frozen=True, eq=False)
class Decision:
    """What is to be done.

    Attributes:
        request: with the edits that are done alone; with all of them where none is.
        outcomes: DONE or "skipped: reason" for each edit of the instruction, in its order.
        balances: of each edit; None where the model cannot tell.
        warnings: for the report.
        differences: (draws, timesteps, h, w), D of the request's text where it was calculated on the way, or None.
    """

    request: Request
    outcomes: tuple[str, ...]
    balances: tuple[Balance | None, ...] = ()
    warnings: tuple[str, ...] = ()
    differences: np.ndarray | None = None

    @property
    def nothing(self) -> bool:
        """Whether no edit is done."""
        return bool(self.outcomes) and DONE not in self.outcomes


def decide(request: Request, backbone: Backbone, balance: Callable[[Edit], Balance | None]) -> Decision:
    """Leave out the edits of an instruction that hold already.

    Args:
        balance: of one edit; None where the model cannot tell.
    """
    balances = tuple(map(balance, request.edits))
    outcomes = tuple(map(_outcome, balances))
    done = [edit for edit, outcome in zip(request.edits, outcomes, strict=True) if outcome == DONE]
    kept = only(request, backbone, done) if 0 < len(done) < len(request.edits) else request
    return Decision(kept, outcomes, balances, tuple(_warnings(request.edits, outcomes)))


def _outcome(balance: Balance | None) -> str:
    if balance is None or not balance.holds:
        return DONE
    return f"skipped: it seems to hold already, for the model would change more for the opposite ({balance})"


def _warnings(edits: Sequence[Edit], outcomes: Sequence[str]) -> list[str]:
    left_out = [(edit, outcome) for edit, outcome in zip(edits, outcomes, strict=True) if outcome != DONE]
    told = [f'"{render((edit,))}" is {outcome}' for edit, outcome in left_out]
    if told:
        told.append("what holds already is edited all the same with --no-relevance, relevance=False")
    return told
