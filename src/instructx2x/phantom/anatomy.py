"""The analytic chest: what length of every ray lies in each structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter, map_coordinates

from instructx2x.phantom.body import Body
from instructx2x.phantom.film import CENTRE, Film
from instructx2x.phantom.shapes import Interval, bone, ellipsoid, hull, length, polygon, smooth, soften, spline, threads, union
from instructx2x.phantom.vessels import grow

LUNG = 0.24  # density of an inflated lung
SPONGY = 0.20  # share of bone in marrow
CORTEX = 0.11
APEX = 11.4
SIDES = {"right": -1, "left": 1}


@dataclass(frozen=True)
class Structure:
    """What one structure adds to the rays that cross it.

    Attributes:
        material: "water" or "bone".
        box: rows and columns of the film outside which it adds nothing.
        length: (h, w) float32, centimetres of the material; negative where air takes the place of water.
    """

    material: str
    box: tuple[slice, slice]
    length: np.ndarray


def curve_of(points: list[tuple[float, float]]) -> PchipInterpolator:
    points = sorted(points)
    return PchipInterpolator([a for a, _ in points], [b for _, b in points])


def at(curve: PchipInterpolator, z: np.ndarray) -> np.ndarray:
    """A curve's values, its ends continued: as float32."""
    return curve(np.clip(z, curve.x[0], curve.x[-1])).astype(np.float32)


# Inside of the rib cage over the square root of the distance below the apex, so that the apex is round.
_BELOW = [0, 0.4, 1.2, 3.4, 6.4, 11.4, 16.4, 21.4, 27.4, 34.0]
INNER_WIDTH = curve_of([(d**0.5, w) for d, w in zip(_BELOW, [4.5, 5.7, 7.1, 9.3, 11.1, 12.8, 13.6, 14.0, 14.1, 13.6], strict=True)])
INNER_DEPTH = curve_of([(d**0.5, w) for d, w in zip(_BELOW, [0.2, 1.3, 2.5, 4.3, 5.7, 7.1, 7.8, 8.1, 8.1, 7.8], strict=True)])
INNER_MIDDLE = curve_of([(d**0.5, w) for d, w in zip(_BELOW, [-2.6, -2.4, -2.1, -1.4, -0.8, -0.2, 0, 0, 0, 0], strict=True)])
MEDIAL = curve_of([(d**0.5, w) for d, w in zip(_BELOW, [4.2, 2.9, 2.2, 1.7, 1.2, 0.6, 0.3, 0.3, 0.3, 0.3], strict=True)])
MEDIASTINUM = curve_of([(-20, 2.2), (-9, 1.9), (-3, 1.7), (1, 2.0), (4, 2.5), (8, 2.4), (10, 2.3), (12, 2.6)])
TRUNK_WIDTH = curve_of([(-27, 15.4), (-20, 15.5), (-14, 15.7), (-8, 16.0), (-2, 16.6), (2, 17.6), (5, 19.0), (8, 19.8), (10, 18.9), (11.3, 16.2), (12.3, 12.4), (13.3, 9.2), (14.6, 7.3), (16.5, 6.4), (22, 6.2)])  # fmt: skip
TRUNK_DEPTH = curve_of([(-27, 9.6), (-14, 9.9), (0, 9.8), (5, 8.8), (9, 7.0), (12, 5.6), (15, 5.6), (22, 5.6)])
DROP = (4.0, 6.0, 7.0, 7.6, 8.2, 8.7, 9.2, 9.4, 9.2, 8.6, 6.5, 4.5)  # from a rib's head to its front end
ASIDE = (0.6, 1.1, 1.8, 2.7, 3.4, 3.9, 4.3, 4.6, 5.0, 5.6, 7.5, 9.5)  # from its head to its outermost point
FRONT = (0.80, 0.83, 0.83, 0.83, 0.83, 0.82, 0.79, 0.73, 0.67, 0.60, 0.42, 0.27)  # where it ends, of the half turn


