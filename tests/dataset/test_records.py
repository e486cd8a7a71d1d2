"""all_diseases.json: read in pieces as if at once, compared as the published answers do, in our language's words."""

import gzip
import json

import pytest
import synthetic_mimic as synthetic

from instructx2x.dataset import records
from instructx2x.dataset.answers import LEVEL_WORDS, parse_answer
from instructx2x.dataset.records import NO_SEVERITY, Instance, difference, places, read_records, severity
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.errors import InputError
from instructx2x.instructions import FINDINGS, LEVELS, Edit, Operation, parse, render


@pytest.fixture(scope="module")
def path(mimic):
    return mimic.diff_vqa / "all_diseases.json"


@pytest.fixture(scope="module")
def stored(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def read(path, stored):
    return read_records(path, {entry["study_id"] for entry in stored})


# reading


def test_records_hold_what_the_file_says(read, stored):
    assert len(read) == len(stored) > 200
    for entry in stored:
        record = read[entry["study_id"]]
        assert list(record.findings) == [name.strip() for name in entry["entity"]]
        assert record.absent == {name.strip() for name in entry["no_entity"]}
        for mention, (first, *second) in zip(entry["entity"].values(), record.findings.values(), strict=True):
            phrase = (mention["post_location"] or "").split()
            assert first == Instance(tuple(mention["level"] or ()), (*(mention["location"] or ()), *phrase))
            words = tuple(mention["level2"] or ()), tuple(mention["location2"] or ())
            assert [(one.levels, one.location) for one in second] == ([words] if any(words) else [])


@pytest.mark.parametrize("chunk", [997, 1024, 1531, 4093, 65536])
@pytest.mark.parametrize("layout", [{"indent": 4}, {"separators": (",", ":")}, {"indent": "\t", "ensure_ascii": False}])
def test_records_may_be_cut_anywhere(read, stored, tmp_path, monkeypatch, chunk, layout):
    path = tmp_path / "records.json"
    path.write_text(" \n" + json.dumps(stored, **layout) + "\n", encoding="utf-8")
    monkeypatch.setattr(records, "_CHUNK", chunk)
    assert read_records(path, read.keys()) == read


def test_every_cut_of_a_short_file(tmp_path, monkeypatch, stored):
    path = tmp_path / "records.json"
    path.write_text(json.dumps(stored[:3], indent=1))
    expected = read_records(path, {entry["study_id"] for entry in stored[:3]})
    assert len(expected) == 3
    size = path.stat().st_size
    for chunk in range(-(-size // 4), size + 2, 7):
        monkeypatch.setattr(records, "_CHUNK", chunk)
        assert read_records(path, expected.keys()) == expected


def test_compressed_and_wanted_only(read, path, tmp_path):
    packed = tmp_path / "all_diseases.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert read_records(packed, read.keys()) == read
    some = set(list(read)[::7])
    assert read_records(path, some) == {study: read[study] for study in read if study in some}
    assert read_records(path, {"1"}) == {}


def test_an_s_before_the_id_and_an_empty_list(tmp_path, stored):
    path = tmp_path / "records.json"
    path.write_text(json.dumps([stored[0] | {"study_id": f"s{stored[0]['study_id']}"}]))
    assert list(read_records(path, {stored[0]["study_id"]})) == [stored[0]["study_id"]]
    path.write_text("[]")
    assert read_records(path, {"1"}) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"   ", b"{}", b"null", b"[", b"[{}", b"[1, 2]", b"[{}]", b"[[]]", b'["a"]', b"[NaN]", b"\xff\xfe[]",
        b'[{"study_id": "1"}]', b'[{"study_id": "1", "entity": [], "no_entity": []}]',
        b'[{"study_id": "1", "entity": {"edema": {}}, "no_entity": []}]',
        b'[{"study_id": "1", "entity": {"edema": null}, "no_entity": []}]',
        b'[{"study_id": "1", "entity": {}, "no_entity": null}]',
        b'[{"study_id": "1", "entity": {}, "no_entity": [["edema"]]}]',
        b"[" * 200_000, b'[{"a":' * 100_000, b"[" + b"9" * 10_000 + b"]",
    ],
    ids=lambda content: repr(content[:50]),
)  # fmt: skip
def test_what_is_no_list_of_records_is_refused_in_one_line(tmp_path, content):
    for name, data in (("records.json", content), ("records.json.gz", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"^[^\n]*is not the list of records[^\n]*$"):
            read_records(path, {"1"})


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_files_cut_short_are_refused(path, tmp_path, share):
    data = path.read_bytes()
    packed = gzip.compress(data, 1)
    for name, whole in (("records.json", data), ("records.json.gz", packed)):
        short = tmp_path / name
        short.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError):
            read_records(short, {"1"})


def test_damage_inside_a_compressed_file_is_refused(path, tmp_path):
    packed = bytearray(gzip.compress(path.read_bytes(), 6))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "records.json.gz").write_bytes(packed)
    with pytest.raises(InputError):
        read_records(tmp_path / "records.json.gz", {"1"})


# comparing


