"""What edit_quality.py, painted_removal.py and simulation_check.py count by, and that a killed run goes on."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import edit_quality
import painted_removal
import simulation_check
from quality import measures, tables, tasks

from instructx2x.instructions import parse


def test_counts_are_written_with_their_interval():
    assert measures.share([True] * 17 + [False] * 3) == "17 of 20 (64-95 %)"
    assert measures.share([]) == "-"


def test_a_finding_moves_most_only_above_every_other():
    change = np.array([0.5, -1.0, 0.4])
    assert measures.moves_most(change, 0) and not measures.moves_most(change, 2) and measures.moves(change, 2)
    assert not measures.moves_most(np.array([0.5, 0.5]), 0)
    assert not measures.moves_most(np.zeros(3), 0) and not measures.moves(np.zeros(3), 0)
    falls = -np.array([-0.1, -2.0, 0.3])
    assert measures.moves_most(falls, 1) and measures.moves(falls, 0) and not measures.moves(falls, 2)


def test_controls_are_the_other_findings_in_turn():
    names = ("a", "b", "c", "d")
    assert [measures.another(names, "b", n) for n in range(6)] == ["a", "c", "d", "a", "c", "d"]


def test_the_mean_change_outside():
    rng = np.random.default_rng(0)
    change, where = rng.normal(size=(20, 30)), rng.random((20, 30)) < 0.3
    assert measures.mean_outside(change, where) == pytest.approx(np.abs(change[~where]).mean())


def test_what_is_left_of_a_painted_change():
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:128, :128].astype(np.float64)
    clean = 0.4 + 0.02 * rng.normal(size=(128, 128))
    line = 0.2 * np.exp(-(((columns - 60 - rows / 9) / 1.5) ** 2))
    haze = 0.3 * np.exp(-((rows - 64) ** 2 + (columns - 64) ** 2) / 40**2)
    painted = clean + line + haze
    lungs = np.ones(clean.shape, bool)
    for left in (0.0, 0.25, 1.0):
        edited = clean + left * (painted - clean)
        assert measures.line_left(clean, painted, edited, 4) == pytest.approx(left, abs=1e-9)
        ball = clean + 0.3 * (np.hypot(rows - 50, columns - 60) < 9)
        # What happens to the whole lung neither adds to what is left of a nodule in it, nor takes off.
        for lung in (-0.2, 0.0, 0.2):
            edited = clean + left * (ball - clean) + lung
            assert measures.painted_left(clean, ball, edited, lungs) == pytest.approx(left, abs=1e-9)
    # A haze that goes while its line stays is mostly removed, but not its line.
    assert measures.painted_left(clean, painted, clean + line, lungs) < 0.3
    assert measures.line_left(clean, painted, clean + line, 4) == pytest.approx(1, abs=0.05)


def test_correlations_need_something_to_correlate():
    assert measures.correlation([1, 2, 3], [1, 2, 3]) is None
    assert measures.correlation([1, 2, 3, 4], [5, 5, 5, 5]) is None
    ages = np.random.default_rng(2).normal(size=50)
    r, low, high = measures.correlation(ages, ages + np.random.default_rng(3).normal(size=50))
    half_width = 1.959964 / 47**0.5
    assert (r, low, high) == pytest.approx((r, *np.tanh(np.arctanh(r) + np.array([-half_width, half_width]))))


FINDINGS = ("pleural effusion", "edema", "nodule")


def quality(records, auc=(0.9, 0.8, 0.6), scale=(1.0, 1.0, 1.0)):
    """Four source images; `scale` stretches a finding's log-odds everywhere."""
    scale = np.array(scale)
    base = np.array([[0.0, 1, 2], [2, 0, 1], [1, 2, 0], [3, 3, 3]])
    sources = {f"{n}.png": {"scores": list(row * scale), "female": n % 2, "age": 40 + n} for n, row in enumerate(base)}
    for record in records:
        if "moved" in record:
            record["scores"] = list((base[record["number"]] + record["moved"]) * scale)
    known = dict(zip(FINDINGS, auc, strict=True))
    truth = {file: {"view": "AP" if file == "3.png" else "PA"} for file in sources}
    return tables.Quality(FINDINGS, FINDINGS, known, sources, list(sources), truth, records)


