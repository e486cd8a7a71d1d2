"""How often the verifier says "moved" where nothing moved, or something else did: where the truth is known.

    python benchmarks/verdicts.py --data DATA [--count 30] [--model FOLDER]

On COUNT normals of val patients the truth is made by the painters of the training: the finding that was asked for is
painted (or taken away again), another finding is, or nothing but noise as faint as a scanner's. The verdicts are those
of an edit with the model's calibration. Prints a Markdown table with 95 % intervals (Wilson). "moved" is false in the
last two columns; the goal is at most 5 % of them.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from first_light import held_out
from markdown_tables import markdown, share

from instructx2x.editing.verification import CANNOT_TELL, GOOD_AUC, MOVED, verify
from instructx2x.errors import InstructX2XError
from instructx2x.evaluation.judges import load_judge
from instructx2x.evaluation.judges.judge import Judge
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit
from instructx2x.instructions import Edit, Operation
from instructx2x.models import load
from instructx2x.progress import progress
from instructx2x.training.data import load_table
from instructx2x.training.simulation.chest import find_chest
from instructx2x.training.simulation.lesions import draw, load_outlines, traits

OWN = 30  # val normals that the noise was not measured on: they are among the first SKIPPED files
SKIPPED = 40
SIDE = 256  # pixels: what the verifier sees is no larger
LEVEL = ("moderate", 3.0)
OTHERS = ("cardiomegaly", "consolidation", "pneumothorax", "mass", "pleural effusion", "edema")
NOISE = 2 / 255  # standard deviation, in brightness, of a film on which nothing was painted
RIGHT, OTHER, NOTHING = "right finding", "another finding", "nothing"


def scores(data: Path, judge: Judge, count: int, skip: int = 0) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(what was painted, "" for nothing, scores before, scores after), on `count` val normals after `skip` files."""
    table = load_table(data)
    views = dict(zip(table["file"], table["view"], strict=True))
    known = traits(load_outlines(data))
    number = 0
    for file in held_out(table, "nih", exactly="No Finding")[skip:]:
        clean = resize(read(data / file).display(), SIDE, SIDE)
        chest = find_chest(np.clip(clean, 0, 1))
        if chest is None:
            continue
        (before,) = judge([chest.image])
        for finding in OTHERS:
            lesion = draw(known, np.random.default_rng((SIDE, number)), finding).at_level(*LEVEL)
            yield finding, before, judge([eight_bit(lesion.paint(chest, views[file], known)) / np.float32(255)])[0]
        rng = np.random.default_rng(number)
        noisy = np.clip(chest.image + NOISE * rng.standard_normal(chest.image.shape), 0, 1).astype(np.float32)
        yield "", before, judge([noisy])[0]
        number += 1
        if number == count:
            return


def rows(judge: Judge, noise: dict, made: list[tuple[str, np.ndarray, np.ndarray]]) -> Iterator[list[str]]:
    """The table: a line for each operation on each finding that the verifier tells well, and one for all."""
    every = defaultdict(list)
    for operation in (Operation.ADD, Operation.REMOVE):
        for finding in (f for f in judge.findings if judge.auc.get(f, 0) >= GOOD_AUC):
            found = defaultdict(list)
            for painted, before, after in made:
                kind = RIGHT if painted == finding else OTHER if painted else NOTHING
                # What is painted last for an addition is there first for a removal.
                pair = (before, after) if operation is Operation.ADD else (after, before)
                (entry,) = verify(judge, [Edit(operation, finding)], *pair, noise)["findings"]
                if entry["verdict"] != CANNOT_TELL:
                    found[kind].append(entry["verdict"] == MOVED)
            for kind, hits in found.items():
                every[kind] += hits
            limit = noise.get(operation.value, {}).get(finding)
            told = "-" if limit is None else f"{limit:.2f}"
            yield [operation.value, finding, told, *(share(found[kind]) for kind in (RIGHT, OTHER, NOTHING))]
    yield ["all", "", "", *(share(every[kind]) for kind in (RIGHT, OTHER, NOTHING))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the open X-rays, with metadata.csv")
    parser.add_argument("--count", type=int, default=OWN, help=f"normals to paint on, at most {OWN}")
    parser.add_argument("--model", default="bundled")
    options = parser.parse_args()
    try:
        judge = load_judge("verifier")
        noise = (load(options.model, device="cpu").calibration or {}).get("verifier_noise", {})
        made = []
        with progress("painting", options.count * (len(OTHERS) + 1)) as advance:
            for one in scores(options.data, judge, min(options.count, OWN)):
                made.append(one)
                advance()
        header = ("operation", "finding", "noise", *(f"moved: {kind}" for kind in (RIGHT, OTHER, NOTHING)))
        print(markdown(header, rows(judge, noise, made)))
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