class Chest:
    """The geometry that structures share: a body's rib cage, diaphragm, heart and mediastinum, as seen on a film."""

    def __init__(self, body: Body, film: Film, seed: int) -> None:
        self.body, self.film = body, film
        self.random = np.random.default_rng(seed)
        self.tall, self.broad = body.height, body.breadth
        ap = body.view == "AP"
        self.dome = {
            side: self.up(top - 3.6 * (body.inspiration - 1) - (0.0 if not ap else -0.4) + self.random.normal(0, 0.15))
            for side, top in (("right", -9.2), ("left", -10.3))
        }
        self.size = body.heart * (1.06 if ap else 1.0)

    def up(self, z):
        """A height of the ordinary body in this one; the film's centre stays."""
        return (z - CENTRE) * self.tall + CENTRE

    def down(self, z):
        return (z - CENTRE) / self.tall + CENTRE

    def vertebra(self, k: float) -> float:
        """Height of the middle of thoracic vertebra k (0 is C7, 13 is L1), before scaling."""
        return 10.2 - 2.12 * (k - 1) - 0.028 * (k - 1) * abs(k - 1)

    # ------------------------------------------------------------------ volumes

    def cage(self, x, z) -> Interval:
        """The inside of the rib cage without the middle: where lungs can be."""
        z = self.down(z)
        below = np.sqrt(np.maximum(APEX - z, 0)).astype(np.float32)
        width = at(INNER_WIDTH, below) * self.broad
        medial = at(MEDIAL, below)
        depth, middle = at(INNER_DEPTH, below) * self.broad**0.5, at(INNER_MIDDLE, below)
        u = np.abs(x) / width
        half = depth * np.maximum(1 - u**2.7, 0) ** np.float32(1 / 2.3)
        roll = np.float32(1.6)
        inward = np.clip((medial + roll - np.abs(x)) / roll, 0, 1)
        half = half * np.sqrt(1 - inward**2)
        half = np.where((z < APEX) & (half > 0), half, -1)
        return (middle - half).astype(np.float32), (middle + half).astype(np.float32)

    def abdomen(self, x, z) -> Interval:
        """What lies below the domes of the diaphragm."""
        right, left = self.dome["right"], self.dome["left"]
        side = smooth((x + 1.5) / 4.0)
        top = right + (left - right) * side
        peak = np.where(x < 0, -6.2, 6.6) * self.broad
        outward = np.abs(x) > np.abs(peak)
        fall = np.where(outward, 4.6 * (np.abs(x - peak) / (7.7 * self.broad)) ** 2.3, 1.7 * (np.abs(x - peak) / 6.2) ** 2.2)
        fall = np.where(np.abs(x) < 3, np.minimum(fall, 1.7), fall)
        left_over = (top - fall - z).astype(np.float32)
        reach = np.sqrt(np.maximum(left_over, 0))
        empty = left_over <= 0
        # The posterior sulcus lies deeper than the anterior one.
        return np.where(empty, 1, 1.5 - 4.3 * reach).astype(np.float32), np.where(empty, -1, 1.5 + 5.4 * reach).astype(np.float32)

    def middle(self, x, z) -> list[Interval]:
        """The mediastinum's tissue, and the spine with what lies beside it."""
        height = self.down(z)
        found: list[Interval] = []
        for centre, width, depth in ((0.5, at(MEDIASTINUM, height), 8.4), (-6.8, np.float32(2.3), 4.2)):
            cx = self.film.turn(np.array([0.0, centre, 0.0]))[0]
            inside = 1 - ((x - cx) / (1.2 * width)) ** 2
            half = depth * np.maximum(inside, 0)
            found.append(tuple(np.broadcast_arrays(centre - half, np.where(inside > 0, centre + half, centre - 1))))
        return found

    def outline(self, x, z) -> np.ndarray:
        """Both lungs as an anatomist outlines them: behind the heart too, but neither below the domes nor in the middle."""
        below = self.abdomen(x, z)
        aside = np.abs(x - self.film.turn(np.array([0.0, -2.0, 0.0]))[0]) > at(MEDIASTINUM, self.down(z))
        return (length(self.cage(x, z)) > 0) & (below[1] <= below[0]) & aside

    def ball(self, x, z, centre, axes, degrees=0.0) -> Interval:
        centre = np.array([centre[0], centre[1], self.up(centre[2])])
        return ellipsoid(self.film, x, z, centre, axes, degrees)

    def heart(self, x, z) -> list[Interval]:
        """Left ventricle, right ventricle, right atrium and left atrium; they grow from where the heart sits."""
        s = self.size
        base = min(self.dome.values()) * 0 + (self.dome["left"] + self.dome["right"]) / 2
        low = self.down(base) + 9.75  # the heart rides on the diaphragm
        flat = 1 + 0.03 * low
        parts = (
            ((3.1, 0.6, -7.0), (5.9, 5.2, 4.1), -40),
            ((1.0, 3.6, -7.9), (5.2, 3.9, 3.8), -12),
            ((-0.7, 1.0, -7.1), (3.5, 4.6, 5.4), 6),
            ((1.9, 1.0, -3.9), (2.9, 2.6, 3.4), -28),
        )
        found = []
        for (cx, cy, cz), axes, degrees in parts:
            centre = (cx * s * flat - 0.1, cy * s, -9.6 + low * 0.85 + (cz + 9.6) * s / flat)
            found.append(self.ball(x, z, centre, np.array(axes) * s * (flat, 1, 1 / flat), degrees))
        return found

    def vessels_of_heart(self, x, z) -> dict[str, list[Interval]]:
        """Great vessels that form the mediastinum's borders: ascending aorta, superior vena cava, pulmonary trunk."""
        a = self.body.aorta
        return {
            "aorta": [
                self.ball(x, z, (-1.2 - 0.7 * a, 2.6, -0.2), (1.6 + 0.4 * a, 1.7, 4.4), -6),
                self.ball(x, z, (1.5 + 0.55 * a, -0.8, 2.7 + 0.7 * a), (1.7 + 0.35 * a, 3.4, 2.0 + 0.2 * a)),
                self.ball(x, z, (1.5 + 0.4 * a, -5.6, -5.0), (1.25 + 0.2 * a, 1.3, 9.5), 3),
            ],
            "great vessels": [
                self.ball(x, z, (-1.75, 0.6, 2.6), (1.15, 1.3, 7.2), 2),
                self.ball(x, z, (1.9, 2.0, -1.6), (1.9, 2.0, 3.4), 16),
                self.ball(x, z, (2.1, -1.0, 7.0), (0.95, 1.0, 4.6), -6),
            ],
        }


