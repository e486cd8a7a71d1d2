"""A whole build: the same bytes however often it was cut off, refusals before any work, splits that none crosses."""

import csv
import gzip
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import synthetic_mimic as synthetic
from PIL import Image

from instructx2x.dataset import changes, output, pairs
from instructx2x.dataset.check import check_dataset
from instructx2x.dataset.images import Preparation, prepare_image
from instructx2x.dataset.mimic import find_sources, image_file
from instructx2x.dataset.output import Images
from instructx2x.dataset.splits import SPLITS, split_patients
from instructx2x.dataset.table import ORDER, SCHEMA, load_dataset
from instructx2x.errors import InputError, OutputError
from instructx2x.results import folders

SMALL = Preparation(32)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(mimic, folder):
    """The tables of a synthetic MIMIC in a folder of their own; the images stay where they are."""
    for part in (mimic.diff_vqa, mimic.cxr_jpg):
        (folder / part.name).mkdir(parents=True)
        for path in part.iterdir():
            if path.is_file():
                shutil.copy(path, folder / part.name)
    if (mimic.cxr_jpg / "files").is_dir():
        (folder / mimic.cxr_jpg.name / "files").symlink_to(mimic.cxr_jpg / "files")
    return synthetic.Mimic(folder / mimic.diff_vqa.name, folder / mimic.cxr_jpg.name, mimic.rows, mimic.studies)


@pytest.fixture
def own(mimic, tmp_path):
    """A copy of `mimic` to damage."""
    return copied(mimic, tmp_path / "own")


def rewrite(path, change):
    """Change the text of a table, compressed or not."""
    packed = path.suffix == ".gz"
    text = (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).decode()
    data = change(text).encode()
    path.write_bytes(gzip.compress(data, 1, mtime=0) if packed else data)


# images and layouts


def test_pairs_with_missing_or_damaged_images_go_and_others_are_prepared(mimic, with_images):
    kept, found = mimic.kept(), {}
    for row in with_images.table.iter_rows(named=True):
        found[int(row["current_study_id"]), int(row["past_study_id"])] = row
        for when in ("past", "current"):
            study = mimic.studies[int(row[f"{when}_study_id"])]
            dicom = row[f"{when}_dicom_id"]
            assert dicom in study.readable and row[f"{when}_image"] == f"images/{dicom}.png"
    assert set(found) <= set(kept)
    for trap, reason in (("missing_jpeg", "image_missing"), ("truncated_jpeg", "image_unusable")):
        rows = {str(row.study_id) for row in mimic.with_trap(trap)}
        gone = with_images.rejects.filter(pl.col("reason") == reason)
        assert rows == set(gone["current_study_id"]) and len(rows) == 2
    assert not with_images.table["registration"].count()


def test_one_of_two_images_missing_is_no_loss(mimic, with_images):
    rows = mimic.with_trap("one_of_two_missing")
    found = with_images.table.filter(pl.col("current_study_id").is_in([str(row.study_id) for row in rows]))
    assert len(found) == len(rows) == 2


def test_images_are_those_of_the_preparation(mimic, with_images):
    for row in with_images.table.head(20).iter_rows(named=True):
        for when in ("past", "current"):
            ids = row["subject_id"], row[f"{when}_study_id"], row[f"{when}_dicom_id"]
            source = image_file(mimic.cxr_jpg / "files", *ids)
            with Image.open(with_images.folder / row[f"{when}_image"]) as image:
                np.testing.assert_array_equal(np.asarray(image), prepare_image(source, SMALL))