def test_differences_of_records_are_those_of_the_truth(mimic, read):
    """Each row whose answer is whole says what its two records say, but for the order."""
    compared, partial = 0, {"area", "stale_whole_question", "ambiguous_json_silent"}
    for row in mimic.rows:
        both = [read.get(str(study.study_id)) for study in (row.main, row.reference)]
        if row.answered is None or None in both or partial & row.traps:
            continue
        told = difference(*both)
        said = parse_answer(row.answer)
        assert (set(told.additional), set(told.missing)) == (set(said.additional), set(said.missing)), row
        assert {clause.finding for clause in told.levels} == {clause.finding for clause in said.levels}
        for clause in told.levels:
            (read_clause,) = (other for other in said.levels if other.finding == clause.finding)
            assert clause.readings[0] in read_clause.readings
        compared += 1
    assert compared > 100


def test_infection_and_pneumonia_are_one():
    def record(*names):
        return records.Record({name: (Instance((), ()),) for name in names}, frozenset())

    assert difference(record("infection"), record("pneumonia")).unchanged
    assert difference(record("infection", "edema"), record("pneumonia")).additional == ("edema",)


# severity

SEVERITIES = {
    "moderately": "moderate", "moderate": "moderate", "acute": None, "mildly": "mild", "mild": "mild",
    "small": "small", "severe": "severe", "moderate to large": "moderate to large",
    "moderate to severe": "moderate to severe", "mild to moderate": "mild to moderate", "minimal": "minimal",
    "subtle": "subtle", "massive": "massive", "minimally": "minimal", "increasing": None, "decreasing": None,
    "minor": "minor",
}  # fmt: skip


def test_every_level_word_has_its_place_on_the_scale():
    assert set(SEVERITIES) == set(synthetic.STORED_LEVELS) == set(LEVEL_WORDS)
    for word, expected in SEVERITIES.items():
        assert severity([word]) == expected
        for other in NO_SEVERITY:
            assert severity([other, word]) == severity([word, other]) == expected


@pytest.mark.parametrize("words", [["small", "moderate"], ["mildly", "moderate"], ["moderate", "moderately"], []])
def test_words_that_make_one_level(words):
    made = {("small", "moderate"): "small to moderate", ("mildly", "moderate"): "mild to moderate"}
    assert severity(words) == made.get(tuple(words), "moderate" if words else None)


@pytest.mark.parametrize("words", [["mild", "severe"], ["severe", "mild"], ["small", "moderate", "massive"], ["vast"]])
def test_words_that_make_none(words):
    with pytest.raises(Rejected) as caught:
        severity(words)
    assert caught.value.reason is Reason.LEVEL_OFF_SCALE


# places

# What each stored place means, written down by hand: (words, phrase) -> pairs of side and zone.
MEANT = {
    "left": [("left", None)],
    "right": [("right", None)],
    "bilateral": [("bilateral", None)],
    "bibasilar": [("bilateral", "basal")],
    "left lower lung": [("left", "lower")],
    "right lower lung": [("right", "lower")],
    "right middle to lower": [("right", "middle"), ("right", "lower")],
    "left lung base": [("left", "basal")],
    "retrocardiac": [(None, "retrocardiac")],
    "left right": [("bilateral", None)],
    "basilar": [(None, "basal")],
    "right upper lung": [("right", "upper")],
    "apical": [(None, "apical")],
    "left apical": [("left", "apical")],
    "right apicolateral": [("right", "apical")],
    "left basal": [("left", "basal")],
    "the right lower lung": [("right", "lower")],
    "the left lung base": [("left", "basal")],
    "the right lung base": [("right", "basal")],
    "the lung bases": [("bilateral", "basal")],
    "the upper lungs": [("bilateral", "upper")],
    "the apical area": [(None, "apical")],
    "the soft tissues": [(None, None)],
    "the medial left lung base": [("left", "basal")],
    "the right mid to lower hemithorax": [("right", "middle"), ("right", "lower")],
    "the lower and probably also middle lobe": [(None, "lower"), (None, "middle")],
    "the left upper lung": [("left", "upper")],
    "the right middle lung": [("right", "middle")],
    "right-sided": [("right", None)],
    "left-sided pleural": [("left", None)],
    "left rib": [("left", None)],
    "mid": [(None, "middle")],
    "lower lobes": [("bilateral", "lower")],
    "the left apical region": [("left", "apical")],
    "pericardial": [(None, None)],
    "left upper right lower": [("bilateral", None)],
}


def test_places_mean_what_they_say():
    stored = {*map(" ".join, synthetic.LOCATIONS), *synthetic.POST_LOCATIONS}
    assert stored <= set(MEANT)
    for words, meant in MEANT.items():
        assert places(Instance((), tuple(words.split())), "pneumonia") == meant, words


def test_every_place_and_severity_can_be_said_of_every_finding():
    """Whatever the records hold becomes edits that are rendered and read back."""
    for name, finding in FINDINGS.items():
        for words in MEANT:
            found = places(Instance((), tuple(words.split())), name)
            assert len(set(found)) == len(found) >= 1
            assert all(
                (finding.has_side or side is None) and (finding.has_zone or zone is None) for side, zone in found
            )
            for operation in (Operation.ADD, Operation.REMOVE):
                edits = tuple(Edit(operation, name, side, zone) for side, zone in found)
                assert parse(render(edits)) == edits
        for word, level in SEVERITIES.items():
            if level is not None and finding.has_level:
                other = next(each for each in LEVELS if each != severity([word]))
                for edits in (
                    (Edit(Operation.ADD, name, level=level),),
                    (Edit(Operation.CHANGE, name, level=level, from_level=other),),
                    (Edit(Operation.CHANGE, name, level=other, from_level=level),),
                ):
                    assert parse(render(edits)) == edits
