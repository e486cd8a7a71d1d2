"""What is measured, on made-up answers whose truth is known, against calculations of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg, stats

from instructx2x.editing.rows import Row
from instructx2x.errors import InputError
from instructx2x.evaluation import measures, summary
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.reporting.tables import Count
from instructx2x.evaluation.scored import COPY, TARGET, Method, Scored, log_odds
from instructx2x.instructions import parse, render

FINDINGS = ("pleural effusion", "edema", "mass")


class Judge:
    """Never asked here: only its name, its columns and its fame count."""

    def __init__(self, name, outputs, auc=None):
        self.name, self.outputs = name, outputs
        if auc is not None:
            self.auc = auc

    def __call__(self, images):
        return np.array([np.linspace(0.1, 0.9, len(self.outputs)) for _ in images])


def panel(auc=None, others=("female", "age")):
    auc = {"pleural effusion": 0.9, "edema": 0.8, "mass": 0.6} if auc is None else auc
    return Panel([Judge("eyes", FINDINGS, auc), Judge("people", others)])


def case(number, instruction, findings=frozenset(), patient=None, image=None):
    edits = parse(instruction)
    row = Row(number, f"{number}.png", Path(image or f"{number}.png"), render(edits), 0, f"case-{number}")
    return Case(row, edits, patient or f"p{number}", findings=findings)


def record(answers, features=(0.0,), **change):
    return {"answers": list(answers), "features": list(features), "change": change}


def made(cases, records, **options):
    return Scored.of(cases, panel(**options), {"source": {}, "target": {}} | records)


@pytest.fixture
def many():
    """Sixty cases of thirty patients with random answers; "ours" sees what is wanted, "theirs" nothing of it."""
    rng = np.random.default_rng(0)
    wanted = rng.random((60, 3)) < 0.4
    instructions = ("Add effusion", "Remove edema", "Add left mass", "Add mild edema")
    cases = [
        case(
            n,
            instructions[n % 4],
            frozenset(f for f, has in zip(FINDINGS, wanted[n], strict=True) if has),
            f"p{n // 2}",
        )
        for n in range(60)
    ]
    source = rng.random((60, 5)) * (1, 1, 1, 1, 60) + (0, 0, 0, 0, 20)

    def near(noise):
        answers = source + noise * rng.normal(size=(60, 5)) * (1, 1, 1, 1, 40)
        answers[:, :4] = answers[:, :4].clip(0.01, 0.99)
        return answers

    found = {"source": source, "target": near(0.3), "ours": near(0.1), "theirs": near(1.0)}
    for name in ("target", "ours"):
        labels = np.nan_to_num(np.array([c.wanted(FINDINGS) for c in cases]))
        found[name][:, :3] = (0.5 * found[name][:, :3] + 0.45 * labels).clip(0.01, 0.99)
    records = {
        name: {
            c.name: record(answers, rng.normal(size=4), amount=float(rng.random()), in_anatomy=float(rng.random()))
            for c, answers in zip(cases, values, strict=True)
        }
        for name, values in found.items()
    }
    return made(cases, records)


def by_name(scored, name):
    return next(method for method in scored.methods if method.name == name)


def auc(labels, scores):
    """Every pair of a positive and a negative, counted."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    return wins / (len(positive) * len(negative))


def test_cmig_s_and_its_parts_agree_with_a_calculation_of_its_own(many):
    every = np.arange(60)
    for name in (TARGET, COPY, "ours", "theirs"):
        method = by_name(many, name)
        found = dict(zip(measures.MEASURES, measures.measure(many, method, every), strict=True))
        labels, areas = many.wanted, []
        for column in range(3):
            known = ~np.isnan(labels[:, column])
            areas.append(auc(labels[known, column], method.answers[known, column]))
        female = many.source[:, 3] >= 0.5
        sex, age = auc(female, method.answers[:, 3]), stats.pearsonr(many.source[:, 4], method.answers[:, 4])[0]
        assert found["pathology"] == pytest.approx(np.mean(areas), abs=1e-9)
        assert found["pathology, judged"] == pytest.approx(np.mean(areas[:2]), abs=1e-9)
        assert found["sex"] == pytest.approx(sex, abs=1e-9) and found["age"] == pytest.approx(age, abs=1e-9)
        assert found["sex accuracy"] == pytest.approx(np.mean(female == (method.answers[:, 3] >= 0.5)))
        expected = np.sqrt(np.mean(areas) * np.sqrt(sex * max(age, 0)))
        assert found["CMIG-S"] == pytest.approx(expected, abs=1e-9)
        assert np.isnan(found["CMIG"]) and np.isnan(found["race"]), "no judge of race, no CMIG"


