"""Edits: what an instruction means, checked one by one and against each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from ..errors import InstructionError
from .vocabulary import FINDINGS, LEVELS, SIDES, ZONES, Operation


@dataclass(frozen=True)
class Edit:
    """One change to one finding. Only valid edits can be made.

    Attributes:
        operation: add, remove or change.
        finding: a name in `vocabulary.FINDINGS`.
        side: the patient's side, one of `vocabulary.SIDES`; None: not said.
        zone: one of `vocabulary.ZONES`; None: not said.
        level: one of `vocabulary.LEVELS`; for a change, the new level, which must be given. None: not said.
        from_level: for a change, the level before it; None: not said.

    Raises:
        InstructionError: when a word is not known, or does not apply to the finding or the operation.
    """

    operation: Operation
    finding: str
    side: str | None = None
    zone: str | None = None
    level: str | None = None
    from_level: str | None = None

    def __post_init__(self) -> None:
        known = _known("operation", self.operation, [operation.value for operation in Operation])
        object.__setattr__(self, "operation", Operation(known))
        finding = FINDINGS[_known("finding", self.finding, FINDINGS)]
        for kind, value, allowed, applies in (
            ("side", self.side, SIDES, finding.has_side),
            ("zone", self.zone, ZONES, finding.has_zone),
            ("level", self.level, LEVELS, finding.has_level),
            ("level", self.from_level, LEVELS, finding.has_level),
        ):
            if value is not None and not applies:
                raise InstructionError(f"{finding.name.capitalize()} has no {kind}: leave out {value!r:.60}.")
            if value is not None:
                _known(kind, value, allowed)
        if self.operation is not Operation.CHANGE:
            if self.from_level is not None:
                raise InstructionError("Only a change has a level to start from: leave from_level out.")
        elif self.level is None:
            raise InstructionError(f"A change of {finding.name} needs its new level, such as moderate.")
        elif self.level == self.from_level:
            raise InstructionError(f"{finding.name.capitalize()} stays {self.level}: name two levels.")

    def overlaps(self, other: Edit) -> bool:
        """Whether both concern one finding in regions that meet; a region not named is everywhere."""
        if self.finding != other.finding:
            return False
        sides = {self.side, other.side}
        zones = (self.zone, other.zone)
        return sides != {"left", "right"} and (None in zones or bool(ZONES[zones[0]] & ZONES[zones[1]]))


def consistent(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """Drop repetitions and refuse contradictions; the order stays.

    Two operations on one finding in overlapping regions contradict each other: what is added was absent, what
    is removed or changed was there. So do two levels for one operation on one finding and region.

    Raises:
        InstructionError: naming the finding.
    """
    kept: list[Edit] = []
    for edit in edits:
        if edit in kept:
            continue
        for earlier in kept:
            if not edit.overlaps(earlier):
                continue
            if edit.operation is not earlier.operation:
                raise InstructionError(
                    f"The instruction asks both to {earlier.operation.value} and to {edit.operation.value} "
                    f"{edit.finding}: keep one of the two, or name different sides."
                )
            if (edit.side, edit.zone) == (earlier.side, earlier.zone):
                name = edit.finding.capitalize()
                raise InstructionError(f"{name} is named twice with different levels: keep one.")
        kept.append(edit)
    return tuple(kept)


def opposite(edits: Iterable[Edit]) -> tuple[Edit, ...] | None:
    """The edits that would undo these: what is added is removed, levels trade places.

    None when a change does not say from which level.
    """
    undone = []
    for edit in edits:
        if edit.operation is Operation.CHANGE:
            if edit.from_level is None:
                return None
            undone.append(replace(edit, level=edit.from_level, from_level=edit.level))
        else:
            adds = edit.operation is Operation.ADD
            undone.append(replace(edit, operation=Operation.REMOVE if adds else Operation.ADD))
    return tuple(undone)


def _known(kind: str, word: object, allowed: Iterable[str]) -> str:
    """The word, when it is allowed; otherwise an error that names the nearest allowed one."""
    allowed = list(allowed)
    if isinstance(word, str) and word in allowed:
        return word
    nearest = get_close_matches(str(word)[:60], allowed, n=1, cutoff=0.0)[0]
    raise InstructionError(f"{word!r:.60} is not a {kind}; the nearest is {nearest!r}.")
