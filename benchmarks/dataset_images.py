"""How fast are radiographs prepared, against only decoding and resizing them with Pillow?

    python benchmarks/dataset_images.py [--images 24] [--rounds 7] [--workers N] [--size 512]

Makes synthetic 8-bit gray JPEGs of 2544 x 3056 pixels, quality 95, with the noise of a film, and alternates, because
machines are noisy: Pillow's decoding and Lanczos resizing of the files in as many threads, nothing written; and
`prepare_images`, with checks, PNGs and renaming. Prints the median of each in images per second, and the median of the
rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from instructx2x.dataset.images import Preparation, prepare_images, usable_processors
from instructx2x.imaging.writing import eight_bit

HEIGHT, WIDTH = 3056, 2544


def film(seed: int) -> np.ndarray:
    """A drawing of a chest: bright body, dark lungs, ribs, noise. (HEIGHT, WIDTH) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    y, x = y / HEIGHT, x / WIDTH
    image = np.full((HEIGHT, WIDTH), 0.62, dtype=np.float32)
    for centre in (0.3, 0.7):
        edge = (((x - centre) / 0.15) ** 2 + ((y - 0.5) / 0.33) ** 2 - 1) * 6
        image -= 0.42 / (1 + np.exp(np.minimum(edge, 50)))
    image += 0.04 * np.sin(y * 60 + np.abs(x - 0.5) * 12)
    image += 0.012 * rng.standard_normal(image.shape, dtype=np.float32)
    return eight_bit(image)


def plain(source: Path, size: int) -> None:
    with Image.open(source) as image:
        image.resize((size, size), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=usable_processors())
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        drawings = [film(seed) for seed in range(4)]
        sources = [folder / f"{number}.jpg" for number in range(options.images)]
        for number, source in enumerate(sources):
            Image.fromarray(drawings[number % len(drawings)]).save(source, quality=95)

        rates: dict[str, list[float]] = {"plain": [], "ours": []}
        for number in range(options.rounds):
            start = time.perf_counter()
            with ThreadPoolExecutor(options.workers) as pool:
                list(pool.map(lambda source: plain(source, options.size), sources))
            rates["plain"].append(options.images / (time.perf_counter() - start))

            jobs = [(source, folder / f"round{number}" / source.with_suffix(".png").name) for source in sources]
            start = time.perf_counter()
            failures = prepare_images(jobs, Preparation(options.size), workers=options.workers)
            rates["ours"].append(options.images / (time.perf_counter() - start))
            if failures:
                raise SystemExit(f"not prepared: {failures}")

    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    print(f"{options.images} JPEGs of {WIDTH} x {HEIGHT}, {options.workers} threads, median of {options.rounds} rounds")
    for name, values in rates.items():
        print(f"{name:>6}: {statistics.median(values):6.2f} images/s")
    print(f" ratio: {statistics.median(ratios):6.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
