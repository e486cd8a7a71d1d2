"""What torchxrayvision's networks are given and how their answers are read, with a package that records it.

The real package needs torchvision and its weights; this stands in for what the adapters use of it.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from instructx2x.errors import InputError, ModelError
from instructx2x.evaluation.judges import xrv
from instructx2x.evaluation.judges.judge import square
from instructx2x.evaluation.judges.plugins import OUTPUTS, RACES, find_judge
from instructx2x.extras import install_command

LABELS = [
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion",
    "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture",
    "Lung Opacity", "", 
]  # fmt: skip


class Recorder(nn.Module):
    """Says how bright the picture is, and keeps what it saw; talkative, as the real package is."""

    def __init__(self, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs))
        self.seen = []

    def forward(self, x):
        print("Warning: a guess about the input")
        assert not self.training
        self.seen.append(x.clone())
        return self.weight + x.mean((1, 2, 3))[:, None] / 2048


class DenseNet(Recorder):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("op_threshs", None)

    def forward(self, x):
        assert self.op_threshs is not None
        return (super().forward(x) + self.op_threshs).sigmoid()


class RaceModel(Recorder):
    targets = ("White", "Asian", "Black")  # another order than anyone expects

    def __init__(self):
        super().__init__(3)
        self.weight.data = torch.tensor([3.0, 1.0, 2.0])

    def forward(self, x):
        return super().forward(x).log_softmax(1)


class AgeModel(Recorder):
    def __init__(self):
        super().__init__(1)
        self.weight.data += 50


@pytest.fixture
def package(monkeypatch, tmp_path):
    fake = ModuleType("torchxrayvision")
    saved = DenseNet(len(LABELS))
    saved.weight.data = torch.linspace(-2, 2, len(LABELS))
    saved.seen = None
    torch.save(saved, tmp_path / "dense.pt", _use_new_zipfile_serialization=False)
    asked = []

    def get_weights(name):
        print("Downloading weights...")
        asked.append(name)
        return str(tmp_path / "dense.pt")

    urls = {xrv.DENSENET: {"labels": LABELS, "op_threshs": [0.25] * len(LABELS), "input_resolution": 224}}
    fake.models = SimpleNamespace(DenseNet=DenseNet, get_weights=get_weights, model_urls=urls)
    fake.baseline_models = SimpleNamespace(
        emory_hiti=SimpleNamespace(RaceModel=RaceModel), riken=SimpleNamespace(AgeModel=AgeModel)
    )
    fake.asked = asked
    monkeypatch.setitem(sys.modules, "torchxrayvision", fake)
    return fake


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.random((300, 200)).astype(np.float32), np.ones((90, 90), np.float32), np.zeros((5, 400), np.float32)]


@pytest.mark.parametrize(("which", "size"), [("densenet", 224), ("race", 320), ("age", 320)])
def test_networks_see_whole_pictures_from_minus_1024_to_1024(which, size, package, images, capsys):
    judge = find_judge(f"torchxrayvision:{which}")
    answers = judge(images)
    assert judge.name == f"torchxrayvision:{which}" and set(judge.outputs) <= set(OUTPUTS)
    assert answers.shape == (3, len(judge.outputs)) and answers.dtype == np.float32
    assert capsys.readouterr().out == ""  # standard output is for results
    assert [tuple(seen.shape) for seen in judge.net.seen] == [(1, 1, size, size)] * 3
    for image, seen in zip(images, judge.net.seen, strict=True):
        np.testing.assert_allclose(seen[0, 0] / 1024, 2 * square(image, size) - 1, atol=1e-6)
    chest, white, bars = judge.net.seen
    assert (white == 1024).all() and (bars == -1024).all()
    left = round(size * (1 - 200 / 300) / 2)
    assert (chest[0, 0, :, : left - 1] == -1024).all() and chest[0, 0, 0, left + 1 : -left - 1].max() > 0


@pytest.mark.parametrize("which", ["densenet", "race", "age"])
def test_scores_do_not_depend_on_the_company(which, package, images):
    judge = find_judge(f"torchxrayvision:{which}")
    together = judge(images)
    for number, image in enumerate(images):
        np.testing.assert_array_equal(judge([image])[0], together[number])
    assert judge([]).shape == (0, len(judge.outputs))


def test_findings_have_our_words_in_the_networks_order_and_its_own_weights(package, images):
    judge = find_judge("torchxrayvision:densenet")
    assert package.asked == [xrv.DENSENET]
    expected = [(column, xrv.WORDS[label]) for column, label in enumerate(LABELS) if label in xrv.WORDS]
    assert judge.outputs == tuple(word for _, word in expected)
    assert judge.outputs[:3] == ("atelectasis", "consolidation", "pneumothorax") and len(judge.outputs) == 14
    white = judge(images)[1]  # its mean is half of 2048
    logits = torch.linspace(-2, 2, len(LABELS))[[column for column, _ in expected]] + 0.5 + 0.25
    np.testing.assert_allclose(white, logits.sigmoid(), rtol=1e-6)


def test_races_are_probabilities_by_name(package, images):
    judge = find_judge("torchxrayvision:race")
    assert judge.outputs == ("race: White", "race: Asian", "race: Black") and set(judge.outputs) == set(RACES)
    expected = np.exp([3.0, 1, 2]) / np.exp([3.0, 1, 2]).sum()
    np.testing.assert_allclose(judge(images), np.tile(expected, (3, 1)), rtol=1e-6)


def test_age_is_in_years(package, images):
    judge = find_judge("torchxrayvision:age")
    assert judge.outputs == ("age",)
    np.testing.assert_allclose(judge(images)[1:, 0], [50.5, 49.5], rtol=1e-6)


def test_what_is_no_image_is_refused(package):
    with pytest.raises(InputError):
        find_judge("torchxrayvision:age")([np.zeros((3, 4, 4))])


def refused(spec):
    with pytest.raises(ModelError) as error:
        find_judge(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    for which in ("densenet", "race", "age"):
        assert install_command("evaluation") in refused(f"torchxrayvision:{which}")


def test_a_torchvision_that_does_not_fit_is_named(monkeypatch, tmp_path):
    (tmp_path / "torchxrayvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchxrayvision", raising=False)
    told = refused("torchxrayvision:race")
    assert "torchvision::nms" in told and f"belongs to torch {torch.__version__}" in told


def test_importing_the_package_leaves_warnings_on(monkeypatch, tmp_path):
    (tmp_path / "torchxrayvision.py").write_text("import warnings\nwarnings.filterwarnings('ignore')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchxrayvision", raising=False)
    before = list(warnings.filters)
    assert "race" in refused("torchxrayvision:race")
    assert warnings.filters == before
    del sys.modules["torchxrayvision"]


def test_a_failing_download_is_one_line_and_nothing_stands_in(package, monkeypatch):
    def fails(*args):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(package.models, "get_weights", fails)
    monkeypatch.setattr(package.baseline_models.emory_hiti, "RaceModel", fails)
    for which in ("densenet", "race"):
        told = refused(f"torchxrayvision:{which}")
        assert "no route to host" in told and f"torchxrayvision:{which}" in told


def test_weights_that_do_not_fit_are_refused(package, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "dense.pt")
    assert "densenet" in refused("torchxrayvision:densenet")
    (tmp_path / "dense.pt").write_bytes(b"half a download")
    assert str(tmp_path / "dense.pt") in refused("torchxrayvision:densenet")


def test_an_unknown_network_is_refused():
    assert "densenet, race, age" in refused("torchxrayvision:resnet")
    assert "densenet, race, age" in refused("torchxrayvision:")
