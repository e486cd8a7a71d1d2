"""A user's classifier under audit, and what is asked of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instructx2x.editing.verification import direction
from instructx2x.errors import InputError
from instructx2x.evaluation.judges.plugins import call, gray_ramp, guarded, load_callable
from instructx2x.files import digest
from instructx2x.instructions import FINDINGS, Edit, parse, render


@dataclass(frozen=True, eq=False)
class Classifier:
    """A user's callable; whatever it answers is checked before it counts.

    Attributes:
        name: as the user named it.
        outputs: what its mapping holds; () when it answers with plain numbers.
        source: SHA-256 of the file that it is written in, so that answers of an earlier version do not pass for its
            own; "" where there is none. The weights that it loads are not part of it.
        answer: list of (H, W) float32 arrays in [0, 1] -> (1,) numbers, or mapping of output to (1,) numbers.
    """

    name: str
    outputs: tuple[str, ...]
    source: str
    answer: Callable[[list[np.ndarray]], Any]

    def __call__(self, image: np.ndarray, output: str | None) -> float:
        """Its answer to one (H, W) image in [0, 1], of which it gets a copy.

        Args:
            output: of a mapping; None for plain numbers.

        Raises:
            InputError: the callable fails, or does not answer as it must; the line names it.
        """
        found = call(self.name, self.answer, [image])
        if isinstance(found, Mapping) != bool(self.outputs):
            raise InputError(f"{self.name} answers with {type(found).__name__} now, and with something else at first")
        if output is None:
            return _number(self.name, "", found)
        if output not in found:
            raise InputError(f"{self.name} answers {_listed(found)} now, and {output} when first asked")
        return _number(self.name, f" {output!r}", found[output])


@dataclass(frozen=True)
class Question:
    """What is asked of the classifier with one instruction.

    Attributes:
        instruction: in its canonical form.
        finding: what the classifier's answer is about.
        output: where in its answer that stands; None for plain numbers.
        way: where the answer should go: 1 up, -1 down, 0 nowhere, because another finding is edited.
    """

    instruction: str
    finding: str
    output: str | None
    way: int


def load_classifier(spec: str) -> Classifier:
    """A user's callable. It is asked about one small gray ramp, so that a bad one fails before any editing.

    Args:
        spec: "module:callable" or "path/to/file.py:callable".

    Raises:
        ModelError: there is no such callable.
        InputError: it fails, or does not answer as it must; the line names it.
    """
    answer = load_callable(spec)
    found = call(spec, answer, [gray_ramp()])
    if not isinstance(found, Mapping):
        _number(spec, "", found)
        return Classifier(spec, (), _source(answer), answer)
    if not found or not all(isinstance(name, str) for name in found):
        raise InputError(f"{spec} answers with a mapping that has no names: give it outputs such as 'pleural effusion'")
    return Classifier(spec, tuple(found), _source(answer), answer)


def questions(
    classifier: Classifier, instructions: Sequence[str], *, output: str | None = None, finding: str | None = None
) -> list[Question]:
    """What to ask with each instruction; the same one twice is asked once.

    Args:
        output: of a mapping; by default the finding.
        finding: what the answer is about, in any words of the language; by default what is edited. Instructions that
            edit something else are controls: the answer should not move.

    Raises:
        InstructionError: an instruction is not understood.
        InputError: it is not clear, or not possible, what to ask.
    """
    asked = {render(edits): edits for edits in map(parse, instructions)}
    if output is not None and not classifier.outputs:
        raise InputError(f"{classifier.name} answers with plain numbers: leave --output out")
    about = _finding(finding) if finding is not None else output if output in FINDINGS else None
    if about is None and (output is not None or not classifier.outputs):
        about = _only([edit for edits in asked.values() for edit in edits])
    found = []
    for text, edits in asked.items():
        name = about or _only(edits)
        place = (output or name) if classifier.outputs else None
        if place is not None and place not in classifier.outputs:
            raise InputError(
                f"{classifier.name} answers {_listed(classifier.outputs)}, not {place}: choose with --output"
            )
        way = np.sign(sum(direction(edit) for edit in edits if edit.finding == name))
        found.append(Question(text, name, place, int(way)))
    if not any(question.way for question in found):
        raise InputError(f"no instruction moves {found[0].finding} up or down: add one that adds or removes it")
    return found


def _only(edits: Sequence[Edit]) -> str:
    names = list(dict.fromkeys(edit.finding for edit in edits))
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are edited: say with --finding which one the classifier answers about")
    return names[0]


def _finding(words: str) -> str:
    return _only(parse(f"Add {words}."))


def _number(name: str, output: str, values: Any) -> float:
    with guarded(name):  # a tensor on another device, or with a gradient, or a class of the user's
        values = np.asarray(values)
    if values.dtype.kind not in "fiub" or values.shape != (1,):
        raise InputError(
            f"{name} must answer{output} with one number for each image, not {values.dtype} {values.shape}"
        )
    if not np.isfinite(values[0]):
        raise InputError(f"{name} answers{output} with a value that is not a finite number")
    return float(values[0])


def _source(answer: Callable[..., Any]) -> str:
    """SHA-256 of the file that a function, a partial one, or an object's class is written in."""
    while isinstance(answer, functools.partial):
        answer = answer.func
    answer = inspect.unwrap(answer)
    for found in (answer, type(answer)):
        try:
            return digest(Path(inspect.getsourcefile(found) or ""))
        except (TypeError, OSError, InputError):
            continue
    return ""


def _listed(outputs: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, outputs)))[:300]
