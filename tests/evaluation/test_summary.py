"""What stands in the cells of a report, and in the arrays beneath them: made-up scores whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from instructx2x.editing.rows import Row
from instructx2x.evaluation import distributions, measures, summary
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.reporting.tables import Count, written
from instructx2x.evaluation.resampling import Interval
from instructx2x.evaluation.scored import COPY, TARGET, Scored
from instructx2x.instructions import parse, render

FINDINGS = ("pleural effusion", "edema", "mass")
RACES = ("race: Asian", "race: Black", "race: White")
AUC = {"pleural effusion": 0.9, "edema": 0.8, "mass": 0.6}
SAME = (0.5, 0.5, 0.5, 0.9, 50)


class Judge:
    def __init__(self, name, outputs, auc=None):
        self.name, self.outputs, self.auc = name, outputs, auc or {}


class Trunk(Judge):
    def features(self, images):
        raise AssertionError("never asked here")


def case(number, instruction, findings=frozenset(), patient=None, image=None, boxes=(), seed=0):
    edits = parse(instruction)
    row = Row(number, f"{number}.png", Path(image or f"{number}.png"), render(edits), seed, f"case-{number}")
    return Case(row, edits, patient or f"p{number}", findings=frozenset(findings), boxes=boxes)


def made(cases, answers, changes=None, features=None, others=("female", "age"), auc=AUC):
    """Scored of method -> (N, outputs) answers; a row of None has no image. Changes and features alike."""
    records = {"source": {}, "target": {}}
    for name, rows in answers.items():
        records[name] = {
            c.name: {
                "answers": list(row),
                "features": list(features[name][n]) if features else [0.0],
                "change": changes[name][n] if changes and name in changes else {},
            }
            for n, (c, row) in enumerate(zip(cases, rows, strict=True))
            if row is not None
        }
    return Scored.of(cases, Panel([Trunk("eyes", FINDINGS, auc), Judge("people", others)]), records)


def by_name(scored, name):
    return next(method for method in scored.methods if method.name == name)


def cells(table, row):
    """One row by the table's header."""
    (found,) = [dict(zip(table.header, cells, strict=True)) for cells in table.rows if cells[0] == row]
    return found


def all_measures(scored, name, rows=None):
    rows = np.arange(len(scored.cases)) if rows is None else rows
    return dict(zip(measures.MEASURES, measures.measure(scored, by_name(scored, name), rows), strict=True))


def intervals(*names):
    """A different interval for every method and measure."""
    return {
        name: {
            key: Interval(10 * n + k, 10 * n + k - 0.25, 10 * n + k + 0.5) for k, key in enumerate(measures.MEASURES)
        }
        for n, name in enumerate(names)
    }


@pytest.mark.parametrize("races", [False, True])
def test_every_measure_stands_in_its_own_column(races):
    cases = [case(0, "Add edema"), case(1, "Add edema"), case(2, "Add edema")]
    others = (*RACES, "female", "age") if races else ("female", "age")
    row = (0.5,) * (3 + len(others))
    changes = {"ours": [{"outside_mask": 3}, {"outside_mask": None}, {"outside_mask": 4}]}
    scored = made(cases, {"source": [row] * 3, "target": [None, row, None], "ours": [row] * 3}, changes, others=others)
    found = intervals(TARGET, COPY, "ours")
    table, who = summary.main(scored, found), summary.identity(scored, found)
    trait, name = ("race", "CMIG") if races else ("sex", "CMIG-S")
    columns = {
        **{"pathology AUROC": "pathology", f"{trait} AUROC": trait, "age r": "age", name: name},
        **{"moved": "moved", "size": "size", "in anatomy": "in anatomy", "on side": "on side", "mean change": "change"},
    }
    parts = {
        **{"race AUROC": "race", "race accuracy": "race accuracy", "sex AUROC": "sex"},
        **{"sex accuracy": "sex accuracy", "correlation of ages": "age"},
    }
    for method, images, outside in ((TARGET, 1, None), (COPY, 3, None), ("ours", 3, 7)):
        told = cells(table, method)
        assert (told["images"], told["pixels changed outside the mask"]) == (images, outside)
        assert list(table.header) == ["method", "images", *columns, "pixels changed outside the mask"]
        for header, key in (*columns.items(), *parts.items()):
            expected = found[method][key]
            # A copy agrees with itself by definition: a number without an interval.
            bare = method == COPY and key in parts.values()
            assert (cells(who, method) | told)[header] == (expected.value if bare else expected), (method, header)


