"""A report as GitHub Markdown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from instructx2x import NOTICE
from instructx2x.evaluation.reporting.tables import Picture, Report, Table, plain, written


def markdown(report: Report, folder: Path) -> str:
    """The report as one Markdown page that lies in `folder`; pictures are linked from where they are."""
    parts = [f"# {inline(report.title)}", f"**{inline(NOTICE)}**"]
    if report.summary:
        parts.append("\n".join(f"- {block(sentence)}" for sentence in report.summary))
    for table in report.tables:
        parts += [f"## {inline(table.title)}", _table(table)]
        if table.note:
            parts.append(block(table.note))
    if report.pictures:
        parts += ["## Pictures", *(_picture(picture, folder) for picture in report.shown)]
    if report.facts:
        parts += ["## Facts", "\n".join(_facts(report.facts))]
    return "\n\n".join(parts) + "\n"


def inline(text: object) -> str:
    """Text within a line or a table's cell, without a meaning for Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|~$&])", r"\\\1", plain(text))


def block(text: object) -> str:
    """Text that begins a line: no heading, list or rule either."""
    return re.sub(r"^(\d*)([#+\-=.)])", r"\1\\\2", inline(text))


def _table(table: Table) -> str:
    ends = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = ([inline(written(value, table.digits)) for value in row] for row in table.rows)
    return "\n".join(_row(cells) for cells in ([inline(name) for name in table.header], ends, *rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _picture(picture: Picture, folder: Path) -> str:
    title = inline(picture.title)
    told = f"**Failed: {title}**" if picture.failed else f"**{title}**"
    caption = f"{inline(picture.caption)} " if picture.caption.strip() else ""
    return f"{told}  \n{caption}*{inline(NOTICE)}*\n\n![{title}]({quote(os.fsencode(link(picture.path, folder)))})"


def link(path: Path, folder: Path) -> str:
    """Where a file lies, seen from a folder, with forward slashes."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return path.resolve().as_posix()


def _facts(facts: Mapping[str, str | Mapping[str, str]], indent: str = "") -> Iterable[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {block(name)}"
            yield from _facts(value, indent + "  ")
        else:
            yield f"{indent}- {block(name)}: {inline(value)}"
