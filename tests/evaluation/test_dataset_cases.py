"""The cases of a built dataset, and edited images and maps as other systems and broken disks leave them."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from instructx2x.dataset.splits import SPLITS
from instructx2x.dataset.table import edit_rows, to_table
from instructx2x.errors import InputError
from instructx2x.evaluation.cases import read_cases
from instructx2x.evaluation.folders import find_edited, read_maps
from instructx2x.instructions import parse, render

SHAPE = (96, 80)


def row(past, current, instruction, part=1, parts=1, past_findings=(), current_findings=("mass",), **others):
    edits = parse(instruction) if instruction else ()
    return {
        **{"past_dicom_id": past, "current_dicom_id": current, "subject_id": f"patient of {past}", "split": "test"},
        **{"past_study_id": "1", "current_study_id": "2", "instruction": render(edits) if edits else ""},
        **{"edits": edit_rows(edits), "view": "PA", "days": None, "tokens": 9, "part": part, "parts": parts},
        **{"sex": None, "age": None},
        "past_findings": None if past_findings is None else list(past_findings),
        "current_findings": None if current_findings is None else list(current_findings),
        **{"past_image": f"images/{past}.png", "current_image": f"images/{current}.png", "registration": None},
        **others,
    }


ROWS = [
    row("1.2.840.1", "1.2.840.2", "Add mass", past_findings=("edema",)),
    row("a.1", "a.2", "Add mass", 1, 2),
    row("a.1", "a.2", "Add edema", 2, 2),
    row("b", "c", "", current_findings=()),  # unchanged
    row("d", "e", "Remove edema", past_findings=None, current_findings=None),
    row("f", "g", "Add edema", split="validate"),
]


@pytest.fixture
def dataset(tmp_path):
    """dataset(rows) -> its folder; the images are there, and nobody looks into them."""

    def write(rows):
        folder = tmp_path / "dataset"
        (folder / "data").mkdir(parents=True)
        (folder / "images").mkdir()
        for split in SPLITS:
            to_table([r for r in rows if r["split"] == split]).write_parquet(folder / f"data/{split}.parquet")
        for name in {r[key] for r in rows for key in ("past_image", "current_image") if r[key]}:
            (folder / name).touch()
        return folder

    return write


def test_what_a_datasets_rows_say(dataset):
    folder = dataset(ROWS)
    cases = {case.name: case for case in read_cases(folder)}
    # Dots of an identifier are no ending of a file; the unchanged pair asks for nothing.
    assert set(cases) == {"1.2.840.1__1.2.840.2", "a.1__a.2", "a.1__a.2-2", "d__e"}
    whole = cases["1.2.840.1__1.2.840.2"]
    assert whole.row.path == folder / "images/1.2.840.1.png" and whole.target == folder / "images/1.2.840.2.png"
    assert (whole.row.instruction, whole.edits) == ("Add the finding of mass.", parse("Add mass"))
    assert (whole.patient, whole.view, whole.findings, whole.target_findings) == (
        *("patient of 1.2.840.1", "PA"),
        *({"edema"}, {"mass"}),
    )
    np.testing.assert_array_equal(whole.wanted(("edema", "mass")), (0, 1))
    # Either part stops on the way to the target.
    for name, words in (("a.1__a.2", "Add mass"), ("a.1__a.2-2", "Add edema")):
        part = cases[name]
        assert (part.target, part.target_findings, part.edits) == (None, None, parse(words))
        assert part.row.path == folder / "images/a.1.png" and part.findings == frozenset()
    unknown = cases["d__e"]
    assert unknown.findings is None and unknown.target_findings is None and unknown.target is not None
    seeds = [case.row.seed for case in cases.values()]
    assert len(set(seeds)) == len(seeds) == 4
    assert {case.name for case in read_cases(folder, split="validate")} == {"f__g"}
    with pytest.raises(InputError, match="no case in its split train"):
        read_cases(folder, split="train")
    with pytest.raises(InputError, match="leave --images out"):
        read_cases(folder, images=folder)


def test_a_dataset_must_have_its_images(dataset):
    folder = dataset([*ROWS, row("h", "i", "Add mass", past_image=None, current_image=None)])
    with pytest.raises(InputError, match="--tables-only"):
        read_cases(folder)
    assert len(read_cases(folder, split="validate")) == 1
    (folder / "images/g.png").unlink()
    with pytest.raises(InputError, match="1 of 2 images are not there"):
        read_cases(folder, split="validate")


def test_edited_images_of_a_dataset_go_by_both_images(dataset, tmp_path):
    cases = read_cases(dataset(ROWS))
    out = tmp_path / "edited"
    out.mkdir()
    for case in cases:
        (out / f"{case.name}.png").touch()
    assert find_edited(out, cases) == {case.name: out / f"{case.name}.png" for case in cases}


@pytest.mark.parametrize(
    ("image", "edited"),
    [
        ("a.png", "A.PNG"),
        ("Müller.png", unicodedata.normalize("NFD", "Müller.png")),
        (unicodedata.normalize("NFD", "Müller.png"), "MÜLLER.Png"),
        ("Straße.png", "STRASSE.TIF"),
    ],
)
def test_names_as_other_systems_write_them(tmp_path, image, edited):
    (tmp_path / "edited").mkdir()
    (tmp_path / image).touch()
    (tmp_path / "edited" / edited).touch()
    (tmp_path / "cases.csv").write_text(f"image,instruction\n{image},Add edema\n", "utf-8")
    (case,) = cases = read_cases(tmp_path / "cases.csv")
    (found,) = find_edited(tmp_path / "edited", cases).values()
    assert found.name == edited and find_edited(tmp_path / "edited", cases).keys() == {case.name}


@pytest.fixture
def beside(tmp_path):
    """An edited image and the file of maps beside it."""
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png", tmp_path / "a.npz"


def test_a_mask_holds_all_that_is_above_zero(beside):
    image, maps = beside
    mask = np.zeros(SHAPE, np.float32)
    mask[2, :5], mask[3, :5], mask[4, :5] = 0.3, 1, 1e-6
    for stored in (mask, (255 * mask).astype(np.uint8)):
        np.savez(maps, mask=stored)
        found = read_maps(image, SHAPE)["mask"]
        assert found.dtype == bool
        np.testing.assert_array_equal(found, stored > 0)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bytes_never_pass_for_maps(beside, save):
    """One byte at a time: refused, or whatever is read is what was written (the byte may be of a name or a date)."""
    image, maps = beside
    rng = np.random.default_rng(0)
    guidance = rng.random(SHAPE).astype(np.float32)
    save(maps, mask=guidance > 0.5, guidance=guidance)
    whole = maps.read_bytes()
    expected = read_maps(image, SHAPE)
    places = {*range(60), *range(len(whole) - 180, len(whole)), *rng.integers(len(whole), size=100).tolist()}
    refused = 0
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        maps.write_bytes(damaged)
        try:
            found = read_maps(image, SHAPE)
        except InputError as error:
            assert "a.npz" in str(error) and "\n" not in str(error)
            refused += 1
            continue
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=f"byte {place}")
    assert refused > 120


@pytest.mark.parametrize("content", [b"", b"PK", b"Dear doctor", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(beside, content):
    image, maps = beside
    maps.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz: a damaged archive"):
        read_maps(image, SHAPE)


def test_one_array_is_no_archive(beside):
    image, maps = beside
    with maps.open("wb") as file:
        np.save(file, np.ones(SHAPE))
    with pytest.raises(InputError, match=r"a\.npz: a damaged archive"):
        read_maps(image, SHAPE)
