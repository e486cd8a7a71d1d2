"""A network pickled as a whole gives its weights, and nothing else that its file wants."""

from __future__ import annotations

import os
import pickle
import sys
import types
import warnings

import pytest
import torch
from torch import nn

from instructx2x.errors import ModelError
from instructx2x.evaluation.judges.whole_modules import module_weights

FORMATS = {"before 2020": False, "archive": True}


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False)))
    net(torch.randn(5, 1, 8, 8))  # moves the batch statistics
    net[2].register_buffer("scratch", torch.ones(3), persistent=False)
    net[2].register_buffer("nothing", None)
    return net


@pytest.mark.parametrize("archive", FORMATS.values(), ids=FORMATS)
def test_the_weights_are_those_of_the_state_dict(archive, tmp_path):
    net = network()
    torch.save(net, tmp_path / "net.pt", _use_new_zipfile_serialization=archive)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = module_weights(tmp_path / "net.pt")
    expected = net.state_dict()
    assert list(weights) == list(expected)
    for name, tensor in weights.items():
        assert torch.equal(tensor, expected[name]) and not tensor.requires_grad


@pytest.mark.parametrize("archive", FORMATS.values(), ids=FORMATS)
def test_no_class_of_the_file_is_imported(archive, tmp_path, monkeypatch):
    """The class of a network that is gone, or that would do something when imported."""
    module = types.ModuleType("a_lost_module")
    exec("from torch import nn\nclass Net(nn.Module):\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "a_lost_module", module)
    net = module.Net()
    net.part = nn.Linear(3, 2)
    torch.save(net, tmp_path / "net.pt", _use_new_zipfile_serialization=archive)
    monkeypatch.delitem(sys.modules, "a_lost_module")
    assert torch.equal(module_weights(tmp_path / "net.pt")["part.weight"], net.part.weight)
    assert "a_lost_module" not in sys.modules


class Hostile:
    """Runs a command when it is unpickled as usual."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("archive", FORMATS.values(), ids=FORMATS)
def test_nothing_that_the_file_names_is_run(archive, tmp_path):
    net = network()
    net.extra = Hostile(tmp_path / "made")
    torch.save(net, tmp_path / "net.pt", _use_new_zipfile_serialization=archive)
    assert "0.weight" in module_weights(tmp_path / "net.pt")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "net.pt", weights_only=False)
    assert (tmp_path / "made").exists()  # the file does carry the command


def test_what_holds_no_network_is_refused_in_one_line(tmp_path):
    whole, file = tmp_path / "whole.pt", tmp_path / "net.pt"
    torch.save(network(), whole, _use_new_zipfile_serialization=False)
    content = whole.read_bytes()
    odd = network()
    odd._parameters["odd"] = torch.device("cpu")
    contents = [b"", b"junk", content[: len(content) // 2], content[:-7], pickle.dumps({"a": 1})]
    for part in contents:
        file.write_bytes(part)
        with pytest.raises(ModelError) as refused:
            module_weights(file)
        assert "\n" not in str(refused.value) and str(file) in str(refused.value)
    for thing in (network().state_dict(), [1, 2], nn.ReLU(), odd):
        torch.save(thing, file)
        with pytest.raises(ModelError, match="no network"):
            module_weights(file)
    with pytest.raises(ModelError):
        module_weights(tmp_path / "none.pt")
