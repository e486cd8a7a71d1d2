"""Marks, the builder of the priors, and the packaged file."""

import gzip
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instructx2x import cli
from instructx2x.anatomy import building
from instructx2x.anatomy.frames import REFERENCE, LungFrame, mirror, place
from instructx2x.anatomy.identity import anatomy_digest
from instructx2x.anatomy.marks import read_marks
from instructx2x.anatomy.priors import GRID, ONE_SIDED, SUBCELLS, load_priors, packaged_priors, write_priors
from instructx2x.errors import AnatomyError, InputError, OutputError

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "cxr"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the open X-rays are not here")

PLAIN = """image_id,finding,finding_raw,x,y,w,h,source,licence,have_image
a,Effusion,Effusion,0.25,0.5,0.25,0.25,NIH BBox_List_2017,free,0
a,Effusion,Effusion,0.375,0.5,0.25,0.25,NIH BBox_List_2017,free,0
b,Lung Opacity,Lung Opacity (pneumonia),0.0,0.0,0.5,1.0,RSNA,terms,0
c,Effusion,Effusion,0.0,0.0,1.0,1.0,NIH BBox_List_2017,free,1
d,Effusion,Effusion,0.0,0.0,1.0,1.0,ChestX-Det,Apache-2.0,0
e,Left Lung,Left Lung,0.5,0.1,0.4,0.8,lungs,free,0
"""


@pytest.fixture
def data(tmp_path):
    """A tiny folder laid out like the open data."""
    folder = tmp_path / "cxr"
    folder.mkdir()
    (folder / "boxes.csv").write_text(PLAIN)
    triangle = {"image_id": "d", "finding": "Effusion", "points": [[0.5, 0.5], [1.0, 0.5], [0.5, 1.0]]}
    with gzip.open(folder / "chestxdet_polygons.jsonl.gz", "wt") as out:
        out.write(json.dumps(triangle) + "\n")
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 10:35] = mask[10:50, 45:70] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "masks.csv").write_text("id,structure,file\na,lungs,mask.png\n")
    return folder


