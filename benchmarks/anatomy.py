"""How much of the image the anatomy opens, how much of the experts' boxes it holds, where it finds lungs and hearts.

    python benchmarks/anatomy.py --data DATA --out OUT

DATA is the folder of the open X-rays. Measured are all val adults, every NIH image with cardiomegaly, and every image
with experts' boxes (boxes that are not in the packaged priors). Prints Markdown tables, and writes to OUT the record
of every image, from which a killed run goes on, and normals.png: 50 val normals with their outlines, to be judged by
eye (real patients: keep it to yourself). Records of another version of the anatomy are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from first_light import held_out
from markdown_tables import markdown, middle, share
from scipy import ndimage

from instructx2x.anatomy.heart import Heart, cardiothoracic_ratio, find_heart
from instructx2x.anatomy.lungs import Lungs, bounding_box, segment_lungs
from instructx2x.anatomy.marks import Mark, read_marks
from instructx2x.anatomy.patient import Patient
from instructx2x.anatomy.priors import packaged_priors
from instructx2x.anatomy.pseudo_mask import EDITABLE, finding_mask, pseudo_mask
from instructx2x.errors import InstructX2XError
from instructx2x.evaluation import locality
from instructx2x.evaluation.journal import Journal
from instructx2x.evaluation.ranking import rank
from instructx2x.evaluation.reporting.strips import strip
from instructx2x.imaging.geometry import resize
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit, write_png
from instructx2x.instructions import Edit, Operation
from instructx2x.progress import progress
from instructx2x.training.data import load_table
from instructx2x.training.simulation.chest import Chest
from instructx2x.training.simulation.painters import cardiomegaly

SIZE = 256  # pixels a side at which boxes are counted, as pseudo masks are made
BOXED = ("lung opacity", "pneumonia")
NOT_NAMED, NAMED, ON_SIDE = "not named", "named", "named, the boxes up to the midline"
LIMITS = {NOT_NAMED: 0.38, NAMED: 0.20, ON_SIDE: 0.20}  # of the frame, while holding HELD of the boxes' area
HELD = 0.90
HEART = "cardiomegaly"
PAINTED = (2, 3, 4, 5)  # degrees of a simulated cardiomegaly, mild to severe
SHOWN = 0.04  # of the display's range: less is no visible change
NORMALS, ACROSS = 50, 10
RED, BLUE, GREEN, VIOLET = (255, 60, 60), (60, 160, 255), (0, 255, 0), (255, 0, 255)

Record = dict[str, Any]


def version() -> str:
    """A digest of all that the records depend on."""
    room = files("instructx2x.anatomy")
    parts = sorted((*room.iterdir(), *room.joinpath("data").iterdir()), key=lambda path: path.name)
    content = b"".join(path.read_bytes() for path in parts if path.name.endswith((".py", ".npz", ".safetensors")))
    return hashlib.sha256(content).hexdigest()[:16]


def drawn(boxes: Iterable[np.ndarray]) -> np.ndarray:
    """Boxes as a (SIZE, SIZE) bool mask."""
    mask = np.zeros((SIZE, SIZE), bool)
    for points in boxes:
        (left, top), (right, bottom) = (
            np.round(corner * SIZE).astype(int) for corner in (points.min(0), points.max(0))
        )
        mask[top:bottom, left:right] = True
    return mask


def cover(values: np.ndarray, boxes: np.ndarray) -> list[float]:
    """What a mask opens: share of the frame, and cells of the boxes inside it and in all."""
    opened = resize(values, SIZE, SIZE) >= EDITABLE
    return [float(opened.mean()), int((opened & boxes).sum()), int(boxes.sum())]


def one_side(boxes: Sequence[np.ndarray], midline: float) -> str | None:
    """The patient's side on which the middle of every box lies, or None."""
    sides = {"right" if points[:, 0].mean() < midline else "left" for points in boxes}
    return sides.pop() if len(sides) == 1 else None


def measure_boxes(display: np.ndarray, lungs: Lungs, marks: Sequence[Mark]) -> dict[str, dict[str, list[float]]]:
    """Per finding with boxes: what its mask opens and holds, and, where all lie on one side, when that side is named.

    What reaches over the midline from there is closed by promise: "on that side" counts the boxes up to the midline.
    """
    found = {}
    for finding in BOXED:
        points = [mark.points for mark in marks if finding in mark.findings]
        if not points:
            continue
        boxes, side = drawn(points), one_side(points, lungs.midline)
        found[finding] = {NOT_NAMED: cover(opened(finding, None, display, lungs), boxes)}
        if side:
            values = opened(finding, side, display, lungs)
            found[finding][NAMED] = cover(values, boxes)
            found[finding][ON_SIDE] = cover(values, boxes & locality.half(boxes.shape, side, lungs.midline))
    return found


def opened(finding: str, side: str | None, display: np.ndarray, lungs: Lungs) -> np.ndarray:
    return pseudo_mask([Edit(Operation.ADD, finding, side=side)], display, lungs=lungs).values


