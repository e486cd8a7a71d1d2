"""One resumable training loop for every network of the bundled model.

Each step draws its batch from a generator seeded by (seed, step), so the order of the data is a function of the step
and a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from instructx2x.training import curves

Loss = Callable[[np.random.Generator], tuple[torch.Tensor, dict[str, float]]]


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100, decay: float = 0.25) -> float:
    """Trapezoid: linear warm-up, plateau, linear fall to zero over the last `decay` of the run.

    A run that is resumed with fewer `steps` goes over into its fall at once, so a plateau can be cut at any time.
    """
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / max(1, int(decay * steps)))


def fit(
    name: str,
    module: torch.nn.Module,
    loss: Loss,
    *,
    work: Path,
    steps: int,
    peak_lr: float,
    seed: int = 0,
    weight_decay: float = 0.01,
    ema_decay: float = 0.999,
    save_every: int = 200,
    device: torch.device | str = "cpu",
) -> torch.nn.Module:
    """Train `module` for `steps` steps and leave it with its averaged (EMA) weights.

    The state is kept in `work/name.pt` (weights, optimiser, EMA, step; written whole or not at all) and read back when
    it exists; losses go to `work/name.csv`, one row every 20 steps.

    Args:
        loss: called as loss(rng) under autocast; returns the scalar to minimise and what to log.
        peak_lr: AdamW's learning rate on the plateau.
    """
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    module.to(device).train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=peak_lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    ema = EMAModel(parameters, decay=ema_decay)
    ema.to(device)
    state_file, curve_file = work / f"{name}.pt", work / f"{name}.csv"
    start = 0
    if state_file.is_file():
        state = torch.load(state_file, map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        ema.load_state_dict(state["ema"])
        start = state["step"]
        curves.cut(curve_file, start)
    sums: dict[str, float] = {}
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=steps, completed=start)
        for step in range(start, steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, peak_lr)
            rng = np.random.default_rng((seed, step))
            torch.manual_seed(int(rng.integers(2**63)))
            with torch.autocast(device.type, dtype=torch.bfloat16):
                value, logs = loss(rng)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.step(parameters)
            for key, amount in {"loss": value.item(), **logs}.items():
                sums[key] = sums.get(key, 0.0) + amount / 20
            if (step + 1) % 20 == 0:
                curves.append(curve_file, {"step": step + 1, "seconds": time.monotonic() - began, **sums})
                progress.update(task, completed=step + 1, description=f"{name} loss {sums['loss']:.4f}")
                sums = {}
            if (step + 1) % save_every == 0 or step + 1 == steps:
                state = {"module": module.state_dict(), "optimiser": optimiser.state_dict()}
                write_state({**state, "ema": ema.state_dict(), "step": step + 1}, state_file)
    ema.copy_to(parameters)
    return module.eval()


def write_state(state: dict[str, Any], file: Path) -> None:
    """Write a run's state, whole or not at all."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)
