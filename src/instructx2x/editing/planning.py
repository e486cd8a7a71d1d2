"""The plan of an edit: noise, anatomy, relevance, guidance, mask. Everything up to sampling."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from instructx2x.anatomy.official import load_official_masks, mentioned, official_pseudo_mask, union_masks
from instructx2x.anatomy.priors import packaged_priors
from instructx2x.anatomy.pseudo_mask import PseudoMask, pseudo_mask
from instructx2x.editing import guidance, official, relevance
from instructx2x.editing.deciding import DONE, UNREACHED, Balance, Decision, decide
from instructx2x.editing.placing import ONE_SIDED, place
from instructx2x.editing.request import Request
from instructx2x.editing.verification import direction
from instructx2x.errors import AnatomyError, InputError
from instructx2x.imaging.geometry import Frame
from instructx2x.instructions import Edit, Operation, opposite, render
from instructx2x.models import Backbone

# Guidance from which on a model that heals sees nothing of the source. At the threshold it still sees all.
OPAQUE = 0.5
# Findings that put air where something denser was, and something denser where lung was.
LUCENT = {"air collection", "emphysema", "pneumomediastinum", "pneumothorax"}
DENSE = {
    "atelectasis",
    "blunting of the costophrenic angle",
    "calcification",
    "cardiomegaly",
    "consolidation",
    "contusion",
    "edema",
    "enlargement of the cardiac silhouette",
    "granuloma",
    "heart failure",
    "hematoma",
    "hilar congestion",
    "infection",
    "lung opacity",
    "mass",
    "nodule",
    "pleural effusion",
    "pleural thickening",
    "pneumonia",
    "thymoma",
    "vascular congestion",
}

if TYPE_CHECKING:
    from instructx2x.editing.study import Study


@dataclass(frozen=True)
class View:
    """A study on the model's square.

    Attributes:
        frame: how the source lies in it.
        display: (n, n) float32 brightness.
        image_latents: (1, c, h, w) the posterior's mode: the condition.
        z0: the same times the scaling factor: what is noised.
    """

    frame: Frame
    display: np.ndarray
    image_latents: torch.Tensor
    z0: torch.Tensor


@dataclass(frozen=True)
class Draw:
    """All that chance decides for one seed.

    Attributes:
        generator: of the seed, ready for the steps.
        noise: (1, c, h, w) for the start and the kept region.
        relevance_noise: (draws, c, h, w).
    """

    generator: torch.Generator
    noise: torch.Tensor
    relevance_noise: torch.Tensor


@dataclass(frozen=True)
class Maps:
    """Where to edit. At the source's size, except `cells` and the official square's mask.

    Attributes:
        relevance, spread, pseudo_mask, guidance: (H, W) float32 in [0, 1], see `result.Guidance`.
        mask: (H, W) bool.
        cells: (h, w) bool, the latent cells that the sampler may change.
        square_mask: (n, n) bool on the official profile's square; None for others.
        square: what the official profile decides from, see `result.Guidance`; empty for others.
        blank: (h, w) float32 in [0, 1], how much of each latent cell is hidden from the model; None: nothing is.
        scale: how the relevance was normalised, from how many draws and which timesteps.
        warnings: for the report.
    """

    relevance: np.ndarray
    spread: np.ndarray
    pseudo_mask: np.ndarray
    guidance: np.ndarray
    mask: np.ndarray
    cells: np.ndarray
    square_mask: np.ndarray | None
    square: dict[str, np.ndarray]
    blank: np.ndarray | None
    scale: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True)
class Plan:
    """A request, made ready for sampling. `seconds` goes on counting afterwards.

    `decision` says which of the edits are carried out: its request is what all else here belongs to.
    """

    decision: Decision
    view: View
    draw: Draw
    anatomy: PseudoMask
    maps: Maps
    seconds: dict[str, float] = field(default_factory=dict)


class Clock:
    """Seconds by stage; a stage that comes again adds to them."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.perf_counter() - start, 3)


def make_plan(study: Study, request: Request, noise: torch.Tensor | None, relevance_noise: torch.Tensor | None) -> Plan:
    """Plan a request on a study, with noise from outside where it is given.

    Raises:
        AnatomyError: there is no mask for what was asked.
        InputError: noise of another shape.
        ModelError: the model gives numbers that are not finite.
    """
    clock = Clock({})
    with clock("encoding"):
        view = study.view("squash" if request.settings.profile.official else "letterbox")
    draw = draw_noise(study.editor.backbone, request, request.seed, noise, relevance_noise)
    with clock("relevance"):
        decision = decide_edits(study, request, view, draw.relevance_noise)
    with clock("anatomy"):
        anatomy = _anatomy(study, decision.request, decision.request.edits)
    with clock("relevance"):
        maps = make_maps(study, decision, view, anatomy, draw.relevance_noise)
    if not maps.mask.any():
        unreached = tuple(UNREACHED if outcome == DONE else outcome for outcome in decision.outcomes)
        decision = replace(decision, outcomes=unreached)
    return Plan(decision, view, draw, anatomy, maps, clock.seconds)