def measure_masks(display: np.ndarray, lungs: Lungs, heart: Heart, marks: Sequence[Mark]) -> Record:
    """What the masks of cardiomegaly open and hold, on this patient's heart and on the population's."""
    edit, priors = Edit(Operation.ADD, HEART), packaged_priors()
    masks = {
        name: finding_mask(edit, display.shape, priors, Patient.of(lungs, known))
        for name, known in (("patient", heart), ("population", None))
    }
    boxes = drawn([mark.points for mark in marks])
    record: Record = {name: {"opened": cover(values, boxes)} for name, values in masks.items()}
    if boxes.any():
        x, y, w, h = bounding_box(heart.mask)
        own = drawn([np.array([(x, y), (x + w, y + h)])])
        record["iou"] = float((own & boxes).sum() / (own | boxes).sum())
    else:
        for name, values in masks.items():
            record[name]["painted"] = painted_held(display, lungs, values)
    return record


def painted_held(display: np.ndarray, lungs: Lungs, values: np.ndarray) -> list[float]:
    """Shares of the visible change of simulated cardiomegalies, PAINTED, that lie in a mask."""
    image, right, left, mask = (resize(array, SIZE, SIZE) for array in (display, lungs.right, lungs.left, values))
    chest, shares = Chest(np.clip(image, 0, 1), {"right": right, "left": left}), []
    for severity in PAINTED:
        change = np.abs(cardiomegaly(chest, "", "", severity, "PA", np.random.default_rng(0)) - chest.image)
        change[change < SHOWN] = 0
        shares.append(float(change[mask >= EDITABLE].sum() / max(change.sum(), 1e-9)))
    return shares


def measure(path: Path, row: Record, marks: Sequence[Mark], normal: bool) -> Record:
    """Everything about one image; masks of cardiomegaly only on the normals, and where there are boxes to hold."""
    display = read(path).display()
    lungs = segment_lungs(display)
    heart = find_heart(display, lungs)
    record: Record = {
        "lungs": lungs.reason,
        "heart": heart.reason,
        "boxes": measure_boxes(display, lungs, marks),
        **{name: row[name] for name in ("group", "split", "view", "findings", "patient_id")},
    }
    if heart.plausible:
        record["ratio"] = cardiothoracic_ratio(heart.mask, lungs)
        large = [mark for mark in marks if HEART in mark.findings]
        if normal or large:
            record["masks"] = measure_masks(display, lungs, heart, large)
    return record


def coverage_table(records: Sequence[Record]) -> str:
    """Share of the frame that a mask opens and of the boxes' area that it holds."""
    header = ("finding", "side", "images", "without lungs", "share of the frame", "share of the boxes' area", "wanted")
    rows = []
    for finding in BOXED:
        for side, limit in LIMITS.items():
            chosen = [record for record in records if side in record["boxes"].get(finding, {})]
            if not chosen:
                continue
            frame, inside, whole = np.array([record["boxes"][finding][side] for record in chosen]).T
            kept = frame.mean() <= limit and inside.sum() >= HELD * whole.sum()
            wanted = f"<= {limit:.2f} and >= {HELD:.2f}: {'kept' if kept else 'missed'}"
            lost = sum(bool(record["lungs"]) for record in chosen)
            shares = f"{frame.mean():.3f}", f"{inside.sum() / whole.sum():.3f}"
            rows.append((finding, side, len(chosen), lost, *shares, wanted))
    return markdown(header, rows)


def plausible_table(records: Sequence[Record], normals: Sequence[Record]) -> str:
    """How often lungs and hearts are plausible."""
    val = [record for record in records if record["split"] == "val"]
    groups = {f"{NORMALS} NIH normals": normals, "all val adults": val}
    for view in ("PA", "AP"):
        groups[f"val adults, {view}"] = [record for record in val if record["view"] == view]
    groups["val adults with an effusion"] = [record for record in val if "Effusion" in record["findings"]]
    rows = [
        (name, share(not record["lungs"] for record in group), share(not record["heart"] for record in group))
        for name, group in groups.items()
    ]
    return markdown(("images", "lungs plausible", "heart plausible"), rows)


def reasons_table(records: Sequence[Record]) -> str:
    """Why hearts of val adults are not plausible."""
    found = [record["heart"] for record in records if record["split"] == "val" and record["heart"]]
    # Percentages differ from image to image.
    kinds = Counter(" ".join("N %" if "%" in word else word for word in reason.split()) for reason in found)
    return markdown(("reason", "images"), [(reason, str(count)) for reason, count in kinds.most_common()])


