"""Scoring edited images: what the judges say, and what changed where. One record an image, kept in a journal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from instructx2x.anatomy.lungs import Lungs, segment_lungs
from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.errors import AnatomyError, InstructX2XError
from instructx2x.evaluation import locality, maps
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.folders import maps_of, read_edited, read_maps
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.panel import Panel
from instructx2x.files import digest
from instructx2x.imaging.radiograph import Radiograph
from instructx2x.imaging.reading import read
from instructx2x.instructions import Edit

Record = dict[str, Any]

# What is compared: G, and each of its two factors alone.
COMPARED_MAPS = {"guidance": "G", "relevance": "R", "pseudo_mask": "M"}


@dataclass(frozen=True, eq=False)
class Source:
    """An unedited image, read once for all edits of it."""

    radiograph: Radiograph
    _anatomy: dict[tuple[Edit, ...], np.ndarray | None] = field(default_factory=dict)

    @cached_property
    def display(self) -> np.ndarray:
        return self.radiograph.display()

    @cached_property
    def lungs(self) -> Lungs:
        return segment_lungs(self.display)

    @property
    def midline(self) -> float:
        return self.lungs.midline if self.lungs.plausible else 0.5

    def anatomy(self, edits: tuple[Edit, ...]) -> np.ndarray | None:
        """(H, W) bool: where the findings can be in this patient; None for one without a place of its own."""
        if edits not in self._anatomy:
            try:
                found = pseudo_mask(edits, self.display, lungs=self.lungs).values > 0
            except AnatomyError:
                found = None
            self._anatomy[edits] = found
        return self._anatomy[edits]


def score(
    cases: Sequence[Case],
    methods: Mapping[str, Mapping[str, Path]],
    panel: Panel,
    journal: Journal,
    *,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, dict[str, Record]], dict[str, str]]:
    """Score every edited image, every source and every target; what the journal holds is not computed again.

    A record belongs to the files' contents and the judges, so an image that was replaced is scored anew.

    Args:
        cases: what was asked.
        methods: by name, the edited image of each case, by the case's name.
        panel: the judges.
        journal: of the records.
        on_image: called with (images scored, images in all).

    Returns:
        by name, the records of the methods, of "source" and of "target", by the case's name; and why images had to be
        left out: for all methods, by the case's name, where the source or the target cannot be read, and for one, by
        "method: case".
    """
    total = sum(map(len, methods.values())) + len(cases) + sum(case.target is not None for case in cases)
    records: dict[str, dict[str, Record]] = {name: {} for name in ("source", "target", *methods)}
    failed: dict[str, str] = {}
    opened: tuple[Path, Source, str] | None = None
    done = 0
    # Edits of one image after the other, so that it is read once.
    for case in sorted(cases, key=lambda case: (str(case.row.path), case.row.number)):
        try:
            if opened is None or opened[0] != case.row.path:
                opened = (case.row.path, Source(read(case.row.path)), digest(case.row.path))
            _, source, own = opened
            asked = "image", panel.fingerprint
            found = {"source": journal.once((*asked, own), _judged, panel, source.display)}
            done += 1
            if case.target is not None:
                found["target"] = journal.once((*asked, digest(case.target)), _target, panel, case.target)
                done += 1
            on_image(done, total)
        except InstructX2XError as error:
            failed[case.name] = str(error)
            continue
        for name, record in found.items():
            records[name][case.name] = record
        for name, images in methods.items():
            if case.name not in images:
                continue
            try:
                path = images[case.name]
                files = own, digest(path), _maps_digest(path)
                asked = ("edited", panel.fingerprint, *files, case.row.instruction, case.boxes)
                records[name][case.name] = journal.once(asked, _edited, panel, case, source, path)
            except InstructX2XError as error:
                failed[f"{name}: {case.name}"] = str(error)
            done += 1
            on_image(done, total)
    return records, failed


def _maps_digest(path: Path) -> str:
    beside = maps_of(path)
    return digest(beside) if beside.is_file() else ""


def _judged(panel: Panel, display: np.ndarray) -> Record:
    return {"answers": panel(display).tolist(), "features": np.round(panel.features(display), 6).tolist()}


def _target(panel: Panel, path: Path) -> Record:
    return _judged(panel, read(path).display())


def _edited(panel: Panel, case: Case, source: Source, path: Path) -> Record:
    after = read_edited(path, source.radiograph)
    return _judged(panel, after) | {"change": changes(case, source, after, read_maps(path, after.shape))}


def changes(case: Case, source: Source, after: np.ndarray, stored: Mapping[str, np.ndarray]) -> Record:
    """What an edit changed and where, and what its maps are worth. None stands for what is not known or defined.

    Args:
        case: what was asked.
        source: of what.
        after: (H, W) the edited image's brightness.
        stored: the method's own maps, see `folders.read_maps`.

    Returns:
        amount, changed: see `locality`.
        in_anatomy: share of the change where the finding can be in this patient (the default pseudo mask above 0,
            whatever mask the method followed).
        in_boxes: share of the change in the experts' boxes.
        on_side: share of the change on the side that the instruction names.
        outside_mask: number of pixels that changed outside the method's own mask; `mask`: share of the image in it.
        maps: for each of COMPARED_MAPS, `in_boxes` and `pointing` (see `maps`), and the rank correlation with the
            change over the anatomy, `follows`; `flat` is what a flat map would have in the boxes.
    """
    change = after - source.display
    record = {
        "amount": locality.amount(change),
        "changed": locality.changed_share(change),
        "in_anatomy": None,
        "in_boxes": None,
        "on_side": None,
        "outside_mask": None,
        "mask": None,
    }
    anatomy = source.anatomy(case.edits)
    if anatomy is not None:
        record["in_anatomy"] = known(locality.inside_share(change, anatomy))
    boxes = maps.box_mask(case.boxes, change.shape)
    if case.boxes:
        record["in_boxes"] = known(locality.inside_share(change, boxes))
    if case.side:
        there = locality.half(change.shape, case.side, source.midline)
        record["on_side"] = known(locality.inside_share(change, there))
    if "mask" in stored:
        record["outside_mask"] = locality.changed_outside(change, stored["mask"])
        record["mask"] = float(stored["mask"].mean())
    if set(COMPARED_MAPS) <= set(stored):
        measured = {
            letter: {
                "in_boxes": known(maps.box_share(stored[name], case.boxes)),
                "pointing": known(maps.pointing_game(stored[name], case.boxes)),
                "follows": known(maps.change_correlation(stored[name], change, anatomy)),
            }
            for name, letter in COMPARED_MAPS.items()
        }
        record["maps"] = measured | {"flat": float(boxes.mean()) if case.boxes else None}
    return record


def known(value: float) -> float | None:
    """NaN as JSON takes it."""
    return None if math.isnan(value) else value
