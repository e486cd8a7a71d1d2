"""Check what a result claims, from its files alone: `x2x verify`.

The model is not needed. From the files of a result folder are calculated again: every digest, the guidance map from
its two factors, the mask from the guidance map, the counts of the report, and that no pixel outside the mask differs
from the source. Where the source file is at hand, it is compared pixel by pixel as well.
"""

from __future__ import annotations

import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image, TiffImagePlugin

from instructx2x.editing import official
from instructx2x.editing.guidance import guidance_map
from instructx2x.errors import InputError
from instructx2x.files import check_archive, contents, digest
from instructx2x.imaging import dicom
from instructx2x.imaging.derived import description
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.pictures import MAX_BYTES, open_picture
from instructx2x.imaging.radiograph import MAX_PIXELS, stored_values
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit
from instructx2x.results.folders import is_plain_name
from instructx2x.results.seal import REPORT, SCHEMA, marks, pixels_digest, read_report, report_digest

MAX_FILE = 4 << 30  # bytes; the maps of 100 megapixels have 2 GiB
MAX_MANIFEST = 64 << 20
MAX_SAMPLES = 10_000
MAX_SQUARE = 4096  # pixels on a side of a model's square
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
    if os.path.lexists(out / REPORT):
        return [out]
    found = sorted(path for path in out.iterdir() if path.is_dir() and _is_result(path))
    if not found:
        raise InputError(f"{out}: no result in it, and none one level below (a result holds {REPORT}); name another")
    return found


def _is_result(folder: Path) -> bool:
    """Whether a folder is a result, be it one that has lost a file."""
    return any(os.path.lexists(folder / name) for name in (REPORT, "maps.npz", "guidance_map.png"))


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
    try:
        problems += _files(folder, report)
    except _Wrong as error:
        return [str(error)]
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
    if not os.path.lexists(manifest):
        return []
    try:
        entries = [json.loads(line) for line in contents(manifest, MAX_MANIFEST).decode().splitlines()]
        done = {str(entry["folder"]): dict(entry) for entry in entries if entry["status"] == "done"}
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
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
    try:
        report = read_report(folder)
    except InputError as error:
        raise _Wrong(f"{REPORT}: missing or damaged") from error
    try:
        if report["schema"] != SCHEMA:
            raise _Wrong(f"{REPORT}: of schema {report['schema']!r:.40}, which this version does not check")
        if report["sha256"] != report_digest(report):
            raise _Wrong(f"{REPORT}: changed since it was written (its own digest differs)")
        if report["synthetic"] is not True:
            raise _Wrong(f"{REPORT}: does not say that the image is synthetic")
        source, mask, samples = report["source"], report["mask"], report.get("samples", 1)
        height, width, bits = source["height"], source["width"], source["bits"]
        right = (
            all(type(number) is int for number in (height, width, bits, report["seed"], samples, mask["pixels"]))
            and height > 0 < width
            and height * width <= MAX_PIXELS
            and 1 <= samples <= MAX_SAMPLES
            and all(_is_number(value) for value in (_threshold(report), mask["fraction"], mask["highest_guidance"]))
            and report.get("written_as", "edited.png") in ("edited.png", "edited.tiff", "edited.dcm")
            and all(is_plain_name(name) and isinstance(told, str) for name, told in report["files"].items())
        )
        described = (
            report["instruction"]["text"],
            report["model"]["name"],
            report["model"]["sha256"],
            report["profile"],
        )
        right = right and all(isinstance(value, str) for value in described)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _Wrong(f"{REPORT}: incomplete; not the report of a result") from error
    if not right:
        raise _Wrong(f"{REPORT}: holds a value of the wrong kind")
    return report


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30  # no infinity, no NaN, nothing that overflows


def _threshold(report: dict[str, Any]) -> float:
    return report["parameters"]["threshold"]


def _needed(report: dict[str, Any]) -> set[str]:
    """The files that a result has beside its report; `edited_mean` alone depends on whether anything was edited."""
    needed = {"maps.npz", "guidance_map.png", "mask.png"}
    if "written_as" not in report:
        return needed
    needed |= {report["written_as"], "comparison.png"}
    if report["written_as"] == "edited.dcm":
        needed |= {"mask.dcm", "guidance_map.dcm"}
    first, count, ending = report["seed"], report.get("samples", 1), Path(report["written_as"]).suffix
    if count > 1:
        needed |= {f"edited_seed_{seed}{ending}" for seed in range(first + 1, first + count)} | {"samples.png"}
        if report["mask"]["pixels"]:
            needed.add(f"edited_mean{ending}")
    return needed


