"""Files of a model folder, read within limits: regular files of a bounded size, JSON of a bounded depth."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instructx2x.errors import InputError, ModelError
from instructx2x.files import digest as file_digest

MAX_CONFIG = 1 << 20  # bytes; a published configuration has 2,000
MAX_DEPTH = 8


def read_bytes(file: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes. Links are followed: the hub's cache is made of them.

    Raises:
        ModelError: there is no such file, it is a pipe or a device, too large, or the system does not give it.
    """
    if not file.is_file():
        problem = "no regular file" if file.exists() else "missing"
        raise ModelError(f"{file} is {problem}: get a whole copy of the model")
    try:
        with file.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(content) > limit:
        raise ModelError(f"{file} is larger than {limit:,} bytes, so it is not what a model needs: get a whole copy")
    return content


def read_json(file: Path, limit: int = MAX_CONFIG) -> dict[str, Any]:
    """A JSON object of finite numbers, not nested deeper than MAX_DEPTH.

    Raises:
        ModelError: as `read_bytes`, or it is something else.
    """
    content = read_bytes(file, limit)
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            raise ValueError("not an object in braces")
        _check_values(value)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ModelError(f"{file} is not JSON as a model has it ({reason:.100}): get a whole copy") from error
    return value


def digest(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256 of the lines "SHA-256  NAME" of files in a folder, sorted by name, as sha256sum prints them.

    Raises:
        ModelError: a file cannot be read.
    """
    lines = []
    for file in sorted(set(files)):
        try:
            sha256 = file_digest(file)
        except InputError as error:
            raise ModelError(str(error)) from error
        lines.append(f"{sha256}  {file.relative_to(folder).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_values(value: Any) -> None:
    """Level by level, so that no nesting can exhaust the stack."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise ValueError("a number is too large")
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    raise ValueError("nested too deeply")
