"""Every claim of a result is checked: each result here has one fault, and each is rejected."""

import json
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from instructx2x.editing import Editor
from instructx2x.editing.batch import run_batch
from instructx2x.editing.rows import table_rows
from instructx2x.errors import InputError
from instructx2x.results.seal import seal
from instructx2x.results.verify import results_in, verify_batch, verify_result

ADD = "Add the finding of left pleural effusion."
QUICK = {"anatomy": "prior", "steps": 1}
PARTS = ("edited.png", "comparison.png", "guidance_map.png", "mask.png", "maps.npz")


@pytest.fixture(scope="module")
def editor(tiny_model):
    return Editor.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def made(editor, make_chest, tmp_path_factory):
    """Results of every kind, and the folder of their sources."""
    folder = tmp_path_factory.mktemp("made")
    sources, out = folder / "sources", folder / "out"
    sources.mkdir()
    Image.fromarray(make_chest(90, 75)).save(sources / "film.png")
    Image.fromarray(make_chest(90, 75, 4000, np.uint16)).save(sources / "scan.tiff")
    film, scan = editor.open(sources / "film.png"), editor.open(sources / "scan.tiff")
    film.edit(ADD, **QUICK).save(out)
    scan.edit(ADD, samples=2, **QUICK).save(out)
    film.edit(ADD, profile="official", anatomy="prior", steps=1).save(out, name="published")
    film.edit(ADD, threshold=1.0, **QUICK).save(out, name="sparse")
    write_dicom(sources / "cr.dcm", make_chest(90, 75, 4095, np.uint16))
    cr = editor.open(sources / "cr.dcm")
    cr.edit(ADD, **QUICK).save(out)
    cr.edit(ADD, region=np.zeros((90, 75), bool), **QUICK).save(out, name="nowhere")
    film.guidance(ADD, anatomy="prior").save(out, name="maps")
    return sources, out


def write_dicom(path, pixels):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.ComputedRadiographyImageStorage, "1.2.3"
    dataset.Modality, dataset.PhotometricInterpretation = "CR", "MONOCHROME2"
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.add_new("PixelData", "OW", pixels.tobytes())
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def result(made, tmp_path):
    """A copy of a PNG's result, to be spoiled."""
    return shutil.copytree(made[1] / "film", tmp_path / "film")


@pytest.mark.parametrize("name", ["film", "scan", "published", "sparse", "cr", "nowhere", "maps"])
def test_what_was_just_written_holds(made, name):
    sources, out = made
    assert verify_result(out / name) == []
    source = sources / {"scan": "scan.tiff", "cr": "cr.dcm", "nowhere": "cr.dcm"}.get(name, "film.png")
    assert verify_result(out / name, source) == verify_result(out / name, sources) == []


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def reseal(folder, **changes):
    """Write digests that agree with the files as they are now, as a careful forger would."""
    report = report_of(folder) | changes
    for key in ("files", "sha256"):
        del report[key]
    seal(folder, report)


def repaint(path, where, by=1):
    """Change one pixel and keep the picture's marks."""
    image = Image.open(path)
    marks = PngImagePlugin.PngInfo()
    for key, value in image.text.items():
        marks.add_text(key, value)
    pixels = np.array(image)
    pixels[where] = np.where(pixels[where] < 128, pixels[where].astype(int) + by, pixels[where].astype(int) - by)
    Image.fromarray(pixels).save(path, pnginfo=marks)


def rewrite_maps(folder, **changes):
    maps = dict(np.load(folder / "maps.npz")) | changes
    np.savez(folder / "maps.npz", **maps)


