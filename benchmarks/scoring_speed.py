"""How long does `x2x evaluate` take to score images that were edited already?

    python benchmarks/scoring_speed.py --data DATA [--images 40]

DATA is the folder of the open X-rays. The "edits" are its own images in random order, so nothing is edited here: read,
judged by the bundled judges, compared with their source, resampled a thousand times and written as a report. Prints a
Markdown table, and what it makes for 1,000 images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from first_light import held_out

from instructx2x.errors import InstructX2XError
from instructx2x.evaluation.cases import read_cases
from instructx2x.evaluation.evaluate import Plan, evaluate
from instructx2x.evaluation.judges import load_judge
from instructx2x.evaluation.panel import Panel
from instructx2x.training.data import load_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    try:
        data = options.data.resolve()
        files = [data / file for file in held_out(load_table(options.data), "nih")[: options.images]]
        panel = Panel([load_judge("scorer"), load_judge("demographics")])
        with tempfile.TemporaryDirectory() as folder:
            table, edited = Path(folder) / "cases.csv", Path(folder) / "edited"
            edited.mkdir()
            for file, other in zip(files, [*files[1:], files[0]], strict=True):
                shutil.copy(other, edited / file.name)
            lines = [f"{file},Add the finding of left pleural effusion.,normal" for file in files]
            table.write_text("\n".join(["image,instruction,findings", *lines]))
            cases = read_cases(table)
            seconds = []
            for _ in range(2):
                began = time.perf_counter()
                evaluate(Plan(cases, {}, {"edited": edited}), panel, Path(folder) / "out")
                seconds.append(time.perf_counter() - began)
    except InstructX2XError as error:
        sys.exit(str(error))
    whole, again = seconds
    each = (whole - again) / (2 * len(files))  # every source and every edited image is judged
    print(f"\n{torch.get_num_threads()} threads, {len(files)} edited images and as many sources\n")
    print("| | seconds |\n|---|---|")
    print(f"| scoring, an image | {each:.3f} |\n| bootstrap, tables, report | {again:.1f} |")
    print(f"| 1,000 edited images of as many sources | {2000 * each + again:.0f} |")


if __name__ == "__main__":
    main()
