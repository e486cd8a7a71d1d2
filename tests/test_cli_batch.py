"""`x2x batch`: what it writes, what it refuses, and its exit code."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from instructx2x import NOTICE

ADD = "Add the finding of left pleural effusion."
QUICK = ["--anatomy", "prior", "--steps", "2"]


@pytest.fixture
def images(tmp_path, make_chest):
    (tmp_path / "images").mkdir()
    for number, name in enumerate("abc"):
        Image.fromarray(make_chest(seed=number)).save(tmp_path / f"images/{name}.png")
    return tmp_path / "images"


def assert_refused(said, *words):
    code, out, err = said
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, said
    assert all(word in err for word in words), err


def test_a_table(run, images, tmp_path, tiny_model):
    (tmp_path / "rows.csv").write_text(f"image,instruction,seed\nimages/a.png,{ADD},1\nimages/a.png,Remove edema,\n")
    args = ["batch", tmp_path / "rows.csv", "-o", tmp_path / "out", "--model", tiny_model, "--seed", 7, *QUICK]
    code, said, err = run(*args)
    assert (code, err) == (0, "") and "2 of 2 rows done" in said and said.rstrip().endswith(NOTICE)
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert [(line["folder"], line["seed"], line["status"]) for line in lines] == [("a", 1, "done"), ("a-2", 7, "done")]

    single = ["edit", images / "a.png", ADD, "-o", tmp_path / "one", "--model", tiny_model, "--seed", 1, *QUICK]
    assert run(*single)[0] == 0
    for path in (tmp_path / "one/a").iterdir():
        if path.name != "report.json":
            assert path.read_bytes() == (tmp_path / "out/a" / path.name).read_bytes(), path.name


def test_a_folder_and_one_bad_file(run, images, tmp_path, tiny_model):
    (images / "bad.png").write_text("Dear doctor")
    args = ["batch", images, "-i", ADD, "-o", tmp_path / "out", "--model", tiny_model, *QUICK]
    code, said, err = run(*args)
    assert code == 2 and "3 of 4 rows done" in said
    assert err == f"error: 1 of 4 rows failed: {tmp_path / 'out/manifest.jsonl'} says why\n"
    first = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    (images / "bad.png").unlink()
    assert run(*args)[0] == 0
    for path, content in first.items():
        if path.name not in ("manifest.jsonl", "sheet.png"):
            assert path.read_bytes() == content
    assert np.asarray(Image.open(tmp_path / "out/sheet.png")).any()


def test_images_in_folders_within_a_folder_are_told_of(run, images, tmp_path, tiny_model):
    (images / "more").mkdir()
    (images / "a.png").rename(images / "more/a.png")
    code, said, err = run("batch", images, "-i", ADD, "-o", tmp_path / "out", "--model", tiny_model, *QUICK)
    assert (code, err) == (0, "") and "2 of 2 rows done" in said
    assert said.startswith("warning: images in the folders within")


def test_every_flag_reaches_the_edits(run, images, tmp_path, tiny_model):
    flags = ["--profile", "fast", "--anatomy", "prior", "--steps", 4, "--text-guidance", 3, "--image-guidance", 2]
    flags += ["--threshold", 0.2, "--scheduler", "ddim", "--dtype", "bfloat16", "--device", "cpu", "--samples", 2]
    args = ["batch", images, "-i", ADD, "-o", tmp_path / "out", "--model", tiny_model, *flags]
    assert run(*args)[0] == 0
    report = json.loads((tmp_path / "out/c/report.json").read_text())
    wanted = {"steps": 4, "text_guidance": 3, "image_guidance": 2, "threshold": 0.2, "scheduler": "ddim"}
    assert report["parameters"].items() >= (wanted | {"anatomy": "prior"}).items()
    assert (report["profile"], report["samples"], report["model"]["dtype"]) == ("fast", 2, "bfloat16")
    code, _, err = run(*args, "--seed", 3)
    assert code == 2 and "another batch" in err and err.count("\n") == 1
    assert run(*args, "--seed", 3, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "out/c/report.json").read_text())["seed"] == 3


def test_what_can_be_refused_is_refused_before_the_model_loads(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr("instructx2x.models.load", lambda *args, **options: pytest.fail("too late"))
    (tmp_path / "rows.csv").write_text("file,text\na.png,Add edema\n")
    out = ["-o", tmp_path / "out"]
    assert_refused(run("batch", images, *out), "--instruction")
    assert_refused(run("batch", images, "-i", "Paint it black.", *out), "not understood")
    assert_refused(run("batch", images, "-i", ADD, "-o", images), "among the images")
    assert_refused(run("batch", tmp_path / "rows.csv", *out), "image", "instruction")
    assert_refused(run("batch", tmp_path / "nowhere.csv", *out), "nowhere.csv")
    assert_refused(run("batch", images, "-i", ADD), "--out")
    assert_refused(run("batch", images, "-i", ADD, *out, "--samples", 0), "--samples")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_used(run, images, tmp_path, tiny_model):
    (tmp_path / "file").write_text("mine")
    assert_refused(run("batch", images, "-i", ADD, "-o", tmp_path / "file", "--model", tiny_model), "is a file")


def test_help_shows_commands_that_work(run):
    code, said, _ = run("batch", "--help")
    assert code == 0 and "x2x batch cohort.csv -o out" in said


STOPPED = """
import os, signal, sys
from instructx2x.editing import batch
from instructx2x.cli import main
finish = batch._Run._finish
def stop(run, row, outcome):
    entry = finish(run, row, outcome)
    if row.number == 2:
        os.kill(os.getpid(), int(sys.argv[1]))
    return entry
