"""The page: well-formed, of one file, and all text is text."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from instructx2x import NOTICE
from instructx2x.errors import InputError
from instructx2x.evaluation.reporting.embedding import WIDEST, embedded
from instructx2x.evaluation.reporting.page import page
from instructx2x.evaluation.reporting.tables import Count, Report, Table
from instructx2x.evaluation.resampling import Interval

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Elements of a page; every one must be closed where it was opened."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_well_formed_and_links_lead_somewhere(report):
    html = page(report)
    found = Page(html)
    identities = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    links = [each["href"] for each in found.all("a")]
    assert links == ["#table-main", "#table-second", "#pictures", "#facts"]
    used = re.findall(r"url\((#[^)]*)\)", html) + [each["href"] for each in found.all("use")]
    assert used and {link[1:] for link in links + used} <= set(identities)
    assert len(found.all("svg")) == 2


def test_the_page_needs_nothing_but_itself(report):
    html = page(report)
    found = Page(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r'base64,[^"]*', "", html))
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "metadata"}
    assert [name for _, attributes in found.elements for name in attributes if name.startswith("on")] == []
    assert all(each["src"].startswith("data:image/png;base64,") for each in found.all("img"))
    policy = next(each["content"] for each in found.all("meta") if "http-equiv" in each)
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$title ${x} $x^2$ &lt; "]
)
def test_hostile_text_is_shown_as_it_is(make_report, text):
    found, harmless = Page(page(make_report(text))), Page(page(make_report("x")))
    kept = [(tag, sorted(attributes)) for tag, attributes in found.elements if tag != "svg"]
    # The plots differ in where long names leave room for marks; all else is the same elements, with other text.
    outside = [each for each in kept if each[0] not in ("g", "path", "text", "defs", "clippath", "rect", "use")]
    assert outside == [
        (tag, sorted(attributes))
        for tag, attributes in harmless.elements
        if tag not in ("svg", "g", "path", "text", "defs", "clippath", "rect", "use")
    ]
    line = text.strip()
    words = "Title sentence Main method note copy default official word edema case caption command torch 2 Second"
    for word in words.split():
        assert f"{line} {word}" in found.text or f"{line}{word}" in found.text
    assert all(line in each["alt"] for each in found.all("img"))


def test_failures_come_first_and_every_picture_has_words_and_the_notice(report):
    html = page(report)
    found = Page(html)
    assert [each["alt"] for each in found.all("img")] == ["case 1 - caption 1", "case 0 - caption 0"]
    assert {each["loading"] for each in found.all("img")} == {"lazy"}
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    assert ["failed" in caption for caption in captions] == [True, False]
    assert all(NOTICE in caption for caption in captions)
    for each in found.all("img"):
        with Image.open(io.BytesIO(base64.b64decode(each["src"].partition(",")[2]))) as image:
            assert image.text["Notice"] == NOTICE
            assert (str(image.width), str(image.height)) == (each["width"], each["height"])


def opened(data):
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))


def test_pixels_of_a_picture_are_kept_and_its_other_content_is_not(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, WIDEST, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0secret")
    data, width, height = embedded(tmp_path / "a.png")
    assert (width, height) == (WIDEST, 20) and (np.asarray(opened(data)) == pixels).all()
    assert opened(data).info == {"Notice": NOTICE}


def test_wide_pictures_are_scaled_down(tmp_path):
    Image.fromarray(np.full((1000, 4 * WIDEST), 99, np.uint8)).save(tmp_path / "a.png")
    data, *size = embedded(tmp_path / "a.png")
    assert size == [WIDEST, 250] and opened(data).size == (WIDEST, 250) and set(np.unique(opened(data))) == {99}


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((100, 100), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9000)
    with pytest.raises(InputError, match=r"a\.png: too many pixels"):
        embedded(tmp_path / "a.png")


def test_a_plot_shows_what_was_measured():
    """Dots lie where the values are, each on the line of its interval; there is none for what was not measured."""
    rows = tuple((f"m{n}", Interval(n / 10, n / 10 - 0.05, n / 10 + 0.1)) for n in range(4))
    table = Table(
        "t", "t", ("method", "score"), (*rows, ("none", None), ("nan", Interval(*[float("nan")] * 3))), plot=("score",)
    )
    svg = page(Report("t", (), {}, (table,)))
    dots = np.array(
        [
            tuple(map(float, each))
            for each in re.findall(r'<use href="[^"]*" x="([^"]*)" y="([^"]*)" style="fill: var\(--accent', svg)
        ]
    )
    lines = [
        tuple(map(float, each))
        for each in re.findall(r'd="M (\S+) (\S+)\s+L (\S+) (\S+)\s*"[^>]*stroke: var\(--accent', svg)
    ]
    assert dots.shape == (4, 2) and len(lines) == 4
    unit = (dots[3, 0] - dots[0, 0]) / 0.3
    np.testing.assert_allclose(np.diff(dots[:, 0]), 0.1 * unit, rtol=1e-4)
    assert (np.diff(dots[:, 1]) > 0).all()  # the first row is at the top
    for (x, y), (left, one, right, other) in zip(dots, lines, strict=True):
        assert one == pytest.approx(y) and other == pytest.approx(y)
        assert ((x - left) / unit, (right - x) / unit) == (pytest.approx(0.05, rel=1e-3), pytest.approx(0.1, rel=1e-3))
    assert re.findall(r">(m\d|none|nan)</text>", svg) == ["m0", "m1", "m2", "m3", "none", "nan"]


def test_a_plot_of_nothing_is_left_out():
    table = Table("t", "t", ("method", "score"), (("a", None), ("b", float("nan"))), plot=("score",))
    assert "<svg" not in page(Report("t", (), {}, (table,)))


def test_extreme_numbers_and_names_are_drawn_without_a_word(recwarn):
    ends = (0.5, 1e-320, 1e300, -1.7e308, float("inf"), -float("inf"), float("nan"))
    rows = tuple(("日本語" * 20, Interval(a, b, c), Count(0, 1)) for a in ends for b in ends for c in ends)
    for some in (rows, rows[:1]):
        found = Page(page(Report("t", (), {}, (Table("<k>", "t", ("m", "a", "b"), some, plot=("a", "b")),))))
        assert len(found.all("svg")) == 1
        assert not re.search("nan|inf", " ".join(each["d"] for each in found.all("path")), re.IGNORECASE)
    assert not recwarn.list
