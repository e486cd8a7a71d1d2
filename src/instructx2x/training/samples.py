"""From the bank of pairs to training samples: what is shown, what is asked, what should come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from instructx2x.instructions import FINDINGS, LEVELS, SIDES, ZONES, Edit, Operation, render
from instructx2x.training.healing import Region, around, opacity, reach
from instructx2x.training.pairs import Bank, Pair, spoken
from instructx2x.training.simulation.lesions import Lesion

# A cell whose latents differ by more than this, in the mean of the channels, is changed.
CHANGED = 0.08

# Kinds of sample and how often each is drawn.
MIX = {
    "add": 0.28,
    "remove": 0.16,
    "level": 0.06,
    "heal": 0.06,  # a spoiled region, to be made well
    "real": 0.10,  # real one-sided disease and its X-ray healed
    "back": 0.06,  # what the model itself added, to be removed
    "nothing": 0.24,  # an instruction that already holds
    "single": 0.04,  # a real X-ray from a blank past image
    "blank": 1.20,  # a blanked region, to be filled in as healthy
}


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        source, target: (4, s, s) scaled latents; no source is a blank past image.
        where: (s, s) bool, the cells that the instruction is about: those it changes, or where it already holds those
            it would have changed. None where they are not known.
    """

    kind: str
    source: torch.Tensor | None
    target: torch.Tensor
    edits: tuple[Edit, ...]
    where: torch.Tensor | None = None
    blank: torch.Tensor | None = None

    @property
    def text(self) -> str:
        return render(self.edits) if self.edits else ""


