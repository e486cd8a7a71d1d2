"""`x2x masks`: binary masks for the official code, marks that are left out, and the sheet."""

import gzip
import os

import numpy as np
import pytest
from PIL import Image

from instructx2x import cli
from instructx2x.anatomy import building
from instructx2x.anatomy.marks import read_marks
from instructx2x.anatomy.official import MASK_NAMES, load_official_masks, overlap_masks, union_masks
from instructx2x.anatomy.priors import load_priors, packaged_priors
from instructx2x.anatomy.sheet import COLUMNS, GAP, PANEL, TITLE, mask_sheet
from instructx2x.errors import AnatomyError, InputError
from instructx2x.instructions import FINDINGS


def test_overlap_masks_shrink_with_the_share_and_lie_in_the_union():
    priors = packaged_priors()
    union = union_masks(priors)
    wide, narrow = overlap_masks(priors, 0.02), overlap_masks(priors, 0.2)
    assert set(narrow) <= set(wide) <= set(union) == set(MASK_NAMES.values())
    for name, mask in narrow.items():
        assert mask.any() and not (mask & ~wide[name]).any()
        assert mask.mean() < wide[name].mean() < union[name].mean()


def test_an_overlap_of_half_is_where_half_of_the_images_have_a_mark(tmp_path):
    rows = ["image_id,finding,x,y,w,h", "a,Pneumonia,0,0,1,0.5", "b,Pneumonia,0,0,0.5,1", "b,Pneumonia,0,0,0.5,1"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    out = tmp_path / "masks"
    assert cli.main(["masks", "build", str(tmp_path / "boxes.csv"), "-o", str(out), "--overlap", "0.51"]) == 0
    mask = load_official_masks(out)["Pneumonia"]
    assert mask[:256, :256].all() and mask.sum() == 256 * 256
    # The same image's second box counts once; every box is in the union.
    assert cli.main(["masks", "build", str(tmp_path / "boxes.csv"), "-o", str(tmp_path / "union")]) == 0
    assert load_official_masks(tmp_path / "union")["Pneumonia"].sum() == 3 * 256 * 256


def test_a_folder_says_what_it_does_not_hold(tmp_path, capsys):
    """The official code has eight masks, and two sets in one folder would be none."""
    (tmp_path / "mass.csv").write_text("image_id,finding,x,y,w,h\na,Mass,0,0,1,0.5\n")
    (tmp_path / "two.csv").write_text("image_id,finding,x,y,w,h\na,Mass,0,0,1,0.5\na,Pneumonia,0,0,1,0.5\n")
    build = ["masks", "build", str(tmp_path / "mass.csv"), "-o"]
    assert cli.main([*build, str(tmp_path / "masks")]) == 2 and not (tmp_path / "masks").exists()
    assert "name a .npz file" in capsys.readouterr().err
    assert cli.main([*build, str(tmp_path / "mass.npz"), "--overlap", "0.5"]) == 2
    assert "--overlap" in capsys.readouterr().err
    build[2] = str(tmp_path / "two.csv")
    assert cli.main([*build, str(tmp_path / "masks")]) == 0
    said = capsys.readouterr().out
    assert "masks: Edema, Lung Opacity, Pneumonia" in said and "Edema has no marks" in said and "not written" in said
    held = set((tmp_path / "masks").iterdir())
    assert cli.main([*build, str(tmp_path / "masks")]) == 2 and set((tmp_path / "masks").iterdir()) == held
    assert "holds masks already" in capsys.readouterr().err


def test_marks_on_listed_images_are_left_out(tmp_path, capsys):
    rows = ["image_id,finding,x,y,w,h", "a,Mass,0,0,1,0.5", "b,Mass,0,0.5,1,0.5"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    (tmp_path / "test_images.txt").write_text("b\nc\n")
    build = ["masks", "build", str(tmp_path / "boxes.csv"), "-o", str(tmp_path / "p.npz"), "--exclude"]
    assert cli.main([*build, str(tmp_path / "test_images.txt")]) == 0
    priors = load_priors(tmp_path / "p.npz")
    half = len(priors.counts["mass"]) // 2
    assert (
        priors.images == {"mass": 1} and priors.counts["mass"][:half].all() and not priors.counts["mass"][half:].any()
    )
    marks = read_marks(tmp_path / "boxes.csv")
    assert [mark.image for mark in building.without(marks, tmp_path / "test_images.txt")] == ["a"]
    assert cli.main([*build, str(tmp_path / "missing.txt")]) == 2
    assert "missing.txt" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["-o", "p.npz"], ["boxes.csv", "--open", ".", "-o", "p.npz"]])
