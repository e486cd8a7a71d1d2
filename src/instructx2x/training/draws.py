"""What every sample of a fine-tuning run is: a pure function of the seed and the sample's number.

Samples are numbered through the run: sample `position` of step `step` has the number `step * batch + position`. The
number alone decides which pair it shows, what is dropped, its timestep and its noise. So 1, 2 or 8 processes see the
same samples with the same noise, and a run that was cut off goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

# Keeps the draws of different purposes apart.
_ORDER, _TRAIN, _VALIDATE = range(3)


@dataclass(frozen=True)
class Draw:
    """The random part of a sample.

    Attributes:
        keep_text, keep_image: whether each condition is shown.
        timestep: 0 to T - 1.
        posterior, noise: (c, h, w) standard normal: for sampling the current image's latents, and to be predicted.
    """

    keep_text: bool
    keep_image: bool
    timestep: int
    posterior: torch.Tensor
    noise: torch.Tensor


def row_of(number: int, rows: int, seed: int) -> int:
    """The pair that a sample shows: every pair once an epoch, in another order each epoch."""
    epoch, place = divmod(number, rows)
    return int(_permutation(epoch, rows, seed)[place])


@lru_cache(maxsize=2)  # a batch can reach over the end of an epoch
def _permutation(epoch: int, rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng((_ORDER, seed, epoch)).permutation(rows)


def _generator(*numbers: int) -> torch.Generator:
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def draw(
    number: int,
    seed: int,
    shape: tuple[int, int, int],
    timesteps: int,
    drop_text: float = 0.0,
    drop_image: float = 0.0,
    drop_both: float = 0.0,
) -> Draw:
    """Draw a training sample's dropout, timestep and noise.

    The three kinds of dropout exclude each other, as in InstructPix2Pix (arXiv 2211.09800, section 3.2.1).

    Args:
        shape: of the latents, (c, h, w).
        timesteps: T.
        drop_text, drop_image, drop_both: shares, together at most 1.
    """
    generator = _generator(_TRAIN, seed, number)
    chance = float(torch.rand((), generator=generator, dtype=torch.float64))
    timestep = int(torch.randint(timesteps, (), generator=generator))
    posterior, noise = torch.randn((2, *shape), generator=generator)
    only_text = chance < drop_text
    only_image = drop_text <= chance < drop_text + drop_image
    both = drop_text + drop_image <= chance < drop_text + drop_image + drop_both
    return Draw(not (only_text or both), not (only_image or both), timestep, posterior, noise)


def validation_draw(number: int, count: int, seed: int, shape: tuple[int, int, int], timesteps: int) -> Draw:
    """The same for sample `number` of `count` to validate on: nothing dropped, timesteps spread evenly."""
    posterior, noise = torch.randn((2, *shape), generator=_generator(_VALIDATE, seed, number))
    return Draw(True, True, int((number + 0.5) / count * timesteps), posterior, noise)


def validation_rows(rows: int, count: int, seed: int) -> list[int]:
    """Which pairs of `rows` to validate on: a seeded choice of at most `count`."""
    return np.random.default_rng((_VALIDATE, seed)).permutation(rows)[:count].tolist()


def chunks(batch: int, processes: int, per_device: int) -> list[list[range]]:
    """Share the positions of one batch among processes.

    Returns:
        Rounds; in each one chunk for every process, of `per_device` positions or fewer. All have nearly the same
        length, and where `batch` is divided by `processes * per_device` exactly `per_device`. Some are empty where
        there are fewer positions than chunks.
    """
    rounds = -(-batch // (processes * per_device))
    count = rounds * processes
    edges = [batch * number // count for number in range(count + 1)]
    parts = [range(start, end) for start, end in pairwise(edges)]
    return [parts[number : number + processes] for number in range(0, count, processes)]


def numbers_of(step: int, batch: int, positions: range) -> Iterator[int]:
    """The numbers of the samples at some positions of a step."""
    return (step * batch + position for position in positions)
