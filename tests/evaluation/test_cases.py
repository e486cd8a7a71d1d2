"""Cases: what a CSV file and a dataset say, which labels follow, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from instructx2x.editing.rows import table_rows
from instructx2x.errors import InputError
from instructx2x.evaluation.cases import read_cases, with_instruction

FINDINGS = ("pleural effusion", "edema", "mass")
HEADER = "image,instruction,seed,patient,view,sex,age,findings,target,target_findings,boxes\n"


@pytest.fixture
def table(tmp_path, make_chest):
    for number, name in enumerate("ab"):
        Image.fromarray(make_chest(seed=number)).save(tmp_path / f"{name}.png")

    def write(*lines, header=HEADER):
        (tmp_path / "cases.csv").write_text(header + "".join(f"{line}\n" for line in lines))
        return tmp_path / "cases.csv"

    return write


def case(table, line):
    (found,) = read_cases(table(line))
    return found


def test_what_a_row_says(table, tmp_path):
    found = case(table, 'a.png,add a left effusion,7,p1,pa,f,61,Edema|pleural fluid,b.png,normal,"1,2,3,4; 5,6,7,8"')
    assert found.name == "a" and found.row.seed == 7 and found.row.path == tmp_path / "a.png"
    assert (found.patient, found.view, found.sex, found.age) == ("p1", "PA", "F", 61)
    assert found.findings == {"edema", "pleural effusion"} and found.target_findings == frozenset()
    assert found.target == tmp_path / "b.png" and found.boxes == ((1, 2, 3, 4), (5, 6, 7, 8)) and found.side == "left"
    bare = case(table, "a.png,Add edema,,,,,,,,,")
    assert (bare.patient, bare.view, bare.sex, bare.findings, bare.target) == ("a.png", "", "", None, None)
    assert np.isnan(bare.age) and bare.row.seed == 0 and bare.boxes == () and bare.side is None


def test_names_are_those_of_a_batch(table):
    path = table("a.png,Add edema,,,,,,,,,", "a.png,Add mass,,,,,,,,,", "b.png,Add mass,,,,,,,,,")
    assert [c.name for c in read_cases(path)] == [row.folder for row in table_rows(path)] == ["a", "a-2", "b"]


@pytest.mark.parametrize(
    ("instruction", "findings", "wanted", "holds"),
    [
        ("Add edema", "", (np.nan, 1, np.nan), False),
        ("Add edema", "normal", (0, 1, 0), False),
        ("Add edema", "edema", (0, 1, 0), True),
        ("Add left effusion", "effusion", (1, 0, 0), False),  # the left may lack what the right has
        ("Add severe edema", "edema", (0, 1, 0), False),
        ("Remove edema", "edema|mass", (0, 0, 1), False),
        ("Remove edema", "mass", (0, 0, 1), True),
        ("Remove left effusion", "effusion", (np.nan, 0, 0), False),  # the right may keep it
        ("Remove left effusion", "normal", (np.nan, 0, 0), True),
        ("Change edema from mild to severe", "edema", (0, 1, 0), False),
        ("Add edema and remove mass", "mass", (0, 1, 0), False),
        ("Add edema and remove mass", "edema", (0, 1, 0), True),
    ],
)
def test_labels_without_a_target_are_the_images_own_changed_by_the_instruction(
    table, instruction, findings, wanted, holds
):
    found = case(table, f"a.png,{instruction},,,,,,{findings},,,")
    np.testing.assert_array_equal(found.wanted(FINDINGS), wanted)
    assert found.holds is holds


def test_labels_with_a_target_are_the_targets(table):
    found = case(table, "a.png,Add edema,,,,,,mass,b.png,edema|effusion,")
    np.testing.assert_array_equal(found.wanted(FINDINGS), (1, 1, 0))
    # A target whose findings nobody knows has no labels of its own.
    found = case(table, "a.png,Add edema,,,,,,mass,b.png,,")
    np.testing.assert_array_equal(found.wanted(FINDINGS), (0, 1, 1))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.png,Add gloom,,,,,,,,,", ("case 1 (a.png)", "gloom")),
        ("a.png,Add edema,x,,,,,,,,", ("case 1 (a.png)", "seed")),
        ("a.png,Add edema,,,,other,,,,,", ("case 1 (a.png)", "sex")),
        *((f"a.png,Add edema,,,,,{age},,,,", ("case 1 (a.png)", "age")) for age in ("old", "-1", "inf", "nan")),
        ("a.png,Add edema,,,,,,gloom,,,", ("case 1 (a.png)", "gloom")),
        ("a.png,Add edema,,,,,,edema and mass,,,", ("case 1 (a.png)", "|")),
        ('a.png,Add edema,,,,,,,,,"1,2,3"', ("case 1 (a.png)", "x,y,width,height")),
        ("a.png,Add edema,,,,,,,,mass,", ("case 1 (a.png)", "column target")),
        ("a.png,Add edema, remove mass,,,,,,,,,", ("case 1 (a.png)", "seed")),
        (f"{'x' * 300}.png,Add edema,,,,,,,,,", ("1 of 1", "xxx")),
        ("c.png,Add edema,,,,,,,,,", ("1 of 1", "c.png")),
        ("a.png,Add edema,,,,,,,c.png,,", ("1 of 2", "c.png")),
    ],
)
def test_what_is_refused(table, line, words):
    with pytest.raises(InputError) as refused:
        read_cases(table(line))
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


def test_cells_that_fell_out_of_their_columns(table):
    with pytest.raises(InputError, match="row 1, has more cells than columns"):
        read_cases(table("a.png,Add edema, remove mass", header="image,instruction\n"))
    with pytest.raises(InputError, match="two columns of one name"):
        read_cases(table("a.png,Add edema,p1,p2", header="image,instruction,patient,patient\n"))


@pytest.mark.parametrize(("column", "meant"), [("finding", "findings"), ("Pateint", "patient"), ("seeds", "seed")])
def test_a_misspelt_column_is_not_passed_over(table, column, meant):
    with pytest.raises(InputError, match=f"has a column {column.lower()}: call it {meant}"):
        read_cases(table("a.png,Add edema,1", header=f"image,instruction,{column}\n"))


def test_other_columns_are_the_readers_own(table):
    header = "image,instruction,study date,reader,findings,finding\n"
    (case,) = read_cases(table("a.png,Add edema,2026,me,mass,x", header=header))
    assert case.findings == {"mass"}


def test_a_folder_for_the_images(table, tmp_path):
    path = table("a.png,Add edema,,,,,,,,,")
    (tmp_path / "lists").mkdir()
    moved = path.rename(tmp_path / "lists/cases.csv")
    with pytest.raises(InputError, match="not there"):
        read_cases(moved)
    assert read_cases(moved, images=tmp_path)[0].row.path == tmp_path / "a.png"


def test_rows_without_an_instruction(table):
    path = table("a.png,p1", "b.png,p2", header="image,patient\n")
    with pytest.raises(InputError, match="instruction"):
        read_cases(path)
    assert [c.row.instruction for c in read_cases(path, instruction="Add edema")] == ["Add edema"] * 2


def test_one_instruction_for_all(table):
    cases = read_cases(
        table("a.png,Add edema,3,p1,PA,F,61,edema,b.png,mass,", "a.png,Add mass,,,,,,,,,", "b.png,Add mass,,p2,,,,,,,")
    )
    found = with_instruction(cases, "add left effusion")
    assert [c.name for c in found] == ["a", "b"]
    assert {c.row.instruction for c in found} == {"Add the finding of left pleural effusion."}
    first = found[0]
    assert (first.patient, first.sex, first.age, first.row.seed, first.target) == ("p1", "F", 61, 3, None)
    np.testing.assert_array_equal(first.wanted(FINDINGS), (1, 1, 0))
