"""The tables alone, at the size of the real ones."""

import datetime
import itertools
import json
import random
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from .answers import COMMON, NAMES, STORED, answer
from .studies import (
    METADATA_COLUMNS,
    ORIENTATION,
    PROCEDURE,
    QUESTION_COLUMNS,
    VIEW_MEANING,
    Entity,
    difference,
    entity,
    random_entity,
    study_id_of,
    write_table,
)


class Tables(NamedTuple):
    """Two folders of tables, and what was counted while they were written (clauses as the answers have them)."""

    diff_vqa: Path
    cxr_jpg: Path
    counts: dict[str, int]


PUBLISHED = {"difference": 32_761, "unchanged": 4_544, "additional": 20_316, "missing": 19_921, "level": 1_759}
"""Difference rows of validation + test, and the clauses in them."""
PUBLISHED_KINDS = {
    "abnormality": 145_421, "presence": 155_726, "view": 56_265, "location": 84_193, "level": 67_296, "type": 27_478,
}  # fmt: skip
"""Rows of the other question types in the whole table."""
_SCALE_LEVELS = (
    ["mild"],
    ["moderate"],
    ["severe"],
    ["small"],
    ["minimal"],
    ["moderate to severe"],
    ["subtle"],
    ["massive"],
)
_PLACE = {name: place for place, name in enumerate(NAMES)}

Shape = tuple[int, int, int]  # how many levels change, findings come, findings go


def write_questions_at_scale(folder: Path, *, seed: int = 0, rows: int = 700_703, difference: int = 164_324) -> Tables:
    """Write the tables (questions, all_diseases.json, metadata, split; no images) at the size of MIMIC, for benchmarks.

    With the default numbers there are about 65,000 patients with 229,000 studies, each study after a patient's first
    asked about against the one before; clauses have nearly the published shares (rows about one area drop a few).
    """
    rng = np.random.default_rng(seed)
    patients = max(1, round(difference * 0.396))
    share = rng.gamma(0.45, size=patients)
    sizes = 1 + rng.multinomial(difference, share / share.sum())
    return _write_tables(
        folder, seed, sizes.tolist(), _shapes(random.Random(f"scale {seed}"), difference), rows - difference
    )


def write_published_statistics(folder: Path, *, seed: int = 0) -> Tables:
    """Write tables whose difference rows have exactly the published counts, a median of 2 and at most 10 findings.

    Every row is a pair of its own patient, well formed, in the order of time, agrees with all_diseases.json, is about
    the whole image, has levels that are on the scale and can be told apart, and a PA image on both sides.
    """
    shapes = _shapes(random.Random(f"published {seed}"), PUBLISHED["difference"])
    return _write_tables(folder, seed, [2] * len(shapes), shapes, 0, plain=True)


def _shapes(rng: random.Random, rows: int) -> list[Shape]:
    """What changes in each of so many rows, in the published shares."""
    counts = {name: round(rows * number / PUBLISHED["difference"]) for name, number in PUBLISHED.items()}
    two_levels = counts["level"] // 20
    level_rows = counts["level"] - two_levels
    alone = level_rows * 7 // 10
    changed = rows - counts["unchanged"] - alone
    both = counts["additional"] + counts["missing"] - changed
    sizes = (1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4, 5)
    shapes = [(0, rng.choice(sizes), rng.choice(sizes)) for _ in range(both)]
    shapes += [(0, rng.choice(sizes), 0) for _ in range(counts["additional"] - both)]
    shapes += [(0, 0, rng.choice(sizes)) for _ in range(counts["missing"] - both)]
    rng.shuffle(shapes)
    shapes = [(1, min(a, 4), min(m, 4)) if i < level_rows - alone else (0, a, m) for i, (_, a, m) in enumerate(shapes)]
    shapes += [(2 if i < two_levels else 1, 0, 0) for i in range(alone)] + [(0, 0, 0)] * counts["unchanged"]
    rng.shuffle(shapes)
    return shapes


