"""Check what a result claims, from its files alone: `x2x verify`.

The model is not needed. From the files of a result folder are calculated again: every digest, the guidance map from
its two factors, the mask from the guidance map, the counts of the report, and that no pixel outside the mask differs
from the source. Where the source file is at hand, it is compared pixel by pixel as well.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image

from instructx2x.editing import official
from instructx2x.editing.guidance import guidance_map
from instructx2x.errors import InputError
from instructx2x.files import digest
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.radiograph import MAX_PIXELS
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit
from instructx2x.results.seal import REPORT, SCHEMA, pixels_digest, report_digest

MAX_REPORT_BYTES = 50_000_000
MAPS = {"relevance": "f4", "relevance_spread": "f4", "pseudo_mask": "f4", "guidance": "f4", "mask": "?"}
SAMPLE_MAPS = {"sample_spread": "f4", "mask_frequency": "f4"}
SQUARE_MAPS = {"relevance_cells": "f4", "pseudo_mask_square": "f4"}


class _Wrong(Exception):
    """A claim that does not hold, in one line."""


def results_in(out: Path) -> list[Path]:
    """The result folders in a folder: itself, or those one level below, by name.

    Raises:
        InputError: there is none.
    """
    if not out.is_dir():
        raise InputError(f"{out}: no such folder; name a result of x2x edit, or a folder that holds results")
    if (out / REPORT).is_file():
        return [out]
    found = sorted(path for path in out.iterdir() if path.is_dir() and (path / REPORT).exists())
    if not found:
        raise InputError(f"{out}: no result in it, and none one level below (a result holds {REPORT}); name another")
    return found


def verify_result(folder: Path, sources: Path | None = None) -> list[str]:
    """Check one result folder.

    Args:
        folder: as `x2x edit` or `x2x guidance` wrote it.
        sources: the source image, or a folder that holds it under its name; without it, the digest of its pixels
            outside the mask is what the edit is compared with.

    Returns:
        What does not hold, a line each; empty if everything holds.
    """
    problems: list[str] = []
    try:
        report = _report(folder)
    except _Wrong as error:
        return [str(error)]
    problems += _files(folder, report)
    try:
        maps = _maps(folder, report)
        problems += _arithmetic(maps, report)
        problems += _copies(folder, report, maps)
        problems += _edits(folder, report, maps["mask"], sources)
    except _Wrong as error:
        problems.append(str(error))
    problems += _marks(folder, report)
    return problems


def verify_batch(out: Path, folders: list[Path]) -> list[str]:
    """Check that the manifest of a batch names exactly these results, and says of each what its report says.

    Returns:
        What does not hold, a line each; empty if everything holds or `out` is no batch.
    """
    manifest = out / "manifest.jsonl"
    if not manifest.is_file():
        return []
    try:
        entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        done = {entry["folder"]: entry for entry in entries if entry["status"] == "done"}
    except (OSError, ValueError, KeyError, TypeError):
        return ["manifest.jsonl: damaged, or not of a batch"]
    names = {folder.name for folder in folders}
    problems = [f"{name}: in manifest.jsonl as done, but its result is missing" for name in sorted(done.keys() - names)]
    problems += [f"{name}: a result that manifest.jsonl does not name" for name in sorted(names - done.keys())]
    for name in sorted(names & done.keys()):
        try:
            report = _report(out / name)
        except _Wrong:
            continue  # `verify_result` says it
        entry = done[name]
        said = {
            "instruction": report["instruction"]["text"],
            "seed": report["seed"],
            "edited": report.get("written_as"),
            "mask_fraction": report["mask"]["fraction"],
            "pixels_changed": report.get("pixels_changed"),
        }
        for key, value in said.items():
            if entry.get(key) != value:
                problems.append(f"{name}: manifest.jsonl has {key} {entry.get(key)!r}, its report has {value!r}")
    return problems


def _report(folder: Path) -> dict[str, Any]:
    """The report, its digest checked, with every value that is used here of the right kind."""
    path = folder / REPORT
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            raise _Wrong(f"{REPORT}: larger than any report")
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _Wrong(f"{REPORT}: missing or damaged") from error
    try:
        if report["schema"] != SCHEMA:
            raise _Wrong(f"{REPORT}: of schema {report['schema']}, which this version does not check")
        if report["sha256"] != report_digest(report):
            raise _Wrong(f"{REPORT}: changed since it was written (its own digest differs)")
        if report["synthetic"] is not True:
            raise _Wrong(f"{REPORT}: does not say that the image is synthetic")
        height, width, threshold = report["source"]["height"], report["source"]["width"], _threshold(report)
        right = (
            all(type(side) is int and 0 < side <= MAX_PIXELS for side in (height, width))
            and math.isfinite(threshold)
            and type(report["seed"]) is int
            and type(report.get("samples", 1)) is int
            and isinstance(report["source"], dict)
            and isinstance(report["files"], dict)
            and isinstance(report["mask"], dict)
            and isinstance(report.get("written_as", ""), str)
        )
        described = (
            report["instruction"]["text"],
            report["model"]["name"],
            report["model"]["sha256"],
            report["profile"],
        )
        right = right and all(isinstance(value, str) for value in described)
        report["mask"]["pixels"], report["mask"]["fraction"], report["mask"]["highest_guidance"]
    except (KeyError, TypeError, ValueError) as error:
        raise _Wrong(f"{REPORT}: incomplete; not the report of a result") from error
    if not right:
        raise _Wrong(f"{REPORT}: holds a value of the wrong kind")
    return report


def _threshold(report: dict[str, Any]) -> float:
    return float(report["parameters"]["threshold"])


def _files(folder: Path, report: dict[str, Any]) -> list[str]:
    """Every file that the report names is there with its digest, and no other file is."""
    problems = []
    needed = {"maps.npz", "guidance_map.png", "mask.png"}
    if report.get("written_as") == "edited.dcm":
        needed |= {"mask.dcm", "guidance_map.dcm"}
    if "written_as" in report:
        needed |= {report["written_as"], "comparison.png"}
        count = report.get("samples", 1)
        if count > 1:
            first, ending = report["seed"], Path(report["written_as"]).suffix
            needed |= {f"edited_seed_{seed}{ending}" for seed in range(first + 1, first + count)}
    named: dict[str, str] = report["files"]
    problems += [f"{name}: not named in {REPORT}, as it must be" for name in sorted(needed - named.keys())]
    there = {path.name for path in folder.iterdir()} - {REPORT}
    for name, sha256 in sorted(named.items()):
        if name not in there or not (folder / name).is_file():
            problems.append(f"{name}: missing")
        elif digest(folder / name) != sha256:
            problems.append(f"{name}: changed since it was written (its digest differs)")
    problems += [f"{name}: not a part of this result; keep it elsewhere" for name in sorted(there - named.keys())]
    return problems


def _maps(folder: Path, report: dict[str, Any]) -> dict[str, np.ndarray]:
    """The maps, of the right size and kind, finite and in [0, 1]."""
    height, width = report["source"]["height"], report["source"]["width"]
    wanted = dict(MAPS)
    if report.get("samples", 1) > 1:
        wanted |= SAMPLE_MAPS
    if report["profile"] == "official":
        wanted |= SQUARE_MAPS
    maps = {}
    try:
        with zipfile.ZipFile(folder / "maps.npz") as archive:
            if {f"{name}.npy" for name in wanted} != set(archive.namelist()):
                raise _Wrong(f"maps.npz: must hold {', '.join(wanted)}, and nothing else")
            for name, dtype in wanted.items():
                with archive.open(f"{name}.npy") as file:
                    # The header first: a small file may announce more than fits in memory.
                    if np.lib.format.read_magic(file) != (1, 0):
                        raise _Wrong(f"maps.npz: {name} is of a version that is never written here")
                    shape, _, kind = np.lib.format.read_array_header_1_0(file)
                    on_square = name in SQUARE_MAPS and len(shape) == 2 and math.prod(shape) <= MAX_PIXELS
                    if kind != np.dtype(dtype) or not (shape == (height, width) or on_square):
                        raise _Wrong(f"maps.npz: {name} is not {np.dtype(dtype)} of {height} x {width}")
                with archive.open(f"{name}.npy") as file:
                    maps[name] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _Wrong("maps.npz: missing or damaged") from error
    for name, array in maps.items():
        if array.dtype != bool and not (np.isfinite(array).all() and array.min() >= 0):
            raise _Wrong(f"maps.npz: {name} holds values that are negative or no numbers")
        if name not in ("sample_spread", "relevance_spread", "mask") and array.max() > 1:
            raise _Wrong(f"maps.npz: {name} exceeds 1")
    return maps


def _arithmetic(maps: dict[str, np.ndarray], report: dict[str, Any]) -> Iterator[str]:
    """G from R and the pseudo mask, M from G and the threshold, and what the report counts of them."""
    guidance, mask, threshold = maps["guidance"], maps["mask"], np.float32(_threshold(report))
    if report["profile"] == "official":
        yield from _published_arithmetic(maps, report)
    else:
        if not np.array_equal(guidance, guidance_map(maps["pseudo_mask"], maps["relevance"])):
            yield "maps.npz: guidance is not the product of relevance and pseudo_mask"
        if not np.array_equal(mask, (guidance >= threshold) & (guidance > 0)):
            yield f"maps.npz: mask is not where guidance reaches the threshold of {threshold:g}"
    counted = report["mask"]
    if counted["pixels"] != int(mask.sum()) or counted["fraction"] != float(mask.mean()):
        yield f"{REPORT}: counts {counted['pixels']} pixels of the mask, maps.npz has {int(mask.sum())}"
    if counted["highest_guidance"] != float(guidance.max()):
        yield f"{REPORT}: highest_guidance is not that of maps.npz"


def _published_arithmetic(maps: dict[str, np.ndarray], report: dict[str, Any]) -> Iterator[str]:
    """The published algorithm decides on the model's square; its maps are brought to the source's size afterwards."""
    pseudo_mask = maps["pseudo_mask_square"]
    size = len(pseudo_mask)
    if pseudo_mask.shape != (size, size) or size != report["model"].get("working_size"):
        yield "maps.npz: pseudo_mask_square is not of the model's working size"
        return
    frame = Frame(*maps["mask"].shape, size, "squash")
    _, relevance, guided = official.maps(pseudo_mask, maps["relevance_cells"])
    decided = (guided >= np.float32(_threshold(report))).astype(np.float32)
    expected = {
        "relevance": frame.to_source(relevance),
        "pseudo_mask": frame.to_source(pseudo_mask),
        "guidance": frame.to_source(guided),
        "mask": frame.to_source(decided, Image.Resampling.NEAREST) > 0.5,
    }
    for name, array in expected.items():
        if not np.array_equal(maps[name], array):
            yield f"maps.npz: {name} does not follow from relevance_cells and pseudo_mask_square"


def _copies(folder: Path, report: dict[str, Any], maps: dict[str, np.ndarray]) -> Iterator[str]:
    """The mask and the guidance map in other formats are those of maps.npz."""
    expected = {
        "mask.png": eight_bit(maps["mask"]),
        "mask.dcm": maps["mask"].astype(np.uint8),
        "guidance_map.dcm": eight_bit(maps["guidance"]),
    }
    for name, values in expected.items():
        if name in report["files"]:
            with _reading(name):
                found = pydicom.dcmread(folder / name).pixel_array if name.endswith(".dcm") else _gray(folder / name)
            if not np.array_equal(found, values):
                yield f"{name}: is not that of maps.npz"


def _gray(path: Path) -> np.ndarray:
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image)


def _edits(folder: Path, report: dict[str, Any], mask: np.ndarray, sources: Path | None) -> Iterator[str]:
    """The edited images: their size, their pixels outside the mask, and what the report counts of them."""
    source, original = sources, None
    if sources is not None and sources.is_dir():
        source = sources / str(report["source"].get("file"))
    if source is not None:
        if not source.is_file():
            yield f"{source}: no such file, so the source cannot be compared"
        elif digest(source) != report["source"].get("sha256"):
            yield f"{source}: not the source of this result (its digest differs)"
        else:
            original = read(source).pixels
    if "written_as" not in report:
        return
    for name in sorted(name for name in report["files"] if name.startswith("edited")):
        with _reading(name):
            pixels = stored_pixels(folder / name)
        if pixels.shape != mask.shape:
            yield f"{name}: {pixels.shape[0]} x {pixels.shape[1]} pixels, not {mask.shape[0]} x {mask.shape[1]}"
            continue
        if pixels_digest(pixels, ~mask) != report["source"].get("sha256_outside_mask"):
            yield f"{name}: differs from the source outside the mask"
        if original is not None:
            changed = pixels != original
            if (changed & ~mask).any():
                yield f"{name}: {int((changed & ~mask).sum())} pixels differ from {source} outside the mask"
            if name == report["written_as"] and int(changed.sum()) != report.get("pixels_changed"):
                yield f"{REPORT}: counts {report.get('pixels_changed')} changed pixels, {name} has {int(changed.sum())}"
    if report.get("pixels_changed_outside_mask") != 0:
        yield f"{REPORT}: counts pixels changed outside the mask"


def stored_pixels(path: Path) -> np.ndarray:
    """The stored values of an edited image, as its source stored them.

    A PNG that had to shift or mirror them says so in its text entry "Stored value", see `imaging.writing.write`.

    Returns:
        (H, W) integers.

    Raises:
        InputError: the file is damaged.
    """
    pixels = read(path).pixels.astype(np.int32)
    if path.suffix == ".png":
        with Image.open(path, formats=("PNG",)) as image:
            told = image.text.get("Stored value")
        if told is not None:
            first, operation, second = told.split(" ", 2)
            if (first, operation) == ("PNG", "value"):
                return pixels + int(second.removeprefix("- ")) * -1
            return int(first) - pixels
    return pixels


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, OSError, ValueError, SyntaxError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        raise _Wrong(f"{name}: cannot be read") from error


def _marks(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    """Every picture says that it is synthetic, and of which instruction, model and seed."""
    for name in sorted(report["files"]):
        path = folder / name
        if not path.is_file():
            continue
        try:
            marks = _marks_of(path)
        except (OSError, ValueError, SyntaxError, KeyError, pydicom.errors.InvalidDicomError):
            yield f"{name}: cannot be read"
            continue
        if marks is None:
            continue
        if marks.get("Synthetic") != "yes":
            yield f"{name}: does not say that it is synthetic"
        if path.suffix == ".dcm":
            continue  # its description is cut to what DICOM allows
        expected = {
            "Instruction": report["instruction"]["text"],
            "Model": f"{report['model']['name']} sha256:{report['model']['sha256']}",
        }
        for key, value in expected.items():
            if marks.get(key) != value:
                yield f"{name}: its mark {key} is not that of {REPORT}"


def _marks_of(path: Path) -> dict[str, str] | None:
    """The marks of a picture or a DICOM file; None for a file that carries none."""
    if path.suffix == ".png":
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return dict(image.text)
    if path.suffix == ".tiff":
        with Image.open(path, formats=("TIFF",)) as image:
            lines = str(image.tag_v2.get(270, "")).split("\n")
        return dict(line.split(": ", 1) for line in lines if ": " in line)
    if path.suffix == ".dcm":
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        return {"Synthetic": str(dataset.get("SyntheticData", "")).lower()}
    return None
