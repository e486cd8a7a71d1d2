"""DICOM: pixel formats, display tables against pydicom's calculation, the derived copy, and refusals."""

import os
import time
import zlib

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from instructx2x.errors import InputError, OutputError
from instructx2x.imaging import edited_suffix, from_array, read, write

TEXT = {"Synthetic": "yes", "Instruction": "Add the finding of left pleural effusion."}
SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
# dtype, bits stored, lowest and highest value that occur
KINDS = [
    (np.uint8, 8, 0, 255),
    (np.int8, 8, -128, 127),
    (np.uint16, 8, 0, 255),
    (np.uint16, 10, 3, 1020),
    (np.uint16, 12, 0, 4095),
    (np.uint16, 16, 0, 65535),
    (np.int16, 8, -128, 127),
    (np.int16, 12, -2000, 2047),
    (np.int16, 16, -32768, 32767),
]


def refused(path):
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert os.path.basename(path) in message
    return message


def lut(first, entries, bits, vr="US"):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    entries = np.asarray(entries)
    item.add_new("LUTData", vr, entries.astype("<u2").tobytes() if vr == "OW" else entries.tolist())
    return [item]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dtype, bits, low, high", KINDS)
@pytest.mark.parametrize("modality", ["CR", "MG"])
def test_round_trip(tmp_path, make_picture, make_dicom, syntax, photometric, dtype, bits, low, high, modality):
    pixels = make_picture(dtype, low, high, height=41, width=57)
    tags = {
        "PhotometricInterpretation": photometric,
        "Modality": modality,
        "WindowCenter": 40,
        "WindowWidth": 90,
    }
    path = make_dicom(pixels, bits, syntax=syntax, **tags)
    before = path.read_bytes()
    radiograph = read(path)
    assert radiograph.pixels.dtype == dtype
    assert (radiograph.format, radiograph.bits, radiograph.lossy) == ("dicom", bits, False)
    assert len(radiograph.table) == 1 << bits
    assert radiograph.inverted == (photometric == "MONOCHROME1")
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    again = radiograph.with_display(radiograph.display(), np.ones(pixels.shape, bool))
    np.testing.assert_array_equal(again.pixels, pixels)

    assert edited_suffix(radiograph) == ".dcm"
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    assert path.read_bytes() == before
    source, copy = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "edited.dcm")
    assert copy.file_meta.TransferSyntaxUID == syntax
    assert copy["PixelData"].value == source["PixelData"].value
    np.testing.assert_array_equal(copy.pixel_array, source.pixel_array)
    for keyword in (
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PhotometricInterpretation",
    ):
        assert copy[keyword].value == source[keyword].value
    np.testing.assert_array_equal(read(tmp_path / "edited.dcm").table, radiograph.table)


def test_the_derived_copy_says_what_it_is(tmp_path, make_picture, make_dicom):
    pixels = make_picture(np.uint16, 0, 4095)
    path = make_dicom(pixels, 12, LossyImageCompression="00", SmallestImagePixelValue=0, LargestImagePixelValue=9)
    radiograph = read(path)
    text = {"Instruction": "größer " * 300}
    write(radiograph, tmp_path / "a.dcm", text=text, keep_patient=True)
    copy = pydicom.dcmread(tmp_path / "a.dcm")
    assert list(copy.ImageType) == ["DERIVED", "SECONDARY"]
    assert copy.SeriesDescription == "SYNTHETIC Chest PA"
    assert copy.SyntheticData == "YES"
    assert copy.DerivationDescription.startswith("Instruction: gr??er")
    assert len(copy.DerivationDescription) <= 1024
    assert copy.SOPInstanceUID == copy.file_meta.MediaStorageSOPInstanceUID
    assert copy.SOPInstanceUID.is_valid and copy.SeriesInstanceUID.is_valid
    assert copy.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert (copy.PatientID, copy.StudyInstanceUID) == ("P1", "1.2")
    assert "SmallestImagePixelValue" not in copy and "LargestImagePixelValue" not in copy
    assert radiograph.dataset.SOPInstanceUID == "1.2.3.4"

    # The same edit has the same identity and bytes; another edit has another.
    write(radiograph, tmp_path / "b.dcm", text=text, keep_patient=True)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    edited = radiograph.with_display(1 - radiograph.display(), np.ones(pixels.shape, bool))
    write(edited, tmp_path / "c.dcm", text=text, keep_patient=True)
    other = pydicom.dcmread(tmp_path / "c.dcm")
    identities = {"1.2.3.4", "1.2.3", copy.SOPInstanceUID, copy.SeriesInstanceUID}
    identities |= {other.SOPInstanceUID, other.SeriesInstanceUID}
    assert len(identities) == 6
    np.testing.assert_array_equal(other.pixel_array, edited.pixels)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit"])
