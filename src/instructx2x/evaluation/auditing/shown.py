"""Which images an audit's report shows: those where the classifier did not react first, then where it did most."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from instructx2x import NOTICE
from instructx2x.editing.pictures import overlay
from instructx2x.evaluation.auditing.audited import Audited
from instructx2x.evaluation.auditing.movement import Movement
from instructx2x.evaluation.auditing.tables import worst
from instructx2x.evaluation.folders import read_edited, read_maps
from instructx2x.evaluation.reporting.strips import strip
from instructx2x.evaluation.reporting.tables import Picture
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import write_png

FAILURES, OTHERS = 12, 6


def choose(movement: Movement) -> list[tuple[int, bool]]:
    """Rows to show, and whether the classifier did not react there as it should have."""
    failures = worst(movement)[:FAILURES]
    far = movement.way * movement.change if movement.way else np.abs(movement.change)
    others = [int(row) for row in np.argsort(-far, kind="stable") if not movement.missed[row]]
    return [(row, True) for row in failures] + [(row, False) for row in others[:OTHERS]]


def pictures(found: Audited, out: Path) -> tuple[Picture, ...]:
    """Draw a strip of each chosen case into a folder: source, edited image, and guidance map if there is one."""
    chosen = choose(found.movement.of(found.asked))
    if chosen:
        out.mkdir(parents=True, exist_ok=True)
    return tuple(_picture(found, int(found.asked[row]), failed, out) for row, failed in chosen)


def _picture(found: Audited, row: int, failed: bool, out: Path) -> Picture:
    case = found.cases[row]
    source, edited = read(case.row.path), found.paths[case.name]
    names, panels = ["source", "edited"], [source.display(), read_edited(edited, source)]
    maps = read_maps(edited, source.pixels.shape)
    if {"guidance", "mask", "pseudo_mask"} <= set(maps):
        names.append("guidance map")
        panels.append(overlay(source.display(), maps["guidance"], maps["mask"], maps["pseudo_mask"]))
    told = f"{found.movement.before[row]:.3g} -> {found.movement.after[row]:.3g}"
    path = out / f"{case.name}.png"
    drawn = strip(f"{' | '.join(names)}   classifier {told}", panels)
    write_png(drawn, path, text={"Synthetic": "yes", "Notice": NOTICE})
    caption = f"{' | '.join(names)}. Classifier: {told}."
    if found.scorer is not None:
        caption += f" Scorer, for reference: {found.scorer.before[row]:.3g} -> {found.scorer.after[row]:.3g}."
    return Picture(path, f"{case.row.image}: {case.row.instruction}", caption, failed)
