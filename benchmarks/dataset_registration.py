"""Does registration align follow-up X-rays, and does its score tell pairs that belong together from others?

    python benchmarks/dataset_registration.py --data DATA [--pairs 120] [--known 60] [--workers N] [--size 512]

DATA is the folder of the open X-rays (`metadata.csv`, `pairs.csv`, `images/`). Prints two Markdown tables: quality
before and after alignment of neighbouring same-view visits of one patient, of the same current images with another
patient's image of the same source and view, and of one patient's image with the other turned upside down; and how
exactly a known transform of one image is found again (turn up to 8 degrees, scale 0.9 to 1.1, shift up to 8 %, film
noise, exposure).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from instructx2x.dataset.images import Preparation, prepare_image, usable_processors
from instructx2x.dataset.registration import MIN_QUALITY, Registration, register
from instructx2x.training.data import load_table

THRESHOLDS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35)
SOURCES = {"nih": "NIH", "han": "Hannover"}


def known_transform(size: int, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) matrix about the image's centre, in the direction of `Registration.matrix`."""
    turn, centre = np.deg2rad(rng.uniform(-8, 8)), (size - 1) / 2
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * rng.uniform(0.9, 1.1)
    return np.column_stack([linear, centre + rng.uniform(-0.08, 0.08, 2) * size - linear @ [centre, centre]])


def transformed(image: np.ndarray, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The past image that `matrix` lays on `image`: drawn with SciPy, other exposure, with noise. (H, W) uint8."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2][::-1][:, [1, 0, 2]]
    past = ndimage.affine_transform(image.astype(np.float32), inverse[:, :2], inverse[:, 2], order=3)
    past = 255 * (np.clip(past, 0, 255) / 255) ** rng.uniform(0.8, 1.25) + rng.normal(0, 3, past.shape)
    return np.round(np.clip(past, 0, 255)).astype(np.uint8)


def corner_error(found: np.ndarray, true: np.ndarray, size: int) -> float:
    """Mean distance in pixels between where the two matrices take the four corners."""
    corners = np.array([(x, y, 1) for x in (0, size - 1) for y in (0, size - 1)]).T
    return float(np.linalg.norm((found - true) @ corners, axis=0).mean())


def all_of(register_one: Callable[[int], Registration], number: int, workers: int, what: str) -> list[Registration]:
    with ThreadPoolExecutor(workers) as pool:
        return list(track(pool.map(register_one, range(number)), what, number, console=Console(stderr=True)))


def auc(higher: Iterable[float], lower: Iterable[float]) -> float:
    """How often one of the first is above one of the second."""
    return float(np.mean(np.subtract.outer(np.array(higher), np.array(lower)) > 0))


def row(*cells: object) -> str:
    return f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=120, help="of each source")
    parser.add_argument("--known", type=int, default=60)
    parser.add_argument("--workers", type=int, default=usable_processors())
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    rng = np.random.default_rng(0)

    table = load_table(options.data)
    files = dict(table.select("id", "file").iter_rows())
    patients = dict(table.select("id", "patient_id").iter_rows())
    pairs = pl.read_csv(options.data / "pairs.csv", infer_schema_length=None).filter(
        (pl.col("adjacent") == 1)
        & (pl.col("same_view") == 1)
        & pl.col("past_id").is_in(list(files))
        & pl.col("current_id").is_in(list(files))
    )

    def image(name: str) -> np.ndarray:
        return prepare_image(options.data / files[name], Preparation(options.size))

    print("| pairs | n | before | after | 5 % below | 95 % below | improved | kept | CPU s a pair |")
    print("|---|---|---|---|---|---|---|---|---|")
    scores: dict[str, list[float]] = {}
    currents: list[str] = []
    for source, title in SOURCES.items():
        chosen = pairs.filter(pl.col("past_id").str.starts_with(source))
        chosen = chosen[np.sort(rng.permutation(len(chosen))[: options.pairs])]
        same = list(chosen.select("past_id", "current_id").iter_rows())
        views = dict(chosen.select("current_id", "current_view").iter_rows())
        others = []
        for _, current in same:
            strangers = [p for p, c in same if patients[p] != patients[current]]
            alike = [p for p, c in same if p in strangers and views[c] == views[current]]
            others.append((rng.choice(alike or strangers), current))
        currents += [current for _, current in same]
        for kind, job in (("one patient", same), ("two patients", others), ("upside down", same)):
            turned = kind == "upside down"
            start = time.process_time()
            found = all_of(
                lambda i, job=job, turned=turned: register(
                    np.ascontiguousarray(image(job[i][0])[:: -1 if turned else 1]), image(job[i][1])
                ),
                len(job), options.workers, f"{title}, {kind}",
            )  # fmt: skip
            seconds = (time.process_time() - start) / len(job)
            before, after = np.array([r.before for r in found]), np.array([r.quality for r in found])
            scores.setdefault(kind, []).extend(after)
            print(
                row(
                    f"{title}, {kind}", len(job), *np.median([before, after], axis=1).tolist(),
                    *np.quantile(after, [0.05, 0.95]).tolist(), float((after > before).mean()),
                    float((after >= MIN_QUALITY).mean()), seconds,
                )
            )  # fmt: skip
    same = scores["one patient"]
    print("\nArea under the curve of one patient's pairs, against:", end=" ")
    print(", ".join(f"{kind} {auc(same, scores[kind]):.3f}" for kind in ("two patients", "upside down")), end="\n\n")
    print(row("kept at quality", *THRESHOLDS))
    print("|---" * (len(THRESHOLDS) + 1) + "|")
    for kind, values in scores.items():
        print(row(kind, *(float(np.mean(np.array(values) >= threshold)) for threshold in THRESHOLDS)))

    truths, pictures = [], []
    for name in rng.permutation(sorted(set(currents)))[: options.known]:
        truths.append(known_transform(options.size, rng))
        picture = image(name)
        pictures.append((transformed(picture, truths[-1], rng), picture))
    found = all_of(lambda i: register(*pictures[i]), len(truths), options.workers, "known transforms")
    errors = np.array([corner_error(r.matrix, true, options.size) for r, true in zip(found, truths, strict=True)])
    failed = errors >= 2
    qualities = np.array([r.quality for r in found])
    print(f"\n| known transforms of one image at {options.size} px | |\n|---|---|")
    print(row("images", len(errors)))
    print(row("corner error, median and 90 % (px)", " and ".join(f"{np.quantile(errors, q):.2f}" for q in (0.5, 0.9))))
    print(row("under 2 px", float((~failed).mean())))
    print(row("quality, lowest where under 2 px", float(qualities[~failed].min())))
    print(row("of the others kept", f"{int((qualities[failed] >= MIN_QUALITY).sum())} of {int(failed.sum())}"))


if __name__ == "__main__":
    main()
