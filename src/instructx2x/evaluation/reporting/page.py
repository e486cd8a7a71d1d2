"""A report as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template

from instructx2x import NOTICE
from instructx2x.evaluation.reporting.embedding import embedded
from instructx2x.evaluation.reporting.forest import forest
from instructx2x.evaluation.reporting.tables import Picture, Report, Table, plain, written


def page(report: Report) -> str:
    """The report as HTML.

    Raises:
        InputError: a picture is missing or damaged.
    """
    sections = [(f"table-{table.anchor}", table.title, _table(table)) for table in report.tables]
    if report.pictures:
        shown = "\n".join(_picture(picture) for picture in report.shown)
        sections.append(("pictures", "Pictures", f'<div class="pictures">\n{shown}\n</div>'))
    if report.facts:
        sections.append(("facts", "Facts", f"<dl>\n{''.join(_facts(report.facts))}</dl>"))
    links = (f'<li><a href="#{anchor}">{_text(title)}</a></li>' for anchor, title, _ in sections)
    summary = "".join(f"<li>{_text(sentence)}</li>\n" for sentence in report.summary)
    template = files("instructx2x.evaluation.reporting") / "page.html"
    return Template(template.read_text(encoding="utf-8")).substitute(
        title=_text(report.title),
        notice=_text(NOTICE),
        summary=f'<ul class="summary">\n{summary}</ul>' if summary else "",
        contents="\n".join(links),
        sections="\n".join(
            f'<section id="{anchor}">\n<h2>{_text(title)}</h2>\n{content}\n</section>'
            for anchor, title, content in sections
        ),
    )


def _text(text: object) -> str:
    return escape(plain(text))


def _table(table: Table) -> str:
    kinds = [' class="number"' if numeric else "" for numeric in table.numeric]
    head = "".join(f'<th scope="col"{kind}>{_text(name)}</th>' for name, kind in zip(table.header, kinds, strict=True))
    rows = []
    for name, *values in table.rows:
        cells = (
            f"<td{kind}>{escape(written(value, table.digits))}</td>"
            for value, kind in zip(values, kinds[1:], strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(written(name, table.digits))}</th>{"".join(cells)}</tr>')
    parts = [
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>',
        *rows,
        "</tbody>\n</table></div>",
    ]
    if table.note:
        parts.append(f'<p class="note">{_text(table.note)}</p>')
    if drawn := forest(table):
        parts.append(drawn)
        parts.append('<p class="note">Dots are values, lines their 95 % intervals.</p>')
    return "\n".join(parts)


def _picture(picture: Picture) -> str:
    data, width, height = embedded(picture.path)
    words = " - ".join(text for text in (plain(picture.title), plain(picture.caption)) if text)
    failed = '<span class="failed">failed</span> ' if picture.failed else ""
    return (
        f'<figure><img src="{data}" width="{width}" height="{height}" loading="lazy" alt="{escape(words)}">\n'
        f"<figcaption>{failed}<strong>{_text(picture.title)}</strong> {_text(picture.caption)}\n"
        f'<span class="notice">{_text(NOTICE)}</span></figcaption></figure>'
    )


def _facts(facts: Mapping[str, str | Mapping[str, str]]) -> Iterable[str]:
    for name, value in facts.items():
        inner = f"<dl>\n{''.join(_facts(value))}</dl>" if isinstance(value, Mapping) else _text(value)
        yield f"<dt>{_text(name)}</dt><dd>{inner}</dd>\n"
