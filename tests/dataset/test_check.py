"""What is said of a built dataset: check finds every kind of damage, the card every count, the sheet what it shows."""

import json
import os
import shutil
import struct
import zlib

import numpy as np
import polars as pl
import pytest
from PIL import Image

from instructx2x.dataset.card import card, funnel
from instructx2x.dataset.check import check_dataset
from instructx2x.dataset.rejects import Reason
from instructx2x.dataset.sheet import CAPTION, GAP, PANEL, contact_sheet
from instructx2x.dataset.table import load_dataset
from instructx2x.errors import InputError


@pytest.fixture
def damaged(official, tmp_path):
    """A copy of a dataset in the official layout, to damage."""
    return shutil.copytree(official.folder, tmp_path / "damaged")


@pytest.mark.parametrize("which", ["with_images", "official"])
def test_what_was_built_is_well(request, which):
    assert check_dataset(request.getfixturevalue(which).folder) == []


@pytest.mark.parametrize("settings", [{"version": "v2", "long": "split"}, {"strict": True}, {"unchanged": True}, {}])
def test_tables_of_every_kind_are_well(seeded_mimics, build_tables, settings):
    assert check_dataset(build_tables(seeded_mimics[0], views=("PA", "AP"), **settings).folder) == []


# damage


def in_table(change, split="train"):
    """Damage: `change` the rows of a split."""

    def damage(folder):
        path = folder / "data" / f"{split}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return damage


def in_row(row=3, **columns):
    """Damage: set columns of one row."""

    def change(table):
        here = pl.int_range(pl.len()) == row
        values = {name: pl.lit(value, dtype=table.schema[name]) for name, value in columns.items()}
        return table.with_columns(
            pl.when(here).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
        )

    return in_table(change)


def moved(folder):
    """A row of the training split goes to the test split."""
    train, test = (folder / "data" / f"{split}.parquet" for split in ("train", "test"))
    rows = pl.read_parquet(train)
    rows.tail(-1).write_parquet(train)
    (pl.concat([pl.read_parquet(test), rows.head(1).with_columns(split=pl.lit("test"))])).write_parquet(test)


def misfiled(folder):
    """The last row of the training split lies in the file of the next one, under its old name."""
    train, after = (folder / "data" / f"{split}.parquet" for split in ("train", "validate"))
    rows = pl.read_parquet(train)
    rows.head(-1).write_parquet(train)
    pl.concat([rows.tail(1), pl.read_parquet(after)]).write_parquet(after)


def in_report(**changes):
    def damage(folder):
        path = folder / "report.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def in_rejects(change):
    def damage(folder):
        path = folder / "rejects.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return damage


def in_file(name, change):
    def damage(folder):
        path = folder / name
        path.write_text(change(path.read_text()))

    return damage


def gone(name):
    return lambda folder: (folder / name).unlink()


def first_image(folder, which="past"):
    return folder / load_dataset(folder)[f"{which}_image"].min()


def in_folder(folder):
    """A folder stands where an image was."""
    path = first_image(folder)
    path.unlink()
    path.mkdir()


def in_image(change, which="past"):
    def damage(folder):
        path = first_image(folder, which)
        path.write_bytes(change(path.read_bytes()))

    return damage


def flipped(data):
    """One bit of the pixels' chunk."""
    at = data.index(b"IDAT") + 40
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def repainted(size, mode):
    def damage(folder):
        path = first_image(folder)
        Image.new(mode, size).save(path)

    return damage


