"""Who the patients are: sex and age, for audits by group. Never a condition of an edit, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from instructx2x.columns import read_columns

PATIENT_COLUMNS = ("subject_id", "gender", "anchor_age", "anchor_year")
SEXES = ("F", "M")
OLDEST = 130  # years
# MIMIC-IV says 91 of everybody who was older than 89 in the anchor year.
HIDDEN_AGE = 91.0


@dataclass(frozen=True)
class Person:
    """A patient of MIMIC-IV.

    Attributes:
        sex: "F", "M", or None where it is not known.
        anchor_age: years in the anchor year, or HIDDEN_AGE; None where it is not known.
        anchor_year: on the patient's own shifted calendar, which is that of the study dates too.
    """

    sex: str | None
    anchor_age: float | None
    anchor_year: float | None

    def age(self, date: datetime) -> float | None:
        """Years at a date, within one; HIDDEN_AGE whatever the date for those whose age is hidden; or None."""
        if self.anchor_age == HIDDEN_AGE:
            return HIDDEN_AGE
        if self.anchor_age is None or self.anchor_year is None:
            return None
        return plausible_age(self.anchor_age + date.year - self.anchor_year)


NOBODY = Person(None, None, None)


def plausible_sex(text: str | None) -> str | None:
    """A person's sex as a table says it, "F" or "M"; None for anything else."""
    sex = (text or "").strip().upper()
    return sex if sex in SEXES else None


def plausible_age(years: float | None) -> float | None:
    """Years; None for what nobody's age can be."""
    return years if years is not None and 0 <= years <= OLDEST else None


def read_patients(path: Path) -> dict[str, Person]:
    """The patients of MIMIC-IV's `hosp/patients.csv`, as it is or with .gz, by subject_id.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    table = read_columns(path, PATIENT_COLUMNS).with_columns(
        pl.col("anchor_age", "anchor_year").cast(pl.Float64, strict=False)
    )
    return {
        subject: Person(plausible_sex(gender), plausible_age(age), year)
        for subject, gender, age, year in table.iter_rows()
        if subject is not None
    }
