"""Where a model is: in the package, in a folder, or, only when it is asked for by `hub:`, on Hugging Face's hub."""

from __future__ import annotations

import re
from pathlib import Path

from instructx2x.errors import ModelError
from instructx2x.models import files, weights
from instructx2x.progress import quiet_libraries

BUNDLED = Path(__file__).parent / "bundled"
PARTS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")
HUB = "hub:"

# What a hub snapshot needs; single-file checkpoints at its root, EMA and half-precision twins stay where they
# are.
HUB_ALLOW = [
    "model_index.json",
    "calibration.json",
    *(f"{part}/*.{end}" for part in PARTS for end in ("json", "txt", "safetensors")),
]
HUB_IGNORE = [
    "*.fp16.safetensors",
    "*.non_ema.safetensors",
    "*.fp16-*.safetensors",
    "*.non_ema-*.safetensors",
]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LORAS = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_config.json")


def locate(model: str) -> Path:
    """The folder of a model; nothing but "hub:owner/name" asks the network.

    Raises:
        ModelError: it is not there, or is no folder in diffusers' layout.
    """
    if model == "bundled":
        if not (BUNDLED / "model_index.json").is_file():
            raise ModelError("this installation carries no bundled model: name a folder or hub:owner/name instead")
        return BUNDLED
    if model.startswith(HUB):
        return _checked(_download(model.removeprefix(HUB)), model)
    try:
        path = Path(model).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have, or an unknown home
        raise ModelError(f"{model!r:.100} cannot be the name of a folder: check its spelling") from error
    if is_folder:
        return _checked(path, model)
    if is_there:
        raise ModelError(_about_file(path))
    hint = f"; to get it from Hugging Face's hub, write {HUB}{model}" if _HUB_ID.fullmatch(model) else ""
    raise ModelError(f"there is no folder {model}: check the spelling of the path{hint}")


def check_layout(folder: Path, name: str) -> None:
    """Say what a folder is that has not the parts of a model.

    Raises:
        ModelError: a part is missing.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if not missing:
        return
    try:
        entries = sorted(folder.iterdir())
        deeper = [entry for entry in [*entries, *sorted(folder.glob("snapshots/*"))] if _is_model(entry)]
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror or error}") from error
    loras = [entry.name for entry in entries if entry.name in _LORAS or _is_lora(entry)]
    if loras:
        problem = f"is a LoRA ({loras[0]}), which is not read: merge it into its base model and give that"
    elif deeper:
        more = f", or another of the {len(deeper)} that lie there" if len(deeper) > 1 else ""
        problem = f"holds its model one folder deeper: give {deeper[0]}{more}"
    elif _is_model(folder.resolve().parent):
        problem = f"is one part of a model: give the folder above it, {folder.resolve().parent}"
    else:
        kind = _pipeline(folder)
        told = f"; it is of a {kind}" if kind else ""
        problem = f"is not a model in diffusers' layout: it has no folder {missing[0]!r}{told}"
    raise ModelError(f"{name} {problem}")


def _checked(folder: Path, name: str) -> Path:
    check_layout(folder, name)
    return folder


def _is_model(folder: Path) -> bool:
    return folder.is_dir() and all((folder / part).is_dir() for part in PARTS)


def _is_lora(file: Path) -> bool:
    """Whether a safetensors file has the names of a LoRA's two factors."""
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    try:
        return weights.is_lora(weights.read(file))
    except ModelError:
        return False


def _pipeline(folder: Path) -> str | None:
    """The kind of pipeline or network that a folder says to be of."""
    for name in ("model_index.json", "config.json"):
        if (folder / name).is_file():
            try:
                told = files.read_json(folder / name)
            except ModelError:
                continue
            kind = told.get("_class_name") or told.get("model_type")
            if isinstance(kind, str):
                return kind[:60]
    return None


def _about_file(path: Path) -> str:
    if _is_lora(path):
        return f"{path} is a LoRA, which is not read: merge it into its base model and give that"
    if not path.is_file():
        return f"{path} is no folder: give a model's folder"
    return f"{path} is a file: turn a checkpoint into a model folder with x2x convert {path} FOLDER"


def _download(model: str) -> Path:
    if not _HUB_ID.fullmatch(model) or ".." in model:
        raise ModelError(f"{HUB}{model} is no model of the hub: write {HUB}owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        with quiet_libraries():
            return Path(snapshot_download(model, allow_patterns=HUB_ALLOW, ignore_patterns=HUB_IGNORE))
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{HUB}{model} is not a public model on the hub: check the spelling, or log in if it is private"
        ) from error
    # No network, a proxy, a full disk, ...: what the hub's client raises shares no base class.
    except Exception as error:
        raise ModelError(
            f"the hub did not give {HUB}{model} ({type(error).__name__}): check the spelling, or the network"
        ) from error
