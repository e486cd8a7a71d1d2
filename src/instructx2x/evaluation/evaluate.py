"""One evaluation: edits are made where a model is given, all images are scored, and the report is written.

Everything lies in one folder, and every step takes up what is there: a run that was cut off goes on.

    OUT/edits/<method>-<start of the model's digest>/   what a model made, as `x2x batch` writes it
    OUT/probes/           its further edits, see `probes`
    OUT/scores.jsonl      the judges' answers, image by image
    OUT/pictures/         the images that the report shows
    OUT/report.md, report.json, report.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from instructx2x import __version__
from instructx2x.editing import Editor
from instructx2x.editing.report import model, software
from instructx2x.errors import InputError
from instructx2x.evaluation import measures, probes, summary
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.folders import find_edited
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.methods import ABLATION, METHODS, Options, make_edits, place_of
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.reporting.tables import Report
from instructx2x.evaluation.reporting.writing import refuse_foreign, write_report
from instructx2x.evaluation.scored import COPY, TARGET, Scored
from instructx2x.evaluation.scoring import score
from instructx2x.evaluation.shown import pictures
from instructx2x.progress import progress
from instructx2x.results import folders

PARAPHRASED = 20  # cases; a guidance map in other words is the same by construction, except the official profile's

MEASURING = ("numpy", "scipy", "torchmetrics", "torchxrayvision")  # besides what makes the edits


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        cases: see `cases.read_cases`.
        editors: models by name; the methods of METHODS are run with each.
        folders: folders of edited images by the method's name.
        ablation: also take Region-Specific Editing apart.
        probes: also edit back, with other noise and in other words.
        only: those of METHODS to run; all by default.
        partial: let cases without an edited image in a folder pass.
        resamples: of the bootstrap.
    """

    cases: Sequence[Case]
    editors: Mapping[str, Editor]
    folders: Mapping[str, Path]
    ablation: bool = False
    probes: bool = True
    only: Sequence[str] = tuple(METHODS)
    partial: bool = False
    resamples: int = 1000

    def options(self, name: str) -> Mapping[str, tuple[Editor, Options]]:
        """The methods of one model, by the name that tables print."""
        chosen = {key: METHODS[key] for key in METHODS if key in self.only} | (ABLATION if self.ablation else {})
        prefix = f"{name}: " if len(self.editors) > 1 else ""
        return {prefix + key: (self.editors[name], options) for key, options in chosen.items()}


def evaluate(plan: Plan, panel: Panel, out: Path, *, command: str = "") -> dict[str, Path]:
    """Carry out a plan.

    Args:
        plan: what is evaluated.
        panel: the judges.
        out: folder for everything; made when it is not there, and locked.
        command: for the report, as typed.

    Returns:
        the report's files by their ending.

    Raises:
        InputError: a folder lacks images, or nothing could be scored.
        OutputError: the folder cannot be written to, or holds scores of another version.
    """
    images = (path for case in plan.cases for path in (case.row.path, case.target))
    with folders.claim(
        out, inputs=[*images, *plan.folders.values(), *(editor.backbone.path for editor in plan.editors.values())]
    ):
        return _evaluate(plan, panel, out, command)


