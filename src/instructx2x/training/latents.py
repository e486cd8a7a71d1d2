"""Every training image encoded once, into files that all processes read.

The autoencoder is frozen and the images are not changed from epoch to epoch, so the posterior of an image's latents is
always the same: its mean and the logarithm of its variance are kept, and only the sampling from it is left to do in a
step. In float32 that takes 128 KiB for an image of 512 pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from PIL import Image

from instructx2x.dataset.images import usable_processors
from instructx2x.errors import InputError, OutputError
from instructx2x.imaging.pictures import FORMATS
from instructx2x.imaging.writing import atomic_write
from instructx2x.training.journal import told

# Images in a file, and in a batch; fixed, so that the numbers do not depend on how many processes encode.
SHARD, BATCH = 64, 8


class Latents:
    """Posteriors of encoded images, by file name."""

    def __init__(self, files: Sequence[str], shards: Sequence[Path]):
        self._place = {file: divmod(number, SHARD) for number, file in enumerate(files)}
        self._shards = shards

    def mean(self, file: str) -> torch.Tensor:
        """(c, h, w) float32: the posterior's mean, which is its mode; not scaled."""
        return self._parameters(file).chunk(2)[0]

    def sample(self, file: str, noise: torch.Tensor) -> torch.Tensor:
        """(c, h, w) float32: the posterior's mean plus its standard deviation times `noise`; not scaled."""
        mean, log_variance = self._parameters(file).chunk(2)
        return mean + torch.exp(0.5 * log_variance) * noise

    def _parameters(self, file: str) -> torch.Tensor:
        shard, row = self._place[file]
        # Opened every time: a large dataset has more shards than a process may keep files open.
        return torch.from_numpy(np.array(np.load(self._shards[shard], mmap_mode="r")[row]))


def check_images(data: Path, files: Sequence[str], size: int) -> None:
    """Look at the head of every image before the work starts.

    Raises:
        InputError: an image is missing, is no image, or has another size than the model's.
    """
    with told("Checking images", len(files)) as advance:
        for file in files:
            try:
                with Image.open(data / file, formats=FORMATS) as image:
                    width, height = image.size
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                what = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
                raise InputError(f"{data / file} {what}: run x2x dataset build again") from error
            if (width, height) != (size, size):
                raise InputError(
                    f"{data / file} has {width} x {height} pixels and the model {size} x {size}: build the dataset "
                    f"with x2x dataset build --size {size}"
                )
            advance(1)


def encode_images(
    vae: AutoencoderKL, data: Path, files: Sequence[str], folder: Path, key: str, accelerator: Accelerator
) -> Latents:
    """Encode images, each once; processes share the work, and what an earlier run encoded stays.

    Args:
        vae: on the process's device, float32.
        data: the dataset's folder.
        files: image files, relative to it.
        folder: where the posteriors go, `folder/HASH/00000.npy`, SHARD images a file.
        key: what else the posteriors depend on: the autoencoder and the dataset.

    Raises:
        InputError: an image is missing, damaged, or has another size than the first.
        OutputError: `folder` cannot be written to, or is not the same for all processes.
    """
    folder = folder / sha256("\n".join((key, *files)).encode()).hexdigest()[:16]
    names = [f"{number:05d}.npy" for number in range(-(-len(files) // SHARD))]
    written = _listed(folder)
    # Shared out by number, not by what is missing: on a shared disk machines may see different files for a while.
    share = range(len(names))[accelerator.process_index :: accelerator.num_processes]
    mine = {number: files[number * SHARD : (number + 1) * SHARD] for number in share if names[number] not in written}
    count, main = sum(map(len, mine.values())), accelerator.is_main_process
    with ThreadPoolExecutor(usable_processors()) as pool, told("Encoding images", count, main) as advance:
        for number, some in mine.items():
            pictures = pool.map(lambda file: _read(data / file), some)
            parameters = _encode(vae, list(pictures))
            atomic_write(folder / names[number], lambda path, array=parameters: np.save(path, array))
            advance(len(parameters))
    accelerator.wait_for_everyone()
    # To list a folder brings a machine's view of it up to date; to ask for one file may not.
    if lost := set(names) - _listed(folder):
        raise OutputError(
            f"{folder} lacks {len(lost)} files that other processes wrote: choose a --work that all machines see"
        )
    return Latents(files, [folder / name for name in names])


def _listed(folder: Path) -> set[str]:
    """Names of the files in a folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return set(os.listdir(folder))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to ({error.strerror}): choose another --work") from error


@torch.no_grad()
def _encode(vae: AutoencoderKL, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 2c, h, w) float32: mean and log of the variance of each image's posterior."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        pixels = torch.from_numpy(np.stack(pictures[start : start + BATCH])).to(vae.device)
        images = (pixels[:, None].float() / 127.5 - 1).expand(-1, 3, -1, -1)
        parts.append(vae.encode(images).latent_dist.parameters.float().cpu())
    return torch.cat(parts).numpy()


def _read(path: Path) -> np.ndarray:
    """(S, S) uint8."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is missing or damaged: run x2x dataset build again") from error
