"""The tables of edit_quality.py, from its records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np

from quality.measures import another, correlation, is_held, markdown, middle, moves, moves_most, share
from quality.tasks import STRONG, WEAK

Record = dict[str, Any]


@dataclass(frozen=True)
class Quality:
    """What was measured.

    Attributes:
        findings: those that were edited.
        judged: all that the judge knows, in the order of its scores.
        auc: of the judge, by finding.
        sources: by file, the judges' answers to the unedited image.
        val: files that the scores' spread is taken over.
        truth: by file, "sex" ("F", "M"), "age" and "view" as recorded.
        records: of the edits.
    """

    findings: Sequence[str]
    judged: Sequence[str]
    auc: dict[str, float]
    sources: dict[str, Record]
    val: Sequence[str]
    truth: dict[str, Record]
    records: Sequence[Record]

    @cached_property
    def spread(self) -> np.ndarray:
        """(F,) standard deviation of each finding's log-odds over val images."""
        scores = np.array([self.sources[file]["scores"] for file in self.val])
        return np.maximum(scores.std(axis=0, ddof=1), 1e-9)

    @cached_property
    def held(self) -> list[str]:
        """Findings that the judge tells well enough to hold them to figures."""
        return [finding for finding in self.findings if is_held(self.auc.get(finding))]

    def of(self, measure: str, finding: str | None = None, method: str = "default") -> list[Record]:
        return [
            record
            for record in self.records
            if record["measure"] == measure
            and record.get("method", "default") == method
            and finding in (None, record["finding"])
        ]

    def change(self, record: Record) -> np.ndarray:
        """(F,) change of the scores by an edit, in units of spread."""
        return (np.array(record["scores"]) - self.sources[record["file"]]["scores"]) / self.spread

    def hits(self, records: Sequence[Record], sign: int, rule) -> list[bool]:
        """Whether the score of each record's finding moved as it should: up (1) or down (-1)."""
        return [rule(sign * self.change(r), self.judged.index(r["finding"])) for r in records]

    def instead(self, records: Sequence[Record], sign: int) -> str:
        """Which other finding moved most, and how often, where the asked one did not."""
        most = [(r["finding"], self.judged[int(np.argmax(sign * self.change(r)))]) for r in records]
        names = [name for asked, name in most if name != asked]
        return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common(2)) or "-"

    def real(self, measure: str, finding: str) -> list[Record]:
        """In place of each edited image, another patient's in the same view, really with the finding (or without it).

        What the rule says of these is what it would say of perfect edits, but for all else in which patients differ.
        """
        others = self.of("remove" if measure == "add" else "add", finding)
        found = []
        for record in self.of(measure, finding):
            view = self.truth[record["file"]]["view"]
            files = [other["file"] for other in others if self.truth[other["file"]]["view"] == view]
            if files:
                found.append(record | {"scores": self.sources[files[record["number"] % len(files)]]["scores"]})
        return found

    def controls(self, measure: str, finding: str) -> list[Record]:
        """Edits that ask for another finding, on the images of this one's, to be judged for this one."""
        if measure == "remove":
            return self.of("control", finding)
        found = {(record["finding"], record["file"]): record for record in self.of("add")}
        pairs = [(another(self.findings, finding, r["number"]), r["file"]) for r in self.of("add", finding)]
        return [found[pair] | {"finding": finding} for pair in pairs]


def success(quality: Quality, measure: str) -> str:
    """Add or remove, finding by finding, and those held to figures together."""
    sign, verb = (1, "rises") if measure == "add" else (-1, "falls")
    columns: dict[str, list[list[bool]]] = {}
    rows = []
    for finding in quality.findings:
        records = quality.of(measure, finding)
        compared = (records, quality.controls(measure, finding), quality.real(measure, finding))
        cells = [quality.hits(some, sign, rule) for some in compared for rule in (moves, moves_most)]
        columns[finding] = cells
        auc = quality.auc.get(finding, float("nan"))
        told = f"{auc:.2f}" + ("" if finding in quality.held else ", not judged")
        rows.append([finding, told, *map(share, cells), quality.instead(records, sign)])
    together = [list(chain.from_iterable(columns[f][place] for f in quality.held)) for place in range(6)]
    rows.append(["**held to figures, together**", "", *map(share, together), ""])
    header = ["finding", "judge's AUC", verb, f"{verb} most", f"control: {verb}", f"control: {verb} most"]
    return markdown([*header, f"real: {verb}", f"real: {verb} most", "most instead"], rows)


def held_hits(quality: Quality, measure: str, rule, records: Sequence[Record] | None = None) -> list[bool]:
    records = quality.of(measure) if records is None else records
    held = [record for record in records if record["finding"] in quality.held]
    return quality.hits(held, 1 if measure == "add" else -1, rule)


def groups(quality: Quality, methods: Sequence[str]) -> dict[str, list[Record]]:
    """The adds and removes of each method; those of the default also on the images that the official profile edited."""
    found = {m: quality.of("add", method=m) + quality.of("remove", method=m) for m in methods}
    if {"default", "official"} <= set(methods):
        pairs = {(r["measure"], r["finding"], r["file"]) for r in found["official"]}
        same = [r for r in found["default"] if (r["measure"], r["finding"], r["file"]) in pairs]
        found["default, the official's images"] = same
    return found


