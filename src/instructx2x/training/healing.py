"""Healing: a part of the image is blanked in the condition, and the model fills it in as healthy, given all around it.

A model that learned removal by undoing a painter does not recognise real disease. It need not: the mask says where to
work, and what is blanked cannot be copied. What should come out are a normal X-ray's own pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy import ndimage
from torch.nn import functional as F

from instructx2x.anatomy.heart import find_heart
from instructx2x.anatomy.lungs import segment_lungs
from instructx2x.anatomy.patient import Patient
from instructx2x.anatomy.priors import packaged_priors
from instructx2x.anatomy.pseudo_mask import asks_for_heart, finding_mask
from instructx2x.errors import AnatomyError
from instructx2x.imaging.geometry import resize
from instructx2x.instructions import Edit, Operation
from instructx2x.progress import track
from instructx2x.training.simulation.lesions import Lesion, Trait, draw
from instructx2x.training.states import read_state, write_state

# Regions of an X-ray without and with findings: ill ones only teach what an image looks like with no instruction.
PER_NORMAL, PER_ABNORMAL = 4, 1
# Side of the grid on which a region's opacity varies, in knots, and of the square that regions are kept at.
KNOTS, SIDE = 6, 32


@dataclass(frozen=True)
class Region:
    """The place of a finding in one patient's X-ray.

    Attributes:
        image: row of the X-ray in the image array.
        lesion: what could be there; nothing is painted.
        values: (s, s) float32 in [0, 1], its pseudo mask on the latent cells.
    """

    image: int
    lesion: Lesion
    values: torch.Tensor


def write_regions(
    images: np.ndarray, table: pl.DataFrame, traits: dict[str, Trait], out: Path, *, split: str, seed: int = 0
) -> None:
    """Find regions of every adult's X-ray of a split whose lungs are found; those of an earlier run are left.

    Args:
        images: (N, S, S) uint8, the X-rays of `table`'s rows.
        traits: the findings to draw from.
        out: file for `read_regions`.
    """
    if out.is_file():
        return
    records, values = [], []
    for row in track(np.flatnonzero((table["adult"] & (table["split"] == split)).to_numpy()), "regions to be healed"):
        rng = np.random.default_rng((seed, int(row)))
        count = PER_NORMAL if table["findings"][int(row)] == "No Finding" else PER_ABNORMAL
        lesions = [draw(traits, rng) for _ in range(count)]
        for lesion, place in _places(images[row].astype(np.float32) / 255, lesions):
            records.append({"image": int(row), "lesion": asdict(lesion)})
            values.append(torch.from_numpy(place))
    found = torch.stack(values).half() if values else torch.zeros(0, SIDE, SIDE, dtype=torch.float16)
    write_state({"values": found, "regions": json.dumps(records)}, out)


def read_regions(file: Path, cells: int) -> list[Region]:
    """What `write_regions` wrote, on latents of `cells` a side; nothing where it was never run."""
    if not file.is_file():
        return []
    state = read_state(file)
    records = json.loads(state["regions"])
    values = F.interpolate(state["values"].float()[:, None], size=(cells, cells), mode="area")[:, 0] if records else []
    return [
        Region(record["image"], Lesion(**record["lesion"]), place)
        for record, place in zip(records, values, strict=True)
    ]


def _places(display: np.ndarray, lesions: Sequence[Lesion]) -> list[tuple[Lesion, np.ndarray]]:
    lungs = segment_lungs(display)
    if not lungs.plausible:
        return []
    edits = [
        Edit(Operation.REMOVE, lesion.finding, side=lesion.side or None, zone=lesion.zone or None) for lesion in lesions
    ]
    priors = packaged_priors()
    heart = find_heart(display, lungs) if any(asks_for_heart(edit, priors) for edit in edits) else None
    patient = Patient.of(lungs, heart)
    found = []
    for lesion, edit in zip(lesions, edits, strict=True):
        try:
            values = finding_mask(edit, display.shape, priors, patient)
        except AnatomyError:  # the finding is never there
            continue
        found.append((lesion, np.clip(resize(values, SIDE, SIDE), 0, 1).astype(np.float32)))
    return found


def opacity(region: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """How opaque a blank is that lies over a region: (s, s) in [0, 1], 0 where the region is.

    Sometimes the whole region, more often patches of it with soft edges, as a guidance map has them; three times of
    ten nowhere quite opaque.

    Args:
        region: (s, s) float32 in [0, 1].
    """
    values = region * float(rng.uniform(1, 4))
    if rng.random() < 0.5:
        knots = torch.from_numpy(rng.standard_normal((1, 1, KNOTS, KNOTS)).astype(np.float32))
        smooth = F.interpolate(knots, size=region.shape, mode="bicubic", align_corners=True)[0, 0]
        values = values * torch.sigmoid(4 * (smooth + float(rng.uniform(0, 1))))
    most = float(rng.uniform(0.5, 1)) if rng.random() < 0.3 else 1.0
    return most * values.clamp(0, 1)


def around(cells: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A region with a soft edge that holds some cells and up to three around them: (s, s) bool -> float32 in [0, 1]."""
    grown = ndimage.binary_dilation(cells.numpy(), iterations=int(rng.integers(0, 4)) + 1)
    return torch.from_numpy(ndimage.gaussian_filter(grown.astype(np.float32), 0.7))


def reach(blank: torch.Tensor) -> torch.Tensor:
    """The cells that the editor could change with this blank, as it finds them: (s, s) -> bool, one cell wider."""
    return F.max_pool2d((blank > 0.05).float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
