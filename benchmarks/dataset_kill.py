"""Is a build that is killed again and again the same, byte for byte, as one that is left alone?

    python benchmarks/dataset_kill.py [--kills 10] [--patients 160] [--size 512] [--seed 0]

Writes a small synthetic MIMIC with images (no real patient), builds from it once without disturbance, and once with
SIGKILL, restarted each time in the same folder: whenever a random number of files lies there, the last three times
among the tables, which come last. Prints what was there after each kill ("wrong": a file under its final name with
other bytes than in the end), and whether the last run, left alone, ends in the same files as the undisturbed build and
leaves nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from synthetic_mimic import write_mimic

from instructx2x.results.folders import STAGING

LAST = 8  # files that are written when all images are there
PROGRAM = "import sys; from instructx2x.cli import main; sys.exit(main(sys.argv[1:]))"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def kind(name: str) -> str:
    path = Path(name)
    if any(STAGING.fullmatch(part) for part in path.parts):
        return "temporary"
    return "images" if path.suffix == ".png" else "tables" if path.suffix == ".parquet" else "others"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mimic = write_mimic(folder / "source", patients=options.patients, seed=options.seed)
        sources = ["--diff-vqa", mimic.diff_vqa, "--mimic-cxr-jpg", mimic.cxr_jpg, "--size", options.size]

        def command(out: Path) -> list[str]:
            return [sys.executable, "-c", PROGRAM, "dataset", "build", *map(str, sources), "-o", str(out)]

        start = time.perf_counter()
        subprocess.run(command(folder / "alone"), check=True, capture_output=True)
        length = time.perf_counter() - start
        expected = contents(folder / "alone")
        print(f"undisturbed: {length:.1f} s, {len(expected)} files")
        columns = ("images", "tables", "others", "temporary", "wrong")
        print(f"{'kill':>5} {'at files':>9} " + " ".join(f"{column:>10}" for column in columns))
        killed, tables = folder / "killed", len(expected) - LAST
        moments = sorted(rng.choices(range(tables), k=options.kills - 3) + rng.sample(range(tables, len(expected)), 3))
        for number, moment in enumerate(moments, start=1):
            with subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                # A restart takes the last report away; from then on what lies there is this run's.
                while process.poll() is None and ((killed / "report.json").exists() or files_in(killed) < moment):
                    time.sleep(0.0005)
                process.kill()
            left = contents(killed)
            found = Counter(map(kind, left))
            found["wrong"] = sum(kind(name) != "temporary" and expected.get(name) != left[name] for name in left)
            print(f"{number:>5} {moment:>9} " + " ".join(f"{found[column]:>10}" for column in columns))
        subprocess.run(command(killed), check=True, capture_output=True)
        same = contents(killed) == expected
        print(f"the last run, left alone: {'the same bytes, and no other file' if same else 'DIFFERS'}")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
