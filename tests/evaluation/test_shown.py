"""Which cases a report shows: failures first, the worst first; then those in which the methods differ most."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instructx2x.editing.rows import Row
from instructx2x.evaluation import shown
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.scored import Scored
from instructx2x.instructions import parse, render

FINDINGS = ("edema", "mass")


class Judge:
    name, outputs, auc = "eyes", FINDINGS, {"edema": 0.9, "mass": 0.6}  # a mass it hardly tells


def odds(value):
    return 1 / (1 + np.exp(-value))


def case(number, instruction, findings=frozenset(), path=None):
    edits = parse(instruction)
    path = path or Path(f"{number}.png")
    return Case(Row(number, path.name, path, render(edits), 0, f"case-{number}"), edits, "p", findings=findings)


def made(cases, **moves):
    """Scored of method -> rise of the log-odds of (edema, mass) in each case, in units of spread; None: no image."""
    # Log-odds 0 and 2 in turn; their deviation over an even number of images is known.
    before = np.array([[2.0 * (n % 2)] * 2 for n in range(len(cases))])
    unit = before[:, 0].std(ddof=1)
    records = {"source": dict(zip(cases, before, strict=True)), "target": {}}
    for name, rows in moves.items():
        records[name] = {
            found: start + unit * np.array(move)
            for found, start, move in zip(cases, before, rows, strict=True)
            if move is not None
        }
    told = {
        name: {
            found.name: {"answers": odds(values).tolist(), "features": [], "change": {}}
            for found, values in rows.items()
        }
        for name, rows in records.items()
    }
    return Scored.of(cases, Panel([Judge()]), told)


def by_name(scored, name):
    return next(method for method in scored.methods if method.name == name)


@pytest.fixture
def cases():
    texts = ["Add edema"] * 6 + ["Add mass", "Add edema"]
    return [case(n, text, frozenset({"edema"}) if n == 7 else frozenset()) for n, text in enumerate(texts)]


# Failures of the first: rows 2 (-3), 0 (-1), 5 (0). Row 6 is of a mass, row 7 has nothing to do: neither is a failure.
FIRST = [(-1, 0), (2, 0), (-3, 9), (1, 0), (0.5, 0), (0, 0), (0, -9), (-9, 0)]


def test_failures_come_first_and_the_worst_of_them_first(cases):
    # The other differs from the first by 4 in row 3, 1 in row 1, not at all in row 4; failures are not shown twice.
    other = [(9, 0), (1, 0), (9, 0), (-3, 0), (0.5, 0), (9, 0), (9, 9), (9, 0)]
    found = shown.choose(made(cases, ours=FIRST, theirs=other))
    assert found == [(2, True), (0, True), (5, True), (3, False), (1, False)]
    # Whoever is named first is the one whose failures are shown.
    assert shown.choose(made(cases, theirs=other, ours=FIRST))[0] == (3, True)


def test_one_method_alone_is_shown_where_it_moved_furthest(cases):
    assert shown.choose(made(cases, ours=FIRST)) == [
        *((2, True), (0, True), (5, True)),
        *((1, False), (3, False), (4, False)),
    ]
    assert shown.choose(made(cases)) == [], "a copy is no method"


def test_cases_without_an_image_are_neither_failures_nor_differences(cases):
    gone = [*FIRST[:2], None, *FIRST[3:]]
    other = [None, None, (9, 0), (-3, 0), *[None] * 4]
    assert shown.choose(made(cases, ours=gone, theirs=other)) == [(0, True), (5, True), (3, False)]


def test_no_more_than_a_page_of_each():
    cases = [case(n, "Add edema") for n in range(60)]
    first = [((n - 29.5) / 10, 0) for n in range(60)]
    # As far apart as the first moved, where it moved up; alike where it failed.
    other = [(2 * move if move > 0 else move, 0) for move, _ in first]
    assert shown.choose(made(cases, ours=first, theirs=other)) == [
        *((row, True) for row in range(shown.FAILURES)),
        *((59 - row, False) for row in range(shown.DIFFERENCES)),
    ]


def test_progress_is_the_mean_over_findings_that_are_told_well():
    cases = [case(0, "Remove edema and add mass", frozenset({"edema"})), case(1, "Add mass")]
    scored = made(cases, ours=[(-2, -9), (1, 1)])
    np.testing.assert_allclose(shown.progress_of(scored, by_name(scored, "ours")), [2, np.nan])


def test_a_strip_and_its_words(tmp_path, make_chest):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for number, path in enumerate(paths):
        Image.fromarray(make_chest(seed=number)).save(path)
    cases = [case(0, "Add edema", path=paths[0]), case(1, "Add edema", path=paths[1])]
    scored = made(cases, ours=[(-1, 0), (2, 0)], theirs=[(0.5, 0), (2.5, 0)])
    edited = {name: {f"case-{n}": paths[2] for n in range(2)} for name in ("ours", "theirs")}
    first, second = shown.pictures(scored, edited, tmp_path / "out")
    assert first.failed and first.path == tmp_path / "out/case-0.png" and first.path.is_file()
    assert first.title == "a.png: Add the finding of edema." and first.caption.endswith(": ours -1.00, theirs +0.50")
    assert not second.failed and second.caption.endswith(": ours +2.00, theirs +2.50")
