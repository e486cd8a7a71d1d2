"""The three files: the numbers in them, that they are the same each time, and that nothing is written half."""

import json
import math
import os
from numbers import Real
from pathlib import Path

import pytest

from instructx2x import NOTICE
from instructx2x.errors import InputError, OutputError
from instructx2x.evaluation.reporting.tables import Count, Picture, Report, Table
from instructx2x.evaluation.reporting.writing import write_report
from instructx2x.evaluation.resampling import Interval


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def test_every_number_of_the_tables_is_in_the_json_exactly(report, tmp_path):
    data = json.loads(write_report(report, tmp_path)["json"].read_bytes(), parse_constant=refuse)
    assert data["format"] == 1 and data["notice"] == NOTICE
    seen = 0
    for table, stored in zip(report.tables, data["tables"], strict=True):
        assert stored["header"] == list(table.header)
        for row, kept in zip(table.rows, stored["rows"], strict=True):
            for value, found in zip(row, kept, strict=True):
                if isinstance(value, Interval):
                    numbers = [(getattr(value, name), found[name]) for name in ("value", "low", "high")]
                elif isinstance(value, Count):
                    assert (found["hits"], found["total"]) == (value.hits, value.total)
                    numbers = [(value.share.low, found["low"]), (value.share.high, found["high"])]
                elif isinstance(value, Real):
                    numbers = [(value, found)]
                else:
                    assert found == value
                    continue
                for number, got in numbers:
                    seen += 1
                    assert got is None if math.isnan(number) else got == number and type(got) in (int, float)
    assert seen == 20


def test_infinite_numbers_are_told_from_unmeasured_ones(tmp_path):
    report = Report("t", (), {}, (Table("k", "t", ("name", "a", "b"), (("x", math.inf, -math.inf),)),))
    data = json.loads(write_report(report, tmp_path)["json"].read_bytes(), parse_constant=refuse)
    assert data["tables"][0]["rows"] == [["x", "inf", "-inf"]]


def test_pictures_are_found_from_the_json(report, tmp_path):
    data = json.loads(write_report(report, tmp_path / "deep" / "er")["json"].read_bytes())
    assert [each["failed"] for each in data["pictures"]] == [False, True]
    for each in data["pictures"]:
        assert (tmp_path / "deep" / "er" / each["file"]).is_file()


def test_the_same_report_gives_the_same_bytes(make_report, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    first = {name: path.read_bytes() for name, path in write_report(make_report(), tmp_path / "one").items()}
    assert sorted(first) == ["html", "json", "markdown"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    # A user's settings of matplotlib do not matter, and are left as they were.
    import matplotlib

    with matplotlib.rc_context(
        {"font.size": 30, "lines.linestyle": "--", "svg.hashsalt": None, "svg.fonttype": "path"}
    ):
        again = write_report(make_report(), tmp_path / "two")
        assert matplotlib.rcParams["font.size"] == 30
    assert {name: path.read_bytes() for name, path in again.items()} == first


def test_a_report_without_tables_or_pictures(tmp_path):
    for path in write_report(Report("nothing", (), {}, ()), tmp_path).values():
        assert NOTICE.encode() in path.read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"no picture", "cut"])
def test_nothing_is_written_where_a_picture_is_missing_or_damaged(report, tmp_path, content):
    path = report.pictures[1].path
    whole = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(whole[:200] if content == "cut" else content)
    with pytest.raises(InputError, match=r"^[^\n]*case 1 \(a\)\.png[^\n]*make it again$"):
        write_report(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to(report, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"^[^\n]*choose another folder$"):
        write_report(report, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_names_that_are_no_text(report, tmp_path):
    """A file system takes any bytes for a name."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xffme.png"))
    try:
        path.write_bytes(report.pictures[0].path.read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    named = Report(path.name, (path.name,), {path.name: path.name}, (), (Picture(path, path.name, path.name, True),))
    written = write_report(named, tmp_path)
    assert "(na%FFme.png)" in written["markdown"].read_text()
    assert json.loads(written["json"].read_bytes())["pictures"][0]["file"] == path.name
