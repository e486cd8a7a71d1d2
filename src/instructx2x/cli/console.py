"""What commands say, and where: results on stdout, refusals on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from instructx2x.results.folders import clean as one_line

__all__ = ["one_line", "refuse", "stderr"]


def stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def refuse(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it, or the disk that it goes to is full
        print(one_line(f"error: {message}"), file=sys.stderr)
    return code
