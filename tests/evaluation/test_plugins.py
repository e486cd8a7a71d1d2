"""Judges by name: which may score, how a user's callable is found, and what it may not answer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx2x.errors import InputError, ModelError
from instructx2x.evaluation.judges import load_judge
from instructx2x.evaluation.judges.plugins import OUTPUTS, find_judge, from_callable, load_callable
from instructx2x.instructions import FINDINGS


def line(error, call, *args):
    with pytest.raises(error) as refused:
        call(*args)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def brightness(images):
    return {"edema": [float(image.mean()) for image in images], "age": [100 * image.max() for image in images]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the user is in, with judges of theirs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helping_plugin.py").write_text("FINDING = 'edema'\n")
    (tmp_path / "my_plugin.py").write_text(
        "from helping_plugin import FINDING\n"
        "def judge(images):\n    return {FINDING: [image.mean() for image in images]}\n"
        "class Box:\n    judge = staticmethod(judge)\n"
        "number = 3\n"
    )
    (tmp_path / "broken_plugin.py").write_text("def judge(images:\n")
    (tmp_path / "needy_plugin.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "quitting_plugin.py").write_text("import sys\nsys.exit('bye\\nnow')\n")
    yield tmp_path
    for name in ("helping_plugin", "my_plugin"):
        sys.modules.pop(name, None)


def test_bundled_judges_score_and_the_verifier_does_not():
    assert find_judge("scorer") is load_judge("scorer")
    assert find_judge("demographics") is load_judge("demographics")
    assert "never scores edits" in line(ModelError, find_judge, "verifier")


def test_every_output_has_its_place():
    assert set(FINDINGS) < set(OUTPUTS) and len(OUTPUTS) == len(set(OUTPUTS))
    for name in ("scorer", "demographics"):
        assert set(find_judge(name).outputs) <= set(OUTPUTS)


@pytest.mark.parametrize("spec", ["", "scorers", "../scorer", "torchxrayvision"])
def test_an_unknown_name_tells_the_known_ones(spec):
    told = line(ModelError, find_judge, spec)
    assert "scorer, demographics, torchxrayvision:densenet" in told and "module:callable" in told


@pytest.mark.parametrize(
    "spec", ["my_plugin:judge", "my_plugin:Box.judge", "my_plugin.py:judge", "./my_plugin.py:judge"]
)
def test_a_callable_is_found_and_the_path_is_as_before(spec, folder):
    before = list(sys.path)
    judge = find_judge(spec)
    assert sys.path == before
    assert judge.name == spec and judge.outputs == ("edema",)
    np.testing.assert_allclose(judge([np.full((4, 4), 0.25), np.full((7, 9), 0.5)]), [[0.25], [0.5]])


def test_a_file_elsewhere_is_found_with_what_lies_beside_it(folder, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    loaded = load_callable(f"{folder}/my_plugin.py:judge")
    assert loaded([np.ones((2, 2))]) == {"edema": [1.0]}
    assert load_callable(f"{folder}/my_plugin.py:judge") is loaded  # a file is read once
    assert "there is no module 'my_plugin'" in line(ModelError, load_callable, "my_plugin:judge")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("judge", "names no callable"),
        (":judge", "names no callable"),
        ("my_plugin:", "names no callable"),
        ("no_such_plugin:judge", "there is no module 'no_such_plugin'"),
        ("my_plugin.deeper:judge", "there is no module 'my_plugin.deeper'"),
        ("no_such_plugin.py:judge", "there is no file"),
        ("my_plugin:nobody", "has no 'nobody'"),
        ("my_plugin.py:Box.nobody", "has no 'Box.nobody'"),
        ("my_plugin:number", "not callable: it is of type int"),
        ("broken_plugin:judge", "cannot be imported: SyntaxError"),
        ("broken_plugin.py:judge", "cannot be imported: SyntaxError"),
        ("needy_plugin:judge", "a_package_that_nobody_has"),
        ("needy_plugin.py:judge", "a_package_that_nobody_has"),
        ("quitting_plugin:judge", "cannot be imported: SystemExit: bye now"),
        ("..my_plugin:judge", "cannot be imported"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(spec, told, folder):
    before = list(sys.path)
    assert told in line(ModelError, load_callable, spec)
    assert sys.path == before


def test_a_file_that_failed_is_read_again(folder):
    line(ModelError, load_callable, "broken_plugin.py:judge")
    (folder / "broken_plugin.py").write_text("def judge(images):\n    return {}\n")
    assert load_callable("broken_plugin.py:judge")([]) == {}


def test_a_callable_is_asked_once_and_sees_float_pictures_that_are_not_flat():
    seen = []

    def remembering(images):
        seen.append(images)
        return brightness(images)

    judge = from_callable("mine:judge", remembering)
    assert judge.outputs == ("edema", "age") and len(seen) == 1
    (ramp,) = seen[0]
    assert ramp.dtype == np.float32 and ramp.min() == 0 and ramp.max() == 1 and ramp.std() > 0.2
    assert judge([]).shape == (0, 2) and len(seen) == 1
    image = np.linspace(0, 1, 12).reshape(3, 4)
    judge([image, image])
    assert [given.dtype for given in seen[1]] == [np.float32] * 2


def test_answers_come_in_the_first_answers_order_and_images_stay_as_they_are():
    def changing(images):
        answer = brightness(images)
        for image in images:
            image[:] = 0
        return answer if len(images) == 1 else dict(reversed(answer.items()))

    judge = from_callable("mine:judge", changing)
    images = [np.full((3, 3), 0.25, np.float32), np.full((2, 5), 0.5, np.float32)]
    np.testing.assert_allclose(judge(images), [[0.25, 25], [0.5, 50]])
    assert images[0][0, 0] == 0.25


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor, lambda values: np.asarray(values, np.float16)])
def test_any_kind_of_numbers_will_do(kind):
    judge = from_callable("mine:judge", lambda images: {"female": kind([0.5 for _ in images])})
    np.testing.assert_array_equal(judge([np.ones((2, 2))] * 3), [[0.5]] * 3)


def test_rounding_beyond_certainty_is_cut():
    judge = from_callable("mine:judge", lambda images: {"edema": [1 + 1e-7], "mass": [-1e-8], "age": [-1e-8]})
    np.testing.assert_array_equal(judge([np.ones((2, 2))]), [[1, 0, -1e-8]])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([0.5], "mapping of outputs"),
        (None, "mapping of outputs"),
        ({}, "mapping of outputs"),
        ({"edma": [0.5]}, "'edma', which is no output"),
        ({"race": [0.5]}, "'race', which is no output"),
        ({3: [0.5]}, "3, which is no output"),
        ({"edema": [0.5, 0.5]}, "with 1 numbers"),
        ({"edema": [[0.5]]}, "with 1 numbers"),
        ({"edema": 0.5}, "with 1 numbers"),
        ({"edema": []}, "with 1 numbers"),
        ({"edema": ["0.5"]}, "with 1 numbers"),
        ({"edema": [None]}, "with 1 numbers"),
        ({"edema": [np.nan]}, "not a finite number"),
        ({"age": [np.inf]}, "not a finite number"),
        ({"edema": [1.2]}, "1.2, which is no probability"),
        ({"race: Asian": [-0.1]}, "-0.1, which is no probability"),
        ({"edema": [0.5], "female": [-3]}, "'female' with -3"),
        ({"edema": torch.tensor([0.5], requires_grad=True)}, "no array"),
    ],
)
def test_a_wrong_answer_is_refused_by_name(answer, told):
    message = line(InputError, from_callable, "mine:judge", lambda images: answer)
    assert "mine:judge" in message and told in message


def test_a_wrong_answer_is_refused_later_too():
    answers = iter([{"edema": [0.5]}, {"edema": [0.5], "mass": [0.1]}, {"edema": [7.0]}, {"edema": [0.1, 0.1]}])
    judge = from_callable("mine:judge", lambda images: next(answers))
    for told in ("answers edema, mass now, and edema when first asked", "no probability", "with 1 numbers", "failed"):
        assert told in line(InputError, judge, [np.ones((2, 2))])


def test_a_callable_that_fails_is_named():
    def failing(images):
        raise RuntimeError("CUDA out of memory\nmore of it")

    assert line(InputError, from_callable, "mine:judge", failing) == (
        "mine:judge failed: RuntimeError: CUDA out of memory more of it"
    )


def test_the_example_of_the_docs_is_a_judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/how-to/judges.md").read_text()
    file, use = (block.split("```")[0] for block in page.split("```python\n")[1:3])
    Path("my_judge.py").write_text(file)
    images = [np.full((4, 6), 0.5), np.full((9, 3), 0.25)]
    names = {"images": images}
    exec(use, names)
    assert names["judge"].outputs == ("lung opacity", "age")
    np.testing.assert_allclose(names["judge"](images), [[0.5, 50], [0.25, 45]])


class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit(0)


class Rude(BaseException):
    pass


class Odd(dict):
    def items(self):
        raise Rude("items")


class NoArray:
    def __array__(self, *_, **__):
        raise SystemExit(0)


def raising(error):
    def judge(images):
        raise error

    return judge


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (raising(SystemExit(0)), "SystemExit: 0"),
        (raising(Unspeakable()), "Unspeakable: it has no readable message"),
        (raising(Rude("two\nlines")), "Rude: two lines"),
        (raising(GeneratorExit()), "GeneratorExit"),
        (raising(StopIteration(1)), "StopIteration: 1"),
        (raising(ValueError("\udc80")), "ValueError: ?"),
        (lambda images: Odd(edema=[0.5]), "Rude: items"),
        (lambda images: {"edema": NoArray()}, "SystemExit: 0"),
        (lambda images: sys.exit("bye"), "SystemExit: bye"),
    ],
)
def test_whatever_a_judge_raises_is_one_line(judge, told):
    assert told in line(InputError, from_callable, "mine:judge", judge)


def test_an_interruption_is_no_answer():
    with pytest.raises(KeyboardInterrupt):
        from_callable("mine:judge", raising(KeyboardInterrupt()))


@pytest.mark.parametrize("how", ["raise BaseException('a', 'b')", "import sys; sys.exit(0)", "raise GeneratorExit"])
def test_whatever_a_module_raises_is_one_line(folder, how):
    (folder / "rude_plugin.py").write_text(f"{how}\n")
    for spec in ("rude_plugin:judge", "rude_plugin.py:judge"):
        assert "cannot be imported" in line(ModelError, load_callable, spec)
    (folder / "lazy_plugin.py").write_text(f"def __getattr__(name):\n    {how}\n")
    assert "lazy_plugin.py" in line(ModelError, load_callable, "lazy_plugin.py:judge")