def structures(body: Body, film: Film, seed: int) -> dict[str, Structure]:
    """Every structure of a body on a film, by name; their order is the order in which they are built.

    Each lung's length is what it would be with nothing but the abdomen and the other organs in the cage; heart and
    vessels add the lung that they displace, and their blood's own density.
    """
    chest = Chest(body, film, seed)
    found: dict[str, Structure] = {}

    def add(name: str, material: str, box: tuple[slice, slice], values: np.ndarray) -> None:
        rows, columns = values.any(1), values.any(0)
        if not rows.any():
            found.setdefault(name, Structure(material, (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)))
            return
        r, c = np.flatnonzero(rows), np.flatnonzero(columns)
        r, c = slice(r[0], r[-1] + 1), slice(c[0], c[-1] + 1)
        box = (slice(box[0].start + r.start, box[0].start + r.stop), slice(box[1].start + c.start, box[1].start + c.stop))
        found[name] = Structure(material, box, np.ascontiguousarray(values[r, c], np.float32))

    whole = (slice(0, film.height), slice(0, film.width))
    _soft_tissue(chest, lambda name, values: add(name, "water", whole, values))
    _thorax(chest, lambda name, values, box=whole: add(name, "water", box, values))
    _skeleton(chest, lambda name, values: add(name, "bone", whole, values))
    return found


def noise_field(film: Film, random, centimetres: float, reach: float = 24.0) -> np.ndarray:
    """A smooth random field with unit spread, fixed to the body: the same at every size of film: (H, W) float32."""
    cells = int(2 * reach / (centimetres / 2)) + 8
    field = gaussian_filter(random.normal(size=(cells, cells)), 1.0)
    field /= field.std()
    rows = ((reach - (film.z[:, 0] - CENTRE)) / (centimetres / 2)).astype(np.float32)
    columns = ((film.x[0] + reach) / (centimetres / 2)).astype(np.float32)
    # Separable sampling: cubic along each axis.
    from scipy.interpolate import CubicSpline

    field = CubicSpline(np.arange(cells), field, axis=0)(rows)
    return CubicSpline(np.arange(cells), field, axis=1)(columns).astype(np.float32)


# ---------------------------------------------------------------------- soft tissue


