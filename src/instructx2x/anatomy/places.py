"""Where each finding of the language can be: its own map of experts' marks, or a declared anatomical
stand-in.

The experts' sources mark thirteen findings. For every other one this table says what is used in its stead and
why; the reason goes into the report, so that nobody takes a stand-in for evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

LUNGS = "lungs"
HEART = "heart"


@dataclass(frozen=True)
class Layer:
    """One part of a finding's place.

    Attributes:
        source: the name of a map of experts' marks (priors.py), of a region (regions.py), or LUNGS.
        within: a region that cuts the source down; None: all of it.
        limit: what of the patient bounds it: "lungs" (the lung fields and their rim), "recess" (also the pleural
            space below and beside them, where fluid hides the lung), "chest" (also what lies between the lungs),
            HEART (the patient's own heart, and what it takes up when it grows), or None (nothing).
    """

    source: str
    within: str | None = None
    limit: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a finding can be: the maximum of its layers.

    Attributes:
        layers: the parts.
        reason: why these, when the finding has no marks of its own; empty when it has.
    """

    layers: tuple[Layer, ...]
    reason: str = ""


_LUNGS = Layer(LUNGS, limit="lungs")
_EFFUSION = Layer("pleural effusion", limit="recess")
_HEART = Layer("cardiomegaly", limit=HEART)
_NODULE = Layer("nodule", limit="lungs")
_PNEUMONIA = Layer("pneumonia", limit="lungs")
_PNEUMOTHORAX = Layer("pneumothorax", limit="lungs")
_CALCIFICATION = Layer("calcification", limit="chest")

PLACES = {
    "pleural effusion": Place((_EFFUSION,)),
    "atelectasis": Place((Layer("atelectasis", limit="lungs"),)),
    "cardiomegaly": Place((_HEART,)),
    "enlargement of the cardiac silhouette": Place((_HEART,), "the same outline as cardiomegaly's"),
    "edema": Place((_LUNGS,), "no source marks edema; it is diffuse in both lungs"),
    "hernia": Place((Layer("hiatus"),), "no source marks hernias; the hiatal kind lies behind the heart"),
    "vascular congestion": Place((_LUNGS,), "no source marks it; the vessels run through all of both lungs"),
    "hilar congestion": Place((Layer("hila"),), "no source marks it; the hila by definition"),
    "pneumothorax": Place((_PNEUMOTHORAX,)),
    "heart failure": Place(
        (_HEART, _LUNGS, _EFFUSION),
        "no mark of its own; it shows as a large heart, congested lungs and effusions",
    ),
    "lung opacity": Place((Layer("lung opacity", limit="lungs"),)),
    "pneumonia": Place((_PNEUMONIA,)),
    "tortuosity of the descending aorta": Place(
        (Layer("descending aorta"),), "no source marks it; the aorta's course from the arch to the diaphragm"
    ),
    "scoliosis": Place((Layer("spine"),), "no source marks it; the spine and the room for its curve"),
    "gastric distention": Place((Layer("stomach"),), "no source marks it; the stomach lies under the left diaphragm"),
    "hypoxemia": Place((_LUNGS,), "not visible as such; whatever causes it shows in the lungs"),
    "hypertensive heart disease": Place(
        (_HEART, Layer("thoracic aorta")), "no mark of its own; it shows as a large heart and a long aorta"
    ),
    "hematoma": Place(
        (_LUNGS, Layer("mediastinum")),
        "no source marks it; it may lie in the lungs, the pleura or the mediastinum",
    ),
    "tortuosity of the thoracic aorta": Place(
        (Layer("thoracic aorta"),), "no source marks it; the aorta's course from the heart to the diaphragm"
    ),
    "contusion": Place((_LUNGS,), "no source marks it; a bruise of the lung may lie anywhere in it"),
    "emphysema": Place((Layer("emphysema", limit="lungs"),)),
    "granuloma": Place((_NODULE, _CALCIFICATION), "a small nodule, often calcified: the marks of both"),
    "calcification": Place((_CALCIFICATION,)),
    "pleural thickening": Place((Layer("pleural thickening", limit="recess"),)),
    "thymoma": Place((Layer("anterior mediastinum"),), "no source marks it; the thymus lies before the great vessels"),
    "blunting of the costophrenic angle": Place(
        (Layer("pleural effusion", within="costophrenic angles", limit="recess"),),
        "no mark of its own; the marks of effusion in the costophrenic angles",
    ),
    "consolidation": Place((Layer("consolidation", limit="lungs"),)),
    "fracture": Place((Layer("fracture"),)),
    "pneumomediastinum": Place((Layer("mediastinum"),), "no source marks it; the mediastinum by definition"),
    "air collection": Place((_PNEUMOTHORAX,), "no mark of its own; air mostly collects in the pleural space"),
    "infection": Place((_PNEUMONIA,), "the marks of pneumonia, the infection seen in a chest X-ray"),
    "nodule": Place((_NODULE,)),
    "mass": Place((Layer("mass", limit="lungs"),)),
}
