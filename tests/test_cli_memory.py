"""A GPU that is too small is the input's matter, and not a defect."""

import torch


def test_a_full_gpu_is_told_in_one_line(run, tmp_path, monkeypatch):
    def full(path):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr("instructx2x.imaging.read", full)
    code, out, err = run("edit", tmp_path / "chest.png", "Add the finding of edema.", "-o", tmp_path / "out")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "out of memory" in err and "--device cpu" in err and "defect" not in err
