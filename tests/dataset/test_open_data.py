"""The same dataset from open X-rays: every pair of its table is used, or goes for the reason that is plain in it."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from instructx2x.dataset.check import check_dataset
from instructx2x.dataset.images import Preparation, prepare_image
from instructx2x.dataset.open_data import LABELS, build_open
from instructx2x.dataset.output import Images
from instructx2x.dataset.pairs import Rules
from instructx2x.dataset.rejects import Reason
from instructx2x.dataset.table import SCHEMA, edits_from_rows, load_dataset
from instructx2x.errors import InputError, OutputError
from instructx2x.instructions import FINDINGS, Edit, render
from instructx2x.instructions.tokens import MAX_TOKENS, clip_tokens

REAL = Path(__file__).parents[3] / "shared/data/cxr"
SMALL = Images(Preparation(32))

PAIR = {
    "adjacent": "1", "past_followup": "0", "current_followup": "1", "days": "", "past_view": "PA",
    "current_view": "PA", "past_findings": "effusion", "current_findings": "mass", "split": "train",
}  # fmt: skip

CHANGED = "Add the finding of mass. Remove the finding of pleural effusion."

# What differs from PAIR, and what becomes of it: a reason, or the instruction.
CASES = [
    ({}, CHANGED),
    (
        {"past_findings": "No Finding", "current_findings": "Edema|Infiltration"},
        "Add the findings of edema and lung opacity.",
    ),
    ({"past_findings": "edema|fibrosis", "current_findings": "fibrosis"}, "Remove the finding of edema."),
    ({"past_findings": "No Finding", "current_findings": "nodule"}, "Add the finding of nodule."),
    ({"split": "val"}, CHANGED),
    ({"split": "test"}, CHANGED),
    ({"days": "3", "past_followup": "", "current_followup": ""}, CHANGED),
    ({"past_view": "AP", "current_view": "AP"}, CHANGED),
    ({"past_findings": "edema", "current_findings": "fibrosis"}, Reason.UNKNOWN_FINDING),
    ({"past_findings": "edema", "current_findings": "edema"}, Reason.UNCHANGED),
    ({"past_findings": "mass|edema", "current_findings": "edema|mass"}, Reason.UNCHANGED),
    ({"past_followup": "2"}, Reason.REFERENCE_LATER),
    ({"past_followup": "1"}, Reason.SAME_TIME),
    ({"past_followup": ""}, Reason.SAME_TIME),
    ({"days": "0"}, Reason.SAME_TIME),
    ({"days": "-2"}, Reason.REFERENCE_LATER),
    ({"days": "soon", "past_followup": "x"}, Reason.SAME_TIME),
    ({"adjacent": "0"}, Reason.NOT_NEIGHBOURS),
    ({"past_view": "AP"}, Reason.NO_IMAGE_IN_VIEW),
    ({"past_view": "LL", "current_view": "LL"}, Reason.NO_IMAGE_IN_VIEW),
    ({"split": ""}, Reason.NO_SPLIT),
    ({"split": "dev"}, Reason.NO_SPLIT),
    ({"past_id": "nobody"}, Reason.IMAGE_UNUSABLE),
    ({"current_id": "turned"}, Reason.IMAGE_UNUSABLE),
    ({"current_id": "nameless"}, Reason.IMAGE_UNUSABLE),
    ({"current_id": "gone"}, Reason.IMAGE_MISSING),
    ({"current_id": "cut"}, Reason.IMAGE_UNUSABLE),
]  # fmt: skip


@pytest.fixture
def source(tmp_path, make_chest):
    """A folder with the pairs of CASES, a patient each, and images for all."""
    data = tmp_path / "open"
    (data / "images").mkdir(parents=True)
    pairs, images = [], []
    for number, (changed, _) in enumerate(CASES):
        pair = {"past_id": f"p{number}a", "current_id": f"p{number}b", "patient_id": f"p{number}", **PAIR, **changed}
        pairs.append(pair)
        images += [(pair["past_id"], pair["patient_id"]), (pair["current_id"], pair["patient_id"])]
    rows = []
    for number, (name, patient) in enumerate(images):
        path = data / "images" / f"{name}.jpg"
        Image.fromarray(make_chest(70, 60, seed=number)).save(path)
        quality = "rotated" if name == "turned" else "ok"
        if name != "nobody":
            file = "" if name == "nameless" else f"images/{name}.jpg"
            known = {"sex": "F", "age": f"{number}.0"}
            rows.append({"id": name, "patient_id": patient, "file": file, "qc": quality, **known})
    (data / "images/gone.jpg").unlink()
    (data / "images/cut.jpg").write_bytes((data / "images/cut.jpg").read_bytes()[:900])
    rows.append({"id": "p5c", "patient_id": "p5", "file": "images/p5c.jpg", "qc": "ok", "sex": "", "age": ""})
    pl.DataFrame(pairs).write_csv(data / "pairs.csv")
    pl.DataFrame(rows).write_csv(data / "metadata.csv", quote_style="never")
    return data


def test_every_pair_is_used_or_goes_for_its_reason(source, tmp_path):
    out = tmp_path / "out"
    report = build_open(source, out, rules=Rules(views=("PA", "AP")), images=SMALL)
    table, rejects = load_dataset(out), pl.read_parquet(out / "rejects.parquet")
    told = dict(zip(table["subject_id"], table["instruction"], strict=True))
    told |= {patient: Reason(reason) for patient, reason in rejects.select("subject_id", "reason").iter_rows()}
    assert told == {f"p{number}": outcome for number, (_, outcome) in enumerate(CASES)}
    assert report["rows"] == report["difference_rows"] == len(CASES) == report["rows_kept"] + len(rejects)
    assert rejects["row"].to_list() == [n for n, (_, outcome) in enumerate(CASES) if isinstance(outcome, Reason)]
    assert table.schema == SCHEMA and check_dataset(out) == []
    # All images of the test patients, those in no pair included.
    assert (out / "test_images.txt").read_text().split() == ["p5a", "p5b", "p5c"]
    row = table.filter(pl.col("subject_id") == "p1").row(0, named=True)
    assert (row["past_findings"], row["current_findings"], row["days"]) == ([], ["edema", "lung opacity"], None)
    assert (row["sex"], row["age"]) == ("F", 2.0)  # the past image is the third of all
    with Image.open(out / row["past_image"]) as image:
        np.testing.assert_array_equal(np.asarray(image), prepare_image(source / "images/p1a.jpg", SMALL.preparation))


def test_one_view_and_unchanged_pairs(source, tmp_path):
    build_open(source, tmp_path / "out", rules=Rules(unchanged=True), images=Images(None))
    table = load_dataset(tmp_path / "out")
    assert set(table["view"]) == {"PA"}
    empty = table.filter(pl.col("instruction") == "")
    assert set(empty["subject_id"]) == {f"p{n}" for n, (_, outcome) in enumerate(CASES) if outcome is Reason.UNCHANGED}
    assert check_dataset(tmp_path / "out") == []


def test_the_same_again_and_not_in_a_folder_of_another(source, tmp_path):
    out = tmp_path / "out"

    def build(**rules):
        build_open(source, out, rules=Rules(**rules), images=SMALL)
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    first = build()
    (out / "report.json").unlink()
    assert build() == first
    with pytest.raises(OutputError, match="other files or settings"):
        build(unchanged=True)


@pytest.mark.parametrize("rules", [{"version": "v2"}, {"strict": True}])
def test_what_needs_reports_is_refused(source, tmp_path, rules):
    with pytest.raises(InputError, match="need reports"):
        build_open(source, tmp_path / "out", rules=Rules(**rules), images=SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["pairs.csv", "metadata.csv"])
def test_missing_tables_and_columns_are_named(source, tmp_path, name):
    path = source / name
    text = path.read_text()
    column = {"pairs.csv": "adjacent", "metadata.csv": "qc"}[name]
    path.write_text(text.replace(column, "other", 1))
    with pytest.raises(InputError, match=f"{name} has no column {column}"):
        build_open(source, tmp_path / "out", rules=Rules(), images=SMALL)
    path.unlink()
    with pytest.raises(InputError, match=name):
        build_open(source, tmp_path / "out", rules=Rules(), images=SMALL)
    assert not (tmp_path / "out").exists()


def test_every_label_has_its_finding_and_no_instruction_is_too_long():
    assert set(LABELS.values()) <= FINDINGS.keys() and len(set(LABELS.values())) == len(LABELS)
    names = sorted(LABELS.values())
    for cut in range(len(names) + 1):
        edits = [Edit("add", name) for name in names[:cut]] + [Edit("remove", name) for name in names[cut:]]
        assert clip_tokens(render(edits)) <= MAX_TOKENS


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL / "pairs.csv").is_file(), reason="needs the open X-rays of the data folder")
def test_real_follow_ups_make_a_whole_set_of_pairs_to_evaluate_on(tmp_path):
    out = tmp_path / "out"
    report = build_open(REAL, out, rules=Rules(views=("PA", "AP")), images=Images(None))
    table = load_dataset(out)
    assert len(table) == report["rows_kept"] == 192 and set(table["split"]) == {"validate"}
    assert check_dataset(out) == []
    for row in table.iter_rows(named=True):
        edits = edits_from_rows(row["edits"])
        past, current = (set(row[f"{when}_findings"]) for when in ("past", "current"))
        assert {edit.finding for edit in edits if edit.operation == "add"} == current - past
        assert {edit.finding for edit in edits if edit.operation == "remove"} == past - current


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL / "pairs.csv").is_file(), reason="needs the open X-rays of the data folder")
def test_real_images_are_prepared_and_checked(tmp_path):
    data = tmp_path / "some"
    data.mkdir()
    pairs = pl.read_csv(REAL / "pairs.csv", infer_schema=False)
    chosen = pairs.filter(pl.col("adjacent") == "1", pl.col("past_view") == pl.col("current_view")).head(12)
    chosen.write_csv(data / "pairs.csv")
    metadata = pl.read_csv(REAL / "metadata.csv", infer_schema=False)
    metadata.write_csv(data / "metadata.csv")
    for file in metadata.join(chosen, on="patient_id", how="semi")["file"]:
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        (data / file).symlink_to((REAL / file).resolve())
    build_open(data, tmp_path / "out", rules=Rules(views=("PA", "AP"), unchanged=True), images=Images(Preparation(64)))
    table = load_dataset(tmp_path / "out")
    assert len(table) > 6 and check_dataset(tmp_path / "out") == []
    assert len(list((tmp_path / "out/images").iterdir())) == len({*table["past_image"], *table["current_image"]})


@pytest.mark.parametrize("layout", ["plain", "official"])
def test_registered_pairs_lie_on_each_other_and_poor_ones_are_left_out(tmp_path, make_chest, layout):
    pytest.importorskip("SimpleITK", reason="needs the register extra")
    from instructx2x.dataset.registration import MIN_QUALITY

    data, out = tmp_path / "open", tmp_path / "out"
    (data / "images").mkdir(parents=True)
    chest = make_chest(160, 160)
    noise = np.random.default_rng(0).integers(0, 256, chest.shape).astype(np.uint8)
    images = {"a": chest, "b": np.roll(chest, 6, axis=1), "c": noise}
    for name, pixels in images.items():
        Image.fromarray(pixels).save(data / f"images/{name}.png")
    rows = [{"id": name, "patient_id": "p", "file": f"images/{name}.png", "qc": "ok"} for name in images]
    pl.DataFrame(rows).write_csv(data / "metadata.csv")
    pairs = [{**PAIR, "patient_id": "p", "past_id": "b", "current_id": "a"}]
    pairs.append({**pairs[0], "past_id": "c"})
    pl.DataFrame(pairs).write_csv(data / "pairs.csv")
    report = build_open(data, out, rules=Rules(), images=Images(Preparation(160), register=True, layout=layout))
    assert report["rejected"] == {"poor_registration": 1} and check_dataset(out) == []
    row = load_dataset(out).row(0, named=True)
    assert row["registration"] > MIN_QUALITY
    past, current = (np.asarray(Image.open(out / row[f"{when}_image"])).astype(float) for when in ("past", "current"))
    inside = np.s_[20:-20, 20:-20]
    assert np.abs(past - current)[inside].mean() < np.abs(images["b"] - current)[inside].mean() / 3
    assert Path(row["past_image"]).parts == ("past" if layout == "official" else "registered", "b__a.png")
    if layout == "official":
        assert not any(path.stem == "b" for path in (out / "past").iterdir())


def test_registration_without_its_library_is_refused_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"instructx2x\[register\]"):
        Images(register=True)


UNSAFE = ["../../escaped", "/tmp/escaped", "a/b", "a\\b", "..", "nul\0byte", "NUL", "con.png"]
UNSAFE += ["x" * 101, "line\nbreak", ".x2x-claim"]


@pytest.mark.parametrize("layout", ["plain", "official"])
@pytest.mark.parametrize("unsafe", UNSAFE)
def test_an_id_that_cannot_name_a_file_is_refused(unsafe, layout, tmp_path, make_chest):
    data = tmp_path / "deep/er/data"
    data.mkdir(parents=True)
    Image.fromarray(make_chest()).save(data / "a.png")
    for past, current, known in ((unsafe, "00000001_001", unsafe), ("00000001_000", unsafe, "00000001_000")):
        rows = [{"id": known, "patient_id": "1", "file": "a.png", "qc": "ok"}]
        rows += [{"id": current, "patient_id": "1", "file": "a.png", "qc": "ok"}]
        pl.DataFrame(rows).write_csv(data / "metadata.csv")
        pl.DataFrame([PAIR | {"past_id": past, "current_id": current, "patient_id": "1"}]).write_csv(data / "pairs.csv")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError, match=r"row 1: .*cannot name a file") as caught:
            build_open(data, tmp_path / "out/put", rules=Rules(), images=Images(Preparation(32), layout=layout))
        assert "\n" not in str(caught.value) and sorted(tmp_path.rglob("*")) == before


def test_the_data_folder_is_no_output(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "pairs.csv").write_text("x")
    for out in (data, tmp_path, data / "."):
        with pytest.raises(OutputError, match="input"):
            build_open(data, out, rules=Rules(), images=SMALL)
    assert [path.name for path in data.iterdir()] == ["pairs.csv"]
