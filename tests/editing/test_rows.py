import os
import unicodedata
from pathlib import Path

import pytest

from instructx2x.editing.rows import RESERVED, folder_rows, table_rows
from instructx2x.errors import InputError


@pytest.fixture
def table(tmp_path):
    """table(text) -> the path of a CSV file that holds it."""

    def write(text, encoding="utf-8"):
        (tmp_path / "rows.csv").write_bytes(text.encode(encoding))
        return tmp_path / "rows.csv"

    return write


def test_columns_in_any_order_others_passed_over(table, tmp_path):
    rows = table_rows(
        table('seed,note,Instruction , image\n7,x,"Add edema, please",a.png\n,,Remove edema,sub/b.png\n'), seed=3
    )
    assert [(row.number, row.image, row.path, row.instruction, row.seed) for row in rows] == [
        (1, "a.png", tmp_path / "a.png", "Add edema, please", 7),
        (2, "sub/b.png", tmp_path / "sub/b.png", "Remove edema", 3),
    ]


def test_spreadsheets_bytes_and_blank_lines_do_not_matter(table):
    rows = table_rows(table("image,instruction\r\na.png,Add edema\r\n\r\nb.png,Add edema\r\n", "utf-8-sig"))
    assert [row.image for row in rows] == ["a.png", "b.png"] and rows[0].seed == 0


def test_an_instruction_for_rows_that_name_none(table):
    assert [row.instruction for row in table_rows(table("image\na.png\n"), "Add edema")] == ["Add edema"]
    rows = table_rows(table("image,instruction\na.png,\nb.png,Remove edema\nc.png\n"), "Add edema")
    assert [row.instruction for row in rows] == ["Add edema", "Remove edema", "Add edema"]


@pytest.mark.parametrize("cell", ["x", "-1", "1.5", "1e3", "9" * 30, "٣"])
def test_a_seed_that_is_no_number_is_the_rows_own_problem(table, cell):
    good, bad = table_rows(table(f"image,instruction,seed\na.png,Add edema,5\nb.png,Add edema,{cell}\n"))
    assert (good.seed, bad.seed) == (5, None)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "image"),
        ("image,instruction\n", "no rows"),
        ("file,instruction\na.png,Add edema\n", "image"),
        ("image,text\na.png,Add edema\n", "instruction"),
        ("image,image,instruction\na,b,c\n", "image"),
        ('image,instruction\n"a.png,Add edema\n', "CSV"),
        ("image,instruction\n" + "a" * 200_000 + ",Add edema\n", "CSV"),
    ],
)
def test_tables_that_cannot_be_used(table, text, word):
    with pytest.raises(InputError, match=word) as error:
        table_rows(table(text))
    assert "\n" not in str(error.value)