def test_the_official_layout_holds_what_the_official_code_reads(with_images, official):
    """One file name and one sentence a row, the files in current/ and past/ (method section 5.5)."""
    with open(official.folder / "instructions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["split", "current_dicom_id", "past_dicom_id", "instruction"]
    assert len(rows) == len(official.table) == len(with_images.table) > 60
    for row, ours in zip(rows, official.table.iter_rows(named=True), strict=True):
        assert row["instruction"] == ours["instruction"] and row["split"] == ours["split"]
        for when in ("current", "past"):
            assert row[f"{when}_dicom_id"] == f"{ours[f'{when}_dicom_id']}.png"
            plain = with_images.folder / "images" / row[f"{when}_dicom_id"]
            assert (official.folder / when / row[f"{when}_dicom_id"]).read_bytes() == plain.read_bytes()
    assert not (official.folder / "images").exists()


def test_tables_only_has_no_images_and_needs_none(mimic, own, build_tables, build_in, tmp_path):
    (own.cxr_jpg / "files").unlink()
    built = build_tables(own)
    assert built.table["past_image"].null_count() == built.table["current_image"].null_count() == len(built.table)
    assert not list(built.folder.rglob("*.png"))
    with pytest.raises(InputError, match=r"^not found: .*files/"):
        build_in(own, tmp_path / "out", images=Images(SMALL))


# bytes


def test_the_same_build_gives_the_same_bytes(mimic, own, with_images, build_in, tmp_path):
    """Elsewhere, with tables packed or unpacked; only the hashes of the inputs may tell the difference."""
    before = contents(own.diff_vqa.parent)
    again = build_in(own, tmp_path / "again", images=Images(SMALL))
    assert contents(again.folder) == contents(with_images.folder)
    assert contents(own.diff_vqa.parent) == before


def test_a_finished_build_may_run_again(mimic, build_in, tmp_path):
    first = build_in(mimic, tmp_path / "out", images=Images(SMALL))
    files = contents(first.folder)
    written = {path: path.stat().st_mtime_ns for path in (first.folder / "images").iterdir()}
    build_in(mimic, tmp_path / "out", images=Images(SMALL))
    assert contents(first.folder) == files
    assert {path: path.stat().st_mtime_ns for path in (first.folder / "images").iterdir()} == written


@pytest.mark.parametrize("how", ["pack", "unpack"])
def test_packed_and_unpacked_tables_are_the_same(mimic, own, with_images, build_in, tmp_path, how):
    for path in [*own.diff_vqa.iterdir(), *own.cxr_jpg.glob("*.csv*")]:
        if path.suffix == ".gz" and how == "unpack":
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
        elif path.suffix != ".gz" and path.name != "all_diseases.json" and how == "pack":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    built = build_in(own, tmp_path / "out")
    expected = build_in(mimic, tmp_path / "expected")
    assert built.table.equals(expected.table) and built.rejects.equals(expected.rejects)


@pytest.mark.parametrize("ending", [".0", "s"])
def test_ids_may_be_written_as_floats_or_with_their_letter(own, mimic, build_in, tmp_path, ending):
    def change(text):
        rows = list(csv.reader(text.splitlines()))
        for row in rows[1:]:
            row[:3] = [f"{one}.0" for one in row[:3]] if ending == ".0" else [f"s{row[0]}", f"p{row[1]}", f"s{row[2]}"]
        lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
        return "\n".join(lines) + "\n"

    rewrite(own.diff_vqa / "mimic_pair_questions.csv", change)
    built, expected = build_in(own, tmp_path / "out"), build_in(mimic, tmp_path / "expected")
    assert built.table.equals(expected.table) and built.rejects.equals(expected.rejects)


def test_further_columns_and_other_orders_are_no_matter(own, mimic, build_in, tmp_path):
    path = own.cxr_jpg / "mimic-cxr-2.0.0-metadata.csv.gz"
    table = pl.read_csv(path, infer_schema=False)
    turned = table.select(pl.lit("1").alias("dicom_size"), *reversed(table.columns)).reverse()
    path.write_bytes(gzip.compress(turned.write_csv().encode()))
    # MIMIC-CXR-JPG 2.1.0 beside 2.0.0: the newer file counts.
    path.rename(path.with_name("mimic-cxr-2.1.0-metadata.csv.gz"))
    path.write_bytes(gzip.compress(b"old"))
    built, expected = build_in(own, tmp_path / "out"), build_in(mimic, tmp_path / "expected")
    assert built.table.equals(expected.table) and built.rejects.equals(expected.rejects)


def test_a_view_may_stand_in_the_coded_column_alone(own, mimic, build_in, tmp_path):
    path = own.cxr_jpg / "mimic-cxr-2.0.0-metadata.csv.gz"
    table = pl.read_csv(path, infer_schema=False).with_columns(pl.lit(None, pl.String).alias("ViewPosition"))
    path.write_bytes(gzip.compress(table.write_csv().encode()))
    built, expected = build_in(own, tmp_path / "out"), build_in(mimic, tmp_path / "expected")
    assert len(expected.table) > 60 and built.table.equals(expected.table)


# cut off

BUILD = """
import sys
from pathlib import Path
from instructx2x.dataset.build import build
from instructx2x.dataset.images import Preparation
from instructx2x.dataset.output import Images
from instructx2x.dataset.pairs import Rules
diff_vqa, cxr_jpg, out = map(Path, sys.argv[1:4])
print("ready", flush=True)
build(diff_vqa, cxr_jpg, out, rules=Rules(), images=Images(Preparation(32)))
"""

# Lets the build die at the N-th file that is put in place, before or after it is.
DYING = """
import os, sys, threading
number, after, put, lock, done = int(sys.argv[4]), sys.argv[5] == "after", os.replace, threading.Lock(), [0]
def replace(source, target):
    with lock:
        done[0] += 1
        if done[0] == number and not after:
            os._exit(9)
        put(source, target)
        if done[0] == number:
            os._exit(9)
os.replace = replace
"""


def command(mimic, out, *more, script=BUILD):
    return [sys.executable, "-c", script, *map(str, (mimic.diff_vqa, mimic.cxr_jpg, out, *more))]


def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(mimic, with_images, build_in, tmp_path):
    expected, out, rng = contents(with_images.folder), tmp_path / "out", random.Random(5)
    for longest in (0.1, 0.5, 0.9):
        with subprocess.Popen(command(mimic, out), stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
    built = build_in(mimic, out, images=Images(SMALL))
    assert contents(built.folder) == expected


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (1, "after"),
        (40, "before"),
        *(pytest.param(*other, marks=pytest.mark.ci) for other in ((1, "before"), (-1, "before"), (-2, "after"))),
    ],
)
def test_a_build_that_dies_at_any_file_goes_on(mimic, with_images, build_in, tmp_path, number, when):
    """The first file is settings.json, the last report.json; in between stand images, and then tables."""
    expected, out = contents(with_images.folder), tmp_path / "out"
    number = number if number > 0 else len(expected) + 1 + number
    died = subprocess.run(command(mimic, out, number, when, script=DYING + BUILD), capture_output=True)
    assert died.returncode == 9, died.stderr
    left = {name: content for name, content in contents(out).items() if ".x2x-" not in name}
    assert len(left) < len(expected) and "report.json" not in left
    assert all(left[name] == expected[name] for name in left)
    with pytest.raises(InputError, match="no finished dataset"):
        check_dataset(out)
    assert contents(build_in(mimic, out, images=Images(SMALL)).folder) == expected


