"""Whose chest it is: the few numbers that make one body differ from another."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from instructx2x.errors import InputError

RANGES = {
    "height": (0.85, 1.15),
    "breadth": (0.85, 1.15),
    "padding": (0.0, 6.0),
    "breasts": (0.0, 1.0),
    "heart": (0.85, 1.6),
    "aorta": (0.0, 1.0),
    "inspiration": (0.0, 1.0),
    "bone": (0.5, 1.3),
    "rotation": (-12.0, 12.0),
    "shoulders": (0.85, 1.15),
}


@dataclass(frozen=True)
class Body:
    """A standing or sitting adult before the film. The defaults are a man of ordinary build, PA, in full inspiration.

    Attributes:
        view: "PA" (the tube behind the patient, the arms forward) or "AP" (the tube in front and near, a larger heart
            shadow, shoulder blades over the lungs, the patient leaning back).
        height: of the trunk, 0.85 to 1.15 of an ordinary one.
        breadth: of the chest, 0.85 (slender) to 1.15.
        padding: centimetres of fat around the chest wall, 0 to 6; an ordinary man has 1.
        breasts: 0 (a man's) to 1 (large).
        heart: size of the heart, 0.85 to 1.6 of an ordinary one.
        aorta: 0 (young) to 1 (elongated and wide, as in old age).
        inspiration: 0 (poor: high diaphragm, denser lungs) to 1 (full).
        bone: mineral of the skeleton, 0.5 (osteoporosis) to 1.3.
        rotation: of the patient about the vertical axis, -12 to 12 degrees; positive turns the front to the image's
            right.
        shoulders: breadth of the shoulders, 0.85 to 1.15.

    Raises:
        InputError: a number outside its range, or another view.
    """

    view: str = "PA"
    height: float = 1.0
    breadth: float = 1.0
    padding: float = 1.0
    breasts: float = 0.0
    heart: float = 1.0
    aorta: float = 0.3
    inspiration: float = 1.0
    bone: float = 1.0
    rotation: float = 0.0
    shoulders: float = 1.0

    def __post_init__(self) -> None:
        if self.view not in ("PA", "AP"):
            raise InputError(f"view {self.view!r:.40}: a phantom is seen PA or AP; choose one of them.")
        for field in fields(self):
            if field.name in RANGES:
                low, high = RANGES[field.name]
                value = getattr(self, field.name)
                if not low <= value <= high:
                    raise InputError(f"{field.name} {value}: outside the range of a body; use {low:g} to {high:g}.")


BODIES = {
    "man": Body(),
    "woman": Body(height=0.93, breadth=0.92, padding=1.5, breasts=0.6, shoulders=0.92, bone=0.9, heart=0.97),
    "slender": Body(height=1.05, breadth=0.9, padding=0.2, shoulders=0.95, heart=0.92, aorta=0.1),
    "large": Body(breadth=1.08, padding=4.0, heart=1.1, inspiration=0.75, aorta=0.5),
    "old": Body(height=0.97, padding=0.6, aorta=1.0, bone=0.7, heart=1.08, inspiration=0.85),
    "AP": Body(view="AP", inspiration=0.7, padding=1.5, heart=1.05),
    "rotated": Body(rotation=7.0),
    "poor inspiration": Body(inspiration=0.1),
}


def any_body(seed: int) -> Body:
    """A body drawn at random: of either sex and any age, mostly PA."""
    random = np.random.default_rng(seed)
    woman, old = random.random() < 0.5, random.random()
    base = BODIES["woman"] if woman else BODIES["man"]

    def near(value: float, spread: float, name: str) -> float:
        return float(np.clip(random.normal(value, spread), *RANGES[name]))

    view = "AP" if random.random() < 0.25 else "PA"
    return Body(
        view=view,
        height=near(base.height, 0.03, "height"),
        breadth=near(base.breadth, 0.03, "breadth"),
        padding=near(base.padding + 0.6, 0.8, "padding"),
        breasts=near(base.breasts, 0.2, "breasts") if woman else 0.0,
        heart=near(base.heart + 0.08 * old, 0.05, "heart"),
        aorta=float(old),
        inspiration=near(0.85 if view == "PA" else 0.6, 0.15, "inspiration"),
        bone=near(base.bone - 0.15 * old, 0.06, "bone"),
        rotation=near(0.0, 2.0, "rotation"),
        shoulders=near(base.shoulders, 0.03, "shoulders"),
    )
