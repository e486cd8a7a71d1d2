"""Anatomical priors: where experts marked each finding, as aggregate maps in the package.

Built by building.py from NIH's and RSNA's boxes and ChestX-Det's outlines; `data/SOURCES.md` names them. A
map says for each place how often it lay inside an expert's mark, among the images with that finding.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from scipy import ndimage

from instructx2x.anatomy.frames import LungFrame, mirror
from instructx2x.errors import AnatomyError
from instructx2x.imaging.writing import atomic_write

GRID = 96
SUBCELLS = 2
PACKAGED = "data/priors.npz"
MAX_BYTES = 16 << 20

# The arrays of a file of priors and the kinds of their numbers or texts.
_KINDS = {"findings": "U", "counts": "u", "unions": "u", "images": "i", "lungs": "u", "lung_masks": "i", "frame": "f"}
_KINDS["sources"] = "U"

# Standard deviation of the smoothing, as a fraction of the image: about how far apart the same place lies in
# two patients once their lungs are on top of each other. It also fills the gaps of maps with few marks.
SMOOTHING = 0.02

# Small findings need more of it: all their marks together cover each place only a few times.
SMALL = frozenset({"calcification", "fracture", "nodule"})
SMOOTHING_SMALL = 0.04

# The heart lies to the left, and calcium in the aortic knob; everything else strikes either side alike, and
# what difference the marks show is chance and the heart's shadow. Averaging these maps with their mirror
# image doubles the marks behind each place and gives a sided instruction the same room on either side.
ONE_SIDED = frozenset({"cardiomegaly", "calcification"})


@dataclass(frozen=True)
class Priors:
    """Aggregate counts on a GRID x GRID grid over the image.

    Attributes:
        counts: finding -> (GRID, GRID) integer: image subcells (SUBCELLS ** 2 a cell) inside a mark, summed
            over images.
        unions: finding -> (GRID, GRID) bool: inside any mark's box, in any image (the paper's mask).
        images: finding -> number of images with a mark.
        lungs: (GRID, GRID) integer, as `counts`, of human lung masks moved onto the reference lungs.
        lung_masks: number of those masks.
        frame: where the lungs lie in the images behind the maps (the reference frame).
        sources: source -> licence, attribution, number of marks per finding.
    """

    counts: dict[str, np.ndarray]
    unions: dict[str, np.ndarray]
    images: dict[str, int]
    lungs: np.ndarray
    lung_masks: int
    frame: LungFrame
    sources: dict[str, dict]

    def frequency(self, name: str) -> np.ndarray:
        """Share of the images with finding `name` in which an expert marked each place.

        Averaged with its mirror image in lung coordinates unless the finding is in ONE_SIDED, and smoothed
        (SMOOTHING).

        Returns:
            (GRID, GRID) float64 in [0, 1].
        """
        share = self.counts[name] / (self.images[name] * SUBCELLS**2)
        if name not in ONE_SIDED:
            share = (share + mirror(share, self.frame)) / 2
        smoothing = SMOOTHING_SMALL if name in SMALL else SMOOTHING
        return ndimage.gaussian_filter(share, smoothing * GRID, mode="nearest")

    def lung_share(self) -> np.ndarray:
        """Share of the human masks that hold each place as lung, both sides averaged: (GRID, GRID) in [0,
        1]."""
        share = self.lungs / (self.lung_masks * SUBCELLS**2)
        return (share + mirror(share, self.frame)) / 2


def write_priors(priors: Priors, path: Path) -> None:
    """Write priors as a compressed .npz, whole or not at all; the same priors give the same bytes.

    Raises:
        OutputError: the place cannot be written to.
    """
    names = sorted(priors.counts)
    frame = priors.frame
    arrays = {
        "findings": np.array(names),
        "counts": np.stack([priors.counts[name] for name in names]).astype(np.uint32),
        "unions": np.packbits(np.stack([priors.unions[name] for name in names])),
        "images": np.array([priors.images[name] for name in names], np.int64),
        "lungs": priors.lungs.astype(np.uint32),
        "lung_masks": np.array(priors.lung_masks, np.int64),
        "frame": np.array([frame.top, frame.bottom, frame.right, frame.midline, frame.left]),
        "sources": np.array(json.dumps(priors.sources, sort_keys=True)),
    }
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


@lru_cache(maxsize=1)
def packaged_priors() -> Priors:
    """The priors that come with the package. Loaded once."""
    with as_file(files("instructx2x.anatomy").joinpath(PACKAGED)) as path:
        return load_priors(path)


def load_priors(path: Path) -> Priors:
    """Read a file of `write_priors`.

    Raises:
        AnatomyError: the file is missing, too large, or not one of these.
    """
    try:
        arrays = _read_arrays(path)
        names = [str(name) for name in arrays["findings"]]
        shape = (len(names), GRID, GRID)
        counts = arrays["counts"].reshape(shape)
        if arrays["unions"].size != -(-counts.size // 8):
            raise ValueError("its unions are not of the size of its counts")
        unions = np.unpackbits(arrays["unions"], count=counts.size).reshape(shape).astype(bool)
        priors = Priors(
            counts=dict(zip(names, counts, strict=True)),
            unions=dict(zip(names, unions, strict=True)),
            images={name: int(count) for name, count in zip(names, arrays["images"], strict=True)},
            lungs=arrays["lungs"].reshape(GRID, GRID),
            lung_masks=int(arrays["lung_masks"]),
            frame=LungFrame(*(float(value) for value in arrays["frame"])),
            sources=json.loads(str(arrays["sources"])),
        )
        _check(priors)
    # Whatever is wrong with a file of anybody's, the libraries raise it in their own ways.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise AnatomyError(f"{path} is no file of priors (x2x masks build makes one): {reason}") from None
    return priors


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, each as large as its file says before room is made for it; no pickles."""
    if not path.is_file():
        raise ValueError("there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("it is too large")
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise ValueError("it is too large")
        if sorted(member.filename for member in members) != sorted(f"{name}.npy" for name in _KINDS):
            raise ValueError(f"it does not hold {', '.join(_KINDS)}")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is compressed in another way than NumPy's")
            name, content = member.filename.removesuffix(".npy"), io.BytesIO(archive.read(member))
            version = np.lib.format.read_magic(content)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(content)
            if (
                dtype.kind not in _KINDS[name]
                or math.prod(shape) * dtype.itemsize != content.getbuffer().nbytes - content.tell()
            ):
                raise ValueError(f"{name} holds {dtype} of shape {shape}")
            content.seek(0)
            arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    return arrays


def _check(priors: Priors) -> None:
    """Whether counts can be counts, and the lungs lie in the image."""
    if min(priors.images.values(), default=0) < 1 or priors.lung_masks < 1:
        raise ValueError("it counts no images")
    if max(*priors.images.values(), priors.lung_masks) > 1e9:
        raise ValueError("it counts more images than there are")
    maps = [(priors.counts[name], count) for name, count in priors.images.items()] + [(priors.lungs, priors.lung_masks)]
    if not priors.lungs.any() or any(counts.max() > images * SUBCELLS**2 for counts, images in maps):
        raise ValueError("it counts no lungs, or more marks than images")
    frame = priors.frame
    if not (0 <= frame.top < frame.bottom <= 1 and 0 <= frame.right < frame.midline < frame.left <= 1):
        raise ValueError("its lungs do not lie in the image")
    told = priors.sources
    if not isinstance(told, dict) or not all(
        isinstance(v, dict) and isinstance(v.get("marks"), dict) for v in told.values()
    ):
        raise ValueError("it does not say whose marks it counts")
