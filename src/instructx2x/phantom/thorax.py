"""The chest's volumes as functions of a ray: rib cage, diaphragm, mediastinum, heart and great vessels of one body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from instructx2x.phantom.body import Body
from instructx2x.phantom.film import CENTRE, Film
from instructx2x.phantom.shapes import Interval, ellipsoid, length, smooth

APEX = 11.4  # height of the lungs' apices in an ordinary body
SIDES = {"right": -1, "left": 1}  # the patient's, and the sign of x


def table(places: Sequence[float], values: Sequence[float]) -> PchipInterpolator:
    """A smooth curve through given values, without overshoot; places rise."""
    return PchipInterpolator(places, values)


def at(curve: PchipInterpolator, place: np.ndarray) -> np.ndarray:
    """A curve's values, constant beyond its ends: float32."""
    return curve(np.clip(place, curve.x[0], curve.x[-1])).astype(np.float32)


# The inside of the rib cage by height below the apex; over the square root of it, so that the apex is round.
_BELOW = np.sqrt([0, 0.4, 1.2, 3.4, 6.4, 11.4, 16.4, 21.4, 27.4, 34.0])
WIDTH = table(_BELOW, [4.5, 5.7, 7.1, 9.3, 11.1, 12.8, 13.6, 14.0, 14.1, 13.6])
DEPTH = table(_BELOW, [0.2, 1.3, 2.5, 4.3, 5.7, 7.1, 7.8, 8.1, 8.1, 7.8])
MIDDLE = table(_BELOW, [-2.6, -2.4, -2.1, -1.4, -0.8, -0.2, 0, 0, 0, 0])
MEDIAL = table(_BELOW, [4.2, 2.9, 2.2, 1.7, 1.2, 0.6, 0.3, 0.3, 0.3, 0.3])
# Half of the mediastinum's width by height.
MEDIASTINUM = table([-20, -9, -3, 1, 4, 8, 10, 12], [2.2, 1.9, 1.7, 2.0, 2.5, 2.4, 2.3, 2.6])


