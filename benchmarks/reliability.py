"""How far the verifier moves by itself under a model's edits, and how often each finding comes out, on real X-rays.

    python benchmarks/reliability.py --data DATA --out OUT [--films 30] [--model FOLDER] [--write CALIBRATION]

Every edit is of one finding on an X-ray of a val patient: what is not there is added to normals, what is there by its
labels is removed. Both judges score each film before and after; what is scored is kept in OUT/scores.jsonl, so that a
stopped run goes on. Prints a Markdown table of

- the verifier's noise: the 95th percentile of how far its log-odds of a finding move under edits of other findings, or
  where that is more, under other findings that are painted on more val normals, or taken away again;
- reliability: how many edits moved the scorer, another judge, by more than its own noise
  (`evaluation.measures.moved_as_asked`), of those findings that it tells well.

--write puts both into a calibration.json, where the editor reads them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markdown_tables import markdown
from verdicts import SKIPPED, scores

from instructx2x import Editor
from instructx2x.editing.rows import Row
from instructx2x.editing.verification import log_odds
from instructx2x.errors import InstructX2XError
from instructx2x.evaluation import measures
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.judges import load_judge
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.scored import Scored
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import atomic_write
from instructx2x.instructions import Edit, Operation, render
from instructx2x.progress import track
from instructx2x.training.data import load_table
from instructx2x.training.pairs import spoken

# On every normal, and one more of the others: those that a judge tells well are counted most often.
ALWAYS = ("pleural effusion", "cardiomegaly", "edema")
IN_TURN = ("consolidation", "pneumothorax", "atelectasis", "mass", "pneumonia", "lung opacity", "nodule")
MODEL = "model"


def choose(table: pl.DataFrame, films: int) -> Iterator[Case]:
    """`films` normals with four additions each, and about as many removals of what other films show by their labels."""
    val = table.filter((pl.col("split") == "val") & (pl.col("group") == "nih") & pl.col("view").is_in(["PA", "AP"]))
    rows = list(val.unique("patient_id", keep="first", maintain_order=True).iter_rows(named=True))
    normal = [row for row in rows if row["findings"] == "No Finding"][:films]
    ill = {finding: [row for row in rows if finding in spoken(row["findings"])] for finding in (*ALWAYS, *IN_TURN)}
    number = 0
    for place in range(films):
        asked = [(row, Operation.ADD, finding) for row in normal[place : place + 1] for finding in ALWAYS]
        asked += [(row, Operation.ADD, IN_TURN[place % len(IN_TURN)]) for row in normal[place : place + 1]]
        others = (ALWAYS[place % len(ALWAYS)], (*ALWAYS, *IN_TURN)[place % (len(ALWAYS) + len(IN_TURN))])
        for finding, turn in zip(others, (place // len(ALWAYS), -1 - place // len(ALWAYS)), strict=True):
            if ill[finding]:
                asked.append((ill[finding][turn % len(ill[finding])], Operation.REMOVE, finding))
        for row, operation, finding in asked:
            number += 1
            yield _case(number, row, Edit(operation, finding))


def _case(number: int, row: Mapping[str, Any], edit: Edit) -> Case:
    line = Row(number, row["file"], Path(row["file"]), render((edit,)), number, f"{number:04d}")
    return Case(line, (edit,), row["patient_id"], row["view"], findings=frozenset(spoken(row["findings"])))


def score(editor: Editor, data: Path, cases: Sequence[Case], journal: Journal, roles: Sequence[str]) -> list[dict]:
    """What every judge answers before and after each edit: {role: {"before": [...], "after": [...]}} a case."""
    judges = {role: load_judge(role) for role in roles}

    def edited(case: Case) -> dict[str, Any]:
        source = read(data / case.row.path)
        image = editor.open(source).edit(case.row.instruction, seed=case.row.seed, profile="fast").image
        shown = [source.display(), image.display()]
        told = {role: judge(shown).tolist() for role, judge in judges.items()}
        return {role: dict(zip(("before", "after"), both, strict=True)) for role, both in told.items()}

    return [
        journal.once((case.row.image, case.row.instruction, case.row.seed), edited, case)
        for case in track(cases, "edits")
    ]


def scored(cases: Sequence[Case], answers: Sequence[Mapping[str, Any]], role: str) -> Scored:
    """The answers of one judge as the evaluation's arrays."""
    record = {
        place: {case.name: {"answers": a[role][place], "features": []} for case, a in zip(cases, answers, strict=True)}
        for place in ("before", "after")
    }
    panel = Panel([load_judge(role)])
    return Scored.of(cases, panel, {"source": record["before"], "target": {}, MODEL: record["after"]})


