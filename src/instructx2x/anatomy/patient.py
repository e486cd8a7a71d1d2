"""What of one patient bounds a finding: the lungs, the pleural space, the chest, the heart; or the population's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from instructx2x.anatomy.frames import LungFrame, lung_frame, place
from instructx2x.anatomy.heart import Heart, enlarged
from instructx2x.anatomy.lungs import Lungs
from instructx2x.anatomy.priors import Priors, packaged_priors
from instructx2x.imaging.geometry import resize

# Masks are made on a square grid over the image, whatever its size, and then brought to that size.
WORK = 256

# How far findings reach beyond the lungs' outline, in widths of both lungs (outwards) and heights, and how soft the
# edge is. What fills the lungs keeps to them; boxes, and lesions at the pleura, overstep them further.
LUNG_RIM = 0.02
LIMIT_RIM = 0.04
RECESS_SIDE, RECESS_BELOW = 0.06, 0.16
SOFTNESS = 0.012

# An added cardiomegaly widens the heart, up to about this factor; in between, the mask falls off. A heart grows more
# aside than up and down, and its lower edge lies hidden below the diaphragm's dome.
WIDENED = (1.0, 1.15, 1.3, 1.45, 1.6)
HEART_RIM, HEART_UP, HEART_DOWN = 0.02, 0.03, 0.06


@dataclass(frozen=True)
class Patient:
    """Where the lungs lie, and what bounds a finding: a patient's own, or the population's average.

    Attributes:
        frame: the lungs' box and midline.
        lungs: (WORK, WORK) float64 in [0, 1], the lungs with a soft rim.
        limits: (WORK, WORK) float64 in [0, 1], by the name of a limit (places.Layer).
        heart: (WORK, WORK) bool, the patient's heart with a rim; None: not asked for, or not found.
    """

    frame: LungFrame
    lungs: np.ndarray
    limits: dict[str, np.ndarray]
    heart: np.ndarray | None = None

    @classmethod
    def of(cls, lungs: Lungs, heart: Heart | None = None) -> Patient:
        """A patient's own lungs, and the heart where it is known and plausible.

        Disease can hide part of a lung from any segmentation. So the outline is the patient's own or that of
        the average lungs in the patient's frame, whichever reaches further.
        """
        frame, priors = lung_frame(lungs), packaged_priors()
        template = place(priors.lung_share(), priors.frame, frame, (WORK, WORK))
        outline = (resize(lungs.both, WORK, WORK) >= 0.5) | (template >= 0.5)
        limits = {
            "lungs": _extend(outline, frame, LIMIT_RIM, LIMIT_RIM, LIMIT_RIM),
            "recess": _extend(outline, frame, RECESS_SIDE, LIMIT_RIM, RECESS_BELOW),
            "chest": _extend(_fill_between(outline), frame, LIMIT_RIM, LIMIT_RIM, LIMIT_RIM),
        }
        known = None
        if heart is not None and heart.plausible:
            width, height = _cells(frame)
            solid = resize(heart.mask, WORK, WORK) >= 0.5
            known = _grow(solid, HEART_RIM * width, HEART_UP * height, HEART_DOWN * height) > 0
        return cls(frame, _extend(outline, frame, LUNG_RIM, LUNG_RIM, LUNG_RIM), limits, known)

    @classmethod
    def average(cls, priors: Priors) -> Patient:
        """The population's lungs in image fractions. They bound nothing: nobody knows how far they are from
        this one's."""
        frame = priors.frame.centred()
        template = place(priors.lung_share(), priors.frame, frame, (WORK, WORK))
        fields = _extend(template >= 0.5, frame, LIMIT_RIM, LIMIT_RIM, LIMIT_RIM)
        everywhere = np.ones((WORK, WORK))
        return cls(frame, fields, dict.fromkeys(("lungs", "recess", "chest"), everywhere))

    @property
    def behind_heart(self) -> np.ndarray | None:
        """The zone "retrocardiac": (WORK, WORK) float64 in [0, 1], the heart with a soft edge; None without a heart."""
        return None if self.heart is None else _extend(self.heart, self.frame, 0, 0, 0)

    def around_heart(self, prior: np.ndarray) -> np.ndarray:
        """Where the heart's outline can change: the heart as it is and as it grows, which a prior may only strengthen.

        The value falls from 1 on the heart by the share of the WIDENED outlines that hold a place. Within the largest
        of them, the prior counts where it is higher; beyond it, nothing does.

        Args:
            prior: (WORK, WORK) in [0, 1], the mask of an average heart's enlargement in this patient's lungs.

        Returns:
            (WORK, WORK) float32 in [0, 1]; half of 1 / len(WIDENED), which is EDITABLE, on the largest outline.
        """
        inside_chest = self.limits["chest"]
        grown = [_extend(enlarged(self.heart, factor), self.frame, 0, 0, 0) * inside_chest for factor in WIDENED]
        return np.maximum(np.mean(grown, axis=0), np.minimum(prior, grown[-1])).astype(np.float32)


def _extend(outline: np.ndarray, frame: LungFrame, aside: float, up: float, down: float) -> np.ndarray:
    """Extend an outline by fractions of the lungs' width (aside) and height (up, down), with a soft edge."""
    width, height = _cells(frame)
    grown = _grow(outline, aside * width, up * height, down * height)
    return ndimage.gaussian_filter(grown, (SOFTNESS * height, SOFTNESS * width))


def _cells(frame: LungFrame) -> tuple[float, float]:
    """Width and height of the lungs' box, in cells of the working grid."""
    return (frame.left - frame.right) * WORK, (frame.bottom - frame.top) * WORK


def _fill_between(outline: np.ndarray) -> np.ndarray:
    """Fill every row from its first to its last cell inside: (H, W) bool -> (H, W) bool."""
    after_first = np.logical_or.accumulate(outline, axis=1)
    before_last = np.logical_or.accumulate(outline[:, ::-1], axis=1)[:, ::-1]
    return after_first & before_last


def _grow(outline: np.ndarray, aside: float, up: float, down: float) -> np.ndarray:
    """Extend an outline by numbers of cells to both sides, upwards and downwards: (H, W) bool -> float64 0 or
    1."""
    aside, up, down = (max(0, round(cells)) for cells in (aside, up, down))
    wide = ndimage.maximum_filter1d(outline.astype(np.float64), 2 * aside + 1, axis=1)
    # A cell becomes 1 when one from `down` above it to `up` below it is.
    size = up + down + 1
    return ndimage.maximum_filter1d(wide, size, axis=0, origin=down - size // 2)
