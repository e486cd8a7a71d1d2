"""Batches: the same bytes as one by one, whatever fails, stops or is there already."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from instructx2x.editing import Editor, batch
from instructx2x.editing.rows import named, table_rows
from instructx2x.errors import InputError, OutputError
from instructx2x.results import folders

ADD = "Add the finding of left pleural effusion."
REMOVE = "Remove the finding of edema."
QUICK = {"anatomy": "prior", "steps": 2}
TABLE = f"image,instruction,seed\na.png,{ADD},1\nb.png,{REMOVE},2\na.png,{REMOVE},3\nc.png,{ADD},\n"


@pytest.fixture(scope="session")
def editor(tiny_model):
    return Editor.from_pretrained(tiny_model, device="cpu")


@pytest.fixture
def table(tmp_path, make_chest):
    """table(text) -> its rows, of three images beside it."""
    for number, name in enumerate(("a", "b", "c")):
        Image.fromarray(make_chest(96 + number, 80, seed=number)).save(tmp_path / f"{name}.png")

    def rows(text=TABLE):
        (tmp_path / "rows.csv").write_text(text)
        return table_rows(tmp_path / "rows.csv")

    return rows


def bytes_in(folder):
    """Every file's digest but the seconds', which no two runs share. (Of bytes themselves a difference shows late.)"""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "seconds.jsonl"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_batch_writes_what_single_edits_write(editor, table, tmp_path):
    entries = batch.run_batch(editor, table(), tmp_path / "many", **QUICK)
    assert [entry["folder"] for entry in entries] == ["a", "b", "a-2", "c"]
    for entry in entries:
        single = editor.open(tmp_path / entry["image"]).edit(entry["instruction"], seed=entry["seed"], **QUICK)
        one, many = single.save(tmp_path / "one", name=entry["folder"]), tmp_path / "many" / entry["folder"]
        assert {path.name for path in one.iterdir()} == {path.name for path in many.iterdir()}
        for path in one.iterdir():
            if path.name != "report.json":
                assert path.read_bytes() == (many / path.name).read_bytes(), path
        reports = [json.loads((folder / "report.json").read_text()) for folder in (one, many)]
        assert reports[0].pop("seconds") and len(reports[1].pop("batch")["image_sha256"]) == 64
        assert reports[0].pop("sha256") != reports[1].pop("sha256")
        assert reports[0] == reports[1]


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_number_of_neighbours_does_not_matter(editor, table, tmp_path, size):
    """Guarantee 2, for `edit_batch` and for `run_batch`."""
    table()
    study = editor.open(tmp_path / "a.png")
    alone = study.edit(ADD, seed=5, **QUICK)
    items = [(editor.open(tmp_path / "b.png"), REMOVE, seed) for seed in range(size - 1)]
    among = editor.edit_batch([*items, (study, ADD, 5)], **QUICK)[-1]
    np.testing.assert_array_equal(among.image.pixels, alone.image.pixels)
    assert among.latents.equal(alone.latents)
    rows = table("image,instruction,seed\n" + f"b.png,{REMOVE},0\n" * (size - 1) + f"a.png,{ADD},5\n")
    batch.run_batch(editor, rows, tmp_path / "out", **QUICK)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a/edited.png")), alone.image.pixels)


def test_the_manifest_has_a_line_a_row_in_order(editor, table, tmp_path):
    told = []
    entries = batch.run_batch(editor, table(), tmp_path / "out", on_row=lambda *counts: told.append(counts), **QUICK)
    assert lines_of(tmp_path / "out/manifest.jsonl") == entries
    assert [entry["row"] for entry in entries] == [1, 2, 3, 4] and {entry["status"] for entry in entries} == {"done"}
    assert [entry["seed"] for entry in entries] == [1, 2, 3, 0]
    with np.load(tmp_path / "out/a/maps.npz") as maps:
        assert entries[0]["mask_fraction"] == maps["mask"].mean()
    report = json.loads((tmp_path / "out/a/report.json").read_text())
    assert entries[0]["verification"] == report["verification"] and report["verification"]["judge"] == "verifier"
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    seconds = lines_of(tmp_path / "out/seconds.jsonl")
    assert [line["folder"] for line in seconds] == ["a", "b", "a-2", "c"]
    assert {"encoding", "relevance", "sampling", "compositing", "saving"} <= set(seconds[0]["seconds"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("a", "b", "a-2", "c"),
        *("manifest.jsonl", "seconds.jsonl", "sheet.png"),
    }


def test_a_row_that_fails_fails_no_other(editor, table, tmp_path):
    good = batch.run_batch(editor, table(), tmp_path / "good", **QUICK)
    (tmp_path / "bad.png").write_text("Dear doctor")
    bad = f"bad.png,{ADD},1\nnowhere.png,{ADD},1\n,{ADD},1\na.png,Paint it,1\na.png,,1\na.png,{ADD},x\n\x00,{ADD},1\n"
    entries = batch.run_batch(editor, table(TABLE + bad), tmp_path / "out", **QUICK)
    assert entries[:4] == good
    for entry, word in zip(
        entries[4:],
        ("not a PNG", "no such file", "not a file", "understood", "empty", "seed", "valid file name"),
        strict=True,
    ):
        assert entry["status"] == "failed" and word in entry["reason"] and "\n" not in entry["reason"]
    kept, all_of_it = bytes_in(tmp_path / "good"), bytes_in(tmp_path / "out")
    for name in kept.keys() - {"manifest.jsonl", "sheet.png"}:
        assert all_of_it.pop(name) == kept[name]
    assert set(all_of_it) == {"manifest.jsonl", "sheet.png"}, "a failed row leaves nothing"


@pytest.mark.parametrize(
    "error, reason",
    [
        (
            ZeroDivisionError("by chance\nof all things"),
            "ZeroDivisionError: by chance of all things - a defect of this program",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"),
            "out of memory on the GPU: close what else uses it, or compute on the CPU (--device cpu)",
        ),
    ],
)
def test_what_breaks_one_row_is_told_and_the_rest_goes_on(editor, table, tmp_path, monkeypatch, error, reason):
    saving = batch.Result.save

    def save(result, out, **options):
        if options["name"] == "b":
            raise error
        return saving(result, out, **options)

    monkeypatch.setattr(batch.Result, "save", save)
    entries = batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    assert [entry["status"] for entry in entries] == ["done", "failed", "done", "done"]
    assert entries[1]["reason"] == reason


def test_what_is_done_is_not_done_again(editor, table, tmp_path, monkeypatch):
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    before = bytes_in(tmp_path / "out")
    monkeypatch.setattr(batch.Study, "edit", lambda *args, **options: pytest.fail("this row was done"))
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    assert bytes_in(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["edited.png", "comparison.png", "guidance_map.png", "maps.npz"])
def test_a_result_without_one_of_its_files_is_not_done(editor, table, tmp_path, name):
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    before = bytes_in(tmp_path / "out")
    (tmp_path / "out/a" / name).unlink()
    entries = batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    assert [entry["status"] for entry in entries] == ["failed", "done", "done", "done"]
    assert "without some of its files" in entries[0]["reason"]
    batch.run_batch(editor, table(), tmp_path / "out", overwrite=True, **QUICK)
    assert bytes_in(tmp_path / "out") == before


@pytest.mark.parametrize("change", ["image", "instruction", "seed", "settings"])
def test_another_result_is_only_replaced_when_asked(editor, table, tmp_path, make_chest, change):
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    before, text, options = bytes_in(tmp_path / "out"), TABLE, dict(QUICK)
    if change == "image":
        Image.fromarray(make_chest(90, 80, seed=9)).save(tmp_path / "a.png")
    elif change == "settings":
        options["steps"] = 3
    else:
        text = (
            TABLE.replace(f"a.png,{ADD}", f"a.png,{REMOVE}") if change == "instruction" else TABLE.replace(",1", ",9")
        )
    rows = table(text) if change != "image" else table_rows(tmp_path / "rows.csv")
    with pytest.raises(OutputError, match=r"another batch.*--overwrite"):
        batch.run_batch(editor, rows, tmp_path / "out", **options)
    assert bytes_in(tmp_path / "out") == before
    entries = batch.run_batch(editor, rows, tmp_path / "out", overwrite=True, **options)
    assert {entry["status"] for entry in entries} == {"done"}
    batch.run_batch(editor, rows, tmp_path / "fresh", **options)
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "fresh")


RUN = """
import sys
from pathlib import Path
from instructx2x.editing import Editor
from instructx2x.editing.batch import run_batch
from instructx2x.editing.rows import table_rows
model, table, out = sys.argv[1:]
run_batch(Editor.from_pretrained(model), table_rows(Path(table)), out, anatomy="prior", steps=2)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(editor, table, tmp_path, tiny_model):
    """Guarantee 6: kill -9."""
    text = "image,instruction,seed\n" + "".join(f"{'abc'[n % 3]}.png,{ADD},{n}\n" for n in range(8))
    batch.run_batch(editor, table(text), tmp_path / "whole", **QUICK)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", RUN, tiny_model, tmp_path / "rows.csv", out])
    manifest, until = out / "manifest.jsonl", time.monotonic() + 300
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (out / "sheet.png").exists(), "it was killed too late to tell anything"
    # As if the kill had come while something was being written.
    with folders.staging(out) as stage:
        (stage / "edited.png").write_text("half")
        shutil.copytree(stage, out / f".x2x-{'0' * 16}")
    entries = batch.run_batch(editor, table(text), out, **QUICK)
    assert {entry["status"] for entry in entries} == {"done"}
    assert bytes_in(out) == bytes_in(tmp_path / "whole")


