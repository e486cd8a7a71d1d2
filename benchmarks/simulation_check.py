"""Do painted findings look to independent judges like what they are called?

    python benchmarks/simulation_check.py --data DATA --out OUT [--count 20]

DATA is the folder of the open X-rays. Every finding that can be simulated and that the judges know is painted on COUNT
real normals of val patients, as for training, and both judges are asked before and after. They learned from real
disease alone. "real" is the same question about another patient in the same view who really has the finding: what the
rule would say of perfect painting, but for all else in which patients differ.

Prints a Markdown table of counts with 95 % intervals (Wilson), and writes a contact sheet for each finding to OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from first_light import held_out
from markdown_tables import markdown, share

from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation.judges import Judge, load_judge
from instructx2x.evaluation.reporting.strips import strip, write_sheet
from instructx2x.evaluation.scored import GOOD_AUC, log_odds
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.reading import read
from instructx2x.progress import progress
from instructx2x.training.data import load_table
from instructx2x.training.pairs import LABELS
from instructx2x.training.simulation.chest import Chest, find_chest
from instructx2x.training.simulation.lesions import Trait, changed_region, draw, load_outlines, traits

SIZE = 256  # pixels a side, as the pairs of training are painted
LEAST = 0.0008  # training leaves out what shows on a smaller part of the image
SHOWN = 6  # on a contact sheet
JUDGES = {"A": "verifier", "B": "scorer"}

# By judge, (F,) log-odds, or changes of them in units of their spread over val images.
Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Patient:
    """A normal whose lungs are found: its thorax, its view, and what the judges say of it."""

    chest: Chest
    view: str
    scores: Scores


class Panel:
    """Both judges, with the spread of their scores over `files`."""

    def __init__(self, data: Path, files: Sequence[str]) -> None:
        self.data = data
        self.judges: dict[str, Judge] = {letter: load_judge(name) for letter, name in JUDGES.items()}
        found = []
        with progress("judging val images", len(files)) as advance:
            for file in files:
                found.append(self.scores(self.image(file)))
                advance()
        self.spread = {name: np.maximum(np.std([s[name] for s in found], axis=0, ddof=1), 1e-9) for name in JUDGES}

    def image(self, file: str) -> np.ndarray:
        display = read(self.data / file).display()
        return Frame(*display.shape, SIZE).to_model(display)

    def scores(self, image: np.ndarray) -> Scores:
        return {name: log_odds(judge([image])[0]) for name, judge in self.judges.items()}

    def change(self, patient: Patient, image: np.ndarray) -> Scores:
        after = self.scores(image)
        return {name: (after[name] - patient.scores[name]) / self.spread[name] for name in self.judges}

    def patients(self, files: Sequence[str], views: dict[str, str], count: int) -> list[Patient]:
        found = []
        for file in files:
            image = self.image(file)
            chest = find_chest(image)
            if chest is not None:
                found.append(Patient(chest, views[file], self.scores(image)))
            if len(found) == count:
                break
        return found

    def seen(self, finding: str, painted: Sequence[Scores], real: Sequence[Scores]) -> Seen:
        """What the judges see of a finding, painting by painting and real patient by real patient."""

        def of(changes: Sequence[Scores], name: str, judge: Judge) -> list[tuple[bool, bool]]:
            place = judge.findings.index(finding)
            return [(moves(change[name], place), moves_most(change[name], place)) for change in changes]

        instead = {}
        for name, judge in self.judges.items():
            others = (judge.findings[int(np.argmax(change[name]))] for change in painted)
            instead[name] = Counter(other for other in others if other != finding).most_common(2)
        return Seen(
            finding,
            {name: of(painted, name, judge) for name, judge in self.judges.items()},
            {name: [most for _, most in of(real, name, judge)] for name, judge in self.judges.items()},
            instead,
        )

    def rows(self, found: Sequence[Seen]) -> list[list[str]]:
        """The table: each finding by each judge and by both, then all together, then those that a judge tells well."""
        rows = []
        for seen in found:
            for name, judge in self.judges.items():
                instead = ", ".join(f"{other} {count}" for other, count in seen.instead[name]) or "-"
                auc = f"{judge.auc.get(seen.finding, float('nan')):.2f}"
                rows.append([seen.finding, name, auc, *shares(seen.painted[name]), share(seen.real[name]), instead])
            rows.append([seen.finding, "both", "", *shares(seen.both), "", ""])
        for name, judge in self.judges.items():
            rows.append(together("**together**", name, found))
            well = [seen for seen in found if judge.auc.get(seen.finding, 0) >= GOOD_AUC]
            rows.append(together(f"**those with an AUC of {GOOD_AUC}**", name, well))
        return [*rows, ["**together**", "both", "", *shares([pair for seen in found for pair in seen.both]), "", ""]]


@dataclass(frozen=True)
class Seen:
    """What the judges see of one finding.

    Attributes:
        painted: by judge, for each painting whether the finding's score rises, and whether it rises most.
        real: by judge, for each real patient whether it is higher most.
        instead: by judge, what rises most in its place, and how often.
    """

    finding: str
    painted: dict[str, list[tuple[bool, bool]]]
    real: dict[str, list[bool]]
    instead: dict[str, list[tuple[str, int]]]

    @property
    def both(self) -> list[tuple[bool, bool]]:
        """Whether all judges see it rise, and rise most."""
        by_painting = zip(*self.painted.values(), strict=True)
        return [(all(rises for rises, _ in judges), all(most for _, most in judges)) for judges in by_painting]


def together(title: str, judge: str, found: Sequence[Seen]) -> list[str]:
    """The table's row of several findings by one judge."""
    painted = [pair for seen in found for pair in seen.painted[judge]]
    return [title, judge, "", *shares(painted), share(most for seen in found for most in seen.real[judge]), ""]


