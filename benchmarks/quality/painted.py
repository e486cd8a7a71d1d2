"""Removal at high resolution: what an instruction leaves of a finding that was painted on a real normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from instructx2x import Editor
from instructx2x.imaging.geometry import resize
from instructx2x.instructions import Edit, Operation, render
from instructx2x.training.simulation.chest import find_chest
from instructx2x.training.simulation.lesions import Trait, draw
from quality.measures import line_left, painted_left

HIGH = 1024  # pixels a side
HIGH_FINDINGS = ("nodule", "pneumothorax")
LEVEL = ("moderate", 3.0)  # of what is painted
LINE = 4.0  # pixels at HIGH: the side of one of the bundled model's own pixels


@dataclass(frozen=True)
class Removal:
    """A painted finding and its removal.

    Attributes:
        clean, painted, removed: (HIGH, HIGH) brightness.
        left: share of the painted change that is left, see `measures.painted_left`.
        line: share of the pleural line that is left, see `measures.line_left`; None for what has no line.
        mask: share of the image in the edit's mask.
    """

    clean: np.ndarray
    painted: np.ndarray
    removed: np.ndarray
    left: float
    line: float | None
    mask: float


def remove_painted(
    editor: Editor, display: np.ndarray, view: str, finding: str, number: int, known: dict[str, Trait]
) -> Removal | None:
    """Paint a finding on a square normal, brought to HIGH pixels a side, and have it removed.

    Args:
        display: (S, S) brightness of the normal.
        view: "PA" or "AP".
        finding: one of HIGH_FINDINGS.
        number: seed of the painting and of the edit.
        known: of `simulation.lesions.traits`.

    Returns:
        None where the lungs are not found.
    """
    stored = np.clip(resize(display, HIGH, HIGH, Image.Resampling.BICUBIC), 0, 1)
    clean = np.round(255 * stored).astype(np.float32) / 255
    chest = find_chest(clean)
    if chest is None:
        return None
    lesion = draw(known, np.random.default_rng((HIGH, number)), finding).at_level(*LEVEL)
    image = lesion.paint(chest, view, known)
    study = editor.open(np.round(255 * image).astype(np.uint8))
    result = study.edit(render((Edit(Operation.REMOVE, finding),)), seed=number)
    images = clean, study.display, result.image.display()
    left = painted_left(*images, np.maximum(*chest.lungs.values()) > 0.5)
    line = line_left(*images, LINE) if finding == "pneumothorax" else None
    return Removal(*images, left, line, float(result.mask.mean()))