def test_findings_are_counted_with_and_without():
    cases = [case(n, "Add left mass", {"edema"} if n < 3 else ()) for n in range(5)]
    rng = np.random.default_rng(0)
    answers = rng.uniform(0.1, 0.9, (5, 5))
    answers[:, 1] = (0.2, 0.6, 0.7, 0.5, 0.3)  # with edema, then without
    scored = made(cases, {"source": answers, "ours": [*(1 - answers[:4]), None]})
    found = intervals(COPY, "ours")
    table = summary.by_finding(scored, found)
    told = cells(table, "edema")
    assert (told["with"], told["without"], told["judge's own AUC"]) == (3, 2, 0.8)
    assert told[COPY] == pytest.approx(4 / 6) and told["ours"] == pytest.approx(1 / 3)  # 4 of 6, 1 of 3 pairs in order
    assert [row[0] for row in table.rows] == ["edema", "mean of those averaged", "mean of those told well"]
    for row, key in (("mean of those averaged", "pathology"), ("mean of those told well", "pathology, judged")):
        assert all(cells(table, row)[name] == found[name][key] for name in (COPY, "ours"))


def with_controls(cases, rows):
    """The same with twenty adds of a mass behind them, of the first patient, that move nothing: no noise is left."""
    controls = [case(100 + n, "Add left mass", patient="p0") for n in range(20)]
    return [*cases, *controls], {name: [*values, *[SAME] * 20] for name, values in rows.items()}


@pytest.fixture
def two():
    """Twelve patients with a box each: "ours" raises the edema that is asked for, "theirs" lowers it."""
    cases = [case(n, "Add edema", boxes=((0, 0, 9, 9),)) for n in range(12)]
    source = np.random.default_rng(0).uniform(0.3, 0.7, (12, 5)) + np.array([0, 0, 0, 0, 40])
    step = np.array([0, 0.2, 0, 0, 0])
    inside = {"ours": 0.75, "theirs": 0.5}
    changes = {name: [{"in_anatomy": share, "amount": 0.1}] * 32 for name, share in inside.items()}
    cases, rows = with_controls(cases, {"source": source, "ours": source + step, "theirs": source - step})
    return made(cases, rows, changes)


def test_differences_are_one_minus_the_other(two):
    _, samples = measures.measured(two, count=40)
    table = summary.differences(two, samples, "ours")
    assert [row[0] for row in table.rows] == [f"ours - {COPY}", "ours - theirs"]
    told = cells(table, "ours - theirs")
    assert told["moved"] == Interval(1, 1, 1) and told["p moved"] == pytest.approx(2 / 41)
    assert told["in anatomy"] == Interval(0.25, 0.25, 0.25)
    back = cells(summary.differences(two, samples, "theirs"), "theirs - ours")
    assert back["moved"] == Interval(-1, -1, -1) and back["in anatomy"].value == -0.25
    copy = cells(table, f"ours - {COPY}")
    assert np.isnan([copy["moved"].value, copy["moved"].low, copy["moved"].high, copy["p moved"]]).all()