def test_an_image_counts_once_and_places_are_counted_exactly(data):
    priors = building.build_from_data(data)
    assert priors.images == {"lung opacity": 1, "pleural effusion": 2, "pneumonia": 1}
    counts = priors.counts["pleural effusion"]
    full = SUBCELLS**2
    row = GRID * 5 // 8
    assert counts[row, GRID * 3 // 8] == full  # inside both boxes of image a
    assert counts[row, GRID * 17 // 32] == 2 * full  # inside a box of a and the outline of d
    assert counts[row, GRID // 8] == 0  # c is at hand for measuring, and d's box is replaced by its outline
    half = priors.counts["pneumonia"]
    assert (half[:, : GRID // 2] == full).all() and not half[:, GRID // 2 :].any()
    assert priors.sources["ChestX-Det"]["marks"] == {"pleural effusion": 1}
    assert "left lung" not in json.dumps(priors.sources).lower()


def test_the_union_is_of_bounding_boxes(data):
    union = building.build_from_data(data).unions["pleural effusion"]
    half, quarter = GRID // 2, GRID // 4
    assert union[half:, half:].all() and union[half : 3 * quarter, quarter : 2 * quarter].all()
    assert not union[:half].any()


def test_the_same_marks_give_the_same_bytes(data, tmp_path):
    files = [tmp_path / name for name in ("one.npz", "two.npz")]
    for path in files:
        assert cli.main(["masks", "build", "--open", str(data), "-o", str(path)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    lines = (data / "boxes.csv").read_text().splitlines()
    (data / "boxes.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    assert cli.main(["masks", "build", "--open", str(data), "-o", str(files[1])]) == 0
    one, two = load_priors(files[0]), load_priors(files[1])
    for name in one.counts:
        np.testing.assert_array_equal(one.counts[name], two.counts[name])


def test_what_is_written_is_read_back(data, tmp_path):
    priors = building.build_from_data(data)
    write_priors(priors, tmp_path / "p.npz")
    again = load_priors(tmp_path / "p.npz")
    for name in priors.counts:
        np.testing.assert_array_equal(again.counts[name], priors.counts[name])
        np.testing.assert_array_equal(again.unions[name], priors.unions[name])
    assert (again.images, again.frame, again.sources) == (priors.images, priors.frame, priors.sources)
    np.testing.assert_array_equal(again.lungs, priors.lungs)


def test_a_lung_mask_lands_on_the_reference_lungs(data):
    lungs = building.build_from_data(data).lungs
    rows, columns = np.flatnonzero(lungs.any(1)), np.flatnonzero(lungs.any(0))
    found = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]) / GRID
    expected = [REFERENCE.top, REFERENCE.bottom, REFERENCE.right, REFERENCE.left]
    np.testing.assert_allclose(found, expected, atol=1.5 / GRID)
    assert not lungs[:, round(REFERENCE.midline * GRID)].any()


@pytest.mark.parametrize("seed", range(4))
def test_outlines_are_filled_by_area(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    points = 0.5 + 0.35 * rng.uniform(0.6, 1, 12)[:, None] * np.c_[np.cos(angles), np.sin(angles)]
    x, y = points.T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert building.cells_inside(points, 400).mean() == pytest.approx(area, abs=2e-3)
    np.testing.assert_array_equal(building.cells_inside(points, 64), building.cells_inside(points[::-1], 64))


FORMATS = {
    "plain.csv": "image_id,finding,x,y,w,h\ni,Pneumonia,0.25,0.5,0.125,0.25\n",
    "ms.csv": "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split\n"
    "i,Pneumonia,t,p,250,1000,125,500,1000,2000,train\n",
    "nih.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,,,,\ni,Pneumonia,256,512,128,256,,,\n",
    "det.json": json.dumps(
        [{"file_name": "i", "syms": ["Pneumonia"], "polygons": [[[256, 512], [384, 512], [384, 768], [256, 768]]]}]
    ),
    "lines.jsonl": json.dumps(
        {"image_id": "i", "finding": "Pneumonia", "points": [[0.25, 0.5], [0.375, 0.5], [0.375, 0.75], [0.25, 0.75]]}
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_same(tmp_path, name):
    (tmp_path / name).write_text(FORMATS[name])
    (mark,) = read_marks(tmp_path / name)
    assert mark.image == "i" and mark.findings == ("lung opacity", "pneumonia")
    np.testing.assert_allclose(mark.points, [(0.25, 0.5), (0.375, 0.5), (0.375, 0.75), (0.25, 0.75)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "x,y\n1,2\n"),
        ("a.csv", ""),
        ("a.csv", b"\xff\xfe\x00"),
        ("a.csv", "image_id,finding,x,y,w,h\ni,Mass,0.1,0.1,nan,0.1\n"),
        ("a.csv", "image_id,finding,x,y,w,h\ni,Mass,0.1,0.1,0,0.1\n"),
        ("a.csv", "image_id,finding,x,y,w,h\ni,Mass,100,100,50,50\n"),
        ("a.csv", "image_id,finding,x,y,w,h\ni,Mass\n"),
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.json", '{"a": 1}'),
        ("a.json", '[{"file_name": "i", "syms": ["Mass"], "polygons": [[1, 2]]}]'),
        ("a.jsonl", '{"image_id": "i", "finding": "Mass", "points": [["a", "b"]]}'),
        ("a.jsonl", '{"image_id": "i", "finding": 3, "points": [[0, 0]]}'),
        ("a.jsonl.gz", "not gzip"),
        ("missing.csv", None),
    ],
)
def test_broken_marks_are_named_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=name.split(".")[0]) as error:
        read_marks(path)
    assert "\n" not in str(error.value)


def test_only_pa_views(tmp_path):
    (tmp_path / "ms.csv").write_text(FORMATS["ms.csv"])
    (tmp_path / "views.csv").write_text("dicom_id,ViewPosition\ni,AP\nj,PA\n")
    arguments = ["masks", "build", str(tmp_path / "ms.csv"), "--pa", str(tmp_path / "views.csv")]
    assert cli.main([*arguments, "-o", str(tmp_path / "p.npz")]) == 2
    (tmp_path / "views.csv").write_text("dicom_id,ViewPosition\ni,PA\n")
    assert cli.main([*arguments, "-o", str(tmp_path / "p.npz")]) == 0
    assert load_priors(tmp_path / "p.npz").images == {"lung opacity": 1, "pneumonia": 1}


def test_a_missing_folder_and_an_impossible_place_are_errors(data, tmp_path, capsys):
    assert cli.main(["masks", "build", "--open", str(tmp_path / "no"), "-o", str(tmp_path / "p.npz")]) == 2
    assert "boxes.csv" in capsys.readouterr().err
    with pytest.raises(OutputError):
        write_priors(building.build_from_data(data), tmp_path / "no" / "p.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", None])
def test_a_file_that_holds_no_priors_is_refused(tmp_path, content):
    path = tmp_path / "p.npz"
    if content is None:
        np.savez(path, findings=np.array(["mass"]))
    else:
        path.write_bytes(content)
    with pytest.raises(AnatomyError, match="no file of priors"):
        load_priors(path)
    with pytest.raises(AnatomyError):
        load_priors(tmp_path / "missing.npz")


def test_a_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    np.savez_compressed(path, counts=np.zeros(17 << 20, np.uint8))
    with pytest.raises(AnatomyError, match="too large"):
        load_priors(path)


def test_packaged_frequencies_are_shares_and_two_sided():
    priors = packaged_priors()
    for name in priors.counts:
        share = priors.frequency(name)
        assert share.shape == (GRID, GRID) and 0 <= share.min() and 0.01 < share.max() <= 1
        asymmetry = np.abs(share - mirror(share, priors.frame)).mean() / share.mean()
        assert (asymmetry > 0.2) if name in ONE_SIDED else (asymmetry < 0.05)
    heart = priors.frequency("cardiomegaly")
    assert heart[:, GRID // 2 :].sum() > 1.5 * heart[:, : GRID // 2].sum()


def test_placing_on_the_same_lungs_changes_nothing():
    prior = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    np.testing.assert_allclose(place(prior, REFERENCE, REFERENCE, (48, 48)), prior, atol=1e-6)


def test_placing_follows_the_lungs():
    """A map that is the lungs' box itself lands on the patient's box, each side on its side."""
    patient = LungFrame(top=0.3, bottom=0.7, right=0.3, midline=0.55, left=0.7)
    u, v = REFERENCE.grid((200, 200))
    inside = ((u > -1) & (u < 0) & (v > 0) & (v < 1)).astype(np.float32)
    moved = place(inside, REFERENCE, patient, (300, 400))
    pu, pv = patient.grid((300, 400))
    expected = (pu > -1) & (pu < 0) & (pv > 0) & (pv < 1)
    assert np.abs(moved - expected).mean() < 0.01
    np.testing.assert_allclose(patient.x(patient.u(np.linspace(-0.5, 1.5, 9))), np.linspace(-0.5, 1.5, 9))
    np.testing.assert_allclose(patient.y(patient.v(np.linspace(-0.5, 1.5, 9))), np.linspace(-0.5, 1.5, 9))


@real_data
@pytest.mark.ci
@pytest.mark.real_data
def test_the_packaged_priors_are_rebuilt_from_the_data(tmp_path):
    built, packaged = building.build_from_data(DATA), packaged_priors()
    assert built.images == packaged.images and built.sources == packaged.sources and built.frame == packaged.frame
    for name in packaged.counts:
        np.testing.assert_array_equal(built.counts[name], packaged.counts[name])
        np.testing.assert_array_equal(built.unions[name], packaged.unions[name])
    np.testing.assert_array_equal(built.lungs, packaged.lungs)


@real_data
@pytest.mark.real_data
def test_the_reference_frame_is_that_of_the_images():
    measured = building.measure_frame(DATA, every=100)
    for name in ("top", "bottom", "right", "midline", "left"):
        assert getattr(measured, name) == pytest.approx(getattr(REFERENCE, name), abs=0.03)


def packaged(tmp_path):
    """The packaged priors in a file of their own, and its arrays."""
    write_priors(packaged_priors(), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


EMPTY = {"counts": np.zeros((0, GRID, GRID), np.uint32), "findings": np.array([], "U1"), "images": np.array([], int)}


@pytest.mark.parametrize(
    "changes",
    [
        {"lungs": np.zeros((GRID, GRID), np.uint32)},
        {"lungs": np.zeros((0,), np.uint32)},
        {"lungs": np.full((GRID, GRID), 2**32 - 1, np.uint32)},
        {"lungs": np.ones((GRID, GRID), np.float64)},
        EMPTY,
        {"counts": np.array([{}], object)},
        {"findings": np.array([b"mass"])},
        {"images": np.full(13, -1)},
        {"images": np.full(13, 2**62)},
        {"lung_masks": np.array(0)},
        {"lung_masks": np.arange(3)},
        {"frame": np.array([np.nan] * 5)},
        {"frame": np.array([0.9, 0.1, 0.9, 0.5, 0.1])},
        {"frame": np.array([1e300, 2e300, -1e300, 0, 1e300])},
        {"frame": np.zeros(0)},
        {"sources": np.array("[]")},
        {"sources": np.array('{"x": 1}')},
        {"sources": np.array("[" * 100_000)},
        {"sources": np.array("no JSON")},
        {"unions": np.zeros(3, np.uint8)},
        {"extra": np.zeros(3)},
        {"frame": None},
    ],
)
def test_hostile_priors_are_refused_in_one_line(tmp_path, changes):
    arrays = {name: value for name, value in {**packaged(tmp_path), **changes}.items() if value is not None}
    np.savez_compressed(tmp_path / "h.npz", **arrays)
    with pytest.raises(AnatomyError, match="no file of priors") as caught:
        load_priors(tmp_path / "h.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", ["(9999999,)", "(-1, 96)", "(96, 9.)", "()", "(96", "(9**9,)"])
def test_headers_that_promise_something_else_are_refused(tmp_path, shape):
    arrays = packaged(tmp_path)
    np.save(tmp_path / "lungs.npy", arrays.pop("lungs"))
    content = (tmp_path / "lungs.npy").read_bytes()
    size = f"({GRID}, {GRID})".encode()
    assert size in content
    np.savez(tmp_path / "h.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "h.npz", "a") as archive:
        archive.writestr("lungs.npy", content.replace(size, shape.encode().ljust(len(size))))
    with pytest.raises(AnatomyError, match="no file of priors") as caught:
        load_priors(tmp_path / "h.npz")
    assert "\n" not in str(caught.value)


def test_the_same_priors_are_read_as_they_were_written(tmp_path):
    packaged(tmp_path)
    found, known = load_priors(tmp_path / "good.npz"), packaged_priors()
    assert found.images == known.images and found.frame == known.frame and np.array_equal(found.lungs, known.lungs)


def test_an_anatomy_is_told_by_its_content(tmp_path):
    packaged(tmp_path)
    first, second = tmp_path / "good.npz", tmp_path / "sub/good.npz"
    second.parent.mkdir()
    shutil.copy(first, second)
    assert anatomy_digest(first) == anatomy_digest(str(second)) != anatomy_digest("prior") == "prior"
    second.write_bytes(second.read_bytes() + b" ")
    assert anatomy_digest(first) != anatomy_digest(second)
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "pseudo_mask_Edema.npy").write_bytes(b"one")
    before = anatomy_digest(masks)
    (masks / "notes.txt").write_text("decides nothing")
    assert anatomy_digest(masks) == before
    (masks / "pseudo_mask_Edema.npy").write_bytes(b"two")
    assert anatomy_digest(masks) != before