class _Findings:
    """Draws studies that differ as a shape says, from a fixed stock of findings with their JSON text."""

    def __init__(self, rng: random.Random, plain: bool):
        self.rng, self.plain = rng, plain
        self.stock = {name: [self._one(name, i) for i in range(24)] for name in NAMES}
        self.levelled = {name: [one for one in stock if one["level"]] for name, stock in self.stock.items()}
        self.text = {
            id(one): textwrap.indent(json.dumps({one["entity_name"]: one}, indent=4)[2:-2], " " * 8)
            for stock in self.stock.values()
            for one in stock
        }
        self.weights = list(itertools.accumulate(COMMON.values()))

    def _one(self, name: str, number: int) -> dict:
        """A finding; in a plain table one with a level has no place, so that no row is about an area."""
        if not self.plain:
            return random_entity(self.rng, name)
        if number < len(_SCALE_LEVELS):
            return entity(name, _SCALE_LEVELS[number])
        return random_entity(self.rng, name) | {"level": None}

    def names(self, n: int, without: Collection[str] = ()) -> list[str]:
        """`n` different names, common ones more often."""
        drawn: dict[str, None] = {}
        while len(drawn) < n:
            name = self.rng.choices(NAMES, cum_weights=self.weights)[0]
            if name not in without:
                drawn[name] = None
        return list(drawn)

    def first(self, shape: Shape) -> Entity:
        """A study to which a shape of change can be applied."""
        levels, _, missing = shape
        names = self.names(levels + missing + self.rng.choice((0, 0, 1, 1, 2)))
        return self._sorted(
            {n: self.rng.choice((self.levelled if i < levels else self.stock)[n]) for i, n in enumerate(names)}
        )

    def after(self, reference: Entity, shape: Shape) -> Entity | None:
        """The next study, or None where the reference does not have what the shape takes."""
        rng, (levels, added, missing) = self.rng, shape
        names = {stored.strip(): one for stored, one in reference.items()}
        graded = [name for name, one in names.items() if one["level"]]
        if len(graded) < levels or len(names) < levels + missing or len(names) - missing + added > 14:
            return None
        main = dict(names)
        for name in rng.sample(graded, levels):
            main[name] = rng.choice([one for one in self.levelled[name] if one["level"] != names[name]["level"]])
        for name in rng.sample([name for name in names if main[name] is names[name]], missing):
            del main[name]
        return self._sorted(main | {name: rng.choice(self.stock[name]) for name in self.names(added, names)})

    def _sorted(self, findings: Entity) -> Entity:
        return {STORED.get(name, name): findings[name] for name in sorted(findings, key=_PLACE.__getitem__)}

    def record(self, subject: int, study: int, findings: Entity, denied: Sequence[str]) -> str:
        """One study as json.dump(..., indent=4) writes it inside a list."""
        entities = ",\n".join(self.text[id(one)] for one in findings.values())
        denials = ",\n".join(f'            "{name}"' for name in denied)
        return (
            f'    {{\n        "study_id": "{study}",\n        "subject_id": "{subject}",\n'
            f'        "entity": {{{entities and chr(10) + entities + chr(10) + " " * 8}}},\n'
            f'        "no_entity": [{denials and chr(10) + denials + chr(10) + " " * 8}]\n    }}'
        )


def _next(source: _Findings, reference: Entity, shapes: list[Shape]) -> Entity:
    """The next study, by the last shape that the reference allows, which is taken off the list."""
    for at in range(len(shapes) - 1, max(-1, len(shapes) - 60), -1):
        main = source.after(reference, shapes[at])
        if main is not None:
            del shapes[at]
            return main
    return source.after(reference, (0, 1, 0)) or reference


_SHOTS = (
    (("PA", "LATERAL"), 38),
    (("AP",), 42),
    (("PA",), 7),
    (("PA", "LL"), 6),
    (("AP", "LATERAL"), 3),
    (("",), 3),
    (("LL",), 1),
)
_DATES = [int(f"{datetime.date(2105, 1, 1) + datetime.timedelta(days):%Y%m%d}") for days in range(36_000)]


