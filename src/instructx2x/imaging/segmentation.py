"""Mask and guidance map as DICOM segmentations (SEG) of the edited image."""

from __future__ import annotations

import hashlib
import os
import warnings

import numpy as np
import pydicom

import instructx2x

from ..errors import OutputError
from .derived import PRODUCT, SERIES, make_uid
from .radiograph import label
from .writing import atomic_write

# The standard asks when the content was made. A real time would give every run other bytes: this one says "unknown".
DATE, TIME = "19000101", "000000"
LABELS = {"mask": "Edited region (mask M)", "guidance": "Guidance map G"}
# What the segmentations take over of the image that they belong to.
SHARED = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "SyntheticData",
    "ContributingEquipmentSequence",
    "PatientOrientation",
    "SpecificCharacterSet",
)


def segmentation(edited: pydicom.Dataset, values: np.ndarray) -> pydicom.Dataset:
    """A segmentation of the edited image, of its patient and study.

    Args:
        edited: the edited image's data set, from `derived.derived` or read back; its pixels are not needed.
        values: (H, W): the mask, bool, written as BINARY; or the guidance map, float in [0, 1], written as FRACTIONAL,
            a PROBABILITY in steps of 1/255.

    Returns:
        The data set to save. Its UIDs are computed from the image's and the values.
    """
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from highdicom.seg.enum import SegmentationFractionalTypeValues
    from highdicom.sr import CodedConcept

    binary = values.dtype == bool
    kind = "mask" if binary else "guidance"
    entropy = (kind, str(edited.SOPInstanceUID), hashlib.sha256(np.ascontiguousarray(values)).hexdigest())
    description = SegmentDescription(
        segment_number=1,
        segment_label=LABELS[kind],
        segmented_property_category=CodedConcept("309825002", "SCT", "Spatial and Relational Concept"),
        segmented_property_type=CodedConcept("111099", "DCM", "Selected region"),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=PRODUCT,
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version=instructx2x.__version__,
        ),
        tracking_uid=make_uid("tracking", *entropy),
        tracking_id=f"{PRODUCT} {kind}",
    )
    made = Segmentation(
        source_images=[edited],
        pixel_array=values[np.newaxis].astype(np.uint8 if binary else np.float32),
        segmentation_type=SegmentationTypeValues.BINARY if binary else SegmentationTypeValues.FRACTIONAL,
        fractional_type=SegmentationFractionalTypeValues.PROBABILITY,
        max_fractional_value=255,
        segment_descriptions=[description],
        series_instance_uid=make_uid("series", *entropy),
        series_number=SERIES[kind],
        sop_instance_uid=make_uid("instance", *entropy),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        software_versions=instructx2x.__version__,
        device_serial_number="0",
        content_label="MASK" if binary else "GUIDANCE",
        content_description=LABELS[kind],
        # An empty mask is a result too.
        omit_empty_frames=False,
    )
    made.SeriesDescription = f"SYNTHETIC {LABELS[kind]}"
    made.ContentDate, made.ContentTime = DATE, TIME
    del made.InstanceCreationDate, made.InstanceCreationTime
    organization = make_uid("dimensions", *entropy)
    for item in (made.DimensionOrganizationSequence[0], *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    for keyword in SHARED:
        if keyword in edited:
            made[keyword] = edited[keyword]
    return made


def write_segmentation(edited: str | os.PathLike, values: np.ndarray, path: str | os.PathLike) -> None:
    """Write a segmentation of an edited DICOM file, see `segmentation`. Atomic.

    Raises:
        OutputError: a place that cannot be written to, or a header that cannot be taken over.
    """
    try:
        with warnings.catch_warnings():
            # highdicom tells of an empty mask and of odd names; both are as they should be.
            warnings.simplefilter("ignore")
            made = segmentation(pydicom.dcmread(edited, stop_before_pixels=True), values)
            atomic_write(path, lambda file: made.save_as(file, enforce_file_format=True))
    except OutputError:
        raise
    except Exception as error:
        raise OutputError(f"{label(path)}: the source's DICOM header does not allow a segmentation") from error
