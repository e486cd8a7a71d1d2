"""Does the bundled model do what it is told on real X-rays it has not seen, and are the guarantees kept?

    python benchmarks/first_light.py --data DATA --out OUT [--model FOLDER]

Prints three Markdown tables (guarantees and time on 20 images; side of an effusion; change inside and outside the
heart, and per lung) and writes a contact sheet of 12 edits to OUT/sheet.png.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from instructx2x import Editor
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit
from instructx2x.progress import track
from instructx2x.training.data import load_table

INSTRUCTIONS = (
    "Add the finding of left pleural effusion.",
    "Add the finding of edema.",
    "Add the finding of cardiomegaly.",
    "Add the finding of right lower lobe consolidation.",
    "Remove the finding of pleural effusion.",
)
SHEET = (
    ("No Finding", "Add the finding of left pleural effusion."),
    ("No Finding", "Add the finding of large right pleural effusion."),
    ("No Finding", "Add the finding of edema."),
    ("No Finding", "Add the finding of severe cardiomegaly."),
    ("No Finding", "Add the finding of right lower lobe consolidation."),
    ("No Finding", "Add the finding of left upper lung opacity."),
    ("No Finding", "Add the finding of right pneumothorax."),
    ("No Finding", "Add the finding of left basal atelectasis."),
    ("No Finding", "Add the finding of right upper lobe mass."),
    ("Effusion", "Remove the finding of pleural effusion."),
    ("Cardiomegaly", "Remove the finding of cardiomegaly."),
    ("Consolidation", "Remove the finding of consolidation."),
)


def held_out(table: pl.DataFrame, group: str, finding: str = "", exactly: str = "") -> list[str]:
    """Files of val patients of one source, one a patient, in the table's order."""
    rows = table.filter((pl.col("split") == "val") & (pl.col("group") == group))
    if exactly:
        rows = rows.filter(pl.col("findings") == exactly)
    if finding:
        rows = rows.filter(pl.col("findings").str.contains(finding))
    return rows.unique("patient_id", keep="first", maintain_order=True)["file"].to_list()


def twenty(data: Path, table: pl.DataFrame, folder: Path) -> list[tuple[str, Path]]:
    """Twenty real images: as they are, at 16 bits, and at odd sizes; copies go to `folder`."""
    files = held_out(table, "han")[:4] + held_out(table, "ker")[:3]
    files += held_out(table, "nih")[: 20 - len(files)]
    chosen = []
    for number, file in enumerate(files):
        path, kind = data / file, ("as it is", "16 bits", "odd size, 16 bits", "odd size")[number % 4]
        pixels = read(path).pixels
        if "odd" in kind:
            pixels = np.asarray(Image.fromarray(pixels).resize((301 + 10 * number, 447 - 6 * number)))
        if "16" in kind:
            pixels = pixels.astype(np.uint16) * 257
        if kind != "as it is":
            path = folder / f"{path.stem}.{'tiff' if number % 4 == 2 else 'png'}"
            Image.fromarray(pixels).save(path)
        chosen.append((kind, path))
    return chosen


def guarantees(editor: Editor, images: list[tuple[str, Path]]) -> None:
    outside, repeated, seconds, empty = 0, 0, [], 0
    for number, (_, path) in enumerate(track(images, "guarantees")):
        began = time.perf_counter()
        study = editor.open(path)
        result = study.edit(INSTRUCTIONS[number % len(INSTRUCTIONS)], seed=number)
        seconds.append(time.perf_counter() - began)
        changed = result.image.pixels != study.radiograph.pixels
        outside += int((changed & ~result.mask).sum())
        again = editor.open(path).edit(INSTRUCTIONS[number % len(INSTRUCTIONS)], seed=number)
        repeated += int(again.image.pixels.tobytes() == result.image.pixels.tobytes())
        empty += int(not result.mask.any())
    print("\n| images | pixels changed outside the mask | same bytes twice | median s | slowest s | empty masks |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {len(images)} | {outside} | {repeated} of {len(images)} | {statistics.median(seconds):.1f} "
        f"| {max(seconds):.1f} | {empty} |"
    )


