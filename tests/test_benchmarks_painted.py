"""What painted_removal.py and simulation_check.py count by, whom they ask, and what gallery.py asks for."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import gallery
import markdown_tables
import painted_removal
import simulation_check

from instructx2x.training.data import load_table
from instructx2x.training.judge_cases import FINDINGS


def test_counts_are_written_with_their_interval():
    assert markdown_tables.share([True] * 17 + [False] * 3) == "17 of 20 (64-95 %)"
    assert markdown_tables.share([]) == "-"


def test_a_finding_moves_most_only_above_every_other():
    moves, moves_most = simulation_check.moves, simulation_check.moves_most
    change = np.array([0.5, -1.0, 0.4])
    assert moves_most(change, 0) and not moves_most(change, 2) and moves(change, 2) and not moves(change, 1)
    assert not moves_most(np.array([0.5, 0.5]), 0) and not moves_most(np.array([-0.1, -2.0]), 0)
    assert not moves_most(np.zeros(3), 0) and not moves(np.zeros(3), 0)


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
        assert painted_removal.line_left(clean, painted, edited, 4) == pytest.approx(left, abs=1e-9)
        ball = clean + 0.3 * (np.hypot(rows - 50, columns - 60) < 9)
        # What happens to the whole lung neither adds to what is left of a nodule in it, nor takes off.
        for lung in (-0.2, 0.0, 0.2):
            edited = clean + left * (ball - clean) + lung
            assert painted_removal.painted_left(clean, ball, edited, lungs) == pytest.approx(left, abs=1e-9)
    # A haze that goes while its line stays is mostly removed, but not its line.
    assert painted_removal.painted_left(clean, painted, clean + line, lungs) < 0.3
    assert painted_removal.line_left(clean, painted, clean + line, 4) == pytest.approx(1, abs=0.05)


def test_sides_are_asked_for_in_turn_where_there_are_any():
    assert [gallery.asked_side("nodule", n) for n in range(4)] == ["left", "right"] * 2
    assert {gallery.asked_side(finding, n) for finding in ("edema", "cardiomegaly") for n in range(2)} == {None}


class FakeJudge:
    """Answers from the image's brightness by rows."""

    findings, auc = FINDINGS, dict.fromkeys(FINDINGS, 0.8)

    def __call__(self, images):
        return np.array([np.resize(image.mean(axis=1), len(FINDINGS)) for image in images], np.float32)


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


def test_real_cases_have_the_finding_and_perhaps_others_and_their_patients_are_in_val(data):
    table = data / "metadata.csv"
    table.write_text(table.read_text().replace("Mass,", "Mass|Edema,"))
    assert simulation_check.real_cases(load_table(data), "edema") == ["images/03.png", "images/04.png"]
    assert simulation_check.real_cases(load_table(data), "pleural effusion") == ["images/02.png"]
    table.write_text(table.read_text().replace("val,", "train,"))
    assert simulation_check.real_cases(load_table(data), "edema") == []


def test_painted_findings_are_counted_judge_by_judge(data, monkeypatch):
    monkeypatch.setattr(simulation_check, "load_judge", lambda _: FakeJudge())
    panel = simulation_check.Panel(data, ["images/00.png", "images/01.png", "images/02.png"])
    answers = np.stack([panel.scores(panel.image(f"images/0{n}.png"))["A"] for n in range(3)])
    np.testing.assert_allclose(panel.spread["A"], answers.std(axis=0, ddof=1))
    one, other = np.zeros(11), np.zeros(11)
    one[FINDINGS.index("edema")] = 1
    other[FINDINGS.index("mass")] = 1
    painted = [{"A": one, "B": one}, {"A": one, "B": other}, {"A": other + one / 2, "B": other}]
    seen = panel.seen("edema", painted, [{"A": one, "B": other}])
    assert seen.both == [(True, True), (False, False), (False, False)]
    for judge, auc in (("A", {"edema": 0.7}), ("B", {"edema": 0.8})):
        monkeypatch.setattr(panel.judges[judge], "auc", auc)
    rows = panel.rows([seen, panel.seen("mass", painted[:1], [])])
    well = "**those with an AUC of 0.75**"
    assert [row[:2] for row in rows] == [
        *(["edema", judge] for judge in ("A", "B", "both")),
        *(["mass", judge] for judge in ("A", "B", "both")),
        *([title, judge] for judge in ("A", "B") for title in ("**together**", well)),
        ["**together**", "both"],
    ]
    counts = [[cell.split(" (")[0] for cell in row[3:6]] for row in rows]
    assert counts[:3] == [["3 of 3", "2 of 3", "1 of 1"], ["1 of 3", "1 of 3", "0 of 1"], ["1 of 3", "1 of 3", ""]]
    assert [row[6] for row in rows[:2]] == ["mass 1", "mass 2"]
    assert counts[6] == ["3 of 4", "2 of 4", "1 of 1"] and counts[8] == ["1 of 4", "1 of 4", "0 of 1"]
    assert counts[7] == ["-", "-", "-"] and counts[9] == ["1 of 3", "1 of 3", "0 of 1"]
    assert counts[10][:2] == ["1 of 4", "1 of 4"]
