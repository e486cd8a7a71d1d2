"""DICOM headers as archives really hold them: read rightly with a warning, or refused by the name of the tag."""

import numpy as np
import pydicom
import pytest
from pydicom import uid

from instructx2x.errors import InputError
from instructx2x.imaging import edited_suffix, read, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def odd(tmp_path, make_dicom):
    """odd(pixels, bits, keyword=text or bytes, ...) -> path: elements with the very bytes given, whatever their VR."""

    def make(pixels=None, bits=12, *, tags=None, **raw):
        if pixels is None:
            rows, columns = np.mgrid[0:40, 0:56]
            pixels = (rows * 40 + columns * 44).astype(np.uint16)
        path = make_dicom(pixels, bits, **(tags or {}))
        dataset = pydicom.dcmread(path)
        for keyword, value in raw.items():
            tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(keyword))
            value = value.encode() if isinstance(value, str) else value
            value += b" " * (len(value) % 2)
            vr = pydicom.datadict.dictionary_VR(tag)
            dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


def line(path):
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable() and "damaged" not in message
    return message


@pytest.mark.parametrize("text", ["2048,0", "\\2048", "AUTO", "2048 HU", "nan", "inf", "1_0", "--5", "1e999"])
@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
def test_a_window_that_is_no_number_gives_way_to_the_values(odd, tmp_path, keyword, text):
    plain = read(odd()).display()
    other = "WindowWidth" if keyword == "WindowCenter" else "WindowCenter"
    radiograph = read(odd(**{keyword: text, other: "900"}))
    np.testing.assert_array_equal(radiograph.display(), plain)
    assert any("window" in warning and keyword in warning for warning in radiograph.warnings)
    # It is left out of the edited copy, which shows as its source did.
    write(radiograph, tmp_path / "edited.dcm", text={"Synthetic": "yes"})
    np.testing.assert_array_equal(read(tmp_path / "edited.dcm").display(), plain)


@pytest.mark.parametrize(
    "keyword, text",
    [
        ("RescaleSlope", "1,0"),
        ("RescaleIntercept", "none"),
        ("NumberOfFrames", "one"),
        ("NumberOfFrames", "1.5"),
    ],
)
def test_a_number_that_decides_is_refused_by_its_name(odd, keyword, text):
    message = line(odd(**{keyword: text}))
    assert keyword in message
    # Words could be a name.
    assert (text in message) == (not text.isalpha())


@pytest.mark.parametrize(
    "keyword, value",
    [
        ("RescaleSlope", "2\\3"),
        ("RescaleIntercept", "0\\-1000"),
        ("NumberOfFrames", "1\\2"),
        ("BitsStored", b"\x0c\0\x0e\0"),
        ("Rows", b"\x28\0\x29\0"),
    ],
)
def test_of_values_that_differ_none_is_taken(odd, keyword, value):
    assert f"{keyword} has several values" in line(odd(**{keyword: value}))


@pytest.mark.parametrize(
    "keyword, value", [("RescaleSlope", "1\\1"), ("BitsStored", b"\x0c\0\x0c\0"), ("Rows", b"\x28\0\x28\0")]
)
def test_a_value_said_twice_is_one(odd, tmp_path, keyword, value):
    radiograph = read(odd(**{keyword: value}))
    np.testing.assert_array_equal(radiograph.display(), read(odd()).display())
    write(radiograph, tmp_path / "edited.dcm", text={"Synthetic": "yes"})
    np.testing.assert_array_equal(read(tmp_path / "edited.dcm").display(), radiograph.display())


@pytest.mark.parametrize(
    "slope, intercept", [("1e300", "0"), ("1", "1e15"), ("1e-17", "3"), ("1e-300", "1"), ("0", "5")]
)
def test_a_rescale_without_a_display(odd, slope, intercept):
    assert "RescaleSlope" in line(odd(RescaleSlope=slope, RescaleIntercept=intercept))


