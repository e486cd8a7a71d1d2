"""The bones of the chest as lengths of compact bone along every ray."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from instructx2x.phantom.film import CENTRE, Film
from instructx2x.phantom.shapes import Patch, bone, on_film, smooth, spline
from instructx2x.phantom.thorax import SIDES, Thorax, table

# Of each rib: how far it falls from its head to its outermost point and to its front end, and where that end is on the
# way from back (0) to front (1).
ASIDE = (0.6, 1.1, 1.8, 2.7, 3.4, 3.9, 4.3, 4.6, 5.0, 5.6, 7.5, 9.5)
FRONT = (4.0, 6.0, 7.0, 7.6, 8.2, 8.7, 9.2, 9.4, 9.2, 8.6, 9.5, 11.0)
END = (0.80, 0.83, 0.83, 0.83, 0.83, 0.82, 0.79, 0.73, 0.67, 0.60, 0.40, 0.24)


def skeleton(thorax: Thorax, random: np.random.Generator) -> dict[str, Patch]:
    """Every bone by name, each an array of centimetres of compact bone."""
    found = {"spine": _spine(thorax, random)}
    for side, sign in SIDES.items():
        for number in range(1, 13):
            found[f"{side} rib {number}"] = _rib(thorax, number, sign, random)
        found[f"{side} clavicle"] = _clavicle(thorax, sign)
        found[f"{side} scapula"] = _scapula(thorax, sign)
        found[f"{side} humerus"] = _humerus(thorax, sign)
    return found


def _place(thorax: Thorax, points, sign: int = 1, out: float = 0.0) -> np.ndarray:
    """Points of the left half of the ordinary body, as this patient stands: (N, 3)."""
    points = np.array(points, float)
    points[:, 0] = sign * (points[:, 0] + out)
    points[:, 2] = thorax.up(points[:, 2])
    return thorax.film.turn(points)


def _rib(thorax: Thorax, number: int, sign: int, random: np.random.Generator) -> Patch:
    k = number - 1
    # The front of the ribs rises with inspiration.
    front = FRONT[k] * (1.08 - 0.13 * thorax.body.inspiration) + random.normal(0, 0.12)
    way = np.linspace(0.03, END[k] + random.normal(0, 0.006), 120)
    fall = table(
        [0.03, 0.13, 0.33, 0.5, 0.66, 0.84],
        [0.0, 0.35, -0.42 * ASIDE[k], -ASIDE[k], -ASIDE[k] - 0.62 * (front - ASIDE[k]), -front],
    )
    z = thorax.vertebra(number) + 0.15 + fall(way)
    # The first ribs are rings of their own within the cage's top.
    width, depth, middle = (np.array(axis, float) for axis in thorax.cage_axes(np.minimum(z, 11.25)))
    width, depth = width + 0.42, depth + 0.42
    if number == 1:
        width[:], depth[:], middle[:] = 5.6 * thorax.body.breadth, 4.2, 0.6
    if number == 2:
        width, depth = np.minimum(width, 9.0 * thorax.body.breadth), np.maximum(depth, 4.6)
    s, c = np.sin(way * np.pi), np.cos(way * np.pi)
    x = np.maximum(width * s**0.86, 1.7 + 0.3 * way)
    y = middle - depth * np.sign(c) * np.abs(c) ** 0.80
    normal = np.stack([sign * s / width, -c / depth, np.zeros_like(s)], 1)
    if number == 1:  # it lies flat on the apex
        normal[:, 2] = 0.9 * np.abs(normal[:, :2]).max(1)
    # Slender where it leaves the spine, blunt where the cartilage begins.
    tip = np.clip((way[-1] - way) / 0.05, 0.25, 1) ** 0.5
    high = np.interp(way, [0.03, 0.07, 0.2, 0.55, 0.8], [0.30, 0.50, 0.62, 0.66, 0.74]) * (0.7 + 0.3 * tip)
    thick = np.interp(way, [0.03, 0.07, 0.3, 0.8], [0.25, 0.38, 0.36, 0.30]) * (0.6 + 0.4 * tip)
    floating = number > 10
    high = high * (1.12 if number == 1 else 0.7 if floating else 1.0)
    curve = _place(thorax, np.stack([x, y, z], 1), sign)
    wall, marrow = (0.06, 0.18) if floating else (0.10, 0.28)
    return bone(thorax.film, curve, high, thick, thorax.film.turn(normal), wall=wall, marrow=marrow)


def _spine(thorax: Thorax, random: np.random.Generator) -> Patch:
    film, sway = thorax.film, random.normal(0, 0.10)
    patches: list[Patch] = []
    for number in range(-3, 17):
        middle = thorax.vertebra(number)
        half_height = 0.43 * (middle - thorax.vertebra(number + 1))
        half_width = np.interp(number, [-2, 0, 1, 3, 6, 10, 14], [1.25, 1.35, 1.5, 1.38, 1.42, 1.7, 2.1])
        depth = np.interp(number, [-2, 1, 6, 12], [1.6, 1.9, 2.6, 3.2])
        back = np.interp(number, [-2, 1, 5, 9, 14], [-3.0, -4.6, -6.6, -6.8, -5.0])
        side = sway * np.sin(number / 3.0)
        (cx, cz), m = film.project(_place(thorax, [(side, back, middle)])[0])
        w, h = half_width * m, half_height * thorax.body.height * m
        rows, columns = film.box((cx - 3.2, cz - 2.6), (cx + 3.2, cz + 2.6))
        x, z = film.x[:, columns] - cx, film.z[rows] - cz
        if x.size and z.size:
            patches.append(((rows, columns), _vertebra(x, z, w, h, depth)))
        for sign in SIDES.values():
            if number >= 0:
                long = np.interp(number, [0, 1, 5, 10, 12, 14], [2.0, 2.0, 1.7, 1.3, 0.9, 2.2])
                ends = [
                    (0.75 * half_width, 1.5, 0.45),
                    (half_width + 0.5 * long, 2.4, 0.7),
                    (half_width + long, 3, 0.8),
                ]
                curve = spline([(a, back - b, middle + c) for a, b, c in ends], 10)
                high = np.linspace(0.42, 0.25, 10)
                patches.append(_lighter(bone(film, _place(thorax, curve, sign), high, marrow=0.15), 0.45))
        # The spinous process slopes down, and its tip is seen end on.
        curve = spline([(side, back - b, middle - c) for b, c in ((2.0, 0.1), (3.2, 0.8), (4.4, 1.5))], 12)
        high = np.linspace(0.2, 0.34, 12)
        patches.append(_lighter(bone(film, _place(thorax, curve), high, wall=0.08, marrow=0.15), 0.5))
    return on_film(film, patches)


def _lighter(patch: Patch, share: float) -> Patch:
    return patch[0], patch[1] * np.float32(share)


def _vertebra(x: np.ndarray, z: np.ndarray, w: float, h: float, depth: float) -> np.ndarray:
    """Body with its end plates, arch and pedicles around (0, 0); w and h are the body's half axes."""
    u, v = x / w, z / h
    waist = 1 - 0.09 * np.maximum(1 - v * v, 0)
    across = np.maximum(1 - np.abs(u / waist) ** 2.6, 0)
    found = 0.17 * depth * across * smooth((1.10 - np.abs(v)) / 0.22)
    found += 0.12 * np.exp(-(((np.abs(v) - 0.93) / 0.055) ** 2)) * np.maximum(1 - np.abs(u) ** 4, 0) ** 0.5
    found += 0.06 * np.exp(-(((np.abs(u / waist) - 0.95) / 0.05) ** 2)) * smooth((1.0 - np.abs(v)) / 0.1)
    # The arch behind hides half of the gap to the next body.
    found += 0.22 * np.exp(-((u / 0.85) ** 4) - ((v + 0.55) / 0.75) ** 4)
    for sign in SIDES.values():  # a pedicle is a short tube seen from its end
        ring = np.sqrt(((x - sign * 0.64 * w) / 0.34) ** 2 + ((z - 0.36 * h) / 0.44) ** 2)
        found += 0.17 * np.exp(-(((ring - 0.9) / 0.22) ** 2)) + 0.10 * smooth((1.1 - ring) / 0.2)
    return np.where(found > 1e-3, found, 0).astype(np.float32)


