"""A table's intervals as a forest plot: one panel for each column, one line for each row."""

from __future__ import annotations

import io
import math
import unicodedata
import warnings
from xml.etree import ElementTree

from instructx2x.evaluation.reporting.tables import Count, Table, Value, plain
from instructx2x.evaluation.resampling import Interval

ACROSS = 3  # panels beside each other
LINE, PANEL, GAP, TITLE, AXIS = 0.26, 2.3, 0.35, 0.3, 0.35  # heights of a row, a title and an axis; widths; in inches
LONGEST = 30  # characters of a row's name
LARGEST = 1e9  # an axis that holds a larger number shows nothing of the others

# Colours that the page's own take the place of, so that plots follow its light and dark looks.
_TEXT, _DATA, _GRID = "#010101", "#020202", "#030303"
_COLOURS = {_TEXT: "var(--text)", _DATA: "var(--accent)", _GRID: "var(--line)"}


def forest(table: Table) -> str:
    """The columns `table.plot` as an <svg> element for an HTML page; "" where there is nothing to draw.

    The dot is the value and the line its 95 % interval; what was not measured, or is LARGEST or more, has neither.
    Counts are drawn as shares.
    """
    panels = [(name, [row[table.header.index(name)] for row in table.rows]) for name in table.plot]
    if not any(_drawn(value) for _, values in panels for value in values):
        return ""
    # Importing matplotlib takes a second; who writes no plot does not wait for it.
    import matplotlib.style

    settings = {"svg.fonttype": "none", "svg.hashsalt": table.key, "text.parse_math": False, "font.size": 9}
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        # A sign that matplotlib's font does not have is drawn by the browser, which has it.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = _figure([_short(row[0]) for row in table.rows], panels)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(content.getvalue(), table)


def _drawn(value: Value) -> Interval | None:
    found = value.share if isinstance(value, Count) else value
    return found if isinstance(found, Interval) and abs(found.value) < LARGEST else None


def _short(name: Value) -> str:
    text = plain(name)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _columns(text: str) -> int:
    """Width of a text in characters; those of East Asian scripts take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _figure(names: list[str], panels: list[tuple[str, list[Value]]]):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    down = math.ceil(len(panels) / ACROSS)
    across = math.ceil(len(panels) / down)
    # In inches. Room for text is reckoned, not measured: the page's reader has other fonts than this machine.
    left = 0.2 + 0.075 * max(map(_columns, names))
    width, height = left + across * (PANEL + GAP), down * (LINE * len(names) + TITLE + AXIS)
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=left / width,
        right=1 - GAP / width,
        bottom=AXIS / height,
        top=1 - TITLE / height,
        wspace=GAP / PANEL,
        hspace=(TITLE + AXIS) / (LINE * len(names)),
    )
    figure.patch.set_visible(False)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, values) in zip(grid.flat, panels, strict=False):
        for place, value in enumerate(values):
            found = _drawn(value)
            if found is None:
                continue
            if abs(found.low) < LARGEST and abs(found.high) < LARGEST:
                axes.plot([found.low, found.high], [place, place], color=_DATA, linewidth=1.6)
            axes.plot([found.value], [place], "o", color=_DATA, markersize=5)
        axes.set_title(_short(title), fontsize=9, color=_TEXT)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)  # the first row at the top
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        if any(isinstance(value, Count) for value in values):
            axes.set_xlim(-0.03, 1.03)
            axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(color=_GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelcolor=_TEXT)
        axes.patch.set_visible(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def _inline(content: bytes, table: Table) -> str:
    """Matplotlib's file as an element of a page: no names of its own that could clash, the page's colours."""
    root = ElementTree.fromstring(content)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            value = element.attrib.pop(name)
            local = name.rpartition("}")[2]
            if local == "id":
                value = f"{table.anchor}-{value}"
            elif local == "href":
                value = value.replace("#", f"#{table.anchor}-")
            else:
                value = value.replace("url(#", f"url(#{table.anchor}-")
            for colour, variable in _COLOURS.items():
                value = value.replace(colour, variable)
            element.set(local, value)
    # Its style sheet would hold for the whole page, which says the same of plots alone; the rest is about the program.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    told = f"{plain(table.title)}: {', '.join(map(plain, table.plot))}, values and 95 % intervals"
    root.attrib |= {"role": "img", "aria-label": told, "class": "forest"}
    return ElementTree.tostring(root, encoding="unicode")
