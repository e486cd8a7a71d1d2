"""Checkpoints of a fine-tuning run: which one all processes go on from."""

from types import SimpleNamespace

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
