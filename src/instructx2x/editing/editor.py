"""The editor: a model, and the studies opened with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instructx2x.editing import sampling
from instructx2x.editing.request import MAX_SAMPLES
from instructx2x.editing.result import Result
from instructx2x.editing.study import Study, exact
from instructx2x.imaging.radiograph import Radiograph
from instructx2x.imaging.reading import from_array, read
from instructx2x.models import Backbone, load

__all__ = ["MAX_SAMPLES", "Editor"]


class Editor:
    """Edits radiographs with one model.

    Attributes:
        backbone: the model's networks.
        alphas_cumprod: (T,) abar of its training schedule.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.alphas_cumprod = sampling.official_scheduler(backbone.scheduler.config).alphas_cumprod
        # The empty text is in every edit, and an instruction is often tried with several seeds.
        self._embedded = lru_cache(maxsize=64)(backbone.embed)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "bundled",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> Editor:
        """Load a model: see `models.load`.

        Raises:
            ModelError: the model is not there, is not safe to read, or is not an InstructPix2Pix model.
        """
        return cls(load(model, device=device, dtype=dtype))

    def embed(self, text: str) -> torch.Tensor:
        """See `Backbone.embed`; texts met before are remembered."""
        with exact(self.backbone):
            return self._embedded(text)

    def open(self, image: str | Path | Radiograph | np.ndarray) -> Study:
        """Open an image for editing.

        Args:
            image: a file, a Radiograph, or an (H, W) array of stored integers.

        Raises:
            InputError: the image cannot be used.
        """
        if isinstance(image, Radiograph):
            return Study(self, image)
        return Study(self, from_array(image) if isinstance(image, np.ndarray) else read(image))

    def edit_batch(self, items: Sequence[tuple[Study, str, int]], **options: Any) -> list[Result]:
        """Edit several images.

        One after the other: how a network rounds depends on the number of images it runs on at once, and a result
        here never depends on its neighbours. See docs/speed.md for what that costs.

        Args:
            items: (study, instruction, seed).
            options: keywords of `Study.edit` for all of them.

        Returns:
            The same results, to the last bit, as `study.edit(instruction, seed=seed, **options)` one by one.
        """
        return [study.edit(instruction, seed=seed, **options) for study, instruction, seed in items]