def _write_tables(
    folder: Path, seed: int, sizes: list[int], shapes: list[Shape], others: int, plain: bool = False
) -> Tables:
    """Patients with so many studies each, and a difference row for every study but a patient's first."""
    diff_vqa, cxr_jpg = folder / "DIFF_VQA", folder / "MIMIC_CXR_JPG"
    diff_vqa.mkdir(parents=True)
    cxr_jpg.mkdir(parents=True)
    rng = random.Random(f"tables {seed}")
    source = _Findings(rng, plain)
    pairs, shapes = len(shapes), list(shapes)
    kinds = rng.choices(list(PUBLISHED_KINDS), list(PUBLISHED_KINDS.values()), k=others)
    counts = dict.fromkeys(PUBLISHED, 0) | {"patients": len(sizes), "studies": sum(sizes)}
    rows: list[tuple] = []
    studies: list[tuple[int, int, int]] = []
    with open(diff_vqa / "all_diseases.json", "w", buffering=1 << 20) as file:
        for patient, size in enumerate(sizes):
            subject = 10_000_000 + 9_900_000 // len(sizes) * patient
            day, reference, ref_id = rng.randrange(20_000), {}, 0
            for number in range(size):
                study_id, denied = study_id_of(len(studies)), []
                if number == 0:
                    main = source.first(shapes[-1] if size > 1 and shapes else (0, 0, rng.randrange(4)))
                else:
                    main = _next(source, reference, shapes)
                    denied = [name for name in reference if name not in main and rng.random() < 0.4]
                    found = difference(main, reference, rng.sample(list(main), len(main)))
                    done = counts["difference"]
                    for kind in kinds[others * done // pairs : others * (done + 1) // pairs]:
                        asked = _asked(kind, main)
                        rows.append(
                            (study_id, subject, ref_id, kind, *asked, rng.choice(("train", "train", "val", "test")))
                        )
                    split = (
                        ("val", "test")[patient % 2] if plain else rng.choices(("train", "val", "test"), (8, 1, 1))[0]
                    )
                    text = answer(found.levels, found.added, found.missing)
                    rows.append((study_id, subject, ref_id, "difference", found.question, text, split))
                    tally = {"difference": 1, "unchanged": not any(found[1:4]), "level": len(found.levels)}
                    tally |= {"additional": bool(found.added), "missing": bool(found.missing)}
                    for name, many in tally.items():
                        counts[name] += many
                denied += [
                    name for name in ("pneumothorax", "pleural effusion") if name not in main and name not in denied
                ]
                file.write(",\n" if studies else "[\n")
                file.write(source.record(subject, study_id, main, denied))
                studies.append((subject, study_id, _DATES[day]))
                day, reference, ref_id = day + rng.randrange(1, 200), main, study_id
        file.write("\n]")
    table = pl.DataFrame(rows, schema=list(QUESTION_COLUMNS), orient="row")
    table.write_csv(diff_vqa / "mimic_pair_questions.csv")
    _write_images_tables(cxr_jpg, seed, studies, plain)
    return Tables(diff_vqa, cxr_jpg, counts)


def _asked(kind: str, findings: Entity) -> tuple[str, str]:
    """A question of another kind about a study, and its answer."""
    name = next(iter(findings), "edema")
    return {
        "abnormality": ("what abnormalities are seen in this image?", ", ".join(findings) or "no"),
        "presence": (f"is there evidence of {name} in this image?", "yes" if findings else "no"),
        "view": ("which view is this image taken?", "PA view"),
        "location": (f"where is the {name}?", "left lung area"),
        "level": (f"what level is the {name}?", "moderate to severe"),
        "type": (f"what type is the {name}?", "layering"),
    }[kind]


def _write_images_tables(cxr_jpg: Path, seed: int, studies: list[tuple[int, int, int]], plain: bool) -> None:
    """Metadata and splits of one to two images a study; a plain table has a PA image in each."""
    rng = np.random.default_rng([seed, 1])
    choices = [(shots, weight) for shots, weight in _SHOTS if not plain or "PA" in shots]
    weights = np.array([weight for _, weight in choices], float)
    drawn = rng.choice(len(choices), size=len(studies), p=weights / weights.sum())
    views = [choices[i][0] for i in drawn]
    of = np.repeat(np.arange(len(studies)), [len(shots) for shots in views])
    ids = np.array(studies, dtype=np.int64).reshape(-1, 3)[of]
    digits = rng.bytes(20 * len(of)).hex()
    hours, minutes, seconds = (rng.integers(0, top, size=len(studies))[of] for top in (24, 60, 60))
    split = rng.choice(["train", "validate", "test"], size=int(ids[:, 0].max()) // 150 + 1, p=[0.96, 0.01, 0.03])
    frame = pl.DataFrame(
        {
            "dicom_id": [
                "-".join(digits[i + k : i + k + 8] for k in range(0, 40, 8)) for i in range(0, len(digits), 40)
            ],
            "subject_id": ids[:, 0],
            "study_id": ids[:, 1],
            "ViewPosition": [view for shots in views for view in shots],
            "Rows": rng.choice([2544, 3056, 2022], size=len(of)),
            "Columns": rng.choice([3056, 2544, 1736], size=len(of)),
            "StudyDate": ids[:, 2],
            "StudyTime": 10_000.0 * hours
            + 100 * minutes
            + seconds
            + rng.choice([0, 0.5, 0.531, 0.968], size=len(studies))[of],
            "split": split[ids[:, 0] // 150],
        }
    )
    view = pl.col("ViewPosition")
    frame = frame.with_columns(
        view.replace_strict(PROCEDURE).alias("PerformedProcedureStepDescription"),
        view.replace_strict(PROCEDURE).alias("ProcedureCodeSequence_CodeMeaning"),
        view.replace_strict(VIEW_MEANING).alias("ViewCodeSequence_CodeMeaning"),
        view.replace_strict(ORIENTATION).alias("PatientOrientationCodeSequence_CodeMeaning"),
    )
    for name, columns in (("metadata", METADATA_COLUMNS), ("split", ("dicom_id", "study_id", "subject_id", "split"))):
        text = frame.select(columns).write_csv(quote_style="necessary")
        write_table(cxr_jpg / f"mimic-cxr-2.0.0-{name}.csv.gz", text.encode())
