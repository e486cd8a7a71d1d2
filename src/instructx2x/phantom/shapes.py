"""Shapes whose ray sums are known: ellipsoids, unions of them, round tubes, and hollow bones.

A ray runs along y. An `Interval` says where it enters and leaves a shape, so that lengths of unions are exact. What is
long and thin is made of drops that keep its volume: their sum along a ray is the path in it, however it turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage, signal
from scipy.interpolate import CubicSpline

from instructx2x.phantom.film import CENTRE, Box, Film

Interval = tuple[np.ndarray, np.ndarray]  # y at entry and exit; a ray that misses has the exit before the entry
Patch = tuple[Box, np.ndarray]  # rows and columns of the film, and centimetres along the rays in them

GOLDEN = 0.6180339887
LEAST = 0.01  # centimetres; a blur's thinner rim is no part of a bone


def smooth(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, with a smooth step between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def spline(points: Sequence[Sequence[float]], count: int = 48) -> np.ndarray:
    """A smooth curve through points: (K, D) -> (count, D)."""
    points = np.asarray(points, float)
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1) ** 0.5)]
    return CubicSpline(steps, points)(np.linspace(0, steps[-1], count))


# ---------------------------------------------------------------------- volumes


def ellipsoid(
    film: Film, x: np.ndarray, z: np.ndarray, centre: Sequence[float], axes: Sequence[float], degrees: float = 0.0
) -> Interval:
    """Where rays are inside an ellipsoid that turns with the patient.

    Args:
        film: for how the patient stands, and from where the rays come.
        x, z: where rays cross the plane y = 0; arrays that broadcast.
        centre, axes: (3,) centimetres.
        degrees: turn of the axes in the film's plane; positive lifts its x axis.
    """
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = film.turning @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    shape = turn @ np.diag(1 / np.square(axes)) @ turn.T
    cx, cy, cz = film.turn(np.asarray(centre, float))
    m = film.magnification(cy)
    u, w = (x / m - cx).astype(np.float32), ((z - CENTRE) / m + CENTRE - cz).astype(np.float32)
    a, b, c = shape.astype(np.float32)[[1, 0, 1], [1, 1, 2]]
    slope = b * u + c * w
    rest = np.float32(shape[0, 0]) * u * u + np.float32(2 * shape[0, 2]) * u * w + np.float32(shape[2, 2]) * w * w - 1
    square = slope * slope - a * rest
    half = np.where(square > 0, np.sqrt(np.maximum(square, 0)), -1) / a
    middle = np.float32(cy) - slope / a
    return middle - half, middle + half


def length(interval: Interval) -> np.ndarray:
    """Centimetres between entry and exit; 0 where the ray misses."""
    return np.maximum(interval[1] - interval[0], 0)


def hull(intervals: Sequence[Interval]) -> Interval:
    """From the first entry to the last exit, for shapes that overlap."""
    hits = [leave > enter for enter, leave in intervals]
    enter = [np.where(hit, i[0], np.float32(1e3)) for hit, i in zip(hits, intervals, strict=True)]
    leave = [np.where(hit, i[1], np.float32(-1e3)) for hit, i in zip(hits, intervals, strict=True)]
    return np.minimum.reduce(enter), np.maximum.reduce(leave)


def union(intervals: Sequence[Interval], within: Interval) -> np.ndarray:
    """Length of a ray inside at least one of several shapes, and inside `within`."""
    enter, leave = (np.stack(np.broadcast_arrays(*ends)) for ends in zip(*intervals, strict=True))
    enter, leave = np.maximum(enter, within[0]), np.minimum(leave, within[1])
    order = np.argsort(enter, axis=0)
    enter, leave = np.take_along_axis(enter, order, 0), np.take_along_axis(leave, order, 0)
    reached = np.full_like(enter[0], -np.inf)
    total = np.zeros_like(enter[0])
    for start, end in zip(enter, leave, strict=True):
        total += np.maximum(end - np.maximum(start, reached), 0)
        reached = np.where(end > start, np.maximum(reached, end), reached)
    return total


# ---------------------------------------------------------------------- what is long and thin


def resample(
    curve: np.ndarray, values: Sequence[np.ndarray], step: float
) -> tuple[np.ndarray, list[np.ndarray], float]:
    """A curve and values along it at even steps: (M, 3), each (M, D), and the length of a step."""
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    count = int(along[-1] / step) + 2
    there = (np.arange(count) + 0.5) * along[-1] / count

    def take(value: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(there, along, column) for column in value.reshape(len(value), -1).T], 1)

    return take(curve), [take(value) for value in values], along[-1] / count


def splat(film: Film, points: np.ndarray, volumes: np.ndarray, margin: int) -> Patch:
    """Drops on the film: (N, 3) turned points, (N,) cubic centimetres; the patch has room for a blur of `margin`."""
    flat, m = film.project(points)
    column = flat[:, 0] / film.pitch + (film.width / 2 - 0.5)
    row = (CENTRE - flat[:, 1]) / film.pitch + (film.height / 2 - 0.5)
    # A blur beyond the film's edge reaches back into it.
    here = (row > -margin) & (row < film.height + margin) & (column > -margin) & (column < film.width + margin)
    if not here.any():
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    row, column, volumes = row[here], column[here], (volumes * m**2)[here] / film.pitch**2
    top, left = int(np.floor(row.min())) - margin, int(np.floor(column.min())) - margin
    height, width = int(row.max()) - top + margin + 2, int(column.max()) - left + margin + 2
    r0, c0 = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = row - r0, column - c0
    first = (r0 - top) * width + (c0 - left)
    total = np.zeros(height * width)
    for offset, weight in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (width, down * (1 - right)),
        (width + 1, down * right),
    ):
        total += np.bincount(first + offset, weight * volumes, len(total))
    return (slice(top, top + height), slice(left, left + width)), total.reshape(height, width).astype(np.float32)


def on_film(film: Film, patches: Sequence[Patch]) -> Patch:
    """The sum of patches, without what lies beside the film."""
    patches = [patch for patch in patches if patch[1].size]
    if not patches:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    top = max(min(box[0].start for box, _ in patches), 0)
    bottom = max(min(max(box[0].stop for box, _ in patches), film.height), top)
    left = max(min(box[1].start for box, _ in patches), 0)
    right = max(min(max(box[1].stop for box, _ in patches), film.width), left)
    total = np.zeros((bottom - top, right - left), np.float32)
    for (rows, columns), values in patches:
        r = slice(max(rows.start, top), min(rows.stop, bottom))
        c = slice(max(columns.start, left), min(columns.stop, right))
        if r.start < r.stop and c.start < c.stop:
            part = values[r.start - rows.start : r.stop - rows.start, c.start - columns.start : c.stop - columns.start]
            total[r.start - top : r.stop - top, c.start - left : c.stop - left] += part
    return (slice(top, bottom), slice(left, right)), total


def tubes(film: Film, curves: Sequence[np.ndarray], radii: Sequence[np.ndarray], bins: int = 12) -> Patch:
    """Round tubes: each is a row of drops that keep its volume, blurred to its width.

    Args:
        curves: each (N, 3), turned; radii: each (N,).
        bins: widths that are told apart.
    """
    parts = [resample(c, (r,), 0.6 * film.pitch) for c, r in zip(curves, radii, strict=True)]
    points = np.concatenate([p for p, _, _ in parts])
    widths = np.concatenate([w[:, 0] for _, (w,), _ in parts])
    volumes = np.concatenate([np.full(len(p), step) for p, _, step in parts]) * np.pi * widths**2
    edges = np.geomspace(widths.min() * 0.999, widths.max() * 1.001, bins + 1)
    patches = []
    for low, high in pairwise(edges):
        here = (widths >= low) & (widths < high)
        if here.any():
            radius = (low * high) ** 0.5 / film.pitch
            box, drops = splat(film, points[here], volumes[here], int(2 * radius) + 3)
            patches.append((box, _round(drops, radius) if drops.size else drops))
    return on_film(film, patches)


def _round(drops: np.ndarray, radius: float) -> np.ndarray:
    """Drops become discs of a radius in pixels: the sum of a row of discs has the profile of a round tube."""
    if radius < 2.5:
        # The profile of a round tube has half its radius as standard deviation.
        return ndimage.gaussian_filter(drops, max(0.5 * radius, 0.35), mode="constant")
    grid = np.arange(-int(radius) - 1, int(radius) + 2)
    disc = np.clip(radius + 0.5 - np.hypot(grid[:, None], grid[None]), 0, 1)
    rounded = np.maximum(signal.fftconvolve(drops, disc / disc.sum(), "same"), 0)
    # What rounding leaves where no drop is near must not count as part of the tube.
    return np.where(ndimage.maximum_filter(drops, len(grid)) > 0, rounded, 0).astype(np.float32)


def bone(
    film: Film,
    curve: np.ndarray,
    high: np.ndarray | float,
    thick: np.ndarray | float | None = None,
    normals: np.ndarray | None = None,
    wall: np.ndarray | float = 0.1,
    marrow: float = 0.2,
    soft: float = 0.022,
) -> Patch:
    """A long bone: a cortex of even thickness around marrow, as drops spread evenly in both.

    Args:
        curve: (N, 3) centre line, turned.
        high, thick: (N,) half axes of the cross-section; `thick` along `normals`. A round bone has `high` alone.
        normals: (N, 3) turned, across the flat side.
        wall: (N,) thickness of the cortex.
        marrow: density of the marrow as a share of the cortex.
        soft: blur that joins the drops, centimetres.
    """
    count = len(curve)
    high, wall = (np.broadcast_to(np.asarray(value, float), count) for value in (high, wall))
    thick = high if thick is None else np.broadcast_to(np.asarray(thick, float), count)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    normals = np.broadcast_to([0.31, 0.93, 0.2], curve.shape) if normals is None else normals
    normals = normals - tangent * (normals * tangent).sum(1, keepdims=True)
    normals = normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)
    upward = np.cross(tangent, normals)
    around = max(int(2 * np.pi * high.max() / (1.2 * film.pitch)), 12)
    inside = max(int(np.pi * high.max() * thick.max() / (2.2 * film.pitch) ** 2), 12)
    curve, (high, thick, wall, normals, upward), step = resample(
        curve, (high, thick, wall, normals, upward), 0.8 * film.pitch
    )
    ring = np.arange(len(curve))[:, None]

    def drops(angle: np.ndarray, share: np.ndarray) -> np.ndarray:
        a, b = share * high * np.sin(angle), share * thick * np.cos(angle)
        return (curve[:, None] + a[..., None] * upward[:, None] + b[..., None] * normals[:, None]).reshape(-1, 3)

    # Golden ratios spread the drops of successive rings evenly, so that no pattern shows.
    turn = 2 * np.pi * ((np.arange(around) + 7 * GOLDEN * ring) / around % 1)
    depth = (np.arange(around) * GOLDEN + ring * 0.7548) % 1
    # An even angle crowds drops where the outline is curved most: weigh each by the outline that it stands for.
    arc = np.sqrt((high * np.cos(turn)) ** 2 + (thick * np.sin(turn)) ** 2)
    shell = drops(turn, 1 - wall * depth / np.maximum(np.minimum(high, thick), wall))
    shell_volume = wall * (1 - wall / (high + thick)) * step * arc * (2 * np.pi / around)
    turn = 2 * np.pi * ((np.arange(inside) * GOLDEN + ring * 0.5698) % 1)
    share = np.sqrt((np.arange(inside) + (ring * 0.7548) % 1) / inside)
    core = drops(turn, share * np.maximum(1 - wall / high, 0))
    core_area = np.pi * np.maximum(high - wall, 0) * np.maximum(thick - wall, 0)
    core_volume = np.broadcast_to(marrow * step * core_area / inside, turn.shape)
    sigma = max(soft / film.pitch, 0.6)
    box, total = splat(
        film,
        np.concatenate([shell, core]),
        np.concatenate([shell_volume.ravel(), core_volume.ravel()]),
        int(4 * sigma) + 1,
    )
    if total.size:
        total = ndimage.gaussian_filter(total, sigma, mode="constant")
        total[total < LEAST] = 0
    return on_film(film, [(box, total)])
