"""The lookup of the official code, and its folder of masks."""

import numpy as np
import pytest

from instructx2x.anatomy.official import (
    MASK_NAMES,
    load_official_masks,
    looked_for,
    mentioned,
    official_pseudo_mask,
    union_masks,
)
from instructx2x.anatomy.priors import packaged_priors
from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.errors import AnatomyError
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.vocabulary import PAPER_FINDINGS


@pytest.fixture
def masks():
    """Eight masks that share no pixel: every one has its own column."""
    result = {}
    for column, name in enumerate(MASK_NAMES.values()):
        result[name] = np.zeros((512, 512), np.uint8)
        result[name][:, 60 * column : 60 * column + 50] = 1
    return result


@pytest.fixture
def folder(tmp_path, masks):
    for name, mask in masks.items():
        np.save(tmp_path / f"pseudo_mask_{name}.npy", mask)
    return tmp_path


@pytest.mark.parametrize(
    ("instruction", "opened"),
    [
        ("Add the finding of pleural effusion", ["Effusion"]),
        ("Remove the finding of infection.", None),
        ("Add the finding of tortuosity of the thoracic aorta.", None),
        ("Add the findings of tortuosity of the thoracic aorta, and pneumonia.", ["Pneumonia"]),
        ("Add the findings of tortuosity of the thoracic aorta and pneumonia.", None),
        ("Add cardiomegaly, and enlargement of the cardiac silhouette.", None),
        ("Add the findings of Lung Opacity and EDEMA.", ["Edema", "Lung Opacity"]),
        ("make it brighter", None),
    ],
)
def test_lookup_cases_of_the_official_code(masks, instruction, opened):
    values = official_pseudo_mask(instruction, (512, 512), masks)
    expected = np.ones((512, 512)) if opened is None else np.maximum.reduce([masks[name] for name in opened])
    np.testing.assert_array_equal(values, expected)


def test_every_finding_is_mentioned_by_its_own_substring():
    for finding in PAPER_FINDINGS:
        assert finding in mentioned(f"add {looked_for(finding)}")


def test_a_missing_mask_opens_everything(masks):
    del masks["Effusion"]
    assert (official_pseudo_mask("Add pleural effusion.", (64, 48), masks) == 1).all()


def test_other_sizes_are_bilinear_without_antialiasing(masks):
    values = official_pseudo_mask("Add atelectasis.", (64, 64), masks)
    # 512 -> 64: the sample lies between pixels 8 i + 3 and 8 i + 4.
    source = masks["Atelectasis"].astype(float)
    rows = (source[3::8] + source[4::8]) / 2
    np.testing.assert_allclose(values, (rows[:, 3::8] + rows[:, 4::8]) / 2, atol=1e-6)


def test_a_folder_loads_as_it_is(folder, masks):
    loaded = load_official_masks(folder)
    assert list(loaded) == list(masks)
    for name in masks:
        assert loaded[name].dtype == np.uint8
        np.testing.assert_array_equal(loaded[name], masks[name])


@pytest.mark.parametrize(
    "array",
    [np.zeros((256, 256), np.uint8), np.zeros((512, 512)), np.full((512, 512), 7, np.uint8), np.array([{}])],
)
def test_a_wrong_array_is_named(folder, array):
    np.save(folder / "pseudo_mask_Edema.npy", array, allow_pickle=True)
    with pytest.raises(AnatomyError, match="pseudo_mask_Edema"):
        load_official_masks(folder)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\xff\xff{"])
def test_a_broken_file_is_named(folder, content):
    (folder / "pseudo_mask_Edema.npy").write_bytes(content)
    with pytest.raises(AnatomyError, match="pseudo_mask_Edema"):
        load_official_masks(folder)


@pytest.mark.parametrize("shape", [b"(9999999, 9999999)", b"(99999999999999999999,)"])
def test_a_header_that_promises_terabytes_is_refused(folder, shape):
    path = folder / "pseudo_mask_Edema.npy"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(512, 512)", shape))
    with pytest.raises(AnatomyError, match="pseudo_mask_Edema"):
        load_official_masks(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(AnatomyError, match="pseudo_mask_Effusion"):
        load_official_masks(tmp_path)


def test_our_unions_stand_in_for_all_eight():
    unions = union_masks(packaged_priors())
    assert set(unions) == set(MASK_NAMES.values())
    for mask in unions.values():
        assert mask.shape == (512, 512) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}


class TestOurLookupInAnOfficialFolder:
    display = np.zeros((512, 512), np.float32)

    def test_one_mask_per_finding(self, folder, masks):
        got = pseudo_mask([Edit("add", "pneumonia")], self.display, anatomy=folder)
        np.testing.assert_array_equal(got.values, masks["Pneumonia"])
        assert got.kind == "official" and "Pneumonia" in got.sources["pneumonia"]

    def test_stand_ins(self, folder, masks):
        got = pseudo_mask([Edit("add", "infection"), Edit("add", "vascular congestion")], self.display, anatomy=folder)
        np.testing.assert_array_equal(got.values, np.maximum(masks["Pneumonia"], masks["Edema"]))

    @pytest.mark.parametrize("finding", ["nodule", "scoliosis"])
    def test_a_finding_without_a_mask_is_an_error_that_lists_what_there_is(self, folder, finding):
        with pytest.raises(AnatomyError, match=f"{finding}.*Atelectasis.*Pneumothorax"):
            pseudo_mask([Edit("add", finding)], self.display, anatomy=folder)

    def test_a_side_narrows(self, folder, masks):
        for name in masks:
            np.save(folder / f"pseudo_mask_{name}.npy", np.ones((512, 512), np.uint8))
        got = pseudo_mask([Edit("add", "edema", side="left")], self.display, anatomy=folder)
        assert not got.values[:, :256].any() and got.values[:, 256:].all()
        assert got.warnings