def pixel(folder, inside):
    rows, columns = np.nonzero(np.load(folder / "maps.npz")["mask"] == inside)
    return rows[len(rows) // 2], columns[len(rows) // 2]


def changed_map(name, value):
    def change(folder):
        array = np.load(folder / "maps.npz")[name].copy()
        array[pixel(folder, True)] = value
        rewrite_maps(folder, **{name: array})

    return change


def without_mark(name, key="Synthetic", value=None):
    def change(folder):
        image = Image.open(folder / name)
        marks = PngImagePlugin.PngInfo()
        for entry, text in {**image.text, key: value}.items():
            if text is not None:
                marks.add_text(entry, text)
        image.save(folder / name, pnginfo=marks)

    return change


def cropped(name):
    return lambda folder: _save_with_marks(folder / name, lambda pixels: pixels[:-1])


def _save_with_marks(path, change):
    image = Image.open(path)
    marks = PngImagePlugin.PngInfo()
    for key, value in image.text.items():
        marks.add_text(key, value)
    Image.fromarray(change(np.array(image))).save(path, pnginfo=marks)


def truncated(name):
    def change(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return change


def smaller_maps(folder):
    rewrite_maps(folder, **{name: array[:-1] for name, array in np.load(folder / "maps.npz").items()})


def edited_report(*path, value):
    def change(folder):
        report = report_of(folder)
        inner = report
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        (folder / "report.json").write_text(json.dumps(report))

    return change


# What shows by itself, digests or no digests.
FAULTS = {
    "a pixel outside the mask": lambda folder: repaint(folder / "edited.png", pixel(folder, False)),
    "a map without its product": changed_map("guidance", 0.123),
    "another relevance": changed_map("relevance", 0.0),
    "another pseudo mask": changed_map("pseudo_mask", 0.0),
    "a pixel taken out of the mask": changed_map("mask", False),
    "no number": changed_map("relevance", np.nan),
    "infinity": changed_map("guidance", np.inf),
    "a negative map": changed_map("relevance_spread", -0.5),
    "a map above 1": changed_map("relevance", 1.5),
    "another mark's model": without_mark("edited.png", "Model", "another"),
    "another mark's instruction": without_mark("edited.png", "Instruction", "Add the finding of edema."),
    "a smaller edited image": cropped("edited.png"),
    "another mask picture": lambda folder: repaint(folder / "mask.png", (30, 30)),
    "smaller maps": smaller_maps,
    "a map missing": lambda folder: np.savez(folder / "maps.npz", mask=np.load(folder / "maps.npz")["mask"]),
    "a map of another kind": lambda folder: rewrite_maps(folder, mask=np.load(folder / "maps.npz")["mask"] * 1.0),
    "objects in the maps": lambda folder: rewrite_maps(folder, mask=np.array([print], dtype=object)),
    "another count": edited_report("mask", "pixels", value=3),
    "another fraction": edited_report("mask", "fraction", value=0.5),
    "another highest guidance": edited_report("mask", "highest_guidance", value=0.5),
    "another threshold": edited_report("parameters", "threshold", value=0.9),
    "not synthetic": edited_report("synthetic", value=False),
    "pixels outside": edited_report("pixels_changed_outside_mask", value=1),
    **{f"no mark on {name}": without_mark(name) for name in PARTS[:-1]},
    **{f"{name} cut short": truncated(name) for name in PARTS},
    **{f"no {name}": lambda folder, name=name: (folder / name).unlink() for name in PARTS},
}
# What only the digests tell.
SILENT = {
    "a pixel inside the mask": lambda folder: repaint(folder / "edited.png", pixel(folder, True)),
    "a pixel of the comparison": lambda folder: repaint(folder / "comparison.png", (30, 30)),
    "another spread": changed_map("relevance_spread", 0.25),
    "another seed": edited_report("seed", value=7),
    "another instruction": edited_report("instruction", "text", value="Add the finding of edema."),
    "other warnings": edited_report("warnings", value=["none"]),
    "another verdict": edited_report("verification", value=None),
    "no digests": edited_report("files", value={}),
    "no digest of the report": edited_report("sha256", value=None),
    "a foreign file": lambda folder: (folder / "notes.txt").write_text("mine"),
    "a report cut short": truncated("report.json"),
    "no report": lambda folder: (folder / "report.json").unlink(),
    "a report that is a list": lambda folder: (folder / "report.json").write_text("[]"),
    "a report of deep nesting": lambda folder: (folder / "report.json").write_text("[" * 100_000),
}


@pytest.mark.parametrize("fault", [*FAULTS, *SILENT])
def test_every_fault_is_rejected(result, fault):
    {**FAULTS, **SILENT}[fault](result)
    problems = verify_result(result)
    assert problems and all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows_even_with_digests_made_anew(result, fault):
    FAULTS[fault](result)
    reseal(result)
    assert verify_result(result)


def test_the_source_shows_what_no_digest_can(made, result):
    """Inside the mask the model decides, so nothing but the source tells how many pixels changed."""
    sources = made[0]
    repaint(result / "edited.png", pixel(result, True), by=0)
    reseal(result, pixels_changed=1)
    assert verify_result(result) == []
    assert any("changed pixels" in problem for problem in verify_result(result, sources / "film.png"))
    assert any("not the source" in problem for problem in verify_result(result, sources / "scan.tiff"))
    assert any("no such file" in problem for problem in verify_result(result, sources / "absent.png"))


def test_samples_and_the_published_algorithm_are_checked_too(made, tmp_path):
    scan = shutil.copytree(made[1] / "scan", tmp_path / "scan")
    (scan / "edited_seed_1.tiff").unlink()
    reseal(scan)
    assert any("edited_seed_1" in problem for problem in verify_result(scan))

    published = shutil.copytree(made[1] / "published", tmp_path / "published")
    changed_map("guidance", 0.5)(published)
    reseal(published)
    assert any("does not follow" in problem for problem in verify_result(published))


def spoiled_dicom(name, change):
    def spoil(folder):
        dataset = pydicom.dcmread(folder / name)
        change(dataset)
        dataset.save_as(folder / name)

    return spoil


def other_bytes(dataset):
    dataset.PixelData = bytes(len(dataset.PixelData))


@pytest.mark.parametrize("name", ["edited.dcm", "mask.dcm", "guidance_map.dcm"])
@pytest.mark.parametrize("change", [other_bytes, lambda dataset: dataset.pop("SyntheticData"), None])
def test_dicom_files_are_checked_too(made, tmp_path, name, change):
    folder = shutil.copytree(made[1] / "cr", tmp_path / "cr")
    (spoiled_dicom(name, change) if change else truncated(name))(folder)
    reseal(folder)
    assert any(problem.startswith(name) for problem in verify_result(folder))


def test_a_batch_agrees_with_its_results(editor, made, tmp_path):
    table, out = made[0] / "table.csv", tmp_path / "batch"
    table.write_text(f"image,instruction\nfilm.png,{ADD}\nscan.tiff,{ADD}\nabsent.png,{ADD}\n")
    run_batch(editor, table_rows(table), out, **QUICK)
    folders = results_in(out)
    assert [folder.name for folder in folders] == ["film", "scan"]
    assert verify_batch(out, folders) == [] and not any(verify_result(folder) for folder in folders)

    shutil.copytree(out / "film", out / "more")
    shutil.rmtree(out / "scan")
    problems = verify_batch(out, results_in(out))
    assert any(problem.startswith("scan") for problem in problems)
    assert any(problem.startswith("more") for problem in problems)

    manifest = out / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 5', 1))
    assert any("seed" in problem for problem in verify_batch(out, results_in(out)))


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        results_in(tmp_path / "absent")
    with pytest.raises(InputError, match="no result"):
        results_in(tmp_path)


def test_the_command_exits_with_0_only_if_everything_holds(made, result, run):
    assert run("verify", made[1])[0] == 0
    assert run("verify", result, "--source", made[0])[0] == 0
    repaint(result / "edited.png", pixel(result, False))
    code, out, err = run("verify", result)
    assert code == 2 and "outside the mask" in out and err.startswith("error: ") and err.count("\n") == 1
