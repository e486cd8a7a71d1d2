"""On which side of the patient a finding is that is to be removed or changed, where the instruction does not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from instructx2x.editing.deciding import Decision
from instructx2x.editing.request import only
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.vocabulary import FINDINGS, SIDES, Operation
from instructx2x.models import Backbone

# One side has the finding where its balance is this many times the other's; both have it where both balances are this
# high. benchmarks/right_place.py: on films with radiologists' boxes lower ratios are wrong as often as right.
CLEAR = 2.2
# Findings that lie in both lungs unless something else is said.
DIFFUSE = ("edema", "emphysema", "vascular congestion")
ONE_SIDED = tuple(side for side in SIDES if side != "bilateral")


def unplaced(edit: Edit) -> bool:
    """Whether an edit leaves it open on which side the finding is that it takes away or changes."""
    has_side = FINDINGS[edit.finding].has_side and edit.finding not in DIFFUSE
    return edit.operation is not Operation.ADD and edit.side is None and has_side


def side_of(balances: Mapping[str, float]) -> tuple[str | None, bool]:
    """The side that has a finding.

    Args:
        balances: of the finding's removal within each of ONE_SIDED, see `relevance.balance`: D of removing it over D of
            adding it. How the model sees this patient's chest is in both sides' and cancels.

    Returns:
        the side, None for both; and whether that is clear.
    """
    weaker, stronger = sorted(ONE_SIDED, key=lambda side: balances[side])
    if balances[stronger] >= CLEAR * balances[weaker]:
        return stronger, True
    return None, balances[weaker] >= CLEAR


def place(decision: Decision, backbone: Backbone, balances: Callable[[Edit], Mapping[str, float] | None]) -> Decision:
    """Carry out what leaves the side open on the side that has the finding, on both where both have it.

    Args:
        balances: of an edit, see `side_of`; None where there is no such place.
    """
    edits, warnings = [], []
    for edit in decision.request.edits:
        found = balances(edit) if unplaced(edit) and not decision.nothing else None
        side, clear = (None, True) if found is None else side_of(found)
        edits.append(replace(edit, side=side) if side else edit)
        if not clear:
            told = ", ".join(f"{name} {found[name]:.2f}" for name in ONE_SIDED)
            warnings.append(
                f"the model cannot tell on which side the {edit.finding} is (balance {told}), so both are edited; "
                "name the side"
            )
    placed = tuple(dict.fromkeys(edits))
    if placed != decision.request.edits:
        decision = replace(decision, request=only(decision.request, backbone, placed), differences=None)
    return replace(decision, warnings=(*decision.warnings, *warnings))
