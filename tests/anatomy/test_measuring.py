"""What benchmarks/anatomy.py counts by."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

# By its file: this folder is called anatomy, too.
spec = importlib.util.spec_from_file_location("anatomy_benchmark", BENCHMARKS / "anatomy.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def test_boxes_are_counted_once_where_they_overlap():
    mask = benchmark.drawn([box(0, 0, 0.5, 0.5), box(0.25, 0.25, 0.75, 0.75)])
    assert mask.mean() == pytest.approx(0.25 + 0.25 - 0.0625)
    assert not benchmark.drawn([]).any()


def test_a_mask_holds_what_it_opens():
    values = np.zeros((100, 80), np.float32)
    values[:, :40] = 1
    share, inside, whole = benchmark.cover(values, benchmark.drawn([box(0.25, 0, 0.75, 1)]))
    assert share == pytest.approx(0.5, abs=0.01) and inside / whole == pytest.approx(0.5, abs=0.02)


def test_a_side_is_one_only_when_every_box_has_it():
    right, left = box(0.1, 0, 0.3, 1), box(0.6, 0, 0.9, 1)
    assert benchmark.one_side([right, right], 0.5) == "right" and benchmark.one_side([left], 0.5) == "left"
    assert benchmark.one_side([right, left], 0.5) is None
    assert benchmark.one_side([left], 0.8) == "right"


def test_tables_count_the_records():
    boxes = {"lung opacity": {"not named": [0.3, 95, 100], "named": [0.3, 50, 100]}}
    record = {"lungs": "", "heart": "", "boxes": boxes}
    table = benchmark.coverage_table([record, {**record, "lungs": "none"}, {**record, "boxes": {}}])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[:6] for row in rows] == [
        ["lung opacity", "not named", "2", "1", "0.300", "0.950"],
        ["lung opacity", "named", "2", "1", "0.300", "0.500"],
    ]
    assert rows[0][6].endswith("kept") and rows[1][6].endswith("missed")
    reasons = [{"split": "val", "heart": f"it takes {n} % of it"} for n in ("3", "4")]
    assert "2" in benchmark.reasons_table([{**r, "heart": r["heart"].replace(" %", "%")} for r in reasons])
