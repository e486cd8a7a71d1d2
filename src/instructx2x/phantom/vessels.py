"""The pulmonary vessels: trees that grow from a hilum to fill a lung, each branch as thick as what it feeds asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

MURRAY = 2.6  # a parent's radius to this power is the sum of its children's
NEAR, FAR = 0.14, 0.42  # a branch goes this share of the way to the middle of what it feeds, at the root and far out
LEAF = 1.1  # centimetres between the points that a terminal vessel feeds


@dataclass(frozen=True)
class Vessel:
    """One vessel from where it leaves its parent to its end.

    Attributes:
        curve: (N, 3) centre line.
        radius: (N,).
    """

    curve: np.ndarray
    radius: np.ndarray


def grow(root: np.ndarray, heading: np.ndarray, cloud: np.ndarray, radius: float, random) -> list[Vessel]:
    """Vessels that lead from a hilum to every point of a lung.

    The points are halved again and again by planes along the branch that feeds them (after Tawhai et al., 2000).

    Args:
        root, heading: (3,) where the tree begins and which way it points.
        cloud: (N, 3) points that fill the lung evenly.
        radius: of the root, centimetres.
        random: a numpy Generator.
    """
    scale = radius / len(cloud) ** (1 / MURRAY)
    vessels: list[Vessel] = []

    def follow(start, heading, points, path, radii):
        """Lengthen one vessel along the larger halves; smaller halves become vessels of their own."""
        sides = []
        while True:
            size = scale * len(points) ** (1 / MURRAY)
            goal = points.mean(0) - start
            distance = np.linalg.norm(goal) + 1e-9
            direction = goal / distance + 0.55 * heading + random.normal(0, 0.10, 3)
            direction /= np.linalg.norm(direction)
            reach = NEAR + (FAR - NEAR) * min(np.log2(len(cloud) / len(points)) / 4, 1)
            step = direction * distance * (reach if len(points) > 2 else 0.8)
            end = start + step
            path.append(start + 0.5 * step + random.normal(0, 0.03, 3) * distance)
            path.append(end)
            radii += [size, size * 0.97]
            if len(points) <= 2 or distance < 0.25:
                break
            spread = points - points.mean(0)
            # The plane holds the branch; it cuts where the points are widest across it.
            spread = spread - np.outer(spread @ direction, direction)
            normal = np.linalg.eigh(spread.T @ spread)[1][:, -1]
            share = (points - end) @ normal
            cut = np.partition(share, middle := int(len(share) * random.uniform(0.32, 0.68)))[middle]
            low, high = points[share < cut], points[share >= cut]
            if not len(low) or not len(high):
                break
            larger, smaller = (low, high) if len(low) > len(high) else (high, low)
            sides.append((end, direction, smaller, size))
            start, heading, points = end, direction, larger
        curve = np.array(path)
        radii = np.array(radii)
        dense = np.linspace(0, len(curve) - 1, 3 * len(curve))
        fine = np.stack([np.interp(dense, np.arange(len(curve)), c) for c in curve.T], 1)
        smooth = gaussian_filter1d(fine, 2.0, axis=0, mode="nearest")
        smooth[0] = fine[0]
        vessels.append(Vessel(smooth, gaussian_filter1d(np.interp(dense, np.arange(len(curve)), radii), 2.0)))
        for end, direction, smaller, size in sides:
            child = scale * len(smaller) ** (1 / MURRAY)
            follow(end, direction, smaller, [end], [min(child, size)])

    follow(root, heading / np.linalg.norm(heading), cloud, [root], [radius])
    return vessels