def test_pixel_data_without_a_byte(odd):
    assert "cut short" in line(odd(PixelData=b""))


@pytest.mark.parametrize("samples", [b"\0\0", b"\3\0"])
def test_samples_that_contradict_gray(odd, samples):
    assert "SamplesPerPixel" in line(odd(SamplesPerPixel=samples))


@pytest.mark.parametrize("text", ["01", "1", "YES", "00\\01", "00", ""])
def test_what_was_lossy_once_goes_to_png(odd, text):
    assert edited_suffix(read(odd(LossyImageCompression=text))) == (".dcm" if text in ("00", "") else ".png")


@pytest.mark.parametrize("text", ["YES", "yes ", "YES\\"])
def test_text_burned_in_is_told(odd, text):
    assert any("BurnedInAnnotation" in warning for warning in read(odd(BurnedInAnnotation=text)).warnings)


@pytest.mark.parametrize(
    "keyword",
    [
        *("VOILUTFunction", "PhotometricInterpretation", "Modality", "RescaleSlope", "PatientOrientation"),
        *("NumberOfFrames", "WindowCenter", "ViewPosition", "PresentationLUTShape", "BodyPartExamined"),
        *("PixelAspectRatio", "SOPClassUID"),
    ],
)
def test_what_could_be_a_name_is_not_repeated(odd, keyword):
    raw = {"WindowCenter": "2048", "WindowWidth": "4096", keyword: "Doe^Jane"}
    if keyword == "SOPClassUID":
        raw["Modality"] = ""
    try:
        told = " ".join(read(odd(**raw)).warnings)
    except InputError as error:
        told = str(error)
    assert "JANE" not in told.upper()


def test_the_name_of_a_transfer_syntax_is_not_repeated(odd):
    path = odd()
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"Doe^Jane^Miller^Mrs\0", 1))
    message = line(path)
    assert "transfer syntax" in message and "Jane" not in message


@pytest.mark.parametrize("text", ["", " ", "2048\\", "\0"])
def test_empty_values_are_none(odd, text):
    assert not read(odd(WindowCenter=text, WindowWidth="4096" if text == "2048\\" else "")).warnings


@pytest.mark.parametrize("pixel_bits", [10, 12, 14, 16])
@pytest.mark.parametrize("window_bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("border", [False, True])
def test_a_window_of_another_bit_depth_gives_way_to_the_values(odd, pixel_bits, window_bits, border):
    share = np.clip(np.random.default_rng(0).normal(0.55, 0.2, (60, 60)), 0.02, 0.97)
    pixels = np.round(share * ((1 << pixel_bits) - 1)).astype(np.uint16)
    if border:
        pixels[:, :3] = 0
    window = {"WindowCenter": str(1 << (window_bits - 1)), "WindowWidth": str(1 << window_bits)}
    radiograph = read(odd(pixels, pixel_bits, **window))
    if window_bits == pixel_bits:
        assert not radiograph.warnings
        np.testing.assert_allclose(radiograph.display(), pixels / ((1 << pixel_bits) - 1), atol=1e-3)
    else:
        np.testing.assert_array_equal(radiograph.display(), read(odd(pixels, pixel_bits)).display())
        assert any("window" in warning for warning in radiograph.warnings)


def test_a_window_beside_the_values_and_a_hard_one_within_them(odd):
    away = read(odd(WindowCenter="-600", WindowWidth="400"))
    np.testing.assert_array_equal(away.display(), read(odd()).display())
    assert any("window" in warning for warning in away.warnings)
    hard = read(odd(WindowCenter="2000", WindowWidth="400"))
    assert not hard.warnings and (hard.display() == 0).mean() > 0.3 and (hard.display() == 1).mean() > 0.3


def table(bits, most, **changes):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, bits])
    item.add_new("LUTData", "US", np.linspace(0, most, 4096).astype(int).tolist())
    for keyword, value in changes.items():
        if value is None:
            del item[keyword]
        else:
            setattr(item, keyword, value)
    return {"VOILUTSequence": [item]}


