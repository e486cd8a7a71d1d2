"""Shapes with known ray sums: what length of a ray lies in an ellipsoid, between two surfaces, or in a tube.

A ray runs along y. `Interval`s say where it enters and leaves a shape, so that lengths of unions are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, signal

from instructx2x.phantom.film import CENTRE, Film

Interval = tuple[np.ndarray, np.ndarray]  # y at entry and exit; a ray that misses has the exit before the entry


def smooth(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, with a smooth step between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def rotation_in_plane(degrees: float) -> np.ndarray:
    """(3, 3) rotation in the film's plane; positive turns the x axis upwards."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def ellipsoid(film: Film, x: np.ndarray, z: np.ndarray, centre, axes, degrees: float = 0.0) -> Interval:
    """Where rays through (x, z), turned with the patient, are inside an ellipsoid.

    Args:
        film: for how the patient is turned.
        x, z: arrays that broadcast, in the plane y = 0.
        centre, axes: (3,) centimetres.
        degrees: turn of its axes in the film's plane.
    """
    turn = film.turning @ rotation_in_plane(degrees)
    shape = turn @ np.diag(1 / np.square(axes)) @ turn.T
    cx, cy, cz = film.turn(np.asarray(centre, float))
    m = film.magnification(cy)
    u, w = (x / m - cx).astype(np.float32), ((z - CENTRE) / m + CENTRE - cz).astype(np.float32)
    a, b = shape[1, 1], shape[0, 1] * u + shape[1, 2] * w
    c = shape[0, 0] * u * u + 2 * shape[0, 2] * u * w + shape[2, 2] * w * w - 1
    discriminant = b * b - a * c
    half = np.where(discriminant > 0, np.sqrt(np.maximum(discriminant, 0)), -1) / a
    middle = cy - b / a
    return (middle - half).astype(np.float32), (middle + half).astype(np.float32)


def length(interval: Interval) -> np.ndarray:
    return np.maximum(interval[1] - interval[0], 0)


def union(intervals: Sequence[Interval], within: Interval | None = None) -> np.ndarray:
    """Length of a ray inside at least one of several shapes, and inside `within`."""
    enter, leave = (np.stack(np.broadcast_arrays(*ends)) for ends in zip(*intervals, strict=True))
    if within is not None:
        enter, leave = np.maximum(enter, within[0]), np.minimum(leave, within[1])
    order = np.argsort(enter, axis=0)
    enter, leave = np.take_along_axis(enter, order, 0), np.take_along_axis(leave, order, 0)
    reached = np.full_like(enter[0], -np.inf)
    total = np.zeros_like(enter[0])
    for start, end in zip(enter, leave, strict=True):
        total += np.maximum(end - np.maximum(start, reached), 0)
        reached = np.where(end > start, np.maximum(reached, end), reached)
    return total


def hull(intervals: Sequence[Interval]) -> Interval:
    """From the first entry to the last exit, for shapes that overlap."""
    hits = [leave > enter for enter, leave in intervals]
    enter = np.minimum.reduce([np.where(hit, i[0], np.float32(1e3)) for hit, i in zip(hits, intervals, strict=True)])
    leave = np.maximum.reduce([np.where(hit, i[1], np.float32(-1e3)) for hit, i in zip(hits, intervals, strict=True)])
    return enter.astype(np.float32), leave.astype(np.float32)


def spline(points: Sequence[Sequence[float]], count: int = 48) -> np.ndarray:
    """A smooth curve through points of any dimension: (count, D)."""
    from scipy.interpolate import CubicSpline

    points = np.asarray(points, float)
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1) ** 0.5)]
    return CubicSpline(steps, points)(np.linspace(0, steps[-1], count))


def resample(curve: np.ndarray, values: Sequence[np.ndarray], step: float) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """A curve and values along it at even steps: (M, 3), each (M, ...), and the length that each point stands for."""
    lengths = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    along = np.r_[0, np.cumsum(lengths)]
    count = int(along[-1] / step) + 2
    there = (np.arange(count) + 0.5) * along[-1] / count

    def take(value):
        return np.stack([np.interp(there, along, column) for column in value.reshape(len(value), -1).T], 1)

    return take(curve), [take(value) for value in values], np.full(count, along[-1] / count)


