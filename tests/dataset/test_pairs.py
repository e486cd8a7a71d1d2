"""From rows to pairs: every row gives exactly the edits that truly happened, or goes for a fitting reason."""

import copy
import re
from collections import Counter

import polars as pl
import pytest
import synthetic_mimic as synthetic

from instructx2x.dataset.answers import parse_answer
from instructx2x.dataset.changes import edits_of, fitting
from instructx2x.dataset.records import Instance, Record
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.dataset.table import edits_from_rows
from instructx2x.instructions import FINDINGS, Edit, Operation, parse, render
from instructx2x.instructions.tokens import MAX_TOKENS, clip_tokens

OFF = "off the scale"
SEVERITY = {
    **{word: word for word in ("mild", "moderate", "severe", "small", "minimal", "subtle", "massive", "minor")},
    **{word: word for word in ("moderate to severe", "mild to moderate", "moderate to large")},
    **{"moderately": "moderate", "mildly": "mild", "minimally": "minimal", "small moderate": "small to moderate"},
    **{"increasing": None, "decreasing": None, "acute": None, "mild acute": "mild", "mild severe": OFF},
}
"""What every stored level is worth, written down by hand; None where it is no severity."""

FITTING = {
    "the answer cannot be read": {"malformed_answer", "unknown_finding", "unknown_level", "contradiction"},
    "nothing has changed": {"unchanged"},
    "an area row, and a study is not in all_diseases.json": {"area_row_without_record"},
    "levels are ambiguous, and a study is not in all_diseases.json": {"ambiguous_level"},
    "main and reference are one study": {"same_time"},
    "main and reference are of two patients": {"other_patient"},
    "a study is not in the metadata": {"unknown_study"},
    "the reference is not earlier": {"reference_later", "same_time"},
    "a study has no PA image": {"no_image_in_view"},
    "a study's PA image is missing or cannot be read": {"image_missing", "image_unusable"},
    "an earlier row gives the sample of this pair": {"duplicate_row"},
}
"""What the truth says of a dropped row, and what the builder may call it."""


def expected(row):
    """The edits of version 1 that a row must give; or the reason why its levels give none."""
    edits = []
    for change in row.operations:
        before, after = (level and SEVERITY[level] for level in (change.before, change.after))
        if OFF in (before, after):
            return "level_off_scale"
        if change.operation != "change":
            edits.append(Edit(change.operation, change.finding))
        elif before != after and before and after and FINDINGS[change.finding].has_level:
            edits.append(Edit("change", change.finding, level=after, from_level=before))
    return edits or "no_severity"


def samples(built):
    """(study, reference) -> the edits of the pair, its parts in order."""
    found = {}
    for row in built.table.sort("part").iter_rows(named=True):
        pair = int(row["current_study_id"]), int(row["past_study_id"])
        found.setdefault(pair, []).extend(edits_from_rows(row["edits"]))
    return found


def reasons(built):
    """(study, reference) -> the reasons of its rejected rows."""
    found = {}
    for row in built.rejects.iter_rows(named=True):
        found.setdefault((int(row["current_study_id"]), int(row["past_study_id"])), []).append(row["reason"])
    return found


def check_samples(mimic, built, *, strict=False):
    """Every pair of the truth is there with its edits, and no other."""
    found, gone = samples(built), reasons(built)
    shared = Counter(row.pair for row in mimic.rows)
    for pair, row in mimic.kept().items():
        edits = expected(row)
        if strict and isinstance(edits, list):
            edits = [e for e in edits if e.operation != "remove" or e.finding in row.confirmed] or {
                "unconfirmed_removal"
            }
        if isinstance(edits, list):
            assert pair in found, (row, gone.get(pair))
            assert len(set(found[pair])) == len(found[pair])
            # Of several rows of a pair, another than the truth's may give its sample: same edits, its own order.
            assert found[pair] == edits if shared[pair] == 1 else set(found[pair]) == set(edits), row
        else:
            assert pair not in found and set(gone[pair]) <= {*([edits] if isinstance(edits, str) else edits)}, row
    assert set(found) <= set(mimic.kept())
    for row in mimic.rows:
        if row.operations is None and row.pair not in mimic.kept():
            fits = set().union(*(FITTING[reason] for reason in row.reasons))
            if "off_scale" in row.traps:
                fits |= {"level_off_scale", "no_severity"}
            if "ambiguous_json_silent" in row.traps:
                fits |= {"ambiguous_level"}
            assert set(gone[row.pair]) <= fits, row
    return found


