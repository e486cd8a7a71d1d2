"""Words that DICOM defines: what else a header says in these places may be a name, and is not repeated.

Body parts are those of PS3.16 Annex L and PS3.3 that radiographs are made of; views those of PS3.3 C.8.1.1, C.8.11.5
and C.8.11.7, with what CR systems write.
"""

from __future__ import annotations

import re

UNPAIRED = frozenset(
    "CHEST THORAX ABDOMEN PELVIS SKULL HEAD NECK SPINE CSPINE TSPINE LSPINE SSPINE WHOLEBODY STERNUM SACRUM COCCYX "
    "HEART MEDIASTINUM TRACHEA".split()
)
BODY_PARTS = UNPAIRED | frozenset(
    "ANKLE ARM BREAST CALCANEUS CLAVICLE ELBOW EXTREMITY FEMUR FIBULA FINGER FOOT FOREARM HAND HIP HUMERUS JAW KNEE "
    "LEG LUNG MANDIBLE MAXILLA PATELLA RADIUS RIB RIBS SCAPULA SHOULDER THUMB TIBIA TOE ULNA WRIST ZYGOMA".split()
)
# Decubitus views (LLD, RLD) are frontal.
LATERAL_VIEWS = frozenset({"LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL", "LEFT LATERAL", "RIGHT LATERAL"})
VIEWS = LATERAL_VIEWS | frozenset(
    "AP PA LLD RLD LLO RLO RAO LAO RPO LPO CC MLO ML LM LMO SIO ISO XCCL XCCM FB AXIAL OBLIQUE".split()
)


def body_part(text: str) -> str:
    """The body part that a text names, or an empty one: "CHEST" of "Chest PA"."""
    words = re.findall("[A-Z]+", text.upper())
    return next((word for word in words if word in BODY_PARTS), "")
