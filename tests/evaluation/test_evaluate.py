"""`x2x evaluate` from the command line: with a model, with anyone's images, after a kill, and what it refuses."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from instructx2x import NOTICE
from instructx2x.evaluation import probes
from instructx2x.evaluation.cases import read_cases
from instructx2x.evaluation.methods import ABLATION, METHODS, PLAIN
from instructx2x.evaluation.scored import COPY, TARGET

# Bright on the left of the image is edema, everyone is fifty; much faster than the bundled judges.
JUDGE = """
def judge(images):
    return {
        "edema": [float(image[:, : image.shape[1] // 2].mean()) for image in images],
        "mass": [float(image.mean()) for image in images],
        "female": [float(image[: len(image) // 2].mean()) for image in images],
        "age": [100 * float(image.std()) for image in images],
    }
"""
pytestmark = pytest.mark.usefixtures("few_steps")

CASES = """image,instruction,seed,patient,sex,age,findings,target,target_findings,boxes
a.png,Add mild edema,0,p1,F,30,normal,b.png,edema,
a.png,Add severe edema,0,p1,F,30,normal,,,
b.png,Remove edema,1,p2,M,60,edema|mass,,,"10,20,30,30"
c.png,Add edema,2,p3,F,70,edema,,,
c.png,Add left mass,2,p3,F,70,edema,,,
"""


@pytest.fixture
def data(tmp_path, make_chest):
    for number, name in enumerate("abc"):
        Image.fromarray(make_chest(seed=number)).save(tmp_path / f"{name}.png")
    (tmp_path / "cases.csv").write_text(CASES)
    (tmp_path / "eyes.py").write_text(JUDGE)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("eyes")]:
        del sys.modules[name]


@pytest.fixture
def evaluate(run, data):
    def call(out, *args):
        words = ("--judge", f"{data / 'eyes.py'}:judge", "--resamples", 20, "-o", data / out)
        return run("evaluate", "--data", data / "cases.csv", *args, *words)

    return call


def report(folder):
    found = json.loads((folder / "report.json").read_text())
    return {table["key"]: {row[0]: row[1:] for row in table["rows"]} for table in found["tables"]}, found


@pytest.mark.ci
def test_a_model_with_its_ablation_and_probes(evaluate, data, tiny_model):
    code, said, err = evaluate("out", "--model", tiny_model, "--ablation")
    assert (code, err) == (0, "") and said.rstrip().endswith(NOTICE) and "report.html" in said
    tables, found = report(data / "out")
    assert list(tables["methods"]) == [TARGET, COPY, *METHODS, *ABLATION]
    names = found["tables"][0]["header"]
    rows = {name: dict(zip(names[1:], row, strict=True)) for name, row in tables["methods"].items()}
    assert rows[TARGET]["images"] == 1 and all(rows[name]["images"] == 5 for name in METHODS)
    for name in (*METHODS, *ABLATION):
        assert rows[name]["pixels changed outside the mask"] == 0, name
    assert rows["default"]["in anatomy"]["value"] == 1 > rows[PLAIN]["in anatomy"]["value"]
    assert rows["mask only"]["in anatomy"]["value"] == 1
    assert rows[COPY]["age r"] == pytest.approx(1) and "CMIG-S" in names and "CMIG" not in names
    assert any("no CMIG" in line for line in found["summary"])
    assert [name.partition(": ")[2] for name in tables["stability"]] == [
        *("another seed", "added, then removed", "other words", "other words")
    ]
    assert set(tables["guidance"]) == {"G", "R", "M", "a flat map"}
    assert tables["behaviour"]["default"][0]["total"] == 1
    assert found["facts"]["judges"]["verifier"].startswith("writes")
    assert len(found["pictures"]) == 4 and all(
        (data / "out" / picture["file"]).is_file() for picture in found["pictures"]
    )

    # Run again, nothing is edited or judged anew; the report has the same bytes.
    files = [path for path in (data / "out").rglob("*") if path.is_file() and path.name != "seconds.jsonl"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert evaluate("out", "--model", tiny_model, "--ablation")[0] == 0
    for path, (content, written) in before.items():
        assert path.read_bytes() == content, path
        if path.name.startswith("edited") or path.name == "scores.jsonl":
            assert path.stat().st_mtime_ns == written, path


@pytest.mark.ci
def test_a_killed_run_goes_on_to_the_same_report(evaluate, data, tiny_model):
    flags = ("--model", tiny_model, "--methods", "default,plain", "--no-probes")
    assert evaluate("whole", *flags)[0] == 0
    assert evaluate("cut", *flags)[0] == 0
    (row,) = (data / "cut/edits").glob("default-*/b")
    shutil.rmtree(row)
    scores = (data / "cut/scores.jsonl").read_bytes()
    (data / "cut/scores.jsonl").write_bytes(scores[: len(scores) // 2])
    (data / "cut/report.md").unlink()
    assert evaluate("cut", *flags)[0] == 0
    for name in ("report.md", "report.json", "report.html"):
        one, other = ((data / out / name).read_text() for out in ("whole", "cut"))
        assert one.replace("/whole", "/cut") == other


@pytest.mark.ci
def test_the_images_of_a_batch_score_as_the_models_own(evaluate, run, data, tiny_model):
    assert run("batch", data / "cases.csv", "-o", data / "batch", "--model", tiny_model)[0] == 0
    assert evaluate("one", "--model", tiny_model, "--methods", "default", "--no-probes")[0] == 0
    assert evaluate("other", "--edited", f"default={data / 'batch'}")[0] == 0
    (one, _), (other, _) = report(data / "one"), report(data / "other")
    assert one == other

    # Beside a folder, the model's own methods come first, and the maps that are told of are theirs.
    both = ("--model", tiny_model, "--methods", "default", "--no-probes", "--edited", f"a-folder={data / 'batch'}")
    assert evaluate("both", *both)[0] == 0
    tables, found = report(data / "both")
    assert list(tables["methods"]) == [TARGET, COPY, "default", "a-folder"]
    assert [t["note"][:10] for t in found["tables"] if t["key"] == "guidance"] == ["Of default"]


def test_anyones_images(evaluate, data, make_chest):
    assert evaluate("names", "--names")[1].splitlines()[3] == "c\tc.png\tAdd edema"
    folder = data / "Somebody's"
    folder.mkdir()
    for number, name in enumerate(("a", "a-2", "b", "c", "c-2")):
        Image.fromarray(make_chest(64, 64, seed=number)).save(folder / f"{name}.jpg")
    assert evaluate("out", "--edited", folder)[0] == 0
    tables, found = report(data / "out")
    assert list(tables["methods"]) == [TARGET, COPY, "Somebody's"]
    assert tables["methods"]["Somebody's"][-1] is None, "nobody knows the mask of these"
    assert "guidance" not in tables and "verifier" not in found["facts"]["judges"]
    (folder / "b.jpg").write_text("Dear doctor")
    assert evaluate("out", "--edited", folder)[0] == 0
    tables, found = report(data / "out")
    assert tables["methods"]["Somebody's"][0] == 4 and "b.jpg" in found["facts"]["left out"]["Somebody's: b"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ("--model", "--edited")),
        (("--edited", "nowhere"), ("no folder",)),
        (("--edited", "."), ("5 cases", "called a-2.png")),
        (("--edited", "source=."), ("called source",)),
        (("--edited", "x=.", "--edited", "x=.."), ("two folders are called x",)),
        (("--model", "tiny", "--methods", "best"), ("default, official, plain",)),
        (("--edited", ".", "--judge", "verifier"), ("verifier never scores",)),
        (("--edited", ".", "--judge", "eyes.py:nobody"), ("nobody",)),
        (("--edited", ".", "--judge", "scorer"), ("both answer about",)),
    ],
)
def test_what_is_refused(evaluate, data, flags, words, monkeypatch):
    monkeypatch.chdir(data)
    code, said, err = evaluate("out", *flags)
    assert code == 2 and said == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (data / "out/report.md").exists()


def test_an_edit_is_taken_back_by_its_opposite(data):
    mild, _, removal, idle, mass = read_cases(data / "cases.csv")
    back = probes.reversal(mild, data / "b.png")
    assert back.row.instruction == "Remove the finding of mild edema." and back.row.path == data / "b.png"
    assert probes.reversal(removal, data / "b.png") is None and probes.reversal(idle, data / "b.png") is None
    assert probes.reversal(mass, data / "b.png").row.instruction == "Remove the finding of left mass."


def test_paraphrases_mean_the_same():
    from instructx2x.instructions import FINDINGS, Edit, Operation, parse, render

    for finding in FINDINGS:
        for operation in (Operation.ADD, Operation.REMOVE):
            text = render((Edit(operation, finding),))
            other = probes.paraphrase(text)
            assert other != text and parse(other) == parse(text)


def test_masks_are_taken_at_their_word(evaluate, data, make_chest):
    """A method that changes pixels outside the mask it gives is found out."""
    folder = data / "liar"
    folder.mkdir()
    for number, name in enumerate(("a", "a-2", "b", "c", "c-2")):
        pixels = make_chest(seed="abc".index(name[0]))
        pixels[0, :7] += 1
        Image.fromarray(pixels).save(folder / f"{name}.png")
        mask = np.ones(pixels.shape, bool)
        mask[0, number:] = False
        np.savez(folder / f"{name}.npz", mask=mask)
    assert evaluate("out", "--edited", folder)[0] == 0
    tables, _ = report(data / "out")
    assert tables["methods"]["liar"][-1] == 7 + 6 + 5 + 4 + 3
