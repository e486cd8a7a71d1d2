"""How long do the tables of MIMIC-EDIT-INSTRUCTION take, and how many difference answers are read rightly?

    python benchmarks/dataset_tables.py [--rows 700703] [--versions v1 v2]
    python benchmarks/dataset_tables.py --fuzz [--answers 100000] [--seed 0]

The first writes synthetic tables of the size of MIMIC-Diff-VQA (no image, no row of a real patient), builds from them
in a fresh process for each version, without images, and prints seconds, seconds of processor time (which do not grow
much when others use the machine), rows per second and peak memory. The second reads generated answers, whose meaning
is known, and prints by the way they were made: read rightly, refused, wrong. "Wrong" is anything else: another meaning,
an answer that should have been refused, another exception.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from synthetic_mimic import Case, generated_answers, splits, write_questions_at_scale

from instructx2x.dataset.answers import Answer, parse_answer
from instructx2x.dataset.images import usable_processors
from instructx2x.dataset.rejects import Rejected

DIFFERENCE_SHARE = 164_324 / 700_703

BUILD = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
from instructx2x.dataset.build import build
from instructx2x.dataset.output import Images
from instructx2x.dataset.pairs import Rules
diff_vqa, cxr_jpg, out, version = sys.argv[1:]
report = build(Path(diff_vqa), Path(cxr_jpg), Path(out), rules=Rules(version), images=Images(None))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "processor": used.ru_utime + used.ru_stime,
    "megabytes": used.ru_maxrss / 1024,
    "rows": report["rows"],
    "difference": report["difference_rows"],
    "instructions": report["instructions"],
}))
"""


def tables(rows: int, versions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        written = write_questions_at_scale(folder, rows=rows, difference=round(rows * DIFFERENCE_SHARE))
        load = os.getloadavg()[0]
        print(f"{usable_processors()} processors, load before the first build {load:.1f}")
        columns = ("rows", "difference", "instructions", "seconds", "processor", "rows/s", "MB")
        print(f"{'version':<8}" + "".join(f"{column:>13}" for column in columns))
        for version in versions:
            command = [sys.executable, "-c", BUILD, str(written.diff_vqa), str(written.cxr_jpg)]
            command += [str(folder / version), version]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            values = [f"{found[name]:,.0f}" for name in ("rows", "difference", "instructions")]
            values += [f"{found[name]:.1f}" for name in ("seconds", "processor")]
            values += [f"{found['rows'] / found['seconds']:,.0f}", f"{found['megabytes']:,.0f}"]
            print(f"{version:<8}" + "".join(f"{value:>13}" for value in values))


def outcome(case: Case) -> str:
    """ "right", "refused" or "wrong"."""
    try:
        answer = parse_answer(case.text)
    except Rejected:
        return "refused" if case.truth is None else "wrong"
    except Exception:
        return "wrong"
    return "right" if case.truth is not None and means(answer, case) else "wrong"


def means(answer: Answer, case: Case) -> bool:
    """Whether an answer says what was meant, each level with every way in which its words can be divided."""
    levels, additional, missing = case.truth
    said = [(c.finding, {tuple(map(" ".join, reading)) for reading in c.readings}) for c in answer.levels]
    meant = [(name, set(splits(old, new))) for name, old, new in levels]
    return (said, answer.additional, answer.missing) == (meant, additional, missing)


def fuzz(answers: int, seed: int) -> int:
    """Print the table; returns how many are wrong."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for case in generated_answers(answers, seed):
        counts[case.kind][outcome(case)] += 1
    columns = ("right", "refused", "wrong")
    print(f"{'made as':<20} {'answers':>8} " + " ".join(f"{column:>8}" for column in columns))
    counts["all"] = sum(counts.values(), Counter())
    for kind, found in sorted(counts.items(), key=lambda item: (item[0] == "all", item[0])):
        print(f"{kind:<20} {found.total():>8,} " + " ".join(f"{found[column]:>8,}" for column in columns))
    return counts["all"]["wrong"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=700_703)
    parser.add_argument("--versions", nargs="+", default=["v1", "v2"], choices=["v1", "v2"])
    parser.add_argument("--fuzz", action="store_true")
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.fuzz:
        tables(options.rows, options.versions)
    elif fuzz(options.answers, options.seed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