def check_counts(mimic, built):
    """Each row of the source is kept or rejected, and counted once."""
    report, table, rejects = built.report, built.table, built.rejects
    kept = table.select("current_study_id", "past_study_id").unique().height
    assert report["difference_rows"] == len(mimic.rows) == report["rows_kept"] + len(rejects)
    assert report["rows_kept"] == kept and rejects["row"].is_sorted() and rejects["row"].is_unique().all()
    assert report["rejected"] == dict(Counter(rejects["reason"]))
    assert report["instructions"] == len(table) == sum(each["instructions"] for each in report["splits"].values())
    studies = {str(study): patient.subject_id for study, patient in mimic.studies.items()}
    answers = Counter((str(row.study_id), str(row.ref_id), row.answer) for row in mimic.rows)
    answers -= Counter(rejects.select("current_study_id", "past_study_id", pl.col("text")).iter_rows())
    assert {pair[:2] for pair in answers} == set(table.select("current_study_id", "past_study_id").iter_rows())
    for row in table.iter_rows(named=True):
        assert {str(studies[row["past_study_id"]]), str(studies[row["current_study_id"]])} == {row["subject_id"]}


def dicoms(study, view="PA"):
    return {picture.dicom_id for picture in study.pictures if picture.view == view}


# version 1


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_row_gives_what_truly_changed_or_goes_for_a_fitting_reason(seeded_mimics, build_tables, which):
    mimic = seeded_mimics[which]
    built = build_tables(mimic, long="keep")
    assert len(check_samples(mimic, built)) > 110
    check_counts(mimic, built)


def test_images_are_never_swapped_and_words_are_canonical(seeded_mimics, build_tables):
    mimic = seeded_mimics[0]
    built = build_tables(mimic, long="keep")
    for row in built.table.iter_rows(named=True):
        past, current = (mimic.studies[int(row[f"{when}_study_id"])] for when in ("past", "current"))
        assert row["past_dicom_id"] in dicoms(past) and row["current_dicom_id"] in dicoms(current)
        assert (past.date, float(past.time or 0)) < (current.date, float(current.time or 240000))
        assert row["days"] > 0 and row["view"] == "PA"
        edits = edits_from_rows(row["edits"])
        assert parse(row["instruction"]) == edits and render(edits) == row["instruction"]
        assert row["tokens"] == clip_tokens(row["instruction"])
        for study, column in ((past, "past_findings"), (current, "current_findings")):
            said = [name.strip() for name in study.entity] if study.in_json else None
            assert row[column] == said


def test_the_largest_image_stands_for_a_study_and_among_equals_the_first(seeded_mimics, build_tables):
    mimic = seeded_mimics[0]
    table = build_tables(mimic).table
    several = 0
    for study, dicom in {*table.select("past_study_id", "past_dicom_id").iter_rows()}:
        shots = [picture for picture in mimic.studies[int(study)].pictures if picture.view == "PA"]
        several += len(shots) > 1
        assert dicom == min(shots, key=lambda shot: (-shot.height * shot.width, shot.dicom_id)).dicom_id
    assert several > 3