@pytest.mark.parametrize("declared, most", [(16, 4095), (16, 1023), (12, 255), (14, 4095), (10, 4095)])
def test_a_lut_is_shown_on_the_scale_that_its_entries_reach(odd, declared, most):
    radiograph = read(odd(tags=table(declared, most)))
    entries = np.linspace(0, most, 4096).astype(int)
    np.testing.assert_allclose(radiograph.display(), entries[radiograph.pixels] / most, atol=1e-6)
    assert any("LUT" in warning for warning in radiograph.warnings) == (declared > most.bit_length())


@pytest.mark.parametrize("changes", [{"LUTDescriptor": None}, {"LUTData": None}, {"LUTDescriptor": [4096, 0]}])
def test_a_lut_that_is_not_whole_is_refused_by_its_name(odd, changes):
    assert "VOILUTSequence" in line(odd(tags=table(12, 4095, **changes)))


UPRIGHT = ["L/F", "['L', 'F']", "L\\F", "LA\\FP", "l\\f", " L\\F ", "LF\\FR", "", "L", "\\F", "L\\"]
LATERAL = ["A\\F", "P\\F", "AL\\F"]
TURNED = ["L/H", "L,H", "['L', 'H']", "R\\F", "L\\H", "R\\H", "F\\L", "F\\R", "H\\L", "H\\R", "F\\A", "H\\P", "A\\H"]
OTHERS = ["L\\A", "L\\P", "A\\L", "R", "\\H", "FL\\RF", "L\\R", "L\\PF", "r\\f"]


@pytest.mark.parametrize("text", UPRIGHT + LATERAL)
def test_upright_images_are_read(odd, text):
    warnings = read(odd(PatientOrientation=text)).warnings
    assert [("lateral" in warning) for warning in warnings] == [True] * (text in LATERAL)


@pytest.mark.parametrize("text", TURNED + OTHERS)
def test_all_other_orientations_are_refused_by_their_tag(odd, text):
    assert "PatientOrientation" in line(odd(PatientOrientation=text))


@pytest.mark.parametrize("text", ["X\\Y", "1\\0"])
def test_an_orientation_in_other_words_is_told(odd, text):
    assert any("PatientOrientation" in warning for warning in read(odd(PatientOrientation=text)).warnings)


@pytest.mark.parametrize("text", ["cr", " DX", "DX\\", "CR\\DX", "Dx ", "\\CR", "DX\0"])
def test_modalities_written_oddly(odd, tmp_path, text):
    radiograph = read(odd(Modality=text))
    assert bool(radiograph.warnings) == (text == "CR\\DX")
    write(radiograph, tmp_path / f"edited{edited_suffix(radiograph)}", text={"Synthetic": "yes"})
    assert pydicom.dcmread(tmp_path / "edited.dcm").Modality in ("CR", "DX")


@pytest.mark.parametrize("text", ["CT\\CR", "CR\\CT", "ct", "OT"])
def test_other_modalities_are_named(odd, text):
    message = line(odd(Modality=text))
    assert "Modality" in message and text[:2] in message
    assert "SOP class" in message  # a digital X-ray's