class Thorax:
    """The geometry that a body's structures share.

    Args:
        body: whose chest.
        film: how its owner stands, and where the rays cross it.
        random: a numpy Generator, for what differs between people of the same build.
    """

    def __init__(self, body: Body, film: Film, random: np.random.Generator) -> None:
        self.body, self.film = body, film
        expired = 3.6 * (1 - body.inspiration) - (0.4 if body.view == "AP" else 0)
        self.dome = {
            side: self.up(top + expired + random.normal(0, 0.15)) for side, top in (("right", -9.2), ("left", -10.3))
        }

    def up(self, z):
        """A height of the ordinary body in this one; the film's centre stays where it is."""
        return (z - CENTRE) * self.body.height + CENTRE

    def down(self, z):
        """The height in the ordinary body of a height in this one."""
        return (z - CENTRE) / self.body.height + CENTRE

    def vertebra(self, number: float) -> float:
        """Height in the ordinary body of the middle of a thoracic vertebra; 0 is the last cervical one, 13 L1."""
        return 10.2 - 2.12 * (number - 1) - 0.028 * (number - 1) * abs(number - 1)

    def cage_axes(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Half width, half depth and middle (y) of the rib cage's inside at heights of the ordinary body."""
        below = np.sqrt(np.maximum(APEX - z, 0))
        return at(WIDTH, below) * self.body.breadth, at(DEPTH, below) * self.body.breadth**0.5, at(MIDDLE, below)

    def cage(self, x: np.ndarray, z: np.ndarray) -> Interval:
        """The room for both lungs and what lies between them, with an apex on each side."""
        z = self.down(z)
        width, depth, middle = self.cage_axes(z)
        medial = at(MEDIAL, np.sqrt(np.maximum(APEX - z, 0)))
        half = depth * np.maximum(1 - (np.abs(x) / width) ** 2.7, 0) ** np.float32(1 / 2.3)
        roll = np.float32(1.6)  # the medial edge is round
        half = half * np.sqrt(1 - np.clip((medial + roll - np.abs(x)) / roll, 0, 1) ** 2)
        half = np.where((z < APEX) & (half > 0), half, -1).astype(np.float32)
        return middle - half, middle + half

    def abdomen(self, x: np.ndarray, z: np.ndarray) -> Interval:
        """What lies below the domes of the diaphragm; the sulcus behind them is deeper than the one in front."""
        right, left = self.dome["right"], self.dome["left"]
        top = right + (left - right) * smooth((x + 1.5) / 4.0)
        peak = np.where(x < 0, -6.2, 6.6) * self.body.breadth
        away = np.abs(x - peak)
        aside = 4.6 * (away / (7.7 * self.body.breadth)) ** 2.3
        inward = np.minimum(1.7 * (away / 6.2) ** 2.2, 1.7)
        fall = np.where(np.abs(x) > np.abs(peak), aside, inward)
        under = (top - fall - z).astype(np.float32)
        reach = np.sqrt(np.maximum(under, 0))
        return np.where(under > 0, 1.5 - 4.3 * reach, 1), np.where(under > 0, 1.5 + 5.4 * reach, -1)

    def mediastinum(self, x: np.ndarray, z: np.ndarray) -> list[Interval]:
        """The tissue between the lungs, and the spine with what lies beside it; both thin out sideways."""
        found: list[Interval] = []
        for centre, width, depth in ((0.5, at(MEDIASTINUM, self.down(z)), 8.4), (-6.8, np.float32(2.3), 4.2)):
            middle = np.float32(self.film.turn(np.array([0.0, centre, 0.0]))[0])
            inside = 1 - ((x - middle) / (1.2 * width)) ** 2
            half = depth * np.maximum(inside, 0)
            found.append((centre - half, np.where(inside > 0, centre + half, np.float32(centre - 1))))
        return found

    def outline(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(H, W) bool: the lungs as an anatomist outlines them, behind the heart too, but not below the domes."""
        enter, leave = self.abdomen(x, z)
        middle = self.film.turn(np.array([0.0, -2.0, 0.0]))[0]
        beside = np.abs(x - middle) > at(MEDIASTINUM, self.down(z))
        return (length(self.cage(x, z)) > 0) & (leave <= enter) & beside

    def ball(self, x, z, centre, axes, degrees: float = 0.0) -> Interval:
        """An ellipsoid whose centre is given in the ordinary body."""
        return ellipsoid(self.film, x, z, (centre[0], centre[1], self.up(centre[2])), axes, degrees)

    def heart(self, x: np.ndarray, z: np.ndarray) -> list[Interval]:
        """Ventricles, right atrium and left auricle; the heart rides on the diaphragm and flattens as that rises."""
        size = self.body.heart * (1.06 if self.body.view == "AP" else 1.0)
        lifted = self.down((self.dome["left"] + self.dome["right"]) / 2) + 9.75
        flat = 1 + 0.03 * lifted
        parts = (
            ((3.1, 0.6, -7.0), (5.9, 5.2, 4.1), -40),
            ((1.0, 3.6, -7.9), (5.2, 3.9, 3.8), -12),
            ((-0.6, 1.0, -7.1), (3.5, 4.6, 5.4), 6),
            ((1.9, 1.0, -3.9), (2.9, 2.6, 3.4), -28),
        )
        base = -9.6
        return [
            self.ball(
                x,
                z,
                (cx * size * flat - 0.1, cy * size, base + 0.85 * lifted + (cz - base) * size / flat),
                np.array(axes) * size * (flat, 1, 1 / flat),
                degrees,
            )
            for (cx, cy, cz), axes, degrees in parts
        ]

    def aorta(self, x: np.ndarray, z: np.ndarray) -> list[Interval]:
        """Ascending part, arch with its knob, and descending part; wider and longer with age."""
        a = self.body.aorta
        return [
            self.ball(x, z, (-1.2 - 0.7 * a, 2.6, -0.2), (1.6 + 0.4 * a, 1.7, 4.4), -6),
            self.ball(x, z, (1.5 + 0.6 * a, -0.8, 2.7 + 0.8 * a), (1.7 + 0.4 * a, 3.4, 2.0 + 0.2 * a)),
            self.ball(x, z, (1.5 + 0.5 * a, -5.6, -5.0), (1.25 + 0.3 * a, 1.3, 9.5), 3),
        ]

    def great_vessels(self, x: np.ndarray, z: np.ndarray) -> list[Interval]:
        """Superior vena cava, pulmonary trunk, left subclavian artery."""
        return [
            self.ball(x, z, (-1.75, 0.6, 2.6), (1.15, 1.3, 7.2), 2),
            self.ball(x, z, (1.9, 2.0, -1.6), (1.9, 2.0, 3.4), 16),
            self.ball(x, z, (2.1, -1.0, 7.0), (0.95, 1.0, 4.6), -6),
        ]
