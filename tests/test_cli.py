"""The command line: what it refuses and how, what it writes, and that what it says is true."""

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image
from pydicom import uid

from instructx2x import NOTICE, __version__
from instructx2x.cli import editing, options
from instructx2x.editing import PROFILES, SCHEDULERS
from instructx2x.editing.editor import MAX_SAMPLES
from instructx2x.models import BUNDLED
from instructx2x.models.backbone import DTYPES

ADD = "Add the finding of left pleural effusion."
QUICK = ["--anatomy", "prior", "--steps", "3"]
RESULT = {"edited.png", "comparison.png", "guidance_map.png", "mask.png", "maps.npz", "report.json"}


@pytest.fixture
def chest_file(tmp_path, make_chest):
    path = tmp_path / "chest.png"
    Image.fromarray(make_chest()).save(path)
    return path


def everything_in(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(said, *words):
    """Exit code 2 and one line that holds the words; nothing on stdout."""
    code, out, err = said
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word.lower() in err.lower(), err


# Bad images. Each maker writes one file into a folder and returns its path.


def _dicom(folder, **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    given = {
        "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": 64,
        "Columns": 64,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    } | tags
    for keyword, value in given.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    dataset.save_as(folder / "bad.dcm", enforce_file_format=True)
    return folder / "bad.dcm"


def _bytes(content, name="bad.png"):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _array(values, name="bad.png"):
    def make(folder):
        Image.fromarray(values).save(folder / name)
        return folder / name

    return make


def _truncated(folder):
    path = _array(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))(folder)
    path.write_bytes(path.read_bytes()[:1000])
    return path


def _enormous_header():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _not_a_number(folder):
    tifffile.imwrite(folder / "bad.tiff", np.full((64, 64), np.nan, np.float32))
    return folder / "bad.tiff"


_colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
BAD_IMAGES = {
    "missing": (lambda folder: folder / "nowhere.png", "no such file"),
    "a folder": (lambda folder: folder, "not a file"),
    "empty": (_bytes(b""), "empty"),
    "truncated": (_truncated, "damaged"),
    "not an image": (_bytes(b"Dear doctor, please find enclosed.\n", "bad.txt"), "not a PNG"),
    "colour photograph": (_array(_colour, "bad.jpg"), "colour"),
    "CT slice": (lambda folder: _dicom(folder, Modality="CT", SOPClassUID=uid.CTImageStorage), "CT"),
    "1 x 1": (_array(np.zeros((1, 1), np.uint8)), "too small"),
    "60,000 x 60,000": (_bytes(_enormous_header()), "megapixels"),
    "all one value": (_array(np.full((64, 64), 7, np.uint8)), "same value"),
    "NaN": (_not_a_number, "float"),
    "DICOM without pixels": (lambda folder: _dicom(folder, PixelData=None), "pixel"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_refused_in_one_line(kind, run, tmp_path):
    make, word = BAD_IMAGES[kind]
    image = make(tmp_path)
    before = everything_in(tmp_path)
    assert_refused(run("edit", image, ADD, "-o", tmp_path / "out"), word)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("instruction", "word"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("Add the finding of plural efusion.", "pleural effusion"),
        ("Paint it black.", "not understood"),
        ("Add edema, remove edema.", "edema"),
        ("Add edema. " * 200, "2,000"),
        ("Change the level of edema from mild to moderate to severe.", "from"),
        ("Add the finding\nof edema\x1b[31m.", "not understood"),
    ],
)
def test_a_wrong_instruction_is_refused_in_one_line(instruction, word, run, tmp_path, chest_file):
    before = everything_in(tmp_path)
    assert_refused(run("edit", chest_file, instruction, "-o", tmp_path / "out"), word)
    assert_refused(run("guidance", chest_file, instruction, "-o", tmp_path / "out"), word)
    assert everything_in(tmp_path) == before


def test_an_output_that_cannot_be_written_is_refused_before_the_work(run, tmp_path, chest_file, monkeypatch):
    monkeypatch.setattr("instructx2x.imaging.read", lambda path: pytest.fail("the output was not checked first"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "held/chest").mkdir(parents=True)
    (tmp_path / "held/chest/report.json").write_text("mine")
    before = everything_in(tmp_path)
    for out, word in (
        ("file", "is a file"),
        ("file/below", "is a file"),
        ("held", "--overwrite"),
    ):
        assert_refused(run("edit", chest_file, ADD, "-o", tmp_path / out), word, str(tmp_path / out.split("/")[0]))
    if Path("/proc").is_dir():  # where even root makes no folder
        assert_refused(run("edit", chest_file, ADD, "-o", "/proc/out"), "another folder")
    assert everything_in(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root ignores permissions")
def test_a_folder_without_permission_is_refused(run, tmp_path, chest_file):
    (tmp_path / "out").mkdir(mode=0o500)
    assert_refused(run("edit", chest_file, ADD, "-o", tmp_path / "out"), "another folder")


def test_what_is_no_result_is_never_overwritten(run, tmp_path, chest_file, tiny_model):
    (tmp_path / "out/chest").mkdir(parents=True)
    (tmp_path / "out/chest/letter.txt").write_text("mine")
    before = everything_in(tmp_path)
    said = run("edit", chest_file, ADD, "-o", tmp_path / "out", "--model", tiny_model, "--overwrite", *QUICK)
    assert_refused(said, "not a result")
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("model", ["nowhere", "./no/such/folder", "no-such-owner/no-such-model", "chest.png"])
def test_an_unknown_model_is_refused_in_one_line(model, run, tmp_path, chest_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = everything_in(tmp_path)
    assert_refused(run("edit", chest_file, ADD, "-o", tmp_path / "out", "--model", model), model)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--steps", "0"], "steps"),
        (["--steps", "many"], "--steps"),
        (["--seed", "-1"], "seed"),
        (["--samples", "0"], "samples"),
        (["--threshold", "2"], "threshold"),
        (["--region", "nowhere.png"], "nowhere.png"),
        (["--protect", "."], "--protect"),
        (["--text-guidance", "nan"], "text_guidance"),
        (["--profile", "best"], "--profile"),
        (["--scheduler", "ddimm"], "--scheduler"),
        (["--dtype", "int8"], "--dtype"),
        (["--device", "abacus"], "abacus"),
        (["--anatomy", "nowhere"], "nowhere"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line(flags, word, run, tmp_path, chest_file, tiny_model):
    before = everything_in(tmp_path)
    said = run("edit", chest_file, ADD, "-o", tmp_path / "out", "--model", tiny_model, *flags)
    assert_refused(said, word)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--steps", 0),
        ("--threshold", 1.5),
        ("--seed", -1),
        ("--samples", MAX_SAMPLES + 1),
        ("--region", "nowhere.png"),
    ],
)
def test_a_value_out_of_range_is_refused_before_the_work(flag, value, run, tmp_path, chest_file, monkeypatch):
    monkeypatch.setattr(editing, "_open", lambda *args: pytest.fail("the value was not checked first"))
    assert_refused(run("edit", chest_file, ADD, "-o", tmp_path / "out", flag, value), flag)


def test_missing_and_unknown_arguments_are_refused_in_one_line(run):
    assert_refused(run("edit"), "IMAGE", "x2x edit --help")
    assert_refused(run("edit", "chest.png", ADD), "--out")
    assert_refused(run("paint"), "paint", "x2x --help")
    assert_refused(run("train", "no-such-recipe", "--data", "nowhere", "--work", "nowhere"), "no-such-recipe")


def test_an_edit_writes_what_it_promises(run, tmp_path, make_chest, chest_file, tiny_model):
    source = chest_file.read_bytes()
    code, said, err = run("edit", chest_file, ADD, "-o", tmp_path / "out", "--model", tiny_model, "--seed", 3, *QUICK)
    assert (code, err) == (0, "")
    folder = tmp_path / "out/chest"
    assert {path.name for path in folder.iterdir()} == RESULT
    assert chest_file.read_bytes() == source and {path.name for path in tmp_path.iterdir()} == {"chest.png", "out"}

    pixels = make_chest()
    with np.load(folder / "maps.npz") as maps:
        for name in ("relevance", "pseudo_mask", "guidance"):
            assert maps[name].dtype == np.float32 and maps[name].shape == pixels.shape
        mask = maps["mask"]
    assert mask.dtype == bool and mask.shape == pixels.shape
    with Image.open(folder / "edited.png") as edited:
        assert edited.text["Synthetic"] == "yes" and edited.text["Seed"] == "3"
        assert edited.text["Instruction"] == ADD and f"{tiny_model.name} sha256:" in edited.text["Model"]
        changed = np.asarray(edited) != pixels
    assert changed[mask].any() and not changed[~mask].any()
    for name in ("comparison.png", "guidance_map.png"):
        with Image.open(folder / name) as picture:
            assert picture.mode == "RGB" and picture.text["Synthetic"] == "yes"

    report = json.loads((folder / "report.json").read_text())
    assert report["instruction"]["edits"] == [
        {"operation": "add", "finding": "pleural effusion", "side": "left"}
        | dict.fromkeys(("zone", "level", "from_level"))
    ]
    assert len(report["model"]["sha256"]) == 64
    assert (report["profile"], report["seed"], report["parameters"]["steps"]) == ("default", 3, 3)
    assert report["mask"]["fraction"] == mask.mean()
    assert report["pixels_changed"] == changed.sum() and report["pixels_changed_outside_mask"] == 0
    assert set(report["seconds"]) >= {"encoding", "relevance", "sampling", "compositing"}

    assert all(name in said for name in RESULT) and str(folder) in said
    assert f"mask: {mask.mean():.1%}" in said and f"changed: {changed.sum()} pixels, 0 of them outside" in said
    assert all(f"warning: {warning}" in said for warning in report["warnings"])
    assert said.rstrip().endswith(NOTICE)


def test_what_a_model_does_badly_is_said_before_and_once(run, tmp_path, chest_file, make_tiny_model):
    counts = {"add": {"pleural effusion": {"moved": 1, "of": 8}}}
    model = make_tiny_model(tmp_path / "m", calibration={"version": 1, "timesteps": {}, "reliability": counts})
    code, said, _ = run("edit", chest_file, ADD, "--model", model, "-o", tmp_path / "out", *QUICK)
    rarely = "warning: this model rarely draws pleural effusions convincingly (1 of 8 judged right)"
    assert code == 0 and said.startswith(f"{rarely}\n") and said.count("rarely") == 1
    assert "not measured\n" not in said.replace("under other edits of this model was not measured", "")


def test_a_model_without_measurements_says_so_once(run, tmp_path, chest_file, tiny_model):
    code, said, _ = run("edit", chest_file, ADD, "--model", tiny_model, "-o", tmp_path / "out", *QUICK)
    assert code == 0 and said.count("how reliably this model carries out edits was not measured") == 1
    assert "measured" not in "".join(json.loads((tmp_path / "out/chest/report.json").read_text())["warnings"])


def test_same_seed_same_bytes_and_no_silent_overwriting(run, tmp_path, chest_file, tiny_model):
    args = ["edit", chest_file, ADD, "--model", tiny_model, *QUICK]
    assert run(*args, "-o", tmp_path / "a")[0] == run(*args, "-o", tmp_path / "b")[0] == 0
    first = everything_in(tmp_path / "a")
    for name in RESULT - {"report.json"}:  # which holds the seconds it took
        assert (tmp_path / "b/chest" / name).read_bytes() == first[tmp_path / "a/chest" / name], name

    assert_refused(run(*args, "-o", tmp_path / "a", "--seed", 1), "--overwrite")
    assert everything_in(tmp_path / "a") == first
    assert run(*args, "-o", tmp_path / "a", "--seed", 1, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "a/chest/report.json").read_text())["seed"] == 1
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"chest"}


def test_guidance_gives_the_maps_of_the_edit(run, tmp_path, chest_file, tiny_model):
    args = [chest_file, ADD, "--model", tiny_model, "--anatomy", "prior"]
    assert run("edit", *args, "--steps", 2, "-o", tmp_path / "edit")[0] == 0
    code, said, _ = run("guidance", *args, "-o", tmp_path / "maps")
    assert code == 0 and "changed:" not in said
    assert {path.name for path in (tmp_path / "maps/chest").iterdir()} == {
        "guidance_map.png",
        "mask.png",
        "maps.npz",
        "report.json",
    }
    with np.load(tmp_path / "edit/chest/maps.npz") as a, np.load(tmp_path / "maps/chest/maps.npz") as b:
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


def test_an_edit_that_has_nothing_to_do_says_so(run, tmp_path, chest_file, make_tiny_model, make_chest):
    scale = {"null_p99": 1e6, "inside_median": 2e6}
    model = make_tiny_model(tmp_path / "deaf", calibration={"version": 1, "timesteps": {"800": scale}})
    code, said, _ = run("edit", chest_file, ADD, "-o", tmp_path / "out", "--model", model, *QUICK)
    assert code == 0 and "warning: nothing to edit" in said and "mask: 0.0%" in said
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/chest/edited.png")), make_chest())


@pytest.mark.parametrize("flags", [["--profile", "official"], ["--scheduler", "ddim", "--dtype", "bfloat16"]])
def test_every_flag_reaches_the_edit(flags, run, tmp_path, chest_file, tiny_model):
    given = ["--steps", 4, "--text-guidance", 3, "--image-guidance", 2, "--threshold", 0.2, "--device", "cpu"]
    args = [chest_file, ADD, "-o", tmp_path, "--model", tiny_model, "--anatomy", "prior", *given, *flags]
    assert run("edit", *args, "--overwrite")[0] == 0
    report = json.loads((tmp_path / "chest/report.json").read_text())
    wanted = {"steps": 4, "text_guidance": 3, "image_guidance": 2, "threshold": 0.2, "scheduler": "ddim"}
    assert report["parameters"].items() >= wanted.items()
    assert report["profile"] == ("official" if "official" in flags else "default")
    assert report["model"]["dtype"] == ("bfloat16" if "bfloat16" in flags else "float32")


def test_samples_are_written_beside_the_edit(run, tmp_path, make_chest, chest_file, tiny_model):
    args = [chest_file, ADD, "-o", tmp_path / "out", "--model", tiny_model, "--seed", 3, "--samples", 3, *QUICK]
    assert run("edit", *args)[0] == 0
    folder = tmp_path / "out/chest"
    pictures = {"edited.png", "edited_seed_4.png", "edited_seed_5.png", "edited_mean.png"}
    assert {path.name for path in folder.iterdir()} == RESULT | pictures | {"samples.png"}
    with np.load(folder / "maps.npz") as maps:
        mask, spread = maps["mask"], maps["sample_spread"]
    assert spread[mask].any() and not spread[~mask].any()
    for name in pictures:
        np.testing.assert_array_equal(np.asarray(Image.open(folder / name))[~mask], make_chest()[~mask])


@pytest.mark.parametrize("command", [["edit", "--steps", "2"], ["guidance"]])
@pytest.mark.parametrize("flag", ["region", "protect"])
def test_a_picture_says_where_to_edit(command, flag, run, tmp_path, make_chest, chest_file, tiny_model):
    bright = np.zeros(make_chest().shape, bool)
    bright[30:60, 20:60] = True
    Image.fromarray(bright).save(tmp_path / "where.png")
    args = [chest_file, ADD, "--model", tiny_model, "--anatomy", "none", f"--{flag}", tmp_path / "where.png"]
    assert run(*command, *args, "-o", tmp_path / "out")[0] == 0
    with np.load(tmp_path / "out/chest/maps.npz") as maps:
        mask = maps["mask"]
    assert mask.any() and not mask[~bright if flag == "region" else bright].any()
    assert json.loads((tmp_path / "out/chest/report.json").read_text())["mask"][flag]["fraction"] > 0


def test_the_choices_are_those_of_the_editor():
    assert set(get_args(get_args(options.Profile)[0])) == set(PROFILES)
    assert set(get_args(get_args(options.Dtype)[0])) == set(DTYPES)
    assert set(get_args(get_args(get_args(options.Scheduler)[0])[0])) == set(SCHEDULERS)


def test_an_interrupt_is_130_and_leaves_nothing(run, tmp_path, chest_file, tiny_model, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("instructx2x.editing.sampling.sample", interrupt)
    before = everything_in(tmp_path)
    code, _, err = run("edit", chest_file, ADD, "-o", tmp_path / "out", "--model", tiny_model, *QUICK)
    assert code == 130 and "Traceback" not in err
    assert everything_in(tmp_path) == before


def test_a_defect_is_called_one(run, tmp_path, chest_file, monkeypatch):
    monkeypatch.setattr("instructx2x.imaging.read", lambda path: 1 / 0)
    code, _, err = run("edit", chest_file, ADD, "-o", tmp_path / "out")
    assert code == 1 and err.count("\n") == 1 and "ZeroDivisionError" in err and "X2X_DEBUG=1" in err
    monkeypatch.setenv("X2X_DEBUG", "1")
    code, _, err = run("edit", chest_file, ADD, "-o", tmp_path / "out")
    assert code == 1 and "Traceback" in err


def test_a_full_gpu_is_no_defect(run, tmp_path, chest_file, monkeypatch):
    def full(path):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr("instructx2x.imaging.read", full)
    code, out, err = run("edit", chest_file, ADD, "-o", tmp_path / "out")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "out of memory" in err and "--device cpu" in err and "defect" not in err


def test_the_command_itself(tmp_path, chest_file, tiny_model):
    """In a process of its own: exit code, silence on stderr, and no torch before it is needed."""
    command = [sys.executable, "-c", "import sys; from instructx2x.cli import main; sys.exit(main())"]
    args = ["edit", str(chest_file), ADD, "-o", str(tmp_path / "out"), "--model", str(tiny_model), *QUICK]
    done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/chest/edited.png").is_file()

    lazy = (
        "import sys; from instructx2x.cli import main; "
        "codes = [main(a.split()) for a in ('--help', '--version', '', 'edit x.png Paint -o out', "
        "'edit x.png edema -o out')]; "
        'sys.exit(f\'{codes} {sorted({"torch", "transformers", "diffusers"} & set(sys.modules))}\')'
    )
    done = subprocess.run([sys.executable, "-c", lazy], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == "[0, 0, 2, 2, 2] []"
    assert __version__ in done.stdout and "research only" in done.stdout.lower()


def test_help_shows_commands_that_work(run):
    """The examples in the help texts name real commands and flags."""
    for command in ("edit", "guidance", "demo", "train"):
        code, said, _ = run(command, "--help")
        assert code == 0 and re.search(rf"x2x {command} \S", said)


@pytest.mark.skipif(not (BUNDLED / "model_index.json").is_file(), reason="the bundled model is not in this tree")
def test_the_demo_edits_its_example(run, tmp_path):
    code, said, err = run("demo", "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    folder = tmp_path / "out/example"
    assert {path.name for path in folder.iterdir()} == RESULT
    report = json.loads((folder / "report.json").read_text())
    assert report["model"]["name"] == "bundled"
    assert report["pixels_changed"] > 0 and report["pixels_changed_outside_mask"] == 0
    with np.load(folder / "maps.npz") as maps:
        columns = np.flatnonzero(maps["mask"].any(axis=0))
        assert columns.min() >= 0.4 * maps["mask"].shape[1]  # the patient's left is the image's right
    assert NOTICE in said
