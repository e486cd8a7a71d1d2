"""Which images are edited, and how: the tasks of edit_quality.py, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from first_light import held_out

from instructx2x.instructions import FINDINGS, Edit, Operation, render
from instructx2x.training import judge_cases
from instructx2x.training.pairs import LABELS
from quality.measures import another

MEASURED = judge_cases.FINDINGS  # what the judges know
METHODS = ("default", "official", "no-rse")
WEAK, STRONG = "mild", "severe"


@dataclass(frozen=True)
class Task:
    """One edit to make and to judge.

    Attributes:
        measure: what it is made for: "add", "remove", "control" (a finding other than the judged one is removed),
            "level", or "nothing to add", "nothing to remove" (maps alone).
        method: one of METHODS.
        finding: whose score is looked at.
        file: the image, relative to the data's folder.
        number: of the image within its measure, and seed of the noise.
        edit: what is asked.
    """

    measure: str
    method: str
    finding: str
    file: str
    number: int
    edit: Edit

    @property
    def text(self) -> str:
        return render((self.edit,))

    @property
    def key(self) -> str:
        return "/".join((self.measure, self.method, self.finding, self.file, str(self.number), self.text))


@dataclass(frozen=True)
class Images:
    """Files of val patients, each list with one image a patient.

    Attributes:
        val: any, for the spread of scores.
        normals: without a finding.
        positives: by finding, with it, and perhaps others.
        alone: by finding, with it and no other.
    """

    val: list[str]
    normals: list[str]
    positives: dict[str, list[str]]
    alone: dict[str, list[str]]


def choose(table: pl.DataFrame, findings: Sequence[str]) -> Images:
    """The NIH part's val images by what their labels say. `table` is that of `load_table`."""
    words = {finding: next(word for word, ours in LABELS.items() if ours == finding) for finding in findings}
    return Images(
        held_out(table, "nih"),
        held_out(table, "nih", exactly="No Finding"),
        {finding: held_out(table, "nih", finding=word) for finding, word in words.items()},
        {finding: held_out(table, "nih", exactly=word) for finding, word in words.items()},
    )


def asked_side(finding: str, number: int) -> str | None:
    """Sides in turn; none for what has no side, and for edema, which is on both unless said otherwise."""
    return ("left", "right")[number % 2] if FINDINGS[finding].has_side and finding != "edema" else None


def plan(
    findings: Sequence[str],
    images: Images,
    shown: dict[str, list[str]],
    methods: Sequence[str],
    count: int,
    official_count: int,
) -> list[Task]:
    """All tasks, those of one image after each other. A larger `count` keeps the tasks of a smaller one but levels'.

    Args:
        shown: by finding, images with it alone in which its judge finds it.
        count: images for each finding of a measure; the levels and the control of removal take a quarter.
        official_count: the same for the official profile.
    """
    few = max(1, count // 4)
    tasks: list[Task] = []

    def add(measure: str, method: str, finding: str, files: Sequence[str], ask: Callable[[int], Edit]) -> None:
        tasks.extend(Task(measure, method, finding, file, n, ask(n)) for n, file in enumerate(files))

    for place, finding in enumerate(findings):
        adding, removing = _asking(Operation.ADD, finding), _asking(Operation.REMOVE, finding)
        normals, positives = images.normals[:count], images.positives[finding][:count]
        for method in methods:
            some = official_count if method == "official" else count
            add("add", method, finding, normals[:some], adding)
            add("remove", method, finding, positives[:some], removing)
        if "default" not in methods:
            continue
        for number, file in enumerate(positives[:few]):
            other = Edit(Operation.REMOVE, another(findings, finding, number))
            tasks.append(Task("control", "default", finding, file, number, other))
        # Every finding takes other images, so that the levels of all of them together rest on many patients.
        start = place * few % max(1, len(images.normals) - few)
        for level in (WEAK, STRONG):
            ask = _asking(Operation.ADD, finding, level)
            add("level", "default", finding, images.normals[start : start + few], ask)
        add("nothing to remove", "default", finding, normals, removing)
        add("nothing to add", "default", finding, shown[finding][:count], adding)
    return sorted(tasks, key=lambda task: task.file)


def _asking(operation: Operation, finding: str, level: str | None = None) -> Callable[[int], Edit]:
    """What is asked of image number n."""
    if operation is Operation.REMOVE:
        return lambda number: Edit(operation, finding)
    return lambda number: Edit(operation, finding, side=asked_side(finding, number), level=level)
