"""What decides an edit beside its image, its instruction and its seed, by content and not by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import SchedulerMixin

from instructx2x.anatomy.identity import anatomy_digest
from instructx2x.editing import report
from instructx2x.files import digest
from instructx2x.models import Backbone


def what_decides(backbone: Backbone, options: Mapping[str, Any]) -> dict[str, Any]:
    """Two runs with the same values here give the same bytes on one machine; for JSON.

    Args:
        backbone: the model. Its digest covers weights, configurations, scheduler, tokenizer and calibration.
        options: keywords of `Study.edit`; files among them count by their content.

    Raises:
        AnatomyError, InputError: a file among the options cannot be read.
    """
    model = report.model(backbone)
    del model["name"]  # the same model may lie elsewhere
    return {
        "software": report.software(),
        "model": model,
        "threads": torch.get_num_threads(),  # sums are split among them, and rounding depends on where
        "options": {name: _content(name, value) for name, value in options.items()},
    }


def _content(name: str, value: Any) -> Any:
    if name == "anatomy":
        return anatomy_digest(value)
    if isinstance(value, SchedulerMixin):
        return {"scheduler": type(value).__name__, "config": dict(value.config)}
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.ascontiguousarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array).hexdigest()]
    if isinstance(value, str | Path) and name in ("region", "protect") and Path(value).is_file():
        return digest(Path(value))
    return str(value) if isinstance(value, Path) else value
