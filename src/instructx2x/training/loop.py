"""One resumable training loop for every network of the bundled model.

Each step draws its batch from a generator seeded by (seed, step), so the order of the data is a function of the step
and a resumed run sees what an undisturbed one would have seen. Beside a GPU other processes draw the batches to come.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, Dataset

from instructx2x.errors import InputError
from instructx2x.training import curves
from instructx2x.training.states import read_state, write_state

Batch = tuple[torch.Tensor, ...]
Draw = Callable[[np.random.Generator], Batch]
Loss = Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]

# Processes that draw batches for a GPU. Few, because what they have ready lies in shared memory, of which containers
# often have but 64 MB.
DRAWERS = 4
REPORT_EVERY = 20


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100, decay: float = 0.25) -> float:
    """Trapezoid: linear warm-up, plateau, linear fall to zero over the last `decay` of the run.

    A run that is resumed with fewer `steps` goes over into its fall at once, so a plateau can be cut at any time.
    """
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / max(1, int(decay * steps)))


class Calls(Dataset):
    """A function's results by its argument."""

    def __init__(self, call: Callable[[int], Any]):
        self.call = call

    def __getitem__(self, number: int) -> Any:
        return self.call(number)


def done_apart(
    call: Callable[[int], Any], numbers: Sequence[int], processes: int, *, pinned: bool = False
) -> Iterator[Any]:
    """The results of call(number), in order, from other processes, each with one thread; 0: from this one.

    What is called is a closure over the images, which only a fork hands on. Forking is safe on Linux; elsewhere all is
    done in this process.
    """
    processes = min(processes, len(numbers)) if sys.platform == "linux" else 0
    return iter(
        DataLoader(
            Calls(call),
            batch_size=None,
            sampler=numbers,
            num_workers=processes,
            pin_memory=pinned,
            multiprocessing_context="fork" if processes else None,
        )
    )


def batches(draw: Draw, seed: int, steps: range, device: torch.device, drawers: int) -> Iterator[Batch]:
    """The batches of these steps on the device, in order; other processes, if any, change the time and nothing else."""

    def of_step(step: int) -> Batch:
        rng = np.random.default_rng((seed, step))
        torch.manual_seed(int(rng.integers(2**63)))  # for what is drawn with torch
        return draw(rng)

    for batch in done_apart(of_step, steps, drawers, pinned=device.type == "cuda"):
        yield tuple(tensor.to(device, non_blocking=True) for tensor in batch)


def fit(
    name: str,
    module: torch.nn.Module,
    draw: Draw,
    loss: Loss,
    *,
    work: Path,
    steps: int,
    peak_lr: float,
    run: Mapping[str, Any] | None = None,
    seed: int = 0,
    weight_decay: float = 0.01,
    ema_decay: float = 0.999,
    save_every: int = 200,
    device: torch.device | str = "cpu",
    drawers: int | None = None,
) -> torch.nn.Module:
    """Train `module` for `steps` steps and leave it with its averaged (EMA) weights.

    The state is kept in `work/name.safetensors` (weights, optimiser, EMA, step; written whole or not at all) and read
    back when it exists; losses go to `work/name.csv`, one row every REPORT_EVERY steps.

    Args:
        draw: a step's batch from its generator, or torch's; tensors on the CPU.
        loss: called as loss(*batch) under autocast, the batch on the device; returns the scalar to minimise and what
            to log. What it draws from torch's generator is the step's own too.
        peak_lr: AdamW's learning rate on the plateau.
        run: what a state must be of to go on from it, in words and numbers.
        save_every: steps from one state to the next, a multiple of REPORT_EVERY.
        drawers: processes that draw batches ahead; DRAWERS beside a GPU and none on a CPU when left out.

    Raises:
        InputError: the state in `work` is of another run.
        OutputError: a state cannot be written.
    """
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    if drawers is None:
        drawers = DRAWERS if device.type == "cuda" else 0
    run = dict(run or {})
    module.to(device).train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=peak_lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    ema = EMAModel(parameters, decay=ema_decay)
    state_file, curve_file = work / f"{name}.safetensors", work / f"{name}.csv"
    start = 0
    if (earlier := work / f"{name}.pt").is_file() and not state_file.is_file():
        raise InputError(f"{earlier} is of an earlier version of this program: choose another --work, or delete it")
    if state_file.is_file():
        # On the CPU first: there AdamW's counts of steps must stay, else each is read back from a GPU at every step.
        start = restore(
            state_file, run, {"module": module, "optimiser": optimiser, "ema": ema}, "choose another --work"
        )
        curves.cut(curve_file, start)
    ema.to(device)
    sums: dict[str, torch.Tensor] = {}
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=3600) as progress:
        task = progress.add_task(name, total=steps, completed=start)
        remaining = range(start, steps)
        for step, batch in zip(remaining, batches(draw, seed, remaining, device, drawers), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, peak_lr)
            torch.manual_seed(int(np.random.default_rng((seed, step, 1)).integers(2**63)))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast_halves(device)):
                value, logs = loss(*batch)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.step(parameters)
            # Sums stay on the device: to read a number of a GPU is to wait for all that it has still to do.
            for key, amount in {"loss": value, **logs}.items():
                sums[key] = sums.get(key, 0) + amount.detach() / REPORT_EVERY
            if (step + 1) % REPORT_EVERY == 0:
                means = {key: float(total) for key, total in sums.items()}
                curves.append(curve_file, {"step": step + 1, "seconds": time.monotonic() - began, **means})
                progress.update(task, completed=step + 1, description=f"{name} loss {means['loss']:.4f}")
                sums = {}
            if (step + 1) % save_every == 0 or step + 1 == steps:
                state = {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "ema": ema.state_dict()}
                write_state({"run": run, "step": step + 1, **state}, state_file)
    ema.copy_to(parameters)
    return module.eval()


def restore(file: Path, run: Any, parts: Mapping[str, Any], otherwise: str) -> int:
    """Load the state of a run's parts and return its number of steps.

    Args:
        file: of `write_state`: run, step, and the state of each part.
        run: what the state must be of.
        parts: what has `load_state_dict`, by name.
        otherwise: what to do about a state of another run.

    Raises:
        InputError: the state is damaged, or of another run.
    """
    state = read_state(file)
    try:
        if state["run"] != run:
            raise InputError(f"{file} is of a run with other settings: {otherwise}, or delete it")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])
    except InputError:
        raise
    except Exception as error:  # each part raises something else where the state does not fit
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise InputError(f"{file} does not fit this run ({reason}): {otherwise}, or delete it") from error


def fast_halves(device: torch.device) -> bool:
    """Whether bfloat16 is faster there than float32; a CPU that has to emulate it takes 50 times as long."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def fingerprint(*of: torch.nn.Module | torch.Tensor | np.ndarray) -> str:
    """Twelve hex digits that tell weights or images apart."""
    digest = hashlib.sha256()
    for thing in of:
        for array in thing.parameters() if isinstance(thing, torch.nn.Module) else (thing,):
            digest.update(np.ascontiguousarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array))
    return digest.hexdigest()[:12]
