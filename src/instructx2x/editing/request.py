"""What was asked of an edit, checked before anything is computed."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instructx2x.editing import profiles
from instructx2x.editing.reliability import announcements
from instructx2x.errors import InputError, InstructionError
from instructx2x.files import label
from instructx2x.imaging.pictures import open_picture
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.language import parse, render
from instructx2x.instructions.terms import MAX_CHARACTERS
from instructx2x.models import Backbone

MAX_SAMPLES = 64

# A picture's array or file, or boxes: see _boxes.
Region = np.ndarray | str | Path
_BOX = r"\s*\d{1,6}\s*(,\s*\d{1,6}\s*){3}"
_BOXES = re.compile(f"{_BOX}(;{_BOX})*")


@dataclass(frozen=True)
class Area:
    """A part of the image that a person named.

    Attributes:
        pixels: (H, W) bool at the source's size.
        origin: the file's name, the boxes, or "an array".
    """

    pixels: np.ndarray
    origin: str

    def report(self) -> dict[str, Any]:
        return {"from": self.origin, "fraction": float(self.pixels.mean())}


@dataclass(frozen=True)
class Request:
    """An instruction with everything that decides how it is carried out.

    Attributes:
        instruction: as typed.
        edits: as understood; empty where the official profile takes text outside the grammar.
        text: what the model is told.
        tokens: tokens of `text`.
        seed: of all noise.
        settings: the profile with the user's choices.
        region, protect: where alone, and where never to edit, or None.
        warnings: what the report must say about them.
        choices: of the user, from which the settings were resolved: keywords of `profiles.resolve`.
    """

    instruction: str
    edits: tuple[Edit, ...]
    text: str
    tokens: int
    seed: int
    settings: profiles.Settings
    region: Area | None
    protect: Area | None
    warnings: list[str]
    choices: Mapping[str, Any] = field(default_factory=dict)


def check_request(
    backbone: Backbone,
    shape: tuple[int, int],
    instruction: str,
    seed: int,
    profile: str,
    region: Region | None,
    protect: Region | None,
    **choices: Any,
) -> Request:
    """Settle what is asked of an image of `shape` (height, width).

    Args:
        choices: keywords of `profiles.resolve`.

    Raises:
        InstructionError: the instruction is not understood, or is too long for the model.
        InputError: a value that cannot be used.
    """
    number = _whole(seed)
    if number is None or not 0 <= number < 2**63 - MAX_SAMPLES:
        raise InputError(f"seed must be a whole number from 0 to {2**63 - MAX_SAMPLES - 1}, not {seed}")
    if not isinstance(instruction, str) or len(instruction) > MAX_CHARACTERS:
        raise InstructionError(f"the instruction must be text of at most {MAX_CHARACTERS:,} characters")
    # Half a surrogate pair, as from a broken terminal, is no text that a tokenizer or a file can take.
    instruction = instruction.encode("utf-8", "replace").decode("utf-8")
    try:
        edits, not_understood = parse(instruction), None
    except InstructionError as error:
        edits, not_understood = (), error
    steps = backbone.scheduler.config.num_train_timesteps
    settings = profiles.resolve(profile, backbone.calibration, steps, edits, **choices)
    warnings = announcements(backbone.calibration, edits)
    if settings.profile.official:
        if region is not None or protect is not None:
            raise InputError("the official profile knows no region and no protect: leave them out")
        if backbone.dtype != torch.float32:
            warnings.append(f"the official profile is float32, this model runs in {backbone.dtype}")
        # The official code takes any text; what our grammar makes of it is for the report alone.
        text = instruction
        if not_understood:
            warnings.append(f"the instruction is outside the grammar: {not_understood}")
    else:
        if not_understood:
            raise not_understood
        text = render(edits)
    tokens = backbone.count_tokens(text)
    if tokens > backbone.token_limit:
        problem = f"the instruction has {tokens} tokens, the model reads {backbone.token_limit}"
        if not settings.profile.official:
            raise InstructionError(f"{problem}: split it into several edits")
        warnings.append(f"{problem}: the rest was cut off, as the official code does")
    return Request(
        instruction,
        edits,
        text,
        tokens,
        number,
        settings,
        _read_region(region, "region", shape),
        _read_region(protect, "protect", shape),
        warnings,
        choices,
    )


def only(request: Request, backbone: Backbone, edits: Sequence[Edit]) -> Request:
    """The request with some of its edits alone, as if no others had been asked for."""
    text = render(edits)
    steps = backbone.scheduler.config.num_train_timesteps
    profile = request.settings.profile.name
    settings = profiles.resolve(profile, backbone.calibration, steps, edits, **request.choices)
    return replace(request, edits=tuple(edits), text=text, tokens=backbone.count_tokens(text), settings=settings)


def check_samples(samples: int) -> int:
    """The number of samples as int.

    Raises:
        InputError: no whole number from 1 to MAX_SAMPLES.
    """
    count = _whole(samples)
    if count is None or not 1 <= count <= MAX_SAMPLES:
        raise InputError(f"samples must be a whole number from 1 to {MAX_SAMPLES}, not {samples}")
    return count


def _read_region(region: Region | None, name: str, shape: tuple[int, int]) -> Area | None:
    """What a person named. Bright is at least half of the brightest, so that 0/1 and 0/255 mean the same."""
    if region is None:
        return None
    height, width = shape
    if isinstance(region, str) and _BOXES.fullmatch(region):
        return Area(_boxes(region, name, shape), region)
    origin = "an array" if isinstance(region, np.ndarray) else Path(region).name
    wanted = f"must have the image's size, {width} x {height} pixels"
    if not isinstance(region, np.ndarray):

        def check(found_width: int, found_height: int) -> None:
            if (found_width, found_height) != (width, height):
                raise InputError(f"{wanted}, not {found_width} x {found_height}")

        try:
            picture = open_picture(region, check)
        except InputError as error:
            raise InputError(f"{name} {error}") from error
        # Deep values as they are: clipped to 8 bits, all that is not black would be white.
        region = np.asarray(picture if picture.mode[0] in "IF" else picture.convert("L"))
        if not np.isfinite(region).all():
            raise InputError(f"{name} {label(origin)}: values that are not finite; save it with 8 bits")
    if region.shape != (height, width):
        raise InputError(f"{name} {wanted}, as an array of its height x width")
    return Area((region > 0) & (region >= region.max() / 2), origin)


def _boxes(text: str, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Boxes "x,y,width,height" in pixels, one or several, as (H, W) bool."""
    region = np.zeros(shape, bool)
    for box in text.split(";"):
        x, y, width, height = map(int, box.split(","))
        part = region[y : y + height, x : x + width]
        if part.size == 0:
            raise InputError(f"{name} {box.strip()} holds no pixel of an image of {shape[1]} x {shape[0]}")
        part[:] = True
    return region


def _whole(value: Any) -> int | None:
    """A whole number as int, whichever integer type holds it, NumPy's too; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