def record(measure, finding, number, moved, method="default"):
    return {
        "measure": measure,
        "finding": finding,
        "method": method,
        "file": f"{number}.png",
        "number": number,
        "moved": np.array(moved, float),
    }


def test_success_does_not_depend_on_a_findings_scale():
    records = [record("add", "edema", n, moved) for n, moved in enumerate([(0, 2, 0), (3, 2, 0), (0, -1, 0)])]
    for scale in ((1, 1, 1), (1, 50, 1), (0.1, 1, 7)):
        measured = quality(records, scale=scale)
        hits = measured.hits(records, 1, measures.moves_most)
        assert hits == [True, False, False] == list(map(bool, hits))


def test_the_table_counts_controls_on_the_same_images_and_holds_only_judged_findings_to_figures():
    records = [record("add", "pleural effusion", n, (2, 0, 0)) for n in range(4)]
    # Every edema edit looks like an effusion: edema fails, and the effusion's control has false successes.
    records += [record("add", "edema", n, (2, 1, 0)) for n in range(4)]
    records += [record("add", "nodule", n, (0, 0, -1)) for n in range(4)]
    written = tables.success(quality(records), "add").splitlines()
    rows = {line.split(" | ")[0].strip("| *"): [cell.strip(" |") for cell in line.split(" | ")] for line in written}
    assert rows["pleural effusion"][1:4] == ["0.90", measures.share([True] * 4), measures.share([True] * 4)]
    # The others in turn are edema, nodule, edema, nodule.
    assert rows["pleural effusion"][5] == measures.share([True, False] * 2)
    assert rows["edema"][2:4] == [measures.share([True] * 4), measures.share([False] * 4)]
    assert rows["edema"][8] == "pleural effusion 4"
    assert rows["nodule"][1] == "0.60, not judged"
    assert rows["held to figures, together"][3] == measures.share([True] * 4 + [False] * 4)


def test_removal_counts_falls():
    records = [record("remove", "edema", n, moved) for n, moved in enumerate([(0, -2, 0), (-9, -2, 0), (0, 1, 0)])]
    records += [record("control", "edema", 0, (-1, -2, 0))]
    measured = quality(records)
    assert measured.hits(measured.of("remove"), -1, measures.moves) == [True, True, False]
    assert measured.hits(measured.of("remove"), -1, measures.moves_most) == [True, False, False]
    assert measured.controls("remove", "edema") == measured.of("control")


def test_real_images_stand_in_for_edits_of_the_same_view():
    """Sources 0 and 1 are PA, 3 is AP. The effusion scores 0 in 0 and 2 in 1, where the others score less than in 0."""
    records = [record("add", "pleural effusion", n, (9, 9, 9)) for n in (0, 3)]
    records += [record("remove", "pleural effusion", 1, (0, 0, 0))]
    measured = quality(records)
    assert [r["file"] for r in measured.real("add", "pleural effusion")] == ["0.png"]
    assert measured.hits(measured.real("add", "pleural effusion"), 1, measures.moves_most) == [True]
    assert measured.hits(measured.real("remove", "pleural effusion"), -1, measures.moves_most) == [True]
    assert measured.hits(measured.real("remove", "pleural effusion"), 1, measures.moves) == [False]


def test_two_edits_that_change_alike_are_no_success_of_a_level():
    pairs = [(1.0, 2.0), (2.0, 1.0), (0.0, 0.0)]
    records = [
        {"measure": "level", "finding": "edema", "file": f"{n}.png", "edit": {"level": word}, "amount": amount}
        for n, pair in enumerate(pairs)
        for word, amount in zip((tasks.WEAK, tasks.STRONG), pair, strict=True)
    ]
    assert tables.stronger(quality(records)) == [True, False, False]


