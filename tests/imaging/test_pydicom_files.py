"""Every file that pydicom ships for its own tests: other makers, other modalities, other damage."""

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import data

from instructx2x.errors import InputError
from instructx2x.imaging import edited_suffix, read, write

# Inside the installed package only; nothing is downloaded.
ROOT = Path(data.__file__).parent
FILES = sorted(path for folder in ("test_files", "charset_files") for path in (ROOT / folder).rglob("*"))


def read_or_line(path, most_seconds=10):
    """The radiograph, or None for an InputError, which must be one line."""
    started = time.monotonic()
    try:
        radiograph = read(path)
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 400
        radiograph = None
    assert time.monotonic() - started < most_seconds
    return radiograph


def check_round_trip(radiograph, folder):
    again = radiograph.with_display(radiograph.display(), np.ones(radiograph.pixels.shape, bool))
    np.testing.assert_array_equal(again.pixels, radiograph.pixels)
    path = folder / f"edited{edited_suffix(radiograph)}"
    write(again, path, text={"Synthetic": "yes"})
    copy = read(path)
    values = copy.pixels if path.suffix == ".dcm" else copy.pixels.astype(int) + radiograph.first
    if path.suffix == ".dcm" or not radiograph.inverted:
        np.testing.assert_array_equal(values, radiograph.pixels)
    else:
        np.testing.assert_array_equal(radiograph.first + len(radiograph.table) - 1 - copy.pixels, radiograph.pixels)


def test_there_are_files():
    assert sum(path.suffix == ".dcm" for path in FILES) > 50


@pytest.mark.parametrize("start", range(0, len(FILES), 50))
def test_as_they_are(tmp_path, start):
    for path in FILES[start : start + 50]:
        radiograph = read_or_line(path)
        if radiograph is not None:
            check_round_trip(radiograph, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_as_if_all_were_radiographs(tmp_path):
    """Most are refused for their modality before their pixels are looked at; here they say DX, and upright."""
    accepted = []
    for path in FILES:
        try:
            dataset = pydicom.dcmread(path)
            dataset.Modality = "DX"
            dataset.PatientOrientation = ["L", "F"]
            dataset.save_as(tmp_path / "chest.dcm")
        except Exception:
            continue
        radiograph = read_or_line(tmp_path / "chest.dcm")
        if radiograph is not None:
            check_round_trip(radiograph, tmp_path)
            accepted.append(path.name)
    # Of each syntax at least one, so that the loop above is known to have reached the decoders.
    expected = {"CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"}
    expected |= {"MR_small_expb.dcm", "JPGExtended.dcm", "693_J2KI.dcm", "JPEG2000.dcm", "J2K_pixelrep_mismatch.dcm"}
    assert expected <= set(accepted)
