"""The bank of simulated pairs: drawn and painted once, encoded once, then read by every later stage.

A pair is a real X-ray and the same X-ray with one or two lesions, sometimes also with those lesions at another
level, or with a spoiled region to be healed. The words are drawn anew each time a pair is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from diffusers import AutoencoderKL

from instructx2x.dataset.images import usable_processors
from instructx2x.errors import InputError
from instructx2x.imaging.writing import eight_bit
from instructx2x.progress import progress, track
from instructx2x.training.loop import done_apart, fingerprint
from instructx2x.training.simulation.chest import Chest, find_chest
from instructx2x.training.simulation.lesions import (
    Lesion,
    Trait,
    changed_region,
    corrupt,
    draw,
    traits,
)
from instructx2x.training.simulation.transplants import RealLesion, collect
from instructx2x.training.states import read_state, write_state
from instructx2x.training.vae import encode, which_encoder

CHUNK = 200
REAL = "chunk_real.npy"

# The data's findings in the words of the instruction language; None: not said, because we have no such word.
LABELS = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Effusion": "pleural effusion",
    "Emphysema": "emphysema",
    "Hernia": "hernia",
    "Infiltration": "lung opacity",
    "Mass": "mass",
    "Nodule": "nodule",
    "Pleural_Thickening": "pleural thickening",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "COVID-19": "pneumonia",
}


def spoken(findings: str) -> list[str]:
    """The data's finding column in our words: "Effusion|Mass" -> ["pleural effusion", "mass"]; "No Finding" -> []."""
    return [LABELS[name] for name in findings.split("|") if name in LABELS]


@dataclass(frozen=True)
class Pair:
    """One entry of the bank.

    Attributes:
        image: row of the clean X-ray in the image array.
        kind: "lesion" (painted holds the lesions), "level" (after holds them at another level), "heal" (painted is
            the spoiled image; the lesion names what the spoiling stands for), "real" (the X-ray itself holds the
            lesions, real ones, and painted is the X-ray healed) or "back" (painted is what the model itself added).
        lesions: what is in `painted`.
        after: what is in the second image of a "level" pair, else empty.
        painted: index of the painted image in the bank.
        painted_after: index of the second one, else -1.
    """

    image: int
    kind: str
    lesions: list[Lesion]
    after: list[Lesion]
    painted: int
    painted_after: int

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Pair:
        """A pair as `asdict` wrote it."""
        lesions = {name: [Lesion(**lesion) for lesion in record[name]] for name in ("lesions", "after")}
        return cls(**{**record, **lesions})

    def behind(self, count: int) -> Pair:
        """The same pair in a bank that has `count` painted images before its own."""
        after = self.painted_after + count if self.painted_after >= 0 else -1
        return replace(self, painted=self.painted + count, painted_after=after)


def simulate(
    images: np.ndarray,
    table: pl.DataFrame,
    outlines: dict[str, list[np.ndarray]],
    boxes: dict[str, list[tuple[float, float, float, float]]],
    out: Path,
    *,
    split: str = "train",
    per_normal: int = 8,
    per_abnormal: int = 3,
    seed: int = 0,
) -> None:
    """Paint the bank's images, CHUNK X-rays at a time; chunks that exist are left, so a killed run goes on.

    Every processor paints chunks of its own; how many there are changes no byte.

    Writes `out/chunk_<k>.npy`, (n, S, S) uint8, and `out/chunk_<k>.json`, its pairs; `chunk_real` holds the real
    lesions of the split and their X-rays healed. Real lesions that are transplanted are always those of train.

    Args:
        images: (N, S, S) uint8, the X-rays of `table`'s rows.
        outlines: lesions' outlines (simulation.lesions.load_outlines).
        boxes: experts' boxes of opacities (simulation.transplants.load_boxes).
        out: the bank's folder.
        per_normal, per_abnormal: pairs for each X-ray without and with findings.
    """
    out.mkdir(parents=True, exist_ok=True)
    asked = {
        "images": fingerprint(images),
        "split": split,
        "normal": per_normal,
        "abnormal": per_abnormal,
        "seed": seed,
    }
    settings = out / "settings.json"
    if not settings.is_file():
        settings.write_text(json.dumps(asked))
    if json.loads(settings.read_text()) != asked:
        raise InputError(f"{out} holds pairs made with other settings: choose another --work, or delete that folder")
    rows = np.flatnonzero((table["adult"] & (table["split"] == split)).to_numpy())
    rows = np.random.default_rng(seed).permutation(rows)
    starts = [start for start in range(0, len(rows), CHUNK) if not _chunk(out, start).is_file()]
    if not starts and (out / REAL).is_file():
        return
    names = [spoken(findings) for findings in table["findings"]]

    def chest_of(row: int) -> Chest | None:
        return find_chest(images[row].astype(np.float32) / 255)

    real = collect(images, table, names, chest_of, boxes, seed=seed)
    held = real if split == "train" else collect(images, table, names, chest_of, boxes, split=split, seed=seed)
    _write_real(held, out)
    findings = traits(outlines, real)

    def paint(start: int) -> None:
        painted: list[np.ndarray] = []
        pairs: list[Pair] = []
        for row in rows[start : start + CHUNK]:
            rng = np.random.default_rng((seed, int(row)))
            chest = chest_of(row)
            if chest is None:
                continue
            normal = table["findings"][int(row)] == "No Finding"
            donor = images[rng.choice(rows)].astype(np.float32) / 255
            view, present = table["view"][int(row)], names[row]
            for _ in range(per_normal if normal else per_abnormal):
                _add_pair(chest, int(row), view, present, normal, donor, findings, rng, painted, pairs)
        _write_chunk(_chunk(out, start), painted, pairs)

    with progress("simulating lesions", len(starts)) as advance:
        for _ in done_apart(paint, starts, usable_processors()):
            advance()


