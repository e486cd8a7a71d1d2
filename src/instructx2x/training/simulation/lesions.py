"""What can be simulated, and how a lesion is drawn, painted and named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from instructx2x.errors import InputError
from instructx2x.instructions import Edit, Operation
from instructx2x.instructions.vocabulary import FINDINGS
from instructx2x.training.simulation import painters
from instructx2x.training.simulation.chest import Chest
from instructx2x.training.simulation.transplants import RealLesion, either, transplant

SIZES = {"minimal": 1.0, "small": 2.0, "moderate": 3.0, "large": 4.2}
GRADES = {"minimal": 1.0, "mild": 2.0, "moderate": 3.0, "severe": 4.5}


@dataclass(frozen=True)
class Trait:
    """How a finding is drawn.

    Attributes:
        painter: paints it.
        share: how often it is drawn, relative to the others.
        bilateral: probability that it is on both sides.
        zones: zones and their weights; "" lets the painter choose.
        levels: words and the severities they stand for.
    """

    painter: painters.Painter
    share: float
    bilateral: float = 0.0
    zones: tuple[tuple[str, float], ...] = (("", 1.0),)
    levels: tuple[tuple[str, float], ...] = tuple(GRADES.items())


LUNG_ZONES = (("upper", 0.22), ("middle", 0.25), ("lower", 0.4), ("perihilar", 0.08), ("apical", 0.05))
BASES = (("lower", 0.55), ("basal", 0.4), ("middle", 0.05))


def load_outlines(data: Path) -> dict[str, list[np.ndarray]]:
    """Radiologists' outlines of the open data by their finding: lists of (n, 2) arrays of (x, y) frame fractions."""
    path = data / "chestxdet_polygons.jsonl.gz"
    if not path.is_file():
        raise InputError(f"{path} not found: give the folder of the open data with --data")
    outlines: dict[str, list[np.ndarray]] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            mark = json.loads(line)
            points = np.asarray(mark["points"], dtype=np.float32)
            if len(points) > 3 and np.ptp(points, axis=0).min() > 0.02:
                outlines.setdefault(mark["finding"], []).append(points)
    return outlines


def traits(outlines: dict[str, list[np.ndarray]], real: Sequence[RealLesion] = ()) -> dict[str, Trait]:
    """The findings that can be simulated. Those that look alike on a film share a painter.

    Args:
        outlines: of `load_outlines`.
        real: lesions to transplant beside the painted ones; without them everything is painted.
    """
    dense = painters.air_space((0.28, 0.42, 0.58, 0.72, 0.82), (3.0, 7.0), outlines["Consolidation"])
    patchy = painters.air_space((0.2, 0.34, 0.5, 0.64, 0.78), (4.0, 9.0), outlines["Consolidation"])
    hazy = painters.air_space((0.16, 0.27, 0.4, 0.54, 0.68), (5.0, 11.0), outlines["Consolidation"])
    effusion, atelectasis = painters.effusion, painters.atelectasis

    def with_real(painter: painters.Painter, share: float, *names: str) -> painters.Painter:
        lesions = [lesion for lesion in real if set(names) & set(lesion.findings)]
        return either(painter, transplant(lesions), share) if lesions else painter

    effusion = with_real(effusion, 0.3, "pleural effusion")
    atelectasis = with_real(atelectasis, 0.2, "atelectasis")
    dense = with_real(dense, 0.35, "consolidation", "pneumonia")
    patchy = with_real(patchy, 0.4, "pneumonia", "lung opacity")
    hazy = with_real(hazy, 0.4, "lung opacity", "pneumonia")
    sizes = tuple(SIZES.items())
    return {
        "pleural effusion": Trait(effusion, 2.5, 0.15, levels=sizes),
        "blunting of the costophrenic angle": Trait(painters.effusion, 0.3, 0.1, levels=(("", 1.2),)),
        "cardiomegaly": Trait(painters.cardiomegaly, 1.4),
        "enlargement of the cardiac silhouette": Trait(painters.cardiomegaly, 0.6),
        "edema": Trait(painters.edema, 1.5, 1.0),
        "vascular congestion": Trait(painters.congestion, 0.5, 1.0),
        "consolidation": Trait(dense, 1.2, 0.15, LUNG_ZONES),
        "pneumonia": Trait(patchy, 1.2, 0.2, LUNG_ZONES),
        "infection": Trait(patchy, 0.3, 0.2, LUNG_ZONES),
        "lung opacity": Trait(hazy, 1.2, 0.2, LUNG_ZONES),
        "atelectasis": Trait(atelectasis, 1.3, 0.3, BASES),
        "pneumothorax": Trait(painters.pneumothorax, 1.2, levels=sizes),
        "nodule": Trait(painters.nodule, 1.6, zones=LUNG_ZONES, levels=sizes),
        "mass": Trait(painters.mass, 1.0, zones=LUNG_ZONES, levels=sizes),
        "pleural thickening": Trait(
            painters.pleural_thickening, 0.9, 0.0, (("", 0.5), ("apical", 0.25), ("lower", 0.25))
        ),
    }