def test_an_interrupt_ends_the_run_and_keeps_what_is_done(editor, table, tmp_path):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run_batch(editor, table(), tmp_path / "out", on_row=stop, **QUICK)
    assert [line["status"] for line in lines_of(tmp_path / "out/manifest.jsonl")][:2] == ["done", "done"]
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    batch.run_batch(editor, table(), tmp_path / "whole", **QUICK)
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "whole")


def test_folders_that_are_not_a_batchs(editor, table, tmp_path):
    rows = table()
    (tmp_path / "file").write_text("mine")
    for name in ("manifest.jsonl", "sheet.png", "seconds.jsonl"):
        (tmp_path / name.split(".")[0]).mkdir()
        (tmp_path / name.split(".")[0] / name).write_text("mine")
    for out in ("file", "file/below", "manifest", "sheet", "seconds"):
        with pytest.raises(OutputError):
            batch.run_batch(editor, rows, tmp_path / out, **QUICK)
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/letter.txt").write_text("mine")
    for overwrite in (False, True):
        entries = batch.run_batch(editor, rows, tmp_path / "out", overwrite=overwrite, **QUICK)
        assert [entry["status"] for entry in entries] == ["failed", "done", "done", "done"]
        assert (tmp_path / "out/a/letter.txt").read_text() == "mine"


