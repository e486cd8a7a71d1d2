"""One geometry for images, boxes and masks: how a source image lies in the model's square.

Coordinates are those of arrays: row 0 at the top, column 0 at the left. The patient's left is the image's
right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

Filter = Image.Resampling


def resize(array: np.ndarray, height: int, width: int, resample: Filter = Filter.BILINEAR) -> np.ndarray:
    """Resize a float map; when shrinking, the filter's support grows with the step, so nothing aliases.

    Args:
        array: (H, W), any real dtype.
        height, width: size of the result, in pixels.
        resample: one of Pillow's filters. BICUBIC and LANCZOS overshoot at edges: clip what must stay in a
            range.

    Returns:
        (height, width) float32.
    """
    array = np.ascontiguousarray(array, dtype=np.float32)
    if array.shape == (height, width):
        return array.copy()
    return np.asarray(Image.fromarray(array).resize((width, height), resample), dtype=np.float32)


@dataclass(frozen=True)
class Frame:
    """Where the source image lies in the model's square of `size` x `size` pixels.

    `letterbox` keeps the aspect and centres the image on a black square; `squash` stretches it to the square,
    as the official code does. The two directions are inverse up to resampling.

    Attributes:
        source_height, source_width: the source image, in pixels.
        size: side of the model's square, in pixels.
        mode: "letterbox" or "squash".
    """

    source_height: int
    source_width: int
    size: int
    mode: Literal["letterbox", "squash"] = "letterbox"

    @property
    def content(self) -> tuple[int, int, int, int]:
        """Rows and columns of the square that hold the image: (top, bottom, left, right), half open."""
        if self.mode == "squash":
            return 0, self.size, 0, self.size
        scale = self.size / max(self.source_height, self.source_width)
        height = max(1, round(self.source_height * scale))
        width = max(1, round(self.source_width * scale))
        top, left = (self.size - height) // 2, (self.size - width) // 2
        return top, top + height, left, left + width

    def to_model(self, array: np.ndarray, resample: Filter = Filter.BICUBIC) -> np.ndarray:
        """Put a source-sized map into the square: (H, W) in [0, 1] -> (size, size) float32 in [0, 1]."""
        top, bottom, left, right = self.content
        square = np.zeros((self.size, self.size), dtype=np.float32)
        square[top:bottom, left:right] = np.clip(resize(array, bottom - top, right - left, resample), 0, 1)
        return square

    def to_source(self, square: np.ndarray, resample: Filter = Filter.BILINEAR) -> np.ndarray:
        """Take a map on the square back to the source's size: (n, n) -> (H, W) float32.

        The square may be of any resolution n (latents are `size / 8`): it is the same square seen more
        coarsely. The letterbox bars do not bleed into the image, beyond the cells that they share with it.
        """
        cells = square.shape[0]
        top, bottom, left, right = self.content
        # Cropped to the cells that the image touches; the filter would reach into the bars otherwise.
        row, column = top * cells // self.size, left * cells // self.size
        end_row, end_column = -(-bottom * cells // self.size), -(-right * cells // self.size)
        touched = np.ascontiguousarray(square[row:end_row, column:end_column], dtype=np.float32)
        box = (
            left * cells / self.size - column,
            top * cells / self.size - row,
            right * cells / self.size - column,
            bottom * cells / self.size - row,
        )
        source = (self.source_width, self.source_height)
        return np.asarray(Image.fromarray(touched).resize(source, resample, box=box), dtype=np.float32)
