"""Do edits of real X-rays of unseen patients do what was asked, there alone, and to the same person?

    python benchmarks/edit_quality.py --data DATA --out OUT [--model FOLDER] [--count 20]
        [--methods default,official,no-rse] [--official-count 3]

DATA is the folder of the open X-rays. Adults of its NIH part whose patients are in val are edited, and scored by the
judge that is kept for evaluation. Prints Markdown tables of counts with 95 % intervals (Wilson), and writes a contact
sheet for each finding and method to OUT/sheets. What every edit gave goes to OUT/records.jsonl as soon as it is made:
the same command goes on where a killed one stopped.

Methods: "default" and "official" are the editor's profiles; "no-rse" is the default profile's sampler without
Region-Specific Editing: neither anatomy nor relevance confine it, every pixel may change.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from quality.measures import mean_outside
from quality.tables import Quality, print_tables
from quality.tasks import MEASURED, METHODS, Task, choose, plan

from instructx2x import Editor
from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.editing import Result
from instructx2x.editing.report import software
from instructx2x.editing.study import Study
from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation import locality
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.judges import load_judge
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.reporting.strips import strip, write_sheet
from instructx2x.evaluation.scored import log_odds
from instructx2x.evaluation.scoring import known
from instructx2x.imaging.writing import write_png
from instructx2x.instructions import Edit
from instructx2x.progress import progress
from instructx2x.training.data import load_table

SHOWN = 4  # edits of each finding, measure and method on a contact sheet


class Bench:
    """A model, the judges, and the journal that their answers go to."""

    def __init__(self, data: Path, out: Path, model: str) -> None:
        self.data, self.out = data, out
        self.editor = Editor.from_pretrained(model)
        self.scorer, self.people = load_judge("scorer"), load_judge("demographics")
        settings = {
            "model": self.editor.backbone.digest,
            "calibration": self.editor.backbone.calibration,
            "software": software(),
            "findings": self.scorer.findings,
            "judges": Panel([self.scorer, self.people]).fingerprint,
        }
        self.journal = Journal(out / "records.jsonl", settings)
        self._last: tuple[str, Study] | None = None

    def study(self, file: str) -> Study:
        """An opened image; the last one is kept."""
        if self._last is None or self._last[0] != file:
            self._last = (file, self.editor.open(self.data / file))
        return self._last[1]

    def judged(self, display: np.ndarray) -> dict[str, Any]:
        female, age = self.people([display])[0].tolist()
        return {"scores": log_odds(self.scorer([display])[0]).tolist(), "female": female, "age": age}

    def source(self, file: str) -> dict[str, Any]:
        """The judges' answers to an unedited image."""
        key = f"source/{file}"
        if key not in self.journal:
            self.journal.add(key, self.judged(self.study(file).display))
        return self.journal[key]

    def score(self, record: dict[str, Any], finding: str) -> float:
        return record["scores"][self.scorer.findings.index(finding)]

    def carry_out(self, task: Task) -> None:
        """Make an edit and keep what it gave, unless that was done before."""
        if task.key in self.journal:
            return
        study, began = self.study(task.file), time.perf_counter()
        record = asdict(task)
        if task.measure.startswith("nothing"):
            self.journal.add(
                task.key, record | {"mask": float(study.guidance(task.text, seed=task.number).mask.mean())}
            )
            return
        options = {"anatomy": "none", "relevance": False} if task.method == "no-rse" else {"profile": task.method}
        outcome = study.edit(task.text, seed=task.number, **options)
        record["seconds"] = time.perf_counter() - began
        after = outcome.image.display()
        record |= self.judged(after) | changes(study, outcome, after, task.edit)
        if task.measure in ("add", "remove") and task.number < SHOWN:
            before, score = self.score(self.source(task.file), task.finding), self.score(record, task.finding)
            title = f"{task.text} [{task.method}, log-odds {before:+.1f} to {score:+.1f}]"
            panels = [study.display, after, outcome.overlay()]
            self.keep_strip(task.key, strip(title, panels))
        self.journal.add(task.key, record)

    def strip_path(self, key: str) -> Path:
        return self.out / "strips" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.png"

    def keep_strip(self, key: str, picture: np.ndarray) -> None:
        self.strip_path(key).parent.mkdir(exist_ok=True)
        write_png(picture, self.strip_path(key), text={"Synthetic": "yes"})

    def strips(self, keys: Sequence[str]) -> list[np.ndarray]:
        return [np.asarray(Image.open(path)) for path in map(self.strip_path, keys) if path.exists()]


