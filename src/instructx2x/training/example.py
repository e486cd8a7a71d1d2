"""The demo's input: synthetic radiographs drawn from a blank past image, and how far they are from real ones.

No patient image may be shipped, so the example is the model's own. Run as a module it writes candidates to choose
from by eye, and prints for each the distance to its nearest training image beside that of held-out images to theirs:

    python -m instructx2x.training.example --data DATA --model FOLDER --out CANDIDATES
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from instructx2x.editing import sampling
from instructx2x.imaging.geometry import Frame, resize
from instructx2x.imaging.reading import read
from instructx2x.imaging.writing import eight_bit, write_png
from instructx2x.models import Backbone, load
from instructx2x.progress import track
from instructx2x.training.data import load_table

SIDE = 32


@torch.no_grad()
def generate(backbone: Backbone, seed: int, steps: int = 50) -> np.ndarray:
    """Sample the branch e(0, 0), no text and a blank past image: (S, S) float32 in [0, 1]."""
    scheduler = sampling.make_scheduler("dpm++", backbone.scheduler.config)
    scheduler.set_timesteps(steps)
    latents = torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(seed)).to(backbone.device)
    latents = latents * scheduler.init_noise_sigma
    empty, blank = backbone.embed(""), torch.zeros_like(latents)
    for timestep in scheduler.timesteps:
        noise = backbone.predict(scheduler.scale_model_input(latents, timestep), timestep, blank, empty)
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    return backbone.decode(latents)[0].mean(dim=0).cpu().numpy()


def signature(display: np.ndarray) -> np.ndarray:
    """What two images are compared by: 32 x 32 pixels with mean 0 and standard deviation 1, flattened."""
    small = resize(Frame(*display.shape, 256).to_model(display), SIDE, SIDE)
    return ((small - small.mean()) / (small.std() + 1e-6)).ravel()


def nearest(signatures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square distance of each row to its nearest row of `others`: (n,)."""
    squares = (signatures**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * signatures @ others.T
    return np.sqrt(np.maximum(squares.min(1), 0) / signatures.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--image", type=Path, help="measure this image only, instead of drawing candidates")
    arguments = parser.parse_args()
    table = load_table(arguments.data)
    real = {}
    for split in ("train", "val"):
        rows = table.filter((table["split"] == split) & table["adult"])
        real[split] = np.stack([signature(read(arguments.data / f).display()) for f in track(rows["file"], split)])
    held_out = nearest(real["val"], real["train"])
    quantiles = ", ".join(f"{q} %: {np.percentile(held_out, q):.3f}" for q in (1, 5, 25, 50))
    print(f"held-out images to their nearest training image ({len(held_out)}): {quantiles}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.image:
        drawn = {arguments.image.name: read(arguments.image).display()}
    else:
        backbone = load(arguments.model)
        drawn = {f"{seed:03d}.png": generate(backbone, seed) for seed in track(range(arguments.count), "drawing")}
    for name, display in drawn.items():
        distance = nearest(signature(display)[None], real["train"])[0]
        share = (held_out < distance).mean()
        print(f"{name}: {distance:.3f}, farther than {share:.0%} of held-out images")
        if not arguments.image:
            text = {"Synthetic": "yes", "Comment": "made by the bundled model from a blank image; not a patient"}
            write_png(eight_bit(display), arguments.out / name, text=text)


if __name__ == "__main__":
    main()
