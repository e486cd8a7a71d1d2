"""Checkpoints of a fine-tuning run: whole or not there, the last two kept."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from instructx2x.errors import OutputError
from instructx2x.training.states import read_state, write_state

KEPT = 2
_WEIGHTS, _STATE, _RANDOM = "model.safetensors", "state.safetensors", "random-{}.safetensors"
_NAME = re.compile(r"step-(\d{7})")


def save(
    accelerator: Accelerator, folder: Path, step: int, unet: torch.nn.Module, optimiser: Optimizer, ema: EMAModel
) -> None:
    """Write the state after `step` steps as `folder/step-0000000`, and remove all but the last KEPT.

    The state is that of weights, optimiser, moving average and gradient scaler, and of every process's random
    generators. It is written under another name and renamed once all processes have written. accelerate's own
    checkpoints hold the same in pickles, which can run code when read.

    Raises:
        OutputError: the folder cannot be written to.
    """
    partial = folder / ".partial"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            weights = {name: value.detach().cpu().contiguous() for name, value in unet.state_dict().items()}
            save_file(weights, partial / _WEIGHTS)
            state = {"optimiser": optimiser.state_dict(), "average": ema.state_dict()}
            state |= {"scaler": accelerator.scaler and accelerator.scaler.state_dict()}
            write_state(state | {"processes": accelerator.num_processes}, partial / _STATE)
        write_state(_random(accelerator.device), partial / _RANDOM.format(accelerator.process_index))
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


def restore(accelerator: Accelerator, folder: Path, unet: torch.nn.Module, optimiser: Optimizer, ema: EMAModel) -> int:
    """Load the newest checkpoint, if there is one, and return its number of steps, else 0.

    The main process says which one: on a shared disk machines may see different ones for a while, and processes that
    go on from different steps never agree again. A process that the checkpoint does not know, as on more devices than
    before, keeps its random generators.

    Raises:
        OutputError: it is damaged.
    """
    (chosen,) = broadcast_object_list(_all(folder)[-1:] or [None])
    if chosen is None:
        return 0
    step, newest = chosen
    try:
        unet.load_state_dict(load_file(newest / _WEIGHTS))
        state = read_state(newest / _STATE)
        optimiser.load_state_dict(state["optimiser"])
        shapes = [value.shape for value in ema.shadow_params]
        ema.load_state_dict(state["average"])
        if [value.shape for value in ema.shadow_params] != shapes:
            raise ValueError("the moving average is of another network")
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        if accelerator.process_index < state["processes"]:
            _set_random(read_state(newest / _RANDOM.format(accelerator.process_index)), accelerator.device)
    except Exception as error:  # torch and safetensors raise nearly anything for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise OutputError(f"{newest} cannot be read ({reason}): delete it to go on from the one before") from error
    return step


def _random(device: torch.device) -> dict[str, torch.Tensor | None]:
    """The states of the generators that a network can draw from."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _set_random(states: dict[str, torch.Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def _all(folder: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints and their steps, the newest last."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)