def test_a_copy_keeps_the_person_and_goes_nowhere(many):
    found = dict(zip(measures.MEASURES, measures.measure(many, by_name(many, COPY), np.arange(60)), strict=True))
    assert found["sex"] == found["sex accuracy"] == 1 and found["age"] == pytest.approx(1)
    assert found["moved"] == 0 and found["size"] == 0


def test_race_makes_a_cmig():
    races = ("race: Asian", "race: Black", "race: White")
    rng = np.random.default_rng(1)
    source = np.concatenate([rng.random((30, 3)), rng.dirichlet((1, 1, 1), 30), rng.random((30, 1)) * 60], 1)
    labels = rng.random((30, 3)) < 0.5
    cases = [
        case(n, "Add left mass", frozenset(f for f, has in zip(FINDINGS, labels[n], strict=True) if has))
        for n in range(30)
    ]
    records = {name: {c.name: record(a) for c, a in zip(cases, source, strict=True)} for name in ("source", "ours")}
    scored = made(cases, records, others=(*races, "age"))
    found = dict(zip(measures.MEASURES, measures.measure(scored, by_name(scored, "ours"), np.arange(30)), strict=True))
    likeliest = source[:, 3:6].argmax(1)
    # Not 1 even for a copy: the likeliest class of one image may be less likely than another's second.
    race = np.mean([auc((likeliest == one).astype(int), source[:, 3 + one]) for one in range(3)])
    assert found["race accuracy"] == 1 and found["race"] == pytest.approx(race) and race < 1
    assert found["CMIG"] == pytest.approx(np.sqrt(found["pathology"] * np.sqrt(race))) and np.isnan(found["CMIG-S"])


def odds(*values):
    return 1 / (1 + np.exp(-np.array(values, np.float64)))


@pytest.fixture
def judged():
    """Twenty adds and twenty removals of a mass, under which the edema moves as well; and edits of edema."""
    controls = [case(n, "Add mass") for n in range(20)]
    controls += [case(n, "Remove mass", frozenset({"mass"})) for n in range(20, 40)]
    steps = np.arange(1, 21) / 20
    moves = [(0, step, 0) for step in steps] + [(0, -2 * step, 0) for step in steps]
    asked = [
        ("Add edema", (), 0.97),  # more than 95 % of the controls
        ("Add edema", (), 0.94),  # less
        ("Add edema", (), -3),  # the wrong way
        ("Remove edema", ("edema",), -1.95),
        ("Remove edema", ("edema",), -1.85),
        ("Remove edema", (), -9),  # nothing to do
        ("Change edema from severe to mild", ("edema",), -1.95),
        ("Change edema to mild", ("edema",), -9),  # no direction is asked
    ]
    cases = controls + [case(n, text, frozenset(shown)) for n, (text, shown, _) in enumerate(asked, start=40)]
    moves += [(0, step, 0) for _, _, step in asked]
    records = {
        "source": {c.name: record((*odds(0, 0, 0), 0.9, 50)) for c in cases},
        "ours": {c.name: record((*odds(*move), 0.9, 50)) for c, move in zip(cases, moves, strict=True)},
    }
    return made(cases, records)


def test_moved_is_more_than_under_edits_of_other_findings(judged):
    ours = by_name(judged, "ours")
    steps = np.arange(1, 21) / 20
    noise = judged.noise["ours"] * judged.spread
    np.testing.assert_allclose(noise[:, 1], [np.percentile(steps, 95), np.percentile(2 * steps, 95)])
    # Of the mass nothing is known: too few edits are of another finding.
    assert np.isnan(noise[:, 2]).all()
    nan = np.nan
    found = measures.moved_as_asked(judged, ours)
    np.testing.assert_array_equal(found[40:, 1], [1, 0, 0, 1, 0, nan, 1, nan])
    assert np.isnan(found[:40]).all(), "the judge hardly tells a mass"
    assert np.isnan(measures.moved_as_asked(judged, ours, held=False)[:40, 2]).all(), "its noise is not known"
    table = summary.moved(judged)
    cells = {row[0]: row[1] for row in table.rows}
    assert table.header == ("edit", "ours: moved", "ours: size"), "a copy moves nothing"
    assert cells["add edema"] == Count(1, 3) and cells["remove edema"] == Count(1, 2)
    assert cells["change edema"] == Count(1, 1) and cells["add mass (not judged)"] is None
    assert cells["remove, judged findings together"] == Count(1, 2)


