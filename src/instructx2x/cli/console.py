"""What commands say, and where: results on stdout, refusals on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def refuse(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it, or the disk that it goes to is full
        print(one_line(f"error: {message}"), file=sys.stderr)
    return code


def one_line(text: str) -> str:
    """One printable line: file names and libraries' messages may hold line breaks and terminal codes."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
