"""Regions of the chest in lung coordinates (frames.py): findings that nobody outlined, and zones in words.

Each is a soft shape: 1 inside, falling to 0 over a rim. Extents are textbook proportions of a frontal
radiograph, checked by eye on open X-rays: the mediastinum takes about a third of the lungs' width, the
aortic knob lies a quarter of the way down them, the hila a little above their middle, and the domes of
the diaphragm end a fifth above the costophrenic angles.
"""

from __future__ import annotations

import numpy as np

from instructx2x.errors import AnatomyError

FAR = 10.0
RIM = 0.10


def band(coordinate: np.ndarray, low: float, high: float, rim: float = RIM) -> np.ndarray:
    """1 between `low` and `high`, 1/2 on them, 0 from rim/2 beyond: element by element, in [0, 1]."""
    rising = (coordinate - low) / rim + 0.5
    falling = (high - coordinate) / rim + 0.5
    return np.clip(np.minimum(rising, falling), 0, 1)


def box(u: np.ndarray, v: np.ndarray, across: tuple[float, float], down: tuple[float, float]) -> np.ndarray:
    """A rectangle with soft edges."""
    return band(u, *across) * band(v, *down)


def ellipse(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """1 within three quarters of the radii, 0 beyond five quarters."""
    distance = np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1])
    return np.clip(2.5 - 2 * distance, 0, 1)


def hila(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where the great vessels and bronchi enter the lungs, on both sides."""
    return ellipse(np.abs(u), v, (0.30, 0.46), (0.28, 0.20))


def mediastinum(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Between the lungs from the neck to the heart's lower edge; the arch and the heart reach further to the
    left."""
    return box(u, v, (-0.30, 0.40), (-0.12, 0.85))


def anterior_mediastinum(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where masses of the thymus show: in front of the great vessels and the heart's base, bulging to either
    side."""
    return box(u, v, (-0.45, 0.50), (0.08, 0.65))


def thoracic_aorta(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """From the ascending part, at the right edge of the mediastinum, over the arch and down to the
    diaphragm."""
    return box(u, v, (-0.32, 0.45), (0.08, 0.95))


def descending_aorta(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """From the arch down to the diaphragm, left of the spine; tortuous ones bend across it."""
    return box(u, v, (-0.10, 0.45), (0.12, 1.00))


def spine(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The spine from the neck to the picture's lower edge, with room for its curves."""
    return band(u, -0.36, 0.36) * band(v, -0.30, FAR)


def hiatus(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Behind the heart and around the hiatus of the diaphragm, where a stomach comes through."""
    return box(u, v, (-0.35, 0.55), (0.55, 1.10))


def stomach(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Under the left dome of the diaphragm."""
    return box(u, v, (0.05, 0.95), (0.74, 1.40))


def costophrenic(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The lateral angles between diaphragm and chest wall, on both sides."""
    return band(np.abs(u), 0.50, FAR) * band(v, 0.68, FAR)


REGIONS = {
    "hila": hila,
    "mediastinum": mediastinum,
    "anterior mediastinum": anterior_mediastinum,
    "thoracic aorta": thoracic_aorta,
    "descending aorta": descending_aorta,
    "spine": spine,
    "hiatus": hiatus,
    "stomach": stomach,
    "costophrenic angles": costophrenic,
}

# Heights as fractions of the lungs'. Neighbouring zones overlap, because readers do not agree on the borders;
# what is outermost goes on beyond the lungs (an effusion lies below what is seen of them). A lower lobe
# reaches up behind the others to the hilum: "lower" begins in the middle.
_HEIGHTS = {
    "apical": (-FAR, 0.25),
    "upper": (-FAR, 0.45),
    "middle": (0.28, 0.72),
    "lower": (0.50, FAR),
    "basal": (0.65, FAR),
}


def zone(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The part of the chest that a zone word names.

    Args:
        name: "apical", "upper", "middle", "lower", "basal", "perihilar" or "retrocardiac".
        u, v: lung coordinates, broadcastable.

    Returns:
        Values in [0, 1] of the broadcast shape.

    Raises:
        AnatomyError: for another word.
    """
    if name == "perihilar":
        return ellipse(np.abs(u), v, (0.32, 0.46), (0.36, 0.27))
    if name == "retrocardiac":
        return box(u, v, (-0.30, 0.62), (0.42, 1.05))
    if name not in _HEIGHTS:
        raise AnatomyError(f'no zone of the lungs is called "{name}"; use one of {", ".join(zone_names())}')
    return band(v, *_HEIGHTS[name]) * np.ones_like(u)


def zone_names() -> tuple[str, ...]:
    """The words that `zone` knows."""
    return (*_HEIGHTS, "perihilar", "retrocardiac")