def _soft_tissue(chest: Chest, add) -> None:
    body, film = chest.body, chest.film
    x, z = film.rays()
    height = chest.down(z)
    shoulder = smooth((height + 2) / 8)
    width = at(TRUNK_WIDTH, height)
    neck = smooth((height - 11) / 3)
    growth = chest.broad * (1 - shoulder) + body.shoulders * shoulder
    fat = body.padding - 1
    width = width * (growth * (1 - neck) + neck) + fat * (1 - 0.6 * neck) * (0.9 + 0.5 * smooth((-6 - height) / 8))
    depth = at(TRUNK_DEPTH, height) * chest.broad**0.5 + fat * (0.9 - 0.5 * neck) + 0.6 * smooth((-10 - height) / 6)
    inside = 1 - (np.abs(x) / width) ** 3.2
    half = np.where(inside > 0, depth * np.maximum(inside, 0) ** np.float32(0.5), -1)
    trunk = (-half, half)
    parts = [trunk]
    ap = body.view == "AP"
    for sign in SIDES.values():
        s = body.shoulders
        # The upper arm as a row of balls would show; one long ellipsoid has the arm's own outline.
        parts.append(chest.ball(x, z, (sign * 18.4 * s, 0, 6.2), (4.3 + 0.5 * fat, 5.0, 5.2)))
        tip = (23.0 if not ap else 22.0) * s
        parts.append(chest.ball(x, z, (sign * (tip - 1.0), 0.8, -2.5), (4.4 + 0.5 * fat, 4.6, 13.0), sign * 16))
    total = length(hull(parts))
    add("soft tissue", total)
    random = np.random.default_rng(chest.random.integers(2**32))
    # Muscle and fat lie in layers: the wall is a little uneven.
    uneven = 0.10 * noise_field(film, random, 3.0) + 0.05 * noise_field(film, random, 1.1)
    muscles = np.zeros(total.shape, np.float32)
    for sign in SIDES.values():
        lo, hi = chest.ball(x, z, (sign * 9.0, 9.0, 3.6), (7.4, 1.6, 5.4), sign * 14)
        muscles += 0.45 * length((lo, hi)) * 0.28
    front = depth * np.maximum(inside, 0) ** np.float32(0.5)
    add("muscles", np.where(total > 2, muscles + uneven * np.minimum(total / 8, 1), 0).astype(np.float32))
    if body.breasts:
        b = body.breasts
        breasts = np.zeros(total.shape, np.float32)
        for sign in SIDES.values():
            lo, hi = chest.ball(
                x, z, (sign * (8.2 + 0.7 * b) * chest.broad, 9.6, -6.6 - 1.2 * b), (5.4 + 1.2 * b, 2.6 + 2.6 * b, 5.0 + 1.6 * b)
            )
            lo = np.maximum(lo, front)
            # Above it the breast merges with the chest wall; only its lower edge shows.
            breasts += length((lo, hi)) * smooth((1.0 - height) / 8)
        add("breasts", breasts * np.float32(0.8))


# ---------------------------------------------------------------------- lungs, heart, vessels