def splat(film: Film, points: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Drops of matter on the film: cubic centimetres at turned points (N, 3) -> (H, W) centimetres along the rays."""
    flat, m = film.project(points)
    # float32 holds a place on the film to a thousandth of a pixel.
    column = (flat[:, 0] / film.pitch + (film.width / 2 - 0.5)).astype(np.float32)
    row = ((CENTRE - flat[:, 1]) / film.pitch + (film.height / 2 - 0.5)).astype(np.float32)
    here = (row > 0) & (row < film.height - 1) & (column > 0) & (column < film.width - 1)
    row, column, volumes = row[here], column[here], (volumes * m**2)[here] / film.pitch**2
    r0, c0 = row.astype(np.int32), column.astype(np.int32)
    fr, fc = row - r0, column - c0
    first = r0 * film.width + c0
    total = np.zeros(film.height * film.width)
    for offset, weight in (
        (0, (1 - fr) * (1 - fc)),
        (1, (1 - fr) * fc),
        (film.width, fr * (1 - fc)),
        (film.width + 1, fr * fc),
    ):
        total += np.bincount(first + offset, weight * volumes, len(total))
    return total.reshape(film.height, film.width).astype(np.float32)


GOLDEN = 0.6180339887


def bone(
    film: Film,
    curve: np.ndarray,
    high: np.ndarray | float,
    thick: np.ndarray | float | None = None,
    normals: np.ndarray | None = None,
    wall: np.ndarray | float = 0.1,
    marrow: float = 0.2,
) -> np.ndarray:
    """Path lengths in a long bone: a cortex of even thickness around marrow, as a cloud of drops spread evenly in both.

    Args:
        curve: (N, 3) centre line, turned.
        high, thick: (N,) half axes of the cross-section; `thick` along `normals`. A round bone has `high` alone.
        normals: (N, 3) turned, across the flat side.
        wall: (N,) thickness of the cortex.
        marrow: density of the marrow as a share of the cortex.

    Returns:
        (H, W) float32, centimetres of compact bone.
    """
    high = np.broadcast_to(np.asarray(high, float), len(curve))
    thick = high if thick is None else np.broadcast_to(np.asarray(thick, float), len(curve))
    wall = np.broadcast_to(np.asarray(wall, float), len(curve))
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    if normals is None:
        normals = np.array([0.31, 0.93, 0.2]) + np.zeros_like(curve)
    normals = normals - tangent * (normals * tangent).sum(1, keepdims=True)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    upward = np.cross(tangent, normals)
    curve, (high, thick, wall, normals, upward), steps = resample(
        curve, (high, thick, wall, normals, upward), 0.7 * film.pitch
    )
    around = max(int(2 * np.pi * high.max() / (1.1 * film.pitch)), 12)
    inside = max(int(np.pi * high.max() * thick.max() / (2.0 * film.pitch) ** 2), 12)
    number = np.arange(len(curve))[:, None]

    def drops(angle, share, volumes):
        a, b = share * high * np.sin(angle), share * thick * np.cos(angle)
        points = curve[:, None] + a[..., None] * upward[:, None] + b[..., None] * normals[:, None]
        return points.reshape(-1, 3), np.broadcast_to(volumes, angle.shape).ravel()

    # Golden ratios spread the drops of successive rings evenly, so that no pattern shows.
    angle = 2 * np.pi * ((np.arange(around) + GOLDEN * number * 7) / around % 1)
    perimeter = np.pi * (3 * (high + thick) - np.sqrt((3 * high + thick) * (high + 3 * thick)))
    depth = (np.arange(around) * GOLDEN + number * 0.7548) % 1
    share = 1 - wall * depth / np.maximum(np.minimum(high, thick), wall)
    # An even angle crowds drops where the outline is curved most: weigh each by the outline that it stands for.
    arc = np.sqrt((high * np.cos(angle)) ** 2 + (thick * np.sin(angle)) ** 2)
    volume = wall * perimeter * steps[:, None] * arc / arc.sum(1, keepdims=True)
    shell = drops(angle, share, volume)
    angle = 2 * np.pi * ((np.arange(inside) * GOLDEN + number * 0.5698) % 1)
    share = np.sqrt((np.arange(inside) + (number * 0.7548) % 1) / inside)
    core = np.maximum(high - wall, 0) * np.maximum(thick - wall, 0) * np.pi
    filling = drops(angle, share * (1 - wall / high), marrow * core * steps[:, None] / inside)
    total = splat(film, np.concatenate([shell[0], filling[0]]), np.concatenate([shell[1], filling[1]]))
    return total


def soften(image: np.ndarray, centimetres: float, film: Film) -> np.ndarray:
    """A blur of at least half a pixel."""
    return ndimage.gaussian_filter(image, max(centimetres / film.pitch, 0.6))


def threads(film: Film, curves: Sequence[np.ndarray], radii: Sequence[np.ndarray], bins: int = 12) -> np.ndarray:
    """Path lengths in many round tubes: each is a row of drops that keep its volume, blurred to its width.

    Args:
        curves: each (N, 3), turned; radii: each (N,).

    Returns:
        (H, W) float32.
    """
    parts = [resample(c, (r,), 0.6 * film.pitch) for c, r in zip(curves, radii, strict=True)]
    points = np.concatenate([p for p, _, _ in parts])
    widths = np.concatenate([w[0][:, 0] for _, w, _ in parts])
    volumes = np.concatenate([steps for _, _, steps in parts]) * np.pi * widths**2
    canvas = np.zeros((film.height, film.width), np.float32)
    edges = np.geomspace(widths.min() * 0.999, widths.max() * 1.001, bins + 1)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        here = (widths >= low) & (widths < high)
        if here.any():
            canvas += round_blur(splat(film, points[here], volumes[here]), (low * high) ** 0.5 / film.pitch)
    return canvas


def round_blur(drops: np.ndarray, radius: float) -> np.ndarray:
    """Drops become balls of a radius in pixels: a row of balls is a round tube."""
    if radius < 2.5:
        # The profile of a round tube has half its radius as standard deviation.
        return ndimage.gaussian_filter(drops, max(0.5 * radius, 0.35))
    reach = int(radius) + 1
    grid = np.arange(-reach, reach + 1)
    ball = np.sqrt(np.maximum(radius**2 - grid[:, None] ** 2 - grid[None] ** 2, 0)).astype(np.float32)
    return signal.fftconvolve(drops, ball / ball.sum(), "same").astype(np.float32)


def polygon(film: Film, corners: np.ndarray, soft: float) -> tuple[tuple[slice, slice], np.ndarray]:
    """A thin plate: 1 inside a closed outline, falling to 0 within `soft` centimetres inside its edge.

    Args:
        corners: (N, 2) x and z in the plane y = 0.
    """
    from PIL import Image, ImageDraw

    box = film.box(corners.min(0) - soft, corners.max(0) + soft)
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
    if 0 in shape:
        return box, np.zeros(shape, np.float32)
    columns = corners[:, 0] / film.pitch + film.width / 2 - box[1].start
    rows = film.height / 2 - (corners[:, 1] - CENTRE) / film.pitch - box[0].start
    canvas = Image.new("L", (shape[1] * 2, shape[0] * 2))
    ImageDraw.Draw(canvas).polygon([(float(c) * 2, float(r) * 2) for c, r in zip(columns, rows, strict=True)], fill=1)
    inside = np.asarray(canvas)
    distance = ndimage.distance_transform_edt(inside).reshape(shape[0], 2, shape[1], 2).mean((1, 3)) / 2 * film.pitch
    return box, smooth(distance / soft).astype(np.float32)
