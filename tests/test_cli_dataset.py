"""`x2x dataset`: build in a process of its own, check and show, and refusals in one line."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from synthetic_mimic import write_mimic

from instructx2x import cli


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    mimic = write_mimic(tmp_path_factory.mktemp("mimic"), seed=6)
    return ["--diff-vqa", mimic.diff_vqa, "--mimic-cxr-jpg", mimic.cxr_jpg]


@pytest.fixture(scope="module")
def built(sources, tmp_path_factory):
    """(folder, what was printed) of a build in a process of its own."""
    out = tmp_path_factory.mktemp("built") / "out"
    said = x2x("build", *sources, "-o", out, "--version", "v2", "--size", 32, "--layout", "official")
    assert said.returncode == 0 and said.stderr == ""
    return out, said.stdout


def x2x(*arguments):
    """Run `x2x dataset` in a process of its own."""
    program = "import sys; from instructx2x.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "dataset", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def run(capfd):
    """run(*arguments) -> (exit code, stdout, stderr), in this process."""

    def call(*arguments):
        code = cli.main(["dataset", *map(str, arguments)])
        said = capfd.readouterr()
        return code, said.out, said.err

    return call


def assert_refused(said, *words):
    code, out, err = said
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert all(word in err for word in words), err


def test_build_prints_the_funnel(built):
    out, said = built
    report = json.loads((out / "report.json").read_text())
    numbers = [int(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*(?![\w.])", said)]
    for count in (report["rows"], report["difference_rows"], report["rows_kept"], report["instructions"]):
        assert count in numbers
    assert set(report["rejected"].values()) <= set(numbers)
    assert str(out) in said.replace("\n", "")
    assert report["settings"]["rules"]["version"] == "v2" and report["settings"]["images"]["layout"] == "official"
    assert (out / "instructions.csv").is_file() and any((out / "past").iterdir())


def test_check_says_that_all_is_well_and_what_is_not(built, run):
    out, _ = built
    assert run("check", out) == (0, f"{out}: all is well\n", "")
    table = out / "test_images.txt"
    text = table.read_text()
    table.unlink()
    said = run("check", out)
    table.write_text(text)
    assert said == (2, "problem: test_images.txt cannot be read\n", "")


def test_show_writes_a_sheet(built, run, tmp_path):
    out, _ = built
    path = tmp_path / "sheet.png"
    assert run("show", out, "-o", path, "--count", 3, "--split", "train", "--seed", 2) == (0, f"{path}\n", "")
    first = np.asarray(Image.open(path))
    assert first.ndim == 2 and first.std() > 10
    assert run("show", out, "-o", path, "--count", 3, "--split", "train", "--seed", 2)[0] == 0
    assert (np.asarray(Image.open(path)) == first).all()


@pytest.mark.parametrize("verb", [[], ["build"], ["check"], ["show"]])
def test_help_names_the_options(run, verb):
    code, out, _ = run(*verb, "--help")
    assert code == 0
    wanted = {
        "build": "--diff-vqa --mimic-cxr-jpg --open --out --version --views --strict --keep-unchanged --long --split "
        "--size --fit --register --layout --tables-only",
        "show": "--out --split --count --seed",
    }
    for option in (wanted.get(verb[0], "") if verb else "build check show").split():
        assert option in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build"], ["--out"]),
        (["build", "-o", "out"], ["--diff-vqa", "--open"]),
        (["build", "-o", "out", "--diff-vqa", "."], ["--mimic-cxr-jpg"]),
        (["build", "-o", "out", "--open", ".", "--diff-vqa", "."], ["--open alone"]),
        (["build", "-o", "out", "--diff-vqa", "a", "--mimic-cxr-jpg", "b"], ["not found", "all_diseases", "files/"]),
        (["build", "-o", "out", "--open", "nowhere"], ["pairs.csv"]),
        (["build", "-o", "out", "--open", ".", "--split", "p19"], ["--split"]),
        (["build", "-o", "out", "--open", ".", "--version", "v2"], ["need reports"]),
        (["build", "-o", "out", "--open", ".", "--views", " , "], ["views none", "PA or AP"]),
        (["build", "-o", "out", "--open", ".", "--views", "PA,LAO"], ["LAO", "PA or AP"]),
        (["build", "-o", "out", "--version", "v3"], ["v3"]),
        (["build", "-o", "out", "--long", "cut"], ["cut"]),
        (["build", "-o", "out", "--size", "8"], ["32 to 4096"]),
        (["build", "-o", "out", "--fit", "crop"], ["crop"]),
        (["check", "nowhere"], ["no finished dataset"]),
        (["show", "nowhere"], ["no finished dataset"]),
        (["show", "nowhere", "--split", "dev"], ["dev"]),
    ],
)  # fmt: skip
def test_refusals_are_one_line(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), *words)
    assert not list(tmp_path.iterdir())


def test_a_bad_split_and_a_folder_in_use_are_refused(sources, built, run, tmp_path):
    assert_refused(run("build", *sources, "-o", tmp_path / "out", "--split", "half"), "half", "p19")
    assert_refused(run("build", *sources, "-o", built[0]), "other files or settings")
    assert_refused(run("show", built[0], "--count", 100, "-o", tmp_path / "sheet.png"), "1 to 60")
    assert not list(tmp_path.iterdir())


def test_names_with_markup_are_printed_as_they_are(sources, run, tmp_path):
    code, said, _ = run("build", *sources, "-o", tmp_path / "[bold]out", "--tables-only")
    assert code == 0 and "[bold]out" in said
