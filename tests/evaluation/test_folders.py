"""Folders of edited images: which image is whose, what size it may have, and which maps are believed."""

import numpy as np
import pydicom
import pytest
from PIL import Image

from instructx2x.errors import InputError
from instructx2x.evaluation.cases import read_cases
from instructx2x.evaluation.folders import find_edited, read_edited, read_maps
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit, write


@pytest.fixture
def cases(tmp_path, make_chest):
    Image.fromarray(make_chest()).save(tmp_path / "a.png")
    (tmp_path / "cases.csv").write_text("image,instruction\na.png,Add edema\na.png,Add mass\n")
    (tmp_path / "edited").mkdir()
    return read_cases(tmp_path / "cases.csv")


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_anyones_images_and_those_of_a_batch(cases, tmp_path, make_chest):
    flat = save(tmp_path / "edited/a.jpg", make_chest())
    inside = save(tmp_path / "edited/a-2/edited.png", make_chest())
    (tmp_path / "edited/notes.txt").write_text("Dear doctor")
    assert find_edited(tmp_path / "edited", cases) == {"a": flat, "a-2": inside}


def test_what_is_missing_is_named(cases, tmp_path, make_chest):
    folder = tmp_path / "edited"
    with pytest.raises(InputError, match=r"2 of 2 cases; the first should be called a\.png$"):
        find_edited(folder, cases, partial=True)
    save(folder / "a.png", make_chest())
    with pytest.raises(InputError, match=r"1 of 2 cases; the first should be called a-2\.png, or give --partial"):
        find_edited(folder, cases)
    assert set(find_edited(folder, cases, partial=True)) == {"a"}
    save(folder / "a.tif", make_chest())
    with pytest.raises(InputError, match="two edited images of a"):
        find_edited(folder, cases, partial=True)
    with pytest.raises(InputError, match="no folder"):
        find_edited(tmp_path / "nowhere", cases)


def test_sizes(tmp_path, make_chest):
    source = read(save(tmp_path / "a.png", make_chest(96, 80)))
    same = save(tmp_path / "same.png", make_chest(96, 80, seed=1))
    np.testing.assert_array_equal(read_edited(same, source), read(same).display())
    for shape in ((192, 160), (64, 64), (48, 40)):
        found = read_edited(save(tmp_path / "other.png", make_chest(*shape)), source)
        assert found.shape == (96, 80) and found.dtype == np.float32
        assert np.abs(found - source.display()).mean() < 0.1
    with pytest.raises(InputError, match="100 x 96 pixels, its source 80 x 96"):
        read_edited(save(tmp_path / "wide.png", make_chest(96, 100)), source)


def test_deep_pixels_are_displayed_as_their_sources(tmp_path, make_chest):
    """A window measured on the edited image would be another one, and change every pixel."""
    pixels = make_chest(maximum=4000, dtype=np.uint16)
    source = read(save(tmp_path / "a.png", pixels))
    edited = pixels.copy()
    edited[20:40, 20:40] = 65535
    change = read_edited(save(tmp_path / "edited.png", edited), source) - source.display()
    where = np.zeros(change.shape, bool)
    where[20:40, 20:40] = True
    assert not change[~where].any() and change[where].all()


def test_maps_beside_an_image(tmp_path, make_chest):
    flat, inside = save(tmp_path / "a.png", make_chest()), save(tmp_path / "b/edited.png", make_chest())
    assert read_maps(flat, (96, 80)) == {}
    mask, guidance = np.zeros((96, 80), bool), np.random.default_rng(0).random((96, 80))
    mask[3] = True
    for path in (tmp_path / "a.npz", tmp_path / "b/maps.npz"):
        np.savez(path, mask=mask, guidance=guidance, other=np.arange(3))
    for path in (flat, inside):
        found = read_maps(path, (96, 80))
        assert set(found) == {"mask", "guidance"}
        np.testing.assert_array_equal(found["mask"], mask)
        np.testing.assert_array_equal(found["guidance"], guidance.astype(np.float32))


def test_maps_that_are_not_believed(tmp_path, make_chest):
    image = save(tmp_path / "a.png", make_chest())
    maps = tmp_path / "a.npz"
    for wrong in (np.zeros((80, 96), bool), np.array([["x"]]), np.full((96, 80), np.nan)):
        np.savez(maps, mask=wrong)
        with pytest.raises(InputError, match=r"a\.npz"):
            read_maps(image, (96, 80))
    np.savez(maps, mask=np.array([{}], dtype=object))  # a pickle
    with pytest.raises(InputError, match=r"a\.npz"):
        read_maps(image, (96, 80))
    maps.write_bytes(maps.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        read_maps(image, (96, 80))


def lossy_dicom(path, pixels, bits, **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    signed = int(pixels.dtype.kind == "i")
    size = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "BitsAllocated": 8 * pixels.itemsize}
    kind = {"SOPClassUID": pydicom.uid.ComputedRadiographyImageStorage, "SOPInstanceUID": "1.2", "Modality": "CR"}
    depth = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed, "LossyImageCompression": "01"}
    for keyword, value in (kind | size | depth | {"PhotometricInterpretation": "MONOCHROME2"} | tags).items():
        setattr(dataset, keyword, value)
    dataset.add_new("PixelData", "OW", pixels.tobytes())
    dataset.save_as(path, enforce_file_format=True)
    return read(path)


@pytest.mark.parametrize("dtype, bits", [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 12)])
@pytest.mark.parametrize("window", [None, 0.5])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_an_edited_png_is_displayed_as_its_source(tmp_path, make_chest, dtype, bits, window, photometric):
    """A lossy source's edit is a PNG of stored values, which alone would be shown by a window of its own."""
    low, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype == "i2" else (0, (1 << bits) - 1)
    pixels = (low + make_chest(maximum=(1 << bits) - 1, dtype=np.uint16).astype(int)).astype(dtype)
    tags = {"WindowCenter": (low + most) // 2, "WindowWidth": int((most - low) * window)} if window else {}
    source = lossy_dicom(tmp_path / "a.dcm", pixels, bits, PhotometricInterpretation=photometric, **tags)
    where = np.zeros(pixels.shape, bool)
    where[20:40, 20:40] = True
    edited = source.with_display(1 - source.display(), where)
    write(edited, tmp_path / "edited.png", text={"Synthetic": "yes"})
    np.testing.assert_array_equal(read_edited(tmp_path / "edited.png", source), edited.display())
    # Anyone else's picture of eight bits is brightness.
    Image.fromarray(eight_bit(source.display())).save(tmp_path / "other.png")
    assert np.abs(read_edited(tmp_path / "other.png", source) - source.display()).max() < 0.003


def test_archives_without_end_are_not_opened(tmp_path, make_chest):
    image = save(tmp_path / "a.png", make_chest())
    end = b"PK\5\6" + bytes(8) + (1 << 30).to_bytes(4, "little") + bytes(6)
    (tmp_path / "a.npz").write_bytes(b"PK\3\4" + bytes(99) + end)
    with pytest.raises(InputError, match=r"a\.npz"):
        read_maps(image, (96, 80))