def test_a_finished_build_that_dies_in_its_second_run_is_no_finished_one(mimic, build_in, tmp_path):
    built = build_in(mimic, tmp_path / "out", images=Images(SMALL))
    files = contents(built.folder)
    died = subprocess.run(command(mimic, built.folder, 2, "before", script=DYING + BUILD), capture_output=True)
    assert died.returncode == 9 and not (built.folder / "report.json").exists()
    assert contents(build_in(mimic, built.folder, images=Images(SMALL)).folder) == files


def test_a_divided_row_without_its_image_goes_once(mimic, build_in, tmp_path, monkeypatch):
    for module in (changes, pairs):
        monkeypatch.setattr(module, "MAX_TOKENS", 12)
    built = build_in(mimic, tmp_path / "out", long="split", images=Images(SMALL))
    gone = built.rejects.filter(pl.col("reason").str.starts_with("image_"))
    assert built.table["parts"].max() > 1 and len(gone) == 4 and built.rejects["row"].is_unique().all()
    assert built.report["rows_kept"] + len(built.rejects) == len(mimic.rows)


def test_a_build_that_died_before_its_settings_were_written_goes_on(mimic, build_in, tmp_path):
    """All that a kill can leave so early: the folder, and a temporary file in it."""
    out = tmp_path / "out"
    out.mkdir()
    with folders.staging(out) as stage:
        (stage / "new.json").write_text("{")
        shutil.copytree(stage, out / f".x2x-{'0' * 16}")
    (out / ".x2x-claim").write_text("process 1")
    built = build_in(mimic, out)
    assert not list(built.folder.glob(".x2x-*"))


