"""A report on the disk: report.md, report.json and report.html."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from instructx2x import NOTICE
from instructx2x.errors import OutputError
from instructx2x.evaluation.reporting.markdown import link, markdown
from instructx2x.evaluation.reporting.page import page
from instructx2x.evaluation.reporting.tables import Count, Report, Value
from instructx2x.evaluation.resampling import Interval
from instructx2x.imaging.radiograph import label
from instructx2x.imaging.writing import atomic_write, text_entries

FORMAT = 1
REPORTS = {"markdown": "report.md", "json": "report.json", "html": "report.html"}


def refuse_foreign(out: Path) -> None:
    """Refuse before the work to replace a report or a picture that this program did not write: ours carry the notice.

    Raises:
        OutputError: with the first such file.
    """
    drawn = sorted(path for path in (out / "pictures").rglob("*") if not path.is_dir() or path.is_symlink())
    for path in [*(out / name for name in REPORTS.values()), *drawn]:
        if not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_file():
            ours = False
        elif path.suffix == ".png":
            ours = text_entries(path).get("Notice") == NOTICE
        else:
            ours = NOTICE.encode() in path.read_bytes()
        if not ours:
            raise OutputError(
                f"{path} was not written by this program, so it is not replaced: move it away or choose another folder"
            )


def write_report(report: Report, out: Path) -> dict[str, Path]:
    """Write a report as Markdown, JSON (see `as_data`) and HTML, each whole or not at all.

    The same report gives the same bytes. Nothing is written when one of the three cannot be made.

    Returns:
        The files, by "markdown", "json" and "html".

    Raises:
        InputError: a picture is missing or damaged.
        OutputError: `out` cannot be written to.
    """
    out = Path(out)
    contents = {
        "markdown": markdown(report, out),
        "json": json.dumps(as_data(report, out), indent=1, allow_nan=False) + "\n",
        "html": page(report),
    }
    paths = {kind: out / name for kind, name in REPORTS.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{label(out)} cannot be written to ({error.strerror}): choose another folder") from error
    for name, path in paths.items():
        content = contents[name].encode()
        atomic_write(path, lambda file, content=content: file.write_bytes(content))
    return paths


def as_data(report: Report, folder: Path) -> dict[str, Any]:
    """A report as JSON takes it, format 1.

    "format", "notice", "title", "summary" (sentences) and "facts" (name to text, or to such a mapping); "tables", each
    with "key", "title", "note", "header" and "rows", which are lists of values in the header's order; "pictures", each
    with "file" (seen from `folder`), "title", "caption" and "failed". A value is text, a number, or

    - {"value", "low", "high"}: a number and its 95 % interval,
    - {"hits", "total", "low", "high"}: a count, and the 95 % interval of its share in [0, 1],
    - null: not measured. An infinite number is the text "inf" or "-inf".

    Numbers are as they were measured, not rounded.
    """
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "title": report.title,
        "summary": list(report.summary),
        "facts": _facts(report.facts),
        "tables": [
            {
                "key": table.key,
                "title": table.title,
                "note": table.note,
                "header": list(table.header),
                "rows": [[_value(value) for value in row] for row in table.rows],
            }
            for table in report.tables
        ],
        "pictures": [
            {
                "file": link(picture.path, folder),
                "title": picture.title,
                "caption": picture.caption,
                "failed": picture.failed,
            }
            for picture in report.pictures
        ],
    }


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _facts(value) if isinstance(value, Mapping) else str(value) for name, value in facts.items()}


def _value(value: Value) -> Any:
    if isinstance(value, Interval):
        return {"value": _value(value.value), "low": _value(value.low), "high": _value(value.high)}
    if isinstance(value, Count):
        low, high = value.share.low, value.share.high
        return {"hits": _value(value.hits), "total": _value(value.total), "low": low, "high": high}
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    number = float(value)  # of numpy's kinds, too
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else str(number)
