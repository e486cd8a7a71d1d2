"""The analytic body: what length of every ray lies in each structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from instructx2x.phantom.body import Body
from instructx2x.phantom.film import CENTRE, Box, Film
from instructx2x.phantom.shapes import Interval, Patch, hull, length, smooth, spline, tubes, union
from instructx2x.phantom.skeleton import skeleton
from instructx2x.phantom.thorax import APEX, SIDES, Thorax, at, table
from instructx2x.phantom.vessels import grow

DENSITY = 0.24  # of a fully inflated lung
CROWDED = 4.0  # centimetres of blood at most where vessels crowd a hilum: there their tubes overlap
POINTS = 1800  # that the vessels of a lung lead to

# The skin by height: half width and half depth of the trunk with neck and shoulders.
SKIN_WIDTH = table(
    [-27, -20, -14, -8, -2, 2, 5, 8, 10, 11.3, 12.3, 13.3, 14.6, 16.5, 22],
    [15.4, 15.5, 15.7, 16.0, 16.6, 17.6, 19.0, 19.8, 18.9, 16.2, 12.4, 9.2, 7.3, 6.4, 6.2],
)
SKIN_DEPTH = table([-27, -14, 0, 5, 9, 12, 15, 22], [9.6, 9.9, 9.8, 8.8, 7.0, 5.6, 5.6, 5.6])


@dataclass(frozen=True, eq=False)
class Structure:
    """What one structure adds to the rays that cross it.

    Attributes:
        material: "water" or "bone".
        box: rows and columns of the film outside which it adds nothing.
        length: (h, w) float32, centimetres of the material; negative where air takes the place of water. 0 where no ray
            meets the structure, and nowhere else.
    """

    material: str
    box: Box
    length: np.ndarray


def structures(body: Body, film: Film, seed: int) -> dict[str, Structure]:
    """Every structure of a body, by name. What they add to a ray sums up to the whole body.

    A lung is what the rib cage holds above the diaphragm; the mediastinum, the heart and the vessels add the lung whose
    place they take.

    Args:
        seed: what differs between people of the same build: vessels, ribs, texture.
    """
    # One stream a part, so that no part's draws depend on another's.
    shape, wall, lungs, bones = (np.random.default_rng((seed, number)) for number in range(4))
    thorax = Thorax(body, film, shape)
    found = {name: _trim("water", patch) for name, patch in _wall(thorax, wall).items()}
    found |= {name: _trim("water", patch) for name, patch in _organs(thorax, lungs).items()}
    mineral = np.float32(body.bone)
    return found | {name: _trim("bone", (box, b * mineral)) for name, (box, b) in skeleton(thorax, bones).items()}


def lung_outlines(body: Body, film: Film, seed: int) -> np.ndarray:
    """(H, W) bool: both lungs as an anatomist outlines them. See `Thorax.outline`."""
    return Thorax(body, film, np.random.default_rng((seed, 0))).outline(film.x, film.z)


def _trim(material: str, patch: Patch) -> Structure:
    """The structure without the empty rows and columns around it."""
    (rows, columns), values = patch
    filled = [np.flatnonzero(values.any(axis)) for axis in (1, 0)]
    if not filled[0].size:
        return Structure(material, (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32))
    r, c = (slice(int(f[0]), int(f[-1]) + 1) for f in filled)
    box = (slice(rows.start + r.start, rows.start + r.stop), slice(columns.start + c.start, columns.start + c.stop))
    return Structure(material, box, np.ascontiguousarray(values[r, c], np.float32))


def _texture(film: Film, random: np.random.Generator, centimetres: float, box: Box | None = None) -> np.ndarray:
    """A smooth random field of unit spread that belongs to the body, so that films of every size show the same one."""
    rows, columns = box or (slice(None), slice(None))
    reach = 24.0
    cells = int(4 * reach / centimetres) + 8
    field = gaussian_filter(random.normal(size=(cells, cells)), 1.0)
    field = CubicSpline(np.arange(cells), field / field.std(), axis=0)
    field = field((reach - (film.z[rows, 0] - CENTRE)) * (2 / centimetres))
    return CubicSpline(np.arange(cells), field, axis=1)((film.x[0, columns] + reach) * (2 / centimetres)).astype(
        np.float32
    )


# ---------------------------------------------------------------------- chest wall


def _wall(thorax: Thorax, random: np.random.Generator) -> dict[str, Patch]:
    body, film = thorax.body, thorax.film
    x, z, whole = film.x, film.z, (slice(0, film.height), slice(0, film.width))
    height = thorax.down(z)
    shoulder, neck = smooth((height + 2) / 8), smooth((height - 11) / 3)
    growth = (body.breadth * (1 - shoulder) + body.shoulders * shoulder) * (1 - neck) + neck
    fat = body.padding - 1
    width = at(SKIN_WIDTH, height) * growth + fat * (1 - 0.6 * neck) * (0.9 + 0.5 * smooth((-6 - height) / 8))
    depth = at(SKIN_DEPTH, height) * body.breadth**0.5 + fat * (0.9 - 0.5 * neck) + 0.6 * smooth((-10 - height) / 6)
    inside = 1 - (np.abs(x) / width) ** 3.2
    front = (depth * np.sqrt(np.maximum(inside, 0))).astype(np.float32)
    parts: list[Interval] = [(-front, np.where(inside > 0, front, -1))]
    for sign in SIDES.values():
        s = body.shoulders
        parts.append(thorax.ball(x, z, (sign * 18.4 * s, 0, 6.2), (4.3 + 0.5 * fat, 5.0, 5.2)))
        arm = (22.0 if body.view == "PA" else 21.0) * s
        parts.append(thorax.ball(x, z, (sign * arm, 0.8, -2.5), (4.4 + 0.5 * fat, 4.6, 13.0), sign * 16))
    tissue = length(hull(parts))
    pectorals = [thorax.ball(x, z, (s * 9.0, 9.0, 3.6), (7.4, 1.6, 5.4), s * 14) for s in SIDES.values()]
    muscles = np.float32(0.126) * sum(map(length, pectorals))
    # Muscle and fat lie in layers: the wall is a little uneven.
    uneven = 0.10 * _texture(film, random, 3.0) + 0.05 * _texture(film, random, 1.1)
    muscles = np.where(tissue > 2, muscles + uneven * np.minimum(tissue / 8, 1), 0)
    found: dict[str, Patch] = {"soft tissue": (whole, tissue), "muscles": (whole, muscles)}
    if body.breasts:
        b = body.breasts
        breasts = np.zeros_like(tissue)
        for sign in SIDES.values():
            centre = (sign * (8.4 + 0.8 * b) * body.breadth, 9.6, -7.6 - 1.6 * b)
            enter, leave = thorax.ball(x, z, centre, (5.4 + 1.2 * b, 2.6 + 2.6 * b, 5.0 + 1.6 * b), sign * 8)
            breasts += length((np.maximum(enter, front), leave))
        # Above, a breast merges with the chest wall; only its lower edge shows.
        found["breasts"] = (whole, np.float32(1.05) * breasts * smooth((1.0 - height) / 8))
    return found


# ---------------------------------------------------------------------- lungs, heart, vessels, airways, abdomen


def _organs(thorax: Thorax, random: np.random.Generator) -> dict[str, Patch]:
    body, film = thorax.body, thorax.film
    reach = 14.6 * body.breadth
    box = film.box((-reach, thorax.up(-23)), (reach, thorax.up(APEX + 0.3)))
    rows, columns = box
    x, z = film.x[:, columns], film.z[rows]
    cage = thorax.cage(x, z)
    below = tuple(np.broadcast_to(end, cage[0].shape) for end in thorax.abdomen(x, z))
    texture = 0.012 * _texture(film, random, 2.2, box) + 0.007 * _texture(film, random, 0.5, box)
    texture += 0.006 * _texture(film, random, 0.2, box)
    # How much of a centimetre of lung is air. Blood pools below: the upper zones are darker.
    air = (1 - DENSITY - 0.10 * (1 - body.inspiration)) * (1 + texture)
    air = (air + 0.05 * np.clip((z - 1) / 12, -1, 1)).astype(np.float32)
    taken = union([below], cage)
    space = length(cage) - taken
    found: dict[str, Patch] = {
        f"{side} lung": (box, np.where(np.sign(x) == sign, -space * air, 0)) for side, sign in SIDES.items()
    }
    parts: list[Interval] = [below]
    for name, more, blood in (
        ("mediastinum", thorax.mediastinum(x, z), 0.005),
        ("heart", [hull(thorax.heart(x, z))], 0.05),
        ("aorta", thorax.aorta(x, z), 0.05),
        ("great vessels", thorax.great_vessels(x, z), 0.04),
    ):
        seen = sum(map(length, more))
        filled = [np.flatnonzero(seen.any(axis)) for axis in (1, 0)]
        if not filled[0].size:
            continue
        r, c = (slice(int(f[0]), int(f[-1]) + 1) for f in filled)
        parts += [tuple(np.broadcast_to(end, seen.shape) for end in interval) for interval in more]
        after = union([(a[r, c], b[r, c]) for a, b in parts], (cage[0][r, c], cage[1][r, c]))
        values = np.zeros_like(seen)
        values[r, c] = (after - taken[r, c]) * air[r, c] + blood * seen[r, c]
        taken[r, c] = after
        found[name] = (box, values)
    room = length(cage) - taken
    for side, sign in SIDES.items():
        blood = np.zeros((film.height, film.width), np.float32)
        where, path = _vessels(thorax, side, random)
        blood[where] = CROWDED * (1 - np.exp(-path / CROWDED))
        inside = np.minimum(blood[box], 0.6 * room) * (np.sign(x) == sign)
        found[f"{side} vessels"] = (box, np.where(inside > 1e-3, inside, 0) * air)
    found["airways"] = _airways(thorax)
    # Gas in the stomach stands above its fluid when the patient stands.
    top = thorax.down(thorax.dome["left"])
    x, z, whole = film.x, film.z, (slice(0, film.height), slice(0, film.width))
    gas = length(thorax.ball(x, z, (6.6, -2.0, top - 2.4), (3.4, 2.4, 1.6), -6))
    if body.view == "PA":
        gas = gas * smooth((z - thorax.up(top - 3.2)) / 0.15)
    folds = np.clip(1 + 0.10 * _texture(film, random, 0.9), 0.3, 1.4)
    found["stomach gas"] = (whole, -0.8 * gas * folds)
    liver = length(thorax.ball(x, z, (-6.5, 0.5, -14.6), (7.4, 7.0, 5.2), 10))
    found["liver"] = (whole, 0.05 * liver)
    return found


# A lung's artery and vein: where each enters, which way it points, its radius.
HILA = {
    "right": (((-2.6, -0.6, -1.6), (-0.8, -0.2, -1.0), 0.84), ((-2.0, -1.2, -4.0), (-1.0, -0.3, -0.1), 0.64)),
    "left": (((2.9, -1.6, -0.6), (0.8, -0.5, -0.7), 0.84), ((2.2, -1.6, -3.6), (1.0, -0.3, -0.2), 0.62)),
}


def _vessels(thorax: Thorax, side: str, random: np.random.Generator) -> Patch:
    """Centimetres of blood along the rays in one lung's arteries and veins."""
    film = thorax.film
    points = _fill(thorax, SIDES[side], random, POINTS)
    curves, radii = [], []
    for (root, heading, radius), share in zip(HILA[side], (1.0, 0.75), strict=True):
        cloud = points[random.random(len(points)) < share]
        start = np.array([root[0], root[1], thorax.up(root[2])])
        for curve, thickness in grow(start, np.array(heading), cloud, radius, random):
            # Standing, the lower vessels are fuller.
            full = 1 + 0.26 * np.clip((thorax.up(-1.5) - curve[:, 2]) / 5, -1, 0.4)
            curves.append(film.turn(curve))
            radii.append(thickness * full)
    return tubes(film, curves, radii)


