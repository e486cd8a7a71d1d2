"""Where a model may be written: a new folder, or one that holds a model in diffusers' layout and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from instructx2x.errors import OutputError
from instructx2x.results import folders

_FILES = re.compile(
    r"(model_index|calibration)\.json|README\.md|curves\.png|"
    r"(unet|vae|text_encoder|tokenizer|scheduler|feature_extractor|safety_checker)"
    r"(/[^/]+\.(json|jinja|safetensors|txt))?"
)


def refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that is no model, or holds a file that is not of one.

    Raises:
        OutputError: with the name of the first such file.
    """
    if folder.is_symlink() or not folder.is_dir() or (any(folder.iterdir()) and not _is_model(folder)):
        raise OutputError(f"{folder} is not a model, so it is not overwritten: choose another folder")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not _FILES.fullmatch(name) or path.is_dir() == ("." in path.name):
            raise OutputError(
                f"{folder} is not overwritten, for {folders.clean(name)} in it is not of a model: move it away, or "
                "choose another folder"
            )


def _is_model(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()


def check_place(out: Path, *, inputs: Iterable[str | Path | None], overwrite: bool) -> None:
    """Refuse before the work what could not be written after it, and try the place out.

    Raises:
        OutputError: `out` is or holds an input, cannot be written, or is in use and must not be replaced.
    """
    folders.check_place(out, ["model_index.json"], inputs=inputs, refuse_foreign=refuse_foreign if overwrite else None)
