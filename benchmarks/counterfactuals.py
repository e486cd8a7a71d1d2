"""The published list of counterfactual instructions, joined with the open X-rays that it is about.

    python benchmarks/counterfactuals.py --data DATA --out cases.csv
    x2x evaluate --data cases.csv --images DATA --model bundled -o OUT

counterfactuals.csv names images of held-out patients of NIH ChestX-ray14, and for each an instruction and a seed: every
finding that the judges know, added to normals (either side, mild and severe), removed from positives, changed in level,
asked for where it is already there, removed where it is not, and removed where radiologists drew boxes around it.
DATA, the folder of the open X-rays, tells the rest: patient, view, sex, age, findings and boxes.

`--choose` writes the list anew by the rule below, which is how it was made.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from instructx2x.errors import InputError, InstructX2XError
from instructx2x.imaging.writing import atomic_write
from instructx2x.instructions import FINDINGS, Edit, Operation, parse, render
from instructx2x.training.data import load_table
from instructx2x.training.judge_cases import FINDINGS as JUDGED
from instructx2x.training.pairs import spoken

LIST = Path(__file__).with_name("counterfactuals.csv")
COLUMNS = ("image", "instruction", "seed", "patient", "view", "sex", "age", "findings", "boxes")
BOXED = {"Lung Opacity": "lung opacity", "Pneumonia": "pneumonia", "Cardiomegaly": "cardiomegaly"}
POSITIVES, IN_BOXES = 3, 16
# More of those that the bundled scorer tells well, so that success is counted on more than three images each.
WELL_TOLD, MORE = ("pleural effusion", "cardiomegaly", "edema"), 5


def choose(table: pl.DataFrame, boxes: dict[str, dict[str, list]]) -> Iterator[tuple[str, str, int]]:
    """(image id, instruction, seed) of the list: one image a patient, in the table's order.

    Args:
        table: of the open data.
        boxes: see `boxes_of`.
    """
    held_out = table.filter(
        (pl.col("split") == "val") & (pl.col("group") == "nih") & pl.col("view").is_in(["PA", "AP"])
    )
    held_out = held_out.unique("patient_id", keep="first", maintain_order=True)
    shown = {row["id"]: set(spoken(row["findings"])) for row in held_out.iter_rows(named=True)}
    normal = [row["id"] for row in held_out.iter_rows(named=True) if row["findings"] == "No Finding"]
    for place, finding in enumerate(JUDGED):
        has_side = FINDINGS[finding].has_side
        first, second, third = (normal[(3 * place + offset) % len(normal)] for offset in range(3))
        sides = ("left", "right") if has_side else (None, None)
        # Severe beside mild, on one image with one seed: the order of levels.
        for level in ("mild", "severe"):
            yield first, _text(Edit(Operation.ADD, finding, side=sides[0], level=level)), place
        yield second, _text(Edit(Operation.ADD, finding, side=sides[1])), place
        yield third, _text(Edit(Operation.REMOVE, finding)), place
        positive = [image for image, findings in shown.items() if finding in findings]
        for image in positive[:POSITIVES]:
            yield image, _text(Edit(Operation.REMOVE, finding)), place
        for image in positive[POSITIVES : POSITIVES + 1]:
            yield image, _text(Edit(Operation.ADD, finding)), place
            yield image, _text(Edit(Operation.CHANGE, finding, level="mild", from_level="severe")), place
    drawn = [(i, f) for i, found in boxes.items() if i in shown for f in found if f in shown[i]]
    for image, finding in drawn[:IN_BOXES]:
        yield image, _text(Edit(Operation.REMOVE, finding)), JUDGED.index(finding)
    unused = iter(normal[3 * len(JUDGED) :])
    for finding in WELL_TOLD:
        sides = ("left", "right") if finding == "pleural effusion" else (None, None)
        for number, image in zip(range(MORE), unused, strict=False):
            yield image, _text(Edit(Operation.ADD, finding, side=sides[number % 2])), number
        positive = [image for image, findings in shown.items() if finding in findings]
        for number, image in enumerate(positive[POSITIVES + 1 : POSITIVES + 1 + MORE]):
            yield image, _text(Edit(Operation.REMOVE, finding)), number


def _text(edit: Edit) -> str:
    return render((edit,))


def boxes_of(data: Path) -> dict[str, dict[str, list[tuple[float, float, float, float]]]]:
    """Radiologists' boxes on images that are here, as fractions: image id -> finding -> (x, y, width, height)."""
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    rows = pl.read_csv(data / "boxes.csv", infer_schema_length=None)
    rows = rows.filter((pl.col("have_image") == 1) & (pl.col("kind") == "pathology"))
    for row in rows.iter_rows(named=True):
        if row["finding"] in BOXED:
            found[row["image_id"]][BOXED[row["finding"]]].append((row["x"], row["y"], row["w"], row["h"]))
    return found


def joined(table: pl.DataFrame, boxes: dict[str, dict[str, list]], listed: list[dict[str, str]]) -> Iterator[tuple]:
    """Rows of COLUMNS for `x2x evaluate`."""
    known = {row["id"]: row for row in table.iter_rows(named=True)}
    for entry in listed:
        row = known.get(entry["image"])
        if row is None:
            raise InputError(f"{entry['image']} is not among these X-rays: give the folder with the NIH part")
        (edit,) = parse(entry["instruction"])
        drawn = boxes.get(row["id"], {}).get(edit.finding, [])
        findings = "|".join(spoken(row["findings"])) or ("No finding" if row["findings"] == "No Finding" else "")
        pixels = ";".join(",".join(map(str, _pixels(box, row["width"], row["height"]))) for box in drawn)
        told = (row["patient_id"], row["view"], row["sex"] or "", row["age"] or "", findings, pixels)
        yield row["file"], entry["instruction"], entry["seed"], *told


def _pixels(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    left, top = round(box[0] * width), round(box[1] * height)
    return left, top, max(1, round(box[2] * width)), max(1, round(box[3] * height))


def write(path: Path, header: tuple[str, ...], rows: Iterator[tuple]) -> None:
    def fill(file: Path) -> None:
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *rows])

    atomic_write(path, fill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the open X-rays, with metadata.csv")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--choose", action="store_true", help="write the list itself, chosen anew")
    options = parser.parse_args()
    try:
        table, boxes = load_table(options.data), boxes_of(options.data)
        if options.choose:
            write(options.out, ("image", "instruction", "seed"), iter(dict.fromkeys(choose(table, boxes))))
        else:
            with LIST.open(encoding="utf-8", newline="") as stream:
                write(options.out, COLUMNS, joined(table, boxes, list(csv.DictReader(stream))))
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
