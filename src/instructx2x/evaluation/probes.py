"""What can be asked of a model, but not of a folder of images: further edits of the same cases.

- Reversibility: what was added is removed again from the edited image; how much of the change is left?
- Spread over seeds: the same edit with other noise; how far apart are both, and their guidance maps?
- Paraphrases: the same instruction in other words; how far apart are the guidance maps?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from instructx2x.editing import Editor
from instructx2x.errors import InstructX2XError
from instructx2x.evaluation import locality, maps
from instructx2x.evaluation.cases import Case
from instructx2x.evaluation.folders import read_edited, read_maps
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.methods import Options, make_edits, reseeded
from instructx2x.evaluation.scoring import known
from instructx2x.files import digest
from instructx2x.imaging.reading import read
from instructx2x.instructions import Operation, opposite, parse, render

PARAPHRASES = {"Add the finding of": "Please introduce", "Remove the finding of": "Eliminate"}


def reversal(case: Case, edited: Path) -> Case | None:
    """The case that takes an edit back: removal of all that was added. None where that is not what was asked."""
    if case.holds or any(edit.operation is not Operation.ADD for edit in case.edits):
        return None
    back = opposite(case.edits)
    row = replace(case.row, image=str(edited.name), path=edited, instruction=render(back))
    return replace(case, row=row, edits=back)


def paraphrase(text: str) -> str:
    """A canonical instruction in other words that mean the same."""
    for words, others in PARAPHRASES.items():
        text = text.replace(words, others)
    return text


def reversibility(
    editor: Editor,
    cases: Sequence[Case],
    edited: Mapping[str, Path],
    out: Path,
    options: Options,
    on_row: Callable[[int, int], None],
) -> list[float]:
    """What is left of each change after it was taken back, see `locality.remaining`.

    Args:
        edited: the edited images by the case's name.
        out: folder for the edits that take them back.
    """
    pairs = [(case, reversal(case, edited[case.name])) for case in cases if case.name in edited]
    asked = {case.name: (case, back) for case, back in pairs if back is not None}
    made, _ = make_edits(editor, [back for _, back in asked.values()], out, options, on_row=on_row)
    left = []
    for name, path in made.items():
        source = read(asked[name][0].row.path)
        first, last = (read_edited(image, source) - source.display() for image in (edited[name], path))
        left.append(locality.remaining(first, last))
    return [value for value in left if np.isfinite(value)]


def seeds(
    editor: Editor,
    cases: Sequence[Case],
    edited: Mapping[str, Path],
    out: Path,
    options: Options,
    on_row: Callable[[int, int], None],
) -> dict[str, list[float]]:
    """How far two seeds are apart: "images" (mean absolute difference over the mean change of both), "guidance"
    (Pearson's correlation of G), "masks" (Dice)."""
    made, _ = make_edits(editor, reseeded(cases), out, options, on_row=on_row)
    found: dict[str, list[float]] = {"images": [], "guidance": [], "masks": []}
    for case in cases:
        if case.name not in made or case.name not in edited:
            continue
        source = read(case.row.path)
        images = [read_edited(path, source) for path in (edited[case.name], made[case.name])]
        change = np.mean([locality.amount(image - source.display()) for image in images])
        if change > 0:
            found["images"].append(locality.amount(images[0] - images[1]) / float(change))
        one, other = (read_maps(path, source.pixels.shape) for path in (edited[case.name], made[case.name]))
        found["guidance"].append(maps.map_correlation(one["guidance"], other["guidance"]))
        found["masks"].append(maps.overlap(one["mask"], other["mask"]))
    return {name: [value for value in values if np.isfinite(value)] for name, values in found.items()}


def paraphrases(
    editor: Editor, cases: Sequence[Case], journal: Journal, options: Options, on_case: Callable[[], Any]
) -> dict[str, list[float]]:
    """The same as `seeds` for an instruction in other words: "guidance" and "masks"."""
    found: dict[str, list[float]] = {"guidance": [], "masks": []}
    for case in cases:
        text = render(case.edits)
        other = paraphrase(text)
        if other != text and parse(other) == case.edits:
            asked = "paraphrase", digest(case.row.path), case.row.seed, editor.backbone.digest, sorted(options.items())
            record = journal.once((*asked, text, other), _in_other_words, editor, case, options, (text, other))
            for name in found:
                if record[name] is not None:
                    found[name].append(record[name])
        on_case()
    return found


def _in_other_words(editor: Editor, case: Case, options: Options, texts: Sequence[str]) -> dict[str, Any]:
    try:
        study = editor.open(case.row.path)
        one, other = (study.guidance(text, seed=case.row.seed, **options) for text in texts)
    except InstructX2XError:
        return {"guidance": None, "masks": None}
    guidance = maps.map_correlation(one.guidance, other.guidance)
    return {"guidance": known(guidance), "masks": maps.overlap(one.mask, other.mask)}
