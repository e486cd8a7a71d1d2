"""Does an edit that names no side work on the side where the finding is?

    python benchmarks/right_place.py --data DATA [--count 48] [--model FOLDER] [--profile fast]

Asks for the maps of "Remove the finding of ..." (no side) on COUNT normals of val patients with a one-sided lesion
painted into them, as for training, and on COUNT films of val patients whose radiologists' boxes all lie on one side.
Prints Markdown tables: how often the edit is on the right side, on both, on the wrong one, or taken to have nothing to
do. The goals are the right side in 95 % of the painted and in 80 % of the boxed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from first_light import held_out
from markdown_tables import markdown, share

from instructx2x import Editor
from instructx2x.editing.placing import unplaced
from instructx2x.editing.study import Study
from instructx2x.errors import InstructX2XError
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit
from instructx2x.instructions import Edit, Operation, render
from instructx2x.progress import progress
from instructx2x.training.data import load_table
from instructx2x.training.pairs import LABELS
from instructx2x.training.simulation.chest import find_chest
from instructx2x.training.simulation.lesions import draw, load_outlines, traits

SIDE = 256  # pixels of what is painted
EACH = 3  # lesions a film
RIGHT, BOTH, WRONG, NOTHING = "right side", "both sides", "wrong side", "nothing to do"

Case = tuple[str, str, np.ndarray]  # finding, side, pixels


def removal(finding: str) -> Edit:
    return Edit(Operation.REMOVE, finding)


def painted(data: Path, count: int) -> Iterator[Case]:
    """One-sided lesions on normals, every finding in turn."""
    table, known = load_table(data), traits(load_outlines(data))
    views = dict(zip(table["file"], table["view"], strict=True))
    findings = [finding for finding in known if unplaced(removal(finding))]
    number = 0
    for file in held_out(table, "nih", exactly="No Finding"):
        chest = find_chest(np.clip(resize(read(data / file).display(), SIDE, SIDE), 0, 1))
        for _ in range(EACH if chest else 0):
            rng, finding = np.random.default_rng((SIDE, number)), findings[number % len(findings)]
            lesion = draw(known, rng, finding)
            while lesion.side not in ("left", "right"):
                lesion = draw(known, rng, finding)
            yield finding, lesion.side, eight_bit(lesion.paint(chest, views[file], known))
            number += 1
            if number == count:
                return


def boxed(data: Path, editor: Editor, count: int) -> Iterator[Case]:
    """Films whose boxes of a finding all lie on one side of the midline."""
    rows = pl.read_csv(data / "boxes.csv", infer_schema_length=None)
    rows = rows.filter((pl.col("have_image") == 1) & (pl.col("kind") == "pathology"))
    val = {row["id"]: row["file"] for row in load_table(data).filter(pl.col("split") == "val").iter_rows(named=True)}
    drawn = defaultdict(list)
    for row in rows.iter_rows(named=True):
        finding = LABELS.get(row["finding"], row["finding"].lower())
        if row["image_id"] in val and finding in LABELS.values() and unplaced(removal(finding)):
            drawn[row["image_id"], finding].append((row["x"], row["x"] + row["w"]))
    number = 0
    for (image, finding), boxes in drawn.items():
        study = editor.open(data / val[image])
        low, high = min(a for a, _ in boxes), max(b for _, b in boxes)
        midline = study.lungs.midline
        if study.lungs.plausible and (high <= midline or low >= midline):
            yield finding, "right" if high <= midline else "left", study.radiograph.pixels
            number += 1
            if number == count:
                return


def answer(study: Study, finding: str, side: str, profile: str) -> str:
    report = study.guidance(render((removal(finding),)), profile=profile).report
    done = report["instruction"]["carried_out"]
    if not done:
        return NOTHING
    return BOTH if done[0]["side"] is None else RIGHT if done[0]["side"] == side else WRONG


def table(editor: Editor, cases: Iterator[Case], profile: str, title: str, count: int) -> str:
    found: dict[str, Counter] = defaultdict(Counter)
    with progress(title, count) as advance:
        for finding, side, pixels in cases:
            found[finding][answer(editor.open(pixels), finding, side, profile)] += 1
            advance()
    found["all"] = sum(found.values(), Counter())
    answers = (RIGHT, BOTH, WRONG, NOTHING)

    def line(name: str, counts: Counter) -> list[str]:
        total = counts.total()
        decided = share([True] * counts[RIGHT] + [False] * counts[WRONG])
        return [name, *(str(counts[a]) for a in answers), share([n < counts[RIGHT] for n in range(total)]), decided]

    header = (title, *answers, "right side, of all", "right side, of those on one side")
    return markdown(header, (line(name, counts) for name, counts in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the open X-rays, with metadata.csv")
    parser.add_argument("--count", type=int, default=48, help="cases of each kind")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--profile", default="fast")
    options = parser.parse_args()
    try:
        editor = Editor.from_pretrained(options.model, device="cpu")
        cases = {"painted": painted(options.data, options.count), "boxed": boxed(options.data, editor, options.count)}
        for title, some in cases.items():
            print(table(editor, some, options.profile, title, options.count) + "\n", flush=True)
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