def _chunk(out: Path, start: int) -> Path:
    return out / f"chunk_{start // CHUNK:03d}.npy"


def _write_real(real: list[RealLesion], out: Path) -> None:
    pairs = []
    for number, lesion in enumerate(real):
        named = [Lesion(finding, lesion.side, lesion.zone, "", 0.0, 0) for finding in lesion.findings]
        pairs.append(Pair(lesion.image, "real", named, [], number, -1))
    _write_chunk(out / REAL, [lesion.healed for lesion in real], pairs)


def _write_chunk(target: Path, painted: list[np.ndarray], pairs: list[Pair]) -> None:
    unfinished = target.with_suffix(".partial.npy")
    np.save(unfinished, np.stack(painted) if painted else np.zeros((0, 1, 1), np.uint8))
    target.with_suffix(".json").write_text(json.dumps([asdict(pair) for pair in pairs]))
    unfinished.replace(target)


def _add_pair(
    chest: Chest,
    row: int,
    view: str,
    present: list[str],
    normal: bool,
    donor: np.ndarray,
    traits: dict[str, Trait],
    rng: np.random.Generator,
    painted: list[np.ndarray],
    pairs: list[Pair],
) -> None:
    lesions = [draw(traits, rng)]
    if rng.random() < 0.15:
        second = draw(traits, rng)
        if second.finding != lesions[0].finding:
            lesions.append(second)
    if any(lesion.finding in present for lesion in lesions):
        return

    def paint(what: list[Lesion]) -> np.ndarray:
        current = chest
        for lesion in what:
            current = Chest(lesion.paint(current, view, traits), chest.lungs)
        return current.image

    def keep(image: np.ndarray) -> int:
        painted.append(eight_bit(image))
        return len(painted) - 1

    image = paint(lesions)
    region = changed_region(chest.image, image)
    if region.mean() < 0.0008:
        return
    if normal and rng.random() < 0.15:
        pairs.append(Pair(row, "heal", lesions, [], keep(corrupt(chest, donor, region, rng)), -1))
        return
    first = keep(image)
    words = dict(traits[lesions[0].finding].levels)
    if lesions[0].level and len(lesions) == 1 and rng.random() < 0.25:
        other = str(rng.choice([word for word in words if word != lesions[0].level]))
        after = [lesions[0].at_level(other, words[other])]
        pairs.append(Pair(row, "level", lesions, after, first, keep(paint(after))))
    else:
        pairs.append(Pair(row, "lesion", lesions, [], first, -1))


@dataclass
class Bank:
    """The encoded bank.

    Attributes:
        clean: (N, 4, s, s) float16, scaled latents of every X-ray, in the table's order.
        painted: (M, 4, s, s) float16, scaled latents of the painted images.
        pairs: the pairs, with indices into both.
    """

    clean: torch.Tensor
    painted: torch.Tensor
    pairs: list[Pair]


def encode_bank(vae: AutoencoderKL, images: np.ndarray, folder: Path) -> Bank:
    """Encode the clean images and the bank's chunks with the trained autoencoder; what is encoded is cached.

    Raises:
        InputError: the folder holds no pairs.
    """
    files = sorted(file for file in folder.glob("chunk_*.npy") if ".partial" not in file.name)
    if not files:
        raise InputError(f"{folder} holds no pairs yet: run the stage pairs first")
    # Another encoder, or other X-rays, find no latents and make their own.
    weights = which_encoder(vae)
    clean = _cached(
        folder.parent / f"clean_{fingerprint(images)}_{weights}.safetensors", lambda: encode(vae, images).half()
    )
    painted, pairs = [], []
    offset = 0
    for file in track(files, "encoding pairs"):
        chunk = np.load(file)
        if not len(chunk):
            continue
        latents = file.with_name(f"{file.stem}_{weights}.safetensors")
        painted.append(_cached(latents, lambda chunk=chunk: encode(vae, chunk).half()))
        pairs += [Pair.read(record).behind(offset) for record in json.loads(file.with_suffix(".json").read_text())]
        offset += len(chunk)
    return Bank(clean, torch.cat(painted), pairs)


def _cached(path: Path, make) -> torch.Tensor:
    if path.is_file():
        return read_state(path)
    value = make()
    write_state(value, path)
    return value