def test_a_build_that_died_after_making_folders_goes_on(mimic, build_in, tmp_path, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "atomic_write", die)
    with pytest.raises(KeyboardInterrupt):
        build_in(mimic, tmp_path / "out")
    monkeypatch.undo()
    build_in(mimic, tmp_path / "out")


# refusals


def one_line(error):
    assert str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("settings", [{"version": "v2"}, {"images": Images(SMALL)}, {"split": "p19"}, {"long": "keep"}])
def test_a_folder_of_other_settings_stays_as_it_is(mimic, build_in, tmp_path, settings):
    built = build_in(mimic, tmp_path / "out")
    before = contents(built.folder)
    with pytest.raises(OutputError, match="other files or settings") as error:
        build_in(mimic, tmp_path / "out", **settings)
    assert one_line(error) and contents(built.folder) == before


def test_a_folder_of_other_files_stays_as_it_is(mimic, own, build_in, tmp_path):
    built = build_in(mimic, tmp_path / "out")
    before = contents(built.folder)
    rewrite(own.cxr_jpg / "mimic-cxr-2.0.0-split.csv.gz", lambda text: text.replace("validate", "train"))
    with pytest.raises(OutputError, match="other files or settings"):
        build_in(own, tmp_path / "out")
    assert contents(built.folder) == before


@pytest.mark.parametrize("content", [b"mine", b"\xff\x00"])
@pytest.mark.parametrize("name", ["notes.txt", "settings.json", "data/train.parquet", ".hidden"])
def test_a_folder_in_use_stays_as_it_is(mimic, build_in, tmp_path, name, content):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(OutputError) as error:
        build_in(mimic, tmp_path / "out")
    assert one_line(error) and contents(tmp_path / "out") == {name: content}


def test_a_file_is_no_folder(mimic, build_in, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        build_in(mimic, tmp_path / "out")
    with pytest.raises(OutputError, match="is a file") as error:
        build_in(mimic, tmp_path / "out" / "below")
    assert one_line(error)


TABLES = {
    "mimic_pair_questions.csv": "diff_vqa",
    "all_diseases.json": "diff_vqa",
    "mimic-cxr-2.*-metadata.csv": "cxr_jpg",
    "mimic-cxr-2.*-split.csv": "cxr_jpg",
}


@pytest.mark.parametrize("name", TABLES)
def test_missing_files_are_named_before_any_work(own, build_in, tmp_path, name):
    folder = getattr(own, TABLES[name])
    next(folder.glob(f"{name}*")).unlink()
    with pytest.raises(InputError) as error:
        build_in(own, tmp_path / "out")
    assert str(folder / name) in one_line(error) and not (tmp_path / "out").exists()


def test_all_that_is_missing_is_named_at_once(tmp_path):
    with pytest.raises(InputError) as error:
        find_sources(tmp_path / "a", tmp_path / "b")
    said = one_line(error)
    assert all(name in said for name in (*TABLES, "files/"))


COLUMNS = {
    "mimic_pair_questions.csv": (
        "diff_vqa", ["study_id", "subject_id", "ref_id", "question_type", "question", "answer"],
    ),
    "mimic-cxr-2.0.0-metadata.csv.gz": (
        "cxr_jpg", ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime"],
    ),
    "mimic-cxr-2.0.0-split.csv.gz": ("cxr_jpg", ["subject_id", "split"]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "column"), [(name, one) for name, (_, many) in COLUMNS.items() for one in many])
def test_missing_columns_are_named_before_any_work(own, build_in, tmp_path, name, column):
    path = getattr(own, COLUMNS[name][0]) / name

    def change(text):
        head, rest = text.split("\n", 1)
        return ",".join(f"old_{one}" if one == column else one for one in head.split(",")) + "\n" + rest

    rewrite(path, change)
    with pytest.raises(InputError) as error:
        build_in(own, tmp_path / "out")
    said = one_line(error)
    assert name in said and f"no column {column}:" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"\x1f\x8b\x08\x00cut", b"<html>", b'"a,b\n', b"\xff\xfe\x00a"])