def test_identity_compares_sex_and_age():
    pairs = [({"female": 0.9, "age": age}, {"female": 0.4 + 0.2 * (age > 41), "age": age}) for age in (40, 41, 42, 43)]
    sexes, ages = tables.same_person(pairs)
    assert sexes == [False, False, True, True] and ages.startswith("1.000")


@pytest.fixture
def planned():
    images = tasks.Images(
        val=[],
        normals=[f"normal {n}" for n in range(40)],
        positives={finding: [f"{finding} {n}" for n in range(9)] for finding in FINDINGS},
        alone={},
    )
    shown = {finding: images.positives[finding][:2] for finding in FINDINGS}
    return lambda methods, count, official: tasks.plan(FINDINGS, images, shown, methods, count, official)


def test_tasks_ask_what_they_are_for(planned):
    made = planned(tasks.METHODS, 8, 2)
    assert len({task.key for task in made}) == len(made)
    for task in made:
        assert parse(task.text) == (task.edit,)
        removes = task.measure in ("remove", "control", "nothing to remove")
        assert task.edit.operation == ("remove" if removes else "add")
        assert (task.edit.finding == task.finding) == (task.measure != "control")
        assert (task.edit.level is not None) == (task.measure == "level")
        assert task.file.startswith(
            task.finding if task.measure in ("remove", "control", "nothing to add") else "normal"
        )
    adds = [task for task in made if task.measure == "add"]
    assert {task.edit.side for task in adds if task.finding == "edema"} == {None}
    sides = [task.edit.side for task in adds if (task.finding, task.method) == ("nodule", "default")]
    assert sides.count("left") == sides.count("right") == 4
    # Every method edits the same images, the official profile the first of them.
    by_method = {m: {(t.text, t.file, t.number) for t in adds if t.method == m} for m in tasks.METHODS}
    assert by_method["official"] < by_method["default"] == by_method["no-rse"]
    levels = [task for task in made if task.measure == "level"]
    pairs = {(task.finding, task.file, task.number, task.edit.side) for task in levels}
    assert len(levels) == 2 * len(pairs) and len({file for _, file, _, _ in pairs}) == len(pairs)


def test_more_images_keep_what_fewer_measured(planned):
    few, many = planned(tasks.METHODS, 4, 2), planned(tasks.METHODS, 8, 3)
    kept = {task.key for task in few if task.measure != "level"}
    assert kept < {task.key for task in many}
    assert [task.file for task in many] == sorted(task.file for task in many)


class FakeJudge:
    """Answers from the image's brightness by rows; "demographics" as well."""

    def __init__(self, name):
        self.name = name
        self.outputs = ("female", "age") if name == "demographics" else tasks.MEASURED
        self.findings = () if name == "demographics" else tasks.MEASURED
        self.auc = dict.fromkeys(self.findings, 0.8)

    def __call__(self, images):
        columns = [np.resize(image.mean(axis=1), len(self.outputs)) for image in images]
        return np.array(columns, np.float32) * (1, 60) if not self.findings else np.array(columns, np.float32)