def test_without_preamble_or_identity(tmp_path, make_picture, make_dicom, syntax):
    pixels = make_picture(np.uint16, 0, 4095)
    unnamed = {
        "SOPInstanceUID": None,
        "SeriesInstanceUID": None,
        "SeriesDescription": None,
        "ImageType": None,
    }
    path = make_dicom(pixels, 12, syntax=syntax, preamble=False, name="bare", **unnamed)
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    copy = pydicom.dcmread(tmp_path / "edited.dcm")
    np.testing.assert_array_equal(copy.pixel_array, pixels)
    assert copy.file_meta.TransferSyntaxUID == syntax
    assert copy.SeriesDescription == "SYNTHETIC"


def test_sop_class_is_filled_in(tmp_path, make_picture, make_dicom):
    radiograph = read(make_dicom(make_picture(np.uint8, 0, 255), Modality="CR"))
    del radiograph.dataset.SOPClassUID
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    assert pydicom.dcmread(tmp_path / "edited.dcm").SOPClassUID == uid.ComputedRadiographyImageStorage


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("slope, intercept", [(None, None), (2.5, -300), (-1, 1400)])
@pytest.mark.parametrize("dtype, low, high", [(np.uint16, 0, 4095), (np.int16, -2048, 2047)])
def test_windows_display_as_pydicom_does(
    make_picture, make_dicom, syntax, function, slope, intercept, dtype, low, high
):
    pixels = make_picture(dtype, low, high)
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept, "VOILUTFunction": function}
    path = make_dicom(pixels, 12, syntax=syntax, WindowCenter=[700, 1], WindowWidth=[1500, 2], **tags)
    dataset = pydicom.dcmread(path)
    with np.errstate(over="ignore"):
        expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    # pydicom returns it on the scale of the modality values, which runs backwards for a negative slope.
    ends = np.array([low, high]) * (slope or 1) + (intercept or 0)
    expected = (expected - ends[0]) / (ends[1] - ends[0])
    np.testing.assert_allclose(read(path).display(), expected, atol=1e-6)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit"])
@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("dtype, first", [(np.uint16, 100), (np.int16, -300)])
def test_voi_lut_displays_as_pydicom_does(make_picture, make_dicom, syntax, vr, falling, dtype, first):
    pixels = make_picture(dtype, 0 if first > 0 else -512, 1023 if first > 0 else 511)
    entries = (1023 * np.linspace(0, 1, 600) ** 2).astype(int)
    entries = entries[::-1] if falling else entries
    path = make_dicom(pixels, 10, syntax=syntax, VOILUTSequence=lut(first, entries, 10, vr), WindowCenter=1)
    dataset = pydicom.dcmread(path)
    radiograph = read(path)
    np.testing.assert_allclose(radiograph.display(), apply_voi_lut(pixels, dataset) / 1023, atol=1e-6)
    assert radiograph.inverted == falling


