"""Checkpoints of a fine-tuning run: whole or not there, the last two kept."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from instructx2x.errors import OutputError

KEPT = 2
_NAME = re.compile(r"step-(\d{7})")


def save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Write the state after `step` steps as `folder/step-0000000`, and remove all but the last KEPT.

    The state is what accelerate keeps: weights, optimiser, gradient scaler, the moving average (registered), and every
    process's random generators. It is written under another name and renamed once all processes have written.

    Raises:
        OutputError: the folder cannot be written to.
    """
    partial = folder / ".partial"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            os.rename(partial, folder / f"step-{step:07d}")
            for _, old in _all(folder)[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors say a full disk each in its way
        raise OutputError(
            f"{folder} cannot be written to ({str(error).splitlines()[0][:100]}): make room and start the run again"
        ) from error
    accelerator.wait_for_everyone()


def restore(accelerator: Accelerator, folder: Path) -> int:
    """Load the newest checkpoint, if there is one, and return its number of steps, else 0.

    The main process says which one: on a shared disk machines may see different ones for a while, and processes that
    go on from different steps never agree again.

    Raises:
        OutputError: it is damaged.
    """
    (chosen,) = broadcast_object_list(_all(folder)[-1:] or [None])
    if chosen is None:
        return 0
    step, newest = chosen
    try:
        accelerator.load_state(str(newest))
    except Exception as error:  # torch and safetensors raise nearly anything for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise OutputError(f"{newest} cannot be read ({reason}): delete it to go on from the one before") from error
    return step


def _all(folder: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints and their steps, the newest last."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)
