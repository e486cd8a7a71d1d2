"""Small synthetic files of every accepted kind, written with the libraries' own writers."""

import numpy as np
import pydicom
import pytest
from pydicom import uid


def picture(dtype, low, high, height=40, width=56, seed=0):
    """(height, width) stored values spread over [low, high], both ends present."""
    pixels = np.random.default_rng(seed).integers(low, high, (height, width), endpoint=True)
    pixels[0, :2] = low, high
    return pixels.astype(dtype)


@pytest.fixture
def make_picture():
    return picture


@pytest.fixture
def make_dicom(tmp_path):
    """make_dicom(pixels, bits, syntax=..., preamble=True, **tags) -> path; a tag set to None is left out."""

    def make(pixels, bits=None, *, syntax=uid.ExplicitVRLittleEndian, preamble=True, name="chest.dcm", **tags):
        allocated = 8 * pixels.dtype.itemsize
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        defaults = {
            "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
            "SOPInstanceUID": "1.2.3.4",
            "SeriesInstanceUID": "1.2.3",
            "StudyInstanceUID": "1.2",
            "PatientID": "P1",
            "ImageType": ["ORIGINAL", "PRIMARY", ""],
            "SeriesDescription": "Chest PA",
            "Modality": "DX",
            "PhotometricInterpretation": "MONOCHROME2",
            "SamplesPerPixel": 1,
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "BitsAllocated": allocated,
            "BitsStored": bits or allocated,
            "HighBit": (bits or allocated) - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
            "PixelData": pixels.tobytes() + bytes(pixels.nbytes % 2),
        }
        for keyword, value in (defaults | tags).items():
            if value is not None:
                setattr(dataset, keyword, value)
        if "PixelData" in dataset:
            dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
        path = tmp_path / name
        if preamble:
            dataset.save_as(path, enforce_file_format=True)
        else:
            del dataset.file_meta
            dataset.save_as(path, implicit_vr=syntax == uid.ImplicitVRLittleEndian, little_endian=True)
        return path

    return make
