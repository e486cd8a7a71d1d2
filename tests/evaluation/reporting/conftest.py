"""A made-up report, with each kind of value and two pictures."""

import math

import numpy as np
import pytest

from instructx2x.evaluation.reporting.strips import strip, write_sheet
from instructx2x.evaluation.reporting.tables import Count, Picture, Report, Table
from instructx2x.evaluation.resampling import Interval


@pytest.fixture
def make_report(tmp_path):
    """Of any text: everything that is text in the report starts with it."""

    def make(text=""):
        pictures = []
        for number, failed in enumerate((False, True)):
            path = tmp_path / "pictures" / f"case {number} (a).png"
            shade = np.linspace(0, 1, 256)[None] * np.ones((256, 1)) * (1 + number) / 2
            write_sheet([[strip("made up", [shade, 1 - shade])]], path)
            pictures.append(Picture(path, f"{text}case {number}", f"{text}caption {number}", failed))
        values = (
            (f"{text}copy", 200, Interval(1 / 3, 0.1 + 0.2, 0.4), Count(0, 20), math.nan, f"{text}word"),
            (f"{text}default", np.int64(7), Interval(0.7, math.nan, math.nan), Count(17, 20), 2e-5, None),
            (f"{text}official", 3, None, Count(0, 0), np.float32(0.1), "-"),
        )
        header = ("method", "N", "score", "hits", "change", "remark")
        tables = (
            Table(
                "main",
                f"{text}Main",
                tuple(text + name for name in header),
                values,
                f"{text}note",
                3,
                (text + "score",),
            ),
            Table(
                "second",
                f"{text}Second",
                ("finding", f"{text}hits"),
                ((f"{text}edema", Count(1, 3)),),
                plot=(f"{text}hits",),
            ),
        )
        facts = {f"{text}command": f"{text}x2x evaluate", f"{text}versions": {f"{text}torch": f"{text}2"}}
        return Report(f"{text}Title", (f"{text}sentence",), facts, tables, tuple(pictures))

    return make


@pytest.fixture
def report(make_report):
    return make_report()