def test_modality_lut(make_picture, make_dicom):
    pixels = make_picture(np.uint16, 0, 1023)
    entries = (np.sqrt(np.arange(1024)) * 100).astype(int)
    item = lut(0, entries, 16)
    item[0].ModalityLUTType = "US"
    path = make_dicom(pixels, 10, ModalityLUTSequence=item, WindowCenter=1500, WindowWidth=3000)
    expected = np.clip((entries[pixels] - 1499.5) / 2999 + 0.5, 0, 1)
    np.testing.assert_allclose(read(path).display(), expected, atol=1e-6)
    # Without a window, the modality values are shown through the robust range.
    display = read(make_dicom(pixels, 10, ModalityLUTSequence=item)).display()
    assert (display.min(), display.max()) == (0, 1)


def test_monochrome1_is_the_negative(make_picture, make_dicom):
    pixels = make_picture(np.uint16, 0, 4095)
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    positive = read(make_dicom(pixels, 12, **window)).display()
    negative = read(make_dicom(pixels, 12, PhotometricInterpretation="MONOCHROME1", **window)).display()
    np.testing.assert_allclose(negative, 1 - positive, atol=1e-7)


def test_without_a_window(make_picture, make_dicom):
    eight = make_picture(np.uint8, 5, 99)
    np.testing.assert_allclose(read(make_dicom(eight)).display(), eight / 255, atol=1e-7)
    display = read(make_dicom(make_picture(np.uint16, 500, 900), 14)).display()
    assert (display.min(), display.max()) == (0, 1)
    empty = {"WindowCenter": "", "WindowWidth": "", "VOILUTSequence": []}
    np.testing.assert_allclose(read(make_dicom(eight, **empty)).display(), eight / 255, atol=1e-7)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, 20])
def test_padding(tmp_path, make_picture, make_dicom, photometric, limit):
    pixels = make_picture(np.uint16, 0, 4095)
    pixels[:10] = 0
    pixels[10, :8] = 20
    tags = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": limit, "PhotometricInterpretation": photometric}
    radiograph = read(make_dicom(pixels, 12, **tags))
    padded = pixels <= (limit or 0)
    assert (radiograph.display()[padded] == 0).all()
    edited = radiograph.with_display(np.full(pixels.shape, 0.5, np.float32), np.ones(pixels.shape, bool))
    np.testing.assert_array_equal(edited.pixels[padded], pixels[padded])
    assert (edited.pixels[~padded] > (limit or 0)).all()
    write(edited, tmp_path / "edited.dcm", text=TEXT)
    again = pydicom.dcmread(tmp_path / "edited.dcm")
    np.testing.assert_array_equal(again.pixel_array, edited.pixels)
    assert again.PixelPaddingValue == 0


def test_negative_padding(make_picture, make_dicom):
    pixels = make_picture(np.int16, -900, 900)
    pixels[:10] = -2000
    path = make_dicom(pixels, 12, PixelPaddingValue=-2000)
    radiograph = read(path)
    assert radiograph.padding == (-2000, -2000)
    assert (radiograph.display()[:10] == 0).all()


def test_signed_values_without_sign_extension(make_picture, make_dicom):
    pixels = make_picture(np.int16, -2048, 2047)
    bare = (pixels.view(np.uint16) & 0x0FFF).view(np.int16)
    np.testing.assert_array_equal(read(make_dicom(bare, 12)).pixels, pixels)


def test_once_lossy_goes_to_png(tmp_path, make_picture, make_dicom):
    pixels = make_picture(np.uint16, 0, 4095)
    radiograph = read(make_dicom(pixels, 12, LossyImageCompression="01"))
    assert radiograph.lossy
    assert edited_suffix(radiograph) == ".png"
    write(radiograph, tmp_path / "edited.png", text=TEXT)
    np.testing.assert_array_equal(read(tmp_path / "edited.png").pixels, pixels)


def test_a_header_that_cannot_be_written_is_one_line(tmp_path, make_picture, make_dicom):
    radiograph = read(make_dicom(make_picture(np.uint8, 0, 255), name="a.dcm"))
    del radiograph.dataset.file_meta.TransferSyntaxUID
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match="too damaged"):
        write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    assert sorted(tmp_path.iterdir()) == before


