"""Auditing a classifier: known group differences come out, nothing is asked twice, and bad callables are refused."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instructx2x.editing import Editor
from instructx2x.errors import InputError
from instructx2x.evaluation.audit import Plan, audit, folder_of
from instructx2x.evaluation.auditing import movement as moving
from instructx2x.evaluation.auditing import shown, tables
from instructx2x.evaluation.auditing.classifier import load_classifier, questions
from instructx2x.evaluation.auditing.movement import Movement
from instructx2x.evaluation.cases import Case, read_cases
from instructx2x.instructions import render

ADD = "Add the finding of left pleural effusion."
WHOLE = "Add the finding of pleural effusion."
CONTROL = "Add the finding of cardiomegaly."
PATCH = (slice(60, 90), slice(45, 75))
BRIGHTER = 51  # of 255 levels: 0.2

# Women's images have a white corner; the answer for all others is stuck.
REACTS_TO_WOMEN = """
def predict(images):
    return [float(x[60:90, 45:75].mean()) if x[0, 0] > 0.9 else 0.3 for x in images]
"""


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """Pictures take most of a report's time."""
    monkeypatch.setattr(shown, "FAILURES", 1)
    monkeypatch.setattr(shown, "OTHERS", 1)


@pytest.fixture
def people(tmp_path, make_chest):
    """people(n): 2 n images of as many patients, women first, in a CSV; and folders of edits that brighten a patch."""

    def make(count=12, findings=("",) * 24):
        (tmp_path / "edited").mkdir()
        lines = ["image,instruction,patient,sex,age,view,findings"]
        for number in range(2 * count):
            sex, age, view = "FM"[number // count], (30, 50, 70)[number % 3], ("PA", "AP", "LL", "")[number % 4]
            image = make_chest(seed=number) // 2
            image[:4, :4] = 255 if sex == "F" else 0
            Image.fromarray(image).save(tmp_path / f"p{number}.png")
            image[PATCH] += BRIGHTER
            Image.fromarray(image).save(tmp_path / f"edited/p{number}.png")
            lines.append(f"p{number}.png,{CONTROL},{number},{sex},{age},{view},{findings[number]}")
        (tmp_path / "people.csv").write_text("\n".join(lines))
        return tmp_path / "people.csv"

    return make


@pytest.fixture
def written(tmp_path):
    """written(code) -> what names its `predict`."""

    def make(code, name="mine.py"):
        (tmp_path / name).write_text(code)
        sys.modules.pop(next((key for key in sys.modules if key.startswith(name.removesuffix(".py") + "_")), ""), None)
        return f"{tmp_path / name}:predict"

    return make


def planned(table, spec, *texts, **options):
    asked = load_classifier(spec)
    keys = {name: options.pop(name) for name in ("output", "finding") if name in options}
    return Plan(read_cases(table), asked, questions(asked, texts, **keys), **{"resamples": 200, **options})


def tables_of(out):
    found = json.loads((out / "report.json").read_text())["tables"]
    return {table["key"]: [dict(zip(table["header"], row, strict=True)) for row in table["rows"]] for table in found}


def cohort(count, sexes="FM", patients=None):
    """Cases of arrays alone."""
    return [
        Case(None, (), patients[number] if patients else str(number), sex=sexes[number % len(sexes)])
        for number in range(count)
    ]


def test_a_classifier_that_reacts_to_women_alone(people, written, tmp_path):
    plan = planned(people(), written(REACTS_TO_WOMEN), ADD, folder=tmp_path / "edited")
    audit(plan, tmp_path / "out")
    found = tables_of(tmp_path / "out")
    groups = {row["group"]: row for row in found["groups-1"]}
    assert groups["sex: F"]["mean change"]["value"] == pytest.approx(BRIGHTER / 255, abs=1e-6)
    assert groups["sex: M"]["mean change"] == {"value": 0, "low": 0, "high": 0}
    assert [groups[f"sex: {sex}"]["moved as asked"]["hits"] for sex in "FM"] == [12, 0]
    assert groups["all"]["mean change"]["value"] == pytest.approx(BRIGHTER / 255 / 2, abs=1e-6)
    assert {name: row["images"] for name, row in groups.items()} == {
        **{"all": 24, "sex: F": 12, "sex: M": 12, "age: under 40": 8, "age: 40-59": 8, "age: 60 and over": 8},
        **{"view: PA": 6, "view: AP": 6, "view: other": 6, "view: not known": 6},
    }
    apart = {row["difference"]: row for row in found["differences-1"]}
    women = apart["sex: F - M"]
    assert women["mean change"]["value"] == pytest.approx(BRIGHTER / 255, abs=1e-6)
    assert women["mean change"]["low"] > 0.19 and women["share moved as asked"]["value"] == 1
    assert women["p mean change"] == women["p moved as asked"] == pytest.approx(2 / 201)
    assert apart["age: under 40 - 40-59"]["p mean change"] is None, "8 patients a group"
    assert {"view: PA - AP", "view: PA - other"} <= set(apart) and not any("not known" in name for name in apart)
    missed = found["missed-1"]
    assert len(missed) >= 12 and {row["sex"] for row in missed[:12]} == {"M"}
    assert [row["movement"] for row in missed] == sorted(row["movement"] for row in missed)
    pictures = json.loads((tmp_path / "out/report.json").read_text())["pictures"]
    assert sum(picture["failed"] for picture in pictures) == 1


def test_what_was_not_edited_or_not_to_be_edited_does_not_count(people, written, tmp_path):
    findings = ["effusion"] * 3 + ["none"] * 21
    table = people(findings=findings)
    for name in ("p5.png", "p6.png", "p0.png"):
        (tmp_path / "edited" / name).write_bytes((tmp_path / name).read_bytes())
    audit(planned(table, written(REACTS_TO_WOMEN), WHOLE, folder=tmp_path / "edited"), tmp_path / "out")
    found = tables_of(tmp_path / "out")
    valid, idle = found["overview"]
    assert (valid["images"], valid["left out: no pixel changed"], valid["moved as asked"]["hits"]) == (19, 2, 7)
    assert (idle["images"], idle["left out: no pixel changed"], idle["moved as asked"]) == (2, 1, None)
    assert idle["mean change"]["value"] == pytest.approx(BRIGHTER / 255, abs=1e-6)
    assert found["groups-1"][0]["images"] == 19
    assert valid["scorer moved as asked"]["total"] == 19
    assert "3 of 24 edits changed no pixel" in (tmp_path / "out/report.md").read_text()


def test_answers_against_the_threshold():
    up = Movement(np.array([0.2, 0.2, 0.6, 0.6, 0.2]), np.array([0.6, 0.4, 0.5, 0.4, 0.15]), 1, 0.5)
    np.testing.assert_array_equal(up.as_asked, [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(up.crossed, [1, 0, np.nan, np.nan, 0])
    np.testing.assert_array_equal(up.missed, [False, True, True, True, True])
    assert tables.worst(up) == [3, 2, 4, 1]
    mirrored = Movement(-up.before, -up.after, -1, -0.5 + 1e-9)
    np.testing.assert_array_equal(mirrored.as_asked, up.as_asked)
    np.testing.assert_array_equal(mirrored.crossed, up.crossed)
    control = up.of(np.arange(5), way=0)
    assert np.isnan(control.as_asked).all() and not control.missed.any()
    np.testing.assert_array_equal(control.crossed, [1, 0, 0, 1, 0])


def test_ages_and_views_at_their_borders():
    ages = [39.9, 40, 59.9, 60, math.nan]
    cases = [Case(None, (), "", age=age, view=view) for age, view in zip(ages, ("PA", "AP", "LL", "", ""), strict=True)]
    found = moving.traits(cases)
    assert found["age"].tolist() == ["under 40", "40-59", "40-59", "60 and over", "not known"]
    assert found["view"].tolist() == ["PA", "AP", "other", "not known", "not known"]
    assert found["sex"].tolist() == ["not known"] * 5


def test_means_of_groups_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 2))
    values[rng.random(values.shape) < 0.2] = np.nan
    groups, rows = rng.random((3, 40)) < 0.4, rng.integers(40, size=60)
    groups[2] = False
    found = moving.means(values, groups, rows)
    for group in range(2):
        drawn = values[[row for row in rows if groups[group, row]]]
        np.testing.assert_allclose(found[group], np.nanmean(drawn, axis=0))
    assert np.isnan(found[2]).all()


def test_a_difference_of_groups_is_that_of_normal_theory():
    """Welch's standard error, and a bootstrap that draws within each group, as two independent calculations."""
    rng = np.random.default_rng(1)
    cases = cohort(300, "FFM")
    women = np.array([case.sex == "F" for case in cases])
    values = np.where(women, rng.normal(1, 2, 300), rng.normal(0.4, 1, 300))
    found = moving.resampled(cases, values[:, None], count=4000)
    told, p = found.difference(("sex", "F"), ("sex", "M"), 0)
    one, other = values[women], values[~women]
    error = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    assert told.value == pytest.approx(one.mean() - other.mean(), abs=1e-12)
    assert (told.low, told.high) == pytest.approx((told.value - 1.96 * error, told.value + 1.96 * error), abs=0.03)
    within = [rng.choice(one, len(one)).mean() - rng.choice(other, len(other)).mean() for _ in range(4000)]
    assert (told.low, told.high) == pytest.approx(tuple(np.percentile(within, (2.5, 97.5))), abs=0.04)
    assert p == pytest.approx(2 * min(np.mean(np.array(within) <= 0), np.mean(np.array(within) >= 0)), abs=0.01)


def test_patients_stay_whole_and_few_of_them_prove_nothing():
    cases = cohort(60, "FM", patients=[str(number // 6) for number in range(60)])
    hard = np.random.default_rng(2).normal(0, 5, 10)[np.arange(60) // 6]
    values = hard + np.where(np.arange(60) % 2 == 0, 0.1, 0)
    told, p = moving.resampled(cases, values[:, None]).difference(("sex", "F"), ("sex", "M"), 0)
    # Every patient is in both groups, so what is hard about the patient cancels.
    assert (told.low, told.high) == pytest.approx((0.1, 0.1)) and p < 0.01
    few = moving.resampled(cases[:54], values[:54, None])
    assert math.isnan(few.difference(("sex", "F"), ("sex", "M"), 0)[1]) and few.patients == (9, 9, 9, 9, 9)
    single = moving.resampled(cases[:6], values[:6, None]).mean(("sex", "F"), 0)
    assert not math.isnan(single.value) and math.isnan(single.low) and math.isnan(single.high)


def test_a_run_that_was_cut_off_goes_on(people, written, tmp_path, tiny_model):
    """The report is that of a run left alone, and no image is asked about twice."""
    table, editor = people(1), Editor.from_pretrained(tiny_model, device="cpu")
    counting = "calls = 0\nstop = -1\n\ndef predict(images):\n    global calls\n    calls += 1\n"
    counting += (
        "    if calls == stop:\n        raise RuntimeError('out of memory')\n    return [x.mean() for x in images]\n"
    )
    plan = planned(table, written(counting), ADD, editor=editor, profile="fast")
    module = sys.modules[plan.classifier.answer.__module__]
    audit(plan, tmp_path / "whole")
    alone, module.calls = module.calls - 1, 0  # one question was asked before any image
    assert alone == 2 + 2
    for stop in (2, 3, 99):
        module.stop = module.calls + stop
        if stop < 99:
            with pytest.raises(InputError, match=r"^[^\n]*mine.py:predict failed: RuntimeError: out of memory$"):
                audit(plan, tmp_path / "cut")
            assert not (tmp_path / "cut/report.md").exists()
    audit(plan, tmp_path / "cut")
    assert module.calls == alone + 2
    for name in ("report.md", "report.json", "report.html"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_changed_classifier_is_asked_anew(people, written, tmp_path):
    table = people(1)
    edits = {"folder": tmp_path / "edited"}
    out = tmp_path / "out"
    audit(planned(table, written("def predict(images):\n    return [x.mean() for x in images]\n"), ADD, **edits), out)
    first = tables_of(out)["overview"][0]["mean before"]
    changed = "def predict(images):\n    return [x.mean() / 2 for x in images]\n"
    audit(planned(table, written(changed), ADD, **edits), out)
    assert tables_of(out)["overview"][0]["mean before"] == pytest.approx(first / 2)


def test_an_image_that_cannot_be_read_is_left_out(people, written, tmp_path):
    table = people(2)
    (tmp_path / "p0.png").write_text("Dear doctor")
    (tmp_path / "edited/p1.png").write_text("Dear doctor")
    audit(planned(table, written(REACTS_TO_WOMEN), ADD, folder=tmp_path / "edited"), tmp_path / "out")
    facts = json.loads((tmp_path / "out/report.json").read_text())["facts"]
    assert tables_of(tmp_path / "out")["overview"][0]["images"] == 2
    assert len(facts["left out"]) == 2 and all(name in str(facts["left out"]) for name in ("p0.png", "p1.png"))
    (tmp_path / "edited/p2.png").unlink()
    with pytest.raises(InputError, match="lacks the edited images of 1 of 4 cases"):
        audit(planned(table, written(REACTS_TO_WOMEN), ADD, folder=tmp_path / "edited"), tmp_path / "out")
    plan = planned(table, written(REACTS_TO_WOMEN), ADD, folder=tmp_path / "edited", partial=True)
    audit(plan, tmp_path / "out")
    assert tables_of(tmp_path / "out")["overview"][0]["images"] == 1


def test_the_documented_classifier_can_be_asked(written):
    guide = (Path(__file__).parents[2] / "docs/how-to/auditing.md").read_text(encoding="utf-8")
    code = guide.split("```python\n")[1].split("```")[0]
    asked = load_classifier(written(code, "documented.py"))
    image = np.full((90, 80), 0.2, np.float32)
    whiter = image.copy()
    whiter[60:] = 0.9
    assert 0 < asked(image, None) < asked(whiter, None) < 1


def test_logits_need_a_threshold(people, written, tmp_path):
    table = people(1)
    logits = written("def predict(images):\n    return [10 * (x.mean() - 0.5) for x in images]\n")
    edits = {"folder": tmp_path / "edited"}
    with pytest.raises(InputError, match=r"no probability: give --threshold"):
        audit(planned(table, logits, ADD, **edits), tmp_path / "out")
    audit(planned(table, logits, ADD, threshold=0.0, **edits), tmp_path / "out")
    assert json.loads((tmp_path / "out/report.json").read_text())["facts"]["classifier"]["threshold"] == "0"


def test_what_is_asked(written):
    plain = load_classifier(written("def predict(images):\n    return [0.5]\n"))
    assert [(q.finding, q.output, q.way) for q in questions(plain, ["remove the effusion", ADD, ADD])] == [
        *(("pleural effusion", None, -1), ("pleural effusion", None, 1))
    ]
    assert [q.way for q in questions(plain, [ADD, CONTROL], finding="effusion")] == [1, 0]
    several = load_classifier(
        written(
            "def predict(images):\n    return {'cardiomegaly': [1], 'pleural effusion': [0], 'Mass': [0]}\n", "b.py"
        )
    )
    assert [q.output for q in questions(several, [ADD, CONTROL])] == ["pleural effusion", "cardiomegaly"]
    told = questions(several, [ADD, CONTROL], output="cardiomegaly")
    assert [(q.finding, q.output, q.way) for q in told] == [("cardiomegaly",) * 2 + (0,), ("cardiomegaly",) * 2 + (1,)]
    assert [q.way for q in questions(several, [ADD, CONTROL], output="Mass", finding="effusion")] == [1, 0]
    for asked, texts, options, words in (
        (plain, [ADD, CONTROL], {}, "--finding"),
        (plain, [ADD], {"output": "Mass"}, "leave --output out"),
        (plain, [CONTROL], {"finding": "edema"}, "no instruction moves edema"),
        (several, ["Add edema"], {}, "choose with --output"),
        (several, [ADD, CONTROL], {"output": "Mass"}, "--finding"),
        (several, [ADD], {"output": "mass"}, "not mass"),
    ):
        with pytest.raises(InputError, match=words) as error:
            questions(asked, texts, **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 1 / 0", "ZeroDivisionError"),
        ("return [0.1, 0.2]", "one number for each image"),
        ("return 0.5", "one number for each image"),
        ("return [5.0]", "give --threshold"),
        ("return [float('nan')]", "not a finite number"),
        ("return ['high']", "one number for each image"),
        ("return None", "one number for each image"),
        ("return {}", "no names"),
        ("return {1: [0.5]}", "no names"),
        ("return {'edema': [0.5]}", "--output"),
        (
            "return {'pleural effusion': [0.5, 0.5]} if images[0].shape != (80, 64) else {'pleural effusion': [0.5]}",
            "with",
        ),
        ("return [0.5] if images[0].shape == (80, 64) else [0.5, 0.5]", "one number for each image"),
        ("return [0.5] if images[0].shape == (80, 64) else {'pleural effusion': [0.5]}", "at first"),
    ],
)
def test_a_bad_callable_is_refused_before_any_edit(
    body, words, run, people, written, tmp_path, tiny_model, monkeypatch
):
    monkeypatch.setattr("instructx2x.evaluation.audit.make_edits", lambda *args, **options: pytest.fail("too late"))
    spec = written(f"def predict(images):\n    {body}\n")
    out = tmp_path / "out"
    args = ["--data", people(1), "-i", ADD, "-o", out, "--model", tiny_model]
    code, said, err = run("audit", "--classifier", spec, *args)
    assert code == 2 and said == "" and err.startswith("error: ") and err.count("\n") == 1, err
    assert words in err and not (out / "edits").exists() and not (out / "report.md").exists()


def test_the_command_line(run, people, written, tmp_path, tiny_model):
    mean = written("def predict(images):\n    return {'pleural effusion': [x.mean() for x in images]}\n")
    args = ["audit", "--classifier", mean, "--data", people(1), "-i", ADD, "-i", CONTROL, "--model", tiny_model]
    args += ["--output", "pleural effusion", "--profile", "fast", "--resamples", 50, "-o", tmp_path / "out"]
    code, said, err = run(*args)
    assert (code, err) == (0, "") and "report.html" in said
    found = tables_of(tmp_path / "out")
    assert [row["instruction"] for row in found["overview"]] == [ADD, CONTROL]
    assert {"groups-1", "groups-2", "missed-1"} <= set(found) and "missed-2" not in found
    page = (tmp_path / "out/report.html").read_text()
    assert "source | edited | guidance map" in page and "a control" in page
    assert (tmp_path / f"out/edits/{folder_of(ADD)}/p0/edited.png").is_file()
    edited = [*args[:7], "--edited", tmp_path / f"out/edits/{folder_of(ADD)}", "-o", tmp_path / "taken"]
    assert run(*edited)[0] == 0
    assert tables_of(tmp_path / "taken")["groups-1"][0]["mean change"]["value"] == pytest.approx(
        found["groups-1"][0]["mean change"]["value"], abs=1e-12
    )
    for wrong in (
        ["-i", CONTROL],
        ["--threshold", "nan"],
        ["-i", "Paint it black."],
        ["--data", tmp_path / "none.csv"],
    ):
        code, said, err = run(*edited, *wrong)
        assert (code, said) == (2, "") and err.count("\n") == 1, err


def test_folders_of_instructions_differ_and_can_be_made(tmp_path):
    long = [render(questions_edits) for questions_edits in _many()]
    names = [folder_of(text) for text in long]
    assert len(set(names)) == len(names) and max(map(len, names)) < 120
    for name in names:
        (tmp_path / name).mkdir()


def _many():
    from instructx2x.instructions import FINDINGS, Edit, Operation

    every = [Edit(Operation.ADD, name) for name in FINDINGS]
    return [every, every[:-1], every[:1]]