def _evaluate(plan: Plan, panel: Panel, out: Path, command: str) -> dict[str, Path]:
    methods = {name: found for model_name in plan.editors for name, found in plan.options(model_name).items()}
    taken = {*methods, TARGET, COPY, "source", "target"} & set(plan.folders)
    if taken:
        raise InputError(f"a folder cannot be called {min(taken)}: name it as NAME=FOLDER")
    # Before hours of editing: a folder that lacks images is refused now.
    given = {name: find_edited(folder, plan.cases, partial=plan.partial) for name, folder in plan.folders.items()}
    refuse_foreign(out)
    journal = Journal(out / "scores.jsonl", {"version": __version__})
    edited: dict[str, dict[str, Path]] = {}
    left_out: dict[str, str] = {}
    for name, (editor, options) in methods.items():
        with progress(f"editing: {name}", len(plan.cases)) as advance:
            edited[name], failed = make_edits(
                editor,
                plan.cases,
                out / "edits" / place_of(name, editor),
                options,
                on_row=lambda done, total: advance(to=done),
            )
        left_out |= {f"{name}: {case}": reason for case, reason in failed.items()}
    # Behind the methods, because some tables are about the first one alone.
    edited |= given
    with progress("scoring") as advance:
        records, failed = score(
            plan.cases, edited, panel, journal, on_image=lambda done, total: advance(to=done, total=total)
        )
    left_out |= failed
    scored = Scored.of(plan.cases, panel, records)
    if not scored.cases:
        raise InputError(f"nothing could be scored; the first reason: {next(iter(left_out.values()))}")
    with progress("resampling", plan.resamples) as advance:
        found, samples = measures.measured(scored, count=plan.resamples, on_resample=advance)
    tables = [
        summary.main(scored, found),
        summary.identity(scored, found),
        summary.by_finding(scored, found),
        summary.moved(scored),
        summary.distances(scored),
        summary.behaviour(scored),
        summary.boxes(scored),
        summary.guidance(scored),
    ]
    first = next(iter(methods or plan.folders), None)
    if first is not None:
        tables.insert(1, summary.differences(scored, samples, first))
    if plan.probes and methods:
        tables.append(summary.stability(_probed(plan, methods, edited, out, journal)))
    report = Report(
        "Evaluation of counterfactual chest X-rays",
        _said(plan, scored),
        _facts(plan, panel, scored, left_out, command),
        tuple(table for table in tables if table is not None),
        pictures(scored, edited, out / "pictures"),
    )
    return write_report(report, out)


def _probed(
    plan: Plan,
    methods: Mapping[str, tuple[Editor, Options]],
    edited: Mapping[str, Mapping[str, Path]],
    out: Path,
    journal: Journal,
) -> list[tuple[str, str, Mapping[str, Sequence[float]]]]:
    """Of the default of each model; paraphrases also of the official profile, which alone reads the words as typed."""
    rows: list[tuple[str, str, Mapping[str, Sequence[float]]]] = []
    for name, (editor, options) in methods.items():
        kind, place = name.rpartition(": ")[2], out / "probes" / place_of(name, editor)
        if kind == "default":
            with progress(f"editing with another seed: {name}") as advance:
                told = probes.seeds(editor, plan.cases, edited[name], place / "seed", options, _to(advance))
            rows.append((name, "another seed", told))
            with progress(f"taking edits back: {name}") as advance:
                left = probes.reversibility(editor, plan.cases, edited[name], place / "back", options, _to(advance))
            rows.append((name, "added, then removed", {"left": left}))
        if kind in ("default", "official"):
            chosen = plan.cases[:: max(1, len(plan.cases) // PARAPHRASED)]
            with progress(f"reading paraphrases: {name}", len(chosen)) as advance:
                rows.append((name, "other words", probes.paraphrases(editor, chosen, journal, options, advance)))
    return rows


def _to(advance):
    return lambda done, total: advance(to=done, total=total)


def _said(plan: Plan, scored: Scored) -> tuple[str, ...]:
    targets = sum(case.target is not None for case in scored.cases)
    told = f"{len(scored.cases)} cases of {len(set(scored.patients))} patients; {targets} have a real target."
    notes = []
    if not scored.panel.races:
        notes.append("No judge of race was given, so there is no CMIG; CMIG-S has sex in its place and is no CMIG.")
    for output in [output for output in ("female", "age") if output not in scored.panel.outputs]:
        notes.append(f"No judge answers {output}, so what depends on it is not measured.")
    return (
        told,
        *notes,
        "A copy of the input keeps the patient perfectly and edits nothing: retention alone is no merit.",
    )


def _facts(
    plan: Plan, panel: Panel, scored: Scored, left_out: Mapping[str, str], command: str
) -> dict[str, str | dict[str, str]]:
    judges = {name: f"scores {role}" for name, role in panel.roles().items()} | {"fingerprint": panel.fingerprint}
    if plan.editors:
        judges["verifier"] = "writes its word on each edit into report.json; chose none of these edits, scores nothing"
    models = {
        name: " ".join(f"{key}={value}" for key, value in model(e.backbone).items()) for name, e in plan.editors.items()
    }
    return {
        "command": command,
        "software": software() | {name: version(name) for name in MEASURING if find_spec(name)},
        "models": models,
        "folders": {name: str(folder) for name, folder in plan.folders.items()},
        "judges": judges,
        "counts": {
            "cases": str(len(scored.cases)),
            "patients": str(len(set(scored.patients))),
            "left out": str(len(left_out)),
            "resamples": f"{plan.resamples}, by patient, seed 0",
        },
        "left out": dict(left_out),
    }