def asked_side(editor: Editor, data: Path, files: list[str]) -> None:
    print("\n| instruction | images | edited | change on the asked side, median | lowest | mean change in the mask |")
    print("|---|---|---|---|---|---|")
    for side in ("left", "right"):
        shares, amounts = [], []
        for number, file in enumerate(track(files, f"{side} effusion")):
            study = editor.open(data / file)
            result = study.edit(f"Add the finding of {side} pleural effusion.", seed=number)
            change = result.image.display() - study.display
            if not result.mask.any():
                continue
            middle = round(study.lungs.midline * change.shape[1])
            half = slice(middle, None) if side == "left" else slice(None, middle)
            shares.append(np.abs(change[:, half]).sum() / max(np.abs(change).sum(), 1e-9))
            amounts.append(change[result.mask].mean())
        print(
            f"| Add {side} pleural effusion | {len(files)} | {len(shares)} | {np.median(shares):.4f} "
            f"| {min(shares):.4f} | {np.mean(amounts):+.3f} |"
        )


def regions(editor: Editor, data: Path, files: list[str]) -> None:
    print("\n| instruction | images | edited | right lung | left lung | between the lungs |")
    print("|---|---|---|---|---|---|")
    for text in ("Add the finding of edema.", "Add the finding of cardiomegaly.", "Remove the finding of edema."):
        means, edited = [], 0
        for number, file in enumerate(track(files, text)):
            study = editor.open(data / file)
            result = study.edit(text, seed=number)
            edited += int(result.mask.any())
            change = result.image.display() - study.display
            right, left = study.lungs.right > 0.5, study.lungs.left > 0.5
            means.append((change[right].mean(), change[left].mean(), change[~right & ~left].mean()))
        print(f"| {text} | {len(files)} | {edited} | " + " | ".join(f"{v:+.4f}" for v in np.mean(means, axis=0)) + " |")


def sheet(editor: Editor, data: Path, table: pl.DataFrame, out: Path) -> None:
    """Twelve edits, four panels each: input, edited, difference, guidance map."""
    used: dict[str, int] = {}
    tiles = []
    for number, (finding, text) in enumerate(track(SHEET, "contact sheet")):
        kind = {"exactly": finding} if finding == "No Finding" else {"finding": finding}
        files = held_out(table, "nih", **kind)
        used[finding] = used.get(finding, -1) + 1
        study = editor.open(data / files[2 * used[finding]])
        result = study.edit(text, seed=number)
        before, after = study.display, result.image.display()
        difference = np.clip(0.5 + (after - before), 0, 1)
        faded = before * (1 - result.guidance)
        red = np.stack([np.maximum(before, result.guidance), faded, faded], axis=-1)
        panels = [
            Image.fromarray(eight_bit(p)).convert("RGB").resize((256, 256)) for p in (before, after, difference, red)
        ]
        tile = Image.new("RGB", (1024, 272))
        for column, panel in enumerate(panels):
            tile.paste(panel, (256 * column, 16))
        ImageDraw.Draw(tile).text((4, 2), f"{text}  (input: {finding}; edited image is synthetic)", fill="white")
        tiles.append(tile)
    page = Image.new("RGB", (2048, 272 * 6))
    for number, tile in enumerate(tiles):
        page.paste(tile, (1024 * (number % 2), 272 * (number // 2)))
    out.mkdir(parents=True, exist_ok=True)
    page.save(out / "sheet.png")
    print(f"\n{out / 'sheet.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--count", type=int, default=20, help="images for each row of the side and region tables")
    arguments = parser.parse_args()
    table = load_table(arguments.data)
    editor = Editor.from_pretrained(arguments.model)
    normals = held_out(table, "nih", exactly="No Finding")[: arguments.count]
    sheet(editor, arguments.data, table, arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        guarantees(editor, twenty(arguments.data, table, Path(folder)))
    asked_side(editor, arguments.data, normals)
    regions(editor, arguments.data, normals)


if __name__ == "__main__":
    main()
