"""Where the patient's two lungs are: a small fully convolutional network and what is done with its answer.

The mask of a lung is the whole lung as an anatomist would outline it on a frontal radiograph: it includes the
part behind the heart and what disease has turned white. The patient's right lung is in the image's left half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import torch
from safetensors.torch import load
from scipy import ndimage
from torch import nn

from instructx2x.imaging.geometry import Frame

SIZE = 192
WIDTHS = (16, 32, 64, 96, 128)
WEIGHTS = "data/lungs.safetensors"

# What two lungs can look like, from the reviewed masks (each lung 9 to 23 % of the picture, the smaller at
# least 60 % of the larger), opened for wide framing, narrow crops and one-sided volume loss.
AREA = (0.02, 0.40)
AREA_RATIO = 0.30
MAIN_PART = 0.80
CONFIDENCE = 0.85
OVERLAP = 0.02
MIN_SIDE = 32
MAX_ASPECT = 4


class _Block(nn.Sequential):
    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip


class LungNet(nn.Module):
    """U-Net that works at half the input's resolution and answers at the full one.

    Input (N, 1, S, S) float in [0, 1], S a multiple of 32; output (N, 2, S, S) logits: the patient's right
    lung, the patient's left lung. The input is standardised per image, so window and exposure hardly matter.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 4, stride=2, padding=1)
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip((widths[0], *widths), widths, strict=False))
        self.up = nn.ModuleList(_Block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Sequential(nn.Conv2d(widths[0], 8, 1), nn.PixelShuffle(2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        spread = image.std((1, 2, 3), keepdim=True) + 0.02
        x = self.stem((image - image.mean((1, 2, 3), keepdim=True)) / spread)
        skips: list[torch.Tensor] = []
        for block in self.down:
            x = block(nn.functional.avg_pool2d(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skip], 1))
        return self.head(x)


@dataclass(frozen=True)
class Lungs:
    """The two lungs of one image, at the image's size.

    Attributes:
        right, left: (H, W) float32 in [0, 1], soft masks of the patient's right and left lung.
        plausible: whether the two look like a pair of lungs. When False, the masks are not to be relied on.
        reason: why not, in one line; empty when plausible.
    """

    right: np.ndarray
    left: np.ndarray
    plausible: bool
    reason: str = ""

    @property
    def both(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]: either lung."""
        return np.maximum(self.right, self.left)

    @property
    def right_box(self) -> tuple[float, float, float, float] | None:
        """Box of the patient's right lung as fractions of width and height (x, y, w, h), or None."""
        return bounding_box(self.right)

    @property
    def left_box(self) -> tuple[float, float, float, float] | None:
        """Box of the patient's left lung, as `right_box`."""
        return bounding_box(self.left)

    @property
    def midline(self) -> float:
        """Column between the lungs as a fraction of the width: 0.5 when either lung is missing.

        Midway between the lungs' inner edges, as the median over the rows that hold both: unlike centroids
        it does not move when one lung is larger than the other.
        """
        right, left = self.right >= 0.5, self.left >= 0.5
        rows = right.any(1) & left.any(1)
        if not rows.any():
            return 0.5
        inner_right = right.shape[1] - np.argmax(right[rows][:, ::-1], axis=1)
        inner_left = np.argmax(left[rows], axis=1)
        return float(np.median(inner_right + inner_left) / (2 * right.shape[1]))


def bounding_box(mask: np.ndarray, threshold: float = 0.5) -> tuple[float, float, float, float] | None:
    """Smallest box around `mask >= threshold`, as fractions of width and height: x, y, w, h.

    Args:
        mask: (H, W), values in [0, 1].

    Returns:
        The box, or None where no pixel reaches the threshold.
    """
    inside = mask >= threshold
    if not inside.any():
        return None
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    height, width = mask.shape
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return (
        float(left / width),
        float(top / height),
        float((right - left) / width),
        float((bottom - top) / height),
    )


@lru_cache(maxsize=1)
def network() -> LungNet:
    """The packaged network, float32 on the CPU, ready to answer. Loaded once."""
    net = LungNet()
    state = load(files("instructx2x.anatomy").joinpath(WEIGHTS).read_bytes())
    net.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
    return net.eval().requires_grad_(False)


def symmetric_probabilities(net: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Mean over the image and its mirror image, sides swapped back: a mirrored input gives a mirrored answer.

    Args:
        net: a LungNet.
        batch: (N, 1, S, S) in [0, 1].

    Returns:
        (N, 2, S, S) float32 probabilities: patient's right lung, patient's left lung.
    """
    direct, mirrored = net(torch.cat([batch, batch.flip(-1)])).float().sigmoid().chunk(2)
    return (direct + mirrored.flip(-1).flip(1)) / 2


@torch.inference_mode()
def lung_probabilities(batch: torch.Tensor) -> torch.Tensor:
    """Lung probabilities of images already in a square, for training and simulation.

    Args:
        batch: (N, 1, S, S) float in [0, 1] (0 black), letterboxed or not; any S (the network works at 192).

    Returns:
        (N, 2, S, S) float32 in [0, 1] on the CPU: patient's right lung, left lung; not cleaned, not judged.
    """
    size = batch.shape[-1]
    batch = batch.to("cpu", torch.float32)
    if size != SIZE:
        batch = nn.functional.interpolate(batch, (SIZE, SIZE), mode="bilinear", antialias=True)
    result = symmetric_probabilities(network(), batch)
    if size != SIZE:
        result = nn.functional.interpolate(result, (size, size), mode="bilinear", align_corners=False)
    return result


def segment_lungs(display: np.ndarray) -> Lungs:
    """Find both lungs of a frontal chest X-ray.

    The network sees the image letterboxed to 192 x 192; each lung keeps its largest part, with holes filled.
    Deterministic: the same array gives the same bits.

    Args:
        display: (H, W) brightness in [0, 1], 0 black, any size. Values that are not finite count as black.

    Returns:
        The soft masks at (H, W), with a verdict. Nothing raises: noise, black, tiny pictures are implausible.
    """
    height, width = display.shape
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_ASPECT * min(height, width):
        nothing = np.zeros((height, width), np.float32)
        return Lungs(nothing, nothing, False, f"{width} x {height} pixels are no frontal chest X-ray")
    frame = Frame(height, width, SIZE)
    square = frame.to_model(np.nan_to_num(display, nan=0.0, posinf=1.0, neginf=0.0))
    probabilities = lung_probabilities(torch.from_numpy(square)[None, None])[0].numpy()
    top, bottom, left, right = frame.content
    content = np.zeros((SIZE, SIZE), np.float32)
    content[top:bottom, left:right] = 1
    probabilities = probabilities * content
    reason = implausibility(probabilities, content > 0)
    masks = [np.clip(frame.to_source(clean(p)), 0, 1) for p in probabilities]
    return Lungs(masks[0], masks[1], reason == "", reason)


def clean(probability: np.ndarray) -> np.ndarray:
    """Keep the largest part of one lung with its soft rim, and fill its holes: (S, S) -> (S, S) float32."""
    parts, count = ndimage.label(probability >= 0.5)
    if count == 0:
        return np.zeros_like(probability)
    main = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    solid = ndimage.binary_fill_holes(main)
    rim = ndimage.binary_dilation(solid, iterations=2)
    return np.where(solid & ~main, 1, np.where(rim, probability, 0)).astype(np.float32)


def implausibility(probabilities: np.ndarray, content: np.ndarray) -> str:
    """Why two probability maps are not a pair of lungs, in one line; empty when they could be.

    Args:
        probabilities: (2, S, S) in [0, 1]: patient's right, patient's left.
        content: (S, S) bool, where the square holds the image.
    """
    masks = probabilities >= 0.5
    frame_area = content.sum()
    areas = masks.sum((1, 2)) / frame_area
    for name, probability, mask, area in zip(("right", "left"), probabilities, masks, areas, strict=True):
        if area < AREA[0]:
            return f"no {name} lung was found"
        if area > AREA[1]:
            return f"the {name} lung covers {area:.0%} of the picture"
        if probability[mask].mean() < CONFIDENCE:
            return f"the outline of the {name} lung is too uncertain"
        if np.bincount(ndimage.label(mask)[0].ravel())[1:].max() < MAIN_PART * mask.sum():
            return f"the {name} lung falls into several parts"
    if areas.min() < AREA_RATIO * areas.max():
        return f"the lungs differ too much in size ({areas[0]:.0%} and {areas[1]:.0%} of the picture)"
    if (masks[0] & masks[1]).sum() > OVERLAP * masks.sum():
        return "the two lungs overlap"
    centres = [np.average(np.arange(mask.shape[1]), weights=mask.sum(0)) for mask in masks]
    if centres[0] >= centres[1]:
        return "the lungs are on the wrong sides"
    rows, columns = np.flatnonzero(content.any(1)), np.flatnonzero(content.any(0))
    both = masks.any(0)
    touched = (both[rows[0]], both[rows[-1]], both[:, columns[0]], both[:, columns[-1]])
    if all(edge.any() for edge in touched):
        return "the lungs run out of the picture on all four sides"
    return ""