def _clavicle(thorax: Thorax, sign: int) -> Patch:
    s = thorax.body.shoulders
    points = np.array(
        [(1.7, 6.6, 7.6), (5.0, 7.3, 8.3), (9.6 * s, 5.2, 9.9), (13.4 * s, 1.6, 10.5), (17.4 * s, -0.6, 9.9)]
    )
    if thorax.body.view == "AP":  # the tube looks up at the front
        points[:, 2] += (0.2, 0.3, 0.6, 0.9, 1.0)
    way = np.linspace(0, 1, 48)
    high = np.interp(way, [0, 0.04, 0.12, 0.5, 0.8, 0.96, 1], [0.3, 0.72, 0.66, 0.48, 0.52, 0.58, 0.25])
    thick = np.interp(way, [0, 0.04, 0.12, 0.5, 0.8, 0.96, 1], [0.3, 0.7, 0.65, 0.5, 0.42, 0.36, 0.2])
    upright = np.broadcast_to([0.0, 0.4, 1.0], (len(way), 3))
    return bone(thorax.film, _place(thorax, spline(points), sign), high, thick, upright, wall=0.13, marrow=0.2)


def _scapula(thorax: Thorax, sign: int) -> Patch:
    """Blade, borders, spine with acromion, coracoid and glenoid. With the arms forward it lies beside the lung."""
    film = thorax.film
    out = (0.0 if thorax.body.view == "PA" else -2.6) + 14.0 * (thorax.body.shoulders - 1)
    blade = [
        (15.6, -4, 5.4),
        (15.3, -5, 2.0),
        (14.4, -6, -2.4),
        (13.7, -6.5, -4.2),
        (13.1, -6.5, -3.8),
        (12.2, -7, 0.5),
    ]
    blade += [(11.6, -7, 5.0), (11.9, -6.5, 8.4), (13.6, -5, 8.0), (15.0, -4, 7.6)]
    patches = [_plate(film, film.project(_place(thorax, blade, sign, out))[0], 0.5, 0.2)]
    for points, high, share in (
        ([(15.9, -3.5, 4.9), (15.3, -4.5, 2.2), (14.7, -5.5, -1), (14, -6.2, -3.6)], (0.55, 0.42, 0.36, 0.28), 0.5),
        ([(13.9, -6, -4), (12.9, -6.6, -3.2), (12, -7, 0.6), (11.6, -7, 5), (11.9, -6.6, 8.3)], (0.2, 0.13, 0.2), 0.5),
        ([(11.6, -7.5, 6.3), (13.6, -7.5, 7.6), (16, -6, 9.2), (18, -3, 10), (19.3, -1, 9.7)], (0.1, 0.36, 0.5), 0.5),
        ([(12.2, -5.5, 8.4), (13.8, -4.0, 8.3), (14.9, -2, 8.3)], (0.15, 0.18, 0.3), 0.4),
        ([(15.0, -2.2, 8.2), (14.9, 0.2, 8.7), (15.7, 2.2, 8.2)], (0.42, 0.45, 0.38), 0.3),
    ):
        way = np.linspace(0, 1, 32)
        blunt = np.clip(np.minimum(way, 1 - way) / 0.06, 0.3, 1) ** 0.5
        thick = np.interp(way, np.linspace(0, 1, len(high)), high) * blunt
        patches.append(_lighter(bone(film, _place(thorax, spline(points, 32), sign, out), thick, marrow=0.25), share))
    ring = np.linspace(0, 2 * np.pi, 33)
    rim = np.stack([15.95 + 0.62 * np.cos(ring), -2.4 - 1.2 * np.cos(ring), 6.35 + 1.75 * np.sin(ring)], 1)
    patches.append(_lighter(bone(film, _place(thorax, rim, sign, out), 0.17), 0.5))
    return on_film(film, patches)


