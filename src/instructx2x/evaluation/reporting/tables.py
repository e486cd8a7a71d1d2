"""What a report is made of, and how a value of a table is written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path

import numpy as np

from instructx2x.evaluation.proportions import wilson
from instructx2x.evaluation.resampling import Interval


@dataclass(frozen=True)
class Count:
    """`hits` of `total`, at most all of them."""

    hits: int
    total: int

    @classmethod
    def of(cls, values: np.ndarray) -> Count:
        """Of 1 and 0 or bool; NaN are not counted."""
        known = values[~np.isnan(values)]
        return cls(int(known.sum()), int(known.size))

    @cached_property
    def share(self) -> Interval:
        """The share in [0, 1] with Wilson's 95 % interval; NaN when nothing was counted."""
        value = self.hits / self.total if self.total else math.nan
        return Interval(value, *wilson(int(self.hits), int(self.total)))


Value = str | int | float | Interval | Count | None  # None and NaN stand for what was not, or could not be, measured


@dataclass(frozen=True)
class Table:
    """A table with one row for each method, or whatever is compared.

    Attributes:
        key: short, of letters, digits, "-" and "_", and unique in its report; the name in JSON and in links.
        header: name of each column.
        rows: as many values as the header has names; the first is the row's name.
        note: what a reader must know.
        digits: decimals of floats and intervals.
        plot: columns, by their name, whose intervals and counts are drawn.

    Raises:
        ValueError: a row is longer or shorter than the header, or a column to be drawn is not there.
    """

    key: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    digits: int = 3
    plot: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"table {self.key}: every row must have {len(self.header)} values")
        if not set(self.plot) <= set(self.header):
            raise ValueError(f"table {self.key}: only columns of the header can be drawn")

    @cached_property
    def anchor(self) -> str:
        """The key as a page's links take it."""
        return re.sub(r"[^0-9A-Za-z_-]+", "-", self.key)

    @cached_property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold no text, and so are aligned at the right."""
        columns = range(1, len(self.header))
        return (False, *(not any(isinstance(row[column], str) for row in self.rows) for column in columns))


@dataclass(frozen=True)
class Picture:
    """A picture on the disk that a report shows; one of a failure is shown before the others."""

    path: Path
    title: str
    caption: str
    failed: bool


@dataclass(frozen=True)
class Report:
    """What an evaluation found. All text is plain: markup in it is shown as it is written.

    Attributes:
        summary: sentences that are shown first.
        facts: what the figures depend on (versions, judges and their roles, numbers of images, seeds, command),
            by name; a group of facts is a mapping.

    Raises:
        ValueError: two tables have one key.
    """

    title: str
    summary: tuple[str, ...]
    facts: Mapping[str, str | Mapping[str, str]]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        if len({table.anchor for table in self.tables}) < len(self.tables):
            raise ValueError("every table of a report needs a key of its own")

    @cached_property
    def shown(self) -> list[Picture]:
        """The pictures, failures first, otherwise in their order."""
        return sorted(self.pictures, key=lambda picture: not picture.failed)


def plain(text: object) -> str:
    """One line of text; what no file can hold or no page can show becomes a replacement character."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", " ".join(str(text).split()))


def written(value: Value, digits: int) -> str:
    """A value as a reader sees it: "0.812 (0.760 to 0.860)", "17 of 20 (64-95 %)", "-" for what was not measured."""
    if isinstance(value, Count):
        if not value.total:
            return "-"
        share = value.share
        return f"{value.hits} of {value.total} ({100 * share.low:.0f}-{100 * share.high:.0f} %)"
    if isinstance(value, Interval):
        middle = _number(value.value, digits)
        if math.isnan(value.value) or math.isnan(value.low) or math.isnan(value.high):
            return middle
        return f"{middle} ({_number(value.low, digits)} to {_number(value.high, digits)})"
    if value is None:
        return "-"
    if isinstance(value, str):
        return plain(value)
    return _number(value, digits)


def _number(number: float, digits: int) -> str:
    if math.isnan(number):
        return "-"
    if isinstance(number, Integral) or math.isinf(number):
        return str(number)
    # A small number must not be taken for an exact zero.
    if number and not 0.5 * 10.0**-digits <= abs(number) < 1e9:
        return f"{number:.1e}"
    return f"{number:.{digits}f}"
