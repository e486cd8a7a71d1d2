"""How real the phantom chest is to the package itself: its lungs, its judges, its edits beside those of real films.

    python benchmarks/phantom.py [--data DATA] [--bodies 12] [--normals 12] [--size 512]
    python benchmarks/phantom.py --image src/instructx2x/data/example.png

Prints Markdown; with --image it writes the package's example instead. Without --data (the folder with metadata.csv)
the columns of real films are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from instructx2x import Editor, phantom
from instructx2x.anatomy.lungs import segment_lungs
from instructx2x.evaluation.judges import load_judge
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit, write_png
from instructx2x.progress import track
from instructx2x.training.data import load_table

INSTRUCTIONS = (
    "Add the finding of left pleural effusion.",
    "Add the finding of right pleural effusion.",
    "Add the finding of edema.",
    "Add the finding of cardiomegaly.",
    "Add the finding of right consolidation.",
    "Add the finding of left pneumothorax.",
)


def dice(found: np.ndarray, true: np.ndarray) -> float:
    """Overlap of two (H, W) bool masks, 0 to 1."""
    return 2 * float((found & true).sum()) / max(float(found.sum() + true.sum()), 1.0)


def strength(editor: Editor, display: np.ndarray, instruction: str) -> float:
    """Mean absolute change of brightness within the mask of one edit; 0 where nothing is done."""
    study = editor.open(eight_bit(display))
    result = study.edit(instruction, seed=0)
    change = np.abs(result.image.display() - study.display)
    return float(change[result.mask].mean()) if result.mask.any() else 0.0


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def heading(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def lungs(made: dict[str, phantom.Phantom]) -> None:
    heading("body", "Dice of both lungs", "right", "left")
    scores = []
    for name, chest in made.items():
        found, (right, left) = segment_lungs(chest.image), chest.lungs
        scores.append(dice(found.both >= 0.5, right | left))
        row(name, scores[-1], dice(found.right >= 0.5, right), dice(found.left >= 0.5, left))
    row("median", float(np.median(scores)), "", "")


def judges(made: dict[str, phantom.Phantom], real: list[np.ndarray]) -> None:
    images = [chest.image for chest in made.values()]
    for name in ("verifier", "scorer"):
        judge = load_judge(name)
        ours, theirs = judge(images), judge(real) if real else None
        heading(
            f"{name}: finding", "default body", "median body", "real normals: 5 %", "median", "95 %", "bodies within"
        )
        for number, finding in enumerate(judge.outputs):
            scores = ours[:, number]
            cells = ["", "", "", ""]
            if theirs is not None:
                low, middle, high = (float(v) for v in np.percentile(theirs[:, number], (5, 50, 95)))
                cells = [low, middle, high, f"{(scores <= high).mean():.0%} below 95 %"]
            row(finding, float(scores[0]), float(np.median(scores)), *cells)


def demographics(made: dict[str, phantom.Phantom]) -> None:
    judge = load_judge("demographics")
    heading("body", *judge.outputs)
    for name, scores in zip(made, judge([chest.image for chest in made.values()]), strict=True):
        row(name, *map(float, scores))


def edits(made: dict[str, phantom.Phantom], real: list[np.ndarray]) -> None:
    editor = Editor.from_pretrained()
    heading("instruction", "default body", "real normals: median", "ratio")
    for instruction in INSTRUCTIONS:
        ours = strength(editor, made["default"].image, instruction)
        theirs = [strength(editor, display, instruction) for display in track(real, instruction)]
        middle = float(np.median(theirs)) if theirs else float("nan")
        row(instruction, ours, middle, ours / middle if middle else float("nan"))


def normals(data: Path, count: int) -> list[np.ndarray]:
    """Validation films of adults without findings, PA, of different patients."""
    table = load_table(data)
    chosen = table.filter((table["split"] == "val") & table["adult"] & (table["view"] == "PA"))
    chosen = chosen.filter(chosen["findings"] == "No Finding").unique("patient_id", keep="first", maintain_order=True)
    return [read(data / file).display() for file in chosen.sample(count, seed=0)["file"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bodies", type=int, default=12)
    parser.add_argument("--normals", type=int, default=12)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--image", type=Path, help="write the default body at 1,024 pixels here, and measure nothing")
    options = parser.parse_args()
    if options.image:
        text = {
            "Synthetic": "yes",
            "Comment": "computed by instructx2x.phantom; not a patient",
        }
        write_png(eight_bit(phantom.chest().image), options.image, text=text)
        return
    bodies = {"default": phantom.Body()} | {f"any_body({n})": phantom.any_body(n) for n in range(options.bodies)}
    made = {name: phantom.chest(options.size, body, seed=0) for name, body in track(bodies.items(), "computing bodies")}
    real = normals(options.data, options.normals) if options.data else []
    lungs(made)
    demographics(made)
    judges(made, real)
    edits(made, real)


if __name__ == "__main__":
    main()