def _plate(film: Film, corners: np.ndarray, soft: float, thick: float) -> Patch:
    """A thin plate inside a closed outline (N, 2), thinner within `soft` centimetres of its edge."""
    (rows, columns), fine = film.box(corners.min(0) - soft, corners.max(0) + soft), 2
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if 0 in shape:
        return (rows, columns), np.zeros(shape, np.float32)
    across = (corners[:, 0] / film.pitch + film.width / 2 - columns.start) * fine
    down = (film.height / 2 - (corners[:, 1] - CENTRE) / film.pitch - rows.start) * fine
    canvas = Image.new("L", (shape[1] * fine, shape[0] * fine))
    ImageDraw.Draw(canvas).polygon([(float(a), float(d)) for a, d in zip(across, down, strict=True)], fill=1)
    inside = distance_transform_edt(np.asarray(canvas)) * (film.pitch / fine)
    inside = inside.reshape(shape[0], fine, shape[1], fine).mean((1, 3))
    return (rows, columns), (thick * smooth(inside / soft)).astype(np.float32)


def _humerus(thorax: Thorax, sign: int) -> Patch:
    out = 1.0 + 18.0 * (thorax.body.shoulders - 1) + (0.4 if thorax.body.view == "AP" else 0)
    points = [
        (15.3, -0.7, 8.3),
        (16.6, -0.5, 7.4),
        (18.2, -0.2, 5.6),
        (19.4, 0.2, 3.0),
        (20.6, 0.8, -1.5),
        (22.6, 1.8, -11),
    ]
    curve = spline(points, 80)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    ball = np.sqrt(np.maximum(2.35**2 - (along - 2.35) ** 2, 0.04))  # the head, round at its end
    shaft = np.interp(along, [0, 3.2, 5.0, 8.0, 12], [0.2, 2.0, 1.65, 1.25, 1.1])
    high = np.where(along < 2.35, ball, np.maximum(np.where(along < 4.2, ball, 0), shaft))
    wall = np.minimum(np.interp(along, [0, 3.5, 6, 10], [0.10, 0.14, 0.25, 0.36]), 0.9 * high)
    return bone(thorax.film, _place(thorax, curve, sign, out), high, wall=wall, marrow=0.16, soft=0.04)