class Sampler:
    """Draws samples from a bank.

    Args:
        bank: encoded pairs.
        table: the images' table.
        split: whose single X-rays are used; the pairs are the bank's.
        regions: where to blank the X-rays of the split.
    """

    def __init__(self, bank: Bank, table: pl.DataFrame, split: str = "train", regions: Sequence[Region] = ()):
        self.bank = bank
        self.regions = regions
        self.table = table
        self.split = split
        self.of_kind = {
            kind: [pair for pair in bank.pairs if pair.kind == kind]
            for kind in ("lesion", "level", "heal", "real", "back")
        }
        self.of_kind["painted"] = self.of_kind["lesion"] + self.of_kind["level"]
        adult = table["adult"] & (table["split"] == split)
        self.adults = np.flatnonzero(adult.to_numpy())
        self.normals = np.flatnonzero((adult & (table["findings"] == "No Finding")).to_numpy())
        normal = set(self.normals.tolist())
        self.of_kind["blank"] = [region for region in regions if region.image in normal]
        self.of_kind["ill"] = [region for region in regions if region.image not in normal]
        self.names = [spoken(findings) for findings in table["findings"]]
        self.labelled = np.array([row for row in self.adults if self.names[row]])

    def also(self, latents: torch.Tensor, pairs: list[Pair]) -> Sampler:
        """A sampler that also draws from more pairs, whose places are those in these latents: (n, 4, s, s) float16."""
        more = [pair.behind(len(self.bank.painted)) for pair in pairs]
        bank = Bank(self.bank.clean, torch.cat((self.bank.painted, latents)), [*self.bank.pairs, *more])
        return Sampler(bank, self.table, self.split, self.regions)

    def draw(self, rng: np.random.Generator, kind: str | None = None) -> Sample:
        """Draw a sample; of the kind, if one is given."""
        if kind is None:
            # There may be no spoiled or real lesions, or no additions yet: the other kinds then share their part.
            mix = {name: share for name, share in MIX.items() if self.of_kind.get(name, True)}
            kind = str(rng.choice(list(mix), p=np.array(list(mix.values())) / sum(mix.values())))
        return getattr(self, f"_{kind}")(rng)

    def pick(self, kind: str, rng: np.random.Generator):
        """A pair of a kind at random; "painted" is any with painted lesions. Of "blank" and "ill", a region."""
        return self.of_kind[kind][int(rng.integers(len(self.of_kind[kind])))]

    def _images(self, pair) -> tuple[torch.Tensor, torch.Tensor]:
        return self.bank.clean[pair.image].float(), self.bank.painted[pair.painted].float()

    def painted(self, pair: Pair, operation: Operation, rng: np.random.Generator) -> Sample:
        """The adding or the removal of what is painted in a pair, in words that chance chooses."""
        clean, painted = self._images(pair)
        images = (clean, painted) if operation is Operation.ADD else (painted, clean)
        return Sample(operation.value, *images, name(pair.lesions, operation, rng), changed(clean, painted))

    def _add(self, rng: np.random.Generator) -> Sample:
        return self.painted(self.pick("painted", rng), Operation.ADD, rng)

    def _remove(self, rng: np.random.Generator) -> Sample:
        return self.painted(self.pick("painted", rng), Operation.REMOVE, rng)

    def _level(self, rng: np.random.Generator) -> Sample:
        pair = self.pick("level", rng)
        before, after = pair.lesions[0], pair.after[0]
        images = self.bank.painted[pair.painted].float(), self.bank.painted[pair.painted_after].float()
        if rng.random() < 0.5:
            before, after, images = after, before, images[::-1]
        from_level = before.level if rng.random() < 0.8 else None
        return Sample("level", *images, (after.edit(Operation.CHANGE, rng, from_level),), changed(*images))

    def _heal(self, rng: np.random.Generator) -> Sample:
        pair = self.pick("heal", rng)
        clean, spoiled = self._images(pair)
        return Sample("heal", spoiled, clean, name(pair.lesions, Operation.REMOVE, rng), changed(clean, spoiled))

    def _back(self, rng: np.random.Generator) -> Sample:
        pair = self.pick("back", rng)
        clean, edited = self._images(pair)
        return Sample("back", edited, clean, name(pair.lesions, Operation.REMOVE, rng), changed(clean, edited))

    def _real(self, rng: np.random.Generator) -> Sample:
        """Removal of real disease two times of three; read backwards, its adding."""
        pair = self.pick("real", rng)
        diseased, healed = self._images(pair)
        where = changed(healed, diseased)
        if rng.random() < 0.66:
            return Sample("real", diseased, healed, name(pair.lesions, Operation.REMOVE, rng), where)
        return Sample("real", healed, diseased, name(pair.lesions, Operation.ADD, rng), where)

    def _nothing(self, rng: np.random.Generator) -> Sample:
        """An instruction that already holds: the image comes back.

        Adding what is there, painted or real; removing from a normal X-ray what is not there, in words that some
        lesion of the bank would have had.
        """
        chance = rng.random()
        if chance < 0.35:
            pair = self.pick("painted", rng)
            clean, painted = self._images(pair)
            edits = name(pair.lesions, Operation.ADD, rng)
            return Sample("nothing", painted, painted, edits, changed(clean, painted))
        if chance < 0.5:
            row = int(rng.choice(self.labelled))
            image = self.bank.clean[row].float()
            return Sample("nothing", image, image, (Edit(Operation.ADD, str(rng.choice(self.names[row]))),))
        normal = self.bank.clean[int(rng.choice(self.normals))].float()
        pair = self.pick("painted", rng)
        edits = name(pair.lesions, Operation.REMOVE, rng)
        # About where the lesion is in the chest whose words these are.
        return Sample("nothing", normal, normal, edits, changed(*self._images(pair)))

    def _blank(self, rng: np.random.Generator) -> Sample:
        """A blanked region to fill in: of a normal X-ray, of one with a lesion in it, or of an ill one without words.

        What is blanked of a lesion goes, or comes back at a lower level; what is not stays, as outside the mask.
        """
        chance = rng.random()
        if chance < 0.35:
            kind = "heal" if chance < 0.07 else "level" if chance < 0.13 else "painted"
            pair = self.pick(kind if self.of_kind[kind] else "painted", rng)
            wanted, ill = self._images(pair)
            where, edits = changed(wanted, ill), name(pair.lesions, Operation.REMOVE, rng)
            if kind == "level" and pair.after:
                before, after, wanted = pair.lesions[0], pair.after[0], self.bank.painted[pair.painted_after].float()
                if before.severity < after.severity:
                    before, after, wanted, ill = after, before, ill, wanted
                    where = changed(self.bank.clean[pair.image].float(), ill)
                edits = (after.edit(Operation.CHANGE, rng, before.level),)
            blank = opacity(around(where, rng), rng)
            return Sample("blank", ill, torch.where(reach(blank), wanted, ill), edits, blank > 0.3, blank)
        region = self.pick("ill" if chance < 0.45 and self.of_kind["ill"] else "blank", rng)
        image = self.bank.clean[region.image].float()
        blank = opacity(region.values, rng)
        edits = () if chance < 0.45 else name([region.lesion], Operation.REMOVE, rng)
        return Sample("blank", image, image, edits, blank > 0.3, blank)

    def _single(self, rng: np.random.Generator) -> Sample:
        row = int(rng.choice(self.adults))
        edits = tuple(Edit(Operation.ADD, finding) for finding in self.names[row])
        return Sample("single", None, self.bank.clean[row].float(), edits)


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """The cells in which two (4, s, s) latents differ: (s, s) bool."""
    return (after - before).abs().mean(0) > CHANGED


def name(lesions: list[Lesion], operation: Operation, rng: np.random.Generator) -> tuple[Edit, ...]:
    """The edits that put lesions into an image, or take them out."""
    return tuple(lesion.edit(operation, rng) for lesion in lesions)


def random_edit(rng: np.random.Generator, finding: str | None = None) -> Edit:
    """Any valid edit of the language, with each detail said half of the time."""
    finding = finding or str(rng.choice(list(FINDINGS)))
    known = FINDINGS[finding]
    operation = Operation(str(rng.choice(["add", "remove", "change"], p=[0.45, 0.35, 0.2])))
    if operation is Operation.CHANGE and not known.has_level:
        operation = Operation.ADD
    change = operation is Operation.CHANGE
    level, from_level = (str(word) for word in rng.choice(list(LEVELS), 2, replace=False))
    return Edit(
        operation,
        finding,
        side=str(rng.choice(SIDES)) if known.has_side and rng.random() < 0.6 else None,
        zone=str(rng.choice(list(ZONES))) if known.has_zone and rng.random() < 0.4 else None,
        level=level if known.has_level and (change or rng.random() < 0.5) else None,
        from_level=from_level if change and rng.random() < 0.7 else None,
    )
