"""One network of a model folder: its checked configuration, and its weights from exactly the files that are hashed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from instructx2x.errors import ModelError
from instructx2x.models import configs, weights
from instructx2x.models.weight_files import pickle_files, weight_files

KINDS: dict[str, type] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}

# What the VAE's attention was called in diffusers before 0.15; published folders still say so.
_FORMER_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
_NAMED = 5  # tensors that an error names


@dataclass(frozen=True)
class Part:
    """One network in diffusers' layout.

    Attributes:
        network: the network on the meta device: names, shapes and configuration, no numbers.
        tensors: its weights by the names that published releases use, in the files' dtype, mapped from them.
        files: where both come from.
    """

    network: torch.nn.Module
    tensors: dict[str, torch.Tensor]
    files: tuple[Path, ...] = ()


def read_part(model: Path, part: str, *, pickles: bool = False) -> Part:
    """Read a part of a folder in diffusers' layout; no weight is loaded yet.

    Args:
        model: the folder.
        part: a key of KINDS.
        pickles: take pickles where there are no safetensors (see `weights`).

    Raises:
        ModelError: the configuration or the weights cannot be used, or do not belong together.
    """
    folder = model / part
    config = configs.network_config(KINDS[part], folder)
    files = _files(model, part, pickles)
    try:
        with torch.device("meta"):
            network = configs.build(KINDS[part], config)
    except Exception as error:  # the libraries raise nearly anything for values that do not go together
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{folder / 'config.json'} describes no network: {reason}; get a whole copy") from error
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        read = weights.read(file)
        if both := sorted(tensors.keys() & read.keys()):
            raise ModelError(f"{folder} is ambiguous, for two of its files hold {both[0]}: get a whole copy")
        tensors |= read
    tensors = {_current_name(network, part, name): value for name, value in tensors.items()}
    tensors.pop("text_model.embeddings.position_ids", None)  # 0, 1, 2, ...: older releases carry them
    try:
        check(network, tensors)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    return Part(network, tensors, (folder / "config.json", *files))


def fill(part: Part, device: torch.device | str, dtype: torch.dtype) -> torch.nn.Module:
    """The network with its weights, for inference. They are copied: what happens to the files later changes nothing.

    Raises:
        ModelError: the memory is too small, or a weight is not a finite number.
    """
    network, size = part.network, sum(tensor.numel() for tensor in part.tensors.values()) * dtype.itemsize
    if torch.device(device).type == "cpu" and size > _memory():
        raise ModelError(f"{part.files[0].parent} needs {size / 1e9:.0f} GB of memory, more than there is")
    state = {}
    for name in network.state_dict():
        tensor = part.tensors[published_name(network, name)].to(device=device, dtype=dtype, copy=True)
        # The sum of finite numbers is finite, but for an overflow: one pass over the memory in place of two.
        if not tensor.float().sum().isfinite() and not tensor.isfinite().all():
            told = str(dtype).removeprefix("torch.")
            raise ModelError(f"{part.files[0].parent} has a weight that is no finite number in {told}: {name}")
        state[name] = tensor
    network.load_state_dict(state, assign=True)
    if isinstance(network, CLIPTextModel):  # the only numbers that no file holds
        positions = torch.arange(network.config.max_position_embeddings, device=device)[None]
        next(m for m in network.modules() if hasattr(m, "position_ids")).position_ids = positions
    return network.eval().requires_grad_(False)


def check(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ModelError unless `tensors` are a network's, name by name and shape by shape, and floating point."""
    wanted = {published_name(network, name): value.shape for name, value in network.state_dict().items()}
    refuse([name for name in wanted if name not in tensors], "tensors fewer than its configuration asks for")
    refuse([name for name in tensors if name not in wanted], "tensors that its configuration does not know")
    misfits = [
        f"{name} {[*value.shape]}, not {[*wanted[name]]}"
        for name, value in tensors.items()
        if value.shape != wanted[name]
    ]
    refuse(misfits, "tensors of another shape than its configuration asks for")
    strange = [name for name, value in tensors.items() if value.dtype not in weights.DTYPES]
    refuse(strange, "tensors that are no weights")


def refuse(names: Sequence[str], what: str) -> None:
    """Raise ModelError that names some of the tensors, if there are any."""
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise ModelError(f"the model has {len(names)} {what}: {', '.join(names[:_NAMED])}{more}")


def published_name(network: torch.nn.Module, name: str) -> str:
    """The name that published releases have for a tensor: newer transformers leave `text_model.` out in memory."""
    return f"text_model.{name.removeprefix('text_model.')}" if isinstance(network, CLIPTextModel) else name


def _current_name(network: torch.nn.Module, part: str, name: str) -> str:
    if part == "vae":
        for former, current in _FORMER_NAMES.items():
            name = name.replace(former, current)
    return published_name(network, name)


def _files(model: Path, part: str, pickles: bool) -> list[Path]:
    if not pickles or any((model / part).glob("*.safetensors*")):
        return weight_files(model, part)
    return pickle_files(model, part)


def _memory() -> float:
    """Bytes of the machine's memory; infinite where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")
