"""What a header says against an edit is a warning of the radiograph, and nothing else is."""

import numpy as np
import pydicom
import pytest

from instructx2x.imaging import from_array, read


def sequence(meaning):
    item = pydicom.Dataset()
    item.CodeMeaning = meaning
    return [item]


@pytest.mark.parametrize(
    "tags, word",
    [
        ({"ViewPosition": "LL"}, "lateral"),
        ({"ViewPosition": "LATERAL "}, "lateral"),
        ({"ViewCodeSequence": sequence("left lateral")}, "lateral"),
        ({"PatientOrientation": ["A", "F"]}, "lateral"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "FOR PROCESSING"),
        ({"SOPClassUID": pydicom.uid.DigitalXRayImageStorageForProcessing}, "FOR PROCESSING"),
        ({"Modality": "MG"}, "mammogram"),
        ({"BodyPartExamined": "KNEE"}, "KNEE"),
    ],
)
def test_doubtful_sources(make_picture, make_dicom, tags, word):
    radiograph = read(make_dicom(make_picture(np.uint16, 0, 4095), 12, **tags))
    (warning,) = radiograph.warnings
    assert word in warning and warning.isprintable()
    shown = radiograph.display()
    assert radiograph.with_display(shown, np.ones(shown.shape, bool)).warnings == radiograph.warnings


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"ViewPosition": "PA", "BodyPartExamined": "CHEST", "PresentationIntentType": "FOR PRESENTATION"},
        {"ViewPosition": "AP", "PatientOrientation": ["L", "F"]},
        {"ViewPosition": "LLD", "ViewCodeSequence": sequence("antero-posterior")},
        {"BodyPartExamined": "", "ViewPosition": ""},
    ],
)
def test_frontal_sources(make_picture, make_dicom, tags):
    assert read(make_dicom(make_picture(np.uint16, 0, 4095), 12, **tags)).warnings == ()


def test_other_formats_have_none(make_picture):
    assert from_array(make_picture(np.uint8, 0, 255)).warnings == ()