def test_the_marks_are_files_or_the_open_data(arguments, capsys):
    assert cli.main(["masks", "build", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: name the marks")


def test_the_sheet_shows_every_finding_side_and_zone():
    sheet, coverage, warnings = mask_sheet()
    height, width = len(FINDINGS) * (PANEL + TITLE + GAP) + GAP, len(COLUMNS) * (PANEL + GAP) + GAP
    assert sheet.shape == (height, width, 3) and not warnings
    assert coverage.keys() == FINDINGS.keys() and all(0 < share < 0.65 for share in coverage.values())
    red = sheet[..., 0].astype(int) - sheet[..., 1] - 40 * (sheet[..., 2] < 20)

    def panel(finding, column):
        top = GAP + list(FINDINGS).index(finding) * (PANEL + TITLE + GAP) + TITLE
        left = GAP + column * (PANEL + GAP)
        return red[top : top + PANEL, left : left + PANEL] > 30

    anywhere, left, right = (panel("pleural effusion", column) for column in range(3))
    assert left[:, PANEL // 2 + 2 :].any() and not left[:, : PANEL // 2 - 2].any()
    assert right[:, : PANEL // 2 - 2].any() and not right[:, PANEL // 2 + 2 :].any()
    assert anywhere.sum() > left.sum()
    assert panel("cardiomegaly", 0).any() and not panel("cardiomegaly", 1).any()  # it has no side


def test_show_writes_a_sheet_over_an_image(tmp_path, make_chest, capsys):
    Image.fromarray(make_chest(160, 128)).save(tmp_path / "chest.png")
    arguments = ["masks", "show", str(tmp_path / "chest.png"), "-o", str(tmp_path / "sheet.png")]
    assert cli.main(arguments) == 0
    assert "59 to 83 %" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"
    assert cli.main([*arguments[:-1], str(tmp_path / "sheet.txt")]) == 2


def test_a_folder_shows_what_it_holds_and_says_what_it_lacks(tmp_path):
    np.save(tmp_path / "pseudo_mask_Pneumonia.npy", np.ones((512, 512), np.uint8))
    _, coverage, warnings = mask_sheet(None, tmp_path)
    assert coverage["pneumonia"] == 1 and "cardiomegaly" not in coverage
    assert any("cardiomegaly" in warning for warning in warnings)
    with pytest.raises(AnatomyError):
        mask_sheet(None, tmp_path / "missing")


HOSTILE = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "depth": lambda path: path.write_text("[" * 100_000),
    "bomb": lambda path: path.write_bytes(gzip.compress(bytes(300_000_000), 1)),
    "cut": lambda path: path.write_bytes(gzip.compress(b"[]")[:-3]),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["marks.csv", "marks.json", "marks.jsonl.gz"])
def test_hostile_marks_are_refused_at_once(tmp_path, kind, name):
    path = tmp_path / name
    HOSTILE[kind](path)
    with pytest.raises(InputError, match="marks"):
        read_marks(path)
    if kind in ("pipe", "device", "folder"):
        with pytest.raises(InputError, match="marks"):
            building.without([], path)
        with pytest.raises(InputError, match="marks"):
            building.only_pa([], path)
