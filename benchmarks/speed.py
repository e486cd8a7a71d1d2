"""What an edit costs in U-Net evaluations and seconds, and how far fewer steps lead from 100 of them.

    python benchmarks/speed.py --data DATA [--model FOLDER] [--images 8] [--text-guidance S] [--image-guidance S]

Prints three Markdown tables, in one run on one model and the same val images: profiles beside the published algorithm
and diffusers' plain pipeline; solvers, spacings and ways to guide less; and what running several latents at once
gives, in time and in bytes.

One evaluation is one latent through the U-Net once: a step with three branches is three. The distance of two edits is
the RMS of their brightness (0 to 1) over the union of the masks of the two seeds, and is told as a share of the
distance between two seeds' edits of 100 steps each. The reference of each row is the edit of the same profile and
seed with 100 steps of DDIM.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, StableDiffusionInstructPix2PixPipeline
from first_light import held_out
from PIL import Image

from instructx2x import Editor
from instructx2x.editing import Result
from instructx2x.editing.sampling import training_schedule
from instructx2x.progress import track
from instructx2x.training.data import load_table

INSTRUCTIONS = (
    "Add the finding of left pleural effusion.",
    "Add the finding of edema.",
    "Add the finding of cardiomegaly.",
    "Remove the finding of pleural effusion.",
)
REFERENCE = {"steps": 100, "scheduler": "ddim"}
SEEDS = (0, 1)
PROFILES = ("default", "fast")


@dataclass(frozen=True)
class Case:
    """One edit to make: an image and an instruction, in every way that is compared."""

    file: Path
    instruction: str


@dataclass(frozen=True)
class Reference:
    """100 steps, for two seeds: brightness of the first, where to compare, and how far apart the seeds are."""

    display: np.ndarray
    where: np.ndarray
    between_seeds: float


class Bench:
    """A model, its cases, and a count of what goes through its U-Net."""

    def __init__(self, model: str, cases: list[Case], guidance: dict[str, float]) -> None:
        self.editor, self.cases, self.guidance = Editor.from_pretrained(model), cases, guidance
        self.evaluations = 0
        self.editor.backbone.unet.register_forward_pre_hook(self.count)

    def count(self, unet: torch.nn.Module, arguments: tuple) -> None:
        self.evaluations += len(arguments[0])

    def edit(self, case: Case, seed: int = SEEDS[0], **options) -> tuple[Result, int, float]:
        """The result, its evaluations, and its seconds, from the open image to the edited one."""
        study = self.editor.open(case.file)
        before, began = self.evaluations, time.perf_counter()
        result = study.edit(case.instruction, seed=seed, **options)
        return result, self.evaluations - before, time.perf_counter() - began

    def changes_something(self, case: Case) -> bool:
        """Whether no mask is empty: an edit that the model takes to hold already has no distance."""
        study = self.editor.open(case.file)
        return all(
            study.guidance(case.instruction, profile=profile, seed=seed).mask.any()
            for profile in PROFILES
            for seed in SEEDS
        )

    def references(self, profile: str) -> list[Reference]:
        found = []
        for case in track(self.cases, description=f"{profile}, 100 steps"):
            first, second = (self.edit(case, seed, profile=profile, **self.guidance, **REFERENCE)[0] for seed in SEEDS)
            where = first.mask | second.mask
            one, other = first.image.display(), second.image.display()
            found.append(Reference(one, where, rms(one, other, where)))
        return found

    def row(self, name: str, references: list[Reference], cases: list[Case], timed: bool = True, **options) -> str:
        distances, shares, evaluations, seconds = [], [], [], []
        for case, reference in track(list(zip(cases, references, strict=False)), description=name):
            result, count, took = self.edit(case, **self.guidance, **options)
            distances.append(rms(result.image.display(), reference.display, reference.where))
            shares.append(distances[-1] / reference.between_seeds)
            evaluations.append(count)
            seconds.append(took)
        told = f"{statistics.median(shares):.3f} | {statistics.mean(shares):.3f} | {max(shares):.3f}"
        clock = f"| {statistics.median(seconds):.1f} " if timed else ""
        return (
            f"| {name} | {statistics.median(evaluations):.0f} {clock}"
            f"| {np.sqrt(np.mean(np.square(distances))):.4f} | {told} |"
        )


def rms(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one - other)[where] ** 2)))


def profiles(bench: Bench, references: dict[str, list[Reference]]) -> None:
    between = {name: [reference.between_seeds for reference in found] for name, found in references.items()}
    print("\n| run | evaluations | median s | distance, RMS | share, median | mean | largest |")
    print("|---|---|---|---|---|---|---|")
    some = bench.cases[:3]
    official = [bench.edit(case, profile="official") for case in track(some, description="official")]
    print(f"| official, 100 steps | {told(official)} | - | - | - | - |")
    print(f"| diffusers' pipeline, 100 steps | {told(plain_pipeline(bench, some))} | - | - | - | - |")
    for profile in PROFILES:
        print(bench.row(profile, references[profile], bench.cases, profile=profile), flush=True)
    for profile, distances in between.items():
        print(f"\nBetween two seeds ({profile}, 100 steps), RMS: {np.sqrt(np.mean(np.square(distances))):.4f}")
    overlaps = []
    for case in track(bench.cases, description="masks"):
        study = bench.editor.open(case.file)
        one, other = (study.guidance(case.instruction, profile=profile).mask for profile in PROFILES)
        overlaps.append((one & other).sum() / max((one | other).sum(), 1))
    print(f"\nThe masks of default and fast: intersection over union {statistics.median(overlaps):.2f} (median)")


def told(runs: list[tuple]) -> str:
    return f"{statistics.median(run[1] for run in runs):.0f} | {statistics.median(run[2] for run in runs):.1f}"


def plain_pipeline(bench: Bench, cases: list[Case]) -> list[tuple]:
    """The same model in diffusers' own pipeline: no mask, no map, and the model's square only."""
    backbone = bench.editor.backbone
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(backbone.path, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.register_forward_pre_hook(bench.count)
    recommended = backbone.calibration or {}
    runs = []
    for case in track(cases, description="diffusers' pipeline"):
        picture = Image.open(case.file).convert("RGB").resize((backbone.size, backbone.size))
        before, began = bench.evaluations, time.perf_counter()
        image = pipeline(
            case.instruction,
            image=picture,
            num_inference_steps=100,
            guidance_scale=bench.guidance.get("text_guidance", recommended.get("text_guidance", 7.5)),
            image_guidance_scale=bench.guidance.get("image_guidance", recommended.get("image_guidance", 1.5)),
            generator=torch.Generator().manual_seed(SEEDS[0]),
        ).images[0]
        runs.append((image, bench.evaluations - before, time.perf_counter() - began))
    return runs


def solvers(bench: Bench, references: list[Reference]) -> None:
    """Half of the cases, with the few noise draws of the fast profile, so that the evaluations are the solver's."""
    config = training_schedule(bench.editor.backbone.scheduler.config)

    def dpm(**options) -> SchedulerMixin:
        return DPMSolverMultistepScheduler(**config, timestep_spacing="trailing", **options)

    print("\n| solver | evaluations | distance, RMS | share, median | mean | largest |")
    print("|---|---|---|---|---|---|")
    cases, references = bench.cases[::2], references[::2]
    compared: tuple[tuple[str, str | SchedulerMixin, int], ...] = (
        ("DDIM, even", "ddim", 18),
        ("DPM++ 2M, even", dpm(), 12),
        ("DPM++ 2M, even", dpm(), 18),
        ("DPM++ 2M, log-SNR", dpm(use_lu_lambdas=True), 12),
        ("DPM++ 3M, Karras", dpm(use_karras_sigmas=True, solver_order=3), 12),
        ("UniPC, Karras", "unipc", 12),
        ("DPM++ 2M, Karras", "dpm++", 8),
        ("DPM++ 2M, Karras", "dpm++", 10),
        ("DPM++ 2M, Karras", "dpm++", 12),
        ("DPM++ 2M, Karras", "dpm++", 18),
        ("DPM++ 2M, Karras", "dpm++", 25),
    )
    for name, scheduler, steps in compared:
        options = {"profile": "fast", "scheduler": scheduler, "steps": steps, "timed": False}
        print(bench.row(f"{name}, {steps} steps", references, cases, **options), flush=True)
    for name, way in (("guided in the first 60 %", drop(0.6)), ("difference held after 60 %", hold(0.6))):
        with guided(bench.editor, 18, way):
            options = {"profile": "fast", "scheduler": "dpm++", "steps": 18, "timed": False}
            print(bench.row(f"DPM++ 2M, Karras, 18 steps, {name}", references, cases, **options), flush=True)
    with guided(bench.editor, 18, hold_every_second):
        print(bench.row("DPM++ 2M, Karras, 18 steps, difference held every 2nd", references, cases, **options))


