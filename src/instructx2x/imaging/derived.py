"""The DICOM image that carries an edit: of nobody by default, of the source's patient when asked.

It is built anew from a positive list, never copied: an element that is not named here is not written, wherever in the
source it stands. Free text is never repeated; terms and codes are only if DICOM defines them, numbers only if they are
numbers. This is the basic profile of PS3.15 Annex E without any of its options, so sex, age and dates go as well.

The pseudonym is a hash of the source's pixels. It tells nothing of the patient to anyone who guesses names or numbers,
for none is hashed, and who has the pixels can recognize the edited image anyway. All edits of one image belong to one
pseudonymous patient and study; two images of a patient cannot be told to be of one.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pydicom
from pydicom import config, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import format_number_as_ds, validate_value

import instructx2x

from . import tables
from .header import directions, listed
from .radiograph import Radiograph
from .terms import UNPAIRED, VIEWS, body_part

SECONDARY = uid.SecondaryCaptureImageStorage
# The classes of each modality, FOR PRESENTATION first: taken where the source names none.
CLASSES = {
    "CR": (uid.ComputedRadiographyImageStorage,),
    "DX": (uid.DigitalXRayImageStorageForPresentation, uid.DigitalXRayImageStorageForProcessing),
    "MG": (
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
    ),
}
# What is kept of terms: those that DICOM defines for an element.
TERMS = {
    "Laterality": {"R", "L"},
    "ViewPosition": VIEWS,
    "PresentationIntentType": {"FOR PRESENTATION", "FOR PROCESSING"},
    "PresentationLUTShape": {"IDENTITY", "INVERSE"},
    "PixelSpacingCalibrationType": {"GEOMETRY", "FIDUCIAL"},
    "BurnedInAnnotation": {"YES", "NO"},
    "LossyImageCompression": {"00", "01"},
    "LossyImageCompressionMethod": {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15"},
}
# The same of the classes of DX and MG alone.
DETECTOR_TERMS = {
    "ImageLaterality": {"R", "L", "U", "B"},
    "PixelIntensityRelationship": {"LIN", "LOG"},
    "PixelIntensityRelationshipSign": {"1", "-1"},
    "DetectorType": {"DIRECT", "SCINTILLATOR", "STORAGE", "FILM"},
    "PositionerType": {"NONE", "C-ARM", "COLUMN", "MAMMOGRAPHIC", "PANORAMIC", "CEPHALOSTAT", "RIGID"},
}
# What is kept of numbers: how many values, the least and the most.
NUMBERS = {
    "PixelSpacing": (2, 1e-3, 10.0),
    "ImagerPixelSpacing": (2, 1e-3, 10.0),
    "NominalScannedPixelSpacing": (2, 1e-3, 10.0),
    "EstimatedRadiographicMagnificationFactor": (1, 0.1, 100.0),
    "LossyImageCompressionRatio": (1, 1.0, 1e3),
}
# Type 2: there, if need be without a value.
REQUIRED = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
# Who the patient is, what was ordered, and when: kept for work inside an archive, and only then.
IDENTITY = (
    *REQUIRED,
    "AcquisitionDate",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "AdditionalPatientHistory",
    "AdmissionID",
    "AdmittingDiagnosesDescription",
    "Allergies",
    "ConsultingPhysicianName",
    "EthnicGroup",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "IssuerOfAccessionNumberSequence",
    "IssuerOfPatientID",
    "MedicalAlerts",
    "NameOfPhysiciansReadingStudy",
    "Occupation",
    "OperatorsName",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientAge",
    "PatientBirthTime",
    "PatientComments",
    "PatientSize",
    "PatientWeight",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "ProcedureCodeSequence",
    "ProtocolName",
    "ReferencedStudySequence",
    "RequestAttributesSequence",
    "StudyDescription",
    "StudyInstanceUID",
    "TimezoneOffsetFromUTC",
)
# An archive files by these, so they stay as they are even where they break a rule of their kind.
FILED_BY = ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID")
EQUIPMENT = ("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber")
PRODUCT = "InstructX2X"
# Far from the scanner's own series of a study that is kept.
SERIES = {"edited": 9001, "mask": 9002, "guidance": 9003}


def derived(
    radiograph: Radiograph, text: Mapping[str, str], *, source: Radiograph | None = None, keep_patient: bool = False
) -> pydicom.Dataset:
    """A data set to write: the present pixels, how they are shown, and the marks of a synthetic derived image.

    All UIDs are computed from the pixels and the text (with `keep_patient` also from the source's UIDs), so the same
    edit always gives the same file, and two edits never share an identity.

    The class is the source's where the source says all that this class demands, and secondary capture where not: a
    pixel spacing or a laterality is never made up.

    Args:
        radiograph: read from DICOM, and edited.
        text: what DerivationDescription tells, as "key: value; ..." (1,024 ASCII characters at most).
        source: before the edit; its pixels choose the pseudonymous patient and study. `radiograph` by default.
        keep_patient: keep the patient's and study's identity, for work inside an archive, and name the source image.
    """
    old, new = radiograph.dataset, pydicom.Dataset()
    _add_pixels(new, radiograph)
    _add_anatomy(new, old)
    _add_display(new, old, radiograph)
    _choose_class(new, old, radiograph)
    story = "; ".join(f"{key}: {value}" for key, value in text.items())
    _add_marks(new, text)
    origin = _hash(source or radiograph)
    entropy = ["kept" if keep_patient else "pseudonymous", origin, _hash(radiograph), story]
    if keep_patient:
        entropy += [_word(old, "SOPInstanceUID"), _word(old, "SeriesInstanceUID")]
        _keep_patient(new, old)
    else:
        _be_nobody(new, origin)
    if not new.get("StudyInstanceUID"):
        new.StudyInstanceUID = make_uid("study", origin)
    new.SeriesInstanceUID = make_uid("series", *entropy)
    new.SOPInstanceUID = make_uid("instance", *entropy)
    new.file_meta = pydicom.dataset.FileMetaDataset()
    new.file_meta.TransferSyntaxUID = old.file_meta.TransferSyntaxUID
    new.file_meta.MediaStorageSOPClassUID = new.SOPClassUID
    new.file_meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
    return new


def make_uid(*entropy: str) -> str:
    """A UID that depends on these strings alone."""
    return uid.generate_uid(entropy_srcs=list(entropy))


def code(value: str, scheme: str, meaning: str) -> pydicom.Dataset:
    """An item of a code sequence."""
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


# What a header says, however oddly it says it.


def _values(dataset: pydicom.Dataset, keyword: str) -> list:
    """The values of an element; none where it is absent, empty or damaged."""
    try:
        return listed(dataset.get(keyword))
    except Exception:
        # pydicom decodes an element when it is asked for, and stumbles over damage in many ways.
        return []


def _word(dataset: pydicom.Dataset, keyword: str) -> str:
    """The first value as text, without blanks around it."""
    return next((str(value).strip(" \0") for value in _values(dataset, keyword)), "")


def _numbers(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """All values as decimal strings, as the source writes them; none where one of them is no number."""
    numbers = []
    for value in _values(dataset, keyword):
        text = str(getattr(value, "original_string", value)).strip(" \0")
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) or not math.isfinite(float(text)):
            return []
        numbers.append(text if len(text) <= 16 else format_number_as_ds(float(text)))
    return numbers


def _terms(dataset: pydicom.Dataset, known: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Those of the elements that say a known term."""
    words = {keyword: _word(dataset, keyword).upper() for keyword in known}
    return {keyword: word for keyword, word in words.items() if word in known[keyword]}


def _known_codes(dataset: pydicom.Dataset, keyword: str, *contexts: str) -> list[pydicom.Dataset]:
    """The items of a code sequence that are of these context groups, in the groups' own words."""
    if not (given := _items(dataset, keyword)):
        return []
    from pydicom.sr.codedict import codes  # takes a quarter of a second
    from pydicom.sr.coding import Code

    known = [concept for context in contexts for concept in getattr(codes, context).concepts.values()]
    found = []
    for item in given:
        value, meaning = _word(item, "CodeValue"), _word(item, "CodeMeaning")
        wanted = Code(value, _word(item, "CodingSchemeDesignator"), "")
        same = (c for c in known if c == wanted or c.meaning.lower() == meaning.lower())
        found += [code(c.value, c.scheme_designator, c.meaning) for c in list(same)[:1]]
    return found


def _items(dataset: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    try:
        return [item for item in dataset.get(keyword) or () if isinstance(item, pydicom.Dataset)]
    except Exception:
        return []


def _hash(radiograph: Radiograph) -> str:
    pixels = np.ascontiguousarray(radiograph.pixels)
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype.str}".encode())
    digest.update(pixels)
    return digest.hexdigest()


# The image.


def _add_pixels(new: pydicom.Dataset, radiograph: Radiograph) -> None:
    old, pixels = radiograph.dataset, radiograph.pixels
    new.SamplesPerPixel = 1
    new.PhotometricInterpretation = _word(old, "PhotometricInterpretation").upper()
    new.Rows, new.Columns = pixels.shape
    new.BitsAllocated, new.BitsStored, new.HighBit = 8 * pixels.itemsize, radiograph.bits, radiograph.bits - 1
    new.PixelRepresentation = int(pixels.dtype.kind == "i")
    body = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    new.add_new("PixelData", "OB" if pixels.itemsize == 1 else "OW", body + bytes(len(body) % 2))
    low, high = radiograph.padding or (1, 0)
    least = -0x8000 if new.PixelRepresentation else 0
    if least <= low <= high <= least + 0xFFFF:
        vr = "SS" if new.PixelRepresentation else "US"
        new.add_new("PixelPaddingValue", vr, low)
        if high > low:
            new.add_new("PixelPaddingRangeLimit", vr, high)


def _add_display(new: pydicom.Dataset, old: pydicom.Dataset, radiograph: Radiograph) -> None:
    """Rescale, VOI windows and VOI LUT of the source; where it has no VOI, the window that it was edited with."""
    shown = 1 - radiograph.table if _is_negative(new) else radiograph.table
    values = radiograph.first + np.arange(len(shown), dtype=np.float64)
    folded = bool(_items(old, "ModalityLUTSequence"))
    if folded:
        # Its output has no unit that anyone needs, and DX knows none: it and what follows become one VOI LUT.
        new.VOILUTSequence = [_lut(radiograph.first, np.round(shown * 0xFFFF))]
        if "PresentationLUTShape" in new:
            del new.PresentationLUTShape
    else:
        slope, intercept = _numbers(old, "RescaleSlope"), _numbers(old, "RescaleIntercept")
        if slope or intercept:
            new.RescaleSlope, new.RescaleIntercept = (slope or ["1"])[0], (intercept or ["0"])[0]
            kind = _word(old, "RescaleType").upper()
            new.RescaleType = kind if kind in ("OD", "HU") else "US"
            values = values * float(new.RescaleSlope) + float(new.RescaleIntercept)
        if table := _voi_lut(old, values, shown):
            new.VOILUTSequence = [table]
    center, width = _numbers(old, "WindowCenter"), _numbers(old, "WindowWidth")
    function = _word(old, "VOILUTFunction").upper()
    # No radiograph has values in millions; dates and numbers of patients are.
    usable = len(center) == len(width) and all(abs(float(number)) < 1e6 for number in (*center, *width))
    if not usable or "VOILUTSequence" in new:
        center, width, function = [], [], ""
    raw = _word(old, "SOPClassUID") in (CLASSES["DX"][1], CLASSES["MG"][1])
    # Images FOR PROCESSING have none.
    if not (center or raw or "VOILUTSequence" in new) and (window := _window(values, shown)):
        (center, width), function = window, "LINEAR_EXACT"
    if center:
        new.WindowCenter, new.WindowWidth = center, width
        if function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            new.VOILUTFunction = function
    for keyword, (count, low, high) in NUMBERS.items():
        numbers = _numbers(old, keyword)
        if len(numbers) == count and all(low <= float(number) <= high for number in numbers):
            setattr(new, keyword, numbers)
    if new.get("LossyImageCompression") != "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            new.pop(keyword, None)


def _lut(first: int, entries: np.ndarray) -> pydicom.Dataset:
    """An item of a VOI LUT sequence, of 16 bits: other numbers than 8 and 16 are not allowed in all classes."""
    item = pydicom.Dataset()
    # The words are the same; the first mapped value decides how they are called.
    words = np.array([len(entries) & 0xFFFF, first & 0xFFFF, 16], dtype=np.uint16)
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", (words.view(np.int16) if first < 0 else words).tolist())
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def _voi_lut(old: pydicom.Dataset, values: np.ndarray, shown: np.ndarray) -> pydicom.Dataset | None:
    """The first VOI LUT, without its explanation and without what follows its entries.

    Args:
        values, shown: (n,) what the table maps, and the brightness that the source shows it with.
    """
    for item in _items(old, "VOILUTSequence")[:1]:
        descriptor, data = [int(float(number)) for number in _numbers(item, "LUTDescriptor")], item.get("LUTData")
        if len(descriptor) != 3:
            return None
        size, first = descriptor[0] & 0xFFFF or 0x10000, descriptor[1] & 0xFFFF
        first -= 0x10000 if first > 0x7FFF and values.min() < 0 else 0
        if isinstance(data, bytes):
            entries = np.frombuffer(data, "<u2" if len(data) >= 2 * size else np.uint8)[:size].astype(np.int64)
        else:
            entries = np.asarray(listed(data), dtype=np.int64)[:size] & 0xFFFF
        if len(entries) < size:
            return None
        # The entry that was full brightness, by whatever number of bits; none of it is lost in 16.
        full = tables.lookup(values, first, entries).max() / max(float(shown.max()), 1e-9)
        return _lut(first, np.clip(np.round(entries / max(full, 1) * 0xFFFF), 0, 0xFFFF))
    return None


def _window(values: np.ndarray, shown: np.ndarray) -> tuple[str, str] | None:
    """Center and width (LINEAR_EXACT) of a display that is a ramp over the values; None where it is none."""
    inside = np.flatnonzero((shown > 0) & (shown < 1))
    if len(inside) < 2:
        return None
    ends = inside[[0, -1]]
    width = float(np.diff(values[ends])[0] / np.diff(shown[ends])[0])
    low = float(values[ends[0]] - shown[ends[0]] * width)
    if width <= 0 or not np.allclose(tables.ramp(values, low, low + width), shown, atol=1e-6):
        return None
    # Nine digits are far below a step of 16 bits, and fit a decimal string.
    return f"{low + width / 2:.9g}", f"{width:.9g}"


def _add_anatomy(new: pydicom.Dataset, old: pydicom.Dataset) -> None:
    """Body part, view and the terms of the image, as far as DICOM knows the words."""
    new.BodyPartExamined = body_part(_word(old, "BodyPartExamined"))
    new.ViewPosition = ""
    found = directions(old)
    valid = len(found) == 2 and all(re.fullmatch("[LRAPHF]{1,3}", direction) for direction in found)
    new.PatientOrientation = found if valid else ""
    for keyword, word in _terms(old, TERMS).items():
        setattr(new, keyword, word)
    if views := _known_codes(old, "ViewCodeSequence", "cid4010", "cid4014"):
        new.ViewCodeSequence = views[:1]
        modifiers = [
            modifier
            for item in _items(old, "ViewCodeSequence")[:1]
            for modifier in _known_codes(item, "ViewModifierCodeSequence", "cid4011", "cid4015")
        ]
        if modifiers:
            views[0].ViewModifierCodeSequence = modifiers
    if regions := _known_codes(old, "AnatomicRegionSequence", "cid4009"):
        new.AnatomicRegionSequence = regions[:1]


def _choose_class(new: pydicom.Dataset, old: pydicom.Dataset, radiograph: Radiograph) -> None:
    """Modality and class, with what the class demands."""
    modality = _word(old, "Modality").upper()
    new.Modality = modality if modality in (*CLASSES, "RG", "SC") else "OT"
    classes, named = CLASSES.get(modality, ()), _word(old, "SOPClassUID")
    wanted = named if named in classes else (classes[0] if classes and not named else SECONDARY)
    demanded = _projection(new, old, presentation=wanted == classes[0]) if wanted in classes[-2:] else None
    if modality == "CR" and wanted in classes:
        demanded = {}
    if demanded is None:
        wanted, demanded = SECONDARY, {"ConversionType": "SYN"}
    if demanded.get("ImageLaterality") is None and new.BodyPartExamined not in UNPAIRED:
        demanded["Laterality"] = new.get("Laterality", "")
    new.SOPClassUID = wanted
    for keyword, value in demanded.items():
        setattr(new, keyword, value)


def _projection(new: pydicom.Dataset, old: pydicom.Dataset, *, presentation: bool) -> dict[str, Any] | None:
    """What the classes of DX and MG demand beside what `new` holds; None where the source does not say it."""
    breast, part = new.Modality == "MG", new.BodyPartExamined
    found = _terms(old, DETECTOR_TERMS)
    found.setdefault("ImageLaterality", new.get("Laterality") or ("U" if part in UNPAIRED else ""))
    if presentation:
        # Bright is where fewer X-rays arrived.
        found.setdefault("PixelIntensityRelationshipSign", "1" if _is_negative(new) else "-1")
    plain = float(new.get("RescaleSlope", 1)) == 1 and float(new.get("RescaleIntercept", 0)) == 0
    said = (
        found["ImageLaterality"] in ("R", "L", "B") if breast else found["ImageLaterality"],
        found.get("PixelIntensityRelationship"),
        found.get("PixelIntensityRelationshipSign"),
        new.get("BurnedInAnnotation"),
        new.get("ImagerPixelSpacing"),
        new.PatientOrientation,
        new.PixelRepresentation == 0,
        plain,
        ("WindowCenter" in new or "VOILUTSequence" in new) == presentation,
        not presentation or new.get("PresentationLUTShape") in (None, "INVERSE" if _is_negative(new) else "IDENTITY"),
        not breast or "ViewCodeSequence" in new,
    )
    if not all(said):
        return None
    found["PixelIntensityRelationshipSign"] = int(found["PixelIntensityRelationshipSign"])
    found["PresentationIntentType"] = "FOR PRESENTATION" if presentation else "FOR PROCESSING"
    if presentation:
        found["PresentationLUTShape"] = "INVERSE" if _is_negative(new) else "IDENTITY"
    for keyword, otherwise in (
        ("RescaleSlope", "1"),
        ("RescaleIntercept", "0"),
        ("RescaleType", "US"),
        ("LossyImageCompression", "00"),
    ):
        found[keyword] = new.get(keyword) or otherwise
    found.setdefault("DetectorType", "")
    found.setdefault("PositionerType", "")
    found["AcquisitionContextSequence"] = []
    if breast:
        found |= {"PositionerType": "MAMMOGRAPHIC", "OrganExposed": "BREAST", "BodyPartExamined": "BREAST"}
        found["AnatomicRegionSequence"] = [code("76752008", "SCT", "Breast")]
        if "ViewModifierCodeSequence" not in new.ViewCodeSequence[0]:
            new.ViewCodeSequence[0].ViewModifierCodeSequence = []
    elif "AnatomicRegionSequence" not in new:
        found["AnatomicRegionSequence"] = [code("816094009", "SCT", "Chest")] if part == "CHEST" else []
    if "Laterality" in new:
        del new.Laterality
    return found


def _is_negative(new: pydicom.Dataset) -> bool:
    return new.PhotometricInterpretation == "MONOCHROME1"


# The marks, and whose image it is.


def description(text: Mapping[str, str]) -> str:
    """What DerivationDescription tells of an edit: in ASCII, so that no character set is needed for what users type."""
    return "; ".join(f"{key}: {value}" for key, value in text.items()).encode("ascii", "replace").decode()[:1024]


def _add_marks(new: pydicom.Dataset, text: Mapping[str, str]) -> None:
    """What says that the image is synthetic, derived, and by whom."""
    new.ImageType = ["DERIVED", "SECONDARY"]
    new.SyntheticData = "YES"
    new.SeriesNumber, new.InstanceNumber = SERIES["edited"], 1
    new.DerivationDescription = description(text)
    new.DerivationCodeSequence = [
        code("123110", "DCM", "Artificial Intelligence"),
        code("113047", "DCM", "Pixel by pixel mask"),
    ]
    new.Manufacturer = new.ManufacturerModelName = PRODUCT
    new.SoftwareVersions = instructx2x.__version__
    new.ContributingEquipmentSequence = [_own_equipment(code("109100", "DCM", "Synthesizing Equipment"))]


def _own_equipment(purpose: pydicom.Dataset) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = item.ManufacturerModelName = PRODUCT
    item.SoftwareVersions = instructx2x.__version__
    item.ContributionDescription = "Counterfactual edit of a radiograph by instruction"
    return item


def _be_nobody(new: pydicom.Dataset, origin: str) -> None:
    for keyword in REQUIRED:
        setattr(new, keyword, "")
    pseudonym = hashlib.sha256(f"patient {origin}".encode()).hexdigest()[:16].upper()
    new.PatientID, new.PatientName = f"X2X-{pseudonym}", f"SYNTHETIC^{pseudonym}"
    new.SeriesDescription = "SYNTHETIC"
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = "PS3.15 Annex E Basic Profile; built anew from a positive list"
    new.DeidentificationMethodCodeSequence = [code("113100", "DCM", "Basic Application Confidentiality Profile")]
    new.LongitudinalTemporalInformationModified = "REMOVED"
    cleaner = _own_equipment(code("109104", "DCM", "De-identifying Equipment"))
    cleaner.ContributionDescription = new.DeidentificationMethod
    new.ContributingEquipmentSequence.append(cleaner)


def _keep_patient(new: pydicom.Dataset, old: pydicom.Dataset) -> None:
    for keyword in IDENTITY:
        if (element := _kept(old, keyword)) is not None:
            new.add(element)
    for keyword in REQUIRED:
        if keyword not in new:
            setattr(new, keyword, "")
    description = _kept(old, "SeriesDescription")
    new.SeriesDescription = f"SYNTHETIC {description.value if description else ''}".strip()[:64].strip()
    instance = _word(old, "SOPInstanceUID")
    if uid.UID(instance).is_valid:
        reference = pydicom.Dataset()
        named = uid.UID(_word(old, "SOPClassUID"))
        reference.ReferencedSOPClassUID = named if named and named.is_valid else new.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance
        reference.PurposeOfReferenceCodeSequence = [
            code("121322", "DCM", "Source image for image processing operation")
        ]
        new.SourceImageSequence = [reference]
    maker = pydicom.Dataset()
    maker.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    for keyword in EQUIPMENT:
        if (element := _kept(old, keyword)) is not None:
            maker.add(element)
    if "Manufacturer" in maker:
        new.ContributingEquipmentSequence.insert(0, maker)
    # Names come in any character set; this one holds them all.
    new.SpecificCharacterSet = "ISO_IR 192"


def _kept(old: pydicom.Dataset, keyword: str) -> pydicom.DataElement | None:
    """An element of the source with its own kind of value; None where it is absent, empty or invalid."""
    tag = tag_for_keyword(keyword)
    vr = dictionary_VR(tag)
    if vr == "SQ":
        items = [copied for item in _items(old, keyword) if (copied := _kept_item(item, keyword))]
        return pydicom.DataElement(tag, vr, items) if items else None
    values = _values(old, keyword)
    if keyword == "PatientSex":
        values = [sex for sex in values if sex in ("M", "F", "O")]
    if not values:
        return None
    try:
        if keyword not in FILED_BY:
            for value in values:
                # Dates and numbers as text, as they will be written.
                validate_value(vr, getattr(value, "original_string", value), config.RAISE)
        return pydicom.DataElement(tag, vr, values if len(values) > 1 else values[0])
    except Exception:
        return None


def _kept_item(item: pydicom.Dataset, keyword: str) -> pydicom.Dataset | None:
    """The valid elements of an item that the standard knows; None where one that it must hold is missing."""
    copied = pydicom.Dataset()
    for tag in item.keys():
        known = pydicom.datadict.keyword_for_tag(tag)
        if known and known != "SpecificCharacterSet" and (element := _kept(item, known)) is not None:
            copied.add(element)
    if keyword.endswith("CodeSequence"):
        named = any(copied.get(kind) for kind in ("CodeValue", "LongCodeValue", "URNCodeValue"))
        whole = named and "CodeMeaning" in copied and ("CodingSchemeDesignator" in copied or "URNCodeValue" in copied)
    elif keyword == "OtherPatientIDsSequence":
        whole = "PatientID" in copied and "TypeOfPatientID" in copied
    elif keyword.startswith("Referenced"):
        whole = "ReferencedSOPClassUID" in copied and "ReferencedSOPInstanceUID" in copied
    else:
        whole = len(copied) > 0
    return copied if whole else None