def huge(data):
    """A header that promises a picture of 60,000 x 60,000 pixels."""
    head = b"IHDR" + struct.pack(">2I", 60_000, 60_000) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def pipe(name):
    """Nobody writes into it, so whoever opens it as a file waits for ever."""

    def damage(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


DAMAGE = {
    "image gone": (lambda folder: first_image(folder).unlink(), "images are missing"),
    "image of the other folder gone": (lambda folder: first_image(folder, "current").unlink(), "images are missing"),
    "image cut": (in_image(lambda data: data[: len(data) // 2]), "images are missing"),
    "image cut at its end": (in_image(lambda data: data[:-12]), "images are missing"),
    "image empty": (in_image(lambda data: b""), "images are missing"),
    "image flipped": (in_image(flipped), "images are missing"),
    "image huge": (in_image(huge), "images are missing"),
    "image of another size": (repainted((32, 31), "L"), "images are missing"),
    "another image": (repainted((32, 32), "L"), "images are missing"),
    "image in colour": (repainted((32, 32), "RGB"), "images are missing"),
    "image is a folder": (in_folder, "images are missing"),
    "another instruction": (in_row(instruction="Add the finding of hernia."), "do not say what their edits say"),
    "an instruction in other words": (in_row(instruction="add hernia"), "do not say what their edits say"),
    "an instruction of no words": (in_row(instruction=""), "do not say what their edits say"),
    "an instruction that is none": (in_row(instruction="make it so"), "do not say what their edits say"),
    "other edits": (in_table(lambda t: t.with_columns(pl.col("edits").reverse())), "do not say what their edits say"),
    "no edits": (in_row(edits=[]), "do not say what their edits say"),
    "other tokens": (in_row(tokens=5), "do not say what their edits say"),
    "row moved to another split": (moved, "another number of instructions"),
    "row in another split's file": (misfiled, "rows of another split"),
    "row lost": (in_table(lambda table: table.tail(-1)), "another number of instructions"),
    "row twice": (in_table(lambda table: pl.concat([table.head(1), table])), "same images and part"),
    "rows out of order": (in_table(lambda table: table.reverse()), "not in its order"),
    "unknown split": (in_row(split="dev"), "rows of another split"),
    "no split": (in_row(split=None), "rows of another split"),
    "patient in two splits": (
        lambda folder: in_row(subject_id=load_dataset(folder, "test")["subject_id"][0])(folder),
        "in several splits",
    ),
    "pair the wrong way round": (in_row(days=-3.0), "not later than"),
    "image paired with itself": (
        in_table(lambda table: table.with_columns(past_dicom_id="current_dicom_id")),
        "with itself",
    ),
    "a part too many": (in_row(part=2), "none of its parts"),
    "no image named": (in_row(past_image=None), "name no images"),
    "rejects gone": (gone("rejects.parquet"), "rejects.parquet cannot be read"),
    "rejects cut": (
        lambda folder: (folder / "rejects.parquet").write_bytes((folder / "rejects.parquet").read_bytes()[:99]),
        "rejects.parquet cannot be read",
    ),
    "rejects of other columns": (in_rejects(lambda table: table.drop("reason")), "rejects.parquet cannot be read"),
    "reject lost": (in_rejects(lambda table: table.tail(-1)), "other counts than report.json"),
    "reject renamed": (in_rejects(lambda t: t.with_columns(reason=pl.lit("same_time"))), "other counts"),
    "rows of the source miscounted": (in_report(difference_rows=3), "do not add up"),
    "test images gone": (gone("test_images.txt"), "test_images.txt cannot be read"),
    "test images no text": (lambda folder: (folder / "test_images.txt").write_bytes(b"\xff"), "cannot be read"),
    "test images forgotten": (in_file("test_images.txt", lambda text: ""), "lacks images of the test split"),
    "test images too many": (
        lambda folder: in_file("test_images.txt", lambda text: text + load_dataset(folder)["past_dicom_id"][0])(folder),
        "stand in test_images.txt",
    ),
    "instructions.csv gone": (gone("instructions.csv"), "instructions.csv cannot be read"),
    "instructions.csv altered": (in_file("instructions.csv", lambda text: text.replace("Add", "Remove", 1)), "rows of"),
    "instructions.csv cut": (in_file("instructions.csv", lambda text: text[:-30]), "rows of"),
    "a pipe as rejects": (pipe("rejects.parquet"), "rejects.parquet cannot be read"),
    "a pipe as test images": (pipe("test_images.txt"), "test_images.txt cannot be read"),
    "a pipe as instructions.csv": (pipe("instructions.csv"), "instructions.csv cannot be read"),
    "instructions.csv no text": (
        lambda folder: (folder / "instructions.csv").write_bytes(b"\xff\x00"),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_kind_of_damage_is_found(damaged, kind):
    damage, words = DAMAGE[kind]
    damage(damaged)
    problems = check_dataset(damaged)
    assert problems and all(problem and "\n" not in problem for problem in problems)
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize("name", ["past", "current"])
def test_every_single_image_is_looked_at(damaged, official, name):
    images = sorted((damaged / name).iterdir())
    used = {*official.table[f"{name}_image"]}
    for path in images[::9]:
        data = path.read_bytes()
        path.unlink()
        assert bool(check_dataset(damaged)) == (f"{name}/{path.name}" in used)
        path.write_bytes(data)
    assert check_dataset(damaged) == []


ONLY = b'{"settings": {"images": {"layout": "plain", "preparation": null}}}'


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'{"settings": 1}', b'{"settings": {}}', ONLY]
)
def test_a_folder_without_a_report_is_refused(damaged, content):
    (damaged / "report.json").write_bytes(content)
    with pytest.raises(InputError, match="no finished dataset"):
        check_dataset(damaged)
    (damaged / "report.json").unlink()
    with pytest.raises(InputError, match="no finished dataset"):
        check_dataset(damaged)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (gone("data/test.parquet"), "no finished dataset"),
        (lambda folder: (folder / "data/test.parquet").write_bytes(b"PAR1"), "damaged table"),
        (in_table(lambda table: table.drop("view")), "other columns"),
        (in_table(lambda table: table.with_columns(extra=1)), "other columns"),
        (in_table(lambda table: table.cast({"tokens": pl.Int8})), "other columns"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_in_one_line(damaged, damage, words):
    damage(damaged)
    for read in (check_dataset, load_dataset):
        with pytest.raises(InputError, match=rf"^[^\n]*{words}[^\n]*$"):
            read(damaged)


def test_an_unknown_split_is_refused(official, tmp_path):
    with pytest.raises(InputError, match="'dev' is unknown"):
        load_dataset(official.folder, "dev")
    with pytest.raises(InputError, match="no finished dataset"):
        load_dataset(tmp_path)


# the sheet


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (12, 2, 6)])
def test_a_sheet_has_a_panel_for_each_image(official, count, columns, rows):
    sheet = contact_sheet(official.folder, official.table, count)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (rows * (PANEL + CAPTION + GAP) + GAP, columns * (2 * (PANEL + GAP) + GAP))


def test_a_sheet_shows_the_images_it_names(official):
    one = official.table.head(1)
    sheet = contact_sheet(official.folder, one)
    for at, name in ((GAP, one["past_image"][0]), (GAP + PANEL + GAP, one["current_image"][0])):
        with Image.open(official.folder / name) as image:
            shown = np.asarray(image.resize((PANEL, PANEL), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(sheet[GAP : GAP + PANEL, at : at + PANEL], shown)
    assert sheet[GAP + PANEL :].max() == 255  # the caption


def test_the_same_seed_draws_the_same_sheet(official):
    one, again, other = (contact_sheet(official.folder, official.table, 6, seed) for seed in (4, 4, 5))
    assert (one == again).all() and (one != other).any()


def test_all_pairs_are_shown_when_there_are_fewer(official):
    few = official.table.head(3)
    assert contact_sheet(official.folder, few, 60).shape == contact_sheet(official.folder, few, 3).shape


@pytest.mark.parametrize("count", [0, -1, 61])
def test_a_count_that_no_sheet_holds_is_refused(official, count):
    with pytest.raises(InputError, match="choose 1 to 60"):
        contact_sheet(official.folder, official.table, count)


def test_a_sheet_needs_pairs_and_images(official, seeded_mimics, build_tables):
    with pytest.raises(InputError, match="no pairs to show"):
        contact_sheet(official.folder, official.table.head(0))
    built = build_tables(seeded_mimics[0])
    with pytest.raises(InputError, match="tables only"):
        contact_sheet(built.folder, built.table)


@pytest.mark.parametrize("change", [lambda data: data[:100], lambda data: b"", flipped, huge, None])
def test_a_sheet_of_damaged_images_is_refused_in_one_line(damaged, change):
    one = load_dataset(damaged).head(1)
    path = damaged / one["current_image"][0]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=r"^[^\n]*missing or damaged[^\n]*$"):
        contact_sheet(damaged, one)


# the card


def test_the_card_holds_every_count(official):
    text, report = (official.folder / "README.md").read_text(), official.report
    assert text == card(report)
    for reason, count in report["rejected"].items():
        assert f"| − {Reason(reason).explanation} | {count} |" in text
    for split, counts in report["splits"].items():
        assert f"| {split} | {counts['instructions']} | {counts['pairs']} | {counts['patients']} |" in text
    for kind in ("operations", "findings"):
        assert all(f"| {name} | {count} |" in text for name, count in report[kind].items())
    for each in report["settings"]["inputs"]:
        assert f"| {each['file']} | {each['sha256']} |" in text
    for step, count in funnel(report):
        assert f"| {step} | {count} |" in text
    for words in ("Credentialed", "do not share", "not mentioned later", "32 px, squash", "77"):
        assert words in text
    assert f"{report['rows']}" in text and f"| rows kept | {report['rows_kept']} |" in text


def test_the_funnel_adds_up(official, seeded_mimics, build_tables):
    for report in (official.report, build_tables(seeded_mimics[0], strict=True, version="v2").report):
        steps = dict(funnel(report))
        lost = sum(count for step, count in steps.items() if step.startswith("−"))
        assert steps["rows about differences"] - lost == steps["rows kept"] == report["rows_kept"] > 0


def test_the_card_begins_as_the_hub_reads_it(official):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard.load(official.folder / "README.md").data.to_dict()
    files = {"train": "data/train.parquet", "validation": "data/validate.parquet", "test": "data/test.parquet"}
    (config,) = data["configs"]
    assert {each["split"]: each["path"] for each in config["data_files"]} == files
    assert all((official.folder / path).is_file() for path in files.values())