def decide_edits(study: Study, request: Request, view: View, relevance_noise: torch.Tensor) -> Decision:
    """Which edits are to be done, by the model's own measure: all, where it has none or no relevance is used."""
    calibration = study.editor.backbone.calibration or {}
    settings = request.settings
    if settings.profile.official or not settings.relevance:
        return Decision(request, (DONE,) * len(request.edits))

    both: dict[Edit, np.ndarray] = {}

    def differences(edit: Edit, undoing: Edit) -> np.ndarray:
        if edit not in both:
            texts = [render((edit,)), render((undoing,))]
            both[edit] = _differences(study, texts, view, relevance_noise, _timesteps(study, request))
        return both[edit]

    def balance(edit: Edit) -> Balance | None:
        least, undoing = calibration.get("least_balance", {}).get(edit.operation.value), opposite((edit,))
        if least is None or undoing is None:
            return None
        allowed = _allowed(request, _anatomy(study, request, (edit,)).values)
        return Balance(relevance.balance(*differences(edit, *undoing), _where(allowed, view)), least)

    def by_side(edit: Edit) -> dict[str, float] | None:
        taken = Edit(Operation.REMOVE, edit.finding, zone=edit.zone)
        try:
            sides = {side: _anatomy(study, request, (replace(taken, side=side),)).values for side in ONE_SIDED}
        except AnatomyError:  # one of the sides has no place for it
            return None
        found = differences(taken, *opposite((taken,)))
        return {side: relevance.balance(*found, _where(values > 0.5, view)) for side, values in sides.items()}

    decision = decide(request, study.editor.backbone, balance)
    edits = decision.request.edits
    if len(edits) == 1 and edits[0] in both:
        decision = replace(decision, differences=both[edits[0]][0])
    # Who names a region, or an anatomy without sides, has said where. Of other models' balance nothing is known.
    said = request.region is not None or settings.anatomy in ("none", "union")
    measured = "remove" in calibration.get("least_balance", {})
    return place(decision, study.editor.backbone, by_side) if measured and not said else decision


def draw_noise(
    backbone: Backbone,
    request: Request,
    seed: int,
    noise: torch.Tensor | None = None,
    relevance_noise: torch.Tensor | None = None,
) -> Draw:
    """The noise of a seed, or what is given in its place."""
    # On the CPU, so that a seed gives the same noise on every device.
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = _noise(backbone, "noise", noise, 1, generator)
    draws = request.settings.profile.draws
    return Draw(generator, noise, _noise(backbone, "relevance_noise", relevance_noise, draws, generator))


def _noise(
    backbone: Backbone, name: str, given: torch.Tensor | None, draws: int, generator: torch.Generator
) -> torch.Tensor:
    shape = (draws, *backbone.latent_shape[1:])
    # Drawn even when it is given, so that giving one noise leaves the other as it was.
    seeded = torch.randn(shape, generator=generator)
    if given is None:
        return seeded.to(backbone.device)
    given = torch.as_tensor(given, dtype=torch.float32)
    several = name == "relevance_noise" and given.ndim == 4 and len(given) >= 1
    if tuple(given.shape[1:]) != shape[1:] or not (several or len(given) == 1):
        raise InputError(f"{name} must have the shape {tuple(backbone.latent_shape)}, not {tuple(given.shape)}")
    return given.to(backbone.device)


def _anatomy(study: Study, request: Request, edits: Sequence[Edit]) -> PseudoMask:
    chosen = request.settings.anatomy
    if request.settings.profile.official:
        return _official_anatomy(request.text, chosen, study.editor.backbone.size)
    lungs = study.lungs if chosen in ("default", "patient") else None
    return pseudo_mask(edits, study.display, anatomy=chosen, lungs=lungs)


