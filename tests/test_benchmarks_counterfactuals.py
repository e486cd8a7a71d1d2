"""benchmarks/counterfactuals.py: the list is what its rule chooses, and the data is joined to the right rows."""

import csv
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import counterfactuals

from instructx2x.errors import InputError
from instructx2x.evaluation.cases import read_cases
from instructx2x.instructions import Operation, parse

DATA = Path(__file__).resolve().parents[1].parent / "shared/data/cxr"


def image(number, findings="No Finding", **others):
    return {
        **{"id": f"nih_{number}", "file": f"images/{number}.jpg", "patient_id": f"p{number}", "view": "PA"},
        **{"sex": "F", "age": 61.5, "findings": findings, "width": 200, "height": 100, "split": "val", "group": "nih"},
        **others,
    }


BOXES = {
    "nih_1": {
        "pneumonia": [(0.1, 0.2, 0.25, 0.5), (0.5, 0.501, 0.001, 0.001)],
        "cardiomegaly": [(0, 0, 1, 1)],
    }
}


def listed(*rows):
    return [{"image": name, "instruction": text, "seed": seed} for name, text, seed in rows]


def test_what_the_data_says_is_joined():
    table = pl.DataFrame(
        [
            image(1, "Pneumonia|Infiltration|Fibrosis"),
            image(2, sex=None, age=None),
            image(3, "Fibrosis", view="AP"),
        ]
    )
    asked = listed(
        ("nih_1", "Remove the finding of pneumonia.", "4"),
        ("nih_1", "Remove the finding of edema.", "5"),
        ("nih_2", "Add the finding of mass.", "0"),
        ("nih_3", "Add the finding of mass.", "0"),
    )
    rows = [dict(zip(counterfactuals.COLUMNS, row, strict=True)) for row in counterfactuals.joined(table, BOXES, asked)]
    assert rows[0] == {
        **{"image": "images/1.jpg", "instruction": "Remove the finding of pneumonia.", "seed": "4", "patient": "p1"},
        **{"view": "PA", "sex": "F", "age": 61.5, "findings": "pneumonia|lung opacity"},
        # Fractions of 200 x 100 pixels; no box is less than a pixel.
        "boxes": "20,20,50,50;100,50,1,1",
    }
    assert rows[1]["boxes"] == "", "radiologists drew no edema there"
    assert (rows[2]["sex"], rows[2]["age"], rows[2]["findings"], rows[2]["boxes"]) == ("", "", "No finding", "")
    assert rows[3]["findings"] == "", "a finding that we have no word for is no normal image"


def test_an_image_that_is_not_there_is_refused():
    asked = listed(("nih_9", "Add the finding of mass.", "0"))
    with pytest.raises(InputError, match="nih_9 is not among these X-rays"):
        list(counterfactuals.joined(pl.DataFrame([image(1)]), BOXES, asked))


def test_boxes_are_of_findings_with_a_word_on_images_that_are_here(tmp_path):
    rows = [
        ("nih_1", "Pneumonia", 0.1, 1, "pathology"),
        ("nih_1", "Lung Opacity", 0.2, 1, "pathology"),
        ("nih_1", "Atelectasis", 0.3, 1, "pathology"),
        ("nih_2", "Pneumonia", 0.4, 0, "pathology"),
        ("nih_1", "Cardiomegaly", 0.5, 1, "anatomy"),
    ]
    pl.DataFrame(
        [
            {"image_id": i, "finding": f, "x": x, "y": 0.5, "w": 0.25, "h": 0.125, "kind": kind, "have_image": have}
            for i, f, x, have, kind in rows
        ]
    ).write_csv(tmp_path / "boxes.csv")
    assert counterfactuals.boxes_of(tmp_path) == {
        "nih_1": {"pneumonia": [(0.1, 0.5, 0.25, 0.125)], "lung opacity": [(0.2, 0.5, 0.25, 0.125)]}
    }


def test_only_one_held_out_frontal_image_a_patient_is_asked_about():
    normal = [image(n) for n in range(40)]
    table = pl.DataFrame(
        [
            *normal,
            *(image(100 + n, "Edema") for n in range(5)),
            image(200, "Edema", split="train"),
            image(201, "Edema", group="coh"),
            image(202, "Edema", view="LL"),
            image(203, "Edema", patient_id="p100"),
        ]
    )
    chosen = list(counterfactuals.choose(table, {"nih_100": {"lung opacity": [], "pneumonia": []}}))
    shown = dict(table.select("id", "findings").iter_rows())
    assert all(name < "nih_2" or len(name) < 7 for name, _, _ in chosen)
    edema = [(name, *parse(text)) for name, text, _ in chosen if "edema" in text]
    removed = [name for name, edit in edema if edit.operation is Operation.REMOVE and shown[name] == "Edema"]
    assert removed == ["nih_100", "nih_101", "nih_102", "nih_104"]
    added = [name for name, edit in edema if edit.operation is Operation.ADD and shown[name] == "Edema"]
    changed = [name for name, edit in edema if edit.operation is Operation.CHANGE]
    assert added == changed == ["nih_103"]
    levels = [
        (name, seed, parse(text)[0].level) for name, text, seed in chosen if parse(text)[0].level and "from" not in text
    ]
    # Mild and severe of one finding stand side by side on one normal image with one seed.
    for (one, seed, low), (other, same, high) in zip(levels[::2], levels[1::2], strict=True):
        assert (one, seed) == (other, same) and (low, high) == ("mild", "severe") and shown[one] == "No Finding"


@pytest.mark.real_data
@pytest.mark.skipif(not (DATA / "boxes.csv").is_file(), reason="needs the open X-rays in ../shared/data/cxr")
def test_the_published_list_is_what_its_rule_chooses(tmp_path, monkeypatch):
    from instructx2x.training.data import load_table

    with counterfactuals.LIST.open(encoding="utf-8", newline="") as stream:
        asked = list(csv.DictReader(stream))
    chosen = dict.fromkeys(counterfactuals.choose(load_table(DATA), counterfactuals.boxes_of(DATA)))
    assert [(row["image"], row["instruction"], int(row["seed"])) for row in asked] == list(chosen)
    joined = tmp_path / "cases.csv"
    monkeypatch.setattr(sys, "argv", ["counterfactuals.py", "--data", str(DATA), "--out", str(joined)])
    counterfactuals.main()
    cases = read_cases(joined, images=DATA)
    assert [(case.row.path.stem, case.row.instruction, case.row.seed) for case in cases] == list(chosen)
    assert all(case.patient.startswith("nih_") and case.view in ("PA", "AP") and case.sex for case in cases)
    assert sum(bool(case.boxes) for case in cases) >= counterfactuals.IN_BOXES / 2
    assert 0 < sum(case.holds for case in cases) < len(cases) / 2