def test_strict_removes_only_what_the_later_report_denies(seeded_mimics, build_tables):
    for mimic in seeded_mimics[:2]:
        built = build_tables(mimic, strict=True, long="keep")
        check_samples(mimic, built, strict=True)
        check_counts(mimic, built)
        kept = mimic.kept()
        removed = 0
        for pair, edits in samples(built).items():
            gone = {edit.finding for edit in edits if edit.operation is Operation.REMOVE}
            removed += len(gone)
            assert gone <= kept[pair].confirmed
        assert removed > 20 and built.report["clauses_left_out"]["unconfirmed_removal"] > 10


def test_unchanged_pairs_can_be_kept(seeded_mimics, build_tables):
    mimic = seeded_mimics[0]
    dropped, kept = build_tables(mimic), build_tables(mimic, unchanged=True)
    empty = kept.table.filter(pl.col("instruction") == "")
    assert len(empty) == dropped.report["rejected"]["unchanged"] > 3 and "unchanged" not in kept.report["rejected"]
    assert empty["edits"].list.len().sum() == 0 and set(empty["tokens"]) == {2}
    assert kept.table.filter(pl.col("instruction") != "").equals(dropped.table)


@pytest.mark.parametrize("view", ["AP", "PA"])
def test_both_images_are_of_one_view_and_the_first_one_asked_for_wins(seeded_mimics, build_tables, view):
    mimic = seeded_mimics[0]
    other = {"AP": "PA", "PA": "AP"}[view]
    both, one = build_tables(mimic, views=(view, other)), build_tables(mimic, views=(view,))
    assert set(both.table["view"]) == {"PA", "AP"} and set(one.table["view"]) == {view}
    assert both.table.filter(pl.col("view") == view).equals(one.table)
    for row in both.table.iter_rows(named=True):
        for when in ("past", "current"):
            study = mimic.studies[int(row[f"{when}_study_id"])]
            assert row[f"{when}_dicom_id"] in dicoms(study, row["view"])


# long instructions


def test_long_instructions_are_dropped_kept_or_divided(build_tables, tmp_path):
    mimic = synthetic.write_questions_at_scale(tmp_path / "scale", rows=1500, difference=1500)
    built = {how: build_tables(mimic, long=how, version="v2") for how in ("drop", "keep", "split")}
    long = built["keep"].table.filter(pl.col("tokens") > MAX_TOKENS)
    assert len(long) == built["keep"].report["instructions_over_77_tokens"] > 0
    assert {one.report["instructions_too_long"] for one in built.values()} == {len(long)}
    assert built["drop"].report["rejected"]["too_long"] == len(long)
    assert (
        built["drop"].report["instructions_over_77_tokens"] == built["split"].report["instructions_over_77_tokens"] == 0
    )
    assert samples(built["split"]) == samples(built["keep"])
    for one in built.values():
        assert one.report["rows_kept"] + len(one.rejects) == 1500
    for row in long.iter_rows(named=True):
        same = pl.col("current_study_id") == row["current_study_id"], pl.col("past_study_id") == row["past_study_id"]
        parts = built["split"].table.filter(*same).sort("part")
        assert parts["part"].to_list() == list(range(1, len(parts) + 1)) and set(parts["parts"]) == {len(parts)}
        assert len(parts) > 1 and parts["tokens"].max() <= MAX_TOKENS
        assert [edit for part in parts["edits"] for edit in part] == row["edits"]
        assert built["drop"].table.filter(*same).is_empty()


def test_parts_are_as_few_as_their_order_allows():
    edits = [Edit("add", name, "left", level="mild") for name, f in FINDINGS.items() if f.has_side and f.has_level]
    parts = fitting(edits)
    assert [edit for part in parts for edit in part] == edits and len(parts) > 1
    for part, after in zip(parts, [*parts[1:], ()], strict=True):
        assert clip_tokens(render(part)) <= MAX_TOKENS
        assert not after or clip_tokens(render((*part, after[0]))) > MAX_TOKENS


# version 2