@pytest.fixture
def data(tmp_path, make_chest):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    lines = ["id,file,patient_id,view,findings,sex,age,split,qc"]
    for number, findings in enumerate(("No Finding", "No Finding", "Effusion", "Edema", "Mass")):
        Image.fromarray(make_chest(64, 64, seed=number)).save(folder / f"images/{number:02}.png")
        told = f"nih_{number},{'FM'[number % 2]},{30 + number}".split(",")
        lines.append(f"nih_{number:08},images/{number:02}.png,{told[0]},PA,{findings},{told[1]},{told[2]},val,ok")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_killed_benchmark_goes_on_to_the_same_tables(data, tmp_path, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(edit_quality, "load_judge", FakeJudge)
    monkeypatch.setattr(edit_quality, "MEASURED", ("pleural effusion", "edema"))
    out = tmp_path / "out"
    arguments = ["edit_quality.py", "--data", str(data), "--out", str(out), "--model", str(tiny_model)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--count", "1", "--methods", "no-rse"])

    def told():
        """What is printed, without the seconds."""
        edit_quality.main()
        lines = capsys.readouterr().out.splitlines()
        return [line.rsplit(" | ", 1)[0] if line.startswith("| no-rse") else line for line in lines]

    first, path = told(), out / "records.jsonl"
    whole = path.read_bytes()
    assert sum(1 for line in first if line.startswith("| no-rse")) == 3
    assert (out / "sheets/no-rse-pleural-effusion.png").is_file()
    assert told() == first and path.read_bytes() == whole  # nothing left to do
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert told() == first

    def values(content):
        found = {line["key"]: line for line in map(json.loads, content.splitlines())}
        return {key: {name: value for name, value in line.items() if name != "seconds"} for key, line in found.items()}

    assert values(path.read_bytes()) == values(whole)


def test_painted_findings_are_removed_by_every_model(tmp_path, tiny_model, make_chest, monkeypatch, capsys):
    clean = make_chest(96, 96).astype(np.float32) / 255
    painted = clean.copy()
    painted[30:50, 20:40] = 1
    whole = SimpleNamespace(lungs={"right": np.ones((96, 96)), "left": np.zeros((96, 96))})
    made = [painted_removal.Painting(finding, 3, whole, clean, painted) for finding in painted_removal.FINDINGS]
    monkeypatch.setattr(painted_removal, "paintings", lambda *_: iter(made))
    assert made[0].left(painted) == pytest.approx(1) and made[0].left(clean) == pytest.approx(0)
    assert made[0].line(clean) is None and made[1].line(clean) == pytest.approx(0)
    arguments = ["painted_removal.py", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    arguments += ["--model", str(tiny_model)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--count", "1"])
    painted_removal.main()
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["nodule", "pleural line", "pneumothorax"]
    assert all(line.split(" | ")[1:3] == [tiny_model.name, "1"] for line in lines[2:])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{tiny_model.name}-{finding}.png" for finding in painted_removal.FINDINGS
    }
    monkeypatch.setattr(sys, "argv", [*arguments, "--count", "0"])
    with pytest.raises(SystemExit, match=r"^--count starts at 1$"):
        painted_removal.main()


def test_a_method_that_is_not_there_ends_in_one_line(data, tmp_path, monkeypatch):
    arguments = ["edit_quality.py", "--data", str(data), "--out", str(tmp_path / "out"), "--methods", "default,best"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"^--methods takes some of default,official,no-rse"):
        edit_quality.main()


def test_painted_findings_are_counted_judge_by_judge(data, monkeypatch):
    monkeypatch.setattr(simulation_check, "load_judge", FakeJudge)
    panel = simulation_check.Panel(data, ["images/00.png", "images/01.png", "images/02.png"])
    answers = np.stack([panel.scores(panel.image(f"images/0{n}.png"))["A"] for n in range(3)])
    np.testing.assert_allclose(panel.spread["A"], answers.std(axis=0, ddof=1))
    one, other = np.zeros(11), np.zeros(11)
    one[tasks.MEASURED.index("edema")] = 1
    other[tasks.MEASURED.index("mass")] = 1
    painted = [{"A": one, "B": one}, {"A": one, "B": other}, {"A": other + one / 2, "B": other}]
    rows, both = panel.rows("edema", painted, [{"A": one, "B": other}])
    assert both == [(True, True), (False, False), (False, False)]
    assert [row[:2] for row in rows] == [["edema", "A"], ["edema", "B"], ["edema", "both"]]
    assert [row[3].split(" (")[0] for row in rows] == ["3 of 3", "1 of 3", "1 of 3"]
    assert [row[4].split(" (")[0] for row in rows] == ["2 of 3", "1 of 3", "1 of 3"]
    assert [row[5].split(" (")[0] for row in rows[:2]] == ["1 of 1", "0 of 1"]
    assert [row[6] for row in rows[:2]] == ["mass 1", "mass 2"]
