"""Every claim of a result is checked: each result here has one fault, and each is rejected."""

import contextlib
import json
import os
import shutil
import warnings
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from instructx2x.editing import Editor
from instructx2x.editing.batch import run_batch
from instructx2x.editing.rows import table_rows
from instructx2x.errors import InputError
from instructx2x.results.seal import pixels_digest, report_digest, seal
from instructx2x.results.verify import results_in, verify_batch, verify_result

ADD = "Add the finding of left pleural effusion."
QUICK = {"anatomy": "prior", "steps": 1}
SOURCES = {
    **dict.fromkeys(["film", "published", "sparse", "maps"], "film.png"),
    **dict.fromkeys(["scan", "words"], "scan.tiff"),
    **dict.fromkeys(["cr", "nowhere", "long", "nothing"], "cr.dcm"),
}
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
    # The published algorithm takes any text.
    scan.edit("Füge hinzu:\n胸水 \\ é", profile="official", anatomy="prior", steps=1).save(out, name="words")
    cr.edit("Füge hinzu:\n胸水 \\ é " * 60, profile="official", anatomy="prior", steps=1).save(out, name="long")
    cr.edit(ADD, samples=3, region=np.zeros((90, 75), bool), **QUICK).save(out, name="nothing")
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


@pytest.mark.parametrize("name", [*SOURCES])
def test_what_was_just_written_holds(made, name):
    sources, out = made
    assert verify_result(out / name) == []
    source = sources / SOURCES[name]
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


def _drop(folder, key):
    report = report_of(folder)
    del report[key]
    (folder / "report.json").write_text(json.dumps(report))


def _replaced(path, make):
    """Put something else in a file's place; what was there lies beside the folder."""
    make(path, path.rename(path.parent.parent / f"old-{path.name}"))


def _zipped_twice(path):
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("mask.npy", archive.read("mask.npy"))


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
    "another mark's seed": without_mark("guidance_map.png", "Seed", "7"),
    "a formula that is none": without_mark("edited.png", "Stored value", "9e9 - PNG value"),
    "a formula that shifts": without_mark("edited.png", "Stored value", "PNG value - 3"),
    "another depth": lambda folder: _save_with_marks(folder / "edited.png", lambda pixels: pixels.astype(np.uint16)),
    "a foreign file": lambda folder: (folder / "notes.txt").write_text("mine"),
    "a seed too many": lambda folder: shutil.copy(folder / "edited.png", folder / "edited_seed_1.png"),
    "an edit without its name": lambda folder: _drop(folder, "written_as"),
    "an edit of another name": edited_report("written_as", value="edited.tiff"),
    "an edit outside": edited_report("written_as", value="../edited.png"),
    "a picture that is a link": lambda folder: _replaced(folder / "mask.png", lambda path, old: path.symlink_to(old)),
    "a map twice": lambda folder: _zipped_twice(folder / "maps.npz"),
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


WRONG = [None, True, -1, 0, 1 << 40, 10**400, 1e308, "", "x" * 5000, "../../x", "\ud800", [], [[]] * 3, {}, {"a": {}}]


