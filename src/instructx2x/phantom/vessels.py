"""The pulmonary vessels: trees that grow from a hilum to fill a lung, each branch as thick as what it feeds needs."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

MURRAY = 2.55  # a parent's radius to this power is the sum of its children's
NEAR, FAR = 0.14, 0.42  # a branch goes this share of the way to the middle of what it feeds, at the root and far out
LEAF = 3  # points that a last branch feeds

Vessel = tuple[np.ndarray, np.ndarray]  # (N, 3) centre line, (N,) radius


def grow(root: np.ndarray, heading: np.ndarray, cloud: np.ndarray, radius: float, random) -> list[Vessel]:
    """Vessels that lead from a hilum to every part of a lung.

    The points are halved again and again by planes along the branch that feeds them (after Tawhai et al., 2000). A
    vessel goes on into the larger half; the smaller one gets a branch of its own.

    Args:
        root, heading: (3,) where the tree begins and which way it points.
        cloud: (N, 3) points that fill the lung evenly.
        radius: of the root, centimetres.
        random: a numpy Generator.
    """
    scale = radius / len(cloud) ** (1 / MURRAY)
    waiting = [(root, heading / np.linalg.norm(heading), cloud, radius)]
    vessels: list[Vessel] = []
    while waiting:
        start, heading, points, size = waiting.pop()
        path, radii = [start], [min(size, scale * len(points) ** (1 / MURRAY))]
        while True:
            size = scale * len(points) ** (1 / MURRAY)
            middle = points.mean(0)
            goal = middle - start
            distance = np.sqrt(goal @ goal) + 1e-9
            direction = goal / distance + 0.55 * heading + random.normal(0, 0.10, 3)
            direction /= np.sqrt(direction @ direction)
            last = len(points) <= LEAF or distance < 0.25
            share = 0.9 if last else NEAR + (FAR - NEAR) * min(np.log2(len(cloud) / len(points)) / 4, 1)
            step = direction * (distance * share)
            end = start + step
            path += [start + 0.5 * step + random.normal(0, 0.03, 3) * distance, end]
            radii += [size, 0.97 * size]
            if last:
                break
            # The plane holds the branch; it cuts where the points are widest across it.
            spread = points - middle
            spread = spread - np.outer(spread @ direction, direction)
            widest = spread[np.argmax((spread * spread).sum(1))]
            place = spread @ widest
            half = int(len(place) * random.uniform(0.32, 0.68))
            cut = np.partition(place, half)[half]
            low, high = points[place < cut], points[place >= cut]
            if not len(low) or not len(high):
                break
            larger, smaller = (low, high) if len(low) > len(high) else (high, low)
            waiting.append((end, direction, smaller, size))
            start, heading, points = end, direction, larger
        vessels.append(_rounded(np.array(path), np.array(radii)))
    return vessels


def _rounded(path: np.ndarray, radii: np.ndarray) -> Vessel:
    """A path without its corners; its ends stay."""
    number = np.arange(len(path))
    dense = np.linspace(0, len(path) - 1, 3 * len(path))
    fine = np.stack([np.interp(dense, number, column) for column in (*path.T, radii)], 1)
    rounded = gaussian_filter1d(fine, 2.0, axis=0, mode="nearest")
    rounded[0], rounded[-1] = fine[0], fine[-1]
    return rounded[:, :3], rounded[:, 3]