def _thorax(chest: Chest, add) -> None:
    body, film = chest.body, chest.film
    x, z = film.rays()
    reach = chest.broad * 14.6
    rows, columns = film.box((-reach, chest.up(-23)), (reach, chest.up(APEX + 0.3)))
    box = (rows, columns)
    x, z = x[:, columns], z[rows]
    density = LUNG + 0.10 * (1 - body.inspiration)
    cage, below, middle = chest.cage(x, z), chest.abdomen(x, z), chest.middle(x, z)
    heart, great = [hull(chest.heart(x, z))], chest.vessels_of_heart(x, z)
    space = length(cage)
    taken = union([below], cage)
    lung = space - taken
    random = np.random.default_rng(chest.random.integers(2**32))
    inflation = 1 + 0.012 * noise_field(film, random, 2.2)[rows, columns] + 0.007 * noise_field(film, random, 0.5)[rows, columns]
    inflation += 0.006 * noise_field(film, random, 0.2)[rows, columns]
    # Blood pools below: the upper zones are darker.
    gravity = 0.05 * np.clip((z - 1) / 12, -1, 1).astype(np.float32)
    air = (1 - density) * inflation.clip(0.5, 1.3) + gravity
    for side, sign in SIDES.items():
        add(f"{side} lung", np.where(np.sign(x) == sign, -lung * air, 0), box)
    parts = [below]
    before = taken

    def displaced(name, more, extra=0.0, exact=None):
        nonlocal parts, before
        silhouette = sum(map(length, more))
        part = tuple(slice(*np.flatnonzero(silhouette.any(axis))[[0, -1]] + (0, 1)) for axis in (1, 0))
        crop = [tuple(np.broadcast_to(end, space.shape)[part] for end in interval) for interval in parts + more]
        after = union(crop, tuple(end[part] for end in cage))
        values = np.zeros_like(space)
        values[part] = (after - before[part]) * air[part] + extra * silhouette[part]
        before = before.copy()
        before[part] = after
        parts = parts + more
        add(name, np.where(silhouette > 0, values, 0).astype(np.float32), box)

    displaced("mediastinum", middle, 0.0)
    displaced("heart", heart, 0.05)
    displaced("aorta", great["aorta"], 0.05)
    displaced("great vessels", great["great vessels"], 0.04)
    _vessels(chest, lung_of=(cage, parts), box=box, air=air, space=space - before, add=add)
    # Descending aorta: seen through the heart as a line.
    # Airways.
    airways = np.zeros((film.height, film.width), np.float32)
    carina = chest.up(0.9)
    for points, radii in (
        ([(0.1, 0.2, 17), (-0.1, -0.4, 10), (-0.25, -1.2, 5), (-0.3, -1.6, 0.9)], (0.85, 0.88, 0.9, 1.0)),
        ([(-0.3, -1.6, 1.2), (-1.3, -1.9, -0.6), (-2.6, -2.3, -2.3), (-3.4, -2.6, -4.2)], (0.75, 0.7, 0.6, 0.42)),
        ([(-0.2, -1.6, 1.2), (1.2, -2.0, -0.2), (2.9, -2.6, -1.4), (4.1, -3.2, -2.6)], (0.7, 0.6, 0.55, 0.4)),
        ([(-1.6, -2.0, -0.9), (-2.9, -2.2, -0.5), (-4.1, -2.0, 0.4)], (0.5, 0.45, 0.3)),
    ):
        points = np.array(points, float)
        points[:, 2] = chest.up(points[:, 2])
        curve = film.turn(spline(points, 24))
        widths = np.interp(np.linspace(0, 1, 24), np.linspace(0, 1, len(radii)), radii)
        airways = np.maximum(airways, threads(film, [curve], [widths], 3))
    add("airways", -airways)
    del carina
    # Gas in the stomach, above its fluid when the patient stands.
    x, z = film.rays()
    top = chest.down(chest.dome["left"])
    gas = length(chest.ball(x, z, (6.6, -2.0, top - 2.4), (3.4, 2.4, 1.6), -6))
    if body.view == "PA":
        gas = gas * smooth((z - chest.up(top - 3.4)) / 0.15)
    random = np.random.default_rng(chest.random.integers(2**32))
    folds = np.clip(1 + 0.18 * noise_field(film, random, 0.9), 0.3, 1.4)
    add("stomach gas", -gas * folds * np.float32(0.8))
    liver = length(chest.ball(x, z, (-6.5, 0.5, -14.6), (7.4, 7.0, 5.2), 10))
    add("liver", liver * np.float32(0.05))


def _vessels(chest: Chest, lung_of, box, air, space, add) -> None:
    """Arteries and veins of both lungs, and the hila where they meet."""
    film, body = chest.film, chest.body
    random = np.random.default_rng(chest.random.integers(2**32))
    roots = {
        # side: arteries (root, heading, radius) and veins
        "right": (((-2.6, -0.6, -1.6), (-0.8, -0.2, -1.0), 0.86), ((-2.0, -1.2, -4.0), (-1, -0.3, -0.1), 0.68)),
        "left": (((2.9, -1.6, -0.6), (0.8, -0.5, -0.7), 0.86), ((2.2, -1.6, -3.6), (1, -0.3, -0.2), 0.66)),
    }
    for side, sign in SIDES.items():
        points = _fill(chest, sign, random, 1900)
        curves, radii = [], []
        for (root, heading, radius), share in zip(roots[side], (1.0, 0.75), strict=True):
            root = np.array([root[0], root[1], chest.up(root[2])])
            cloud = points[random.random(len(points)) < share]
            for vessel in grow(root, np.array(heading), cloud, radius * (0.9 + 0.1 * body.heart), random):
                sink = 1 + 0.26 * np.clip((chest.up(-1.5) - vessel.curve[:, 2]) / 5, -1, 0.8)  # lower vessels are fuller
                curves.append(film.turn(vessel.curve))
                radii.append(vessel.radius * sink)
        canvas = threads(film, curves, radii)
        inside = np.minimum(canvas[box], 0.6 * space) * (np.sign(film.x[:, box[1]]) == sign)
        add(f"{side} vessels", inside * air, box)