def test_samples_in_a_batch(editor, table, tmp_path):
    rows = table(f"image,instruction\na.png,{ADD}\n")
    (entry,) = batch.run_batch(editor, rows, tmp_path / "out", samples=2, **QUICK)
    assert entry["status"] == "done" and (tmp_path / "out/a/edited_mean.png").is_file()


def test_wrong_options_fail_every_row(editor, table, tmp_path):
    entries = batch.run_batch(editor, table(), tmp_path / "out", steps=0)
    assert all("steps" in entry["reason"] for entry in entries)
    assert (tmp_path / "out/sheet.png").is_file()


def refused(editor, rows, out, **options):
    """The refusal of a batch, which must leave every byte as it was."""
    before = bytes_in(out)
    with pytest.raises(OutputError) as caught:
        batch.run_batch(editor, rows, out, **QUICK | options)
    assert bytes_in(out) == before and "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_that_are_not_done_may_change_and_rows_may_be_added(editor, table, tmp_path):
    """Also in between: what counts is that every row that is done is asked for as it was."""
    out = tmp_path / "out"
    batch.run_batch(editor, table(TABLE.replace(REMOVE, "Remoove edeema.", 1)), out, **QUICK)
    before = bytes_in(out)
    lines = TABLE.splitlines(keepends=True)
    text = "".join([*lines[:2], f"d.png,{ADD},1\n", *lines[2:], f"b.png,{ADD},9\n"])
    rows = table(text)
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    entries = batch.run_batch(editor, rows, out, **QUICK)
    assert {entry["status"] for entry in entries} == {"done"}
    after = bytes_in(out)
    assert all(after[name] == digest for name, digest in before.items() if "/" in name)
    batch.run_batch(editor, rows, tmp_path / "fresh", **QUICK)
    assert bytes_in(tmp_path / "fresh") == after