def test_only_dicom_sources_become_dicom(tmp_path, make_picture):
    with pytest.raises(OutputError):
        write(from_array(make_picture(np.uint8, 0, 255)), tmp_path / "edited.dcm", text=TEXT)
    assert list(tmp_path.iterdir()) == []


def test_the_radiograph_does_not_carry_stale_pixels(make_picture, make_dicom):
    assert "PixelData" not in read(make_dicom(make_picture(np.uint8, 0, 255))).dataset


# What is refused.


@pytest.mark.parametrize("modality", ["CT", "MR", "OT", "US", "XA", "C\nR", "", None])
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_other_modalities(make_picture, make_dicom, modality):
    # Without a Modality, the SOP class would decide.
    known = {} if modality else {"SOPClassUID": None, "preamble": False}
    message = refused(make_dicom(make_picture(np.uint16, 0, 4095), 12, Modality=modality, **known))
    assert "Modality" in message if not modality else "not a projection radiograph" in message


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({"PixelData": None}, "no pixel data"),
        ({"PixelData": bytes(100)}, "cut short"),
        ({"PixelData": b""}, "cut short"),
        ({"Rows": None}, "no Rows"),
        ({"Rows": 60_000, "Columns": 60_000}, "100 megapixels"),
        ({"Rows": 1, "Columns": 1}, "too small"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"BitsAllocated": 32}, "bits"),
        ({"BitsStored": 17}, "bits"),
        ({"BitsStored": 4}, "bits"),
        ({"HighBit": 15}, "high bit 15"),
        ({"BitsStored": 10, "HighBit": 9}, "beyond the 10 bits"),
        ({"PatientOrientation": ["R", "F"]}, "PatientOrientation"),
        ({"PatientOrientation": ["L", "H"]}, "PatientOrientation"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
        ({"WindowCenter": 100, "WindowWidth": 0}, "WindowWidth"),
        ({"WindowCenter": 100, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "VOILUTFunction"),
        ({"VOILUTSequence": lut(0, [0, 9, 3, 12], 12)}, "rises and falls"),
        ({"VOILUTSequence": lut(0, [7, 7], 12)}, "no contrast"),
        ({"ModalityLUTSequence": lut(0, [7, 7], 12)}, "no contrast"),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "no contrast"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "-".join(value),
)
def test_unusable_headers(make_picture, make_dicom, tags, reason):
    assert reason in refused(make_dicom(make_picture(np.uint16, 0, 4095), 12, **tags))


def test_accepted_orientation(make_picture, make_dicom):
    read(make_dicom(make_picture(np.uint8, 0, 255), PatientOrientation=["L", "F"]))


def test_short_lut(make_picture, make_dicom):
    item = lut(0, list(range(100)), 12)
    item[0].LUTDescriptor = [200, 0, 12]
    assert "cut short" in refused(make_dicom(make_picture(np.uint16, 0, 4095), 12, VOILUTSequence=item))


def test_no_contrast(make_dicom):
    assert "no contrast" in refused(make_dicom(np.full((40, 40), 9, np.uint16), 12))


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "SC", "RG"])
def test_projection_modalities(tmp_path, make_picture, make_dicom, modality):
    pixels = make_picture(np.uint16, 0, 4095)
    radiograph = read(make_dicom(pixels, 12, Modality=modality, SOPClassUID=None, preamble=False))
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    assert "Image Storage" in pydicom.dcmread(tmp_path / "edited.dcm").SOPClassUID.name
    np.testing.assert_array_equal(read(tmp_path / "edited.dcm").pixels, pixels)


def test_scanned_film_of_modality_other(make_picture, make_dicom):
    pixels = make_picture(np.uint8, 0, 255)
    path = make_dicom(pixels, Modality="OT", SOPClassUID=uid.SecondaryCaptureImageStorage)
    np.testing.assert_array_equal(read(path).pixels, pixels)


