"""Where a result may be written: a new folder, or one that holds an earlier result and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from instructx2x.errors import InputError, OutputError
from instructx2x.files import digest
from instructx2x.results import folders
from instructx2x.results.seal import read_report

# Beside report.json and the edited image every result of an edit has these.
FILES = ("comparison.png", "guidance_map.png", "maps.npz", "mask.png")

# All that a result may hold; anything else in its folder is somebody's own.
_OURS = re.compile(
    r"edited(_mean|_seed_\d+)?\.(png|tiff|dcm)|(mask|guidance_map)\.(png|dcm)|(comparison|samples)\.png|maps\.npz|"
    r"report\.json"
)


def result_name(source: Path | None) -> str:
    """The name of a result's folder when none is given."""
    # The name in full: "." and ".." have none of their own.
    return folders.folder_name(Path(os.path.abspath(source)).stem) if source else "image"


def check_place(
    out: str | Path, name: str, *, inputs: Iterable[str | Path | None], overwrite: bool = False, samples: int = 1
) -> None:
    """Refuse before an edit what `save` would refuse after it, and try the place out. Nothing is left behind.

    Args:
        out, name: as for `save`; `out` must not be in use by another run.
        inputs: all files and folders that the edit reads.
        overwrite: whether an earlier result may be replaced.
        samples: how many seeds the edit has.

    Raises:
        OutputError: the place cannot be used.
    """
    longest = [*FILES, "report.json", "edited.tiff", *(["edited_seed_" + "9" * 19 + ".tiff"] if samples > 1 else [])]
    replaceable = refuse_foreign if overwrite else None
    folders.check_place(Path(out) / name, longest, inputs=inputs, refuse_foreign=replaceable)


def refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that is no result, or holds a file that is not the result's.

    Raises:
        OutputError: with the name of the first such file.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(f"{folder} is not a result of this program, so it is not overwritten: choose another folder")
    names = sorted(path.name for path in folder.iterdir())
    try:
        report = read_report(folder)
    except InputError:
        report = None
    told = report is not None and {"software", "model", "instruction", "mask"} <= set(report)
    if names and not told and not {"report.json", "maps.npz"} <= set(names):
        raise OutputError(f"{folder} is not a result of this program, so it is not overwritten: choose another folder")
    listed = report.get("files") if told else None
    for name in names:
        path = folder / name
        if not _OURS.fullmatch(name) or path.is_symlink() or not path.is_file():
            what = "is not a file of this result"
        elif isinstance(listed, dict) and name != "report.json" and digest(path) != listed.get(name):
            what = "is not as this program wrote it"
        else:
            continue
        told = f"{folder} is not overwritten, for {folders.clean(name)} in it {what}"
        raise OutputError(f"{told}: move it away, or choose another folder")
