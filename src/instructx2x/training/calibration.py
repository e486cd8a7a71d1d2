"""The model's own scale for the relevance map, and how strongly to guide it, measured on held-out patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from instructx2x.editing import PROFILES, relevance, sampling
from instructx2x.editing.profiles import THRESHOLD
from instructx2x.models import Backbone
from instructx2x.training.samples import Sample, Sampler

TIMESTEPS = (700, 800, 900)
DRAWS = PROFILES["default"].draws
TEXT_GUIDANCE = (1.0, 1.5, 2.0, 3.0)


def differences(backbone: Backbone, sample: Sample, seed: int) -> np.ndarray:
    """D of a sample, with as many noise draws as the editor makes: (draws, timesteps, s, s)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((DRAWS, *backbone.latent_shape[1:]), generator=generator)
    return relevance.differences(
        backbone.predict,
        sampling.official_scheduler(backbone.scheduler.config).alphas_cumprod,
        sample.source[None].to(backbone.device),
        sample.source[None].to(backbone.device) / backbone.vae.config.scaling_factor,
        backbone.embed(sample.text),
        backbone.embed(""),
        noise.to(backbone.device),
        TIMESTEPS,
    )


@torch.no_grad()
def strength(backbone: Backbone, samples: list[Sample], text_guidance: float, steps: int = 12) -> float:
    """How strong edits are beside the pairs they were learned from: median of <out - src, tgt - src> / |tgt - src|^2.

    1 is as strong as painted, 0 is no edit. Sampled everywhere, without a mask.
    """
    ratios = []
    for number, sample in enumerate(samples):
        noise = torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(number))
        z0 = sample.source[None].to(backbone.device)
        edited = sampling.sample(
            backbone.predict,
            sampling.make_scheduler("dpm++", backbone.scheduler.config),
            z0,
            z0 / backbone.vae.config.scaling_factor,
            backbone.embed(sample.text),
            backbone.embed(""),
            torch.ones(backbone.latent_shape[2:], dtype=torch.bool),
            noise.to(backbone.device),
            steps=steps,
            text_guidance=text_guidance,
            image_guidance=1.0,
        )[0].cpu()
        wanted = sample.target - sample.source
        ratios.append(float(((edited - sample.source) * wanted).sum() / (wanted**2).sum()))
    return float(np.median(ratios))


@torch.no_grad()
def calibrate(backbone: Backbone, sampler: Sampler, out: Path, *, count: int = 200, seed: int = 0) -> dict:
    """Measure and write `calibration.json`.

    `null_p99` is the 99th percentile of D where nothing is to be done, `inside_median` its median in cells that the
    instruction truly changes, per timestep. `tau` is the threshold of R that best tells the two kinds of instruction
    apart by whether any cell passes it. Where the median is not above the percentile at every timestep the two kinds
    overlap: no scale is written, and the editor normalises inside the anatomy. `text_guidance` is the smallest whose
    edits come out as strong as painted.

    Args:
        sampler: of held-out patients.
        count: samples of each kind.
    """
    rng = np.random.default_rng(seed)
    nothing = [sampler.draw(rng, "nothing") for _ in range(count)]
    edits = [sampler.draw(rng, kind) for kind in ("add", "remove") for _ in range(count // 2)]
    null = np.stack([differences(backbone, s, i) for i, s in enumerate(track(nothing, "nothing to do"))])
    valid = np.stack([differences(backbone, s, i) for i, s in enumerate(track(edits, "valid edits"))])
    inside = np.stack([sample.where.numpy() for sample in edits])
    null_p99, inside_median = [], []
    for index in range(len(TIMESTEPS)):
        low = float(np.percentile(null[:, :, index], 99))
        high = float(np.median(valid[:, :, index].mean(axis=1)[inside]))
        null_p99.append(round(low, 5))
        inside_median.append(round(high, 5))
    scale = {
        str(t): {"null_p99": low, "inside_median": high}
        for t, low, high in zip(TIMESTEPS, null_p99, inside_median, strict=True)
    }
    separable = all(high > low for low, high in zip(null_p99, inside_median, strict=True))

    def peak(maps: np.ndarray) -> np.ndarray:
        return np.array(
            [relevance.normalise_calibrated(m, null_p99, inside_median)[0].max() for m in maps]
        )

    tau, emptiness = THRESHOLD, {}
    if separable:
        peaks_null, peaks_valid = peak(null), peak(valid)
        grid = np.arange(0.05, 0.51, 0.05)
        tau = float(max(grid, key=lambda t: (peaks_null < t).mean() + (peaks_valid >= t).mean()))
        emptiness = {
            "empty_when_nothing": round(float((peaks_null < tau).mean()), 3),
            "empty_when_valid": round(float((peaks_valid < tau).mean()), 3),
        }
    some = edits[:: max(1, len(edits) // 24)]
    strengths = {g: strength(backbone, some, g) for g in track(TEXT_GUIDANCE, "strength of guidance")}
    enough = [g for g, value in strengths.items() if value >= 0.9]
    result = {
        "version": 1,
        "timesteps": scale if separable else {},
        "tau": round(tau, 2),
        "text_guidance": min(enough) if enough else max(TEXT_GUIDANCE),
        "image_guidance": 1.0,
        "measured": {
            "samples": {"nothing": len(nothing), "edits": len(edits)},
            "scale": scale,
            **emptiness,
            "strength": {str(g): round(value, 3) for g, value in strengths.items()},
        },
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result
