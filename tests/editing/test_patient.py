"""What the results of a DICOM source say of its patient: nothing, unless the identity is to be kept."""

import json

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid

from instructx2x.editing import Editor
from instructx2x.imaging import read

ADD = "Add the finding of left pleural effusion."
QUICK = {"anatomy": "prior", "steps": 1}
SURNAME = "Zzyzx"
SEGMENTATIONS = {"mask.dcm", "guidance_map.dcm"}


@pytest.fixture(scope="module")
def editor(tiny_model):
    return Editor.from_pretrained(tiny_model, device="cpu")


@pytest.fixture
def chest_dicom(make_chest, tmp_path):
    """A CR of a patient, in a folder that is called by a name of its own."""
    pixels = make_chest(96, 80, 4095, np.uint16)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = uid.ComputedRadiographyImageStorage, "CR"
    for number, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")):
        setattr(dataset, keyword, f"1.3.6.1.4.1.99999.1.{number}")
    dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = f"{SURNAME}^A", f"{SURNAME}-1", f"{SURNAME}-2"
    dataset.StudyDate, dataset.BodyPartExamined, dataset.InstitutionName = "20251230", SURNAME, SURNAME
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PixelRepresentation = "MONOCHROME2", 1, 0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.add_new("PixelData", "OW", pixels.tobytes())
    folder = tmp_path / "secret-folder"
    folder.mkdir()
    dataset.save_as(folder / "chest.dcm", enforce_file_format=True)
    return folder / "chest.dcm"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_results_name_nobody_and_no_folder(editor, chest_dicom, tmp_path, tiny_model):
    region = chest_dicom.parent / "region.png"
    Image.fromarray(np.full((96, 80), 255, np.uint8)).save(region)
    folder = editor.open(chest_dicom).edit(ADD, samples=2, region=region, **QUICK).save(tmp_path / "out")
    written = contents(folder)
    assert {"edited.dcm", "edited_seed_1.dcm", "edited_mean.dcm", "mask.png"} | SEGMENTATIONS <= set(written)
    for name, content in written.items():
        for word in (SURNAME, SURNAME.upper(), "20251230", "secret-folder", str(tiny_model.parent), "99999.1."):
            assert word.encode() not in content, (name, word)
    report = json.loads(written["report.json"])
    assert report["source"]["file"] == "chest.dcm" and report["keep_patient"] is False
    assert report["model"]["name"] == tiny_model.name and report["mask"]["region"]["from"] == "region.png"
    patients = {str(pydicom.dcmread(path).PatientID) for path in folder.glob("*.dcm")}
    assert len(patients) == 1


def test_mask_and_guidance_map_are_the_arrays(editor, chest_dicom, tmp_path):
    result = editor.open(chest_dicom).edit(ADD, **QUICK)
    folder = result.save(tmp_path / "out")
    assert result.mask.any()
    with Image.open(folder / "mask.png") as picture:
        assert picture.mode == "L" and picture.text["Synthetic"] == "yes"
        np.testing.assert_array_equal(np.asarray(picture), np.where(result.mask, 255, 0))
    np.testing.assert_array_equal(pydicom.dcmread(folder / "mask.dcm").pixel_array, result.mask)
    guidance = pydicom.dcmread(folder / "guidance_map.dcm").pixel_array
    assert np.abs(guidance / 255 - result.guidance).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(read(folder / "edited.dcm").pixels, result.image.pixels)
    again = editor.open(chest_dicom).edit(ADD, **QUICK).save(tmp_path / "again")
    for name, content in contents(folder).items():
        assert name == "report.json" or content == (again / name).read_bytes(), name


def test_keep_patient_from_the_command_line(run, chest_dicom, tmp_path, tiny_model):
    out, options = tmp_path / "out", ("--model", tiny_model, "--anatomy", "prior", "--steps", 1, "--keep-patient")
    code, said, _ = run("edit", chest_dicom, ADD, "-o", out, *options)
    assert code == 0 and SURNAME not in said
    source = pydicom.dcmread(chest_dicom)
    for name in ("edited.dcm", *SEGMENTATIONS):
        made = pydicom.dcmread(out / "chest" / name)
        assert (made.PatientID, made.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    report = (out / "chest" / "report.json").read_text()
    assert json.loads(report)["keep_patient"] is True and SURNAME not in report


def test_a_batch_names_nobody_and_no_folder(run, chest_dicom, tmp_path, tiny_model):
    broken = chest_dicom.parent / "broken.dcm"
    broken.write_bytes(chest_dicom.read_bytes()[:900])
    table = tmp_path / "rows.csv"
    missing = chest_dicom.parent / "gone.dcm"
    table.write_text("image,instruction\n" + "".join(f'{path},"{ADD}"\n' for path in (chest_dicom, broken, missing)))
    out, options = tmp_path / "out", ("--model", tiny_model, "--anatomy", "prior", "--steps", 1)
    code, said, _ = run("batch", table, "-o", out, *options)
    assert code == 2 and SURNAME not in said and "secret-folder" not in said
    entries = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [(entry["image"], entry["status"]) for entry in entries] == [
        ("chest.dcm", "done"),
        ("broken.dcm", "failed"),
        ("gone.dcm", "failed"),
    ]
    assert entries[2]["reason"].startswith("gone.dcm: ")
    for path in out.rglob("*"):
        if path.is_file():
            for word in (SURNAME, SURNAME.upper(), "secret-folder", str(tmp_path)):
                assert word.encode() not in path.read_bytes(), (path.name, word)
    kept = tmp_path / "kept"
    assert run("batch", table, "-o", kept, *options, "--keep-patient")[0] == 2
    assert pydicom.dcmread(kept / "chest" / "edited.dcm").PatientID == f"{SURNAME}-1"