def noise(judged: Scored) -> dict[str, dict[str, float]]:
    """Operation -> finding -> log-odds, see `Scored.noise`; without those that are not known."""
    limits = judged.noise[MODEL] * judged.spread
    return {
        operation: {f: round(float(x), 3) for f, x in zip(judged.panel.findings, row, strict=True) if np.isfinite(x)}
        for operation, row in zip(("add", "remove"), limits, strict=True)
    }


def painted_noise(data: Path, films: int) -> dict[str, dict[str, float]]:
    """As `noise`, under other findings that are painted on normals, for a model may draw them as clearly."""
    judge = load_judge("verifier")
    # Not on those that benchmarks/verdicts.py counts on.
    made = [one for one in scores(data, judge, films, skip=SKIPPED) if one[0]]
    # Painting moves a score up by what taking away moves it down.
    moved = np.stack([log_odds(after) - log_odds(before) for _, before, after in made])
    others = np.array([[painted != finding for finding in judge.findings] for painted, _, _ in made])
    limits = {
        finding: round(max(0.0, float(np.percentile(moved[others[:, place], place], 95))), 3)
        for place, finding in enumerate(judge.findings)
    }
    return {"add": limits, "remove": limits}


def higher(one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]]) -> dict:
    """Of two noises the higher one, for each finding that is in both."""
    return {
        operation: {finding: max(limit, other[operation][finding]) for finding, limit in limits.items()}
        for operation, limits in one.items()
    }


def reliability(judged: Scored) -> dict[str, dict[str, dict[str, int]]]:
    """Operation -> finding -> {"moved", "of"}, of what can be judged, see `measures.moved_as_asked`."""
    (method,) = (method for method in judged.methods if method.name == MODEL)
    moved = measures.moved_as_asked(judged, method)
    found: dict[str, dict[str, dict[str, int]]] = {"add": {}, "remove": {}}
    for place, finding in enumerate(judged.panel.findings):
        for operation, told in found.items():
            asked = [case.edits[0] == Edit(Operation(operation), finding) for case in judged.cases]
            known = moved[np.array(asked), place]
            known = known[~np.isnan(known)]
            if known.size:
                told[finding] = {"moved": int(known.sum()), "of": int(known.size)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the open X-rays, with metadata.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is scored")
    parser.add_argument("--films", type=int, default=30, help="normals to add findings to")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--write", type=Path, help="a calibration.json to put the numbers into")
    options = parser.parse_args()
    try:
        cases = list(choose(load_table(options.data), options.films))
        editor = Editor.from_pretrained(options.model, device="cpu")
        roles = ("verifier", "scorer")
        # The numbers that are measured here decide nothing about the edits, so that writing them spoils no journal.
        journal = Journal(options.out / "scores.jsonl", {"model": str(options.model), "roles": roles})
        answers = score(editor, options.data, cases, journal, roles)
        limits = higher(noise(scored(cases, answers, "verifier")), painted_noise(options.data, options.films))
        told = reliability(scored(cases, answers, "scorer"))
        counted = {key: {f: " of ".join(map(str, c.values())) for f, c in of.items()} for key, of in told.items()}
        lines = [
            [operation, finding, f"{limit:.2f}", counted[operation].get(finding, "-")]
            for operation, findings in limits.items()
            for finding, limit in findings.items()
        ]
        print(markdown(("operation", "finding", "verifier's noise, log-odds", "moved the scorer"), lines))
        if options.write:
            content = json.loads(options.write.read_text()) | {"verifier_noise": limits, "reliability": told}
            content.setdefault("measured", {})["edits judged"] = {"normals": options.films, "edits": len(cases)}
            atomic_write(options.write, lambda file: file.write_text(json.dumps(content, indent=1) + "\n"))
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
