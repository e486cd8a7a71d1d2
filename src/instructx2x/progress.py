"""Progress of long work: one kind of bar for all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

BAR_AFTER = 2.0  # seconds: shorter work needs no bar
Item = TypeVar("Item")


class Advance(Protocol):
    """Tells the bar how far the work is."""

    def __call__(self, by: int = 1, *, to: int | None = None, total: int | None = None) -> None:
        """Go on by so many steps, or to a number of them; `total` is for work that learns its length on the way."""


@contextmanager
def progress(description: str, total: int | None = None, *, in_bytes: bool = False) -> Iterator[Advance]:
    """A bar with the time left on stderr, on terminals, once the work has taken BAR_AFTER seconds."""
    # Imported here: rich takes a quarter of a second, and what ends at once needs none of it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, start, done = Console(stderr=True), time.monotonic(), 0
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn()
    # A step can take longer than the half minute that rich looks back by default.
    bar = Progress(*columns, console=console, transient=True, speed_estimate_period=3600)
    task = bar.add_task(description, total=total)
    with ExitStack() as stack:

        def advance(by: int = 1, *, to: int | None = None, total: int | None = total) -> None:
            nonlocal done
            done = done + by if to is None else to
            if not bar.live.is_started and console.is_terminal and time.monotonic() - start > BAR_AFTER:
                stack.enter_context(bar)
            bar.update(task, completed=done, total=total)

        yield advance


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """The items, with a bar of how many are done."""
    with progress(description, len(items)) as advance:
        for item in items:
            yield item
            advance()
