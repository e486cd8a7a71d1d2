"""Tensors out of weight files that nobody vouches for: safetensors, and PyTorch's pickles without running them.

A PyTorch file is a pickle, and unpickling runs whatever functions the file names. PyTorch's own restricted reader
(`torch.load(weights_only=True)`) calls nothing but its tensor-building functions, and refuses a file that names
anything else. Checkpoints of training programs do name more, in their callbacks and settings, though never in their
weights. So every such name is listed first, without unpickling, and bound to a stand-in that does nothing: no module
is imported, nothing named by the file is called, and what the stand-ins replace is thrown away. What the restricted
reader still does not take, such as names from `os`, is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from instructx2x.errors import ModelError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class _Inert:
    """Stands in a pickle for an object of any other kind: takes every argument and state, keeps none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping:
    """The same for kinds of dictionaries, whose items PyTorch's reader only puts into the plain ones."""

    def __new__(cls, *args: Any, **kwargs: Any) -> OrderedDict:
        return OrderedDict()


def read(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file by their names, on the CPU, mapped from the file where its format allows.

    A training checkpoint's `state_dict` is taken and the rest of it (optimizer, callbacks, settings) is not.

    Raises:
        ModelError: the file is missing, damaged, or holds anything but plain tensors where the weights should be.
    """
    if not file.is_file():
        raise ModelError(f"there is no file {file}")
    try:
        content = load_file(file) if file.suffix == ".safetensors" else _unpickle(file)
    except SafetensorError as error:
        raise ModelError(f"{file} is damaged, or not a safetensors file: {_reason(error)}") from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} is not read, for it holds more than tensors and plain settings: ask whoever made it for a "
            f"safetensors file ({_blamed(error)})"
        ) from error
    except ModelError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ModelError(f"{file} is damaged, or not a checkpoint of PyTorch: {_reason(error)}") from error
    return _tensors(file, content)


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensors of these names are a LoRA's, low-rank changes to another model, in any of the usual namings."""
    return any(re.search(r"(^|[._])lora[._]", name) for name in names)


def _unpickle(file: Path) -> Any:
    with file.open("rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
    if not zipped:  # the format before PyTorch 1.6, whose names cannot be listed beforehand: tensors alone
        return torch.load(file, map_location="cpu", weights_only=True)
    with zipfile.ZipFile(file) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            # PyTorch never compresses; mapped into memory, compressed bytes would be taken for weights.
            raise ModelError(f"{file} is a compressed archive and not a checkpoint as PyTorch writes it")
    named = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    stand_ins = [(_InertMapping if name.lower().endswith("dict") else _Inert, name) for name in named]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(str(file), map_location="cpu", weights_only=True, mmap=True)


def _tensors(file: Path, content: Any) -> dict[str, torch.Tensor]:
    """What was read, if it is named, dense tensors that the file is large enough to hold."""
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise ModelError(f"{file} holds no weights by name")
    tensors = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not _plain(value):
            raise ModelError(f"{file} holds something that is not a plain tensor among its weights: {name!r:.100}")
        tensors[name] = value.detach()
    # A few bytes can pose as a tensor of any size, by strides of zero.
    if sum(tensor.nbytes for tensor in tensors.values()) > file.stat().st_size:
        raise ModelError(f"{file} is smaller than the weights it claims to hold")
    return tensors


def _plain(value: Any) -> bool:
    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _blamed(error: pickle.UnpicklingError) -> str:
    """What PyTorch's reader stumbled over; around it, its message tells how to switch the guard off."""
    told = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error)
    return told.splitlines()[0].split(". ")[0].split(" was not an allowed")[0][:150]
