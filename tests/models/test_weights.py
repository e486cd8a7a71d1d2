"""Reading weight files that nobody vouches for: the weights come out, and nothing else happens."""

from __future__ import annotations

import collections
import functools
import io
import os
import pathlib
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from instructx2x.errors import ModelError
from instructx2x.models.weights import read

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


class Payload:
    """Calls `function(*arguments)` when a pickle of it is read."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


class Stateful:
    def __init__(self, state):
        self.state = state


def payload(kind, mark):
    """One way to make a file `mark` from within a pickle."""
    code = f"open({str(mark)!r}, 'w').close()"
    if kind == "os.system":
        return Payload(os.system, f"touch {mark}")
    if kind == "eval":
        return Payload(eval, code)
    if kind == "exec in a list in a tuple":
        return [({"deep": Payload(exec, code)},)]
    if kind == "subprocess":
        return Payload(subprocess.call, ["touch", str(mark)])
    if kind == "partial":
        return Payload(functools.partial(open, str(mark), "w"))
    if kind == "state":
        return Stateful(Payload(exec, code))
    if kind == "pickle in a pickle":
        return Payload(pickle.loads, pickle.dumps(Payload(exec, code)))
    inner = io.BytesIO()  # PyTorch's own function for storages reads a whole checkpoint without its guard
    torch.save(Payload(exec, code), inner)
    return Payload(torch.storage._load_from_bytes, inner.getvalue())


PAYLOADS = [
    "os.system",
    "eval",
    "exec in a list in a tuple",
    "subprocess",
    "partial",
    "state",
    "pickle in a pickle",
    "checkpoint in a checkpoint",
]
PLACES = {
    "callbacks": lambda bad: {"state_dict": WEIGHTS, "callbacks": bad},
    "weights": lambda bad: {"state_dict": {**WEIGHTS, "c": bad}},
    "top": lambda bad: bad,
}
FORMATS = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_pickle_runs(tmp_path, kind, form):
    mark = tmp_path / "mark"
    for place, put in PLACES.items():
        file = tmp_path / f"{place}.ckpt"
        torch.save(put(payload(kind, mark)), file, **FORMATS[form])
        try:
            assert read(file).keys() == WEIGHTS.keys()
            assert place == "callbacks", "a payload was taken for weights"
        except ModelError as error:
            assert "\n" not in str(error)
        assert not mark.exists(), f"{kind} ran in {place}"
        torch.load(file, weights_only=False)
        assert mark.exists(), "the payload does nothing, so that it did nothing here proves nothing"
        mark.unlink()


@pytest.fixture
def training_checkpoint(tmp_path, monkeypatch):
    """A checkpoint with what training programs leave in theirs, of classes that are gone when it is read."""
    module = types.ModuleType("pytorch_lightning_of_old")
    for kind in (type("ModelCheckpoint", (), {}), type("Config", (), {}), type("AttributeDict", (dict,), {})):
        kind.__module__ = module.__name__
        setattr(module, kind.__name__, kind)
    config = module.Config()
    config.__dict__ |= {"content": {"a": 1}, "parent": config, "any": module.Config, "d": collections.defaultdict(list)}
    config.d["x"].append(config)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        content = {
            "state_dict": collections.OrderedDict(WEIGHTS),
            "epoch": 3,
            "global_step": 6500,
            "pytorch-lightning_version": "1.4.2",
            "callbacks": {module.ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "dirpath": "x"}},
            "optimizer_states": [torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict()],
            "lr_schedulers": [{"base_lrs": [1e-4], "lr_lambdas": [None], "last": np.float64(0.5)}],
            "hyper_parameters": module.AttributeDict(config=config, path=pathlib.PurePosixPath("x"), dims={1, 2}),
        }
        torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "last.ckpt", weights_only=True)
    return tmp_path / "last.ckpt"


def same(tensors):
    return tensors.keys() == WEIGHTS.keys() and all(
        torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in WEIGHTS.items()
    )


def test_a_training_checkpoint_is_read_without_its_classes(training_checkpoint):
    modules, trusted = set(sys.modules), set(torch.serialization.get_safe_globals())
    assert same(read(training_checkpoint))
    assert set(sys.modules) == modules
    assert set(torch.serialization.get_safe_globals()) == trusted


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_bare_weights(tmp_path, form):
    torch.save(WEIGHTS, tmp_path / "a.bin", **FORMATS[form])
    assert same(read(tmp_path / "a.bin"))
    parameters = {name: torch.nn.Parameter(value) for name, value in WEIGHTS.items()}
    torch.save({"state_dict": parameters}, tmp_path / "b.ckpt", **FORMATS[form])
    assert same(read(tmp_path / "b.ckpt"))


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"))


def refused(file):
    with pytest.raises(ModelError) as caught:
        read(file)
    message = str(caught.value)
    assert file.name in message and "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"state_dict": {}},
        {"state_dict": [1]},
        {"epoch": 3},
        {"a": "text"},
        {0: torch.ones(2)},
        {"a": torch.ones(2, 2).to_sparse()},
        {"a": torch.empty(2, device="meta")},
    ],
    ids=str,
)
def test_what_is_no_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.ckpt")
    refused(tmp_path / "odd.ckpt")


def test_a_small_file_cannot_pose_as_large_weights(tmp_path):
    torch.save({"a": torch.ones(1).expand(1 << 20, 1 << 20)}, tmp_path / "bomb.ckpt")
    assert "smaller than the weights" in refused(tmp_path / "bomb.ckpt")


def test_a_compressed_archive_is_not_taken_for_weights(tmp_path):
    torch.save(WEIGHTS, tmp_path / "plain.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as plain,
        zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "compressed" in refused(tmp_path / "packed.ckpt")


@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors"])
def test_damaged_files_are_refused(tmp_path, name):
    file = tmp_path / name
    if name == "a.ckpt":
        torch.save(WEIGHTS, file)
    else:
        save_file(WEIGHTS, file)
    whole = file.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[:10], whole[: len(whole) // 2], whole[:-30], bytes(1000), b"<html>" * 99):
        file.write_bytes(content)
        refused(file)
    file.unlink()
    assert "no file" in refused(file)
