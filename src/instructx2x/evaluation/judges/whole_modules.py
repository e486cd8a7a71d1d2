"""The weights of a network that was pickled as a whole, without running what the pickle names.

Old checkpoints hold the network's objects, and not only its tensors. PyTorch's restricted reader refuses those that
were written before its format of 2020, and the ordinary reader runs whatever the file names. Here every name but
those that build tensors is bound to a record that keeps what it is given and does nothing; the tensors are then
gathered from the records. No class of the file is imported and nothing that it names is called.
"""

from __future__ import annotations

import io
import pickle
import types
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import _utils

from instructx2x.errors import ModelError

_BUILDERS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,  # Python 3 writes its own under Python 2's name, as PyTorch has it
    ("torch._utils", "_rebuild_tensor_v2"): _utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _utils._rebuild_parameter,
}


class _Record:
    """Stands in a pickle for an object of any class."""

    dump_patches = False  # PyTorch asks this of a pickled class whose source differs, before it writes a patch file

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _BUILDERS.get((module, name), _Record)


def _load(file: Any, **settings: Any) -> Any:
    return _Unpickler(file, **settings).load()


# What torch.load asks of a pickle module; the classes of storages it knows itself.
_PICKLE = types.SimpleNamespace(__name__="records", Unpickler=_Unpickler, load=_load)


def module_weights(file: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of the `torch.nn.Module` that a file holds, by their names in its state dict.

    Raises:
        ModelError: the file is missing, damaged, or holds no network with tensors alone in it.
    """
    try:
        # From memory, for PyTorch would take an open file for an archive of its first format, and unpack it.
        content = io.BytesIO(file.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the source code of the records is not that of the network
            network = torch.load(content, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
        weights = dict(_tensors(network))
    except Exception as error:  # a damaged pickle raises nearly anything
        told = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{file} is no network as PyTorch saves it: {told}; delete it to fetch it again") from error
    if not weights or any(type(tensor) not in (torch.Tensor, torch.nn.Parameter) for tensor in weights.values()):
        raise ModelError(f"{file} holds no network's weights: delete it to fetch it again")
    return {name: tensor.detach() for name, tensor in weights.items()}


def _tensors(module: _Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What `state_dict` would hold, from the fields in which every module keeps it."""
    state = module.state
    left_out = state.get("_non_persistent_buffers_set", ())
    for name, tensor in [*state["_parameters"].items(), *state["_buffers"].items()]:
        if tensor is not None and name not in left_out:
            yield prefix + name, tensor
    for name, child in state["_modules"].items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.")
