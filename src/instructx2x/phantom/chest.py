"""A made chest radiograph with the exact mask of every structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from instructx2x.phantom.anatomy import Chest, Structure, structures
from instructx2x.phantom.body import Body
from instructx2x.phantom.film import Film
from instructx2x.phantom.physics import Exposure, expose, reference

FIELD = 41.0  # centimetres along the film's longer side
FINE = 512  # smaller films are averaged from one of at least this size, so that thin structures stay


@dataclass(frozen=True, eq=False)
class Phantom:
    structures: Mapping[str, Structure]
    film: Film
    fold: int
    exposure: Exposure = field(default_factory=Exposure)
    seed: int = 0
    level: float = 0.0
    body: Body = Body()

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        total = {m: np.zeros((self.film.height, self.film.width), np.float32) for m in ("water", "bone")}
        for structure in self.structures.values():
            total[structure.material][structure.box] += structure.length
        return total["water"], total["bone"]

    @cached_property
    def image(self) -> np.ndarray:
        image = expose(*self.lengths(), self.film.pitch, self.exposure, self.seed, self.level)
        return self._average(image)

    @cached_property
    def lungs(self):
        chest = Chest(self.body, self.film, self.seed)
        x, z = self.film.rays()
        both = self._average(chest.outline(x, z).astype(np.float32)) >= 0.5
        middle = both.shape[1] // 2
        right, left = both.copy(), both.copy()
        right[:, middle:] = False
        left[:, :middle] = False
        return right, left

    def _average(self, image):
        if self.fold == 1:
            return image
        h, w = image.shape
        return image.reshape(h // self.fold, self.fold, w // self.fold, self.fold).mean((1, 3))


def chest(size=1024, body: Body | None = None, seed: int = 0, exposure: Exposure | None = None) -> Phantom:
    body = body or Body()
    height, width = (size, size) if isinstance(size, int) else size
    fold = max(1, -(-FINE // max(height, width)))
    film = Film(height * fold, width * fold, FIELD / (max(height, width) * fold), body.view, body.rotation, 6.0 if body.view == "AP" else 0.0)
    found = structures(body, film, seed)
    made = Phantom(found, film, fold, exposure or Exposure(), seed, body=body)
    lungs = np.zeros((film.height, film.width), bool)
    for side in ("right lung", "left lung"):
        lungs[found[side].box] |= found[side].length < 0
    level = reference(made.lengths()[0], lungs)
    return replace(made, level=level)