def _files(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    """The report names the files that such a result has, each is there with its digest, and no other is.

    Raises:
        _Wrong: a file is not to be opened at all.
    """
    needed, named = _needed(report), report["files"]
    there = {path.name for path in folder.iterdir()}
    for name in sorted(there):
        found = (folder / name).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise _Wrong(f"{name}: a link, folder or device, where a result has files")
        if found.st_size > MAX_FILE:
            raise _Wrong(f"{name}: larger than {MAX_FILE >> 30} GiB, as no file of a result is")
    for name in sorted(needed - named.keys()):
        yield f"{name}: not named in {REPORT}, as it must be"
    for name in sorted(named):
        if name not in there:
            yield f"{name}: missing"
        elif digest(folder / name) != named[name]:
            yield f"{name}: changed since it was written (its digest differs)"
    for name in sorted((there | named.keys()) - needed - {REPORT}):
        yield f"{name}: not a part of this result; keep it elsewhere"


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
        check_archive(folder / "maps.npz")
        with zipfile.ZipFile(folder / "maps.npz") as archive:
            if sorted(f"{name}.npy" for name in wanted) != sorted(archive.namelist()):
                raise _Wrong(f"maps.npz: must hold {', '.join(wanted)}, and nothing else")
            for name, dtype in wanted.items():
                member = archive.getinfo(f"{name}.npy")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise _Wrong("maps.npz: packed in another way than is written here")
                with archive.open(member) as file:
                    # The header first: a small file may announce more than fits in memory.
                    if np.lib.format.read_magic(file) != (1, 0):
                        raise _Wrong(f"maps.npz: {name} is of a version that is never written here")
                    shape, _, kind = np.lib.format.read_array_header_1_0(file)
                    on_square = name in SQUARE_MAPS and len(shape) == 2 and 0 < min(shape) <= max(shape) <= MAX_SQUARE
                    if kind != np.dtype(dtype) or not (shape == (height, width) or on_square):
                        raise _Wrong(f"maps.npz: {name} is not {np.dtype(dtype)} of {height} x {width}")
                    if member.file_size != file.tell() + math.prod(shape) * kind.itemsize:
                        raise _Wrong(f"maps.npz: {name} has another size than its header says")
                with archive.open(member) as file:
                    maps[name] = np.lib.format.read_array(file, allow_pickle=False)
    except _Wrong:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
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
                if name.endswith(".dcm"):
                    found = _segments(folder / name, values.shape)
                else:
                    found = np.asarray(open_picture(folder / name, _exactly(values.shape)))
            if not np.array_equal(found, values):
                yield f"{name}: is not that of maps.npz"


def _exactly(shape: tuple[int, int]) -> Callable[[int, int], None]:
    def check(width: int, height: int) -> None:
        if (height, width) != shape:
            raise InputError(f"{height} x {width} pixels, not {shape[0]} x {shape[1]}")

    return check


def _segments(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 values of a segmentation with one frame of a known size."""
    dataset = dicom.parse(contents(path, MAX_BYTES))
    if (dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.SamplesPerPixel) != (*shape, 1, 1):
        raise InputError("of another size")
    if dataset.file_meta.TransferSyntaxUID != pydicom.uid.ExplicitVRLittleEndian:
        raise InputError("written in another way than here")
    return dataset.pixel_array


def _edits(folder: Path, report: dict[str, Any], mask: np.ndarray, sources: Path | None) -> Iterator[str]:
    """The edited images: their size, their pixels outside the mask, and what the report counts of them."""
    source, original = sources, None
    if sources is not None and sources.is_dir():
        name = report["source"].get("file")
        if not isinstance(name, str) or os.path.basename(name) != name or name in ("", ".", ".."):
            yield f"{REPORT}: names no source file that could be in {sources}"
            return
        source = sources / name
    if source is not None:
        if not os.path.isfile(source):  # which takes any name, however long
            yield f"{source}: no such file, so the source cannot be compared"
        elif digest(source) != report["source"].get("sha256"):
            yield f"{source}: not the source of this result (its digest differs)"
        else:
            original = read(source).pixels
            if original.shape != mask.shape:
                yield f"{REPORT}: says {mask.shape[0]} x {mask.shape[1]} pixels, {source} has another size"
                return
    if "written_as" not in report:
        return
    for name in sorted(name for name in report["files"] if name.startswith("edited")):
        with _reading(name):
            edited = read(folder / name)
            pixels = stored_values(edited)
        if edited.pixels.itemsize != (1 if report["source"]["bits"] <= 8 else 2):
            yield f"{name}: of another depth than its source"
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


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # decoders answer damage with exceptions of every class
        raise _Wrong(f"{name}: cannot be read") from error


def _marks(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    """Every picture and DICOM file says that it is synthetic, and of which instruction, model and seed."""
    for name in sorted(report["files"].keys() - {"maps.npz"}):
        if not (folder / name).is_file():
            continue  # `_files` says it
        try:
            with _reading(name):
                found, expected = _marks_of(folder / name, marks(report, name))
        except _Wrong as error:
            yield str(error)
            continue
        for key, value in expected.items():
            if found.get(key) != value:
                told = "does not say that it is synthetic" if key == "Synthetic" else f"its mark {key} is another"
                yield f"{name}: {told}"


def _marks_of(path: Path, told: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The marks that a picture or a DICOM file carries, and those that it should, in the form that its format has."""
    if path.suffix == ".png":
        return open_picture(path).info, told
    if path.suffix == ".tiff":
        with path.open("rb") as file, TiffImagePlugin.TiffImageFile(file) as image:
            # Written as UTF-8, whatever Pillow takes it for.
            found = str(image.tag_v2.get(TiffImagePlugin.IMAGEDESCRIPTION, "")).encode("latin-1").decode()
        wanted = "\n".join(f"{key}: {value}" for key, value in told.items())
        marked = "yes" if found.startswith("Synthetic: yes\n") else "no"
        return {"Synthetic": marked, "Description": found}, {"Synthetic": "yes", "Description": wanted}
    dataset = dicom.parse(contents(path, MAX_BYTES))
    keywords = {"Synthetic": "SyntheticData", "Modality": "Modality"}
    wanted = {"Synthetic": "YES", "Modality": "SEG"}
    if path.name.startswith("edited"):
        keywords = {"Synthetic": "SyntheticData", "Derivation": "DerivationDescription"}
        wanted = {"Synthetic": "YES", "Derivation": description(told).rstrip()}
    return {key: str(dataset.get(keyword, "")).rstrip() for key, keyword in keywords.items()}, wanted
