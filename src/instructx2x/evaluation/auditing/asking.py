"""Asking a classifier, and the bundled scorer for reference, about images: one record an image, kept in a journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation import locality
from instructx2x.evaluation.auditing.audited import Audited
from instructx2x.evaluation.auditing.classifier import Classifier, Question
from instructx2x.evaluation.auditing.movement import Movement
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.folders import read_edited
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.judges import Judge, load_judge
from instructx2x.evaluation.panel import Panel
from instructx2x.files import digest
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
                image, own = read(path).display(), digest(path)
            except InstructX2XError as error:
                failed[str(path)] = str(error)
            else:
                for output in outputs:
                    found[path, output] = _answer(classifier, output, journal, (own,), image)
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
    journal: Journal,
) -> tuple[Audited, dict[str, str]]:
    """The answers of the classifier and of the reference to the edited images.

    Args:
        cases: of the question.
        edited: their edited images by name; cases without one are passed over.
        before: from `ask_before`; cases whose image is not there are passed over.

    Returns:
        the answers; and why cases had to be left out, by their name.

    Raises:
        InputError: the classifier fails or does not answer as it must.
    """
    cases = [case for case in cases if (case.row.path, question.output) in before and case.name in edited]
    judge = load_judge("scorer")
    scorer = _reference(judge) if question.finding in judge.findings else None
    kept, answers, seen, changed, touched = [], [], [], [], []
    failed: dict[str, str] = {}
    with progress("asking about the edited images", len(cases)) as advance:
        for case in cases:
            advance()
            path = edited[case.name]
            try:
                source, files = read(case.row.path), (digest(case.row.path), digest(path))
                first, last = source.display(), read_edited(path, source)
            except InstructX2XError as error:
                failed[case.name] = str(error)
                continue
            kept.append(case)
            changed.append(locality.changed_share(last - first))
            touched.append(bool((last != first).any()))
            answers.append(
                (before[case.row.path, question.output], _answer(classifier, question.output, journal, files, last))
            )
            if scorer is not None:
                first = _answer(scorer, question.finding, journal, files[:1], first)
                seen.append((first, _answer(scorer, question.finding, journal, files, last)))
    return Audited(
        question,
        tuple(kept),
        _movement(answers, question.way, threshold),
        None if scorer is None else _movement(seen, question.way, PROBABLE),
        judge.auc.get(question.finding),
        np.array(changed, np.float64),
        np.array(touched, bool),
        edited,
    ), failed


def _movement(answers: Sequence[tuple[float, float]], way: int, threshold: float) -> Movement:
    pairs = np.array(answers, np.float64).reshape(-1, 2)
    return Movement(pairs[:, 0], pairs[:, 1], way, threshold)


def _reference(judge: Judge) -> Classifier:
    """A bundled judge asked like the classifier."""

    def answer(images: list[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(judge.outputs, judge(images).T, strict=True))

    return Classifier(f"bundled {judge.name}", judge.outputs, Panel([judge]).fingerprint, answer)


def _answer(
    classifier: Classifier,
    output: str | None,
    journal: Journal,
    files: tuple[str, ...],
    image: np.ndarray,
) -> float:
    """What the classifier says of an image; what the journal holds is not asked again.

    Args:
        files: SHA-256 of the files that the image comes from.
    """
    asked = "classifier", classifier.name, classifier.source, output, files
    return journal.once(asked, lambda: {"answer": classifier(image, output)})["answer"]