def test_distances_stand_in_their_columns_and_are_of_both_methods_images():
    cases = [case(n, "Add edema") for n in range(13)]
    rng = np.random.default_rng(0)
    target = np.column_stack([rng.uniform(0.2, 0.8, (13, 4)), np.full(13, 50)])
    close = target + np.array([0.1, 0, 0, 0, 0])
    features = {"source": rng.normal(size=(13, 3)), "target": rng.normal(size=(13, 3))}
    # One covariance, means (3, 0, 4) apart: the squared distance of the means is all there is.
    features["ours"] = features["target"] + (3, 0, 4)
    ours = [None, *close[1:]]
    scored = made(cases, {"source": target, "target": [*target[:12], None], "ours": ours}, features=features)
    told = cells(summary.distances(scored), "ours")
    assert told["images"] == 11
    p, q = target[1:12, 0], close[1:12, 0]
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean() / 3
    assert told["KL"].value == pytest.approx(divergence) and told["KL"].low < told["KL"].value < told["KL"].high
    assert told["Frechet distance"] == pytest.approx(25, abs=1e-4)
    kernel = distributions.kernel_distance(features["target"][1:12], features["ours"][1:12])[0]
    assert told["kernel distance"] == pytest.approx(kernel) and abs(kernel - 25) > 1
    assert [row[0] for row in summary.distances(scored).rows] == [COPY, "ours"]


@pytest.mark.parametrize(("count", "defined"), [(9, False), (10, True)])
def test_few_images_have_no_distance_and_few_patients_no_interval(count, defined):
    cases = [case(n, "Add edema") for n in range(count)] + [case(20, "Add edema", patient="p0")]
    rng = np.random.default_rng(0)
    source = rng.uniform(0.2, 0.8, (count + 1, 5))
    step = np.array([0, 0.1, 0, 0, 0])
    cases, rows = with_controls(cases, {"source": source, "ours": source + step, "theirs": source - step})
    scored = made(cases, rows | {"target": [*source[:count], *[None] * 21]})
    found = measures.distances(scored, by_name(scored, "ours"), by_name(scored, TARGET))
    assert found["images"] == count
    assert [np.isfinite(getattr(found[key], "value", found[key])) for key in ("KL", "Frechet", "kernel")] == [
        defined
    ] * 3
    found, samples = measures.measured(scored, count=20)
    told = found["ours"]["moved"]
    assert told.value == 1 and np.isfinite([told.low, told.high]).tolist() == [defined] * 2
    ahead, p = measures.paired(scored, "ours", "theirs", samples)["moved"]
    assert ahead.value == 1 and np.isfinite([ahead.low, ahead.high, p]).tolist() == [defined] * 3


@pytest.mark.parametrize(("both", "defined"), [(9, False), (10, True)])
def test_patients_are_counted_over_the_cases_that_both_methods_have(both, defined):
    """Also where either of the two has images of enough patients."""
    cases = [case(n, "Add edema") for n in range(14)]
    source = np.random.default_rng(0).uniform(0.2, 0.8, (14, 5))
    up = list(source + np.array([0, 0.1, 0, 0, 0]))
    theirs = [*source[:both], *[None] * (14 - both)]
    scored = made(*with_controls(cases, {"source": source, "ours": up, "theirs": theirs}))
    _, samples = measures.measured(scored, count=20)
    ahead, p = measures.paired(scored, "ours", "theirs", samples)["moved"]
    assert ahead.value == 1 and np.isfinite([ahead.low, p]).tolist() == [defined] * 2


@pytest.fixture
def idle():
    """Cases 0 to 2 ask for something, 3 to 5 for nothing."""
    cases = [case(n, "Add edema", {"edema"} if n > 2 else ()) for n in range(6)]
    masks = (0.2, 0, 0.4, 0, 0, 0.1)
    amounts = (0.2, 0.4, 0.6, 0.1, 0.1, 0.1)
    changes = [
        {"mask": mask, "amount": amount, "changed": 2 * amount, "in_anatomy": 0.5 + amount, "on_side": 0.3 + amount}
        for mask, amount in zip(masks, amounts, strict=True)
    ]
    return made(cases, {"source": [SAME] * 6, "ours": [SAME] * 6, "few": [*[SAME] * 5, None]}, {"ours": changes})