@pytest.mark.parametrize("name", ["mimic_pair_questions.csv", "mimic-cxr-2.0.0-metadata.csv.gz", "all_diseases.json"])
def test_files_that_are_something_else_are_refused(own, build_in, tmp_path, name, content):
    folder = own.diff_vqa if (own.diff_vqa / name).exists() else own.cxr_jpg
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        build_in(own, tmp_path / "out")
    assert name in one_line(error) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-split.csv.gz"])
def test_a_download_cut_short_is_refused(own, build_in, tmp_path, name):
    path = own.cxr_jpg / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError) as error:
        build_in(own, tmp_path / "out")
    assert name in one_line(error)


def test_an_unknown_split_in_the_file_is_refused(own, build_in, tmp_path):
    rewrite(own.cxr_jpg / "mimic-cxr-2.0.0-split.csv.gz", lambda text: text.replace("validate", "dev"))
    with pytest.raises(InputError, match="'dev'"):
        build_in(own, tmp_path / "out")


# splits


def official_split(mimic):
    table = pl.read_csv(mimic.cxr_jpg / "mimic-cxr-2.0.0-split.csv.gz", infer_schema=False)
    return dict(table.select("subject_id", "split").iter_rows())


@pytest.mark.parametrize("split", ["mimic", "p19", "0.5,0.3,0.2"])
def test_no_patient_is_in_two_splits(seeded_mimics, build_tables, split):
    mimic = seeded_mimics[0]
    built = build_tables(mimic, split=split)
    where = built.table.select("subject_id", "split").unique()
    assert where["subject_id"].is_unique().all()
    assert built.table.equals(build_tables(mimic, split=split).table)
    for name in SPLITS:
        part = load_dataset(built.folder, name)
        assert set(part["split"]) <= {name} and part.equals(part.sort(ORDER))
    if split == "mimic":
        official = official_split(mimic)
        assert all(official[patient] == name for patient, name in where.iter_rows()) and len(set(where["split"])) == 3
    if split == "p19":
        assert all((name == "test") == patient.startswith("19") for patient, name in where.iter_rows())
    held_out = set((built.folder / "test_images.txt").read_text().split())
    patients = {str(study.subject_id): set() for study in mimic.studies.values() if study.in_metadata}
    for study in mimic.studies.values():
        if study.in_metadata:
            patients[str(study.subject_id)] |= {picture.dicom_id for picture in study.pictures}
    if split == "mimic":
        tested = {patient for patient, name in official_split(mimic).items() if name == "test"}
        assert held_out == set().union(*(patients[patient] for patient in tested))
    for patient, name in where.iter_rows():
        assert patients[patient] <= held_out if name == "test" else not patients[patient] & held_out


def test_a_patient_drawn_once_stays_there():
    many = [str(10_000_000 + 7919 * number) for number in range(20_000)]
    shares = split_patients(many, "0.7,0.1,0.2", {})
    assert split_patients(many[:50], "0.7,0.1,0.2", {}) == {patient: shares[patient] for patient in many[:50]}
    counts = [list(shares.values()).count(name) / len(many) for name in SPLITS]
    assert counts == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    # A larger share of training only moves patients into it.
    more = split_patients(many, "0.8,0.1,0.1", {})
    assert all(more[patient] == "train" for patient in many if shares[patient] == "train")
    p19 = split_patients(many, "p19", {})
    rest = [name for patient, name in p19.items() if not patient.startswith("19")]
    assert "test" not in rest and rest.count("validate") / len(rest) == pytest.approx(0.05, abs=0.006)