def test_an_edit_of_everything_moves_nothing(judged):
    """The control of the control: what moves as much whatever is asked has not moved as asked."""
    answers = judged.source.copy()
    answers[:, :3] = odds(2, 2, 2)
    method = Method("flat", answers, np.zeros((len(answers), 1)), ({},) * len(answers))
    scored = Scored(judged.cases, judged.panel, judged.source, (method,))
    adds = [n for n, c in enumerate(judged.cases) if n >= 40 and judged.ways[n].any()]
    assert np.nansum(measures.moved_as_asked(scored, method)[adds]) == 0


def test_noise_is_never_below_zero():
    """Where edits of other findings lower a score, not every movement upwards is one."""
    cases = [case(n, "Add mass") for n in range(20)] + [case(20, "Add edema")]
    moves = [(0, -1, 0)] * 20 + [(0, -0.5, 0)]
    records = {
        "source": {c.name: record((*odds(0, 0, 0), 0.9, 50)) for c in cases},
        "ours": {c.name: record((*odds(*move), 0.9, 50)) for c, move in zip(cases, moves, strict=True)},
    }
    scored = made(cases, records)
    assert scored.noise["ours"][0, 1] == 0 and measures.moved_as_asked(scored, by_name(scored, "ours"))[20, 1] == 0


def test_sizes_are_in_units_of_the_gap_between_real_films():
    """In PA films lie 2 apart, in AP films 4; where too few are of a view, all together count."""
    films = [("PA", True, 1.0)] * 5 + [("PA", False, -1.0)] * 5 + [("AP", True, 3.0)] * 5 + [("AP", False, -1.0)] * 5
    films += [("lateral", False, 0.0)]
    cases = [
        replace(case(n, "Remove edema" if has else "Add edema", frozenset({"edema"} if has else ())), view=view)
        for n, (view, has, _) in enumerate(films)
    ]
    records = {
        "source": {c.name: record((*odds(0, o, 0), 0.9, 50)) for c, (_, _, o) in zip(cases, films, strict=True)},
        "ours": {
            c.name: record((*odds(0, o + (-1 if has else 1), 0), 0.9, 50))
            for c, (_, has, o) in zip(cases, films, strict=True)
        },
    }
    scored = made(cases, records)
    pooled = 2 - (-10 / 11)
    np.testing.assert_allclose(scored.gaps[:, 1], [2] * 10 + [4] * 10 + [pooled])
    assert np.isnan(scored.gaps[:, [0, 2]]).all()
    found = measures.sizes(scored, by_name(scored, "ours"))
    np.testing.assert_allclose(found[:, 1], [0.5] * 10 + [0.25] * 10 + [1 / pooled])
    assert dict(zip(measures.MEASURES, measures.measure(scored, by_name(scored, "ours"), np.arange(21)), strict=True))[
        "size"
    ] == pytest.approx(1 / pooled)


def test_levels_are_compared_on_one_image():
    cases = [
        case(0, "Add mild edema", image="a"),
        case(1, "Add severe edema", image="a"),
        case(2, "Add moderate edema", image="a"),
        case(3, "Add severe edema", image="b"),
        case(4, "Add mild mass", image="b"),
        case(5, "Add severe mass", image="b"),
    ]
    amounts = (0.1, 0.3, 0.4, 9, 0.2, 0.2)
    answers = [0.5, 0.5, 0.5, 0.9, 50]
    records = {
        "source": {c.name: record(answers) for c in cases},
        "ours": {c.name: record(answers, amount=a) for c, a in zip(cases, amounts, strict=True)},
    }
    scored = made(cases, records)
    # mild to moderate rises, moderate to severe falls; a tie is no more.
    assert sorted(measures.levels(scored, by_name(scored, "ours"))) == [False, False, True]


def test_distances_agree_with_a_calculation_of_its_own(many):
    target, method = by_name(many, TARGET), by_name(many, "theirs")
    found = measures.distances(many, method, target)
    p, q = (m.answers[:, :3].clip(1e-6, 1 - 1e-6) for m in (target, method))
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert found["KL"].value == pytest.approx(divergence, abs=1e-9)
    one, other = target.features, method.features
    covariances = np.cov(one.T), np.cov(other.T)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    frechet = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert found["Frechet"] == pytest.approx(frechet, abs=1e-3)
    assert found["images"] == 60 and measures.distances(many, target, target)["KL"].value == 0