# Ways to guide less, as (step, steps) -> "whole", "drop" or "hold".
Way = Callable[[int, int], str]


def drop(share: float) -> Way:
    """Guide in the first steps alone: after them the prediction is e(I,T)."""
    return lambda step, steps: "whole" if step < share * steps else "drop"


def hold(share: float) -> Way:
    """After the first steps, guide by the last difference e(I,T) - e(I,0) that was computed."""
    return lambda step, steps: "whole" if step < share * steps else "hold"


def hold_every_second(step: int, steps: int) -> str:
    return "hold" if step % 2 else "whole"


@contextmanager
def guided(editor: Editor, steps: int, way: Way) -> Iterator[None]:
    """Within it, sampling's first two branches are computed as `way` says; needs s_I = 1, so that there are two."""
    whole, state = editor.backbone.predict, {"step": 0, "difference": None}

    def predict(noisy, timesteps, image_latents, text):
        if timesteps.ndim > 0:  # the relevance map: an edit begins
            state["step"] = 0
            return whole(noisy, timesteps, image_latents, text)
        how = way(state["step"], steps)
        state["step"] += 1
        if how == "whole":
            both = whole(noisy, timesteps, image_latents, text)
            state["difference"] = both[:1] - both[1:]
            return both
        told = whole(noisy[:1], timesteps, image_latents[:1], text[:1])
        return torch.cat([told, told if how == "drop" else told - state["difference"]])

    editor.backbone.predict = predict
    try:
        yield
    finally:
        editor.backbone.predict = whole