def test_a_patient_without_a_split_is_left_out(own, build_tables):
    subject = str(own.with_trap("plain")[0].subject_id)

    def change(text):
        return "\n".join(line for line in text.split("\n") if f",{subject}," not in line)

    rewrite(own.cxr_jpg / "mimic-cxr-2.0.0-split.csv.gz", change)
    rejects = build_tables(own).rejects.filter(pl.col("subject_id") == subject)
    assert "no_split" in set(rejects["reason"])
    assert "no_split" not in set(build_tables(own, split="0.8,0.1,0.1").rejects["reason"])


@pytest.mark.parametrize("split", ["", "half", "1,0", "0.5,0.5,0.5", "-1,1,1", "nan,0,1", "inf,0,0", "0.8,0.1,0.1,0"])
def test_a_split_that_is_none_is_refused_before_any_work(mimic, build_in, tmp_path, split):
    with pytest.raises(InputError, match="use mimic, p19") as error:
        build_in(mimic, tmp_path / "out", split=split)
    assert one_line(error) and not (tmp_path / "out").exists()


def test_a_set_without_pairs_is_a_whole_set(own, build_tables):
    rewrite(
        own.diff_vqa / "mimic_pair_questions.csv",
        lambda text: "\n".join(line for line in text.split("\n") if ",difference," not in line),
    )
    built = build_tables(own)
    assert built.table.is_empty() and built.table.schema == SCHEMA and built.report["rows_kept"] == 0
    assert "No instruction is left" in (built.folder / "README.md").read_text()


# the published numbers, and other programs


@pytest.mark.ci
def test_published_statistics_come_out_exactly(build_tables, published):
    """Method section 5.2: of 32,761 difference rows, the clauses that the published answers hold."""
    report = build_tables(published, long="keep").report
    assert report["difference_rows"] == synthetic.PUBLISHED["difference"] == 32_761
    assert report["answers"] == {"unchanged": 4_544, "additional": 20_316, "missing": 19_921, "level": 1_759}
    assert report["rejected"].get("unchanged") == 4_544 and report["answers_recovered"] == 0
    assert sum(report["rejected"].values()) + report["rows_kept"] == 32_761


@pytest.mark.parametrize("which", ["images", "tables", "one split"])
def test_hugging_face_loads_it(with_images, mimic, build_tables, tmp_path, monkeypatch, which):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    built = {
        "images": lambda: with_images,
        "tables": lambda: build_tables(mimic, version="v2"),
        "one split": lambda: build_tables(mimic, split="0,1,0"),
    }[which]()
    loaded = datasets.load_dataset(str(built.folder), cache_dir=str(tmp_path / "cache"))
    # A split without rows cannot be loaded, so the card does not name it.
    assert list(loaded) == (["validation"] if which == "one split" else ["train", "validation", "test"])
    for hub_name, split in loaded.items():
        name = {"validation": "validate"}.get(hub_name, hub_name)
        ours = load_dataset(built.folder, name)
        assert split.column_names == ours.columns and len(split) == len(ours)
        for row, other in zip(split, ours.iter_rows(named=True), strict=True):
            assert row == other


def test_a_build_that_broke_off_over_a_damaged_input_can_be_started_with_a_whole_one(own, build_in, tmp_path):
    path = own.diff_vqa / "all_diseases.json"
    whole = path.read_text()
    path.write_text(whole[:-100])
    with pytest.raises(InputError, match="all_diseases"):
        build_in(own, tmp_path / "out")
    path.write_text(whole)
    assert build_in(own, tmp_path / "out").report["rows_kept"] > 50
    path.write_text(whole + " ")
    with pytest.raises(OutputError, match="other files or settings"):
        build_in(own, tmp_path / "out")
