"""The docs' contact sheets: each finding added to the package's synthetic example, and removed again.

    python benchmarks/gallery.py --out docs/gallery [--model FOLDER]

No patient's image is used: the example is computed by instructx2x.phantom. Writes one JPEG a group of findings.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import as_file, files
from itertools import chain, count
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instructx2x import NOTICE, Editor
from instructx2x.editing.pictures import overlay
from instructx2x.errors import InstructX2XError
from instructx2x.evaluation.reporting.strips import CAPTION, strip
from instructx2x.instructions import FINDINGS, Edit, Operation, render
from instructx2x.progress import progress
from instructx2x.training import judge_cases

GROUPS = {
    "pleura-and-heart": ("pleural effusion", "pneumothorax", "pleural thickening", "cardiomegaly"),
    "lungs": ("edema", "consolidation", "lung opacity", "atelectasis"),
    "small": ("pneumonia", "mass", "nodule"),
}


def asked_side(finding: str, number: int) -> str | None:
    """Sides in turn; none for what has no side, and for edema, which is on both unless said otherwise."""
    return ("left", "right")[number % 2] if FINDINGS[finding].has_side and finding != "edema" else None


def row(editor: Editor, finding: str, number: int) -> np.ndarray:
    """Source, edited, guidance map, and the edited image with the finding removed again: (h, w, 3) uint8."""
    add = Edit(Operation.ADD, finding, side=asked_side(finding, number))
    with as_file(files("instructx2x") / "data" / "example.png") as image:
        study = editor.open(image)
    added = study.edit(render((add,)), seed=number)
    undo = render((Edit(Operation.REMOVE, finding, side=add.side),))
    removed = editor.open(added.image.pixels).edit(undo, seed=number)
    veil = overlay(study.display, added.guidance, added.mask, added.pseudo_mask)
    title = f"{render((add,))}   source | edited | guidance map | removed again"
    return strip(title, (study.display, added.image.display(), veil, removed.image.display()))


def write_jpeg(rows: list[np.ndarray], path: Path) -> None:
    """Rows below each other over the notice that they are synthetic."""
    body = np.concatenate(rows)
    sheet = Image.new("RGB", (body.shape[1], len(body) + CAPTION))
    sheet.paste(Image.fromarray(body), (0, 0))
    ImageDraw.Draw(sheet).text((4, len(body) + 2), NOTICE, fill=(255, 190, 60), font=ImageFont.load_default(12))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=85, comment=NOTICE.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="bundled", help="bundled, or a folder")
    options = parser.parse_args()
    assert sorted(chain(*GROUPS.values())) == sorted(judge_cases.FINDINGS)
    try:
        editor, numbers = Editor.from_pretrained(options.model), count()
        with progress("editing", sum(map(len, GROUPS.values()))) as advance:
            for name, findings in GROUPS.items():
                rows = []
                for finding in findings:
                    rows.append(row(editor, finding, next(numbers)))
                    advance()
                write_jpeg(rows, options.out / f"{name}.jpg")
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
