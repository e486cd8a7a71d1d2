"""The pseudo masks of the paper's official release, and how its code looks them up.

The lookup goes by substring: an instruction, in lower case, mentions a name of the official list when it
contains it. Facts about that list, checked against the release (hgminn/InstructX2X), that decide what
happens:

- effusion stands in it as "effusion"; of the other names eight - with effusion - have a mask;
- both tortuosities end with a space there, so they are only mentioned when another word follows;
- no name mentioned opens the whole image, and so does one mentioned name without a mask, whatever else is
  mentioned;
- otherwise the masks of all mentioned names are combined by their maximum.

So "tortuosity of the thoracic aorta." opens everything (nothing is mentioned), "tortuosity of the thoracic
aorta, and pneumonia." opens pneumonia's mask alone, and "infection" or "enlargement of the cardiac
silhouette" open everything. Word boundaries, sides and zones play no part. This is kept for the `official`
profile; ours is pseudo_mask.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from instructx2x.anatomy.frames import centres
from instructx2x.anatomy.priors import SUBCELLS, Priors
from instructx2x.errors import AnatomyError
from instructx2x.imaging.writing import atomic_write
from instructx2x.instructions.vocabulary import PAPER_FINDINGS

MASK_SIZE = 512

# Canonical finding -> the name of its mask.
MASK_NAMES = {
    "atelectasis": "Atelectasis",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "pleural effusion": "Effusion",
    "lung opacity": "Lung Opacity",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
}


def looked_for(finding: str) -> str:
    """The substring by which the official lookup recognises one of the paper's findings."""
    if finding == "pleural effusion":
        return "effusion"
    return finding + " " if finding.startswith("tortuosity") else finding


def mentioned(instruction: str) -> tuple[str, ...]:
    """The findings that the official lookup recognises, by their canonical names, in the paper's order."""
    text = instruction.lower()
    return tuple(finding for finding in PAPER_FINDINGS if looked_for(finding) in text)


def official_pseudo_mask(instruction: str, shape: tuple[int, int], masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """The pseudo mask of the official code for an instruction as it was typed (method section 4, row 2).

    Args:
        instruction: the text.
        shape: (H, W) of the result; the official code always works at 512 x 512.
        masks: (h, w) arrays of 0 and 1, all of one size, by official name ("Effusion", "Lung Opacity", ...).

    Returns:
        (H, W) float32 in [0, 1]. Brought to `shape` as the official code resizes masks: bilinear, without
        antialiasing, corners not aligned.
    """
    names = [MASK_NAMES.get(finding) for finding in mentioned(instruction)]
    if not names or any(name not in masks for name in names):
        return np.ones(shape, np.float32)
    combined = np.maximum.reduce([masks[name] for name in names]).astype(np.float32)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(combined)[None, None], shape, mode="bilinear", align_corners=False
    )
    return resized[0, 0].numpy()


def load_official_masks(folder: Path) -> dict[str, np.ndarray]:
    """Read the `pseudo_mask_<Name>.npy` of a folder, as they are.

    Returns:
        official name -> (512, 512) uint8; those that are there, at least one.

    Raises:
        AnatomyError: no such file in the folder, or one that is not a 512 x 512 uint8 array of 0 and 1.
    """
    masks = {}
    for name in MASK_NAMES.values():
        path = Path(folder) / f"pseudo_mask_{name}.npy"
        if not path.is_file():
            continue
        try:
            # Mapped, not read: a header may promise any size.
            stored = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # NumPy parses the header as Python text, which fails in many ways
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise AnatomyError(f"{path} is not a NumPy array: {reason}; get a whole copy") from None
        if stored.shape != (MASK_SIZE, MASK_SIZE) or stored.dtype != np.uint8 or stored.max() > 1:
            raise AnatomyError(
                f"{path} holds {stored.dtype} of shape {stored.shape}; a pseudo mask is uint8 0 or 1, "
                f"{MASK_SIZE} x {MASK_SIZE}"
            )
        masks[name] = np.array(stored)
    if not masks:
        raise AnatomyError(
            f"{folder} holds none of the official masks; expected are files such as pseudo_mask_Effusion.npy"
        )
    return masks


def union_masks(priors: Priors) -> dict[str, np.ndarray]:
    """The same eight masks from our own sources: the union of all boxes of each finding, in image fractions.

    Nobody marked edema in the packaged ones, so its mask is the union of the lung masks.

    Returns:
        official name -> (512, 512) uint8, 0 or 1; without those that the priors hold no marks of.
    """
    return _official({"edema": priors.lungs > 0} | priors.unions)


def overlap_masks(priors: Priors, share: float) -> dict[str, np.ndarray]:
    """Smaller masks of the same kind: the places that lie inside a mark in at least a share of a finding's images.

    Args:
        priors: counts of marks.
        share: in (0, 1].

    Returns:
        As `union_masks`. A finding of which no place reaches the share is left out.
    """
    maps = {"edema": (priors.lungs, priors.lung_masks)} | {n: (c, priors.images[n]) for n, c in priors.counts.items()}
    masks = _official({name: counts >= share * images * SUBCELLS**2 for name, (counts, images) in maps.items()})
    return {name: mask for name, mask in masks.items() if mask.any()}


def write_official_masks(masks: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write masks as `load_official_masks` and the official code read them.

    Raises:
        OutputError: the place cannot be written to.
    """
    for name, mask in masks.items():
        atomic_write(folder / f"pseudo_mask_{name}.npy", lambda file, mask=mask: np.save(file, mask))


def _official(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Maps by finding as masks by official name, at the official size."""
    masks = {}
    for finding, name in MASK_NAMES.items():
        if finding in maps:
            nearest = (centres(MASK_SIZE) * len(maps[finding])).astype(int)
            masks[name] = maps[finding][np.ix_(nearest, nearest)].astype(np.uint8)
    return masks
