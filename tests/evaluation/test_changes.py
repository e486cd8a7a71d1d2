"""What an edit changed and where, on drawn images and maps; the probes of a model, with known images in its place."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from instructx2x.editing.profiles import THRESHOLD
from instructx2x.editing.rows import Row
from instructx2x.errors import AnatomyError
from instructx2x.evaluation import maps, probes, scoring
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.methods import ABLATION, METHODS, place_of, reseeded
from instructx2x.evaluation.panel import Panel
from instructx2x.imaging.reading import read
from instructx2x.instructions import parse, render

SHAPE = (40, 60)
FINDINGS = ("edema", "mass")
RACES = ("race: Asian", "race: Black", "race: White")


def case(instruction, path="a.png", number=1, boxes=(), seed=0, findings=None):
    edits = parse(instruction)
    return Case(
        Row(number, Path(path).name, Path(path), render(edits), seed, f"case-{number}"),
        edits,
        "p1",
        findings=findings,
        boxes=boxes,
    )


def chest(anatomy=None, midline=0.4):
    """In the place of a `Source`: a flat image whose anatomy is given."""
    return SimpleNamespace(display=np.full(SHAPE, 0.5, np.float32), midline=midline, anatomy=lambda edits: anatomy)


def changed(*parts):
    """The flat image with (rows, columns, step) added."""
    after = np.full(SHAPE, 0.5, np.float32)
    for rows, columns, step in parts:
        after[rows, columns] += np.float32(step)
    return after


def within(rows, columns):
    where = np.zeros(SHAPE, bool)
    where[rows, columns] = True
    return where


TOP, BOTTOM = slice(0, 10), slice(30, 40)


@pytest.mark.parametrize(
    ("instruction", "midline", "share"),
    [
        # Columns 10 to 20 changed by 0.25 and 30 to 40 by 0.125: two thirds, one third.
        ("Add left mass", 0.4, 1 / 3),
        ("Add right mass", 0.4, 2 / 3),
        ("Add left mass", 0.25, 2 / 3),  # the cut at column 15 halves the first patch
        ("Add right mass", 0.25, 1 / 3),
        ("Add right mass", 0.1, 0),
        ("Add mass", 0.4, None),
        ("Add left mass and right edema", 0.4, None),
    ],
)
def test_the_side_is_the_patients_from_the_patients_midline(instruction, midline, share):
    after = changed((TOP, slice(10, 20), 0.25), (TOP, slice(30, 40), -0.125))
    found = scoring.changes(case(instruction), chest(midline=midline), after, {})["on_side"]
    assert found == (None if share is None else pytest.approx(share))


def test_where_and_how_much():
    after = changed((TOP, slice(0, 10), 0.25), (BOTTOM, slice(0, 10), -0.125))
    mask = within(TOP, slice(0, 8)).astype(float)
    mask[BOTTOM, :5] = 0.3
    boxed = case("Remove mass", boxes=((0, 30, 10, 10), (0, 0, 5, 10)))
    found = scoring.changes(boxed, chest(within(TOP, slice(None))), after, {"mask": mask > 0})
    assert found["amount"] == pytest.approx(37.5 / 2400) and found["changed"] == pytest.approx(200 / 2400)
    assert found["in_anatomy"] == pytest.approx(2 / 3) and found["in_boxes"] == pytest.approx(2 / 3)
    assert found["outside_mask"] == 20 + 50 and found["mask"] == pytest.approx(130 / 2400)
    assert "maps" not in found, "a mask alone is no map to compare"
    unknown = scoring.changes(case("Remove mass"), chest(), after, {})
    assert [unknown[key] for key in ("in_anatomy", "in_boxes", "on_side", "outside_mask", "mask")] == [None] * 5
    still = scoring.changes(boxed, chest(within(TOP, slice(None))), changed(), {"mask": mask > 0})
    assert (still["amount"], still["in_anatomy"], still["in_boxes"], still["outside_mask"]) == (0, None, None, 0)


def test_each_map_has_measures_of_its_own():
    rng = np.random.default_rng(0)
    anatomy = within(TOP, slice(None))
    after = changed((slice(None), slice(None), 0))
    after[anatomy] += rng.uniform(0, 0.4, 600).astype(np.float32)
    change = after - np.float32(0.5)
    # G follows the change within the anatomy and opposes it outside; R the other way round; M follows nothing.
    noise = rng.random(SHAPE).astype(np.float32)
    stored = {
        "guidance": np.where(anatomy, change, 1 + noise).astype(np.float32),
        "relevance": np.where(anatomy, 1 - change, noise).astype(np.float32),
        "pseudo_mask": rng.random(SHAPE).astype(np.float32),
    }
    stored["pseudo_mask"][2, 2] = 5
    boxed = case("Add mass", boxes=((0, 0, 5, 5),))
    found = scoring.changes(boxed, chest(anatomy), after, stored)["maps"]
    assert set(found) == {"G", "R", "M", "flat"} and found["flat"] == pytest.approx(25 / 2400)
    for letter, name in (("G", "guidance"), ("R", "relevance"), ("M", "pseudo_mask")):
        values = stored[name].astype(np.float64)
        follows = stats.spearmanr(values[anatomy], np.abs(change)[anatomy]).statistic
        assert found[letter]["follows"] == pytest.approx(follows, abs=1e-9), letter
        assert found[letter]["in_boxes"] == pytest.approx(values[:5, :5].sum() / values.sum()), letter
    assert found["G"]["follows"] == pytest.approx(1) and found["R"]["follows"] == pytest.approx(-1, abs=1e-3)
    assert (found["G"]["pointing"], found["R"]["pointing"], found["M"]["pointing"]) == (0, 0, 1)
    bare = scoring.changes(case("Add mass"), chest(anatomy), after, stored)["maps"]
    assert bare["flat"] is None and bare["G"]["in_boxes"] is None and bare["G"]["follows"] is not None


@pytest.mark.parametrize(("plausible", "midline"), [(True, 0.3), (False, 0.5)])
def test_only_plausible_lungs_tell_the_midline(plausible, midline, monkeypatch, tmp_path, make_chest):
    Image.fromarray(make_chest()).save(tmp_path / "a.png")
    monkeypatch.setattr(scoring, "segment_lungs", lambda display: SimpleNamespace(plausible=plausible, midline=0.3))
    source = scoring.Source(read(tmp_path / "a.png"))
    assert source.midline == midline

    def nowhere(edits, display, lungs):
        raise AnatomyError("no place of its own")

    monkeypatch.setattr(scoring, "pseudo_mask", nowhere)
    assert source.anatomy(parse("Add edema")) is None
    monkeypatch.setattr(scoring, "pseudo_mask", lambda *_, lungs: SimpleNamespace(values=np.array([[0, 1e-3, 1]])))
    assert source.anatomy(parse("Add mass")).tolist() == [[False, True, True]]


class Judge:
    """Tells edema by the brightness."""

    def __init__(self, name="eyes", outputs=FINDINGS, shift=0.0, calls=None):
        self.name, self.outputs, self.shift, self.calls = name, outputs, shift, calls

    def __call__(self, images):
        if self.calls is not None:
            self.calls.append(len(images))
        return np.array([[float(image.mean()) * 0.5 + self.shift] * len(self.outputs) for image in images])


@pytest.fixture
def asked(tmp_path, make_chest, monkeypatch):
    """Two cases of one image, and the edited images of two methods."""
    lungs = SimpleNamespace(plausible=False, midline=0.5)
    monkeypatch.setattr(scoring, "segment_lungs", lambda display: lungs)
    monkeypatch.setattr(scoring, "pseudo_mask", lambda *_, lungs: SimpleNamespace(values=np.ones((96, 80))))
    pixels = make_chest()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cases = [case("Add left mass", tmp_path / "a.png", n, boxes=((0, 0, 40, 96),)) for n in (1, 2)]
    methods = {}
    for name, step in (("ours", 1), ("theirs", 2)):
        (tmp_path / name).mkdir()
        methods[name] = {}
        for found in cases:
            edited = pixels.copy()
            edited[:10, :20] += np.uint8(step * found.row.number)
            edited[:10, 40:60] += np.uint8(step)
            methods[name][found.name] = tmp_path / name / f"{found.name}.png"
            Image.fromarray(edited).save(methods[name][found.name])
    return cases, methods


def test_a_damaged_image_is_missing_from_its_method_alone(asked, tmp_path):
    cases, methods = asked
    panel, journal = Panel([Judge()]), Journal(tmp_path / "scores.jsonl", {})
    whole, failed = scoring.score(cases, methods, panel, journal)
    assert failed == {} and whole["ours"]["case-2"] != whole["theirs"]["case-2"]
    methods["ours"]["case-1"].write_text("Dear doctor")
    methods["theirs"].pop("case-2")
    ticks = []
    records, failed = scoring.score(cases, methods, panel, journal, on_image=lambda *done: ticks.append(done))
    assert list(failed) == ["ours: case-1"] and "case-1.png" in failed["ours: case-1"]
    assert set(records["ours"]) == {"case-2"} and set(records["theirs"]) == {"case-1"}
    assert set(records["source"]) == {"case-1", "case-2"} and records["target"] == {}
    for name, place in (("ours", "case-2"), ("theirs", "case-1"), ("source", "case-1")):
        assert records[name][place] == whole[name][place]
    assert ticks == [(n, 5) for n in range(1, 6)]


def test_a_record_belongs_to_all_that_was_asked(asked, tmp_path):
    """Other boxes, another instruction, other maps: another record. The same again: none is made anew."""
    (first, _), methods = asked
    calls = []
    panel, journal = Panel([Judge(calls=calls)]), Journal(tmp_path / "scores.jsonl", {})

    def record(found):
        return scoring.score([found], {"ours": methods["ours"]}, panel, journal)[0]["ours"]["case-1"]["change"]

    before = record(first)
    assert before["in_boxes"] == pytest.approx(0.5) and before["on_side"] == pytest.approx(0.5)
    asked_of = len(calls)
    assert record(first) == before and len(calls) == asked_of
    assert record(replace(first, boxes=((0, 0, 10, 96),)))["in_boxes"] == pytest.approx(0.25)
    assert record(replace(first, boxes=()))["in_boxes"] is None
    other = parse("Add mass")
    assert record(replace(first, edits=other, row=replace(first.row, instruction=render(other))))["on_side"] is None
    np.savez(methods["ours"]["case-1"].with_suffix(".npz"), mask=np.ones((96, 80)))
    assert record(first)["mask"] == 1 and before["mask"] is None


@pytest.fixture
def drawn(tmp_path, make_chest):
    """draw(name, step, **maps): the chest with a patch that is `step` brighter, in a batch's format."""
    pixels = make_chest()
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def draw(name, step, **stored):
        (tmp_path / name).mkdir(parents=True)
        edited = pixels.astype(int)
        edited[40:50, 20:40] += step
        Image.fromarray(edited.astype(np.uint8)).save(tmp_path / name / "edited.png")
        if stored:
            np.savez(tmp_path / name / "maps.npz", **stored)
        return tmp_path / name / "edited.png"

    return draw