def places(value, path=()):
    """Where values stand in a report, the dictionaries themselves included."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))


def test_a_report_of_wrong_values_ends_in_lines(made, result):
    """Whatever stands in a report, with digests made anew, its check ends with lines or with none."""
    whole = report_of(result)
    random = np.random.default_rng(0)
    for path in places(whole):
        for value in random.choice(len(WRONG), 2, replace=False):
            edited_report(*path, value=WRONG[value])(result)
            report = report_of(result)
            report["sha256"] = report_digest(report)
            (result / "report.json").write_text(json.dumps(report))
            assert all(isinstance(line, str) for line in verify_result(result, made[0]))
            if path[0] in ("files", "source", "mask", "instruction", "model") and len(path) == 1:
                assert verify_result(result)
            (result / "report.json").write_text(json.dumps(whole))
    assert verify_result(result) == []


def npy(name, header, size=1000):
    """An archive of one map with any header, over so many bytes of zeros."""

    def change(folder):
        maps = dict(np.load(folder / "maps.npz"))
        with zipfile.ZipFile(folder / "maps.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for other, array in maps.items():
                if other != name:
                    with archive.open(f"{other}.npy", "w") as file:
                        np.lib.format.write_array(file, array)
            with archive.open(f"{name}.npy", "w") as file:
                file.write(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
                for _ in range(size // 1000):
                    file.write(bytes(1000))

    return change


def huge_png(folder):
    """A picture of 10 gigapixels in a few bytes."""
    data = bytearray((folder / "mask.png").read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (folder / "mask.png").write_bytes(data)


def sparse(name, size):
    def change(folder):
        with open(folder / name, "r+b") as file:
            file.truncate(size)

    return change


SHAPE = b"{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"
HOSTILE = {
    "a pipe as report": lambda folder: _replaced(folder / "report.json", lambda path, old: os.mkfifo(path)),
    "a pipe as maps": lambda folder: _replaced(folder / "maps.npz", lambda path, old: os.mkfifo(path)),
    "a device as report": lambda folder: _replaced(folder / "report.json", lambda p, o: p.symlink_to("/dev/zero")),
    "a device as picture": lambda folder: _replaced(folder / "mask.png", lambda p, o: p.symlink_to("/dev/zero")),
    "a folder as report": lambda folder: _replaced(folder / "report.json", lambda path, old: path.mkdir()),
    "a link to nowhere": lambda folder: (folder / "more.png").symlink_to("nowhere"),
    "a link in a circle": lambda folder: (folder / "more").symlink_to("."),
    "a huge report": lambda folder: (folder / "report.json").write_text("[" + "[]," * 1_450_000 + "0]"),
    "a huge sparse file": sparse("maps.npz", 1 << 43),
    "a report of a deep value": lambda folder: (folder / "report.json").write_text(
        json.dumps(report_of(folder)).replace('"warnings": [', '"warnings": [' + "[" * 900 + "]" * 900 + ",", 1)
    ),
    "a map of terabytes": npy("relevance", SHAPE % b"(10000000, 100000)"),
    "a packed map of gigabytes": npy("relevance", SHAPE % b"(90, 75)", 50_000_000),
    "a map of no pixels": npy("relevance", SHAPE % b"(0, 75)"),
    "a map of a strange shape": npy("relevance", SHAPE % b"(90, -75)"),
    "a header that is no header": npy("relevance", b"{'descr': '"),
    "a header of brackets": npy("relevance", b"(" * 9000),
    "a picture of gigapixels": huge_png,
    "an archive of nothing": lambda folder: (folder / "maps.npz").write_bytes(b"PK\5\6" + bytes(18)),
}


@pytest.mark.parametrize("fault", HOSTILE)
@pytest.mark.parametrize("name", ["film", "published"])
def test_a_hostile_folder_ends_in_lines(made, tmp_path, name, fault):
    folder = shutil.copytree(made[1] / name, tmp_path / "hostile")
    HOSTILE[fault](folder)
    with contextlib.suppress(Exception):
        reseal(folder) if "report" not in fault and "sparse" not in fault else None
    problems = verify_result(folder)
    assert problems and all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("name", ["relevance_cells", "pseudo_mask_square"])
@pytest.mark.parametrize("shape", [b"(0, 5)", b"(5, 0)", b"(3, 7)", b"()", b"(1, 1)", b"(100000, 100000)"])
def test_maps_on_the_square_have_a_sane_shape(made, tmp_path, name, shape):
    folder = shutil.copytree(made[1] / "published", tmp_path / "published")
    npy(name, SHAPE % shape, 0)(folder)
    reseal(folder)
    assert verify_result(folder)


def test_samples_and_the_published_algorithm_are_checked_too(made, tmp_path):
    for name in ("edited_seed_1.tiff", "edited_mean.tiff", "samples.png", "edited.tiff"):
        scan = shutil.copytree(made[1] / "scan", tmp_path / name)
        (scan / name).unlink()
        reseal(scan)
        assert any(name in problem for problem in verify_result(scan))

    for name in ("edited_seed_1.tiff", "edited_mean.tiff"):  # each other's marks
        scan = shutil.copytree(made[1] / "scan", tmp_path / f"marks-{name}")
        shutil.copy(scan / "edited.tiff", scan / name)
        reseal(scan)
        assert any(problem.startswith(f"{name}: its mark") for problem in verify_result(scan))

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


def other_size(dataset):
    dataset.Rows, dataset.Columns = 65_000, 65_000


def other_bytes(dataset):
    dataset.PixelData = bytes(len(dataset.PixelData))


@pytest.mark.parametrize("name", ["edited.dcm", "mask.dcm", "guidance_map.dcm"])
@pytest.mark.parametrize("change", [other_bytes, lambda dataset: dataset.pop("SyntheticData"), other_size, None])
def test_dicom_files_are_checked_too(made, tmp_path, name, change):
    folder = shutil.copytree(made[1] / "cr", tmp_path / "cr")
    (spoiled_dicom(name, change) if change else truncated(name))(folder)
    reseal(folder)
    assert any(problem.startswith(name) for problem in verify_result(folder))


def test_a_dicom_edit_says_of_which_instruction(made, tmp_path):
    folder = shutil.copytree(made[1] / "cr", tmp_path / "cr")
    spoiled_dicom("edited.dcm", lambda dataset: setattr(dataset, "DerivationDescription", "Synthetic: yes"))(folder)
    reseal(folder)
    assert any("Derivation" in problem for problem in verify_result(folder))


@pytest.mark.parametrize("name", ["../film.png", "/etc/passwd", "..", "", None, ["film.png"], "x" * 5000])
def test_a_report_chooses_no_source_elsewhere(made, result, name):
    report = report_of(result)
    reseal(result, source=report["source"] | {"file": name})
    assert verify_result(result) == []
    assert verify_result(result, made[0])


def test_a_source_of_another_size_is_told(made, result):
    """A careful forger cuts every file alike; the source still has its size."""
    smaller_maps(result)
    for name in ("edited.png", "mask.png"):
        cropped(name)(result)
    maps, report = np.load(result / "maps.npz"), report_of(result)
    counts = {"pixels": int(maps["mask"].sum()), "fraction": float(maps["mask"].mean())}
    reseal(
        result,
        source=report["source"]
        | {
            "height": 89,
            "sha256_outside_mask": pixels_digest(np.array(Image.open(result / "edited.png")), ~maps["mask"]),
        },
        mask=report["mask"] | counts | {"highest_guidance": float(maps["guidance"].max())},
    )
    assert verify_result(result) == []
    assert any("another size" in problem for problem in verify_result(result, made[0]))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[]", '"done"', "{}", '{"status": "done"}', '{"status": "done", "folder": [{}]}', "\0", "\ud800"],
)
def test_a_hostile_manifest_ends_in_lines(made, tmp_path, text):
    out = tmp_path / "out"
    shutil.copytree(made[1] / "film", out / "film")
    line = json.dumps({"status": "done", "folder": 3}) + "\n"
    (out / "manifest.jsonl").write_bytes((line + text).encode("utf-8", "surrogatepass"))
    assert verify_batch(out, results_in(out))
    (out / "manifest.jsonl").unlink()
    os.mkfifo(out / "manifest.jsonl")
    assert verify_batch(out, results_in(out))


def test_a_result_without_its_report_is_no_stranger(made, tmp_path):
    out = tmp_path / "out"
    for name in ("film", "scan"):
        shutil.copytree(made[1] / name, out / name)
    (out / "film/report.json").unlink()
    (out / "notes").mkdir()
    assert [folder.name for folder in results_in(out)] == ["film", "scan"]
    assert verify_result(out / "film")


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
