"""The model's own scale for the relevance map, and how strongly to guide it, measured on held-out patients."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.editing import PROFILES, guidance, relevance, sampling
from instructx2x.editing.profiles import THRESHOLD
from instructx2x.errors import AnatomyError
from instructx2x.evaluation.ranking import auroc
from instructx2x.imaging.geometry import Frame
from instructx2x.instructions import Edit, Operation, opposite, render
from instructx2x.models import Backbone
from instructx2x.progress import track
from instructx2x.training.pairs import Pair
from instructx2x.training.plain import edit_everywhere
from instructx2x.training.samples import Sample, Sampler
from instructx2x.training.vae import decode

TIMESTEPS = (700, 800, 900)
DRAWS = PROFILES["default"].draws
# Share of valid instructions that may be taken for holding already.
VALID_LOST = 0.05
TEXT_GUIDANCE = (1.0, 1.25, 1.5, 2.0, 3.0)
# Samples whose median is the strength of a guidance. Of 24 it is told to a fifth only.
STRENGTH_SAMPLES = 40
# As strong as painted: more guidance costs the patient's likeness.
ADDED = 1.0
# Real disease comes off less than what is painted, which therefore has to go and more.
REMOVED = 1.2


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


def labelled(sampler: Sampler, operation: Operation, rng: np.random.Generator) -> Sample | None:
    """Real disease, by its labels: one finding to be removed, or one that is not there to be added.

    What should come out is not known, so the target is the source. None where all that is ever labelled is there.
    """
    row = int(rng.choice(sampler.labelled))
    present = sampler.names[row]
    absent = sorted(set().union(*sampler.names) - set(present))
    choice = present if operation is Operation.REMOVE else absent
    if not choice:
        return None
    finding = str(rng.choice(choice))
    image = sampler.bank.clean[row].float()
    return Sample("labelled", image, image, (Edit(operation, finding),))


def balances(samples: list[Sample], found: np.ndarray, backbone: Backbone) -> np.ndarray:
    """(N,) `relevance.balance` of samples, whose D and that of the opposite are `found`."""
    both = [*zip(found, samples, strict=True)]
    return np.array([relevance.balance(*d, anatomy_cells(backbone, s)) for d, s in track(both, "anatomy")])


@torch.no_grad()
def strength(backbone: Backbone, sample: Sample, text_guidance: float, seed: int, steps: int = 12) -> float:
    """How strong an edit is beside the pair that it was learned from: <out - src, tgt - src> / |tgt - src|^2.

    Of brightness, not of latents: those also hold texture that nobody could know, and edits that look a third too
    strong seem too weak there. 1 is as strong as painted, 0 is no edit, or one in another place. Sampled everywhere,
    without a mask.
    """
    noise = torch.randn(backbone.latent_shape, generator=torch.Generator().manual_seed(seed))
    z0 = sample.source[None]
    image_latents = z0 / backbone.vae.config.scaling_factor
    out = edit_everywhere(backbone, z0, image_latents, sample.text, noise, steps=steps, text_guidance=text_guidance)
    source, target, edited = decode(backbone.vae, torch.cat((z0, sample.target[None], out.cpu())))
    wanted = target - source
    return float(((edited - source) * wanted).sum() / (wanted**2).sum())


def nearest_guidance(
    backbone: Backbone, samples: list[Sample], wanted: float, most: float = max(TEXT_GUIDANCE)
) -> tuple[float, dict[str, float]]:
    """The one of TEXT_GUIDANCE whose median strength is nearest to `wanted` by ratio; `most` if none reaches it so far.

    Returns:
        it, and the strengths measured: up to the first that is strong enough.
    """
    measured = {}
    weaker = weaker_reached = 0.0
    for text_guidance in TEXT_GUIDANCE if samples else ():
        if text_guidance > most:
            break
        shown = track(samples, f"strength of guidance {text_guidance}")
        reached = float(np.median([strength(backbone, s, text_guidance, n) for n, s in enumerate(shown)]))
        measured[str(text_guidance)] = round(reached, 3)
        if reached >= wanted:
            # Above `wanted` by a larger ratio than the weaker one is below it.
            return (weaker if weaker_reached * reached > wanted**2 else text_guidance), measured
        weaker, weaker_reached = text_guidance, reached
    return most, measured


def text_guidances(backbone: Backbone, sampler: Sampler, rng: np.random.Generator) -> tuple[dict, dict]:
    """What `calibrate` recommends as text guidance, and the strengths that it was told from.

    Findings are removed with one guidance, which is that of all other edits too. What is large and diffuse is added as
    strongly as painted with less, and has its own. No finding has more: what seems weak even then, such as a nodule,
    has come out in another place than the painter's, and more of it there would be too much.
    """
    alone = defaultdict(list)
    for pair in sampler.of_kind["lesion"]:
        if len(pair.lesions) == 1:
            alone[pair.lesions[0].finding].append(pair)

    def some(pairs: list[Pair], operation: Operation) -> list[Sample]:
        chosen = rng.permutation(len(pairs))[:STRENGTH_SAMPLES]
        return [sampler.painted(pairs[number], operation, rng) for number in chosen]

    added = {finding: some(alone[finding], Operation.ADD) for finding in sorted(alone)}
    # As many of each finding, for what is painted often would otherwise speak for all.
    each = min(map(len, alone.values()), default=0)
    removed = some([pair for finding in sorted(alone) for pair in alone[finding][:each]], Operation.REMOVE)
    general, of_removal = nearest_guidance(backbone, removed, REMOVED)
    found = {finding: nearest_guidance(backbone, samples, ADDED, general) for finding, samples in added.items()}
    own = {finding: text_guidance for finding, (text_guidance, _) in found.items() if text_guidance < general}
    strengths = {"add": {finding: measured for finding, (_, measured) in found.items()}, "remove": of_removal}
    return {"text_guidance": general, "text_guidance_of": {"add": own}}, strengths


def scale_of(null: np.ndarray, valid: np.ndarray, inside: np.ndarray) -> tuple[list[float], list[float]]:
    """`null_p99` and `inside_median` of `relevance.normalise_calibrated`, one a timestep.

    Args:
        null, valid: (N, draws, timesteps, s, s) D where nothing is to be done, and of valid instructions.
        inside: (N, s, s) bool, the cells that each valid one truly changes.
    """
    steps = range(null.shape[2])
    low = [round(float(np.percentile(null[:, :, step], 99)), 5) for step in steps]
    high = [round(float(np.median(valid[:, :, step].mean(axis=1)[inside])), 5) for step in steps]
    return low, high


def best_threshold(null: np.ndarray, valid: np.ndarray, limits: tuple[list[float], list[float]]) -> tuple[float, dict]:
    """The tau that best tells the two kinds apart by whether any cell passes it, and how often neither does."""
    null, valid = (
        np.array([relevance.normalise_calibrated(maps, *limits)[0].max() for maps in some]) for some in (null, valid)
    )
    tau = float(max(np.arange(0.05, 0.51, 0.05), key=lambda t: (null < t).mean() + (valid >= t).mean()))
    return tau, {"empty_when_nothing": _share(null < tau), "empty_when_valid": _share(valid < tau)}


def least_balance(null: np.ndarray, valid: np.ndarray) -> tuple[float | None, dict]:
    """The balance that all but VALID_LOST of the valid instructions reach, and what it tells.

    None where those that already hold reach it almost as often.

    Args:
        null, valid: (N,) balances of instructions that already hold, and of valid ones.
    """
    least = float(np.quantile(valid, VALID_LOST, method="lower"))
    kind = np.repeat([0.0, 1.0], [len(null), len(valid)])[:, None]
    measured = {
        "nothing": len(null),
        "valid": len(valid),
        "under_least_balance_when_nothing": _share(null < least),
        "under_least_balance_when_valid": _share(valid < least),
        "auc": round(float(auroc(kind, np.concatenate((null, valid))[:, None])[0]), 3),
    }
    return (round(least, 4) if (null < least).mean() > 3 * VALID_LOST else None), measured


def least_balances(
    nothing: list[Sample], valid: list[Sample], of_nothing: np.ndarray, of_valid: np.ndarray
) -> tuple[dict[str, float], dict[str, dict]]:
    """`least_balance` of each operation by itself, without those for which it tells nothing, and what was measured.

    By operation, because what is there is taken away with less change than what is not there is made with: one limit
    for both would tell neither. Changes of level have none, for what they ask seldom holds.

    Args:
        of_nothing, of_valid: balances of the samples.
    """
    found = {}
    for operation in ("add", "remove"):
        null, reached = (
            np.array([b for b, s in zip(some, of, strict=True) if s.edits[0].operation.value == operation])
            for some, of in ((of_nothing, nothing), (of_valid, valid))
        )
        if len(null) and len(reached):
            found[operation] = least_balance(null, reached)
    return (
        {operation: least for operation, (least, _) in found.items() if least is not None},
        {operation: measured for operation, (_, measured) in found.items()},
    )


def _share(hits: np.ndarray) -> float:
    return round(float(hits.mean()), 3)


@torch.no_grad()
def calibrate(backbone: Backbone, sampler: Sampler, out: Path, *, count: int = 200, seed: int = 0) -> dict:
    """Measure and write `calibration.json`.

    `null_p99` is the 99th percentile of D where nothing is to be done, `inside_median` its median in cells that the
    instruction truly changes, per timestep. Where the median is not above the percentile at every timestep the two
    kinds overlap: no scale is written, and the editor normalises inside the anatomy. `tau` is the best threshold of R
    on that scale. `least_balance` is what 19 of 20 valid instructions of an operation reach, those on labelled disease
    among them. `text_guidance` is what removes nearest to REMOVED of the painted strength; `text_guidance_of` an added
    finding what adds it nearest to ADDED of it, where that is less.

    Args:
        sampler: of held-out patients.
        count: samples of each kind.
    """
    rng = np.random.default_rng(seed)
    nothing = [sampler.draw(rng, "nothing") for _ in range(count)]
    kinds = [kind for kind in ("add", "remove", "real") if sampler.of_kind.get(kind, True)]
    each = max(1, count // len(kinds))
    edits = [sampler.draw(rng, kind) for kind in kinds for _ in range(each)]
    real = [
        sample
        for operation in (Operation.ADD, Operation.REMOVE)
        for _ in range(each if len(sampler.labelled) else 0)
        if (sample := labelled(sampler, operation, rng)) is not None
    ]
    of_nothing = np.stack([differences(backbone, s, i) for i, s in track([*enumerate(nothing)], "nothing to do")])
    numbered = [*enumerate(edits), *enumerate(real)]
    of_valid = np.stack([differences(backbone, s, i) for i, s in track(numbered, "valid instructions")])
    # What labelled disease should become is not known: it has a balance only.
    null, valid = of_nothing[:, 0], of_valid[: len(edits), 0]
    limits = scale_of(null, valid, np.stack([sample.where.numpy() for sample in edits]))
    scale = {str(t): {"null_p99": low, "inside_median": high} for t, low, high in zip(TIMESTEPS, *limits, strict=True)}
    separable = all(high > low for low, high in zip(*limits, strict=True))
    tau, emptiness = best_threshold(null, valid, limits) if separable else (THRESHOLD, {})
    asked = [*edits, *real]
    least, held = least_balances(
        nothing, asked, balances(nothing, of_nothing, backbone), balances(asked, of_valid, backbone)
    )
    text_guidance, strengths = text_guidances(backbone, sampler, rng)
    result = {
        "version": 1,
        "heals": bool(sampler.of_kind["blank"]),
        "timesteps": scale if separable else {},
        "tau": round(tau, 2),
        **text_guidance,
        "image_guidance": 1.0,
        "least_balance": least,
        "measured": {
            "samples": {"nothing": len(nothing), "edits": len(edits), "labelled": len(real)},
            "scale": scale,
            **emptiness,
            "balance": held,
            "strength": strengths,
        },
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    return result
