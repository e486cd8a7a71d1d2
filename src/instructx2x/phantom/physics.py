"""From lengths of tissue to a film: attenuation, scatter, focal blur, quantum noise, clinical tones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter, zoom

# A filtered 120 kVp beam behind a grid, in three energies: its share, and attenuation per centimetre of water and of
# compact bone in place of water: rounded values for about 45, 65 and 90 keV, not a fitted spectrum.
SPECTRUM = ((0.30, 0.243, 0.72), (0.45, 0.199, 0.37), (0.25, 0.176, 0.23))

LEVEL = 2.15  # optical path of ordinary lungs


@dataclass(frozen=True)
class Exposure:
    """How the film is exposed and developed.

    Attributes:
        photons: a pixel of 0.4 mm in open air counts this many; more is less noise. Infinity has none.
        scatter: scattered signal as a share of the open beam's, from where the body lets most through, 0 to 0.1.
        scatter_reach: its blur, centimetres.
        blur: focal spot and screen, centimetres (standard deviation).
        detail: how much local contrast is raised, as clinical processing does, 0 to 1.
    """

    photons: float = 1.5e5
    scatter: float = 0.018
    scatter_reach: float = 3.0
    blur: float = 0.018
    detail: float = 0.55


def blurred(image: np.ndarray, pixels: float) -> np.ndarray:
    """A Gaussian blur; wide ones are computed on a coarser grid."""
    step = int(max(pixels // 4, 1))
    if step == 1:
        return gaussian_filter(image, pixels, mode="nearest")
    height, width = image.shape
    padded = np.pad(image, ((0, -height % step), (0, -width % step)), mode="edge")
    small = padded.reshape(padded.shape[0] // step, step, -1, step).mean((1, 3))
    small = gaussian_filter(small, pixels / step, mode="nearest")
    return zoom(small, step, order=1, mode="nearest", grid_mode=True)[:height, :width].astype(np.float32)


def path(water: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Primary beam behind lengths of water and bone: share of the open beam."""
    return sum(np.float32(share) * np.exp(-np.float32(a) * water - np.float32(b) * bone) for share, a, b in SPECTRUM)


def reference(water: np.ndarray, lungs: np.ndarray) -> float:
    """The optical path that automatic exposure brings to the tone of lungs: the lungs' median.

    Args:
        water: (H, W) centimetres; lungs: (H, W) bool.
    """
    return float(np.median(-np.log(path(water[lungs], np.float32(0)))))


def expose(
    water: np.ndarray, bone: np.ndarray, pitch: float, exposure: Exposure, seed: int, level: float = LEVEL
) -> np.ndarray:
    """The film: (H, W) float32 in [0, 1], 0 black.

    Args:
        water, bone: (H, W) centimetres.
        pitch: centimetres a pixel.
        level: `reference` of the body, whatever is left out of it.
    """
    primary = path(np.maximum(water, 0), np.maximum(bone, 0))
    signal = primary
    if exposure.scatter:
        # Most scatter comes from thick parts that still let the beam in.
        source = np.sqrt(primary) * (1 - np.exp(-water / 6))
        signal = signal + np.float32(exposure.scatter) * blurred(
            source.astype(np.float32), exposure.scatter_reach / pitch
        )
    if exposure.blur:
        signal = gaussian_filter(signal, exposure.blur / pitch, mode="nearest")
    if np.isfinite(exposure.photons):
        count = exposure.photons * (pitch / 0.04) ** 2 * np.maximum(signal, 1e-6)
        noise = np.random.default_rng(seed).standard_normal(signal.shape, dtype=np.float32)
        noise = gaussian_filter(noise, 0.6) * 1.9
        signal = np.maximum(signal + signal * noise / np.sqrt(count), 1e-6)
    density = -np.log(np.maximum(signal, 1e-6))
    # Where nothing absorbs, more exposure stays black.
    density = density - np.float32(0.85 * (level - LEVEL)) * np.clip(density / level, 0, 1)
    return develop(density, pitch, exposure)


# Brightness over optical path, as film and processing give it: lungs dark but not black, the mediastinum light.
_PATH = (0.0, 0.35, 0.9, 1.5, 1.9, 2.4, 3.0, 3.6, 4.2, 5.0, 6.5)
_SHOWN = (0.0, 0.02, 0.12, 0.24, 0.345, 0.495, 0.64, 0.745, 0.82, 0.90, 0.98)


def develop(density: np.ndarray, pitch: float, exposure: Exposure) -> np.ndarray:
    """Tones of a clinical film from optical path."""
    if exposure.detail:
        wide, narrow = blurred(density, 1.6 / pitch), blurred(density, 0.35 / pitch)
        here = np.clip(density / 1.2, 0, 1)  # open air has no detail
        density = density + np.float32(exposure.detail) * here * (0.6 * (density - wide) + 0.5 * (density - narrow))
    grid = np.linspace(0, _PATH[-1], 1301)
    return np.interp(density, grid, PchipInterpolator(_PATH, _SHOWN)(grid)).astype(np.float32)
