"""Markdown, read back by a parser."""

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from instructx2x import NOTICE
from instructx2x.evaluation.reporting.markdown import block, markdown
from instructx2x.evaluation.reporting.tables import Report, Table

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

HOSTILE = (
    "<script>alert(1)</script>",
    "a | b || c\\| d",
    "`code` ``more`` *bold* __bold__ _x_ ~~gone~~",
    "[link](https://example.org) ![image](x.png) <https://example.org>",
    "# heading",
    "- item",
    "+ item",
    "12. item",
    "12) item",
    "===",
    "---",
    "> quote",
    "&amp; &lt; &#65;",
    "trailing\\",
    "two\nlines\r\n\n# three",
    "$x_1$",
    "``` fence",
)


class Shown(HTMLParser):
    """Text of an HTML fragment, by the element that it stands in."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.open = [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("br", "img", "hr"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is(text):
    line = " ".join(text.split())
    shown = Shown(PARSER.render(block(text)))
    assert shown.tags == ["p"] and shown.texts["p"] == [line]
    report = Report("t", (text,), {text: text}, (Table("k", text, ("name", text), ((text, text), ("x", 1)), text),))
    shown = Shown(PARSER.render(markdown(report, "")))
    assert shown.texts["td"] == [line, line, "x", "1"] and shown.texts["th"] == ["name", line]
    assert shown.texts["li"] == [line, f"{line}: {line}"]
    assert shown.texts["h2"] == [line, "Facts"] and shown.texts["p"][-1] == line


def test_tables_and_pictures(report, tmp_path):
    written = markdown(report, tmp_path)
    assert written.index(NOTICE) < written.index("sentence") < written.index("## Main")
    assert "| method | N | score | hits | change | remark |\n| --- | ---: | ---: | ---: | ---: | --- |\n" in written
    assert "| copy | 200 | 0.333 (0.300 to 0.400) | 0 of 20 (0-16 %) | - | word |" in written
    assert "![case 1](pictures/case%201%20%28a%29.png)" in written
    assert written.index("case 1") < written.index("case 0")  # the failure first
    assert written.count(NOTICE) == 3
