"""Sex and age of the patients, from MIMIC-IV's table or the open one, as far as the cases of an evaluation."""

import gzip
import math
from datetime import datetime

import polars as pl
import pytest

from instructx2x.dataset.build import build
from instructx2x.dataset.check import check_dataset
from instructx2x.dataset.images import Preparation
from instructx2x.dataset.mimic import find_sources, read_metadata
from instructx2x.dataset.output import Images
from instructx2x.dataset.pairs import Rules
from instructx2x.dataset.people import HIDDEN_AGE, Person, read_patients
from instructx2x.dataset.table import load_dataset
from instructx2x.errors import InputError
from instructx2x.evaluation.cases import read_cases

HEADER = "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod\n"
JULY = datetime(2155, 7, 1)


@pytest.mark.parametrize(
    ("line", "sex", "age"),
    [
        ("F,60,2153", "F", 62),
        ("m,60,2160", "M", 55),
        ("F,91,2100", "F", HIDDEN_AGE),
        ("F,91,2190", "F", HIDDEN_AGE),
        ("F,30,2190", "F", None),
        ("M,89,2100", "M", None),
        ("?,60,2155", None, 60),
        ("F,,2155", "F", None),
        ("F,60,", "F", None),
        ("F,old,2155", "F", None),
        ("F,nan,2155", "F", None),
    ],
)
def test_ages_are_counted_from_the_anchor_year(tmp_path, line, sex, age):
    path = tmp_path / "patients.csv"
    path.write_text(f"{HEADER}10000001,{line},2008 - 2010,\n")
    person = read_patients(path)["10000001"]
    assert (person.sex, person.age(JULY)) == (sex, age)


def studies_of(mimic):
    return read_metadata(find_sources(mimic.diff_vqa, mimic.cxr_jpg).metadata).studies


def write_patients(path, mimic):
    """Every second patient of a synthetic MIMIC, 50 years old on the day of the first study."""
    first = {}
    for study in sorted(studies_of(mimic).values(), key=lambda study: study.date):
        first.setdefault(study.subject_id, study.date)
    known = sorted(first)[::2]
    lines = [f"{subject},{'FM'[int(subject) % 2]},50,{first[subject].year},,\n" for subject in known]
    path.write_bytes(gzip.compress((HEADER + "".join(lines)).encode()))
    return {subject: first[subject] for subject in known}


def test_mimics_patients_reach_the_cases(mimic, with_images, tmp_path):
    path, out = tmp_path / "patients.csv.gz", tmp_path / "out"
    known = write_patients(path, mimic)
    images = Images(Preparation(32))
    report = build(mimic.diff_vqa, mimic.cxr_jpg, out, rules=Rules(), images=images, patients=path)
    table = load_dataset(out)
    assert check_dataset(out) == [] and report["settings"]["inputs"][-1]["file"] == "patients.csv.gz"
    # Nothing else has changed, and without the table nothing is known.
    assert table.drop("sex", "age").equals(with_images.table.drop("sex", "age"))
    assert with_images.table["sex"].null_count() == with_images.table["age"].null_count() == len(table)
    studies = studies_of(mimic)
    there = 0
    for row in table.iter_rows(named=True):
        subject = row["subject_id"]
        if subject not in known:
            assert row["sex"] is row["age"] is None
            continue
        there += 1
        assert row["sex"] == "FM"[int(subject) % 2]
        assert row["age"] == 50 + studies[row["past_study_id"]].date.year - known[subject].year
    assert 0 < there < len(table)
    cases = read_cases(out, split="train")
    rows = table.filter((pl.col("split") == "train") & (pl.col("instruction") != ""))
    assert [case.sex for case in cases] == [sex or "" for sex in rows["sex"]]
    for case, age in zip(cases, rows["age"], strict=True):
        assert math.isnan(case.age) if age is None else case.age == age


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{HEADER}1,F,60,2150,,\n", "knows none of the patients: give hosp/patients.csv.gz"),
        ("subject_id,gender\n1,F\n", "has no column anchor_age, anchor_year"),
        (None, "cannot be read"),
    ],
)
def test_a_table_of_others_is_refused_before_the_images(mimic, tmp_path, text, reason):
    path, out = tmp_path / "patients.csv", tmp_path / "out"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=reason):
        build(mimic.diff_vqa, mimic.cxr_jpg, out, rules=Rules(), images=Images(Preparation(32)), patients=path)
    assert not (out / "images").exists()


def test_nobody_is_guessed():
    assert Person(None, None, None).age(JULY) is None
