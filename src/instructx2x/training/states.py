"""The state of a run on the disk, without pickles: tensors in safetensors, all around them as JSON in the header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from instructx2x.errors import InputError, OutputError

_FORM = "state"


def write_state(state: Any, file: Path) -> None:
    """Write a state, whole or not at all.

    Args:
        state: dictionaries, lists and tuples of tensors, texts, numbers and None.

    Raises:
        OutputError: the disk is full, or does not take it for another reason.
    """
    partial = file.with_suffix(".partial")
    tensors: dict[str, torch.Tensor] = {}
    form = json.dumps(_pack(state, tensors))
    try:
        save_file(tensors, partial, {_FORM: form})
        os.replace(partial, file)
    except (OSError, RuntimeError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        why = str(error).splitlines()[0]
        raise OutputError(f"{file} cannot be written ({why}): make room, then start again to go on") from error


def read_state(file: Path) -> Any:
    """What `write_state` wrote, on the CPU.

    Raises:
        InputError: the file is missing, damaged, or of another kind, such as a pickle of an earlier version.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            form = (opened.metadata() or {})[_FORM]
        return _unpack(json.loads(form), tensors)
    except Exception as error:  # whatever a damaged file makes the readers raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise InputError(
            f"{file} is no state that can be gone on from ({reason}): it is damaged or of an earlier version; delete "
            "it to start anew"
        ) from error


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A value as JSON can hold it; its tensors, each with memory of its own, go into `tensors`."""
    if isinstance(value, torch.Tensor):
        name, tensor = str(len(tensors)), value.detach().cpu().contiguous()
        storages = {other.untyped_storage().data_ptr() for other in tensors.values() if other.numel()}
        tensors[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in storages else tensor
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, tensors), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(item, tensors) for item in value]}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} has no place in a state")


def _unpack(form: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(form, dict):
        return form
    ((kind, content),) = form.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in content}
    return {"list": list, "tuple": tuple}[kind](_unpack(item, tensors) for item in content)
