"""What the lung network's training promises: sides follow mirroring, and an interrupted run ends the same."""

import numpy as np
import pytest
import torch
from PIL import Image

from instructx2x.anatomy.lungs import SIZE, LungNet
from instructx2x.errors import InputError
from instructx2x.training import lung_augmentation as augmentation
from instructx2x.training import lung_data
from instructx2x.training import lungs as training


def small_set(n=3, size=64):
    masks = torch.zeros(n, 2, size, size)
    masks[:, 0, 16:48, 10:26] = 1
    masks[:, 1, 12:52, 38:54] = 1
    noise = torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(0))
    images = 0.7 - 0.4 * masks.sum(1, keepdim=True) + 0.02 * noise
    return lung_data.LungSet(images.clamp(0, 1), masks, tuple("abc"[:n]))


def test_the_lung_further_left_in_the_picture_is_the_right_one():
    mask = np.zeros((20, 30), bool)
    mask[2:18, 3:9] = mask[4:16, 20:28] = True
    mask[0, 0] = True  # a speck is neither
    right, left = lung_data.split_sides(mask)
    assert right.sum() == 96 and right[:, :9].sum() == 96
    assert left.sum() == 96 and left[:, 20:].sum() == 96
    with pytest.raises(InputError):
        lung_data.split_sides(mask & (np.arange(30) < 10) & (np.arange(30) > 0))


def test_warping_keeps_sides_and_moves_pictures_with_their_masks():
    given = small_set()
    images = given.masks.sum(1, keepdim=True)
    for seed in range(12):
        moved, masks = augmentation.warp(images, given.masks, torch.Generator().manual_seed(seed))
        assert (moved - masks.sum(1, keepdim=True)).abs().max() < 1e-5
        columns = torch.arange(64.0)
        for right, left in masks:
            if min(right.sum(), left.sum()) > 50:
                centres = [(m.sum(0) * columns).sum() / m.sum() for m in (right, left)]
                assert centres[0] < centres[1]


def test_augmentation_is_seeded_and_stays_in_range():
    given = small_set()
    runs = [training.augment(given.images, given.masks, torch.Generator().manual_seed(7)) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)
        assert 0 <= one.min() and one.max() <= 1


def test_paint_stays_in_the_lungs_and_whitens():
    given = small_set()
    far = torch.nn.functional.max_pool2d(given.masks.amax(1, keepdim=True), 25, 1, 12) == 0
    for seed in range(6):
        painted = augmentation.paint_disease(given.images, given.masks, torch.Generator().manual_seed(seed))
        assert torch.equal(painted[far], given.images[far])


def test_loss_prefers_the_truth_and_an_empty_answer_to_nothing():
    masks = small_set().masks
    truth, empty = 20 * masks - 10, torch.full_like(masks, -10)
    assert training.loss_of(truth, masks) < 0.01 < training.loss_of(empty, masks)
    assert training.loss_of(empty, torch.zeros_like(masks)) < 0.01 < training.loss_of(truth, torch.zeros_like(masks))


def break_augment(monkeypatch, number: int) -> list[int]:
    """Let the call of that number be interrupted; the list that is returned grows by one with every call."""
    real, calls = training.augment, []

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "augment", breaks)
    return calls


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)
    given = small_set()

    def run(checkpoint):
        torch.manual_seed(1)
        net = LungNet((8, 8))
        return training.fit(
            net, [given], steps=5, seed=3, label="", checkpoint=checkpoint, checkpoint_every=2
        ).state_dict()

    whole = run(None)
    real = training.augment
    break_augment(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "state.pt")
    monkeypatch.setattr(training, "augment", real)
    resumed = run(tmp_path / "state.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)
    given = small_set()

    def run(sets, steps, seed):
        return training.fit(LungNet((8, 8)), sets, steps=steps, seed=seed, label="", checkpoint=tmp_path / "state.pt")

    run([given], 1, 0)
    for sets, steps, seed in (([given.take([0, 1])], 1, 0), ([given], 2, 0), ([given], 1, 1)):
        with pytest.raises(InputError, match="choose other --checkpoints"):
            run(sets, steps, seed)


def made_data(folder, patients=("a", "b", "c", "d")):
    """A data folder in miniature: pictures of two dark blocks and their masks."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    table, listed = ["id,file,patient_id,age,split,qc"], ["id,file"]
    rng = np.random.default_rng(0)
    for name in patients:
        mask = np.zeros((90, 100), bool)
        mask[20:70, 15:42] = mask[20:70, 58:85] = True
        picture = np.clip(170 - 110 * mask + rng.normal(0, 4, mask.shape), 0, 255)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"images/{name}.png")
        Image.fromarray(mask).save(folder / f"masks/{name}.png")
        table.append(f"{name},images/{name}.png,{name},40,{'val' if name == 'd' else 'train'},ok")
        listed.append(f"{name},masks/{name}.png")
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"images/nih_{name}.png")
        table.append(f"nih_{name},images/nih_{name}.png,nih_{name},{9 if name == 'a' else ''},train,ok")
    table.append("ker_a,images/a.png,ker_a,,train,ok")
    (folder / "metadata.csv").write_text("\n".join(table))
    (folder / "masks.csv").write_text("\n".join(listed))
    return folder


def test_data_are_adults_of_the_asked_split(tmp_path):
    data = made_data(tmp_path)
    assert lung_data.reviewed(data, split="train").patients == ("a", "b", "c")
    assert lung_data.reviewed(data, split="val").patients == ("d",)
    everyone = lung_data.reviewed(data)
    assert everyone.images.shape == (4, 1, SIZE, SIZE)
    assert everyone.masks.shape == (4, 2, SIZE, SIZE)
    images, patients = lung_data.unlabelled(data, 10, seed=0)
    assert sorted(patients) == ["nih_b", "nih_c", "nih_d"]
    assert len(images) == 3


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"metadata\.csv"):
        lung_data.reviewed(tmp_path)


def test_training_writes_weights_that_load(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    monkeypatch.setattr(training, "BATCH", 2)
    (tmp_path / "data").mkdir()
    out = training.train_lungs(
        made_data(tmp_path / "data"), tmp_path / "weights/lungs.safetensors", steps=(1, 1), unlabelled_count=1
    )
    state = load_file(out)
    assert all(value.dtype == torch.float16 for value in state.values())
    assert set(state) == {n for n in LungNet().state_dict() if not n.endswith("num_batches_tracked")}
    assert [path.name for path in out.parent.iterdir()] == ["lungs.safetensors"]


def test_cross_validation_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "LungNet", lambda: LungNet((8, 8)))
    data = made_data(tmp_path)
    whole = training.cross_validate(data, folds=2, steps=(3, 0))
    calls = break_augment(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        training.cross_validate(data, folds=2, steps=(3, 0), checkpoints=tmp_path / "kept")
    calls.clear()
    resumed = training.cross_validate(data, folds=2, steps=(3, 0), checkpoints=tmp_path / "kept")
    assert len(calls) == 3  # the finished fold is not trained again
    np.testing.assert_array_equal(resumed, whole)
    assert whole.shape == (4, 2) and whole.max() > 0


@pytest.mark.parametrize("folds", [1, 5])
def test_folds_must_have_patients(tmp_path, folds):
    with pytest.raises(InputError, match="between 2 and 4"):
        training.cross_validate(made_data(tmp_path), folds=folds)