def test_a_row_that_is_done_and_no_longer_asked_for(editor, table, tmp_path):
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    told = refused(editor, table("".join(TABLE.splitlines(keepends=True)[:-1])), tmp_path / "out")
    assert "row 4 (c)" in told and "another folder" in told
    # Also where a kill came before the manifest had its line: here the result alone tells.
    (tmp_path / "out/manifest.jsonl").write_text("")
    assert "another seed" in refused(editor, table(TABLE.replace(",2\n", ",5\n")), tmp_path / "out")


def test_a_source_that_is_gone_makes_no_result_undone(editor, table, tmp_path):
    rows = table()
    batch.run_batch(editor, rows, tmp_path / "out", **QUICK)
    before = bytes_in(tmp_path / "out")
    (tmp_path / "b.png").unlink()
    batch.run_batch(editor, rows, tmp_path / "out", **QUICK)
    assert bytes_in(tmp_path / "out") == before


def test_the_settings_hold_what_decides_and_not_where_it_lies(editor, table, tmp_path, monkeypatch):
    """An anatomy of the same name with other content is another one; the same content elsewhere is the same."""
    rows, out = table(f"image,instruction\na.png,{ADD}\n"), tmp_path / "out"
    for name in ("masks", "others"):
        (tmp_path / name).mkdir()
        mask = np.zeros((512, 512), np.uint8)
        mask[100:400, 100 : 400 if name == "masks" else 300] = 1
        np.save(tmp_path / name / "pseudo_mask_Effusion.npy", mask)
    batch.run_batch(editor, rows, out, anatomy=tmp_path / "masks", steps=2)
    before = bytes_in(out)
    (tmp_path / "masks").rename(tmp_path / "moved")
    (tmp_path / "others").rename(tmp_path / "masks")
    assert "another anatomy" in refused(editor, rows, out, anatomy=tmp_path / "masks")
    batch.run_batch(editor, rows, out, anatomy=tmp_path / "moved", steps=2)
    assert bytes_in(out) == before
    report = json.loads((out / "a/report.json").read_text())
    assert report["model"]["threads"] == 1 and str(tmp_path) not in json.dumps(report["batch"])
    with monkeypatch.context() as patched:
        patched.setattr(torch, "get_num_threads", lambda: 2)
        told = refused(editor, rows, out, anatomy=tmp_path / "moved")
    assert "threads (1 there, 2 now)" in told