def test_files_that_are_no_table(table, tmp_path):
    for path in (table("image,instruction\né.png,Add edema\n", "latin-1"), tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(InputError, match="CSV"):
            table_rows(path)


def test_every_row_has_a_folder_of_its_own(table):
    images = ["a.png", "a.png", "b/a.jpg", "A.png", "a-2.png", "..", "sheet.png.png", "a.png"]
    rows = table_rows(table("image\n" + "\n".join(images)), "Add edema")
    folders = [row.folder for row in rows]
    assert len({name.casefold() for name in folders} | set(RESERVED)) == len(images) + len(RESERVED)
    assert folders[0] == "a" and folders[6] != "sheet.png"


def test_rows_added_at_the_end_rename_none(table):
    images = ["a.png", "b.png", "a.png", "a-2.png"]
    names = [
        [row.folder for row in table_rows(table("image\n" + "\n".join(images[:n])), "Add edema")] for n in (2, 3, 4)
    ]
    assert names[0] == names[1][:2] and names[1] == names[2][:3]


def test_ten_thousand_rows_of_one_image(table):
    rows = table_rows(table("image\n" + "a.png\n" * 10_000), "Add edema")
    assert rows[-1].folder == "a-10000"


def test_a_folders_images(tmp_path):
    for name in ("b.PNG", "a.dcm", "IM0001", "1.2.840.10008", "notes.txt", ".hidden.png", "table.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "sub.png").mkdir()
    rows = folder_rows(tmp_path, "Add edema", 4)
    assert [row.image for row in rows] == ["1.2.840.10008", "IM0001", "a.dcm", "b.PNG"]
    assert {row.seed for row in rows} == {4} and {row.instruction for row in rows} == {"Add edema"}
    for empty in (tmp_path / "sub.png", tmp_path / "nowhere"):
        with pytest.raises(InputError, match=empty.name):
            folder_rows(empty, "Add edema")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={}\n"])
def test_tables_as_spreadsheets_save_them(table, ends, encoding, delimiter, first):
    text = first.format(delimiter) + "image,instruction,seed\né.png,Add edema,3.0\n,,\n , \nb.png,Remove edema,\n"
    text = text.replace(",", delimiter).replace("\n", ends)
    rows = table_rows(table(text, encoding), seed=7)
    assert [(row.image, row.instruction, row.seed) for row in rows] == [
        ("é.png", "Add edema", 3),
        ("b.png", "Remove edema", 7),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={}\n", "SEP={}\n", '"sep={}"\n'])
def test_tables_with_every_cell_in_quotes(table, delimiter, first):
    lines = [["image", "instruction", "seed"], ["a;,b.png", 'Add "edema",\nplease', "3"], ["", "", ""]]
    quoted = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
    (row,) = table_rows(table(first.format(delimiter) + "\n".join(quoted) + "\n"))
    assert (row.image, row.instruction, row.seed) == ("a;,b.png", 'Add "edema", please', 3)


def test_a_quote_that_is_not_closed_is_told(table):
    for text in ('"image,instruction\na.png,Add edema\n', 'image;instruction\n"a.png;Add edema\n'):
        with pytest.raises(InputError, match="cannot be read as a CSV file"):
            table_rows(table(text))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "latin-1"])
def test_text_without_its_mark_is_told(table, encoding):
    with pytest.raises(InputError, match="not UTF-8 text"):
        table_rows(table("image,instruction\né.png,Add edema\n", encoding))


@pytest.mark.parametrize(
    "cell, seed", [("3.0", 3), ("3.", 3), ("0.000", 0), ("3.5", None), ("1e3", None), ("-0.0", None)]
)
def test_whole_numbers_with_a_point(table, cell, seed):
    assert table_rows(table(f"image,instruction,seed\na.png,Add edema,{cell}\n"))[0].seed == seed


def test_line_breaks_in_cells_stay_within_their_row(table):
    rows = table_rows(table('image,instruction\n"a\nb.png","Add\n edema"\nc\x07.png,Add edema\n'))
    assert [row.instruction for row in rows] == ["Add edema", "Add edema"]
    assert rows[0].path.name == "a\nb.png"
    for row in rows:
        assert row.image.isprintable() and row.folder.isprintable()


def test_results_folders_have_names_that_systems_take(table):
    long = "ü" * 120
    rows = table_rows(table(f"image\n{long}.png\n{long}.png\nsheet-2.png.png\nsheet.png.png\n"), "Add edema")
    assert all(len(row.folder.encode()) < 200 for row in rows)
    assert rows[0].folder != rows[1].folder
    assert not any(row.folder.startswith("sheet") and row.folder.endswith(".png") for row in rows)


def test_names_composed_in_another_way(table, tmp_path):
    place = tmp_path / unicodedata.normalize("NFD", "Röntgen")
    place.mkdir()
    (place / unicodedata.normalize("NFC", "é.png")).write_text("")
    names = [unicodedata.normalize(form, "Röntgen/é.png") for form in ("NFC", "NFD")]
    for row in table_rows(table("image\n" + "\n".join(names)), "Add edema"):
        assert row.path.is_file()


def test_the_home_folder_and_backslashes(table, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/sub").mkdir(parents=True)
    for name in ("home/sub/a.png", "~b.png", "c\\d.png"):
        (tmp_path / name).write_text("")
    cells = ["~/sub/a.png", "home\\sub\\a.png", "~b.png", "c\\d.png", "~\\sub\\a.png"]
    rows = table_rows(table("image\n" + "\n".join(cells)), "Add edema")
    assert all(row.path.is_file() for row in rows)
    assert [rows[2].path.name, rows[3].path.name] == ["~b.png", "c\\d.png"]  # files of these very names


@pytest.mark.parametrize("kind", ["pipe", "device", "nul"])
def test_tables_that_are_no_files(tmp_path, kind):
    path = {"pipe": tmp_path / "pipe", "device": "/dev/zero", "nul": "a\0b"}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InputError, match="CSV"):
        table_rows(Path(path))


def test_the_list_of_a_disc_is_no_image(tmp_path):
    for name in ("DICOMDIR", "dicomdir", "IM0001"):
        (tmp_path / name).write_text("")
    assert [row.image for row in folder_rows(tmp_path, "Add edema")] == ["IM0001"]
