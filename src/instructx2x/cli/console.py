"""What commands say, and where: results on stdout, progress and refusals on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

BAR_AFTER = 2.0  # seconds: shorter work needs no progress bar


@contextmanager
def progress(samples: int = 1) -> Iterator[Callable[[int, int, Any], None]]:
    """A callback for sampling steps: a bar on stderr, on terminals, once the work has taken BAR_AFTER seconds."""
    from rich.progress import Progress

    console, start = stderr(), time.monotonic()
    bar = Progress(console=console, transient=True)
    taken = 0
    with ExitStack() as stack:

        def step(done: int, total: int, latents: Any) -> None:
            nonlocal taken
            taken += 1  # and not `done`, which starts again with every sample
            if not bar.tasks and console.is_terminal and time.monotonic() - start > BAR_AFTER:
                stack.enter_context(bar)
                bar.add_task("Editing", total=samples * total)
            for task in bar.task_ids:
                bar.update(task, completed=taken)

        yield step


def stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def refuse(message: str, code: int) -> int:
    print(one_line(f"error: {message}"), file=sys.stderr)
    return code


def one_line(text: str) -> str:
    """One printable line: file names and libraries' messages may hold line breaks and terminal codes."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