SIDES = {
    "left": {"left"}, "right": {"right"}, "bilateral": {"left", "right"}, "bibasilar": {"left", "right"},
    "bases": {"left", "right"}, "lungs": {"left", "right"},
}  # fmt: skip
ZONES = {
    "lower": "lower", "middle": "middle", "mid": "middle", "upper": "upper", "base": "basal", "bases": "basal",
    "basal": "basal", "basilar": "basal", "bibasilar": "basal", "apical": "apical", "apicolateral": "apical",
    "retrocardiac": "retrocardiac",
}  # fmt: skip


def stated(mention, second):
    """What one mention of a stored finding says: (sides, zones, severity)."""
    end = "2" if second else ""
    phrase = mention[f"post_location{end}"] or ""
    words = [*(mention[f"location{end}"] or ()), *re.findall("[a-z]+", phrase)]
    sides, level = set().union(*(SIDES.get(word, set()) for word in words)), " ".join(mention[f"level{end}"] or ())
    return sides, {ZONES[word] for word in words if word in ZONES}, (SEVERITY | {"": None})[level]


@pytest.mark.parametrize("which", [0, 1])
def test_version_2_carries_the_true_sides_zones_and_levels(seeded_mimics, build_tables, which):
    mimic = seeded_mimics[which]
    plain, built = (build_tables(mimic, version=version, long="keep") for version in ("v1", "v2"))
    check_counts(mimic, built)
    simple, placed, kept = samples(plain), samples(built), mimic.kept()
    assert simple.keys() == placed.keys()
    said = Counter()
    for pair, edits in placed.items():
        row = kept[pair]
        assert list(dict.fromkeys((e.operation, e.finding) for e in edits)) == [
            (e.operation, e.finding) for e in simple[pair]
        ]
        for operation, name in dict.fromkeys((e.operation, e.finding) for e in edits):
            study = row.reference if operation is Operation.REMOVE else row.main
            mine = [e for e in edits if e.finding == name]
            if not study.in_json:
                assert operation is Operation.CHANGE or mine == [Edit(operation, name)]
                continue
            mention = study.entity[synthetic.STORED.get(name, name)]
            told = [stated(mention, False)]
            if any(mention[f"{key}2"] for key in ("location", "level", "post_location")):
                told += [stated(mention, True)] * (operation is not Operation.CHANGE)
            finding = FINDINGS[name]
            sides = set().union(*(sides for sides, _, _ in told)) if finding.has_side else set()
            found = set().union(*(SIDES[e.side] for e in mine if e.side))
            zones = set().union(*(zones for _, zones, _ in told)) if finding.has_zone else set()
            levels = {level for _, _, level in told} - {None, OFF} if finding.has_level else set()
            assert found == sides, (row, mine)
            # Zones may only be left out where several sides and several zones cannot be put together.
            assert {e.zone for e in mine} - {None} == zones or (len(sides) == 2 and len(zones) > 1), (row, mine)
            if operation is not Operation.CHANGE:
                assert {e.level for e in mine} - {None} == levels or len(told) == 2, (row, mine)
                if len(mine) == len(told) == 2 and finding.has_level:
                    for edit, (at, _, level) in zip(mine, told, strict=True):
                        assert (edit.level, SIDES[edit.side]) == (None if level == OFF else level, at), (row, mine)
            said.update(side=bool(found), zone=bool(zones), level=bool(levels), two=len(mine) > 1)
    assert min(said["side"], said["zone"], said["level"], said["two"]) > 8, said
    assert sum(built.report["sides"].values()) == sum(e.side is not None for edits in placed.values() for e in edits)


def test_a_second_mention_comes_with_its_own_side_and_level(mimic, build_tables):
    (row,) = mimic.with_trap("words_of_additions")
    built = build_tables(mimic, version="v2", long="keep")
    assert [edit for edit in samples(built)[row.pair] if edit.finding == "pleural effusion"] == [
        Edit("add", "pleural effusion", "left", level="small"),
        Edit("add", "pleural effusion", "right", level="moderate"),
    ]


