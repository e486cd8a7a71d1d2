"""What an option of an edit is by its content and not by its name, so that a batch tells whether it changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import SchedulerMixin

from instructx2x.anatomy.identity import anatomy_digest
from instructx2x.files import digest


def setting(name: str, value: Any) -> Any:
    """A keyword of `Study.edit` as a plain value for JSON; files, folders and arrays count by their content.

    Raises:
        AnatomyError, InputError: a file cannot be read.
    """
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
