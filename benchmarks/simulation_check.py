"""Do painted findings look to independent judges like what they are called?

    python benchmarks/simulation_check.py --data DATA --out OUT [--count 20]

DATA is the folder of the open X-rays. Every finding that can be simulated and that the judges know is painted on COUNT
real normals of val patients, as for training, and both judges are asked before and after. The judges learned from real
disease alone. Prints a Markdown table of counts with 95 % intervals (Wilson), and writes a contact sheet a finding to
OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from first_light import held_out
from quality.measures import log_odds, markdown, moves, moves_most, share
from quality.records import strip, write_sheet

from instructx2x.anatomy.lungs import segment_lungs
from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation.judges import Judge, load_judge
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.reading import read
from instructx2x.progress import progress
from instructx2x.training.data import load_table
from instructx2x.training.simulation.chest import Chest
from instructx2x.training.simulation.lesions import Trait, changed_region, draw, load_outlines, traits

SIZE = 256  # pixels a side, as the pairs of training are painted
LEAST = 0.0008  # training leaves out what shows on a smaller part of the image
SHOWN = 6  # on a contact sheet
JUDGES = ("verifier", "scorer")


def square(path: Path) -> np.ndarray:
    display = read(path).display()
    return Frame(*display.shape, SIZE).to_model(display)


def chests(data: Path, table: pl.DataFrame, count: int) -> list[tuple[Chest, str]]:
    """Normals whose lungs are found, with their view."""
    views, found = dict(zip(table["file"], table["view"], strict=True)), []
    for file in held_out(table, "nih", exactly="No Finding"):
        image = square(data / file)
        lungs = segment_lungs(image)
        if lungs.plausible:
            found.append((Chest(image, {"right": lungs.right, "left": lungs.left}), views[file]))
        if len(found) == count:
            break
    return found


def spreads(judges: Sequence[Judge], images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each judge's standard deviation of log-odds over the images, (F,)."""
    scores: list[list[np.ndarray]] = [[] for _ in judges]
    with progress("judging val images", len(images)) as advance:
        for image in images:
            for judge, found in zip(judges, scores, strict=True):
                found.append(log_odds(judge([image])[0]))
            advance()
    return [np.maximum(np.std(found, axis=0, ddof=1), 1e-9) for found in scores]


def paint(finding: str, patients: Sequence[tuple[Chest, str]], known: dict[str, Trait]) -> list[tuple[str, np.ndarray]]:
    """The finding on every patient: a title and the painted image."""
    found = []
    for number, (chest, view) in enumerate(patients):
        lesion = draw(known, np.random.default_rng((SIZE, number)), finding)
        words = " ".join(filter(None, (lesion.level, lesion.side, lesion.zone, finding)))
        found.append((f"{words} ({view})", lesion.paint(chest, view, known)))
    return found


def changes(
    judges: Sequence[Judge], spread: Sequence[np.ndarray], before: np.ndarray, after: np.ndarray
) -> list[np.ndarray]:
    """Each judge's change of log-odds in units of its spread, (F,)."""
    answers = [log_odds(judge([before, after])) for judge in judges]
    return [(found[1] - found[0]) / unit for found, unit in zip(answers, spread, strict=True)]


def run(data: Path, out: Path, count: int) -> None:
    table = load_table(data)
    judges = [load_judge(name) for name in JUDGES]
    known = traits(load_outlines(data))
    findings = [finding for finding in known if all(finding in judge.findings for judge in judges)]
    patients = chests(data, table, count)
    spread = spreads(judges, [square(data / file) for file in held_out(table, "nih")])
    rows, all_hits = [], []
    with progress("painting", len(findings) * len(patients)) as advance:
        for finding in findings:
            hits, instead, strips = [], [Counter() for _ in judges], []
            for (chest, _), (title, image) in zip(patients, paint(finding, patients, known), strict=True):
                advance()
                if changed_region(chest.image, image).mean() < LEAST:
                    continue
                moved = changes(judges, spread, chest.image, image)
                places = [judge.findings.index(finding) for judge in judges]
                rises = [moves(change, place) for change, place in zip(moved, places, strict=True)]
                most = [moves_most(change, place) for change, place in zip(moved, places, strict=True)]
                hits.append((*rises, *most, all(most)))
                for judge, change, first, tally in zip(judges, moved, most, instead, strict=True):
                    tally.update([] if first else [judge.findings[int(np.argmax(change))]])
                told = ", ".join(f"{change[place]:+.1f}" for change, place in zip(moved, places, strict=True))
                strips.append(strip(f"{title}: {told} spreads", (chest.image, image)))
            columns = list(zip(*hits, strict=True)) or [()] * 5
            others = "; ".join(", ".join(f"{name} {n}" for name, n in c.most_common(2)) or "-" for c in instead)
            rows.append([finding, *(f"{judge.auc.get(finding, float('nan')):.2f}" for judge in judges)])
            rows[-1] += [*map(share, columns), others]
            all_hits += hits
            shown = strips[:SHOWN]
            write_sheet((shown[::2], shown[1::2]), out / f"{finding.replace(' ', '-')}.png")
    rows.append(["**together**", "", "", *map(share, list(zip(*all_hits, strict=True)) or [()] * 5), ""])
    header = ["painted", "A's AUC", "B's AUC", "A rises", "B rises", "A rises most", "B rises most", "both rise most"]
    print("\n" + markdown([*header, "most instead, A; B"], rows))


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
