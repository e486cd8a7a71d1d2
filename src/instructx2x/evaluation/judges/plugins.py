"""Judges by name: the bundled ones, the field's, and whatever callable a user brings.

A judge is called with images and answers with a table, as `AnyJudge` says. What it judges by is its own business;
what its columns are called is not, because they are compared with instructions and with other judges.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from instructx2x.errors import InputError, ModelError
from instructx2x.evaluation.judges.judge import JUDGES, load_judge
from instructx2x.instructions import FINDINGS

RACES = ("race: Asian", "race: Black", "race: White")
OUTPUTS = (*FINDINGS, "female", "age", *RACES)
"""Everything that a judge may answer. "age" is in years, and all others are probabilities."""

ROUNDING = 1e-6  # so far outside [0, 1] may single precision carry a probability


class AnyJudge(Protocol):
    """What evaluation asks of a judge.

    Attributes:
        name: which judge it is, as tables print it.
        outputs: what the columns of its answer are, each one of OUTPUTS.
    """

    @property
    def name(self) -> str: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(H, W) float32 images in [0, 1], 0 black -> (N, outputs) float."""
        ...


@dataclass(frozen=True, eq=False)
class CallableJudge:
    """A user's callable as a judge: whatever it answers is checked before it counts.

    Attributes:
        name: how the user named it.
        outputs: what it answers, in the order of its first answer.
        answer: list of (H, W) float32 arrays in [0, 1] -> mapping of output to (N,) numbers.
    """

    name: str
    outputs: tuple[str, ...]
    answer: Callable[[list[np.ndarray]], Mapping[str, Any]]

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Judge images.

        Args:
            images: each (H, W) in [0, 1]. The callable gets copies, all at once.

        Returns:
            (N, outputs) float64.

        Raises:
            InputError: the callable fails, or does not answer as it must; the line names it.
        """
        if not len(images):
            return np.empty((0, len(self.outputs)))
        found = _ask(self.name, self.answer, images)
        if set(found) != set(self.outputs):
            raise InputError(f"{self.name} answers {_listed(found)} now, and {_listed(self.outputs)} when first asked")
        return np.stack([found[output] for output in self.outputs], axis=1)


def find_judge(spec: str) -> AnyJudge:
    """A judge that may score edits, by name.

    Args:
        spec: "scorer" or "demographics", the bundled ones; "torchxrayvision:densenet", "torchxrayvision:race" or
            "torchxrayvision:age"; or a callable, see `load_callable`.

    Raises:
        ModelError: there is no such judge, or it cannot be loaded; or it is the verifier, which takes part in editing.
        InputError: a callable does not answer as it must.
    """
    if spec == "verifier":
        raise ModelError("the verifier never scores edits, because edits are made and chosen with it: use scorer")
    if spec in JUDGES:
        return load_judge(spec)
    family, colon, name = spec.partition(":")
    if family == "torchxrayvision" and colon:
        from instructx2x.evaluation.judges import xrv

        return xrv.load(name)
    if not colon:
        raise ModelError(
            f"there is no judge {spec!r:.100}: choose scorer, demographics, torchxrayvision:densenet, "
            "torchxrayvision:race or torchxrayvision:age, or name your own as module:callable or file.py:callable"
        )
    return from_callable(spec, load_callable(spec))


def from_callable(name: str, answer: Callable[[list[np.ndarray]], Mapping[str, Any]]) -> CallableJudge:
    """A callable as a judge.

    It is asked about one small picture first. That tells what it answers, so that the tables' columns are known, and
    a callable that does not keep to the contract fails now, not after hours of editing. The picture is a gray ramp:
    a flat one would make a network that standardises its input divide by zero.

    Raises:
        InputError: the callable fails, or does not answer as it must; the line names it.
    """
    return CallableJudge(name, tuple(_ask(name, answer, [gray_ramp()])), answer)


def gray_ramp() -> np.ndarray:
    """The first picture that a callable is asked about: (80, 64) float32 from 0 to 1."""
    return np.tile(np.linspace(0, 1, 64, dtype=np.float32), (80, 1))


def load_callable(spec: str) -> Callable[..., Any]:
    """A user's own callable. This runs the user's code, with all of its rights.

    As with `python -m module` and `python file.py`, what lies in the current folder, and beside the file, can be
    imported; only while the module is read, so its imports belong at its top.

    Args:
        spec: "module:callable", "path/to/file.py:callable"; the callable may be an attribute of an object ("a.b").

    Raises:
        ModelError: the module, the file or the attribute is missing, cannot be imported, or is not callable.
    """
    source, _, path = spec.rpartition(":")
    if not source or not path:
        raise ModelError(f"{spec!r:.100} names no callable: write module:callable or path/to/file.py:callable")
    module = _module_of_file(Path(source)) if source.endswith(".py") else _module(source)
    try:
        found = reduce(getattr, path.split("."), module)
    except AttributeError as error:
        raise ModelError(f"{source} has no {path!r:.100}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a property is code as well
        raise ModelError(f"{source} does not give {path!r:.100}: {told(error)}") from error
    if not callable(found):
        raise ModelError(f"{spec} is not callable: it is of type {type(found).__name__}")
    return found


def _module(name: str) -> ModuleType:
    importlib.invalidate_caches()  # the file may be younger than what Python remembers of its folder
    try:
        with _first_on_path(Path.cwd()):
            return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # reading a module runs it
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ModelError(
                f"there is no module {name!r:.100}: install it, or run this from the folder that holds it"
            ) from error
        raise ModelError(f"{name} cannot be imported: {told(error)}") from error


def _module_of_file(file: Path) -> ModuleType:
    file = file.expanduser().resolve()
    if not file.is_file():
        raise ModelError(f"there is no file {file}")
    # A name that no other module has, and the same for the same file, so that it is read once.
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _first_on_path(file.parent):
            spec.loader.exec_module(module)
    except BaseException as error:  # reading a module runs it
        sys.modules.pop(name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ModelError(f"{file} cannot be imported: {told(error)}") from error
    return module


@contextlib.contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Modules of a folder come first. What the code itself adds to the path stays."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _ask(name: str, answer: Callable, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What a callable says of images: output -> (N,) float64, all of it checked."""
    found = call(name, answer, images)
    with guarded(name):  # what it answers may be of its own classes
        if not isinstance(found, Mapping) or not found:
            raise InputError(
                f"{name} must answer with a mapping of outputs to numbers, not with {type(found).__name__}"
            )
        found = dict(found.items())
        for output in found:
            if output not in OUTPUTS:
                raise InputError(
                    f"{name} answers {output!r:.60}, which is no output: use the findings of the instruction language, "
                    f"female, age, {', '.join(RACES)}"
                )
        return {output: _checked(name, output, values, len(images)) for output, values in found.items()}