@torch.no_grad()
def at_once(bench: Bench) -> None:
    """Why rows and samples run one by one."""
    backbone = bench.editor.backbone
    generator = torch.Generator().manual_seed(0)
    noisy, condition = torch.randn(2, 16, *backbone.latent_shape[1:], generator=generator).to(backbone.device)
    text = torch.cat([backbone.embed(INSTRUCTIONS[0]), backbone.embed("")]).repeat(8, 1, 1)
    timestep = torch.tensor(500)

    def run(size: int) -> torch.Tensor:
        parts = [slice(start, start + size) for start in range(0, 16, size)]
        return torch.cat([backbone.predict(noisy[part], timestep, condition[part], text[part]) for part in parts])

    pairs = run(2)
    print("\n| latents at once | ms a latent | largest difference from two at once |")
    print("|---|---|---|")
    for size in (1, 2, 4, 8, 16):
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            some = run(size)
            seconds.append(time.perf_counter() - began)
        print(f"| {size} | {min(seconds) / 16 * 1000:.0f} | {(some - pairs).abs().max().item():.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--images", type=int, default=8, help="half without a finding, half with an effusion")
    parser.add_argument("--each", type=int, default=2, choices=range(1, 5), help="instructions an image")
    parser.add_argument("--text-guidance", type=float, help="instead of the model's recommendation")
    parser.add_argument("--image-guidance", type=float)
    arguments = parser.parse_args()
    table, half = load_table(arguments.data), arguments.images // 2
    files = held_out(table, "nih", exactly="No Finding")[:half]
    files += held_out(table, "nih", finding="Effusion")[: arguments.images - half]
    cases = [
        Case(arguments.data / file, INSTRUCTIONS[(number + number // half + 2 * other) % 4])
        for number, file in enumerate(files)
        for other in range(arguments.each)
    ]
    given = {"text_guidance": arguments.text_guidance, "image_guidance": arguments.image_guidance}
    bench = Bench(arguments.model, cases, {name: value for name, value in given.items() if value is not None})
    bench.cases = [case for case in track(cases, description="masks") if bench.changes_something(case)]
    print(f"{len(files)} images, {torch.get_num_threads()} threads, {bench.editor.backbone.device}")
    print(f"{len(bench.cases)} edits; the model takes {len(cases) - len(bench.cases)} more to hold already")
    at_once(bench)
    references = {profile: bench.references(profile) for profile in PROFILES}
    profiles(bench, references)
    if not bench.guidance:
        solvers(bench, references["fast"])


if __name__ == "__main__":
    main()
