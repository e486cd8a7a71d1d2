"""Guidance map and masks (method section 3, step 3; section 4, row 11).

`G = M_pseudo * R` and `M = (G >= tau) and (G > 0)` are decided once, at the source's size. The mask of the latents is
derived from that decision, so that the two can not disagree.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from instructx2x.imaging.geometry import Frame

# Share of a pseudo mask's highest value from which a place is where the finding is common, and no rim.
CORE = 0.5


def guidance_map(pseudo_mask: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """G = M_pseudo * R, both (H, W) in [0, 1] -> (H, W) float32 in [0, 1]."""
    return np.clip(pseudo_mask * relevance, 0, 1, dtype=np.float32)


def without_islands(pseudo_mask: np.ndarray, relevance: np.ndarray, threshold: float) -> np.ndarray:
    """A pseudo mask closed where the mask would have islands in its rim: spots in the abdomen below a lung.

    Towards its rim a pseudo mask falls off, for findings seldom lie there. A connected part of the mask M that nowhere
    reaches where they are common (CORE of the highest value) is left out; a mask of such parts alone stays.

    Args:
        pseudo_mask, relevance: M_pseudo and R, (H, W) in [0, 1].
        threshold: of M.

    Returns:
        (H, W) of the pseudo mask's dtype: 0 on islands, else as it was.
    """
    mask = decide(guidance_map(pseudo_mask, relevance), threshold)
    parts, count = ndimage.label(mask, structure=np.ones((3, 3), bool))
    rooted = np.zeros(count + 1, bool)
    rooted[np.unique(parts[mask & (pseudo_mask >= CORE * pseudo_mask.max(initial=0))])] = True
    if not rooted.any():
        return pseudo_mask
    return np.where(mask & ~rooted[parts], 0, pseudo_mask).astype(pseudo_mask.dtype)


def decide(guidance: np.ndarray, threshold: float) -> np.ndarray:
    """The mask M: where G reaches the threshold, and never where it is 0, however the threshold rounds.

    Args:
        guidance: G, any shape.
        threshold: in (0, 1].

    Returns:
        bool, of the same shape.
    """
    return (guidance >= threshold) & (guidance > 0)


def content_cells(frame: Frame, cells: int) -> np.ndarray:
    """(cells, cells) bool: the latent cells that hold any of the image, and not only padding."""
    return any_in_cells(np.ones((frame.source_height, frame.source_width), bool), frame, cells)


def any_in_cells(mask: np.ndarray, frame: Frame, cells: int) -> np.ndarray:
    """Max-pool a mask on the source into the latents' cells.

    Args:
        mask: (H, W) bool at the source's size.
        frame: how the source lies in the model's square.
        cells: latent cells along each side of the square.

    Returns:
        (cells, cells) bool: a cell is set when any pixel it touches is.
    """
    top, bottom, left, right = frame.content
    rows = _spans(cells, frame.size, top, bottom, mask.shape[0])
    columns = _spans(cells, frame.size, left, right, mask.shape[1])
    by_row = np.stack([mask[span].any(axis=0) for span in rows])
    return np.stack([by_row[:, span].any(axis=1) for span in columns], axis=1)


def _spans(cells: int, size: int, start: int, stop: int, length: int) -> list[slice]:
    """For every cell along one axis, the source pixels it touches; none in the padding."""
    edges = (np.arange(cells + 1) * (size / cells) - start) * (length / (stop - start))
    first = np.clip(np.floor(edges[:-1]), 0, length).astype(int)
    last = np.clip(np.ceil(edges[1:]), 0, length).astype(int)
    return [slice(a, b) for a, b in zip(first, last, strict=True)]


def mean_in_cells(values: np.ndarray, frame: Frame, cells: int) -> np.ndarray:
    """Average a map of the source over each latent cell: (H, W) in [0, 1] -> (cells, cells) float32, padding 0."""
    parts = frame.to_model(values).reshape(cells, frame.size // cells, cells, frame.size // cells)
    return parts.mean(axis=(1, 3), dtype=np.float32)


def latent_mask(mask: np.ndarray, frame: Frame, cells: int) -> np.ndarray:
    """The cells the sampler may change: those `mask` touches and their neighbours, but never pure padding.

    The one cell around is room for the decoder, whose every pixel depends on the neighbouring cells too.

    Args:
        mask: (H, W) bool at the source's size.

    Returns:
        (cells, cells) bool.
    """
    grown = ndimage.binary_dilation(any_in_cells(mask, frame, cells), structure=np.ones((3, 3), bool))
    return grown & content_cells(frame, cells)


def feather(mask: np.ndarray, width: float) -> np.ndarray:
    """Soften a mask inwards: 0 exactly outside, rising smoothly to 1 at `width` pixels from the edge.

    The image's own border is no edge: what is beyond it is not seen.

    Args:
        mask: (H, W) bool.
        width: pixels.

    Returns:
        (H, W) float32 in [0, 1], above 0 exactly where `mask` is set.
    """
    soft = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return soft
    # Only the mask's bounding box, and the ring of pixels around it, has to be measured.
    box = tuple(slice(max(span.start - 1, 0), span.stop + 1) for span in ndimage.find_objects(mask.astype(np.uint8))[0])
    inner = mask[box]
    if inner.all():
        soft[box] = 1
        return soft
    ramp = np.minimum(ndimage.distance_transform_edt(inner).astype(np.float32) / max(width, 1.0), 1)
    soft[box] = ramp * ramp * (3 - 2 * ramp)
    return soft
