"""Thousands of radiographs, prepared for training: small gray PNGs, written in parallel and each one whole.

A run that was cut off goes on where it stopped. What is done is read off the written files themselves: they appear
in one step, and their text entries say how they were made.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from ..errors import InputError, OutputError
from ..files import contents
from ..imaging import MIN_SIDE, Frame, atomic_write, eight_bit, jpeg, read
from ..imaging.pictures import JPEG, MAX_BYTES
from ..imaging.radiograph import check_scans, check_size, label
from ..imaging.writing import text_entries
from ..progress import progress
from ..results.folders import sweep

Mode = Literal["squash", "letterbox"]
Sources = tuple[Path, ...]
Outcome = TypeVar("Outcome")

MAX_SIZE = 4096


@dataclass(frozen=True)
class Preparation:
    """How an image becomes a training image.

    Attributes:
        size: side of the square in pixels, 32 to 4096.
        mode: "squash" stretches the image to the square, as the official code does; "letterbox" keeps its aspect and
            centres it on black.

    Raises:
        InputError: another size or mode.
    """

    size: int = 512
    mode: Mode = "squash"

    def __post_init__(self):
        if not MIN_SIDE <= self.size <= MAX_SIZE:
            raise InputError(f"images of {self.size} pixels a side: choose {MIN_SIDE} to {MAX_SIZE}")
        if self.mode not in get_args(Mode):
            raise InputError(f"unknown way to fit an image {self.mode!r}: choose {' or '.join(get_args(Mode))}")

    def __str__(self) -> str:
        return f"{self.mode} {self.size}"


def prepare_image(source: Path, preparation: Preparation) -> np.ndarray:
    """One radiograph as a square of 8-bit gray, reduced with Lanczos' filter.

    Args:
        source: any file that `imaging.read` takes. 8-bit files keep their values, others are shown through their
            window.
        preparation: size and mode.

    Returns:
        (size, size) uint8, 0 black.

    Raises:
        InputError: a file that is missing, damaged, cut short, in colour, too large, too small or without contrast;
            one line with its name.
    """
    image = gray_image(source)
    top, bottom, left, right = Frame(image.height, image.width, preparation.size, preparation.mode).content
    square = Image.new("L", (preparation.size, preparation.size))
    small = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    low, high = small.getextrema()
    if low == high:
        raise InputError(f"{label(source)}: no contrast: every pixel has the same value")
    square.paste(small, (left, top))
    return np.asarray(square)


def gray_image(source: Path) -> Image.Image:
    """A radiograph's display in 8 bits, mode L, 0 black.

    Raises:
        InputError: whatever `imaging.read` refuses.
    """
    image = _plain_jpeg(source)
    return image or Image.fromarray(eight_bit(read(source).display()))


def prepare_images(
    jobs: Iterable[tuple[Path, Path]], preparation: Preparation, *, workers: int | None = None
) -> dict[Path, str]:
    """Prepare many images. Targets that an earlier run prepared in the same way stay as they are.

    Args:
        jobs: (source, target) each; targets end in .png, and their folders are made.
        preparation: size and mode, the same for all.
        workers: threads; by default one for each processor that this process may use.

    Returns:
        target -> why it could not be made, in one line; empty when all are there. The order is the jobs'.

    Raises:
        InputError: a target that is no .png, or is asked for twice from different sources.
        OutputError: a target cannot be written.
    """

    def make(sources: Sources) -> tuple[np.ndarray, Mapping[str, str]]:
        return prepare_image(*sources, preparation), {"Preparation": str(preparation)}

    def accept(sources: Sources, entries: Mapping[str, str]) -> bool | None:
        return entries.get("Preparation") == str(preparation) or None

    wanted = by_target((target, (source,)) for source, target in jobs)
    outcomes = write_all(wanted, make, accept, workers=workers, description="Preparing images")
    return {target: outcome for target, outcome in outcomes.items() if isinstance(outcome, str)}


def by_target(jobs: Iterable[tuple[Path, Sources]]) -> dict[Path, Sources]:
    """The sources of each file to write; a job that is named again counts once.

    Raises:
        InputError: a target that is no .png, or two different jobs for one.
    """
    wanted: dict[Path, Sources] = {}
    for target, sources in jobs:
        if target.suffix != ".png":
            raise InputError(f"{label(target)}: images are written as PNG; let the name end in .png")
        if wanted.setdefault(target, sources) != sources:
            raise InputError(f"{label(target)}: asked for twice, from different sources; give each its own name")
    return wanted


def write_all(
    jobs: Mapping[Path, Sources],
    make: Callable[[Sources], tuple[np.ndarray, Mapping[str, str]]],
    accept: Callable[[Sources, Mapping[str, str]], Outcome | None],
    *,
    workers: int | None,
    description: str,
) -> dict[Path, Outcome | str]:
    """Write a PNG for every job, in parallel; a target that is already accepted is not made again.

    What a killed run left beside the targets is removed first. The bytes do not depend on the number of workers.

    Args:
        jobs: target -> the files that it is made of.
        make: sources -> the picture, (H, W) uint8, and the text entries of its PNG.
        accept: (sources, entries of a whole PNG) -> what to report of it, or None where it has to be made (again).
        workers: threads, not processes: Pillow and SimpleITK let others run while they compute, and threads need no
            copies. By default one for each processor that this process may use.
        description: what the progress bar says.

    Returns:
        target -> what `accept` reports, or why the target could not be made, as a str. The order is the jobs'.

    Raises:
        OutputError: a target cannot be written. A full disk says nothing about the images.
    """
    workers = workers or usable_processors()
    for folder in {target.parent for target in jobs}:
        sweep(folder)

    def work(target: Path, sources: Sources) -> Outcome | str:
        outcome = accept(sources, text_entries(target))
        if outcome is not None:
            return outcome
        try:
            if target.exists() and any(source.exists() and target.samefile(source) for source in sources):
                return f"{label(target)}: would replace its own source; write into another folder"
            picture, entries = make(sources)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(picture, target, entries)
        except InputError as error:
            return str(error)
        except OSError as error:
            reason = error.strerror or "the system refused"
            raise OutputError(f"{label(target)}: cannot be written ({reason}); choose another folder") from error
        return accept(sources, entries)

    outcomes: dict[Path, Outcome | str] = dict.fromkeys(jobs)
    # Decoders warn about oddities that are no user's business. Set here, because the filters belong to the process.
    with (
        warnings.catch_warnings(action="ignore"),
        ThreadPoolExecutor(workers) as pool,
        progress(description, len(jobs)) as advance,
    ):
        running: dict[Future, Path] = {}

        def collect() -> None:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcomes[running.pop(future)] = future.result()
                advance()

        try:
            for target, sources in jobs.items():
                # As many waiting as working: enough that no worker idles, and no more in memory.
                if len(running) >= 2 * workers:
                    collect()
                running[pool.submit(work, target, sources)] = target
            while running:
                collect()
        except BaseException:
            # Ctrl-C waits for the images in work, a fraction of a second, and for no others.
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def usable_processors() -> int:
    """Processors that this process may use; a container or a queue often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plain_jpeg(source: Path) -> Image.Image | None:
    """The pixels of an 8-bit gray JPEG, or None for every other file, which `imaging.read` reads or refuses.

    `read` with its display takes three times as long over a JPEG, because it keeps what an edit needs: stored values
    and their display.
    """
    try:
        data = contents(source, MAX_BYTES)
        if not data.startswith(JPEG):
            return None
        found = jpeg.bare(data)
        check_size(found.height, found.width)
        check_scans(found.data, found.height * found.width)
        image = JpegImagePlugin.JpegImageFile(BytesIO(found.data))
        if image.mode != "L" or found.orientation != 1:
            return None
        image.load()
        return image
    except Exception:
        return None


def _write(picture: np.ndarray, target: Path, entries: Mapping[str, str]) -> None:
    info = PngImagePlugin.PngInfo()
    for key, value in entries.items():
        info.add_text(key, value)
    # Film noise hardly repeats, so searching for repeats is time lost: run lengths (for the black around letterboxed
    # images) and Huffman codes alone take 11 ms for a square of 512, level 6 with its search 52 ms and a tenth more
    # bytes. Decoding and reducing a JPEG of 8 megapixels takes 108 ms.
    image, how = Image.fromarray(picture), {"compress_level": 1, "compress_type": zlib.Z_RLE}
    # One that a power cut spoils is told by its missing end and made again; to wait for the disk takes too long.
    atomic_write(target, lambda file: image.save(file, "PNG", pnginfo=info, **how), durable=False)