@dataclass(frozen=True)
class Lesion:
    """A drawn lesion: everything that decides how it looks. Side and zone are "" where the finding has none."""

    finding: str
    side: str
    zone: str
    level: str
    severity: float
    seed: int

    def at_level(self, level: str, severity: float) -> Lesion:
        """The same lesion, of another level."""
        return replace(self, level=level, severity=severity)

    def paint(self, chest: Chest, view: str, traits: dict[str, Trait]) -> np.ndarray:
        """The chest with this lesion: (S, S) float32 in [0, 1]. The same lesion on the same chest is the same image."""
        painter = traits[self.finding].painter
        image = chest.image
        # Findings that know no both-sided form are painted side by side.
        one_by_one = self.side == "bilateral" and self.finding in ONE_BY_ONE
        for number, side in enumerate(("right", "left") if one_by_one else (self.side,)):
            rng = np.random.default_rng((self.seed, number))
            image = painter(replace(chest, image=image), side, self.zone, self.severity, view, rng)
        return np.clip(image, 0, 1).astype(np.float32)

    def edit(self, operation: Operation, rng: np.random.Generator, from_level: str | None = None) -> Edit:
        """Name this lesion. Level and zone are often left out, the side rarely: as people do."""
        known = FINDINGS[self.finding]
        said_level = self.level and known.has_level and (operation is Operation.CHANGE or rng.random() < 0.5)
        said_zone = self.zone and known.has_zone and rng.random() < 0.5
        # Edema is on both sides unless said otherwise.
        said_side = self.side and known.has_side and rng.random() < (0.15 if self.finding in BOTH else 0.85)
        return Edit(
            operation,
            self.finding,
            side=self.side if said_side else None,
            zone=self.zone if said_zone else None,
            level=self.level if said_level else None,
            from_level=from_level,
        )


BOTH = ("edema", "vascular congestion")
ONE_BY_ONE = ("pleural effusion", "blunting of the costophrenic angle", "pleural thickening")


def draw(traits: dict[str, Trait], rng: np.random.Generator, finding: str | None = None) -> Lesion:
    """Draw a lesion at random; of the finding, if one is given."""
    if finding is None:
        names = list(traits)
        shares = np.array([traits[name].share for name in names])
        finding = names[rng.choice(len(names), p=shares / shares.sum())]
    trait, known = traits[finding], FINDINGS[finding]
    side = "bilateral" if rng.random() < trait.bilateral else str(rng.choice(("left", "right")))
    zones, weights = zip(*trait.zones, strict=True)
    zone = str(rng.choice(zones, p=np.array(weights) / sum(weights)))
    level, severity = trait.levels[int(rng.integers(len(trait.levels)))]
    severity = float(np.clip(severity + rng.uniform(-0.3, 0.3), 1, 5))
    return Lesion(finding, side if known.has_side else "", zone, level, severity, int(rng.integers(2**31)))


def changed_region(before: np.ndarray, after: np.ndarray, least: float = 0.012) -> np.ndarray:
    """Where two images differ visibly: (S, S) bool, specks below `least` of brightness left out."""
    return ndimage.gaussian_filter(np.abs(after - before), 1.0) > least


def corrupt(chest: Chest, donor: np.ndarray, region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spoil a region with what no painter makes: another patient's pixels, blur, a blob, a ramp.

    Pairs (spoiled, clean) teach removal what healthy lung looks like, rather than how to undo a painter.

    Args:
        donor: (S, S) float32 image of another patient.
        region: (S, S) bool, where the spoiling is visible.
    """
    kind = rng.integers(4)
    soft = ndimage.gaussian_filter(region.astype(np.float32), rng.uniform(1.5, 4))
    image = chest.image
    if kind == 0:
        shift = rng.integers(-40, 41, 2)
        foreign = np.roll(donor, shift, axis=(0, 1))
        foreign = foreign - foreign[region].mean() + image[region].mean() + rng.uniform(0.0, 0.25)
    elif kind == 1:
        foreign = ndimage.gaussian_filter(image, rng.uniform(4, 10)) + rng.uniform(0, 0.3)
    elif kind == 2:
        cloud = ndimage.gaussian_filter(rng.standard_normal(image.shape), rng.uniform(2, 10))
        foreign = image + rng.uniform(0.1, 0.3) + 0.1 * cloud / (cloud.std() + 1e-6)
    else:
        rows, columns = chest.grid
        angle = rng.uniform(0, 2 * np.pi)
        ramp = (np.cos(angle) * (columns - columns[region].mean()) + np.sin(angle) * (rows - rows[region].mean())) / 80
        foreign = image + 0.2 + 0.2 * ramp
    return np.clip(image + soft * rng.uniform(0.5, 1.0) * (foreign - image), 0, 1).astype(np.float32)
