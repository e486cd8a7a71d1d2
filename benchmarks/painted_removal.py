"""Removal at high resolution: what an instruction leaves of a finding that was painted on a real normal.

    python benchmarks/painted_removal.py --data DATA --out OUT [--count 12] [--model FOLDER ...] [--text-guidance S]

A nodule and a pneumothorax are painted at 1,024 pixels a side on COUNT normals of val patients, as for training, and
each model is asked to remove them. "clean latents" is what remains when the model's edit is perfect: the latents of the
clean image, through the same autoencoder and compositing. Prints a Markdown table with 95 % intervals (Wilson), and
writes a contact sheet for each model and finding to OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from first_light import held_out
from markdown_tables import markdown, middle, share
from PIL import Image
from scipy import ndimage

from instructx2x import Editor
from instructx2x.editing.compositing import composite
from instructx2x.editing.study import Study
from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation.reporting.strips import strip, write_sheet
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.writing import eight_bit
from instructx2x.instructions import Edit, Operation, render
from instructx2x.progress import progress
from instructx2x.training.data import load_table
from instructx2x.training.simulation.chest import Chest, find_chest
from instructx2x.training.simulation.lesions import draw, load_outlines, traits

SIDE = 1024  # pixels
FINDINGS = ("nodule", "pneumothorax")
LEVEL = ("moderate", 3.0)  # of what is painted
LINE = 4.0  # pixels: the side of one of the bundled model's own pixels
GOAL = 0.3
SEEN = 0.01  # brightness; less is not taken for painted
SHOWN = 4  # on a contact sheet


@dataclass(frozen=True)
class Painting:
    """A finding painted on a normal.

    Attributes:
        finding: one of FINDINGS.
        number: of the normal, and seed of the painting and of its removal.
        chest: found in `clean`.
        clean, painted: (SIDE, SIDE) brightness at 8 bits.
    """

    finding: str
    number: int
    chest: Chest
    clean: np.ndarray
    painted: np.ndarray

    def left(self, image: np.ndarray) -> float:
        """Share of the painted change that is in `image`, see `painted_left`."""
        return painted_left(self.clean, self.painted, image, np.maximum(*self.chest.lungs.values()) > 0.5)

    def line(self, image: np.ndarray) -> float | None:
        """Share of the pleural line that is in `image`; None for what has no line."""
        return line_left(self.clean, self.painted, image, LINE) if self.finding == "pneumothorax" else None


def painted_left(clean: np.ndarray, painted: np.ndarray, edited: np.ndarray, lungs: np.ndarray) -> float:
    """What is left of a painted change in an edited image: 1 all of it, 0 none.

    The part of (edited - clean) that looks like (painted - clean), as a share of it (least squares). What the edit did
    to the lung around it is taken off first: a nodule in a lung that became darker as a whole still stands out.

    Args:
        clean, painted, edited: (H, W) brightness.
        lungs: (H, W) bool.
    """
    wanted, got = np.asarray(painted, np.float64) - clean, np.asarray(edited, np.float64) - clean
    region = np.abs(wanted) > SEEN
    distance = ndimage.distance_transform_edt(~region)
    around = ~region & (distance <= np.sqrt(region.sum() / np.pi))
    around = around & lungs if (around & lungs).any() else around
    return float(((got[region] - np.median(got[around])) * wanted[region]).sum() / (wanted[region] ** 2).sum())


def line_left(clean: np.ndarray, painted: np.ndarray, edited: np.ndarray, width: float) -> float:
    """What is left of the brightest line of a painted change: 1 all of it, 0 none.

    Args:
        clean, painted, edited: (H, W) brightness.
        width: in pixels; what a blur of this standard deviation takes away counts as line. Its brightest parts are
            looked at: those above half of the 99.9th percentile of what is painted.
    """

    def fine(image: np.ndarray) -> np.ndarray:
        return image - ndimage.gaussian_filter(image, width)

    wanted, got = fine(painted - clean), fine(edited - clean)
    line = wanted > np.quantile(wanted[np.abs(painted - clean) > SEEN], 0.999) / 2
    return float(got[line].mean() / wanted[line].mean())


def paintings(data: Path, editor: Editor, count: int) -> Iterator[Painting]:
    """Both findings on the first `count` normals whose lungs are found."""
    table = load_table(data)
    views = dict(zip(table["file"], table["view"], strict=True))
    known = traits(load_outlines(data))
    number = 0
    for file in held_out(table, "nih", exactly="No Finding"):
        square = resize(editor.open(data / file).display, SIDE, SIDE, Image.Resampling.BICUBIC)
        clean = eight_bit(square).astype(np.float32) / 255
        chest = find_chest(clean)
        if chest is None:
            continue
        for finding in FINDINGS:
            lesion = draw(known, np.random.default_rng((SIDE, number)), finding).at_level(*LEVEL)
            painted = eight_bit(lesion.paint(chest, views[file], known)).astype(np.float32) / 255
            yield Painting(finding, number, chest, clean, painted)
        number += 1
        if number == count:
            return


@torch.no_grad()
def perfect(painted: Study, clean: Study) -> np.ndarray:
    """The painted image edited with the clean one's latents: (H, W) brightness."""
    backbone = painted.editor.backbone
    wanted, known = (backbone.decode(study.view("letterbox").z0)[0].mean(0).cpu().numpy() for study in (clean, painted))
    everywhere = np.ones(painted.display.shape, np.float32)
    return composite(painted.display, wanted, known, everywhere, painted.view("letterbox").frame)