def ratio_table(records: Sequence[Record]) -> str:
    """Does the cardiothoracic ratio tell cardiomegaly from normals?"""
    header = ("images", "view", "cardiomegaly", "normals", "median ratio", "of normals", "AUC (95 % interval)")
    rows = []
    for name, splits in (("val", {"val"}), ("all", {"train", "val"})):
        for view in ("PA", "AP"):
            known = [record for record in records if "ratio" in record and record["group"] == "nih"]
            known = [record for record in known if record["view"] == view and record["split"] in splits]
            large = [record for record in known if "Cardiomegaly" in record["findings"]]
            normal = [record for record in known if record["findings"] == "No Finding" and record["split"] == "val"]
            both = [*large, *normal]
            if not (large and normal):
                continue
            found = rank(
                np.array([record["ratio"] for record in both]),
                np.arange(len(both)) < len(large),
                np.zeros(len(both)),
                [record["patient_id"] for record in both],
            )
            medians = (middle([record["ratio"] for record in group]) for group in (large, normal))
            auc = f"{found.auc:.2f} ({found.low:.2f}-{found.high:.2f})"
            rows.append((name, view, len(large), len(normal), *medians, auc))
    return markdown(header, rows)


def heart_table(records: Sequence[Record]) -> str:
    """What the mask of cardiomegaly opens and holds, on the patient's heart and on the population's."""
    known = [record["masks"] for record in records if "masks" in record]
    boxed = [masks for masks in known if "iou" in masks]
    normals = [masks for masks in known if "iou" not in masks]
    painted = (f"painted, degree {degree}" for degree in PAINTED)
    rows = []
    for name in ("population", "patient"):
        inside, whole = np.sum([masks[name]["opened"][1:] for masks in boxed], axis=0) if boxed else (0, 0)
        frame = [masks[name]["opened"][0] for masks in normals]
        shares = np.transpose([masks[name]["painted"] for masks in normals]) if normals else [[]] * len(PAINTED)
        rows.append(
            (
                name,
                middle(frame, of=np.mean),
                *(middle(degree, of=np.mean) for degree in shares),
                f"{inside / whole:.3f}" if whole else "-",
            )
        )
    ious = ", ".join(f"{masks['iou']:.2f}" for masks in boxed) or "-"
    header = ("mask", f"share of the frame, {len(normals)} normals", *painted, f"area of {len(boxed)} boxes")
    return f"{markdown(header, rows)}\n\nThe heart's box and a radiologist's box of cardiomegaly, IoU: {ious}"


def outlined(path: Path) -> np.ndarray:
    """One image with the outlines of its lungs and heart, and the verdicts."""
    display = read(path).display()
    lungs = segment_lungs(display)
    heart = find_heart(display, lungs)
    panel = np.repeat(eight_bit(resize(display, SIZE, SIZE))[..., None], 3, axis=2)
    hue = GREEN if heart.plausible else VIOLET
    for mask, colour in ((lungs.right, RED), (lungs.left, BLUE), (heart.mask, hue)):
        inside = resize(mask, SIZE, SIZE) >= 0.5
        panel[inside ^ ndimage.binary_erosion(inside)] = colour
    return strip(f"{path.stem} {heart.reason}"[:44], [panel])


def write_normals(paths: Sequence[Path], out: Path) -> None:
    panels = []
    with progress("drawing normals", len(paths)) as advance:
        for path in paths:
            panels.append(outlined(path))
            advance()
    panels += [np.zeros_like(panels[0])] * (-len(panels) % ACROSS)
    rows = [np.concatenate(panels[first : first + ACROSS], axis=1) for first in range(0, len(panels), ACROSS)]
    write_png(np.concatenate(rows), out, text={})


def run(data: Path, out: Path) -> None:
    table = load_table(data)
    marks = defaultdict(list)
    for mark in read_marks(data / "boxes.csv"):
        if mark.held_out and set(mark.findings) & {*BOXED, HEART}:
            marks[mark.image].append(mark)
    large = (pl.col("group") == "nih") & pl.col("findings").str.contains("Cardiomegaly")
    wanted = table.filter(pl.col("adult") & ((pl.col("split") == "val") | large | pl.col("id").is_in(list(marks))))
    journal = Journal(out / "records.jsonl", {"anatomy": version()})
    records, normals = {}, held_out(table, "nih", exactly="No Finding")[:NORMALS]
    with progress("measuring", len(wanted)) as advance:
        for row in wanted.sort("id").iter_rows(named=True):
            if row["id"] not in journal:
                journal.add(row["id"], measure(data / row["file"], row, marks[row["id"]], row["file"] in normals))
            records[row["file"]] = journal[row["id"]]
            advance()
    everyone = list(records.values())
    for title, text in (
        ("Share of the frame and of the boxes' area", coverage_table(everyone)),
        ("Plausible lungs and hearts", plausible_table(everyone, [records[file] for file in normals])),
        ("Why a heart is not plausible", reasons_table(everyone)),
        ("Cardiothoracic ratio", ratio_table(everyone)),
        ("Masks of cardiomegaly", heart_table(everyone)),
    ):
        print(f"\n{title}\n\n{text}")
    write_normals([data / file for file in normals], out / "normals.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the open X-rays, with metadata.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the records and the picture")
    options = parser.parse_args()
    try:
        run(options.data, options.out)
    except InstructX2XError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