CLASSES = {
    "CR": uid.ComputedRadiographyImageStorage,
    "DX": uid.DigitalXRayImageStorageForPresentation,
    "MG": uid.DigitalMammographyXRayImageStorageForPresentation,
    "SC": uid.SecondaryCaptureImageStorage,
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("where", ["data set", "file meta"])
def test_without_a_modality_the_class_says_it(odd, tmp_path, name, where):
    path = odd(tags={"Modality": None, "SOPClassUID": CLASSES[name]})
    if where == "file meta":
        dataset = pydicom.dcmread(path)
        del dataset.SOPClassUID
        dataset.save_as(path)
    radiograph = read(path)
    assert any("Modality" in warning and name in warning for warning in radiograph.warnings)
    write(radiograph, tmp_path / "edited.dcm", text={"Synthetic": "yes"})
    copy = pydicom.dcmread(tmp_path / "edited.dcm")
    # DX and MG demand more than this source says, so their copies are secondary captures.
    kept = CLASSES[name] if name == "CR" else uid.SecondaryCaptureImageStorage
    assert (copy.Modality, copy.SOPClassUID) == (name, kept)


@pytest.mark.parametrize("where", ["data set", "file meta"])
def test_without_a_modality_another_class_is_refused(odd, where):
    path = odd(tags={"Modality": None, "SOPClassUID": uid.CTImageStorage})
    if where == "file meta":
        dataset = pydicom.dcmread(path)
        del dataset.SOPClassUID
        dataset.save_as(path)
    assert "CT Image Storage" in line(path)


def test_a_class_that_contradicts_the_modality_is_told(odd):
    warnings = read(odd(tags={"SOPClassUID": uid.UltrasoundImageStorage})).warnings
    assert any("Ultrasound" in warning for warning in warnings)


def test_the_list_of_a_disc_is_named(odd):
    path = odd(tags={"SOPClassUID": uid.MediaStorageDirectoryStorage, "Modality": None})
    assert "DICOMDIR" in line(path)


@pytest.mark.parametrize(
    "text", ["monochrome2", " MONOCHROME2", "MONOCHROME2\\", "MONOCHROME2\\MONOCHROME2", "Monochrome2\0"]
)
def test_photometric_interpretation_written_oddly(odd, text):
    np.testing.assert_array_equal(read(odd(PhotometricInterpretation=text)).display(), read(odd()).display())


def test_photometric_interpretations_that_contradict_each_other(odd):
    assert "PhotometricInterpretation" in line(odd(PhotometricInterpretation="MONOCHROME1\\MONOCHROME2"))


@pytest.mark.parametrize("text", ["linear", " LINEAR", "LINEAR\\", "LINEAR\\SIGMOID", ""])
def test_functions_written_oddly(odd, text):
    window = {"WindowCenter": "2000", "WindowWidth": "3000"}
    np.testing.assert_array_equal(read(odd(VOILUTFunction=text, **window)).display(), read(odd(**window)).display())


@pytest.mark.parametrize("photometric, shape, told", [
    ("MONOCHROME2", "INVERSE", True), ("MONOCHROME1", "IDENTITY", True), ("MONOCHROME2", "LIN OD", True),
    ("MONOCHROME2", "IDENTITY", False), ("MONOCHROME1", "INVERSE", False), ("MONOCHROME2", "inverse ", True),
])  # fmt: skip
def test_presentation_tables_that_are_not_applied_are_told(odd, photometric, shape, told):
    radiograph = read(odd(PhotometricInterpretation=photometric, PresentationLUTShape=shape))
    assert radiograph.inverted == (photometric == "MONOCHROME1")
    assert any("PresentationLUTShape" in warning for warning in radiograph.warnings) == told


@pytest.mark.parametrize("bits, high, shift", [(12, 15, 4), (12, 15, 0), (16, 11, 0), (10, 11, 0), (12, 10, 0)])
def test_another_high_bit_is_refused_by_its_name(odd, bits, high, shift):
    message = line(odd(tags={"BitsStored": bits, "HighBit": high}))
    assert "HighBit" in message and "8 to 16" not in message


@pytest.mark.parametrize("keyword, text, told", [
    ("PixelAspectRatio", "2\\1", True), ("PixelSpacing", "0.1\\0.2", True), ("ImagerPixelSpacing", "0.2\\0.1", True),
    ("PixelAspectRatio", "1\\1", False), ("PixelSpacing", "0.143\\0.143", False), ("PixelSpacing", "x", False),
])  # fmt: skip
def test_pixels_that_are_not_square_are_told(odd, keyword, text, told):
    assert any(keyword in warning for warning in read(odd(**{keyword: text})).warnings) == told