batch._Run._finish = stop
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.ci)]
)
def test_a_stopped_batch_says_so_and_goes_on(run, images, tmp_path, tiny_model, number, code):
    out = tmp_path / "out"
    args = ["batch", images, "-i", ADD, "-o", out, "--model", tiny_model, *QUICK]
    command = [sys.executable, "-c", STOPPED, str(int(number)), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code and done.stderr.count("\n") == 1, done.stderr
    assert all(line.startswith("note: ") for line in done.stdout.splitlines())
    assert "the same command again" in done.stderr
    lines = [json.loads(line)["status"] for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert lines[:2] == ["done", "done"] and not list(out.glob(".x2x-*"))
    made = {path: path.read_bytes() for path in out.glob("*/*")}
    assert run(*args)[0] == 0
    assert all(path.read_bytes() == content for path, content in made.items())
    assert (out / "sheet.png").is_file() and len(list(out.glob("*/report.json"))) == 3


def test_another_batch_is_refused_and_nothing_changes(run, images, tmp_path, tiny_model):
    out = tmp_path / "out"
    args = ["batch", images, "-o", out, "--model", tiny_model, *QUICK]
    assert run(*args, "-i", ADD)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for other in (["-i", "Remove the finding of edema."], ["-i", ADD, "--steps", 3], ["-i", ADD, "--samples", 2]):
        assert_refused(run(*args, *other), "another batch", "--overwrite")
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_sources_in_the_output_folder_are_never_touched(run, images, tmp_path, tiny_model):
    """Whatever they are called: as a page of the sheet, a leftover, a manifest."""
    names = ("sheet-2.png", ".0123456789abcdef.png", "sheet.png", "edited.png")
    for name in names:
        (images / name).write_bytes((images / "b.png").read_bytes())
    (images / "t.csv").write_text("image,instruction\n" + "".join(f"{name},{ADD}\n" for name in names))
    before = {path: path.read_bytes() for path in images.iterdir()}
    for overwrite in ([], ["--overwrite"]):
        said = run("batch", images / "t.csv", "-o", images, "--model", tiny_model, *QUICK, *overwrite)
        assert_refused(said, "input")
        assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_options_that_would_be_ignored_are_refused(run, images, tmp_path):
    (tmp_path / "rows.csv").write_text(f"image,instruction,seed\nimages/a.png,{ADD},1\n")
    args = ["batch", tmp_path / "rows.csv", "-o", tmp_path / "out"]
    assert_refused(run(*args, "-i", ADD), "--instruction")
    assert_refused(run(*args, "--seed", 0), "--seed")
    assert not (tmp_path / "out").exists()