def call(name: str, answer: Callable, images: Sequence[np.ndarray]) -> Any:
    """What a callable answers to copies of images.

    Raises:
        InputError: it fails; the line names it.
    """
    with guarded(name):
        return answer([np.array(image, np.float32) for image in images])


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn whatever somebody else's code raises, a call of sys.exit included, into InputError of one line."""
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise InputError(f"{name} failed: {told(error)}") from None


def _checked(name: str, output: str, values: Any, count: int) -> np.ndarray:
    try:
        values = np.asarray(values)
    except Exception as error:  # a tensor on another device, or with a gradient
        raise InputError(f"{name} answers {output!r} with something that is no array: {told(error)}") from error
    if values.dtype.kind not in "fiub" or values.shape != (count,):
        raise InputError(f"{name} must answer {output!r} with {count} numbers, not {values.dtype} {values.shape}")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{name} answers {output!r} with a value that is not a finite number")
    if output == "age":
        return values
    if values.min() < -ROUNDING or values.max() > 1 + ROUNDING:
        raise InputError(
            f"{name} answers {output!r} with {values[np.abs(values - 0.5).argmax()]:g}, which is no probability: "
            "use numbers in [0, 1], such as a sigmoid of the logits"
        )
    return values.clip(0, 1)


def _listed(outputs: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(sorted(outputs))


def told(error: BaseException) -> str:
    """An error of somebody else's code in one line, even if it cannot be put into words."""
    try:
        text = " ".join(str(error).encode("utf-8", "replace").decode().split())[:200]
    except KeyboardInterrupt:
        raise
    except BaseException:
        text = "it has no readable message"
    return f"{type(error).__name__}: {text}"
