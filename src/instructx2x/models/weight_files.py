"""Which files of a network's folder are its weights: one rule for all parts, for what is loaded and what is hashed.

`STEM.safetensors`, or the whole set `STEM-00001-of-0000N.safetensors`, never both. An index beside a set must name
exactly its files. Half-precision and other variants (`STEM.fp16.safetensors`) and pickles stay aside. The libraries'
own loaders follow other rules, each its own; so they are not asked.
"""

from __future__ import annotations

import re
from pathlib import Path

from instructx2x.errors import ModelError
from instructx2x.models.files import MAX_CONFIG, read_json

# The stem of each network's weight file in diffusers' layout.
STEMS = {"text_encoder": "model", "vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model"}
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def weight_files(model: Path, part: str) -> list[Path]:
    """The safetensors files that make up a part ("unet", "vae" or "text_encoder") of a model.

    Raises:
        ModelError: there are none, or it is not certain which.
    """
    folder, stem = model / part, STEMS[part]
    names = _names(folder)
    single, index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
    shards = _shards(names, stem, "safetensors")
    if single in names and (shards or index in names):
        raise ModelError(
            f"{folder} is ambiguous, for it has {single} beside {'shards' if shards else 'an index of shards'}: keep "
            "one of the two"
        )
    if single in names:
        return [folder / single]
    if not shards and index not in names:
        raise ModelError(_missing(model, part, names))
    _check_set(folder, shards)
    if index in names:
        _check_index(folder / index, shards)
    return [folder / name for name in shards]


def pickle_files(model: Path, part: str) -> list[Path]:
    """The same for the pickles that older releases have, which only a conversion reads, with safeguards."""
    folder, stem = model / part, STEMS[part]
    names = _names(folder)
    stems = [stem] if stem.endswith("pytorch_model") else ["pytorch_model", stem]
    for each in stems:
        if f"{each}.bin" in names:
            return [folder / f"{each}.bin"]
        if shards := _shards(names, each, "bin"):
            _check_set(folder, shards)
            return [folder / name for name in shards]
    raise ModelError(_missing(model, part, names))


def _names(folder: Path) -> set[str]:
    try:
        return {file.name for file in folder.iterdir()}
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror or error}") from error


def _shards(names: set[str], stem: str, ending: str) -> list[str]:
    return sorted(name for name in names if re.fullmatch(rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}\.{ending}", name))


def _check_set(folder: Path, shards: list[str]) -> None:
    counts = {name.rpartition("-of-")[2].partition(".")[0] for name in shards}
    if len(counts) > 1:
        raise ModelError(f"{folder} is ambiguous, for it has shards of more than one set: keep one set")
    if shards and len(shards) != int(counts.pop()):
        raise ModelError(f"{folder} is incomplete: of the set of {shards[0]}, {len(shards)} files are there")


def _check_index(index: Path, shards: list[str]) -> None:
    named = read_json(index, 16 * MAX_CONFIG).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{index} is no index of weights: get a whole copy of the model")
    strange = sorted(set(named.values()) - set(shards))
    if strange:
        why = "which is no safetensors file of this set in this folder"
        raise ModelError(f"{index} names {strange[0]!r:.100}, {why}: get a whole copy of the model")
    if unnamed := sorted(set(shards) - set(named.values())):
        raise ModelError(f"{index} does not name {unnamed[0]}, which lies beside it: get a whole copy of the model")


def _missing(model: Path, part: str, names: set[str]) -> str:
    """What to say where a part has no weights that are loaded."""
    stem, wanted = STEMS[part], f"{part}/{STEMS[part]}.safetensors"
    for name in sorted(names):
        if variant := re.fullmatch(rf"{re.escape(stem)}\.([\w-]+?)(-\d{{5}}-of-\d{{5}})?\.safetensors", name):
            return (
                f"{model} has the weights of {part} only as the variant {variant[1]} ({name}): rename it to "
                f"{stem}{variant[2] or ''}.safetensors, as any precision is read, or get the model's other files too"
            )
    if any(name.lower().endswith(_PICKLES) for name in names):
        return (
            f"{model} holds {part} as a pickle, which can run code when read: turn the model into safetensors with "
            f"x2x convert {model} FOLDER"
        )
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if lora := [name for name in others if "lora" in name.lower() or "adapter" in name.lower()]:
        return f"{model} has a LoRA in {part} ({lora[0]}) and no {wanted}: merge it into its base model and give that"
    return f"{model} has no {wanted}" + (f", but {others[0]:.80}" if others else "") + ": get a whole copy of the model"
