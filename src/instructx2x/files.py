"""What a file holds, told apart from what it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from instructx2x.errors import InputError


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names.

    Raises:
        InputError: something cannot be read.
    """
    if not path.is_dir():
        return digest(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{digest(path / name)} {name!r}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()
