"""Is the synthetic MIMIC what it says it is? Checked with a strict grammar of its own, and with what lies on disk."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
import synthetic_mimic as synthetic
from PIL import Image

from instructx2x.instructions.vocabulary import PAPER_FINDINGS

NAME = "(?:" + "|".join(sorted(PAPER_FINDINGS, key=len, reverse=True)) + ")"
LEVEL = "(?:" + "|".join(synthetic.STORED_LEVELS) + ")"
LEVELS = f"{LEVEL}(?: {LEVEL})*"
LIST = rf"(?:(?:{NAME}|and {NAME}),? ?)+"
END = "than the reference image."
GRAMMAR = re.compile(
    rf"nothing has changed\.|(?=.)(?:the level of {NAME} has changed from {LEVELS} to {LEVELS}\. ?)*"
    rf"(?:the main image has (?:an additional finding|additional findings) of {LIST} ?{END} ?)?"
    rf"(?:the main image is missing the (?:finding|findings) of {LIST} ?{END} ?)?"
)


def tidy(text: str) -> str:
    """An answer in lower case with single spaces, and none before a stop."""
    return re.sub(r" (?=[.,])", "", re.sub(" +", " ", text.lower())).strip()


@pytest.fixture(scope="module")
def cases():
    return list(synthetic.generated_answers(6000, seed=3))


@pytest.fixture(scope="module")
def mimic(tmp_path_factory):
    return synthetic.write_mimic(tmp_path_factory.mktemp("mimic"), seed=1)


def questions(tables) -> pl.DataFrame:
    return pl.read_csv(tables.diff_vqa / "mimic_pair_questions.csv")


def metadata(tables) -> pl.DataFrame:
    return pl.read_csv(tables.cxr_jpg / "mimic-cxr-2.0.0-metadata.csv.gz")


def diseases(tables) -> list[dict]:
    return json.loads((tables.diff_vqa / "all_diseases.json").read_text())


def test_answers_are_written_as_published():
    assert synthetic.answer() == "nothing has changed."
    assert synthetic.answer([("edema", "mild", "moderate to severe")], ["hernia"], ["pneumonia", "fracture"]) == (
        "the level of edema has changed from mild to moderate to severe. "
        "the main image has an additional finding of hernia than the reference image. "
        "the main image is missing the findings of pneumonia, and fracture than the reference image. "
    )
    twice = synthetic.answer((), ["pneumonia", "lung opacity", "pneumonia"])
    assert "additional findings of and pneumonia lung opacity, and pneumonia than" in twice
    spaced = synthetic.answer((), [], ["edema", *synthetic.STORED.values()])
    assert "edema, and tortuosity of the descending aorta  than" in spaced


def test_cases_repeat_for_a_seed_and_hold_every_kind(cases):
    assert cases == list(synthetic.generated_answers(6000, seed=3))
    assert cases != list(synthetic.generated_answers(6000, seed=4))
    kinds = {"plain", "unchanged", "duplicates", "ambiguous", "added_and_missing", "junk"}
    assert {case.kind for case in cases} == kinds | {*synthetic.MEANING_KEPT, *synthetic.MEANING_LOST}


def test_what_can_be_read_fits_the_grammar_and_what_cannot_does_not(cases):
    for case in cases:
        fits = GRAMMAR.fullmatch(tidy(case.text))
        if case.kind == "added_and_missing":
            _, added, missing = (re.findall(NAME, part) for part in re.split("main image", case.text.lower())[-3:])
            assert case.truth is None and set(added) & set(missing)
        else:
            assert (fits is not None) == (case.truth is not None), case


def test_truth_says_the_answer_again(cases):
    for case in cases:
        if case.truth is None or case.kind == "duplicates":
            continue
        assert tidy(synthetic.answer(*case.truth)) == tidy(case.text), case
    for case in cases:
        if case.kind == "duplicates":
            _, added, missing = case.truth
            body = case.text.split("the main image", 1)
            assert set(re.findall(NAME, body[-1])) == {*added, *missing} or not (added or missing)
            assert len({*added}) == len(added) and len({*missing}) == len(missing)


def test_ambiguous_means_more_than_one_way_to_split(cases):
    for case in (case for case in cases if case.truth):
        ways = [len(synthetic.splits(old, new)) for _, old, new in case.truth[0]]
        assert case.ambiguous == any(n > 1 for n in ways) and all(ways)
    assert synthetic.splits("mild", "moderate to severe") == [
        ("mild", "moderate to severe"),
        ("mild to moderate", "severe"),
    ]
    assert synthetic.splits("moderate to severe", "moderate") == [("moderate to severe", "moderate")]


def test_the_same_seed_writes_the_same_bytes(mimic, tmp_path):
    again = synthetic.write_mimic(tmp_path, seed=1)

    def content(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    assert content(mimic.diff_vqa.parent) == content(tmp_path)
    assert [row.operations for row in again.rows] == [row.operations for row in mimic.rows]


def test_rows_of_the_table_are_the_rows_of_the_truth(mimic):
    table = questions(mimic)
    assert table.columns == ["study_id", "subject_id", "ref_id", "question_type", "question", "answer", "split"]
    assert set(table["question_type"]) == {"abnormality", "presence", "view", "location", "level", "type", "difference"}
    rows = table.filter(pl.col("question_type") == "difference").fill_null("")
    assert rows.select("study_id", "ref_id", "answer", "split").rows() == [
        (row.study_id, row.ref_id, row.answer, row.split) for row in mimic.rows
    ]


def test_operations_turn_the_reference_into_the_main_study(mimic):
    assert len(mimic.kept()) > 60
    for row in mimic.kept().values():
        before, after = (
            {name.strip(): one for name, one in study.entity.items()} for study in (row.reference, row.main)
        )
        by = {kind: [c for c in row.operations if c.operation == kind] for kind in ("add", "remove", "change")}
        gone = {change.finding for change in by["remove"]}
        assert (set(before) | {change.finding for change in by["add"]}) - gone == set(after)
        for change in by["change"]:
            assert change.before == " ".join(before[change.finding]["level"])
            assert change.after == " ".join(after[change.finding]["level"])
        assert row.confirmed == gone & set(row.main.no_entity)


@pytest.mark.parametrize(
    ("trap", "kept"),
    [
        ("plain", True), ("unchanged", False), ("duplicate_list", True), ("blank", False), ("unicode", False),
        ("truncated", False), ("long", True), ("ambiguous_resolved", True), ("ambiguous_unresolved", False),
        ("area_of_a_side", True), ("area_not_in_json", False), ("reference_later", False), ("tied", False),
        ("past_midnight", True), ("past_midnight_reversed", False), ("before_ten", True),
        ("empty_time_same_day", False), ("other_patient", False), ("same_study", False), ("not_in_metadata", False),
        ("not_in_json", True), ("two_pa", True), ("ap_only", False), ("lateral_only", False), ("missing_jpeg", False),
        ("truncated_jpeg", False), ("one_of_two_missing", True), ("second_side_changed", False),
        ("removal_unconfirmed", True),
    ],
)  # fmt: skip
def test_every_trap_is_there_with_its_verdict(mimic, trap, kept):
    rows = mimic.with_trap(trap)
    assert rows and all((row.operations is not None) == kept == (not row.reasons) for row in rows)


def test_area_rows_say_less_than_is_true_and_rows_of_one_pair_give_one_sample(mimic):
    (row,) = mimic.with_trap("area_of_a_side")
    assert len(row.answered) == 1 and set(row.answered) < set(row.operations)
    for trap in ("area_after_whole", "area_before_whole", "duplicate_row"):
        first, second = mimic.with_trap(trap)
        assert first.pair == second.pair and first.operations and second.operations is None


def test_files_lie_where_the_tables_say(mimic):
    table = metadata(mimic)
    assert tuple(table.columns) == synthetic.METADATA_COLUMNS and table["StudyTime"].dtype == pl.Float64
    listed = {study.study_id for study in mimic.studies.values() if study.in_json}
    assert {int(record["study_id"]) for record in diseases(mimic)} == listed
    states, folders = set(), set()
    for study in mimic.studies.values():
        for picture in study.pictures:
            subject = f"p{study.subject_id}"
            path = mimic.cxr_jpg / "files" / subject[:3] / subject / f"s{study.study_id}" / f"{picture.dicom_id}.jpg"
            assert path.exists() == (picture.state != "missing")
            states.add(picture.state)
            folders.add(subject[:3])
            if picture.state == "truncated":
                with pytest.raises(OSError):
                    Image.open(path).load()
            elif picture.state == "ok":
                image = Image.open(path)
                image.load()
                assert (image.mode, image.size) == ("L", (picture.width, picture.height))
                assert picture.height != picture.width
    assert states == {"ok", "missing", "truncated"} and folders == {f"p1{i}" for i in range(10)}


def test_too_few_patients_for_the_traps_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="patients"):
        synthetic.write_mimic(tmp_path, patients=10)
    assert not list(tmp_path.iterdir())


def check_tables(tables) -> pl.DataFrame:
    """The difference rows of tables at scale, every seventh checked against what is stored about its two studies."""
    text = (tables.diff_vqa / "all_diseases.json").read_text()
    records = {int(record["study_id"]): record for record in json.loads(text)}
    assert text.startswith(json.dumps(list(records.values())[:40], indent=4)[:-2])
    rows = questions(tables).filter(pl.col("question_type") == "difference")
    order = metadata(tables).unique("study_id").select("study_id", "StudyDate")
    names_in = re.compile(NAME)
    clause = re.compile("(level|additional|missing)(.*?)(?:changed|than)")
    for main, reference, answer, question in (
        rows.select("study_id", "ref_id", "answer", "question").gather_every(7).rows()
    ):
        new, old = records[main]["entity"], records[reference]["entity"]
        both = (name for name in new if name in old and new[name]["level"] and old[name]["level"])
        true = {("level", name.strip()) for name in both if new[name]["level"] != old[name]["level"]}
        levels = set(true)
        true |= {("additional", name.strip()) for name in set(new) - set(old)}
        true |= {("missing", name.strip()) for name in set(old) - set(new)}
        said = {(kind, name) for kind, names in clause.findall(answer) for name in names_in.findall(names)}
        assert said == true or (question != synthetic.WHOLE and len(said) == 1 and said <= levels)
        assert not set(records[main]["no_entity"]) & set(new)
    dated = rows.join(order, "study_id").join(order, left_on="ref_id", right_on="study_id", suffix="_ref")
    assert (dated["StudyDate_ref"] < dated["StudyDate"]).all() and len(dated) == len(rows)
    assert rows.select("study_id", "ref_id").is_unique().all()
    return rows


@pytest.mark.ci
def test_published_statistics_are_exact(published):
    rows = check_tables(published)
    said = rows["answer"].str
    counted = {
        "difference": len(rows),
        "unchanged": int((rows["answer"] == "nothing has changed.").sum()),
        "additional": int(said.count_matches("has (an )?additional finding").sum()),
        "missing": int(said.count_matches("is missing the finding").sum()),
        "level": int(said.count_matches("the level of").sum()),
    }
    assert counted == {name: published.counts[name] for name in counted} == synthetic.PUBLISHED
    findings = said.count_matches(NAME)
    assert findings.median() == 2 and findings.filter(findings > 0).median() == 2 and findings.max() == 10
    with_pa = set(metadata(published).filter(pl.col("ViewPosition") == "PA")["study_id"])
    assert {*rows["study_id"], *rows["ref_id"]} <= with_pa and set(rows["split"]) == {"val", "test"}
    assert set(rows["question"]) == {synthetic.WHOLE}


def test_questions_at_scale_have_the_rows_asked_for(tmp_path):
    tables = synthetic.write_questions_at_scale(tmp_path, seed=2, rows=5000, difference=1200)
    assert len(questions(tables)) == 5000
    assert len(check_tables(tables)) == tables.counts["difference"] == 1200
    for name, number in synthetic.PUBLISHED.items():
        assert abs(tables.counts[name] / 1200 - number / 32_761) < 0.02
