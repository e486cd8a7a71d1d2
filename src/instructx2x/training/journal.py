"""What a fine-tuning run tells: a bar with the time left, a CSV file, and trackers."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from instructx2x.errors import InputError
from instructx2x.training import curves


def check_trackers(names: list[str]) -> None:
    """Refuse trackers that are not installed, which accelerate would leave out without a word.

    Raises:
        InputError: one is unknown to accelerate, or its package is missing.
    """
    available = sorted(str(name) for name in get_available_trackers())
    for name in names:
        if name not in available:
            raise InputError(
                f"tracker {name!r:.40} is not installed: pip install its package (instructx2x[training] for "
                f"tensorboard); there are: {', '.join(available) or 'none'}"
            )


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
        self._bar = Progress(*columns, console=console, disable=self._lines or not accelerator.is_main_process)
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
            done = step - self._start
            left = (self._steps - step) * (time.monotonic() - self._began) / done if done else None
            told = f", {timedelta(seconds=round(left))} left" if left else ""
            print(f"step {step} of {self._steps}: {text}{told}", file=sys.stderr, flush=True)