def _fill(thorax: Thorax, sign: int, random: np.random.Generator, count: int) -> np.ndarray:
    """Points spread evenly in one lung: (count, 3)."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        points = random.uniform((0.5, -9.5, -21), (14.5, 9.5, APEX), (4 * count, 3))
        points[:, 0] *= sign * thorax.body.breadth
        points[:, 2] = thorax.up(points[:, 2])
        x, y, z = points.T
        enter, leave = thorax.cage(x, z)
        inside = (y > enter + 0.25) & (y < leave - 0.25)
        for enter, leave in (thorax.abdomen(x, z), *thorax.mediastinum(x, z), *thorax.heart(x, z)):
            inside &= ~((y > enter) & (y < leave))
        found.append(points[inside])
    return np.concatenate(found)[:count]


AIRWAYS: Sequence[tuple[list[tuple[float, float, float]], tuple[float, ...]]] = (
    ([(0.1, 0.2, 17), (-0.1, -0.4, 10), (-0.25, -1.2, 5), (-0.3, -1.6, 0.9)], (0.85, 0.88, 0.9, 1.0)),
    ([(-0.3, -1.6, 1.2), (-1.3, -1.9, -0.6), (-2.6, -2.3, -2.3), (-3.4, -2.6, -4.2)], (0.75, 0.7, 0.6, 0.42)),
    ([(-0.2, -1.6, 1.2), (1.2, -2.0, -0.2), (2.9, -2.6, -1.4), (4.1, -3.2, -2.6)], (0.7, 0.6, 0.55, 0.4)),
    ([(-1.6, -2.0, -0.9), (-2.9, -2.2, -0.5), (-4.1, -2.0, 0.4)], (0.5, 0.45, 0.3)),
)


def _airways(thorax: Thorax) -> Patch:
    """Trachea, main bronchi and the right upper lobe's; where one leaves another their air counts once."""
    film, way = thorax.film, np.linspace(0, 1, 24)
    air = np.zeros((film.height, film.width), np.float32)
    for points, radii in AIRWAYS:
        points = [(x, y, thorax.up(z)) for x, y, z in points]
        widths = np.interp(way, np.linspace(0, 1, len(radii)), radii)
        box, path = tubes(film, [film.turn(spline(points, len(way)))], [widths], 3)
        air[box] = np.maximum(air[box], path)
    return (slice(0, film.height), slice(0, film.width)), -air