def test_the_mean_may_be_over_some_findings(many):
    few = Scored(many.cases, Panel(many.panel.judges, ["edema", "mass"]), many.source, many.methods)
    every, method = np.arange(60), by_name(many, "ours")
    (mean, areas), (all_mean, all_areas) = (measures.pathology(scored, method, every) for scored in (few, many))
    np.testing.assert_array_equal(areas, all_areas)
    assert mean == pytest.approx(areas[1:].mean()) != all_mean
    target = by_name(many, TARGET)
    p, q = (m.answers[:, 1:3].clip(1e-6, 1 - 1e-6) for m in (target, method))
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert measures.distances(few, method, target)["KL"].value == pytest.approx(divergence)


def test_intervals_hold_patients_together_and_methods_to_the_same_resamples(many):
    found, samples = measures.measured(many, count=100)
    for name in ("ours", "theirs"):
        for measure in ("pathology", "age", "CMIG-S", "moved"):
            interval = found[name][measure]
            assert interval.low <= interval.value <= interval.high
    again, _ = measures.measured(many, count=100)
    assert again["ours"]["pathology"] == found["ours"]["pathology"]
    ahead, p = measures.paired(many, "ours", "theirs", samples)["pathology"]
    assert ahead.value == pytest.approx(found["ours"]["pathology"].value - found["theirs"]["pathology"].value)
    assert ahead.low > 0 and p < 0.05
    assert measures.paired(many, "ours", "ours", samples)["pathology"][1] == 1


def test_methods_without_some_images_are_compared_on_the_others(many):
    few = many.cases[:20]
    records = {
        "source": {c.name: record(a) for c, a in zip(many.cases, many.source, strict=True)},
        "ours": {c.name: record(a) for c, a in zip(many.cases, by_name(many, "ours").answers, strict=True)},
        "few": {c.name: record(a) for c, a in zip(few, by_name(many, "theirs").answers[:20], strict=True)},
    }
    scored = made(many.cases, records)
    method = by_name(scored, "few")
    assert method.present.sum() == 20
    rows = np.arange(20)
    whole = measures.measure(scored, method, np.arange(60))
    np.testing.assert_array_equal(whole, measures.measure(scored, method, rows))
    _, samples = measures.measured(scored, count=40)
    ahead, _ = measures.paired(scored, "ours", "few", samples)["pathology"]
    expected = measures.measure(scored, by_name(scored, "ours"), rows)[0] - whole[0]
    assert ahead.value == pytest.approx(expected) and ahead.low <= ahead.value <= ahead.high


def test_every_table_can_be_made_of_little():
    """One case without anything known, and no edits at all."""
    cases = [case(0, "Add edema", findings=None)]
    answers = [0.5, 0.5, 0.5, 0.9, 50]
    for records in ({}, {"ours": {"case-0": record(answers)}}):
        scored = made(cases, {"source": {"case-0": record(answers)}} | records, auc={})
        found, samples = measures.measured(scored, count=5)
        tables = [
            summary.main(scored, found),
            summary.identity(scored, found),
            summary.by_finding(scored, found),
            summary.moved(scored),
            summary.differences(scored, samples, scored.methods[-1].name),
            summary.distances(scored),
            summary.behaviour(scored),
            summary.boxes(scored),
            summary.guidance(scored),
            summary.stability([]),
        ]
        assert [table.key for table in tables if table is not None]


def test_log_odds_are_finite():
    np.testing.assert_allclose(log_odds([0, 0.5, 1]), [np.log(1e-6 / (1 - 1e-6)), 0, np.log((1 - 1e-6) / 1e-6)])


def test_judges_do_not_contradict_each_other():
    with pytest.raises(InputError, match="both answer about edema"):
        Panel([Judge("one", ("edema",)), Judge("two", ("mass", "edema"))])
    with pytest.raises(InputError, match="no judge answers about findings"):
        Panel([Judge("one", ("age",))])
    with pytest.raises(InputError, match="choose from pleural effusion, edema, mass"):
        Panel([Judge("eyes", FINDINGS)], ["pneumonia"])
    assert panel().roles() == {"eyes": ", ".join(FINDINGS), "people": "female, age"}
    assert panel().fingerprint != panel(others=("age", "female")).fingerprint
