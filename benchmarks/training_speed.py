"""How fast does fine-tuning step, beside diffusers' InstructPix2Pix training script on the same model?

    python benchmarks/training_speed.py [--model bundled] [--batch 4] [--rounds 7] [--steps 3] [--device cpu]

diffusers does not ship its example scripts with the package. `TheirStep` is that script's step, written anew from its
documentation: both images of every sample are encoded in the step, the target sampled from its posterior and scaled,
the condition the posterior's mode; noise, timesteps and dropout are drawn on the device; AdamW, clipping and the moving
average follow; the frozen networks hold their weights in the precision asked for. The two U-Nets start from the same
weights and compute in the same precision, and the two alternate, because machines are noisy. Ours reads latents that
were encoded once, which is most of the difference; what that costs is printed too. Prints the median of each in samples
per second, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from PIL import Image

from instructx2x.editing.sampling import training_schedule
from instructx2x.models import Backbone, load
from instructx2x.training.batches import Pairs, squared_errors
from instructx2x.training.draws import draw, row_of
from instructx2x.training.latents import encode_images

TEXT, PAIRS = "Add the finding of left pleural effusion.", 16


def make_pairs(folder: Path, size: int) -> pl.DataFrame:
    """Noise images of the model's size, and the table of their pairs."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(PAIRS):
        row = {"instruction": TEXT}
        for when in ("past", "current"):
            row[f"{when}_image"] = f"{number}{when}.png"
            Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8)).save(folder / row[f"{when}_image"])
        rows.append(row)
    return pl.DataFrame(rows)


class Step:
    """A U-Net of its own with optimiser and moving average."""

    def __init__(self, model: Backbone, accelerator: Accelerator):
        self.model, self.accelerator = model, accelerator
        unet = copy.deepcopy(model.unet).requires_grad_(True).train()
        self.ema = EMAModel(unet.parameters(), decay=0.9999, foreach=self.fused)
        optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-4, weight_decay=0.01, fused=self.fused)
        self.ema.to(model.device)
        self.unet, self.optimiser = accelerator.prepare(unet, optimiser)

    def take(self, loss: torch.Tensor) -> float:
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.ema.step(self.unet.parameters())
        return loss.item()


class OurStep(Step):
    fused = True

    def __init__(self, model: Backbone, accelerator: Accelerator, pairs: Pairs):
        super().__init__(model, accelerator)
        self.pairs = pairs

    def __call__(self, step: int, batch: int) -> float:
        numbers = range(step * batch, (step + 1) * batch)
        shape = self.model.latent_shape[1:]
        draws = [draw(number, 0, shape, self.pairs.timesteps, 0.05, 0.05, 0.05) for number in numbers]
        rows = [row_of(number, len(self.pairs), 0) for number in numbers]
        with self.accelerator.autocast():
            loss = squared_errors(self.unet, self.model, self.pairs.batch(rows, draws)).mean()
        return self.take(loss)


class TheirStep(Step):
    fused = False

    def __init__(self, model: Backbone, accelerator: Accelerator, table: pl.DataFrame, folder: Path):
        super().__init__(model, accelerator)
        self.table, self.folder = table, folder
        frozen = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)
        self.vae = copy.deepcopy(model.vae).to(frozen)
        self.text_encoder = copy.deepcopy(model.text_encoder).to(frozen)
        self.schedule = DDPMScheduler(**training_schedule(model.scheduler.config))
        self.null = self.tokenize([""])

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        return self.model.tokenizer(
            texts, max_length=self.model.token_limit, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids.to(self.model.device)

    def images(self, rows: list[int], column: str) -> torch.Tensor:
        """(n, 3, S, S) in [-1, 1]: decoded, as colour, resized (here to the size they have) and scaled."""
        size, pictures = self.model.size, []
        for row in rows:
            with Image.open(self.folder / self.table[column][row]) as image:
                pictures.append(np.asarray(image.convert("RGB").resize((size, size))))
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return (2 * (pixels / 255) - 1).to(self.model.device, self.vae.dtype)

    def __call__(self, step: int, batch: int) -> float:
        device = self.model.device
        rows = [(step * batch + number) % len(self.table) for number in range(batch)]
        ids = self.tokenize([self.table["instruction"][row] for row in rows])
        with torch.no_grad():
            target = self.vae.encode(self.images(rows, "current_image")).latent_dist.sample()
            target = target * self.vae.config.scaling_factor
            past = self.vae.encode(self.images(rows, "past_image")).latent_dist.mode()
            text, null = self.text_encoder(ids)[0], self.text_encoder(self.null)[0]
        noise = torch.randn_like(target)
        timesteps = torch.randint(0, self.schedule.config.num_train_timesteps, (batch,), device=device)
        noisy = self.schedule.add_noise(target, noise, timesteps)
        chance = torch.rand(batch, device=device)
        text = torch.where((chance < 0.1)[:, None, None], null, text)
        past = past * ~((chance >= 0.05) & (chance < 0.15))[:, None, None, None]
        predicted = self.unet(torch.cat((noisy, past), dim=1), timesteps, text, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
        return self.take(loss)


def rate(step: Step, first: int, steps: int, batch: int) -> float:
    """Samples per second."""
    start = time.perf_counter()
    for number in range(first, first + steps):
        step(number, batch)
    return steps * batch / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"))
    options = parser.parse_args()

    accelerator = Accelerator(mixed_precision=options.precision, cpu=options.device == "cpu")
    model = load(options.model, device=accelerator.device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = make_pairs(folder, model.size)
        files = sorted({*table["past_image"], *table["current_image"]})
        start = time.perf_counter()
        latents = encode_images(model.vae, folder, files, folder / "latents", "", accelerator)
        once = len(files) / (time.perf_counter() - start)
        steps = {
            "ours": OurStep(model, accelerator, Pairs(table, latents, model)),
            "theirs": TheirStep(model, accelerator, table, folder),
        }
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(options.rounds + 1):
            for name, step in steps.items():
                measured = rate(step, number * options.steps, options.steps, options.batch)
                if number:  # the first round warms up
                    rates[name].append(measured)

    ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
    print(
        f"{options.model}, {model.size} px, {options.precision}, {options.batch} samples at once on "
        f"{accelerator.device}, median of {options.rounds} rounds of {options.steps} steps"
    )
    for name, values in rates.items():
        print(f"{name:>7}: {statistics.median(values):7.2f} samples/s")
    print(f"  ratio: {statistics.median(ratios):7.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"encoding, once before the first step: {once:.2f} images/s")


if __name__ == "__main__":
    main()
