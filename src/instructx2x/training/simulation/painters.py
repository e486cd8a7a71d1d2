"""One painter per finding: (chest, side, zone, severity, view, rng) -> the image with that finding in it.

Every painter draws the same random numbers whatever the severity, so two calls with equal generators and different
severities show the same lesion at two levels. Severity runs from 1 (minimal) to 5 (massive), on the language's scale.
Brightness stands for attenuation, so density is added by moving towards the patient's own soft tissue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from instructx2x.training.simulation.chest import Chest, sigmoid, texture, whiten

ZONE_CENTRE = {"apical": 0.1, "upper": 0.22, "middle": 0.48, "lower": 0.74, "basal": 0.86}
LEVEL_KNOTS = (1.0, 2.0, 3.0, 4.0, 5.0)

Outlines = Sequence[np.ndarray]
Painter = Callable[[Chest, str, str, float, str, np.random.Generator], np.ndarray]


def by_level(severity: float, values: Sequence[float]) -> float:
    """Linear between the values given for severities 1 to 5."""
    return float(np.interp(severity, LEVEL_KNOTS, values))


def effusion(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
    """Fluid that fills the costophrenic angle under a meniscus; lying down it layers into a veil as well."""
    u, v = chest.coordinates(side)
    jitter, medial, bend, edge = (
        rng.uniform(0.85, 1.2),
        rng.uniform(0.1, 0.55),
        rng.uniform(1.2, 3),
        rng.uniform(0.02, 0.05),
    )
    lying = view == "AP" and rng.random() < 0.5
    cloud = texture(chest.size, rng, (8, 16, 32))
    height = by_level(severity, (0.1, 0.22, 0.4, 0.62, 0.88)) * jitter
    # With much fluid the level flattens out: the medial part catches up with the lateral one.
    medial = medial + (0.9 - medial) * np.clip((height - 0.3) / 0.6, 0, 1)
    surface = 1 - height * (medial + (1 - medial) * np.clip(u, 0, 1.1) ** bend) + 0.012 * cloud
    depth = v - surface
    alpha = 0.94 * sigmoid(depth / edge) + 0.22 * sigmoid((depth + 0.1) / 0.05) * sigmoid(-depth / edge)
    if lying:
        veil = by_level(severity, (0.08, 0.16, 0.28, 0.42, 0.6)) * np.clip(0.25 + 0.9 * v, 0, 1.1)
        alpha = np.maximum(0.85 * alpha * sigmoid((v - 0.75) / 0.08), veil * (1 + 0.08 * cloud))
    tissue = chest.soft_tissue(side) * (0.93 + 0.06 * np.clip(depth, 0, 1)) + 0.01 * cloud
    return whiten(chest.image, np.clip(alpha, 0, 0.97) * chest.inside(side, 2.5), tissue)


def edema(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
    """Haze that spreads from both hila, thicker below, with vessels that lose their outline but gain width."""
    spread, gravity, bat = rng.uniform(0.4, 0.65), rng.uniform(0.1, 0.4), rng.uniform(0.6, 1.0)
    strength = by_level(severity, (0.13, 0.24, 0.38, 0.54, 0.7)) * rng.uniform(0.85, 1.15)
    fine, cloud = texture(chest.size, rng, (2, 3, 5)), texture(chest.size, rng, (10, 20))
    image = chest.image
    detail = image - ndimage.gaussian_filter(image, 2.5)
    for lung in ("right", "left") if side == "bilateral" else (side,):
        u, v = chest.coordinates(lung)
        wing = np.exp(-(((u - 0.15) / spread) ** 2) - ((v - 0.5) / 0.36) ** 2)
        alpha = strength * (bat * wing + gravity * np.clip(v, 0, 1) + 0.15)
        alpha = np.clip(alpha * (1 + 0.13 * cloud + 0.05 * fine), 0, 0.85) * chest.inside(lung, 1.0, 2.0)
        image = whiten(image, alpha, 0.95 * chest.soft_tissue(lung)) + 0.45 * alpha * detail
    return image


def congestion(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
    """Vessels that stand out far into the lung, over the first breath of an edema."""
    image = edema(chest, side, zone, 1 + 0.35 * (severity - 1), view, rng)
    detail = ndimage.gaussian_filter(chest.image, 0.7) - ndimage.gaussian_filter(chest.image, 5)
    for lung in ("right", "left") if side == "bilateral" else (side,):
        gain = by_level(severity, (0.25, 0.4, 0.6, 0.8, 1.0))
        image = image + gain * np.maximum(detail, 0) * chest.inside(lung, -1, 2.0)
    return image


def cardiomegaly(
    chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator
) -> np.ndarray:
    """A wider heart: the image is magnified around the heart, more across than along, and the lungs give way."""
    top = min(chest.boxes["right"][0], chest.boxes["left"][0])
    bottom = max(chest.boxes["right"][1], chest.boxes["left"][1])
    shift, drop, jitter = rng.uniform(0.03, 0.09), rng.uniform(0.64, 0.74), rng.uniform(0.92, 1.1)
    centre_x = chest.midline + shift * chest.width
    centre_y = top + drop * (bottom - top)
    rows, columns = chest.grid
    dx, dy = columns - centre_x, rows - centre_y
    # The reach to either side ends just before the ribs, which must stay where they are.
    reach_left = 0.97 * (chest.boxes["left"][3] - centre_x)
    reach_right = 0.97 * (centre_x - chest.boxes["right"][3])
    reach = np.where(dx > 0, reach_left, reach_right)
    r2 = (dx / reach) ** 2 + (dy / (0.42 * (bottom - top))) ** 2
    falloff = np.clip(1 - r2, 0, None) ** 2
    gain = 1 - 1 / by_level(severity, (1.18, 1.4, 1.7, 2.1, 2.6))
    gain = min(gain * jitter, 0.68)
    source = (rows - 0.25 * gain * falloff * dy, columns - gain * falloff * dx)
    return ndimage.map_coordinates(chest.image, source, order=1, mode="nearest")


def pneumothorax(
    chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator
) -> np.ndarray:
    """Air outside the lung: beyond a thin pleural line, highest at the apex, the markings are gone."""
    u, v = chest.coordinates(side)
    apical, wave, dark, line = (
        rng.uniform(0.9, 1.3),
        rng.uniform(-1, 1),
        rng.uniform(0.25, 0.5),
        rng.uniform(0.06, 0.12),
    )
    tail = rng.uniform(0.25, 0.9)
    collapse = by_level(severity, (0.06, 0.12, 0.2, 0.33, 0.5))
    lung = (chest.lungs[side] > 0.5).astype(np.float32)
    # Depth under the lateral and apical wall only: the mediastinal side does not come away.
    depth = ndimage.distance_transform_edt((lung > 0) | ((u < 0.4) & (v > 0.02)) | (v > 0.97))
    height = chest.boxes[side][1] - chest.boxes[side][0]
    gap = collapse * height * (apical * np.exp(-((v / 0.4) ** 2)) + tail * 0.5 * np.clip(1 - v, 0, 1))
    gap = gap * (1 + 0.12 * wave * np.sin(6 * v)) * sigmoid((u + 0.1 - 0.4 * np.clip(v - 0.15, 0, 1)) / 0.12)
    # The air keeps off the outline's last pixels: blurred chest wall must not come in.
    pixel = chest.size / 256
    inside = sigmoid((gap - depth) / (0.6 * pixel))
    rim = np.clip((ndimage.distance_transform_edt(lung) / pixel - 0.5) / 3, 0, 1)
    inside = inside * ndimage.gaussian_filter(rim, pixel)
    # Vessels are bright and thin and go; ribs are broader and stay.
    bones = ndimage.grey_opening(chest.image, footprint=_disk(1.2 * pixel))
    bones = ndimage.gaussian_filter(bones, 0.8 * pixel)
    air = float(np.quantile(chest.image[lung > 0], 0.05))
    darker = bones - 0.5 * dark * np.maximum(bones - air, 0) - 0.3 * dark * bones * (1 - bones)
    image = chest.image + inside * (np.minimum(darker, chest.image) - chest.image)
    edge = np.exp(-(((depth - gap) / (0.9 * pixel)) ** 2)) * lung * sigmoid((gap / pixel - 2.5) / 0.5)
    collapsed = np.clip(lung - inside, 0, 1) * 0.45 * collapse
    return whiten(image, collapsed, chest.soft_tissue(side)) + line * edge


def _disk(radius: float) -> np.ndarray:
    """Pixels within a radius: (n, n) bool."""
    reach = int(np.ceil(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.hypot(rows, columns) <= radius


def nodule(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
    """A small ball (up to about 3 cm)."""
    return _ball(chest, side, zone, by_level(severity, (2.6, 3.4, 4.8, 6.4, 8.0)), rng)


def mass(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
    """A ball larger than a nodule, with a less regular outline."""
    return _ball(chest, side, zone, by_level(severity, (9, 11, 14.5, 19, 25)), rng)


def _ball(chest: Chest, side: str, zone: str, radius: float, rng: np.random.Generator) -> np.ndarray:
    y, x = place_in_lung(chest, side, zone, rng)
    rows, columns = chest.grid
    angle = np.arctan2(rows - y, columns - x)
    outline = 1 + sum(rng.uniform(-0.1, 0.1) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    stretch, turn = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
    density, radius = rng.uniform(0.5, 0.8), radius * rng.uniform(0.9, 1.1) * chest.size / 256
    a = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    b = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
    r = np.hypot(a * stretch, b / stretch) / (radius * outline)
    chord = np.sqrt(np.clip(1 - r**2, 0, None))
    alpha = ndimage.gaussian_filter(density * chord**0.7, 0.7)
    return whiten(chest.image, alpha * chest.inside(side, 2.0), chest.soft_tissue(side))


def pleural_thickening(
    chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator
) -> np.ndarray:
    """A band along the inside of the lateral chest wall, often with a cap at the apex."""
    u, v = chest.coordinates(side)
    cloud, centre = texture(chest.size, rng, (6, 12, 24)), ZONE_CENTRE.get(zone, rng.uniform(0.2, 0.7))
    extent, density = rng.uniform(0.18, 0.4), rng.uniform(0.5, 0.75)
    thickness = by_level(severity, (2.2, 3.2, 4.8, 7.0, 10.0)) * chest.size / 256
    lung = chest.lungs[side] > 0.5
    depth = ndimage.distance_transform_edt(lung)
    along = np.exp(-(((v - centre) / extent) ** 2)) * sigmoid((u - 0.45 + 0.5 * (v < 0.15)) / 0.06)
    band = sigmoid((thickness * np.clip(along * (1 + 0.15 * cloud), 0, 1.4) - depth) / 0.7) * along.clip(0, 1) ** 0.5
    return whiten(chest.image, density * band * chest.inside(side, 1.5, 0.8), chest.soft_tissue(side))


def atelectasis(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
    """Lung without air that has lost volume: plates across the lower zone and a base that rises and condenses."""
    image = chest.image
    rows, columns = chest.grid
    plates = int(rng.integers(1, 4))
    lift = by_level(severity, (0.0, 0.01, 0.03, 0.06, 0.1)) * rng.uniform(0.5, 1.3)
    haze = by_level(severity, (0.05, 0.18, 0.36, 0.55, 0.72)) * rng.uniform(0.7, 1.2)
    cloud = texture(chest.size, rng, (3, 6, 12, 24))
    for lung in ("right", "left") if side == "bilateral" else (side,):
        u, v = chest.coordinates(lung)
        top, bottom, _, _ = chest.boxes[lung]
        centre = ZONE_CENTRE.get(zone, 0.8)
        inside = chest.inside(lung, 1.5, 1.5)
        hull = ndimage.gaussian_filter(chest.inside(lung, 8.0), 4)
        if centre > 0.6:
            raised = rows + lift * (bottom - top) * hull * np.clip((v - 0.35) / 0.6, 0, 1)
            image = np.where(
                hull > 0.01, ndimage.map_coordinates(image, (raised, columns), order=1, mode="nearest"), image
            )
        tissue = chest.soft_tissue(lung)
        reach = rng.uniform(0.16, 0.26)
        if centre > 0.6:
            block = sigmoid((v - (1 - 1.25 * reach) + 0.03 * cloud) / 0.05)
        else:
            block = np.exp(-(((v - centre) / (0.5 * reach)) ** 2)) * sigmoid((0.75 - u) / 0.15)
        image = whiten(image, np.clip(haze * block * (1 + 0.2 * cloud), 0, 0.9) * inside, 0.95 * tissue)
        for _ in range(plates):
            y = top + (centre + rng.uniform(-0.08, 0.08)) * (bottom - top)
            slope, bow, width = rng.uniform(-0.35, 0.35), rng.uniform(-0.15, 0.15), rng.uniform(0.8, 2.2)
            from_u, to_u, density = rng.uniform(0.05, 0.45), rng.uniform(0.55, 0.95), rng.uniform(0.2, 0.42)
            run = (u - 0.5) * chest.width / 2
            distance = rows - (y + slope * run + bow * run * (2 * u - 1))
            strip = np.exp(-((distance / width) ** 2)) * sigmoid((u - from_u) / 0.05) * sigmoid((to_u - u) / 0.05)
            level = by_level(severity, (0.6, 0.8, 1.0, 1.1, 1.2))
            image = whiten(image, np.clip(level * density * strip, 0, 0.8) * inside, tissue)
    return image


def air_space(density: Sequence[float], softness: tuple[float, float], outlines: Outlines) -> Painter:
    """Painter of an air-space opacity: an expert's outline, clouded, soft at its rim, within the lung.

    Args:
        density: share of the air replaced at severities 1 to 5.
        softness: range of the rim's blur, in pixels at 256.
        outlines: (n, 2) arrays of (x, y) fractions of the frame, as radiologists drew them.
    """

    def paint(chest: Chest, side: str, zone: str, severity: float, view: str, rng: np.random.Generator) -> np.ndarray:
        image = chest.image
        for lung in ("right", "left") if side == "bilateral" else (side,):
            patches = 1 + int(rng.random() < 0.35)
            alpha = np.zeros_like(image)
            cloud, fine = texture(chest.size, rng, (6, 12, 24)), texture(chest.size, rng, (2, 3))
            for _ in range(patches):
                y, x = place_in_lung(chest, lung, zone, rng)
                points = outlines[int(rng.integers(len(outlines)))]
                growth = by_level(severity, (0.55, 0.75, 1.0, 1.3, 1.65)) * rng.uniform(0.85, 1.15) / patches**0.5
                shape = _outline_at(points, y, x, growth, chest, rng)
                soft = rng.uniform(*softness)
                blurred = ndimage.gaussian_filter(shape, soft * chest.size / 256)
                # Straight outlines fray: the rim wanders with the cloud.
                frayed = sigmoid((blurred - 0.45 + 0.2 * cloud * (0.3 + blurred)) / (0.12 + 0.015 * soft))
                alpha = np.maximum(alpha, frayed * np.clip(4 * blurred, 0, 1))
            alpha = alpha * by_level(severity, density) * rng.uniform(0.85, 1.15) * (1 + 0.2 * cloud + 0.06 * fine)
            tissue = chest.soft_tissue(lung)
            image = whiten(image, np.clip(alpha, 0, 0.82) * chest.inside(lung, 1.0, 1.5), 0.92 * tissue)
        return image

    return paint


def place_in_lung(chest: Chest, side: str, zone: str, rng: np.random.Generator) -> tuple[float, float]:
    """A point of the lung in the zone's band (any, when the zone is "") and off the lung's rim: (row, column)."""
    u, v = chest.coordinates(side)
    lung = chest.lungs[side] > 0.5
    depth = ndimage.distance_transform_edt(lung)
    # Where the lung is white already, under the diaphragm or behind the heart, nothing would be seen.
    airy = ndimage.gaussian_filter(chest.image, 3 * chest.size / 256) < 0.82 * chest.soft_tissue(side)
    allowed = (depth > 4) & (u > 0.1)
    allowed = allowed & airy if (allowed & airy).any() else allowed
    if zone == "perihilar":
        allowed &= (np.abs(v - 0.45) < 0.15) & (u < 0.45)
    elif zone == "retrocardiac":
        allowed &= (v > 0.6) & (u < 0.35)
    elif zone:
        band = allowed & (np.abs(v - ZONE_CENTRE[zone]) < 0.12)
        allowed = band if band.any() else allowed
    rows, columns = np.nonzero(allowed if allowed.any() else lung)
    pick = int(rng.random() * len(rows))
    return float(rows[pick]), float(columns[pick])


def _outline_at(
    points: np.ndarray, y: float, x: float, growth: float, chest: Chest, rng: np.random.Generator
) -> np.ndarray:
    """Rasterise an outline, centred on (y, x), turned a little and scaled: (S, S) float32 of 0 and 1."""
    centred = points - (points.min(0) + points.max(0)) / 2
    # Outlines wider than half a thorax or smaller than a nodule make poor patches: bring them into that range.
    extent = np.clip(np.ptp(centred, axis=0).max(), 0.1, 0.34)
    centred = centred / max(np.ptp(centred, axis=0).max(), 1e-3) * extent * growth * chest.size
    turn, mirror = rng.uniform(-0.5, 0.5), rng.choice((-1, 1))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = (centred * (mirror, 1)) @ rotation + (x, y)
    canvas = Image.new("L", (chest.size, chest.size))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in moved], fill=255)
    return np.asarray(canvas, dtype=np.float32) / 255
