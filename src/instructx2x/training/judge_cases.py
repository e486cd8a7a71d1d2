"""What the judges learn from and are measured on: who is in which half, and what is known of each picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from instructx2x.evaluation.judges.judge import AGE_CENTRE, AGE_SPREAD
from instructx2x.training.pairs import spoken

FINDINGS = (
    "pleural effusion",
    "cardiomegaly",
    "edema",
    "consolidation",
    "pneumonia",
    "lung opacity",
    "atelectasis",
    "pneumothorax",
    "nodule",
    "mass",
    "pleural thickening",
)
HALF = {"scorer": 0, "verifier": 1}


@dataclass(frozen=True)
class Cases:
    """Pictures with what is known of them.

    Attributes:
        images: (N, S, S) uint8.
        files: (N,) where the pictures themselves are.
        targets: (N, outputs) float32: 0 or 1 a finding and for "female", standardised for "age"; NaN is unknown.
        views: (N,) "PA" or "AP".
        patients: (N,) patient identifiers.
    """

    images: np.ndarray
    files: np.ndarray
    targets: np.ndarray
    views: np.ndarray
    patients: np.ndarray

    def take(self, rows: np.ndarray) -> Cases:
        """The cases at some indices or where a mask is set."""
        return Cases(self.images[rows], self.files[rows], self.targets[rows], self.views[rows], self.patients[rows])


def outputs_of(judge: str) -> tuple[str, ...]:
    """What a judge answers."""
    return ("female", "age") if judge == "demographics" else FINDINGS


def halves(table: pl.DataFrame, seed: int) -> dict[str, int]:
    """Deal the train patients of NIH into two halves: patient -> 0 (scorer) or 1 (verifier).

    Patients are shuffled, put in order of the rarest finding they ever have, and dealt in turn, so that both halves
    have nearly as many of each.
    """
    rows = table.filter((pl.col("group") == "nih") & (pl.col("split") == "train"))
    found: dict[str, set[str]] = {}
    for patient, findings in rows.select("patient_id", "findings").iter_rows():
        found.setdefault(patient, set()).update(spoken(findings))
    counts = {finding: sum(finding in has for has in found.values()) for finding in FINDINGS}
    patients = np.random.default_rng(seed).permutation(sorted(found))
    rarest = [min((counts[f] for f in found[patient] if f in counts), default=len(found)) for patient in patients]
    order = np.argsort(rarest, kind="stable")
    return {str(patients[place]): number % 2 for number, place in enumerate(order)}


def cases(judge: str, data: Path, table: pl.DataFrame, images: np.ndarray, split: str) -> Cases:
    """What a judge can learn from or be measured on: adults of a split, for findings and on val those of NIH."""
    groups = ["nih", "han", "coh"] if judge == "demographics" and split == "train" else ["nih"]
    chosen = table["group"].is_in(groups) & (table["split"] == split) & table["view"].is_in(["PA", "AP"])
    rows = np.flatnonzero(chosen.to_numpy())
    kept = table[rows]
    if judge == "demographics":
        age = kept["age"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        sex = kept["sex"].replace_strict({"F": 1.0, "M": 0.0}, default=None).fill_null(np.nan).to_numpy()
        targets = np.stack([sex, (age - AGE_CENTRE) / AGE_SPREAD], 1)
    else:
        targets = np.array([[f in spoken(findings) for f in FINDINGS] for findings in kept["findings"]])
    return Cases(
        np.asarray(images[rows]),
        np.array([data / file for file in kept["file"]]),
        targets.astype(np.float32),
        kept["view"].to_numpy(),
        kept["patient_id"].to_numpy(),
    )
