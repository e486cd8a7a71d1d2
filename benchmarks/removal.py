"""Does removal take real disease away? How judges' logits move on val films with the finding.

    python benchmarks/removal.py --data DATA --out OUT [--model FOLDER ...] [--films 12] [--add] [--profile fast]

Each model removes each finding from val X-rays labelled with it (with --add, adds it to normal ones). A film counts
as moved where the logit of a judge that is no part of the model goes the right way by more than the 95th percentile of
what the same logit moves, either way, under edits of other findings on the same films. Prints a Markdown table, and
writes a contact sheet for each model and finding to OUT: source, edited, difference, guidance map.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from first_light import held_out
from markdown_tables import markdown, middle, share

from instructx2x import Editor
from instructx2x.editing.profiles import PROFILES
from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation.judges import load_judge
from instructx2x.evaluation.reporting.strips import strip, write_sheet
from instructx2x.instructions import Edit, Operation, render
from instructx2x.progress import progress
from instructx2x.training.data import load_table

# The data's word and ours.
FINDINGS = {
    "Effusion": "pleural effusion",
    "Cardiomegaly": "cardiomegaly",
    "Edema": "edema",
    "Consolidation": "consolidation",
}
# What else is asked of the same films, in turn; none of it is about the judged findings but the last two.
OTHERS = (
    Edit(Operation.ADD, "nodule"),
    Edit(Operation.REMOVE, "pneumothorax"),
    Edit(Operation.ADD, "pneumothorax"),
    Edit(Operation.REMOVE, "cardiomegaly"),
    Edit(Operation.REMOVE, "pleural effusion"),
)
OTHERS_PER_FILM = 2
JUDGES = ("verifier", "scorer")
SURE = 1e-6


@dataclass(frozen=True)
class Movement:
    """How a finding's logit moves on the same films, per judge: (films,) under its edit, and (edits,) under others'."""

    asked: np.ndarray
    others: np.ndarray

    @property
    def bar(self) -> float:
        """What counts as movement: the 95th percentile of the size of what other edits move."""
        return float(np.quantile(np.abs(self.others), 0.95))

    def moved(self, direction: int) -> list[bool]:
        """Per film: the logit goes in the direction (1 up, -1 down) by more than the bar."""
        return [bool(direction * step > self.bar) for step in self.asked]


def logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(np.asarray(probability, np.float64), SURE, 1 - SURE)
    return np.log(clipped / (1 - clipped))


def others_of(finding: str, number: int) -> list[Edit]:
    """The edits of other findings for the film of a number."""
    known = [edit for edit in OTHERS if edit.finding != finding]
    return [known[(OTHERS_PER_FILM * number + step) % len(known)] for step in range(OTHERS_PER_FILM)]


def measure(
    editor: Editor, films: Sequence[Path], edit: Edit, profile: str, sheet: Path, label: str
) -> dict[str, Movement]:
    """Edit the films, and write the contact sheet of what was asked."""
    judges = [load_judge(name) for name in JUDGES]
    asked, others, strips = [], [], []

    def logits(display: np.ndarray) -> list[float]:
        return [float(logit(judge([display])[0, judge.findings.index(edit.finding)])) for judge in judges]

    with progress(label, len(films)) as advance:
        for number, film in enumerate(films):
            study = editor.open(film)
            before = np.array(logits(study.display))
            result = study.edit(render((edit,)), seed=number, profile=profile)
            after = result.image.display()
            asked.append(np.array(logits(after)) - before)
            for other in others_of(edit.finding, number):
                changed = study.edit(render((other,)), seed=number, profile=profile).image.display()
                others.append(np.array(logits(changed)) - before)
            moves = ", ".join(f"{name} {step:+.1f}" for name, step in zip(JUDGES, asked[-1], strict=True))
            difference = np.clip(0.5 + (after - study.display), 0, 1)
            strips.append(strip(f"{film.stem}: {moves}", (study.display, after, difference, result.overlay())))
            advance()
    half = -(-len(strips) // 2)
    write_sheet((strips[:half], strips[half:]), sheet)
    return {name: Movement(np.array(asked)[:, place], np.array(others)[:, place]) for place, name in enumerate(JUDGES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", action="append", help="bundled (the default), or folders, to compare")
    parser.add_argument("--finding", action="append", choices=sorted(FINDINGS), help="of these alone")
    parser.add_argument("--films", type=int, default=12, help="of each finding")
    parser.add_argument("--add", action="store_true", help="add to normal films instead")
    parser.add_argument(
        "--profile", choices=[name for name, known in PROFILES.items() if not known.official], default="default"
    )
    options = parser.parse_args()
    operation, direction = (Operation.ADD, 1) if options.add else (Operation.REMOVE, -1)
    rows = []
    try:
        if options.films < 1:
            raise InputError("--films starts at 1")
        table = load_table(options.data)
        for model in options.model or ["bundled"]:
            editor, name = Editor.from_pretrained(model), Path(model).name
            for label in options.finding or FINDINGS:
                wanted = {"exactly": "No Finding"} if options.add else {"finding": label}
                films = [options.data / file for file in islice(held_out(table, "nih", **wanted), options.films)]
                edit = Edit(operation, FINDINGS[label])
                sheet = options.out / f"{name}-{operation.value}-{label.lower()}.png"
                found = measure(editor, films, edit, options.profile, sheet, f"{name}: {label}")
                for judge, movement in found.items():
                    size, bar = middle(movement.asked, "+.2f"), f"{movement.bar:.2f}"
                    rows.append([label, judge, name, size, bar, share(movement.moved(direction))])
                    print(*rows[-1], file=sys.stderr, flush=True)
    except InstructX2XError as error:
        sys.exit(str(error))
    header = [operation.value, "judge", "model", "logit moves by, median", "bar", "moved"]
    print(markdown(header, sorted(rows, key=lambda row: row[:2])))


if __name__ == "__main__":
    main()