def test_what_is_done_where_nothing_is_to_be_done(idle):
    table = summary.behaviour(idle)
    told = cells(table, "ours")
    assert told["mean change"] == pytest.approx(0.4) and told["share of pixels changed"] == pytest.approx(0.8)
    assert told["empty mask, nothing to do"] == Count(2, 3) and told["empty mask, valid instruction"] == Count(1, 3)
    assert told["change, nothing to do / valid"] == pytest.approx(0.25)
    assert told["the higher level changes more"] == Count(0, 0)
    # Whose masks nobody knows has none that are empty.
    assert cells(table, "few")["empty mask, nothing to do"] == Count(0, 0)
    assert [row[0] for row in table.rows] == ["ours", "few"]


def test_measures_of_the_change_leave_out_cases_with_nothing_to_do(idle):
    found = all_measures(idle, "ours")
    told = {name: found[name] for name in ("in anatomy", "on side", "change")}
    assert told == pytest.approx({"in anatomy": 0.9, "on side": 0.7, "change": 0.4})
    assert np.isnan(all_measures(idle, "ours", np.array([3, 4]))["change"])


def test_the_interval_in_boxes_is_by_patient():
    cases = [case(n, "Remove edema", {"edema"}, patient="ab"[n // 4], boxes=((0, 0, 9, 9),)) for n in range(8)]
    changes = [
        {
            "in_boxes": float(n // 4),
            "maps": {
                "G": {"in_boxes": 0.1, "pointing": 0.2, "follows": 0.3},
                "R": {"in_boxes": 0.4, "pointing": 0.5, "follows": None if n else 0.6},
                "M": {"in_boxes": 0.7, "pointing": 0.8, "follows": 0.9},
                "flat": 0.05,
            },
        }
        for n in range(8)
    ]
    scored = made(cases, {"source": [SAME] * 8, "ours": [SAME] * 8}, {"ours": changes})
    table = summary.boxes(scored)
    # All four of one patient are drawn together, so that nothing but 0, 1/2 and 1 comes out.
    assert table.rows == (("ours", 8, Interval(0.5, 0, 1)),) and "0.050" in table.note
    table = summary.guidance(scored)
    for letter, values in (("G", (0.1, 0.2, 0.3)), ("R", (0.4, 0.5, 0.6)), ("M", (0.7, 0.8, 0.9))):
        told = cells(table, letter)
        parts = [told[name].value for name in ("share in the boxes", "pointing game", "follows the change")]
        assert parts == pytest.approx(values), letter
    flat = cells(table, "a flat map")
    assert flat["share in the boxes"].value == pytest.approx(0.05) == flat["pointing game"]
    assert flat["follows the change"] is None
    assert "8 images" in table.note


def test_stability_stands_measure_by_measure():
    rows = [
        ("ours", "seed", {"images": [0.1, 0.2, 0.9], "guidance": [0.5], "masks": [0.7]}),
        ("ours", "back", {"left": [2]}),
    ]
    table = summary.stability(rows)
    seed, back = cells(table, "ours: seed"), cells(table, "ours: back")
    assert [seed[name] for name in table.header[1:5]] == pytest.approx([3, 0.2, 0.5, 0.7])
    assert table.header[2:] == (
        *("distance of the images", "correlation of G", "overlap of the masks", "left of the change"),
    )
    assert back["left of the change"] == 2 and back["pairs"] == 1
    assert written(seed["left of the change"], 3) == written(back["correlation of G"], 3) == "-"


def test_levels_are_compared_of_one_finding_side_zone_and_seed():
    texts = [
        ("Add mild left pleural effusion", 0.3),
        ("Add severe right pleural effusion", 0.1),
        ("Add mild left lower mass", 0.3),
        ("Add severe left upper mass", 0.1),
        ("Change edema from severe to mild", 0.3),
        ("Add severe edema", 0.1),
        ("Add mild mass and mild edema", 0.3),
        ("Add severe mass", 0.1),
    ]
    cases = [case(n, text, image="a") for n, (text, _) in enumerate(texts)]
    cases += [case(20, "Add mild edema", image="a", seed=1), case(21, "Add mild edema", image="b")]
    amounts = [*(amount for _, amount in texts), 0.3, 0.3]
    changes = {"ours": [{"amount": amount} for amount in amounts]}
    scored = made(cases, {"source": [SAME] * 10, "ours": [SAME] * 10}, changes)
    assert measures.levels(scored, by_name(scored, "ours")) == []
    cases = [case(0, "Add severe left lower mass", image="a"), case(1, "Add mild left lower mass", image="a")]
    scored = made(cases, {"source": [SAME] * 2, "ours": [SAME] * 2}, {"ours": [{"amount": 0.3}, {"amount": 0.1}]})
    assert measures.levels(scored, by_name(scored, "ours")) == [True]
    assert cells(summary.behaviour(scored), "ours")["the higher level changes more"] == Count(1, 1)


def test_movement_is_in_standard_deviations_of_the_unedited_images():
    def odds(*values):
        return 1 / (1 + np.exp(-np.array(values, np.float64)))

    # Log-odds of the edema 0, 2 and 4 in three images, the first of which has three cases: their deviation is 2.
    images, before = "aaabc", (0, 0, 0, 2, 4)
    cases = [case(n, "Add edema", image=image) for n, image in enumerate(images)]
    source = [(*odds(0, value, 3 * value), 0.9, 50) for value in before]
    edited = [(*odds(0, value + 1, 3 * value - 3), 0.9, 50) for value in before]
    scored = made(cases, {"source": source, "ours": edited})
    np.testing.assert_allclose(scored.spread[1:], (2, 6))
    np.testing.assert_allclose(scored.moved(by_name(scored, "ours"))[:, 1:], [(0.5, -0.5)] * 5)
    # One image has no deviation: its movement stays in log-odds.
    alone = made(cases[:2], {"source": source[:2], "ours": edited[:2]})
    np.testing.assert_allclose(alone.moved(by_name(alone, "ours"))[:, 1:], [(1, -3)] * 2)


@pytest.mark.parametrize(
    ("instruction", "findings", "ways"),
    [
        ("Add left pleural effusion and remove right pleural effusion", {"pleural effusion"}, (0, 0, 0)),
        ("Add left pleural effusion and add right pleural effusion", (), (1, 0, 0)),
        ("Remove left pleural effusion and remove right pleural effusion", {"pleural effusion"}, (-1, 0, 0)),
        ("Add edema and remove mass", {"edema", "mass"}, (0, 0, -1)),  # the first has nothing to do
        ("Add edema and remove mass", (), (0, 1, 0)),
        ("Change edema from mild to severe", {"edema"}, (0, 1, 0)),
    ],
)
def test_which_way_findings_should_move(instruction, findings, ways):
    scored = made([case(0, instruction, findings)], {"source": [SAME]})
    assert scored.ways.tolist() == [list(ways)]


def test_an_edit_that_has_nothing_to_do_does_not_silence_the_other():
    found = case(0, "Add edema and remove mass", {"edema", "mass"})
    assert [found.has_already(edit) for edit in found.edits] == [True, False] and not found.holds


@pytest.mark.parametrize(
    ("auc", "held"),
    [
        ({"female": 0.99}, set(FINDINGS)),  # says nothing of the findings
        ({}, set(FINDINGS)),
        ({"edema": 0.75, "mass": 0.749}, {"edema"}),
    ],
)
def test_findings_that_are_told_well(auc, held):
    scored = made([case(0, "Add edema")], {"source": [SAME]}, auc=auc)
    assert scored.held == held and scored.told_well.tolist() == [finding in held for finding in FINDINGS]
