"""Is a batch that is killed again and again the same, byte for byte, as one that is left alone?

    python benchmarks/batch_kill.py --data DATA [--rows 50] [--kills 10] [--steps 4] [--seed 0]

Edits ROWS held-out adult X-rays of the open data with the bundled model, once without disturbance, and once with
SIGKILL at random moments, restarted each time in the same folder. Prints what was there after each kill ("wrong": a
finished row with other bytes than in the end), and whether the last run, left alone, ends in the same files but for
`seconds.jsonl`.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from instructx2x.editing.rows import RESERVED
from instructx2x.training.data import load_table

INSTRUCTIONS = (
    "Add the finding of left pleural effusion.",
    "Add the finding of edema.",
    "Remove the finding of cardiomegaly.",
)
PROGRAM = "import sys; from instructx2x.cli import main; sys.exit(main(sys.argv[1:]))"
SECONDS = "seconds.jsonl"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SECONDS
    }


def rows_in(folder: Path) -> int:
    return sum(1 for _ in folder.glob("[!.]*/report.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = load_table(options.data).filter((pl.col("split") == "val") & pl.col("adult")).sort("id").head(options.rows)
    rng = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (folder / "rows.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(("image", "instruction", "seed"))
            for number, name in enumerate(table["file"]):
                lines.writerow(((options.data / name).resolve(), INSTRUCTIONS[number % len(INSTRUCTIONS)], number))

        def command(out: Path) -> list[str]:
            batch = ["batch", folder / "rows.csv", "-o", out, "--profile", "fast", "--steps", options.steps]
            return [sys.executable, "-c", PROGRAM, *map(str, batch)]

        start = time.perf_counter()
        subprocess.run(command(folder / "alone"), check=True, capture_output=True)
        expected = contents(folder / "alone")
        print(f"undisturbed: {len(table)} rows, {time.perf_counter() - start:.0f} s, {len(expected)} files")
        print(f"{'kill':>5} {'at rows':>8} {'rows':>6} {'files':>6} {'wrong':>6}")
        killed = folder / "killed"
        moments = sorted(rng.sample(range(len(table)), options.kills))
        for number, moment in enumerate(moments, start=1):
            with subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and rows_in(killed) < moment:
                    time.sleep(0.01)
                # Anywhere within the row after it.
                time.sleep(rng.random())
                process.kill()
            left = contents(killed)
            # The manifest and the sheets are of the whole batch, and unfinished rows are hidden folders.
            rows = {name for name in left if "/" in name and not name.startswith(".") and name not in RESERVED}
            wrong = sum(left[name] != expected.get(name) for name in rows)
            print(f"{number:>5} {moment:>8} {rows_in(killed):>6} {len(left):>6} {wrong:>6}")
        subprocess.run(command(killed), check=True, capture_output=True)
        same = contents(killed) == expected
        print(f"the last run, left alone: {'the same bytes, and no other file' if same else 'DIFFERS'}")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