def test_what_is_left_is_the_second_change_over_the_first(drawn, tmp_path, monkeypatch):
    cases = [case("Add mild mass", tmp_path / "a.png", 1), case("Remove mass", tmp_path / "a.png", 2)]
    edited = {"case-1": drawn("one/case-1", 40), "case-2": drawn("one/case-2", 20)}
    seen = []

    def make_edits(editor, cases, out, options, *, on_row=None):
        seen.extend(cases)
        return {found.name: drawn(f"back/{found.name}", 10) for found in cases}, {}

    monkeypatch.setattr(probes, "make_edits", make_edits)
    left = probes.reversibility(None, cases, edited, tmp_path / "back", {}, lambda *_: None)
    assert left == pytest.approx([0.25])
    assert [(found.row.path, found.row.instruction) for found in seen] == [
        (edited["case-1"], "Remove the finding of mild mass.")
    ]


def test_how_far_two_seeds_are_apart(drawn, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    guidance, mask = rng.random((96, 80)), np.zeros((96, 80), bool)
    mask[:30] = True
    cases = [case("Add mass", tmp_path / "a.png", 1, seed=5), case("Add mass", tmp_path / "a.png", 2)]
    edited = {"case-1": drawn("one/case-1", 40, guidance=guidance, mask=mask)}
    seen = {}

    def make_edits(editor, cases, out, options, *, on_row=None):
        seen.update({found.name: found.row.seed for found in cases})
        other = {"guidance": 1 - 0.5 * guidance, "mask": np.roll(mask, 20, axis=0)}
        return {"case-1": drawn("other/case-1", 20, **other)}, {"case-2": "failed"}

    monkeypatch.setattr(probes, "make_edits", make_edits)
    found = probes.seeds(None, cases, edited, tmp_path / "other", {}, lambda *_: None)
    # 20 apart where the changes were of 40 and 20; maps that mirror each other; 10 of 30 rows in common.
    assert found == {
        name: pytest.approx([value]) for name, value in (("images", 2 / 3), ("guidance", -1), ("masks", 1 / 3))
    }
    assert seen["case-1"] == 6 and seen["case-2"] == 1


def test_other_words_are_other_words(drawn, tmp_path):
    drawn("unused", 0)
    told = []

    def guidance(text, *, seed, **options):
        told.append((text, seed, options))
        values = np.random.default_rng(len(text)).random((8, 8))
        return SimpleNamespace(guidance=values, mask=values > 0.5)

    study = SimpleNamespace(guidance=guidance)
    editor = SimpleNamespace(backbone=SimpleNamespace(digest="x"), open=lambda path: study)
    cases = [
        case("Add mass", tmp_path / "a.png", 1, seed=3),
        case("Change mass from mild to severe", tmp_path / "a.png", 2),
    ]
    journal, ticks = Journal(tmp_path / "scores.jsonl", {}), []
    found = probes.paraphrases(editor, cases, journal, {"threshold": 0.2}, lambda: ticks.append(1))
    texts = "Add the finding of mass.", "Please introduce mass."
    assert told == [(text, 3, {"threshold": 0.2}) for text in texts] and len(ticks) == 2
    one, other = (np.random.default_rng(len(text)).random((8, 8)) for text in texts)
    assert found["guidance"] == pytest.approx([maps.map_correlation(one, other)])
    assert found["masks"] == pytest.approx([maps.overlap(one > 0.5, other > 0.5)])


def test_every_method_is_told_something_else():
    chosen = [tuple(sorted(options.items())) for options in (*METHODS.values(), *ABLATION.values())]
    assert len(set(chosen)) == len(chosen)
    for name, options in ABLATION.items():
        if "tau" in name:
            assert options == {"threshold": float(name.rpartition(" ")[2])} and options["threshold"] != THRESHOLD
    assert THRESHOLD == 0.1 and sum("threshold" in options for options in ABLATION.values()) == 2


def test_other_noise_is_the_next_seed():
    first = [case("Add mass", seed=4), case("Add mass", number=2)]
    assert [found.row.seed for found in reseeded(first)] == [5, 1]
    assert [found.row.seed for found in reseeded(first, 7)] == [11, 7]
    assert [replace(found, row=replace(found.row, seed=0)) for found in reseeded(first)] == [
        replace(found, row=replace(found.row, seed=0)) for found in first
    ]


def test_models_of_one_name_do_not_share_a_folder():
    one, other = (SimpleNamespace(backbone=SimpleNamespace(digest=digest * 8)) for digest in ("0a", "1b"))
    assert place_of("x: default", one) == place_of("default", one) == "default-0a0a0a0a"
    assert place_of("default", other) == "default-1b1b1b1b"
    assert len({place_of(name, one) for name in (*METHODS, *ABLATION)}) == len(METHODS) + len(ABLATION)


@pytest.mark.parametrize("missing", RACES)
def test_race_is_judged_by_all_its_classes_or_not_at_all(missing):
    some = tuple(race for race in RACES if race != missing)
    assert Panel([Judge(outputs=(*FINDINGS, *some))]).races == ()
    assert Panel([Judge(outputs=(*FINDINGS, missing, *some))]).races == RACES


def test_judges_are_told_apart_by_name_and_by_answers():
    first = Panel([Judge()]).fingerprint
    assert first == Panel([Judge()]).fingerprint == Panel([Judge(shift=1e-9)]).fingerprint
    assert first != Panel([Judge("others")]).fingerprint
    assert first != Panel([Judge(shift=1e-4)]).fingerprint
    assert first != Panel([Judge(outputs=("edema", "nodule"))]).fingerprint
