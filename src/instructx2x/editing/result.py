"""What an edit returns, and how it is written."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instructx2x.editing import pictures
from instructx2x.errors import OutputError
from instructx2x.imaging.radiograph import Radiograph
from instructx2x.imaging.segmentation import write_segmentation
from instructx2x.imaging.writing import edited_suffix, eight_bit, write, write_png
from instructx2x.results import folders
from instructx2x.results.places import refuse_foreign, result_name
from instructx2x.results.seal import marks, seal


@dataclass(frozen=True, eq=False)
class Guidance:
    """Where the model would edit, and why there.

    All maps are (H, W) at the source's size.

    Attributes:
        source: the input.
        relevance: R, float32 in [0, 1].
        spread: standard deviation of R over its noise draws, float32; zeros when there was one draw.
        pseudo_mask: M_pseudo, float32 in [0, 1].
        guidance: G = M_pseudo * R, float32 in [0, 1]: the explanation.
        mask: M = G >= tau, bool: what may change.
        report: everything that was done, ready for JSON.
        square: of the published algorithm, which decides on the model's square: its relevance on the latents' cells
            and its pseudo mask on the square's pixels, by the names they have in maps.npz. Empty for our method.
    """

    source: Radiograph
    relevance: np.ndarray
    spread: np.ndarray
    pseudo_mask: np.ndarray
    guidance: np.ndarray
    mask: np.ndarray
    report: dict[str, Any]
    square: dict[str, np.ndarray]

    def overlay(self) -> np.ndarray:
        """The guidance map in red on the input: (h, w, 3) uint8, see `pictures.overlay`."""
        return pictures.overlay(self.source.display(), self.guidance, self.mask, self.pseudo_mask)

    def save(self, out: str | Path, *, overwrite: bool = False, name: str | None = None) -> Path:
        """Write everything into a folder OUT/<name>, which appears whole or not at all.

        Args:
            out: the folder for results; made when it is not there.
            overwrite: replace an earlier result of the same name. Nothing but an earlier result, with no file in it
                that is not the result's, is ever replaced, and never one that holds the source.
            name: when left out, the source's file name without its ending and what cannot be printed.

        Returns:
            OUT/<name>.

        Raises:
            OutputError: a result is there already, or nothing can be written there.
        """
        source = self.source.path
        name = name or result_name(source)
        folder = Path(out) / name
        if folder.parent != Path(out) or name in (".", ".."):
            raise OutputError(f"{name!r} cannot be the name of a result: it must be a plain folder name")
        folders.refuse_inputs(folder, [source])
        folders.write_folder(folder, self._fill, refuse_foreign=refuse_foreign if overwrite else None)
        return folder

    def _fill(self, folder: Path) -> None:
        self._write(folder)
        seal(folder, self.report)

    def _maps(self) -> dict[str, np.ndarray]:
        return {
            "relevance": self.relevance,
            "relevance_spread": self.spread,
            "pseudo_mask": self.pseudo_mask,
            "guidance": self.guidance,
            "mask": self.mask,
            **self.square,
        }

    def _write(self, folder: Path) -> None:
        self._write_picture(self.overlay(), folder / "guidance_map.png")
        self._write_picture(eight_bit(self.mask), folder / "mask.png")
        _write_maps(self._maps(), folder / "maps.npz")

    def _write_picture(self, picture: np.ndarray, path: Path) -> None:
        write_png(picture, path, text=marks(self.report, path.name))


@dataclass(frozen=True, eq=False)
class Result(Guidance):
    """An edit.

    Attributes:
        image: the edited radiograph, of the source's size, dtype and depth; equal to it outside `mask`, bit
            for bit.
        latents: (1, c, h, w) float32 on the CPU: the final scaled latents, before decoding.
        samples: the edited radiographs of all seeds asked for, within the one `mask`; the first is `image`.
        sample_mean: their mean brightness, equal to the source outside `mask`; None for a single one, like the next.
        sample_spread: (H, W) float32, standard deviation of the samples' brightness.
        mask_frequency: (H, W) float32 in [0, 1], how often each pixel is in the mask over the seeds' own relevance
            noise.
        keep_patient: whether DICOM files keep the patient's identity, see `imaging.derived`.
    """

    image: Radiograph
    latents: torch.Tensor
    samples: tuple[Radiograph, ...]
    sample_mean: Radiograph | None = None
    sample_spread: np.ndarray | None = None
    mask_frequency: np.ndarray | None = None
    keep_patient: bool = False

    def comparison(self) -> np.ndarray:
        """Input, edited, difference and guidance map: (h, w, 3) uint8, see `pictures.comparison`."""
        return pictures.comparison(self.source.display(), self.image.display(), self.overlay())

    def _maps(self) -> dict[str, np.ndarray]:
        several = {"sample_spread": self.sample_spread, "mask_frequency": self.mask_frequency}
        return {**super()._maps(), **{name: array for name, array in several.items() if array is not None}}

    def _write(self, folder: Path) -> None:
        ending = edited_suffix(self.image)
        edited = folder / f"edited{ending}"
        self._write_image(self.image, edited)
        if ending == ".dcm":
            write_segmentation(edited, self.mask, folder / "mask.dcm")
            write_segmentation(edited, self.guidance, folder / "guidance_map.dcm")
        if len(self.samples) > 1:
            self._write_samples(folder, ending)
        self._write_picture(self.comparison(), folder / "comparison.png")
        super()._write(folder)

    def _write_image(self, image: Radiograph, path: Path) -> None:
        write(image, path, text=marks(self.report, path.name), source=self.source, keep_patient=self.keep_patient)

    def _write_samples(self, folder: Path, ending: str) -> None:
        for seed, sample in enumerate(self.samples[1:], start=self.report["seed"] + 1):
            self._write_image(sample, folder / f"edited_seed_{seed}{ending}")
        # Where nothing was to be edited, the mean would be the source under another name.
        if self.mask.any():
            self._write_image(self.sample_mean, folder / f"edited_mean{ending}")
        before, mean = self.source.display(), self.sample_mean.display()
        picture = pictures.seeds(before, mean, self.sample_spread, self.mask_frequency, len(self.samples))
        self._write_picture(picture, folder / "samples.png")


def _write_maps(maps: dict[str, np.ndarray], path: Path) -> None:
    """As `np.savez_compressed`, at the lowest level: on resampled floats a higher one takes long and saves nothing."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in maps.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