def _official_anatomy(instruction: str, chosen: str | Path, size: int) -> PseudoMask:
    """The official lookup, on the model's square, of whichever masks there are."""
    if chosen == "none":
        return PseudoMask(np.ones((size, size), np.float32), "none", {}, ["no anatomy was used"])
    if chosen == "patient":
        raise AnatomyError("the official profile has no patient anatomy: use prior, none or a folder")
    if chosen in ("prior", "union"):
        masks, kind = union_masks(packaged_priors()), "official lookup, our unions of boxes"
    elif Path(chosen).is_dir():
        masks, kind = load_official_masks(Path(chosen)), "official lookup, official masks"
    else:
        raise AnatomyError(f"{chosen} is no folder of masks, and not prior or none")
    values = official_pseudo_mask(instruction, (size, size), masks)
    sources = {finding: kind for finding in mentioned(instruction)}
    opened = ["the official lookup opens the whole image for this instruction"] if values.min() == 1 else []
    return PseudoMask(values, "official", sources, opened)


def make_maps(study: Study, decision: Decision, view: View, anatomy: PseudoMask, relevance_noise: torch.Tensor) -> Maps:
    """Relevance, guidance and mask of one draw of noise."""
    if decision.request.settings.profile.official:
        return _official_maps(study, decision.request, view, anatomy.values, relevance_noise)
    return _our_maps(study, decision, view, anatomy.values, relevance_noise)


def seeds_mask(study: Study, plan: Plan, request: Request, relevance_noise: torch.Tensor) -> np.ndarray:
    """(H, W) bool: the mask that a request, planned before, would have with other relevance noise."""
    decision = decide_edits(study, request, plan.view, relevance_noise)
    same = decision.request.edits == plan.decision.request.edits
    anatomy = plan.anatomy if same else _anatomy(study, decision.request, decision.request.edits)
    return make_maps(study, decision, plan.view, anatomy, relevance_noise).mask


def _allowed(request: Request, anatomy: np.ndarray) -> np.ndarray:
    """A pseudo mask with what the user named: (H, W) float32 in [0, 1]."""
    if request.region is not None:
        anatomy = anatomy * request.region.pixels
    if request.protect is not None:
        anatomy = anatomy * ~request.protect.pixels
    return anatomy


def _where(allowed: np.ndarray, view: View) -> np.ndarray:
    """(h, w) bool: the latent cells that a pseudo mask allows."""
    return guidance.any_in_cells(allowed > 0, view.frame, view.z0.shape[-1])


def _timesteps(study: Study, request: Request) -> list[int]:
    """Of the relevance: those that the model was calibrated at, else the profile's."""
    backbone = study.editor.backbone
    count = backbone.scheduler.config.num_train_timesteps
    calibrated = (backbone.calibration or {}).get("timesteps", {})
    return sorted(map(int, calibrated)) or [int(level * count) for level in request.settings.profile.timesteps]


def _differences(
    study: Study, texts: Sequence[str], view: View, noise: torch.Tensor, timesteps: Sequence[int]
) -> np.ndarray:
    editor = study.editor
    return relevance.differences(
        editor.backbone.predict,
        editor.alphas_cumprod,
        view.z0,
        view.image_latents,
        [editor.embed(text) for text in texts],
        editor.embed(""),
        noise,
        timesteps,
    )


def _our_maps(study: Study, decision: Decision, view: View, anatomy: np.ndarray, noise: torch.Tensor) -> Maps:
    """Maps at the source's size, and the one decision that both masks follow."""
    request, frame, cells = decision.request, view.frame, view.z0.shape[-1]
    allowed = _allowed(request, anatomy)
    if request.settings.relevance:
        coarse, spread, scale, warnings = _our_relevance(study, decision, view, allowed, noise)
    else:
        coarse, spread = np.ones((cells, cells), np.float32), np.zeros((cells, cells), np.float32)
        scale = {"normalised": "not used: 1 everywhere", "draws": 0, "timesteps": []}
        warnings = ["no relevance was used: the whole anatomy is edited"]
    if heals(study, request.edits):
        coarse = relevance.close_holes(coarse)
    content = guidance.content_cells(frame, cells)
    fine = np.clip(frame.to_source(coarse * content), 0, 1)
    if request.region is None:  # which a person may well have drawn in a rim
        allowed = guidance.without_islands(allowed, fine, request.settings.threshold)
    guided = guidance.guidance_map(allowed, fine)
    mask = guidance.decide(guided, request.settings.threshold)
    reached = guidance.latent_mask(mask, frame, cells)
    return Maps(
        relevance=fine,
        spread=np.clip(frame.to_source(spread * content), 0, 1),
        pseudo_mask=allowed.astype(np.float32),
        guidance=guided,
        mask=mask,
        cells=reached,
        square_mask=None,
        square={},
        blank=_blank(study, request, guided, frame, reached),
        scale=scale,
        warnings=warnings,
    )


