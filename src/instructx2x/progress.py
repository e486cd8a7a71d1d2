"""Progress of long work: one kind of bar for all of it, and none of the libraries' own."""

from __future__ import annotations

import logging
import sys
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


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' bars and advice off the screen; what matters is raised.

    A download's bar is shown on a terminal: it can take minutes, and only the hub's client knows how many.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as bars

    shown, downloads = bars.is_progress_bar_enabled(), not are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars.disable_progress_bar()
    if not sys.stderr.isatty():
        disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()
        if downloads:
            enable_progress_bars()
