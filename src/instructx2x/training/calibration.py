"""The model's own scale for the relevance map, and how strongly to guide it, measured on held-out patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.editing import PROFILES, guidance, relevance, sampling
from instructx2x.editing.profiles import THRESHOLD
from instructx2x.errors import AnatomyError
from instructx2x.evaluation.ranking import auroc
from instructx2x.imaging.geometry import Frame
from instructx2x.instructions import Edit, Operation, opposite, render
from instructx2x.models import Backbone
from instructx2x.training.samples import Sample, Sampler
from instructx2x.training.vae import decode

TIMESTEPS = (700, 800, 900)
DRAWS = PROFILES["default"].draws
# Share of valid instructions that may be taken for holding already.
VALID_LOST = 0.05
TEXT_GUIDANCE = (1.0, 1.5, 2.0, 3.0)


def differences(backbone: Backbone, sample: Sample, seed: int) -> np.ndarray:
    """D of a sample's instruction and of its opposite, with the editor's draws: (2, draws, timesteps, s, s)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((DRAWS, *backbone.latent_shape[1:]), generator=generator)
    return relevance.differences(
        backbone.predict,
        sampling.official_scheduler(backbone.scheduler.config).alphas_cumprod,
        sample.source[None].to(backbone.device),
        sample.source[None].to(backbone.device) / backbone.vae.config.scaling_factor,
        [backbone.embed(sample.text), backbone.embed(render(opposite(sample.edits)))],
        backbone.embed(""),
        noise.to(backbone.device),
        TIMESTEPS,
    )


def anatomy_cells(backbone: Backbone, sample: Sample) -> np.ndarray:
    """The cells that the editor's anatomy allows on this sample's source: (s, s) bool; all for what has no place."""
    display = decode(backbone.vae, sample.source[None])[0]
    try:
        allowed = pseudo_mask(sample.edits, display).values > 0
    except AnatomyError:
        return np.ones(backbone.latent_shape[2:], bool)
    return guidance.any_in_cells(allowed, Frame(*display.shape, backbone.size), backbone.latent_shape[-1])


def labelled_removal(sampler: Sampler, rng: np.random.Generator) -> Sample:
    """Real disease, by its label, to be removed: what should come out is not known, so the target is the source."""
    row = int(rng.choice(sampler.labelled))
    image = sampler.bank.clean[row].float()
    return Sample("labelled", image, image, (Edit(Operation.REMOVE, str(rng.choice(sampler.names[row]))),))


def balances(samples: list[Sample], found: np.ndarray, backbone: Backbone) -> np.ndarray:
    """(N,) `relevance.balance` of samples, whose D and that of the opposite are `found`."""
    return np.array([relevance.balance(*d, anatomy_cells(backbone, s)) for d, s in zip(found, samples, strict=True)])


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
    overlap: no scale is written, and the editor normalises inside the anatomy. `least_balance` is the balance that 19
    of 20 valid instructions reach, removals of labelled disease among them; it is left out where instructions that
    already hold reach it almost as often.
    `text_guidance` is the smallest whose edits come out as strong as painted.

    Args:
        sampler: of held-out patients.
        count: samples of each kind.
    """
    rng = np.random.default_rng(seed)
    nothing = [sampler.draw(rng, "nothing") for _ in range(count)]
    kinds = [kind for kind in ("add", "remove", "real") if sampler.of_kind.get(kind, True)]
    edits = [sampler.draw(rng, kind) for kind in kinds for _ in range(max(1, count // len(kinds)))]
    of_nothing = np.stack([differences(backbone, s, i) for i, s in enumerate(track(nothing, "nothing to do"))])
    of_edits = np.stack([differences(backbone, s, i) for i, s in enumerate(track(edits, "valid edits"))])
    labelled = [labelled_removal(sampler, rng) for _ in range(max(1, count // len(kinds)))]
    of_labelled = np.stack([differences(backbone, s, i) for i, s in enumerate(track(labelled, "labelled disease"))])
    null, valid = of_nothing[:, 0], of_edits[:, 0]
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
    balances_null = balances(nothing, of_nothing, backbone)
    balances_valid = balances([*edits, *labelled], np.concatenate((of_edits, of_labelled)), backbone)
    least = float(np.quantile(balances_valid, VALID_LOST, method="lower"))
    both = np.concatenate((balances_valid, balances_null))
    is_valid = np.arange(len(both)) < len(balances_valid)
    auc = float(auroc(is_valid[:, None].astype(float), both[:, None])[0])
    held = {
        "under_least_balance_when_nothing": round(float((balances_null < least).mean()), 3),
        "under_least_balance_when_valid": round(float((balances_valid < least).mean()), 3),
        "auc": round(auc, 3),
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
        **({"least_balance": round(least, 4)} if (balances_null < least).mean() > 3 * VALID_LOST else {}),
        "measured": {
            "samples": {"nothing": len(nothing), "edits": len(edits), "labelled": len(labelled)},
            "scale": scale,
            **emptiness,
            "balance": held,
            "strength": {str(g): round(value, 3) for g, value in strengths.items()},
        },
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result
