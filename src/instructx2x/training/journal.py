"""What a fine-tuning run tells: a bar with the time left, a CSV file, and trackers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from instructx2x.errors import InputError
from instructx2x.extras import install_command
from instructx2x.progress import progress
from instructx2x.training import curves

LINE_EVERY = 60.0  # seconds between two lines about images, in a log


def check_trackers(names: list[str]) -> None:
    """Refuse trackers that are not installed, which accelerate would leave out without a word.

    Raises:
        InputError: one is unknown to accelerate, or its package is missing.
    """
    available = sorted(str(name) for name in get_available_trackers())
    for name in names:
        if name not in available:
            raise InputError(
                f"tracker {name!r:.40} is not installed: install its package (tensorboard's: "
                f"{install_command('training')}); there are: {', '.join(available) or 'none'}"
            )


@contextmanager
def told(description: str, total: int, main: bool = True) -> Iterator[Callable[[int], None]]:
    """Tell how far some work is: a bar on a terminal; elsewhere, as in a cluster's log, a line now and then.

    Args:
        total: how much there is to do; of work that processes share, the main one's part.
        main: whether this is the main process; the others tell nothing.

    Yields:
        A function to call with how much more is done.
    """
    began = last = time.monotonic()
    done, lines = 0, main and not Console(stderr=True).is_terminal
    with progress(description, total) if main else nullcontext(lambda by: None) as advance:

        def tell(by: int) -> None:
            nonlocal done, last
            advance(by)
            done += by
            if lines and time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                print(f"{description}: {done} of {total}{_left(began, done, total)}", flush=True)

        yield tell


def _left(began: float, done: int, total: int) -> str:
    """The time left by that taken since `began`, as the end of a line."""
    left = (time.monotonic() - began) * (total / done - 1) if done else 0
    return f", {timedelta(seconds=round(left))} left" if left else ""


class Journal:
    """Reports of one run; only the main process writes. A context, in which the bar is shown.

    On a terminal a bar shows the progress and the time left; elsewhere, as in a cluster's log, every report is a line.
    """

    def __init__(self, accelerator: Accelerator, work: Path, settings: Mapping[str, Any], start: int, steps: int):
        self._accelerator = accelerator
        self._losses, self._validation = work / "losses.csv", work / "validation.csv"
        self._start, self._steps, self._began = start, steps, time.monotonic()
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._lines = accelerator.is_main_process and not console.is_terminal
        hidden = self._lines or not accelerator.is_main_process
        # A step can take longer than the half minute that rich looks back by default.
        self._bar = Progress(*columns, console=console, disable=hidden, speed_estimate_period=3600)
        self._task = self._bar.add_task("fine-tuning", total=steps, completed=start)
        if accelerator.is_main_process:
            curves.cut(self._losses, start)
            curves.cut(self._validation, start)
        accelerator.init_trackers("instructx2x", config=dict(settings))

    def __enter__(self) -> Journal:
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """One step is done."""
        self._bar.advance(self._task)

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after `step` steps: loss, rate, ..."""
        if not self._accelerator.is_main_process:
            return
        curves.append(self._losses, {"step": step, **values})
        self._accelerator.log(dict(values), step=step)
        self._bar.update(self._task, description=f"fine-tuning, loss {values['loss']:.4f}")
        self._say(step, f"loss {values['loss']:.4f}")

    def report_validation(self, step: int, loss: float, sheet: np.ndarray | None) -> None:
        """The validation loss, and the sheet of sample edits, (rows, columns, 3) uint8."""
        if not self._accelerator.is_main_process:
            return
        self._accelerator.log({"validation_loss": loss}, step=step)
        curves.append(self._validation, {"step": step, "loss": loss})
        for tracker in self._accelerator.trackers if sheet is not None else ():
            if hasattr(tracker, "log_images"):  # TensorBoard, Weights & Biases and some others have it
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"validation": sheet[None]}, step=step, **options)
        self._say(step, f"validation loss {loss:.4f}")

    def _say(self, step: int, text: str) -> None:
        if self._lines:
            left = _left(self._began, step - self._start, self._steps - self._start)
            print(f"step {step} of {self._steps}: {text}{left}", flush=True)