def test_files_of_others_in_the_folder(editor, table, tmp_path):
    """Those of names that a batch needs are a reason to refuse; all others stay, whatever they are called."""
    out = tmp_path / "out"
    out.mkdir()
    names = ("sheet-2.png", "sheet-7.png", ".0123456789abcdef.png", f".{'0' * 32}.earlier", "notes.txt", "Sheet.png")
    for name in names:
        shutil.copy(Image.new("L", (8, 8)).save(tmp_path / "x.png") or tmp_path / "x.png", out / name)
    batch.run_batch(editor, table(), out, **QUICK)
    assert all((out / name).read_bytes() == (tmp_path / "x.png").read_bytes() for name in names)
    many = table("image,instruction,seed\n" + f"b.png,{ADD},-1\n" * 37)
    assert "sheet-2.png" in refused(editor, many, tmp_path / "out", overwrite=True)
    (tmp_path / "second").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "second/seconds.jsonl").symlink_to(tmp_path / "mine.txt")
    assert "seconds.jsonl" in refused(editor, table(), tmp_path / "second")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_an_input_is_refused(editor, table, tmp_path, overwrite):
    rows = table()
    for out in (tmp_path, tmp_path / "x/.."):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert "input" in refused(editor, rows, out, overwrite=overwrite)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/list.csv").write_text("mine")
    told = refused(editor, rows, tmp_path / "out", overwrite=overwrite, inputs=[tmp_path / "out/list.csv"])
    assert "list.csv" in told


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_result_that_holds_a_foreign_file_is_not_replaced(editor, table, tmp_path, overwrite):
    batch.run_batch(editor, table(), tmp_path / "out", **QUICK)
    (tmp_path / "out/a/original.png").write_text("mine")
    entries = batch.run_batch(editor, table(), tmp_path / "out", overwrite=overwrite, anatomy="prior", steps=2)
    assert {entry["status"] for entry in entries} == {"done"}, "it is done, so nothing is replaced"
    (tmp_path / "out/a/edited.png").unlink()
    entries = batch.run_batch(editor, table(), tmp_path / "out", overwrite=overwrite, **QUICK)
    assert [entry["status"] for entry in entries] == ["failed", "done", "done", "done"]
    assert ("original.png" in entries[0]["reason"]) == overwrite
    assert (tmp_path / "out/a/original.png").read_text() == "mine"


def test_one_run_at_a_time(editor, table, tmp_path):
    rows, out = table(), tmp_path / "out"

    def second(done, total):
        if done == 1:
            with pytest.raises(OutputError, match="in use"):
                batch.run_batch(editor, rows, out, **QUICK)

    entries = batch.run_batch(editor, rows, out, on_row=second, **QUICK)
    assert {entry["status"] for entry in entries} == {"done"}


def test_names_with_anything_in_them(editor, table, tmp_path):
    """Line breaks and codes in names and instructions, names that a sheet's page has, and names too long to grow."""
    table()
    names = ["line\nbreak", "\x1b[31mred", "sheet-2.png", "SHEET.png", "m" * 251, ".x2x-claim", "manifest.jsonl"]
    for name in names:
        shutil.copy(tmp_path / "a.png", tmp_path / f"{name}.png")
    asked = [(f"{name}.png", tmp_path / f"{name}.png", f"{ADD[:-1]}\n.", 1) for name in (*names, names[4])]
    entries = batch.run_batch(editor, named(asked), tmp_path / "out", **QUICK)
    assert {entry["status"] for entry in entries} == {"done"}, entries
    folder_names = [entry["folder"] for entry in entries]
    assert len({name.casefold() for name in folder_names}) == len(asked)
    assert all(name.isprintable() and len(name.encode()) < 210 for name in folder_names)
    assert len(lines_of(tmp_path / "out/manifest.jsonl")) == len(asked) and (tmp_path / "out/sheet.png").is_file()


def test_no_rows(editor, tmp_path):
    with pytest.raises(InputError):
        table_rows(tmp_path / "nowhere.csv")
    assert batch.run_batch(editor, [], tmp_path / "out") == []


@pytest.mark.parametrize("name", ["manifest.jsonl", "seconds.jsonl", "sheet.png", "a/report.json"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.write_text("[" * 100_000)])
def test_what_hostile_files_stand_in_the_folder_is_refused_or_a_failed_row(editor, table, tmp_path, name, make):
    """Neither waited for nor taken for a defect, nor replaced."""
    rows, out = table(f"image,instruction\na.png,{ADD}\n"), tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    make(out / name)
    for overwrite in (False, True):
        try:
            (entry,) = batch.run_batch(editor, rows, out, overwrite=overwrite, **QUICK)
            assert entry["status"] == "failed" and "defect" not in entry["reason"]
        except OutputError as error:
            assert name in str(error)
        assert os.path.lexists(out / name)
