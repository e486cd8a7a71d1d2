"""Checkpoints of a fine-tuning run: what they hold, which one all go on from, what damage and a full disk leave."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from instructx2x.errors import InputError, OutputError
from instructx2x.training import checkpoints
from instructx2x.training.states import read_state, write_state

ONE = {"is_main_process": True, "process_index": 0, "num_processes": 1, "scaler": None, "device": torch.device("cpu")}


def process(**given):
    return SimpleNamespace(**{**ONE, "wait_for_everyone": lambda: None, **given})


def trained(steps=3, width=4, seed=0):
    """A network, its optimiser and its moving average after some steps."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(width, width), nn.Linear(width, 1))
    optimiser, ema = torch.optim.AdamW(net.parameters(), lr=0.01), EMAModel(net.parameters(), decay=0.9)
    for _ in range(steps):
        net(torch.rand(8, width)).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        ema.step(net.parameters())
    return net, optimiser, ema


def go_on(net, optimiser, ema):
    net(torch.rand(8, net[0].in_features)).sum().backward()
    optimiser.step()
    ema.step(net.parameters())
    return [*(p.detach().clone() for p in net.parameters()), *ema.shadow_params]


def test_a_run_goes_on_as_if_never_interrupted(tmp_path):
    run = trained()
    checkpoints.save(process(), tmp_path, 3, *run)
    expected = go_on(*run)
    other = trained(0, seed=1)
    assert checkpoints.restore(process(), tmp_path, *other) == 3
    assert all(torch.equal(a, b) for a, b in zip(expected, go_on(*other), strict=True))
    assert sorted(file.name for file in (tmp_path / "step-0000003").iterdir()) == [
        "model.safetensors",
        "random-0.safetensors",
        "state.safetensors",
    ]


def test_more_processes_than_before_go_on(tmp_path):
    checkpoints.save(process(), tmp_path, 3, *trained())
    assert checkpoints.restore(process(process_index=1), tmp_path, *trained(0)) == 3


@pytest.mark.parametrize("name", ["model.safetensors", "random-0.safetensors", "state.safetensors"])
@pytest.mark.parametrize("how", ["gone", "cut", "pickle", "other"])
def test_a_damaged_file_is_an_error_and_runs_nothing(tmp_path, name, how):
    checkpoints.save(process(), tmp_path, 3, *trained())
    file, mark = tmp_path / "step-0000003" / name, tmp_path / "mark"

    class Payload:
        def __reduce__(self):
            return mark.touch, ()

    if how == "gone":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif how == "pickle":
        file.write_bytes(pickle.dumps(Payload()))
    else:
        write_state({"cpu": torch.zeros(3, dtype=torch.uint8), "cuda": None}, file)
    with pytest.raises(OutputError, match="delete it to go on") as caught:
        checkpoints.restore(process(), tmp_path, *trained(0))
    assert "\n" not in str(caught.value) and not mark.exists()


def test_a_pickle_beside_a_checkpoint_is_not_read(tmp_path):
    checkpoints.save(process(), tmp_path, 3, *trained())
    for name in ("custom_checkpoint_0.pkl", "random_states_0.pkl", "optimizer.bin"):
        (tmp_path / "step-0000003" / name).write_bytes(b"not even a pickle")
    assert checkpoints.restore(process(), tmp_path, *trained(0)) == 3


def test_an_average_of_another_network_is_refused(tmp_path):
    checkpoints.save(process(), tmp_path, 3, *trained())
    state = tmp_path / "step-0000003/state.safetensors"
    write_state(read_state(state) | {"average": trained(width=5)[2].state_dict()}, state)
    with pytest.raises(OutputError, match="moving average"):
        checkpoints.restore(process(), tmp_path, *trained(0))


def test_the_main_process_says_where_all_go_on(tmp_path, monkeypatch):
    for step in (2, 4):
        checkpoints.save(process(), tmp_path, step, *trained(step))

    def main_sees(chosen):
        def broadcast(objects):
            objects[:] = [chosen]
            return objects

        monkeypatch.setattr(checkpoints, "broadcast_object_list", broadcast)

    main_sees((2, tmp_path / "step-0000002"))
    parts = trained(0)
    assert checkpoints.restore(process(), tmp_path, *parts) == 2
    assert torch.equal(parts[0][0].weight, trained(2)[0][0].weight)
    main_sees(None)
    assert checkpoints.restore(process(), tmp_path, *parts) == 0


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path, full_disk):
    parts = trained(width=60)
    checkpoints.save(process(), tmp_path, 2, *parts)
    with full_disk(10_000), pytest.raises(OutputError, match="make room"):
        checkpoints.save(process(), tmp_path, 4, *parts)
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-0000002"]
    checkpoints.save(process(), tmp_path, 4, *parts)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-0000002", "step-0000004"]


def test_a_state_comes_back_as_it_was(tmp_path):
    shared = torch.arange(6.0)
    state = {
        0: {"step": torch.tensor(3), "betas": (0.9, 0.98), "none": None, "flag": True},
        "views": [shared[:3], shared[3:], shared, torch.zeros(0)],
        "columns": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    write_state(state, tmp_path / "state.safetensors")
    found = read_state(tmp_path / "state.safetensors")
    assert found[0] | {"step": 3} == state[0] | {"step": 3} and found[0]["step"] == 3
    assert all(torch.equal(a, b) for a, b in zip(found["views"], state["views"], strict=True))
    assert torch.equal(found["columns"], state["columns"])
    with pytest.raises(TypeError):
        write_state({"object": object()}, tmp_path / "state.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"\x08\0\0\0\0\0\0\0{}      ", None])
def test_what_is_no_state_is_told(tmp_path, content):
    file = tmp_path / "state.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match="delete it") as caught:
        read_state(file)
    assert "\n" not in str(caught.value)