def _fill(chest: Chest, sign: int, random, count: int) -> np.ndarray:
    """Points spread evenly in one lung: (N, 3)."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        points = np.stack(
            [
                sign * random.uniform(0.5, 14.5, 4 * count) * chest.broad,
                random.uniform(-9.5, 9.5, 4 * count),
                chest.up(random.uniform(-21, APEX, 4 * count)),
            ],
            1,
        )
        x, y, z = points.T
        enter, leave = chest.cage(x, z)
        inside = (y > enter + 0.25) & (y < leave - 0.25)
        for enter, leave in (chest.abdomen(x, z), *chest.middle(x, z), *chest.heart(x, z)):
            inside &= ~((y > enter) & (y < leave))
        found.append(points[inside])
    return np.concatenate(found)[:count]


# ---------------------------------------------------------------------- bone


def _skeleton(chest: Chest, add) -> None:
    film, body = chest.film, chest.body
    random = np.random.default_rng(chest.random.integers(2**32))

    def put(name, canvas):
        add(name, soften(canvas, 0.022, film) * np.float32(body.bone))

    put("spine", _spine(chest, random))
    for side, sign in SIDES.items():
        for k in range(1, 13):
            put(f"{side} rib {k}", bone(film, *_rib(chest, k, sign, random), wall=0.10, marrow=0.28))
        put(f"{side} clavicle", _clavicle(chest, sign))
        put(f"{side} scapula", _scapula(chest, sign))
        put(f"{side} humerus", _humerus(chest, sign))


def _clavicle(chest: Chest, sign: int) -> np.ndarray:
    s, t = chest.body.shoulders, np.linspace(0, 1, 48)
    points = np.array([(1.7, 6.6, 7.6), (5.0, 7.3, 8.3), (9.6 * s, 5.2, 9.9), (13.4 * s, 1.6, 10.5), (17.4 * s, -0.6, 9.9)])
    if chest.body.view == "AP":
        points[:, 2] += (0.2, 0.3, 0.6, 0.9, 1.0)
    points *= (sign, 1, 1)
    points[:, 2] = chest.up(points[:, 2])
    high = np.interp(t, [0, 0.04, 0.12, 0.5, 0.8, 0.96, 1], [0.3, 0.75, 0.68, 0.48, 0.52, 0.6, 0.25])
    thick = np.interp(t, [0, 0.04, 0.12, 0.5, 0.8, 0.96, 1], [0.3, 0.7, 0.65, 0.5, 0.42, 0.36, 0.2])
    upright = np.zeros((len(t), 3)) + (0, 0.4, 1)
    return bone(chest.film, chest.film.turn(spline(points)), thick * 0 + high, thick, upright, wall=0.13, marrow=0.2)


def _rib(chest: Chest, k: int, sign: int, random):
    """One rib: centre line, half axes and outward normals."""
    film = chest.film
    head = chest.vertebra(k) + 0.15
    # The front of the ribs rises with inspiration.
    side, total = ASIDE[k - 1], DROP[k - 1] * (1.05 - 0.10 * chest.body.inspiration) + random.normal(0, 0.12)
    end = FRONT[k - 1] + random.normal(0, 0.006)
    knots = [(0.03, 0.0), (0.13, 0.35), (0.33, -0.42 * side), (0.5, -side), (0.66, -side - 0.62 * (total - side)), (0.84, -total)]
    phi = np.linspace(0.03, end, 120)
    z = head + curve_of(knots)(phi)
    below = np.sqrt(np.clip(APEX - z, 0.15, None))
    wall = 0.42
    width = at(INNER_WIDTH, below) * chest.broad + wall
    depth = at(INNER_DEPTH, below) * chest.broad**0.5 + wall
    middle = at(INNER_MIDDLE, below)
    if k == 1:
        width, depth, middle = 5.6 * chest.broad + 0 * width, 4.2 + 0 * depth, 0.6 + 0 * middle
    if k == 2:
        width, depth = np.minimum(width, 9.0 * chest.broad), np.maximum(depth, 4.6)
    theta = phi * np.pi
    s, c = np.sin(theta), np.cos(theta)
    # A superellipse: fuller at the flanks than an ellipse.
    x = width * np.abs(s) ** 0.86
    y = middle - depth * np.sign(c) * np.abs(c) ** 0.80
    x = np.maximum(x, 1.7 + 0.3 * phi)
    normal = np.stack([sign * s / width, -c / depth, np.zeros_like(s)], 1)
    if k == 1:
        normal[:, 2] = 0.9 * np.abs(normal[:, :2]).max(1)
    curve = np.stack([sign * x, y, chest.up(z)], 1)
    high = np.interp(phi, [0.07, 0.2, 0.55, 0.8], [0.52, 0.62, 0.66, 0.74]) * (1.12 if k == 1 else 0.78 if k > 10 else 1.0)
    thick = np.interp(phi, [0.07, 0.3, 0.8], [0.38, 0.36, 0.30])
    tip = np.clip((phi[-1] - phi) / 0.05, 0.25, 1) ** 0.5
    high = high * np.interp(phi, [0.03, 0.07], [0.6, 1.0])
    high, thick = high * (0.7 + 0.3 * tip), thick * (0.6 + 0.4 * tip)
    curve, normal = film.turn(curve), film.turn(normal)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal -= tangent * (normal * tangent).sum(1, keepdims=True)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return curve, high, thick, normal


def _spine(chest: Chest, random) -> np.ndarray:
    film = chest.film
    canvas = np.zeros((film.height, film.width), np.float32)
    x, z = film.x, film.z
    sway = random.normal(0, 0.10)
    for k in range(-2, 15):
        middle = chest.vertebra(k)
        pitch = chest.vertebra(k) - chest.vertebra(k + 1)
        half_height = 0.43 * pitch
        half_width = np.interp(k, [-2, 0, 1, 3, 6, 10, 14], [1.25, 1.35, 1.5, 1.38, 1.42, 1.7, 2.1])
        depth = np.interp(k, [-2, 1, 6, 12], [1.6, 1.9, 2.6, 3.2])
        back = np.interp(k, [-2, 1, 5, 9, 14], [-3.0, -4.6, -6.6, -6.8, -5.0])
        centre = film.turn(np.array([sway * np.sin(k / 3.0), back, chest.up(middle)]))
        (cx, cz), m = film.project(centre)
        w, h = half_width * m, half_height * chest.tall * m
        rows, columns = film.box((cx - 4.5, cz - 2.6), (cx + 4.5, cz + 2.6))
        if rows.start >= rows.stop:
            continue
        u, v = (x[:, columns] - cx) / w, (z[rows] - cz) / h
        waist = 1 - 0.09 * np.maximum(1 - v * v, 0)
        outline = np.maximum(1 - np.abs(u / waist) ** 2.6, 0) ** 0.7 * smooth((1.10 - np.abs(v)) / 0.22)
        plates = np.exp(-(((np.abs(v) - 0.93) / 0.055) ** 2)) * np.maximum(1 - np.abs(u) ** 4, 0) ** 0.5
        sides = np.exp(-(((np.abs(u / waist) - 0.95) / 0.05) ** 2)) * smooth((1.0 - np.abs(v)) / 0.1)
        body_bone = 0.17 * depth * outline + 0.12 * plates + 0.10 * sides
        canvas[rows, columns] += body_bone.astype(np.float32)
        # The neural arch behind hides half of the gap to the next one.
        arch = np.exp(-((u / 0.85) ** 4) - ((v + 0.55) / 0.75) ** 4)
        canvas[rows, columns] += (0.22 * arch).astype(np.float32)
        for sign in (-1, 1):
            # A pedicle is a short tube seen from its end.
            p = ((x[:, columns] - cx - sign * 0.64 * w) / 0.34) ** 2 + ((z[rows] - cz - 0.36 * h) / 0.44) ** 2
            ring = np.exp(-(((np.sqrt(p) - 0.9) / 0.22) ** 2))
            canvas[rows, columns] += (0.17 * ring + 0.10 * (p < 1)).astype(np.float32)
            if k >= 0:
                z0, long = middle + 0.45, np.interp(k, [0, 1, 5, 10, 12, 14], [2.0, 2.0, 1.7, 1.3, 0.9, 2.2])
                points = [(sign * 0.75 * half_width, back - 1.5, z0), (sign * (half_width + 0.5 * long), back - 2.4, z0 + 0.25), (sign * (half_width + long), back - 3.0, z0 + 0.35)]
                points = [(a, b, chest.up(c)) for a, b, c in points]
                canvas += 0.6 * bone(film, film.turn(spline(points, 10)), np.linspace(0.42, 0.25, 10), wall=0.10, marrow=0.15)
        # Spinous process: it slopes down, and its tip is seen end on.
        points = [(0, back - 2.0, middle - 0.1), (0, back - 3.2, middle - 0.8), (0, back - 4.4, middle - 1.5)]
        points = [(a + centre[0], b, chest.up(c)) for a, b, c in points]
        canvas += 0.55 * bone(film, film.turn(spline(points, 12)), np.linspace(0.2, 0.34, 12), wall=0.08, marrow=0.15)
    return canvas


def _scapula(chest: Chest, sign: int) -> np.ndarray:
    """Blade, borders, spine, acromion, coracoid and glenoid. With the arms forward it lies beside the lung."""
    film, body = chest.film, chest.body
    canvas = np.zeros((film.height, film.width), np.float32)
    out = (0.0 if body.view == "PA" else -2.6) + 14.0 * (body.shoulders - 1)

    def place(points):
        points = np.array(points, float)
        points[:, 0] = sign * (points[:, 0] + out)
        points[:, 2] = chest.up(points[:, 2])
        return film.turn(points)

    def border(points, high, weight=1.0, wall=CORTEX):
        nonlocal canvas
        t = np.linspace(0, 1, 32)
        ends = np.clip(np.minimum(t, 1 - t) / 0.04, 0.3, 1)
        high = np.interp(t, np.linspace(0, 1, len(high)), high) * ends
        canvas = canvas + np.float32(weight) * bone(film, place(spline(points, 32)), high, wall=wall, marrow=0.25)

    blade = place([(15.6, -4, 5.4), (15.3, -5, 2.0), (14.4, -6, -2.4), (13.7, -6.5, -4.2), (13.1, -6.5, -3.8), (12.2, -7, 0.5), (11.6, -7, 5.0), (11.9, -6.5, 8.4), (13.6, -5, 8.0), (15.0, -4, 7.6)])  # fmt: skip
    box, plate = polygon(film, film.project(blade)[0], 0.25)
    canvas[box] += plate * np.float32(0.2)
    border([(15.9, -3.5, 4.9), (15.35, -4.5, 2.2), (14.7, -5.5, -1.0), (14.0, -6.2, -3.6)], (0.55, 0.42, 0.36, 0.28), 0.5)
    border([(13.9, -6.2, -4.0), (12.9, -6.6, -3.2), (12.1, -7, 0.6), (11.6, -7, 5.0), (11.9, -6.6, 8.3)], (0.2, 0.16, 0.13, 0.15, 0.2), 0.8)
    border([(11.6, -7.5, 6.3), (13.6, -7.5, 7.6), (16.0, -6.0, 9.2), (18.3, -3.4, 10.0), (19.3, -1.0, 9.7)], (0.10, 0.22, 0.36, 0.55, 0.42), 0.6)
    border([(12.2, -5.5, 8.4), (13.8, -4.0, 8.3), (14.9, -2, 8.3)], (0.13, 0.16, 0.3), 0.8)
    border([(15.0, -2.2, 8.2), (14.9, 0.2, 8.7), (15.7, 2.2, 8.2)], (0.42, 0.45, 0.38), 0.35)
    ring = np.linspace(0, 2 * np.pi, 33)
    rim = np.stack([15.95 + 0.62 * np.cos(ring), -2.4 - 1.2 * np.cos(ring), 6.35 + 1.75 * np.sin(ring)], 1)
    return canvas + np.float32(0.6) * bone(film, place(rim), 0.17)


def _humerus(chest: Chest, sign: int) -> np.ndarray:
    s = chest.body.shoulders
    out = 1.0 + 18.0 * (s - 1) + (0.4 if chest.body.view == "AP" else 0)
    points = [(15.3, -0.7, 8.3), (16.6, -0.5, 7.4), (18.2, -0.2, 5.6), (19.4, 0.2, 3.0), (20.6, 0.8, -1.5), (22.6, 1.8, -11.0)]
    points = [(sign * (a + out), b, chest.up(c)) for a, b, c in points]
    curve = spline(points, 80)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    ball = np.sqrt(np.maximum(2.35**2 - (along - 2.35) ** 2, 0.04))  # the head, round at its end
    shaft = np.interp(along, [0, 3.2, 5.0, 8.0, 12], [0.2, 2.0, 1.65, 1.25, 1.1])
    high = np.where(along < 2.35, ball, np.maximum(np.where(along < 4.2, ball, 0), shaft))
    wall = np.interp(along, [0, 3.5, 6, 10], [0.10, 0.14, 0.25, 0.36])
    marrow = 0.16
    drawn = bone(chest.film, chest.film.turn(curve), high, wall=np.minimum(wall, 0.9 * high), marrow=marrow)
    return soften(drawn, 0.035, chest.film)