@pytest.mark.parametrize("syntax, word", [(uid.MPEG2MPML, "MPEG2"), (uid.UID("1.2.3.4.5"), "1.2.3.4.5")])
def test_other_transfer_syntaxes(make_picture, make_dicom, syntax, word):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12)
    body = path.read_bytes()
    plain = uid.ExplicitVRLittleEndian.encode()
    plain += bytes(len(plain) % 2)
    at = body.index(plain)
    value = syntax.encode() + bytes(len(syntax) % 2)
    length = int.from_bytes(body[140:144], "little") + len(value) - len(plain)
    meta = body[:140] + length.to_bytes(4, "little") + body[144 : at - 2]
    path.write_bytes(meta + len(value).to_bytes(2, "little") + value + body[at + len(plain) :])
    message = refused(path)
    assert word in message and "convert" in message


def test_deflated_is_refused_before_inflating(tmp_path, make_picture, make_dicom):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12)
    body = path.read_bytes()
    end = 144 + int.from_bytes(body[140:144], "little")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(body[end:] + bytes(3_000_000)) + deflate.flush()
    old, new = uid.ExplicitVRLittleEndian.encode(), uid.DeflatedExplicitVRLittleEndian.encode()
    at = body.index(old)
    padded_old, padded_new = old + bytes(len(old) % 2), new + bytes(len(new) % 2)
    meta = body[: at - 2] + len(padded_new).to_bytes(2, "little") + padded_new + body[at + len(padded_old) : end]
    path.write_bytes(meta + bomb)
    assert "Deflated" in refused(path)


def test_encapsulated_against_the_syntax(make_picture, make_dicom):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12)
    body = bytearray(path.read_bytes())
    at = body.index(b"\xe0\x7f\x10\x00OW") + 8
    body[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(body)
    refused(path)


def test_cut_short_anywhere(make_picture, make_dicom):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12)
    body = path.read_bytes()
    for length in [133, 140, 200, 300, *range(400, len(body) - 1, 501), len(body) - 2]:
        path.write_bytes(body[:length])
        refused(path)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=["explicit", "implicit"])
def test_damage_is_an_input_error_or_harmless(make_picture, make_dicom, syntax):
    tags = {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTSequence": lut(0, list(range(4096)), 12)}
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, syntax=syntax, **tags)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(132, 900, 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read(path)
        except InputError as error:
            assert str(error).isprintable()


def test_nothing_but_a_preamble(tmp_path):
    for body in (bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 500, b"\x08\x00" + b"\x01" * 300):
        (tmp_path / "chest.dcm").write_bytes(body)
        refused(tmp_path / "chest.dcm")


def test_a_header_of_a_million_elements_is_refused_soon(make_picture, make_dicom):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, StudyDescription="MARK")
    body = path.read_bytes()
    at = body.index(b"\x08\x00\x30\x10LO")
    # Empty items of a sequence of undefined length: 8 bytes each, read one by one.
    items = b"\x08\x00\x12\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000
    path.write_bytes(body[:at] + items + b"\xfe\xff\xdd\xe0\0\0\0\0" + body[at:])
    started = time.process_time()
    assert "tens of thousands" in refused(path)
    assert time.process_time() - started < 8


def test_a_header_value_of_megabytes_is_not_parsed(make_picture, make_dicom):
    path = make_dicom(make_picture(np.uint16, 0, 4095), 12, syntax=uid.ImplicitVRLittleEndian, WindowCenter=1)
    body = path.read_bytes()
    at = body.index(b"\x28\x00\x50\x10")
    length = int.from_bytes(body[at + 4 : at + 8], "little")
    value = b"1\\" * 1_000_000
    path.write_bytes(body[: at + 4] + len(value).to_bytes(4, "little") + value + body[at + 8 + length :])
    assert "longer than 1 MiB" in refused(path)