def _blank(study: Study, request: Request, guided: np.ndarray, frame: Frame, reached: np.ndarray) -> np.ndarray | None:
    """How much of each latent cell a model that heals does not see, (h, w) float32; None where nothing is hidden.

    What lessens a finding hides it, so that the model fills in what would be there without. Other edits of the same
    instruction hide nothing outside that finding's place.

    Args:
        guided: (H, W) guidance.
        reached: (h, w) bool, the cells that may change.
    """
    if not heals(study, request.edits):
        return None
    lessened = [edit for edit in request.edits if direction(edit) < 0]
    if len(lessened) < len(request.edits):
        guided = np.minimum(guided, _anatomy(study, request, lessened).values)
    least = request.settings.threshold
    hidden = np.clip((guided - least) / max(OPAQUE - least, 1e-6), 0, 1)
    return guidance.mean_in_cells(hidden, frame, len(reached)) * reached


def heals(study: Study, edits: Sequence[Edit]) -> bool:
    """Whether the model fills in what the edits lessen: it was trained to, and there is such an edit."""
    trained = (study.editor.backbone.calibration or {}).get("heals", False)
    return trained and any(direction(edit) < 0 for edit in edits)


def brightness_direction(edits: Sequence[Edit]) -> int:
    """In which direction alone the brightness can go: -1, darker, where all that is asked is less of what is dense; 1
    where it is less of what is air; 0 either."""
    if not all(direction(edit) < 0 for edit in edits):
        return 0
    findings = {edit.finding for edit in edits}
    return -1 if findings <= DENSE else 1 if findings <= LUCENT else 0


def _our_relevance(
    study: Study, decision: Decision, view: View, allowed: np.ndarray, noise: torch.Tensor
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], list[str]]:
    """R and its spread on the latent cells, how it was normalised, and warnings."""
    entries = {int(t): entry for t, entry in (study.editor.backbone.calibration or {}).get("timesteps", {}).items()}
    timesteps = _timesteps(study, decision.request)
    found = decision.differences
    if found is None:
        (found,) = _differences(study, [decision.request.text], view, noise, timesteps)
    scale: dict[str, Any] = {"draws": len(noise), "timesteps": timesteps}
    if entries:
        scale["normalised"] = "calibrated"
        limits = [[entries[t][name] for t in timesteps] for name in ("null_p99", "inside_median")]
        coarse, spread = relevance.normalise_calibrated(found, *limits)
    else:
        # However weak it is, the strongest place inside the anatomy is then edited.
        scale["normalised"] = "uncalibrated: relative to the anatomy"
        coarse, spread = relevance.normalise_inside(found, _where(allowed, view))
    told = [of and {"balance": round(of.value, 4), "least_balance": of.least} for of in decision.balances]
    if any(told):
        scale |= told[0] if len(told) == 1 else {"balances": told}
    if decision.nothing:
        coarse = np.zeros_like(coarse)
    return coarse, spread, scale, list(decision.warnings)


def _official_maps(study: Study, request: Request, view: View, allowed: np.ndarray, noise: torch.Tensor) -> Maps:
    """The maps of the official code on its square, and the same brought to the source's size."""
    frame = view.frame
    timestep = int(official.RELEVANCE_LEVEL * study.editor.backbone.scheduler.config.num_train_timesteps)
    difference = _differences(study, [request.text], view, noise[:1], [timestep])[0, 0, 0]
    coarse = relevance.normalise_official(difference)
    guided_cells, fine, guided = official.maps(allowed, coarse)
    decide = np.greater_equal if request.settings.threshold == 0 else guidance.decide  # 0 switches their mask off
    square_mask = decide(guided, request.settings.threshold)
    flat = difference.max() == difference.min()
    return Maps(
        relevance=frame.to_source(fine),
        spread=np.zeros(study.display.shape, np.float32),
        pseudo_mask=frame.to_source(allowed),
        guidance=frame.to_source(guided),
        mask=frame.to_source(square_mask, Image.Resampling.NEAREST) > 0.5,
        cells=decide(guided_cells, request.settings.threshold),
        square_mask=square_mask,
        square={"relevance_cells": coarse, "pseudo_mask_square": allowed.astype(np.float32)},
        blank=None,
        scale={"normalised": "official: relative to the whole image", "draws": 1, "timesteps": [timestep]},
        warnings=["the relevance is flat; the official code gives NaN here, this gives zeros"] if flat else [],
    )
