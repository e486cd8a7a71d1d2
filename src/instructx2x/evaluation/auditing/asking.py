"""Asking a classifier, and the bundled scorer for reference, about images: one record an image, kept in a journal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation.auditing.audited import Audited
from instructx2x.evaluation.auditing.classifier import Classifier, Question
from instructx2x.evaluation.auditing.movement import Movement
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.folders import read_edited
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.panel import Panel
from instructx2x.evaluation.scoring import score
from instructx2x.imaging.reading import read
from instructx2x.progress import progress

PROBABLE = 0.5  # the threshold of answers that are probabilities

Before = Mapping[tuple[Path, str | None], float]


def ask_before(
    classifier: Classifier, outputs: Sequence[str | None], cases: Sequence[Case], journal: Journal
) -> tuple[Before, dict[str, str]]:
    """The classifier's answers to the unedited images.

    Returns:
        its answers, by image and output; and why images had to be left out, by their path.

    Raises:
        InputError: the classifier fails or does not answer as it must, or no image can be read.
    """
    paths = list(dict.fromkeys(case.row.path for case in cases))
    found: dict[tuple[Path, str | None], float] = {}
    failed: dict[str, str] = {}
    with progress("asking about the unedited images", len(paths)) as advance:
        for path in paths:
            try:
                source, digest = read(path), _digest(path)
            except InstructX2XError as error:
                failed[str(path)] = str(error)
            else:
                for output in outputs:
                    found[path, output] = _answer(classifier, output, journal, (digest,), source.display)
            advance()
    if not found:
        raise InputError(f"no image can be read; the first reason: {next(iter(failed.values()))}")
    return found, failed


def ask_after(
    classifier: Classifier,
    question: Question,
    threshold: float,
    cases: Sequence[Case],
    edited: Mapping[str, Path],
    before: Before,
    panel: Panel,
    journal: Journal,
) -> tuple[Audited, dict[str, str]]:
    """The answers of the classifier and of the reference to the edited images.

    Args:
        cases: of the question.
        edited: their edited images by name; cases without one are passed over.
        before: from `ask_before`; cases whose image is not there are passed over.
        panel: the reference.

    Returns:
        the answers; and why cases had to be left out, by their name.

    Raises:
        InputError: the classifier fails or does not answer as it must.
    """
    cases = [case for case in cases if (case.row.path, question.output) in before and case.name in edited]
    with progress("scoring, for reference") as advance:
        records, failed = score(
            cases, {"edited": edited}, panel, journal, on_image=lambda done, total: advance(to=done, total=total)
        )
    kept = tuple(case for case in cases if case.name in records["edited"])
    answers = []
    with progress("asking about the edited images", len(kept)) as advance:
        for case in kept:
            answers.append(_about_edited(classifier, question.output, journal, case, edited[case.name]))
            advance()
    first = [before[case.row.path, question.output] for case in kept]
    changes = [records["edited"][case.name]["change"] for case in kept]
    scorer = None
    if question.finding in panel.findings:
        column = panel.outputs.index(question.finding)
        judged = ([records[name][case.name]["answers"][column] for case in kept] for name in ("source", "edited"))
        scorer = Movement(*(np.array(scores, np.float64) for scores in judged), question.way, PROBABLE)
    return Audited(
        question,
        kept,
        Movement(np.array(first, np.float64), np.array(answers, np.float64), question.way, threshold),
        scorer,
        panel.auc.get(question.finding),
        np.array([change["changed"] for change in changes], np.float64),
        np.array([change["amount"] > 0 for change in changes], bool),
        edited,
    ), failed


def _about_edited(classifier: Classifier, output: str | None, journal: Journal, case: Case, path: Path) -> float:
    files = _digest(case.row.path), _digest(path)
    return _answer(classifier, output, journal, files, lambda: read_edited(path, read(case.row.path)))


def _answer(
    classifier: Classifier,
    output: str | None,
    journal: Journal,
    files: tuple[str, ...],
    image: Callable[[], np.ndarray],
) -> float:
    """What the classifier says of an image; what the journal holds is not asked again.

    Args:
        files: SHA-256 of the files that the image comes from.
    """
    asked = "classifier", classifier.name, classifier.source, output, files
    key = hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
    if key not in journal:
        journal.add(key, {"answer": classifier(image(), output)})
    return journal[key]["answer"]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
