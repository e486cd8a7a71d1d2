"""A user's own classifier under stress: every image before and after an edit, by group, and where it did not react.

Everything lies in one folder, and every step takes up what is there: a run that was cut off goes on.

    OUT/edits/<instruction>/  what a model made, as `x2x batch` writes it
    OUT/answers.jsonl         the classifier's and the scorer's answers, image by image
    OUT/pictures/             the images that the report shows
    OUT/report.md, report.json, report.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instructx2x import __version__
from instructx2x.editing import Editor
from instructx2x.editing.report import model, software
from instructx2x.errors import InputError
from instructx2x.evaluation.auditing import shown, tables
from instructx2x.evaluation.auditing.asking import PROBABLE, ask_after, ask_before
from instructx2x.evaluation.auditing.audited import Audited
from instructx2x.evaluation.auditing.classifier import Classifier, Question
from instructx2x.evaluation.auditing.movement import resampled
from instructx2x.evaluation.cases import Case, with_instruction
from instructx2x.evaluation.folders import find_edited
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.judges.plugins import ROUNDING
from instructx2x.evaluation.methods import make_edits, slug
from instructx2x.evaluation.reporting.tables import Report
from instructx2x.evaluation.reporting.writing import refuse_foreign, write_report
from instructx2x.progress import progress
from instructx2x.results import folders

LONGEST_NAME = 100  # characters of a folder's name; systems take 255 bytes


@dataclass(frozen=True)
class Plan:
    """What is audited.

    Attributes:
        cases: see `cases.read_cases`; their own instructions do not matter.
        classifier, questions: see `auditing.classifier`.
        editor: the model that edits; None: the edited images are in `folder`.
        folder: of edited images for the one question, see `folders`.
        profile: of the edits.
        threshold: from which on the classifier says yes; None: its answers are probabilities, and it is PROBABLE.
        partial: let cases without an edited image in the folder pass.
        resamples: of the bootstrap.
    """

    cases: Sequence[Case]
    classifier: Classifier
    questions: Sequence[Question]
    editor: Editor | None = None
    folder: Path | None = None
    profile: str = "default"
    threshold: float | None = None
    partial: bool = False
    resamples: int = 1000


def audit(plan: Plan, out: Path, *, command: str = "") -> dict[str, Path]:
    """Carry out a plan.

    Args:
        plan: what is audited.
        out: folder for everything; made when it is not there, and locked.
        command: for the report, as typed.

    Returns:
        the report's files by their ending.

    Raises:
        InputError: the classifier fails or does not answer as it must; the folder lacks images; nothing is left.
        OutputError: the folder cannot be written to, or holds answers of another version.
    """
    images = (path for case in plan.cases for path in (case.row.path, case.target))
    with folders.claim(out, inputs=[*images, plan.folder, plan.editor and plan.editor.backbone.path]):
        return _audit(plan, out, command)


def _audit(plan: Plan, out: Path, command: str) -> dict[str, Path]:
    asked = {question: with_instruction(plan.cases, question.instruction) for question in plan.questions}
    # Before hours of editing: a folder that lacks images is refused now.
    given = {q: find_edited(plan.folder, asked[q], partial=plan.partial) for q in plan.questions if plan.folder}
    refuse_foreign(out)
    journal = Journal(out / "answers.jsonl", {"version": __version__})
    left_out: dict[str, str] = {}
    # Before any editing, too: a classifier that fails on real images fails now.
    outputs = list(dict.fromkeys(question.output for question in plan.questions))
    before, failed = ask_before(plan.classifier, outputs, plan.cases, journal)
    left_out |= failed
    threshold = _threshold(plan, before.values())
    audits = []
    for question, cases in asked.items():
        edited = given[question] if plan.folder else _edits(plan, question, cases, out, left_out)
        found, failed = ask_after(plan.classifier, question, threshold, cases, edited, before, journal)
        left_out |= {f"{question.instruction} {name}": reason for name, reason in failed.items()}
        _threshold(plan, found.movement.after)
        audits.append(found)
    if not any(len(found.asked) for found in audits):
        reason = next(iter(left_out.values()), "the edits changed no pixel, or there was nothing to do")
        raise InputError(f"no edited image is left to ask about; the first reason: {reason}")
    groups = {}
    with progress("resampling", plan.resamples * len(audits)) as advance:
        for found in audits:
            if len(found.asked):
                movement = found.movement.of(found.asked)
                values = np.stack([movement.change, movement.as_asked], axis=1)
                chosen = [found.cases[row] for row in found.asked]
                groups[found.question] = resampled(chosen, values, count=plan.resamples, on_resample=advance)
    report = Report(
        f"Audit of {plan.classifier.name}",
        tables.said(plan.classifier, audits, threshold),
        _facts(plan, audits, threshold, left_out, command),
        (
            tables.overview(audits, plan.resamples),
            *(
                table
                for number, found in enumerate(audits, start=1)
                if found.question in groups
                for table in tables.of_one(number, found, groups[found.question])
            ),
        ),
        tuple(
            picture
            for found in audits
            for picture in shown.pictures(found, out / "pictures" / folder_of(found.question.instruction))
        ),
    )
    return write_report(report, out)


def folder_of(instruction: str) -> str:
    """An instruction as a folder's name: different ones differ."""
    name = slug(instruction)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(instruction.encode()).hexdigest()[:8]}"


def _threshold(plan: Plan, answers: Iterable[float]) -> float:
    """The one given, or that of probabilities.

    Raises:
        InputError: none is given, and an answer is no probability.
    """
    if plan.threshold is not None:
        return plan.threshold
    wrong = next((answer for answer in answers if not -ROUNDING <= answer <= 1 + ROUNDING), None)
    if wrong is not None:
        raise InputError(
            f"{plan.classifier.name} answers {wrong:g}, which is no probability: give --threshold on its scale "
            "(0 for logits)"
        )
    return PROBABLE


def _edits(
    plan: Plan, question: Question, cases: Sequence[Case], out: Path, left_out: dict[str, str]
) -> dict[str, Path]:
    place = out / "edits" / folder_of(question.instruction)
    with progress(f"editing: {question.instruction}", len(cases)) as advance:
        edited, failed = make_edits(
            plan.editor, cases, place, {"profile": plan.profile}, on_row=lambda done, total: advance(to=done)
        )
    left_out |= {f"{question.instruction} {name}": reason for name, reason in failed.items()}
    return edited


def _facts(
    plan: Plan, audits: Sequence[Audited], threshold: float, left_out: Mapping[str, str], command: str
) -> dict[str, str | dict[str, str]]:
    classifier = {
        "name": plan.classifier.name,
        "file, SHA-256": plan.classifier.source or "not found",
        "threshold": f"{threshold:g}",
    }
    for number, found in enumerate(audits, start=1):
        output = "" if found.question.output is None else f", its output {found.question.output!r}"
        classifier[f"asked {number}"] = f"{found.question.instruction} About {found.question.finding}{output}"
    edits = {"folder": str(plan.folder)} if plan.folder else {"profile": plan.profile, **model(plan.editor.backbone)}
    patients = {case.patient for found in audits for case in found.cases}
    return {
        "command": command,
        "software": software(),
        "classifier": classifier,
        "edits": {name: str(value) for name, value in edits.items()},
        "judges": {"scorer": "says of the same edits whether they show, for reference; took no part in making them"},
        "counts": {
            "images": str(len({case.row.path for found in audits for case in found.cases})),
            "patients": str(len(patients)),
            "left out": str(len(left_out)),
            "resamples": f"{plan.resamples}, by patient, seed 0",
        },
        "left out": dict(left_out),
    }
