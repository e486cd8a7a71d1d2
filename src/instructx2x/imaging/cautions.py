"""What a DICOM header says that makes an edit doubtful, though the image can be read."""

from __future__ import annotations

import pydicom

from .header import directions, quoted, texts, words
from .terms import LATERAL_VIEWS, body_part

LATERAL_MEANINGS = {"lateral", "left lateral", "right lateral", "left-lateral", "right-lateral"}


def of(dataset: pydicom.Dataset) -> tuple[str, ...]:
    """Warnings about a data set, one line each; only what its header states, no guess from the pixels."""
    found = []
    mammogram = "MG" in words(dataset, "Modality")
    part = next(iter(words(dataset, "BodyPartExamined")), "")[:16]
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
    if "YES" in words(dataset, "BurnedInAnnotation"):
        found.append(
            "the header says that text in the pixels names the patient (BurnedInAnnotation); edits show it too"
        )
    if any(text[:1] not in "LRAPHF" for text in directions(dataset)):
        told = quoted(dataset, "PatientOrientation")
        found.append(f"PatientOrientation is {told}, which is not understood; check the sides")
    shape = next(iter(words(dataset, "PresentationLUTShape")), None)
    inverted = "MONOCHROME1" in words(dataset, "PhotometricInterpretation")
    if shape == ("IDENTITY" if inverted else "INVERSE"):
        kind = "MONOCHROME1" if inverted else "MONOCHROME2"
        found.append(
            f"PresentationLUTShape {shape} contradicts {kind}, by which the image is shown; check black and white"
        )
    elif shape not in (None, "IDENTITY", "INVERSE") or dataset.get("PresentationLUTSequence"):
        found.append("a presentation table (PresentationLUTShape or -Sequence) is not applied")
    found += [
        f"{keyword} is {quoted(dataset, keyword)}: pixels that are not square; the image is shown out of proportion"
        for keyword in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing")
        if _is_stretched(texts(dataset, keyword))
    ]
    return tuple(found)


def _is_lateral(dataset: pydicom.Dataset) -> bool:
    codes = dataset.get("ViewCodeSequence") or []
    meanings = {text.lower() for code in codes for text in texts(code, "CodeMeaning")}
    # The rows of a lateral run from front to back.
    rows = next(iter(directions(dataset)), "")
    positions = set(words(dataset, "ViewPosition"))
    return bool(positions & LATERAL_VIEWS or meanings & LATERAL_MEANINGS or rows.startswith(("A", "P")))


def _is_raw(dataset: pydicom.Dataset) -> bool:
    names = [
        *words(dataset, "PresentationIntentType"),
        *(pydicom.uid.UID(text).name for text in texts(dataset, "SOPClassUID")),
    ]
    return any("for processing" in name.lower() for name in names)


def _is_stretched(sides: list[str]) -> bool:
    try:
        height, width = map(float, sides)
    except ValueError:
        return False
    return height > 0 and width > 0 and not 0.99 <= height / width <= 1.01
