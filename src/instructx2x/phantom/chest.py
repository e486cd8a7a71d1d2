"""A made chest radiograph, with the exact mask of every structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from instructx2x.errors import InputError
from instructx2x.phantom.anatomy import Structure, lung_outlines, structures
from instructx2x.phantom.body import Body
from instructx2x.phantom.film import Film
from instructx2x.phantom.physics import Exposure, expose, reference

FIELD = 41.0  # centimetres along the film's longer side
FINE = 256  # smaller films are averaged from one of at least this size, so that thin structures stay
SIZES = (32, 4096)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A body on a film.

    Attributes:
        body: whose chest.
        structures: by name, what each adds to the rays; the body is their sum. Their grid is `film`'s.
        film: the grid that was computed.
        fold: rows and columns of it that make one of the image's.
        exposure: how the film is exposed.
        seed: of the body's variation and of the noise.
        level: optical path that automatic exposure shows as lung.
    """

    body: Body
    structures: Mapping[str, Structure]
    film: Film
    fold: int
    exposure: Exposure
    seed: int
    level: float

    @cached_property
    def image(self) -> np.ndarray:
        """(H, W) float32 brightness in [0, 1], 0 black: the radiograph."""
        lengths = {
            material: np.zeros((self.film.height, self.film.width), np.float32) for material in ("water", "bone")
        }
        for structure in self.structures.values():
            lengths[structure.material][structure.box] += structure.length
        film = expose(lengths["water"], lengths["bone"], self.film.pitch, self.exposure, self.seed, self.level)
        return self._folded(film)

    def mask(self, name: str) -> np.ndarray:
        """Where a structure lies on the image.

        Args:
            name: of one of `structures`.

        Returns:
            (H, W) bool: the pixels that hold any of it. Removing it changes what rays meet there and nowhere else.

        Raises:
            InputError: there is no such structure.
        """
        if name not in self.structures:
            raise InputError(f"{name!r:.60}: no structure of the phantom; choose from {', '.join(self.structures)}.")
        seen = np.zeros((self.film.height, self.film.width), np.float32)
        seen[self.structures[name].box] = self.structures[name].length != 0
        return self._folded(seen) > 0

    @cached_property
    def lungs(self) -> tuple[np.ndarray, np.ndarray]:
        """The patient's right and left lung as an anatomist outlines them, each (H, W) bool.

        The part behind the heart belongs to them; what lies below the domes of the diaphragm does not.
        """
        both = self._folded(lung_outlines(self.body, self.film, self.seed).astype(np.float32)) >= 0.5
        right = np.arange(both.shape[1]) < both.shape[1] / 2
        return both & right, both & ~right

    def without(self, *names: str) -> Phantom:
        """The same body on the same film without some structures.

        Raises:
            InputError: there is no such structure.
        """
        for name in names:
            self.mask(name)
        return replace(self, structures={n: s for n, s in self.structures.items() if n not in names})

    def _folded(self, values: np.ndarray) -> np.ndarray:
        """Average blocks of the computed grid into the image's pixels."""
        if self.fold == 1:
            return values
        height, width = values.shape
        return values.reshape(height // self.fold, self.fold, width // self.fold, self.fold).mean((1, 3))


def chest(
    size: int | tuple[int, int] = 1024, body: Body | None = None, seed: int = 0, exposure: Exposure | None = None
) -> Phantom:
    """Compute the radiograph of a body that does not exist. No patient's pixel is in it.

    Args:
        size: of the image in pixels, 32 to 4096: the side of a square, or height and width. The longer side always
            measures 41 cm, so the same body looks the same at any size.
        body: whose chest; an ordinary man's without one. `BODIES` holds others.
        seed: other vessels, ribs, texture and noise. The same arguments give the same bits.
        exposure: a clinical one without any.

    Raises:
        InputError: a size outside these bounds.
    """
    height, width = (size, size) if isinstance(size, int) else size
    low, high = SIZES
    if not low <= min(height, width) <= max(height, width) <= high:
        raise InputError(f"{width} x {height} pixels: no size of a phantom; use sides from {low} to {high}.")
    body = body or Body()
    fold = -(-FINE // max(height, width))
    pitch = FIELD / (max(height, width) * fold)
    film = Film(height * fold, width * fold, pitch, body.view, body.rotation)
    found = structures(body, film, seed)
    water = np.zeros((film.height, film.width), np.float32)
    lungs = np.zeros(water.shape, bool)
    for name, structure in found.items():
        if structure.material == "water":
            water[structure.box] += structure.length
        if name in ("right lung", "left lung"):
            lungs[structure.box] |= structure.length < 0
    return Phantom(body, found, film, fold, exposure or Exposure(), seed, reference(water, lungs))