def compared(quality: Quality, methods: Sequence[str]) -> str:
    """Success and place of the change, method by method."""
    rows = []
    for name, records in groups(quality, methods).items():
        adds, removes = ([r for r in records if r["measure"] == measure] for measure in ("add", "remove"))
        rows.append(
            [
                name,
                str(len(records)),
                share(held_hits(quality, "add", moves_most, adds)),
                share(held_hits(quality, "remove", moves, removes)),
                share(held_hits(quality, "remove", moves_most, removes)),
                middle([r["inside"] for r in records], ".3f", np.mean),
                middle([r["outside"] for r in records], ".5f", np.mean),
                str(sum(r["outside_mask"] for r in records)),
                middle([r["seconds"] for r in records], ".1f"),
            ]
        )
    header = ["method", "edits", "add: rises most", "remove: falls", "remove: falls most", "change inside the anatomy"]
    return markdown([*header, "mean change outside it", "pixels changed outside the mask", "s an edit, median"], rows)


def side(quality: Quality, methods: Sequence[str]) -> str:
    rows = []
    for name, records in groups(quality, methods).items():
        shares = [r["on_side"] for r in records if r["on_side"] is not None]
        rows.append([name, str(len(shares)), middle(shares), middle(shares, of=min), share(s >= 0.98 for s in shares)])
    return markdown(["method", "edits with a side", "median", "lowest", "0.98 or more"], rows)


def stronger(quality: Quality, finding: str | None = None) -> list[bool]:
    """For each image and finding, whether the strong word changes more than the weak one."""
    amounts = {(r["finding"], r["file"], r["edit"]["level"]): r["amount"] for r in quality.of("level", finding)}
    pairs = {key[:2] for key in amounts}
    return [amounts[(*pair, STRONG)] > amounts[(*pair, WEAK)] for pair in sorted(pairs)]


def levels(quality: Quality) -> str:
    rows = [[finding, share(stronger(quality, finding))] for finding in quality.findings]
    return markdown(["finding", f"{STRONG} changes more"], [*rows, ["**together**", share(stronger(quality))]])


def same_person(pairs: Sequence[tuple[Record, Record]]) -> tuple[list[bool], str]:
    """Agreement in sex, and the correlation of ages with its interval, over pairs of answers."""
    sexes = [(one["female"] >= 0.5) == (other["female"] >= 0.5) for one, other in pairs]
    found = correlation([one["age"] for one, _ in pairs], [other["age"] for _, other in pairs])
    return sexes, "-" if found is None else "{:.3f} ({:.3f} to {:.3f})".format(*found)


def identity(quality: Quality, methods: Sequence[str]) -> str:
    rows = []

    def add(name: str, pairs: list[tuple[Record, Record]]) -> None:
        sexes, ages = same_person(pairs)
        rows.append([name, str(len(pairs)), share(sexes), ages])

    for name, records in groups(quality, methods).items():
        add(name, [(quality.sources[r["file"]], r) for r in records])
    looked = [quality.sources[file] for file in quality.val]
    add("control: the next patient's image", list(pairwise(looked)))
    known = [(file, quality.truth.get(file, {})) for file in quality.val]
    truth = [
        (quality.sources[file], {"female": float(told["sex"] == "F"), "age": told["age"]})
        for file, told in known
        if told.get("sex") in ("F", "M") and told.get("age") is not None
    ]
    add("the judge against the record", truth)
    return markdown(["pairs of input and edit", "pairs", "same sex", "correlation of ages"], rows)


def empty(records: Sequence[Record]) -> list[bool]:
    return [record["mask"] == 0 for record in records]


def nothing(quality: Quality) -> str:
    rows = []
    for finding in (*quality.findings, None):
        valid = quality.of("add", finding) + quality.of("remove", finding)
        cells = [quality.of("nothing to remove", finding), quality.of("nothing to add", finding), valid]
        rows.append([finding or "**together**", *(share(empty(records)) for records in cells)])
    header = ["empty masks", "remove it from normals", "add it where it is", "valid instructions"]
    return markdown(header, rows)


def goals(quality: Quality) -> str:
    """One row a goal, for the default method."""
    edits = quality.of("add") + quality.of("remove")
    sexes, ages = same_person([(quality.sources[r["file"]], r) for r in edits])
    nothing_to_do = quality.of("nothing to remove") + quality.of("nothing to add")
    rows = [
        ["an added finding's score rises most", "85 %", share(held_hits(quality, "add", moves_most))],
        ["a removed finding's score falls", "", share(held_hits(quality, "remove", moves))],
        ["a removed finding's score falls most", "70 %", share(held_hits(quality, "remove", moves_most))],
        [f"{STRONG} changes more than {WEAK}", "90 %", share(stronger(quality))],
        ["the same sex", "98 %", share(sexes)],
        ["correlation of ages", "0.97", ages],
        ["empty mask where nothing is to be done", "at least 80 %", share(empty(nothing_to_do))],
        ["empty mask for a valid instruction", "at most 5 %", share(empty(edits))],
    ]
    return markdown(["default method", "goal", "measured"], rows)


def print_tables(quality: Quality, methods: Sequence[str]) -> None:
    if "default" in methods:
        print("\n## Add on real normals\n\n" + success(quality, "add"))
        print("\n## Remove on real positives\n\n" + success(quality, "remove"))
    print("\n## Methods\n\n" + compared(quality, methods))
    print("\n## Side\n\n" + side(quality, methods))
    print("\n## Identity\n\n" + identity(quality, methods))
    if "default" in methods:
        print("\n## Level\n\n" + levels(quality))
        print("\n## Nothing to do\n\n" + nothing(quality))
        print("\n## Goals\n\n" + goals(quality))
