"""Checkpoints of a fine-tuning run: which one all processes go on from, and what a full disk leaves."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import save

from instructx2x.errors import OutputError
from instructx2x.training import checkpoints


def test_the_main_process_says_where_all_go_on(tmp_path, monkeypatch):
    for step in (2, 4):
        (tmp_path / f"step-{step:07d}").mkdir()
    loaded = []
    accelerator = SimpleNamespace(load_state=loaded.append)

    def main_sees(chosen):
        def broadcast(objects):
            objects[:] = [chosen]
            return objects

        monkeypatch.setattr(checkpoints, "broadcast_object_list", broadcast)

    main_sees((2, tmp_path / "step-0000002"))
    assert checkpoints.restore(accelerator, tmp_path) == 2
    main_sees(None)
    assert checkpoints.restore(accelerator, tmp_path) == 0
    assert loaded == [str(tmp_path / "step-0000002")]


@pytest.mark.parametrize("safe", [True, False])
def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path, full_disk, safe):
    def save_state(folder):
        """Of one's weights or optimiser: safetensors and torch each have an error of their own."""
        save({"weights": torch.zeros(5000)}, f"{folder}/file", safe_serialization=safe)

    accelerator = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None, save_state=save_state)
    checkpoints.save(accelerator, tmp_path, 2)
    with full_disk(10_000), pytest.raises(OutputError, match="make room and start the run again"):
        checkpoints.save(accelerator, tmp_path, 4)
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-0000002"]
    checkpoints.save(accelerator, tmp_path, 4)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-0000002", "step-0000004"]
