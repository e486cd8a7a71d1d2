"""No command replaces or removes a file that is not its own: sources, notes, pictures of others."""

import os
import shutil

import pytest
from PIL import Image

ADD = "Add the finding of left pleural effusion."
QUICK = ["--anatomy", "prior", "--steps", "2"]


@pytest.fixture
def chest_file(tmp_path, make_chest):
    Image.fromarray(make_chest()).save(tmp_path / "chest.png")
    return tmp_path / "chest.png"


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(said, *words):
    code, out, err = said
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, said
    assert all(word in err for word in words), err


def test_an_edit_never_replaces_its_source_or_what_lies_beside_a_result(run, tmp_path, chest_file, tiny_model):
    out = tmp_path / "out"
    shutil.copy(chest_file, tmp_path / "edited.png")
    edit = ["-o", out, "--model", tiny_model, *QUICK]
    assert run("edit", tmp_path / "edited.png", ADD, *edit)[0] == 0
    before = everything_in(tmp_path)
    assert_refused(run("edit", out / "edited/edited.png", ADD, *edit, "--overwrite"), "holds the input")
    (tmp_path / "link.png").symlink_to(out / "edited/edited.png")
    (tmp_path / "edited.tiff").symlink_to(tmp_path / "link.png")
    assert_refused(run("guidance", tmp_path / "edited.tiff", ADD, *edit[:4], "--overwrite"), "holds the input")
    # A picture that the edit reads, kept in the folder that it would replace.
    shutil.copy(chest_file, out / "edited/where.png")
    where = ["--region", out / "edited/where.png"]
    assert_refused(run("edit", tmp_path / "edited.png", ADD, *edit, *where, "--overwrite"), "holds the input")
    assert_refused(run("edit", tmp_path / "edited.png", ADD, *edit, "--overwrite"), "where.png")
    (out / "edited/where.png").unlink()
    assert {path: content for path, content in everything_in(tmp_path).items() if path in before} == before
    assert run("edit", tmp_path / "edited.png", ADD, *edit, "--overwrite", "--seed", 1)[0] == 0


def test_places_are_refused_before_the_image_is_read(run, tmp_path, chest_file, monkeypatch):
    monkeypatch.setattr("instructx2x.imaging.read", lambda path: pytest.fail("the output was not checked first"))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/chest").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    for out, word in (("dangling", "link"), ("n" * 300, "too long"), ("out", "there already"), ("chest.png", "file")):
        assert_refused(run("edit", chest_file, ADD, "-o", tmp_path / out), word)
    assert_refused(run("edit", chest_file, ADD, "-o", os.path.join(tmp_path, *["deep" * 40] * 30)), "too long")
    assert sorted(tmp_path.iterdir()) == before


def test_sheets_and_masks_replace_no_file_but_their_own(run, tmp_path, chest_file):
    before = chest_file.read_bytes()
    for image in ([chest_file], []):
        assert_refused(run("masks", "show", *image, "-o", chest_file), "chest.png")
    (tmp_path / "boxes.csv").write_text("image_id,finding,x,y,w,h\na,Mass,0,0,1,0.5\n")
    (tmp_path / "mine.npz").write_bytes(b"mine")
    assert_refused(run("masks", "build", tmp_path / "boxes.csv", "-o", tmp_path / "mine.npz"), "mine.npz")
    assert_refused(run("masks", "build", "--open", tmp_path, "--pa", chest_file, "-o", tmp_path / "x.npz"), "--pa")
    assert chest_file.read_bytes() == before and (tmp_path / "mine.npz").read_bytes() == b"mine"
    for _ in range(2):  # its own is replaced
        assert run("masks", "show", "-o", tmp_path / "masks.png")[0] == 0


@pytest.mark.parametrize("name", ["report.md", "report.json", "report.html", "pictures/chest.png"])
def test_an_evaluation_replaces_no_report_of_others(run, tmp_path, chest_file, name):
    (tmp_path / "cases.csv").write_text(f"image,instruction\nchest.png,{ADD}\n")
    (tmp_path / "given").mkdir()
    shutil.copy(chest_file, tmp_path / "given/chest.png")
    out = tmp_path / "results"
    (out / name).parent.mkdir(parents=True)
    shutil.copy(chest_file, out / name)
    before = everything_in(tmp_path)
    args = ["evaluate", "--data", tmp_path / "cases.csv", "--edited", tmp_path / "given"]
    assert_refused(run(*args, "-o", out), name)
    assert_refused(run(*args, "-o", tmp_path), "input")
    assert_refused(run(*args, "-o", out, "--split", "train"), "--split")
    assert_refused(run(*args, "-o", out, "--methods", "plain"), "--methods")
    after = everything_in(tmp_path)
    assert {path: after[path] for path in before} == before