def moves(change: np.ndarray, index: int) -> bool:
    """Whether a finding's score rises: (F,) changes in units of spread."""
    return bool(change[index] > 0)


def moves_most(change: np.ndarray, index: int) -> bool:
    """Whether a finding's score rises, and more than every other one's."""
    return moves(change, index) and bool((change[index] > np.delete(change, index)).all())


def shares(seen: Sequence[tuple[bool, bool]]) -> tuple[str, str]:
    """How often a finding rises, and rises most, each with its interval."""
    return share(rises for rises, _ in seen), share(most for _, most in seen)


def real_cases(table: pl.DataFrame, finding: str) -> list[str]:
    """The NIH part's val images whose labels say a finding, and perhaps others; one a patient."""
    return held_out(table, "nih", finding=next(word for word, ours in LABELS.items() if ours == finding))


def paint(finding: str, patient: Patient, number: int, known: dict[str, Trait]) -> tuple[str, np.ndarray] | None:
    """The finding on a patient, in words and painted; None where hardly anything shows."""
    lesion = draw(known, np.random.default_rng((SIZE, number)), finding)
    image = lesion.paint(patient.chest, patient.view, known)
    if changed_region(patient.chest.image, image).mean() < LEAST:
        return None
    return " ".join(filter(None, (lesion.level, lesion.side, lesion.zone, finding))), image


def run(data: Path, out: Path, count: int) -> None:
    table = load_table(data)
    known = traits(load_outlines(data))
    views = dict(zip(table["file"], table["view"], strict=True))
    findings = [name for name in known if all(name in load_judge(judge).findings for judge in JUDGES.values())]
    panel = Panel(data, held_out(table, "nih"))
    patients = panel.patients(held_out(table, "nih", exactly="No Finding"), views, count)
    found = []
    with progress("painting", len(findings) * len(patients)) as advance:
        for finding in findings:
            painted, real, strips = [], [], []
            cases = real_cases(table, finding)
            for number, patient in enumerate(patients):
                advance()
                same_view = [file for file in cases if views[file] == patient.view]
                if same_view:
                    real.append(panel.change(patient, panel.image(same_view[number % len(same_view)])))
                made = paint(finding, patient, number, known)
                if made is None:
                    continue
                painted.append(panel.change(patient, made[1]))
                if len(strips) < SHOWN:
                    moved = [f"{n} {painted[-1][n][j.findings.index(finding)]:+.1f}" for n, j in panel.judges.items()]
                    strips.append(strip(f"{made[0]}, {', '.join(moved)}", (patient.chest.image, made[1])))
            found.append(panel.seen(finding, painted, real))
            write_sheet((strips[::2], strips[1::2]), out / f"{finding.replace(' ', '-')}.png")
    header = ["painted", "judge", "its AUC", "rises", "rises most", "real: rises most", "most instead"]
    print("\n" + markdown(header, panel.rows(found)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20, help="normals that each finding is painted on")
    options = parser.parse_args()
    try:
        if options.count < 1:
            raise InputError("--count starts at 1")
        run(options.data, options.out, options.count)
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
