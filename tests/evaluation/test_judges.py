"""What a judge promises: any image, the same scores in any company, and a file that holds all of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from instructx2x.errors import InputError, ModelError
from instructx2x.evaluation.judges import JUDGES, Judge, load_judge
from instructx2x.evaluation.judges.judge import AGE_CENTRE, AGE_SPREAD, from_bytes, interpret, to_bytes
from instructx2x.evaluation.judges.network import TRUNKS, JudgeNet
from instructx2x.instructions import FINDINGS

DATA = Path(__file__).parents[2].parent / "shared/data/cxr"


@pytest.fixture(params=JUDGES)
def judge(request):
    return load_judge(request.param)


@pytest.fixture(scope="module")
def images(make_chest):
    sizes = ((96, 80), (300, 410), (224, 224), (1, 1), (1, 500), (700, 3))
    return [make_chest(*size, seed=seed).astype(np.float32) / 255 for seed, size in enumerate(sizes)]


def test_scores_do_not_depend_on_the_company(judge, images):
    together = judge(images)
    assert together.dtype == np.float32 and together.shape == (len(images), len(judge.outputs))
    for number, image in enumerate(images):
        np.testing.assert_array_equal(judge([image])[0], together[number])
    np.testing.assert_array_equal(judge(images[::-1])[::-1], together)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(judge(images), together)


def test_no_image_gives_no_row(judge):
    assert judge([]).shape == (0, len(judge.outputs))


def test_hostile_pixels_have_finite_scores(judge, images):
    strange = np.full((40, 50), np.nan, np.float32)
    strange[5], strange[6] = np.inf, -np.inf
    extremes = [np.zeros((64, 64)), np.ones((64, 64)), np.eye(1), strange, images[0].astype(np.float64) * 1e30]
    answers = judge([*extremes, np.zeros((8, 9), bool), np.full((3, 3), 255, np.uint8)])
    assert np.isfinite(answers).all()
    probabilities = [number for number, output in enumerate(judge.outputs) if output != "age"]
    assert (answers[:, probabilities] >= 0).all() and (answers[:, probabilities] <= 1).all()


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), np.zeros(5), np.zeros((0, 7)), np.full((2, 2), "x"), 1j * np.eye(3)]
)
def test_what_is_no_image_is_refused_in_one_line(wrong):
    with pytest.raises(InputError) as refused:
        load_judge("verifier")([wrong])
    assert "\n" not in str(refused.value)


def test_window_and_exposure_hardly_matter(judge, images):
    """Every image is standardised; one that fills the square has no black bars to be compared with."""
    image = images[2]
    plain, dim = judge([image, 0.7 * image + 0.2])
    np.testing.assert_allclose(dim, plain, atol=0.05 if judge.findings else 2)
    _, inverted = judge([image, 1 - image])
    assert np.abs(inverted - plain).max() > 0.1


def test_a_file_holds_the_whole_judge(images):
    torch.manual_seed(0)
    net = JudgeNet("efficientnet_lite0", 2).train()
    net(torch.rand(4, 1, 64, 64))  # moves the batch statistics
    made = Judge("scorer", ("edema", "age"), 64, {"edema": {"auc": 0.75, "threshold": 0.4}}, {"images": 3}, net.eval())
    content = to_bytes(made)
    read = from_bytes(content)
    assert (read.name, read.outputs, read.size) == ("scorer", ("edema", "age"), 64)
    assert (read.measured, read.training) == (made.measured, made.training)
    assert read.auc == {"edema": 0.75} and read.thresholds == {"edema": 0.4} and read.findings == ("edema",)
    np.testing.assert_allclose(read(images), made(images), rtol=5e-3, atol=2e-2)
    assert to_bytes(read) == content


@pytest.mark.parametrize("damage", [b"", b"\x08", slice(0, 200), slice(0, -5), slice(3, None)])
def test_a_damaged_file_is_refused_in_one_line(damage):
    content = to_bytes(load_judge("verifier"))
    with pytest.raises(ModelError) as refused:
        from_bytes(content[damage] if isinstance(damage, slice) else damage)
    assert "\n" not in str(refused.value)


def test_an_unknown_judge_is_refused():
    with pytest.raises(ModelError, match="verifier, scorer, demographics"):
        load_judge("../../etc/passwd")


def test_answers_are_probabilities_and_years():
    logits = torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    expected = [[0.5, AGE_CENTRE], [1 / (1 + np.exp(-2)), AGE_CENTRE - AGE_SPREAD]]
    np.testing.assert_allclose(interpret(logits, ("female", "age")), expected, rtol=1e-6)


def test_the_bundled_judges_are_small_and_say_what_they_are():
    judges = {name: load_judge(name) for name in JUDGES}
    folder = Path(__file__).parents[2] / "src/instructx2x/evaluation/judges/data"
    assert {file.stem for file in folder.iterdir()} == set(JUDGES)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4.5e6
    assert judges["demographics"].outputs == ("female", "age") and judges["demographics"].findings == ()
    for name in ("verifier", "scorer"):
        judge = judges[name]
        assert judge.findings == judge.outputs and set(judge.findings) <= set(FINDINGS)
        assert set(judge.auc) == set(judge.thresholds) == set(judge.findings)
    assert judges["verifier"].net.name != judges["scorer"].net.name
    assert judges["verifier"].training["patients_from"] != judges["scorer"].training["patients_from"]
    assert {judge.net.name for judge in judges.values()} <= set(TRUNKS)


def test_the_card_says_what_the_files_say():
    card = (Path(__file__).parents[2] / "src/instructx2x/evaluation/judges/JUDGES_CARD.md").read_text()
    for name in JUDGES:
        section = card.split(f"### {name}\n")[1].split("\n### ")[0]
        for output, values in load_judge(name).measured.items():
            if output != "age":
                assert f"| {output} | {values['auc']:.3f} |" in section
            else:
                assert f"error {values['mean_absolute_error']:.1f} years" in section


@pytest.mark.real_data
@pytest.mark.skipif(not (DATA / "metadata.csv").is_file(), reason="needs the open X-rays in ../shared/data/cxr")
def test_the_verifier_tells_effusions_from_normals_in_the_same_view():
    import polars as pl

    from instructx2x.evaluation.ranking import rank
    from instructx2x.training.data import load_table
    from instructx2x.training.judges import answers_of

    rows = load_table(DATA).filter((pl.col("group") == "nih") & (pl.col("split") == "val"))
    rows = rows.with_columns(effusion=pl.col("findings").str.contains("Effusion"))
    rows = rows.filter(pl.col("effusion") | (pl.col("findings") == "No Finding")).sample(80, seed=0)
    judge = load_judge("verifier")
    scores = answers_of(judge, [DATA / file for file in rows["file"]])[:, judge.findings.index("pleural effusion")]
    found = rank(scores, rows["effusion"].to_numpy(), rows["view"].to_numpy(), rows["patient_id"].to_list())
    assert found.auc > 0.75
