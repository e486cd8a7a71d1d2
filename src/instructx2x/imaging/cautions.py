"""What a DICOM header says that makes an edit doubtful, though the image can be read."""

from __future__ import annotations

import pydicom

from .header import listed
from .terms import LATERAL_VIEWS, body_part

LATERAL_MEANINGS = {"lateral", "left lateral", "right lateral", "left-lateral", "right-lateral"}


def of(dataset: pydicom.Dataset) -> tuple[str, ...]:
    """Warnings about a data set, one line each; only what its header states, no guess from the pixels."""
    found = []
    mammogram = dataset.get("Modality") == "MG"
    part = str(dataset.get("BodyPartExamined") or "").upper()[:16]
    if mammogram:
        found.append("the source is a mammogram; models and anatomy are those of frontal chest X-rays")
    elif part and not any(word in part for word in ("CHEST", "THORAX", "LUNG", "RIB", "HEART")):
        # Whatever else stands there may be a name.
        named = repr(body_part(part)) if body_part(part) else "not a chest's"
        found.append(f"BodyPartExamined is {named}; models and anatomy are those of frontal chest X-rays")
    if _is_lateral(dataset) and not mammogram:
        found.append("the header says a lateral view; models and anatomy are those of frontal views")
    if _is_raw(dataset):
        found.append("the source is FOR PROCESSING, raw detector values; use the FOR PRESENTATION image")
    if any(0x6000 <= tag.group <= 0x60FF for tag in dataset.keys()):
        found.append("overlays (60xx) are no part of the image and are not written")
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        found.append(
            "the header says that text in the pixels names the patient (BurnedInAnnotation); edits show it too"
        )
    return tuple(found)


def _is_lateral(dataset: pydicom.Dataset) -> bool:
    position = str(dataset.get("ViewPosition") or "").strip().upper()
    codes = dataset.get("ViewCodeSequence") or []
    meanings = {str(code.get("CodeMeaning")).strip().lower() for code in codes}
    # The rows of a lateral run from front to back.
    rows = [str(part) for part in listed(dataset.get("PatientOrientation"))][:1]
    return position in LATERAL_VIEWS or bool(meanings & LATERAL_MEANINGS) or rows[:1] in (["A"], ["P"])


def _is_raw(dataset: pydicom.Dataset) -> bool:
    names = (str(dataset.get("PresentationIntentType")), str(pydicom.uid.UID(dataset.get("SOPClassUID", "")).name))
    return any("for processing" in name.lower() for name in names)