def test_a_level_with_two_readings_goes_where_the_records_bear_out_both_or_neither():
    answer = parse_answer(synthetic.answer([("edema", "mild", "moderate to severe")]))

    def record(*levels):
        return Record({"edema": tuple(Instance((level,), ()) for level in levels)}, frozenset())

    one = edits_of(answer, record("severe"), record("mild to moderate"))
    assert one == (Edit("change", "edema", level="severe", from_level="mild to moderate"),)
    for main, reference in (
        (record("moderate to severe", "severe"), record("mild", "mild to moderate")),
        (record("severe"), record("mild")),
        (None, record("mild")),
    ):
        with pytest.raises(Rejected) as caught:
            edits_of(answer, main, reference)
        assert caught.value.reason is Reason.AMBIGUOUS_LEVEL


# one pair, several rows


def test_area_rows_are_rebuilt_and_counted(seeded_mimics, build_tables):
    mimic = seeded_mimics[0]
    built = build_tables(mimic, long="keep")
    alone = [pair for pair, number in Counter(row.pair for row in mimic.rows).items() if number == 1]
    rows = [mimic.kept()[pair] for pair in alone if pair in mimic.kept()]
    assert built.report["area_rows_rebuilt"] >= sum(set(row.answered) < set(row.operations) for row in rows) > 2
    for trap in ("area_of_a_side", "area_ambiguous", "area_of_several_words", "stale_whole_question"):
        (row,) = mimic.with_trap(trap)
        assert len(row.operations) > 1 and samples(built)[row.pair] == expected(row)


def test_an_area_row_against_its_records_goes(seeded_mimics, build_tables, tmp_path):
    """The same files, but with a record that says otherwise: the row must go, as it cannot be rebuilt."""
    (row,) = seeded_mimics[0].with_trap("area_of_a_side")
    mimic = copy.copy(seeded_mimics[0])
    object.__setattr__(mimic, "diff_vqa", tmp_path / "changed")
    mimic.diff_vqa.mkdir()
    questions = (seeded_mimics[0].diff_vqa / "mimic_pair_questions.csv").read_text()
    (mimic.diff_vqa / "mimic_pair_questions.csv").write_text(questions)
    text = (seeded_mimics[0].diff_vqa / "all_diseases.json").read_text()
    start = text.index(f'"study_id": "{row.study_id}"')
    changed = text[:start] + text[start:].replace('"moderate"', '"massive"', 1)
    (mimic.diff_vqa / "all_diseases.json").write_text(changed)
    assert reasons(build_tables(mimic))[row.pair] == ["area_row_disagrees"]


def test_rows_of_one_pair_that_contradict_each_other_go_unless_the_records_decide(mimic, build_tables, tmp_path):
    (row,) = mimic.with_trap("plain")
    questions = (mimic.diff_vqa / "mimic_pair_questions.csv").read_text()
    line = next(each for each in questions.splitlines() if row.answer in each and str(row.study_id) in each)
    other = line.replace(row.answer, synthetic.answer([], [], ["fracture"]))
    third = line.replace(row.answer, synthetic.answer([], [], ["thymoma"]))
    assert len({line, other, third}) == 3
    for rows, verdict in (
        ([other, line], ["duplicate_row"]),
        ([other, third], ["conflicting_rows", "conflicting_rows"]),
    ):
        changed = copy.copy(mimic)
        object.__setattr__(changed, "diff_vqa", tmp_path / verdict[0])
        changed.diff_vqa.mkdir()
        text = questions.replace(line, "\n".join(rows))
        (changed.diff_vqa / "mimic_pair_questions.csv").write_text(text)
        (changed.diff_vqa / "all_diseases.json").write_bytes((mimic.diff_vqa / "all_diseases.json").read_bytes())
        built = build_tables(changed)
        assert reasons(built)[row.pair] == verdict
        assert samples(built).get(row.pair) == (expected(row) if len(verdict) == 1 else None)


def test_every_reason_has_its_words():
    assert len({reason.explanation for reason in Reason}) == len(Reason)