def changes(study: Study, outcome: Result, after: np.ndarray, edit: Edit) -> dict[str, Any]:
    """How much an edit changed, and where; the anatomy is the patient's own, whatever the method's."""
    change = after - study.display
    allowed = pseudo_mask((edit,), study.display, lungs=study.lungs).values > 0
    midline = study.lungs.midline if study.lungs.plausible else 0.5
    changed = outcome.image.pixels != study.radiograph.pixels
    on_side = locality.half(change.shape, edit.side, midline) if edit.side else None
    return {
        "amount": float(np.abs(change, dtype=np.float64).sum()),
        "inside": known(locality.inside_share(change, allowed)),
        "outside": mean_outside(change, allowed),
        "on_side": None if on_side is None else known(locality.inside_share(change, on_side)),
        "mask": float(outcome.mask.mean()),
        "outside_mask": int((changed & ~outcome.mask).sum()),
    }


def write_sheets(bench: Bench, tasks: Sequence[Task], out: Path) -> None:
    for method, finding in dict.fromkeys((task.method, task.finding) for task in tasks):
        chosen = sorted((t for t in tasks if (t.method, t.finding) == (method, finding)), key=lambda task: task.number)
        columns = [bench.strips([t.key for t in chosen if t.measure == measure]) for measure in ("add", "remove")]
        write_sheet(columns, out / f"{method}-{finding.replace(' ', '-')}.png")


def run(bench: Bench, methods: Sequence[str], count: int, official_count: int) -> None:
    table = load_table(bench.data)
    findings = [finding for finding in MEASURED if finding in bench.scorer.findings]
    images = choose(table, findings)
    looked_at = [images.val, *images.alone.values(), images.normals[:count]]
    looked_at += [files[:count] for files in images.positives.values()]
    files = list(dict.fromkeys(file for some in looked_at for file in some))
    with progress("judging the images as they are", len(files)) as advance:
        for file in files:
            bench.source(file)
            advance()
    shown = {}
    for finding in findings:
        high = np.quantile([bench.score(bench.source(file), finding) for file in images.val], 0.75)
        shown[finding] = [f for f in images.alone[finding] if bench.score(bench.source(f), finding) >= high]
    tasks = plan(findings, images, shown, methods, count, official_count)
    with progress("editing", len(tasks)) as advance:
        for task in tasks:
            bench.source(task.file)
            bench.carry_out(task)
            advance()
    write_sheets(bench, tasks, bench.out / "sheets")
    sources = {key.removeprefix("source/"): r for key, r in bench.journal.records.items() if key.startswith("source/")}
    people = {row["file"]: row for row in table.select("file", "sex", "age", "view").iter_rows(named=True)}
    records = [bench.journal[task.key] for task in tasks]
    quality = Quality(findings, bench.scorer.findings, bench.scorer.auc, sources, images.val, people, records)
    print_tables(quality, methods)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="bundled", help="bundled, or a folder")
    parser.add_argument("--count", type=int, default=20, help="images for each finding and measure")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"some of {','.join(METHODS)}")
    parser.add_argument("--official-count", type=int, default=3, help="the same for the official profile, a slow one")
    options = parser.parse_args()
    methods = [method for method in METHODS if method in options.methods.split(",")]
    try:
        if not set(options.methods.split(",")) <= set(METHODS) or min(options.count, options.official_count) < 1:
            raise InputError(f"--methods takes some of {','.join(METHODS)}, and the counts start at 1")
        run(Bench(options.data, options.out, options.model), methods, options.count, options.official_count)
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