def rows(
    made: Sequence[Painting], editor: Editor, name: str, out: Path, text_guidance: float | None
) -> Iterator[list[str]]:
    """The table's rows of one model; without a text guidance, with its own."""
    for finding in FINDINGS:
        some = [painting for painting in made if painting.finding == finding]
        removed, left, best, empty, strips = [], [], [], 0, []
        with progress(f"{name}: removing {finding}", len(some)) as advance:
            for painting in some:
                study = editor.open(eight_bit(painting.painted))
                text = render((Edit(Operation.REMOVE, finding),))
                result = study.edit(text, seed=painting.number, text_guidance=text_guidance)
                removed.append(result.image.display())
                left.append(painting.left(removed[-1]))
                best.append(perfect(study, editor.open(eight_bit(painting.clean))))
                empty += not result.mask.any()
                title = f"{finding}: clean, painted, removed; {left[-1]:.2f} of it left"
                strips.append(strip(title, (painting.clean, painting.painted, removed[-1])))
                advance()
        write_sheet((strips[: 2 * SHOWN : 2], strips[1 : 2 * SHOWN : 2]), out / f"{name}-{finding}.png")
        told = [(finding, left, list(map(Painting.left, some, best)))]
        if finding == "pneumothorax":
            told.append(("pleural line", list(map(Painting.line, some, removed)), list(map(Painting.line, some, best))))
        for what, shares, limit in told:
            under = share([value < GOAL for value in shares])
            yield [what, name, str(len(some)), str(empty), middle(shares, ".2f"), under, middle(limit, ".2f")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", action="append", help="bundled (the default), or folders, to compare")
    parser.add_argument("--count", type=int, default=12, help="normals")
    parser.add_argument("--text-guidance", type=float, help="s_T; the model's own by default")
    options = parser.parse_args()
    try:
        if options.count < 1:
            raise InputError("--count starts at 1")
        options.out.mkdir(parents=True, exist_ok=True)
        editors = {Path(model).name: Editor.from_pretrained(model) for model in options.model or ["bundled"]}
        made = []
        with progress("painting", len(FINDINGS) * options.count) as advance:
            for painting in paintings(options.data, next(iter(editors.values())), options.count):
                made.append(painting)
                advance()
        told = [
            row
            for name, editor in editors.items()
            for row in rows(made, editor, name, options.out, options.text_guidance)
        ]
    except InstructX2XError as error:
        sys.exit(str(error))
    header = ["painted", "model", "images", "empty masks", "left of it, median", "under 0.30 left", "clean latents"]
    print(markdown(header, sorted(told, key=lambda row: row[0])))


if __name__ == "__main__":
    main()
