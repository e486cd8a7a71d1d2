"""Folders of edited images, whoever made them: one image a case, by the case's name.

FOLDER/<case>.png                    or .jpg, .tif, .dcm, ...: anyone's images
FOLDER/<case>.npz                    if there is one: `mask` and the guidance map behind it
FOLDER/<case>/edited.png, maps.npz   what `x2x batch` writes
"""

from __future__ import annotations

import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from instructx2x.editing.rows import IMAGE_SUFFIXES
from instructx2x.errors import InputError
from instructx2x.evaluation.cases import Case
from instructx2x.files import check_archive
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.radiograph import Radiograph, as_stored
from instructx2x.imaging.reading import read

# An image whose sides are in this proportion of the source's, or that is square, is the source stretched.
SAME_ASPECT = 0.02
MAPS = ("relevance", "pseudo_mask", "guidance")


def find_edited(folder: Path, cases: Sequence[Case], *, partial: bool = False) -> dict[str, Path]:
    """The edited image of every case.

    Args:
        folder: see the module.
        cases: what was asked.
        partial: let cases without an image pass.

    Returns:
        name of the case -> its edited image.

    Raises:
        InputError: there is no such folder, a case has no image or two, or no image is any case's.
    """
    try:
        # Listed once: a look for every name and ending would be ten for each of thousands of cases.
        files = {_plain(path.name): path for path in sorted(folder.iterdir())}
    except OSError as error:
        raise InputError(f"{folder} is no folder of edited images: {error.strerror or error}") from error
    found, absent = {}, []
    for case in cases:
        name = _plain(case.name)
        candidates = [files[name + suffix] for suffix in IMAGE_SUFFIXES if name + suffix in files]
        if name in files and files[name].is_dir():
            inside = [files[name] / f"edited{suffix}" for suffix in IMAGE_SUFFIXES]
            candidates += [path for path in inside if path.is_file()]
        if len(candidates) > 1:
            one, other = (path.relative_to(folder) for path in candidates[:2])
            raise InputError(f"{folder} has two edited images of {case.name}: keep one of {one} and {other}")
        if candidates:
            found[case.name] = candidates[0]
        else:
            absent.append(case.name)
    if not found or (absent and not partial):
        raise InputError(
            f"{folder} lacks the edited images of {len(absent)} of {len(cases)} cases; the first should be called "
            f"{absent[0]}.png" + ("" if not found else ", or give --partial to score what is there")
        )
    return found


def _plain(name: str) -> str:
    """A file's name as it is compared: other systems change case and compose letters."""
    return unicodedata.normalize("NFC", name).casefold()


def read_edited(path: Path, source: Radiograph) -> np.ndarray:
    """The brightness of an edited image at its source's size: (H, W) float32 in [0, 1].

    An image that holds the same kind of stored values (`imaging.radiograph.as_stored`) is displayed as the source is.
    A window found in its own values would differ as soon as one pixel does.

    Raises:
        InputError: it cannot be read, or has another aspect than its source and is not square.
    """
    edited = read(path)
    height, width = source.pixels.shape
    rows, columns = edited.pixels.shape
    if (rows, columns) == (height, width):
        return (as_stored(edited, source) or edited).display()
    aspect = (rows / columns) / (height / width)
    if rows != columns and abs(aspect - 1) > SAME_ASPECT:
        raise InputError(
            f"{path} is {columns} x {rows} pixels, its source {width} x {height}: give it the source's aspect, or make "
            "it square by stretching"
        )
    return np.clip(resize(edited.display(), height, width), 0, 1)


def read_maps(path: Path, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """What stands beside an edited image: "mask" (bool) and MAPS (float32), each (H, W); empty without a file.

    Raises:
        InputError: the file is damaged, or holds maps of another size than the source's.
    """
    beside = maps_of(path)
    if not beside.is_file():
        return {}
    maps = {}
    try:
        check_archive(beside)
        with zipfile.ZipFile(beside), np.load(beside, allow_pickle=False) as stored:
            for name in ("mask", *MAPS):
                if name in stored:
                    maps[name] = _checked(stored, name, shape, beside)
    except InputError:
        raise
    except Exception as error:
        # Archives answer damage with exceptions of every class, zlib's and NotImplementedError among them.
        raise InputError(f"{beside} is damaged: write it again with numpy.savez_compressed") from error
    return maps


def maps_of(path: Path) -> Path:
    """Where the maps of an edited image are, if there are any."""
    return path.parent / "maps.npz" if path.stem == "edited" else path.with_suffix(".npz")


def _checked(stored: np.lib.npyio.NpzFile, name: str, shape: tuple[int, int], path: Path) -> np.ndarray:
    # The header alone, so that a file that claims to be huge costs nothing.
    with stored.zip.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, _, dtype = reader(file)
    if found != shape or dtype.kind not in "fiub":
        raise InputError(f"{path} holds a {name} of {found}, its source is {shape}: give maps of the source's size")
    values = stored[name]
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds a {name} with values that are not finite")
    return values > 0 if name == "mask" else values.astype(np.float32)
