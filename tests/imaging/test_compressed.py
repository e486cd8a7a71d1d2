"""Compressed and big-endian DICOM: every decoder against another calculation, and the way back to a file."""

import io
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from instructx2x.errors import InputError
from instructx2x.imaging import compressed, edited_suffix, read, write

TEXT = {"Synthetic": "yes"}


def smooth(bits, height=72, width=90, seed=0):
    """A picture with gradients, edges and noise over the full range of `bits`: (height, width) unsigned."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.sin(rows / 9) + np.cos(columns / 7) + 0.05 * np.random.default_rng(seed).normal(size=rows.shape)
    pixels = np.round((waves - waves.min()) / np.ptp(waves) * ((1 << bits) - 1))
    return pixels.astype(np.uint8 if bits == 8 else np.uint16)


def rle(pixels):
    """DICOM RLE: a header of 16 words, then one PackBits segment per byte, the high one first."""
    planes = [pixels >> 8, pixels & 255] if pixels.itemsize == 2 else [pixels]
    segments = [imagecodecs.packbits_encode(plane.astype(np.uint8).tobytes()) for plane in planes]
    segments = [segment + bytes(len(segment) % 2) for segment in segments]
    starts = [64, 64 + len(segments[0])][: len(segments)]
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(segments)


def jpeg(pixels, bits, **options):
    return imagecodecs.jpeg8_encode(pixels, bitspersample=bits, **options)


def jpeg2k(pixels, bits, level=0):
    return imagecodecs.jpeg2k_encode(pixels, level=level, codecformat="j2k", bitspersample=bits, reversible=not level)


LOSSLESS = {
    "process 14, SV1": (uid.JPEGLosslessSV1, lambda p, bits: jpeg(p, bits, lossless=True, predictor=1)),
    "process 14, SV6": (uid.JPEGLossless, lambda p, bits: jpeg(p, bits, lossless=True, predictor=6)),
    "JPEG-LS": (uid.JPEGLSLossless, lambda p, bits: imagecodecs.jpegls_encode(p)),
    "JPEG 2000": (uid.JPEG2000Lossless, jpeg2k),
    "JPEG 2000, HT": (uid.HTJ2KLossless, lambda p, bits: imagecodecs.htj2k_encode(p)),
    "RLE": (uid.RLELossless, lambda p, bits: rle(p)),
}


@pytest.fixture
def make_compressed(make_dicom, tmp_path):
    """make_compressed(pixels, bits, syntax, codestream, **tags) -> path."""

    def make(pixels, bits, syntax, codestream, *, fragments=1, **tags):
        path = make_dicom(pixels, bits, **tags)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([codestream], fragments_per_frame=fragments)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_lossless_sources_are_exact_and_round_trip(tmp_path, make_compressed, name, bits):
    syntax, encode = LOSSLESS[name]
    pixels = smooth(bits)
    tags = {"ExtendedOffsetTable": bytes(8), "ExtendedOffsetTableLengths": bytes(8)} if bits == 12 else {}
    path = make_compressed(pixels, bits, syntax, encode(pixels, bits), fragments=2, **tags)
    before = path.read_bytes()
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    assert radiograph.pixels.dtype == pixels.dtype
    assert (radiograph.bits, radiograph.lossy) == (bits, False)

    where = np.zeros(pixels.shape, bool)
    where[20:40, 30:60] = True
    edited = radiograph.with_display(1 - radiograph.display(), where)
    write(edited, tmp_path / f"edited{edited_suffix(edited)}", text=TEXT)
    assert path.read_bytes() == before
    copy = pydicom.dcmread(tmp_path / "edited.dcm")
    assert copy.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert not copy["PixelData"].is_undefined_length
    assert "ExtendedOffsetTable" not in copy and "ExtendedOffsetTableLengths" not in copy
    np.testing.assert_array_equal(copy.pixel_array, edited.pixels)
    np.testing.assert_array_equal(copy.pixel_array[~where], pixels[~where])
    assert (copy.pixel_array[where] != pixels[where]).any()


@pytest.mark.parametrize("name", [name for name in LOSSLESS if "2000" not in name])
@pytest.mark.parametrize("precision", [12, 16])
def test_signed_values_in_codestreams_without_a_sign(make_compressed, name, precision):
    syntax, encode = LOSSLESS[name]
    pixels = smooth(12).astype(np.int16) - 2048
    words = pixels.view(np.uint16) & ((1 << precision) - 1)
    path = make_compressed(pixels, 12, syntax, encode(words, precision))
    np.testing.assert_array_equal(read(path).pixels, pixels)


def test_a_sign_at_the_precision_of_the_codestream(make_compressed):
    pixels = smooth(12).astype(np.int16) - 2048
    words = pixels.view(np.uint16) & 0x0FFF
    codestream = jpeg(words, 12, lossless=True, predictor=1)
    np.testing.assert_array_equal(read(make_compressed(pixels, 16, uid.JPEGLosslessSV1, codestream)).pixels, pixels)


def test_signed_jpeg_2000(make_compressed):
    pixels = smooth(12).astype(np.int16) - 2048
    path = make_compressed(pixels, 12, uid.JPEG2000Lossless, jpeg2k(pixels, 12))
    np.testing.assert_array_equal(read(path).pixels, pixels)
    unsigned = make_compressed(pixels.astype(np.uint16), 12, uid.JPEG2000Lossless, jpeg2k(pixels, 12))
    with pytest.raises(InputError, match="negative values"):
        read(unsigned)


def test_lossy_sources_are_near_and_become_png(tmp_path, make_compressed):
    eight, twelve = smooth(8), smooth(12)
    near = imagecodecs.jpegls_encode(twelve, level=3)
    cases = [
        (uid.JPEGBaseline8Bit, eight, 8, jpeg(eight, 8, level=95), 12),
        (uid.JPEGExtended12Bit, twelve, 12, jpeg(twelve, 12, level=98), 120),
        (uid.JPEGLSNearLossless, twelve, 12, near, 3),
        (uid.JPEG2000, twelve, 12, jpeg2k(twelve, 12, level=60), 90),
        (uid.JPEG2000, twelve, 12, jpeg2k(twelve, 12), 0),
        # The codestream is believed where the transfer syntax claims to lose nothing.
        (uid.JPEGLSLossless, twelve, 12, near, 3),
        (uid.JPEG2000Lossless, twelve, 12, jpeg2k(twelve, 12, level=60), 90),
        (uid.JPEGLosslessSV1, twelve, 12, jpeg(twelve, 12, level=98), 120),
    ]
    for syntax, pixels, bits, codestream, most in cases:
        radiograph = read(make_compressed(pixels, bits, syntax, codestream))
        assert np.abs(radiograph.pixels.astype(int) - pixels).max() <= most, syntax.name
        assert radiograph.lossy and edited_suffix(radiograph) == ".png", syntax.name
        write(radiograph, tmp_path / "edited.png", text=TEXT)
        np.testing.assert_array_equal(read(tmp_path / "edited.png").pixels, radiograph.pixels)


def test_baseline_is_what_pillow_decodes(make_compressed):
    pixels = smooth(8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=70)
    path = make_compressed(pixels, 8, uid.JPEGBaseline8Bit, buffer.getvalue())
    np.testing.assert_array_equal(read(path).pixels, np.asarray(Image.open(buffer)))


def test_jpeg_2000_is_what_pillow_decodes(make_compressed):
    pixels = smooth(16)
    codestream = jpeg2k(pixels, 16, level=50)
    expected = np.asarray(Image.open(io.BytesIO(codestream)))
    assert (expected != pixels).any()
    radiograph = read(make_compressed(pixels, 16, uid.JPEG2000, codestream))
    np.testing.assert_array_equal(radiograph.pixels, expected)


# Frames of pydicom's own test files, made by other encoders; their modality is no radiograph's, so it is set.
@pytest.mark.parametrize("sibling", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "expb", "implicit"])
def test_the_same_picture_in_other_syntaxes(tmp_path, sibling):
    expected = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array
    source = pydicom.dcmread(get_testdata_file(f"MR_small_{sibling}.dcm", download=False))
    source.Modality = "DX"
    source.save_as(tmp_path / "chest.dcm")
    radiograph = read(tmp_path / "chest.dcm")
    np.testing.assert_array_equal(radiograph.pixels, expected)
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    copy = pydicom.dcmread(tmp_path / "edited.dcm")
    assert copy.file_meta.TransferSyntaxUID.is_little_endian
    np.testing.assert_array_equal(copy.pixel_array, expected)
    for keyword in ("PixelSpacing", "Rows"):
        assert copy[keyword].value == source[keyword].value
    write(radiograph, tmp_path / "kept.dcm", text=TEXT, keep_patient=True)
    copy = pydicom.dcmread(tmp_path / "kept.dcm")
    for keyword in ("PatientName", "PixelSpacing", "StudyDate", "Rows"):
        assert copy[keyword].value == source[keyword].value


def test_twelve_bit_jpeg_of_another_encoder(tmp_path):
    source = pydicom.dcmread(get_testdata_file("JPGExtended.dcm", download=False))
    source.Modality = "DX"
    source.save_as(tmp_path / "chest.dcm")
    radiograph = read(tmp_path / "chest.dcm")
    assert radiograph.lossy and radiograph.pixels.shape == (1024, 256)
    # As another decoder, the JPEG committee's reference software, gives them.
    assert (radiograph.pixels[420, 140], radiograph.pixels[230, 120]) == (244, 95)


@pytest.mark.parametrize(
    "dtype, bits, vr", [(np.uint8, 8, "OW"), (np.uint8, 8, "OB"), (np.uint16, 12, "OW"), (np.int16, 12, "OW")]
)
@pytest.mark.parametrize("meta", [True, False])
def test_big_endian(tmp_path, make_dicom, dtype, bits, vr, meta):
    pixels = smooth(bits, width=88).astype(dtype) - (2048 if dtype == np.int16 else 0)
    pixels = pixels.astype(dtype)
    dataset = pydicom.dcmread(make_dicom(pixels, bits))
    item = pydicom.Dataset()
    item.LUTDescriptor = [1 << bits, int(pixels.min()) if dtype == np.int16 else 0, bits]
    item["LUTDescriptor"].VR = "SS" if dtype == np.int16 else "US"
    entries = (np.linspace(0, 1, 1 << bits) ** 2 * ((1 << bits) - 1)).astype(np.uint16)
    item.add_new("LUTData", "OW", entries.astype(">u2").tobytes())
    dataset.VOILUTSequence = [item]
    body = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    if vr == "OW" and bits == 8:
        body = np.frombuffer(body, "<u2").byteswap().tobytes()
    dataset.add_new("PixelData", vr, body)
    path = tmp_path / "big.dcm"
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    fresh = pydicom.Dataset()
    fresh.update(dataset)
    fresh.file_meta = dataset.file_meta
    if meta:
        pydicom.dcmwrite(path, fresh, enforce_file_format=True)
    else:
        del fresh.file_meta
        pydicom.dcmwrite(path, fresh, implicit_vr=False, little_endian=False)
        path.write_bytes(bytes(128) + b"DICM" + path.read_bytes())
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    np.testing.assert_allclose(radiograph.table, entries / ((1 << bits) - 1), atol=1e-12)
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    copy = pydicom.dcmread(tmp_path / "edited.dcm")
    assert copy.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    np.testing.assert_array_equal(copy.pixel_array, pixels)
    # A table is written with 16 bits.
    np.testing.assert_allclose(read(tmp_path / "edited.dcm").table, radiograph.table, atol=1e-5)


# Damage.


@pytest.mark.parametrize("name", LOSSLESS)
def test_cut_short_is_refused(make_compressed, name):
    syntax, encode = LOSSLESS[name]
    pixels = smooth(12)
    whole = encode(pixels, 12)
    for share in (0.0, 0.3, 0.95):
        with pytest.raises(InputError):
            read(make_compressed(pixels, 12, syntax, whole[: int(len(whole) * share)] or b"\0\0"))


@pytest.mark.parametrize("name", LOSSLESS)
def test_zeros_behind_a_codestream_are_no_damage(make_compressed, name):
    syntax, encode = LOSSLESS[name]
    pixels = smooth(12)
    path = make_compressed(pixels, 12, syntax, encode(pixels, 12) + bytes(100))
    np.testing.assert_array_equal(read(path).pixels, pixels)


@pytest.mark.parametrize("name", LOSSLESS)
def test_another_image_than_the_header_names(make_compressed, name):
    syntax, encode = LOSSLESS[name]
    pixels = smooth(12)
    with pytest.raises(InputError, match=r"damaged|header says|bits in the compressed"):
        read(make_compressed(pixels, 12, syntax, encode(pixels[:40], 12)))
    with pytest.raises(InputError, match="bits in the compressed"):
        read(make_compressed(smooth(8), 8, syntax, encode(pixels, 12)))


def test_colour_in_the_codestream(make_compressed):
    colour = np.stack([smooth(8, seed=seed) for seed in range(3)], axis=-1)
    path = make_compressed(smooth(8), 8, uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(colour))
    with pytest.raises(InputError, match="3 components"):
        read(path)


def test_a_decoder_that_crashes_or_hangs_ends_in_one_line(monkeypatch, tmp_path, make_compressed):
    pixels = smooth(12)
    path = make_compressed(pixels, 12, uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels))
    for body in ("import os; os.abort()", "while True: pass", "import sys; print('uint16'); sys.exit(3)"):
        (tmp_path / "decoder.py").write_text(body)
        monkeypatch.setattr(compressed, "DECODER", tmp_path / "decoder.py")
        monkeypatch.setattr(compressed, "START_SECONDS", 1)
        monkeypatch.setattr(compressed, "PATIENCE", 1)
        with pytest.raises(InputError, match="damaged"):
            read(path)


def test_scans_without_end_are_refused_before_decoding(make_compressed):
    pixels = smooth(8)
    codestream = jpeg(pixels, 8)
    at = codestream.index(b"\xff\xda")
    bomb = codestream[:at] + codestream[at : at + 14] * 300_000 + codestream[at:]
    path = make_compressed(pixels, 8, uid.JPEGBaseline8Bit, bomb)
    with pytest.raises(InputError, match="scans"):
        read(path)


def test_not_encapsulated_against_the_syntax(make_dicom):
    path = make_dicom(smooth(12), 12)
    body = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    path.write_bytes(body)
    with pytest.raises(InputError, match="not encapsulated"):
        read(path)


# Overlays.


@pytest.mark.parametrize("dtype, low", [(np.uint16, 0), (np.int16, -2048)])
def test_an_overlay_in_unused_bits_leaves_the_pixels_alone(tmp_path, make_dicom, dtype, low):
    values = (smooth(12).astype(np.int64) + low).astype(dtype)
    mark = np.random.default_rng(1).random(values.shape) < 0.3
    words = (values.view(np.uint16) & 0x0FFF) | (mark.astype(np.uint16) << 13)
    path = make_dicom(words.view(dtype), 12)
    dataset = pydicom.dcmread(path)
    for element, vr, value in [
        (0x0010, "US", values.shape[0]),
        (0x0011, "US", values.shape[1]),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 16),
        (0x0102, "US", 13),
    ]:
        dataset.add_new((0x6000, element), vr, value)
    dataset.save_as(path)
    radiograph = read(path)
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert any("overlays" in warning for warning in radiograph.warnings)
    write(radiograph, tmp_path / "edited.dcm", text=TEXT)
    copy = pydicom.dcmread(tmp_path / "edited.dcm")
    np.testing.assert_array_equal(copy.pixel_array, values)
    assert not any(tag.group == 0x6000 for tag in copy.keys())
