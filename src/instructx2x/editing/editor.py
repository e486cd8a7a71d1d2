"""The editor: a model, the images opened with it, and the edits of those images."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin
from PIL import Image

import instructx2x
from instructx2x.anatomy.lungs import Lungs, segment_lungs
from instructx2x.anatomy.official import load_official_masks, mentioned, official_pseudo_mask, union_masks
from instructx2x.anatomy.priors import packaged_priors
from instructx2x.anatomy.pseudo_mask import PseudoMask, pseudo_mask
from instructx2x.editing import compositing, guidance, official, profiles, relevance, sampling
from instructx2x.editing.result import Guidance, Result
from instructx2x.errors import AnatomyError, InputError, InstructionError
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.radiograph import Radiograph
from instructx2x.imaging.reading import from_array, read
from instructx2x.imaging.writing import edited_suffix
from instructx2x.instructions.edits import Edit
from instructx2x.instructions.language import parse, render
from instructx2x.instructions.terms import MAX_CHARACTERS
from instructx2x.models import Backbone, load

MAX_SAMPLES = 64

Region = np.ndarray | str | Path


class Editor:
    """Edits radiographs with one model.

    Attributes:
        backbone: the model's networks.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        # The empty text is in every edit, and an instruction is often tried with several seeds.
        self._embed = lru_cache(maxsize=64)(backbone.embed)
        self._alphas_cumprod = sampling.official_scheduler(backbone.scheduler.config).alphas_cumprod

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "bundled",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> Editor:
        """Load a model: see `models.load`.

        Raises:
            ModelError: the model is not there, is not safe to read, or is not an InstructPix2Pix model.
        """
        return cls(load(model, device=device, dtype=dtype))

    def open(self, image: str | Path | Radiograph | np.ndarray) -> Study:
        """Open an image for editing.

        Args:
            image: a file, a Radiograph, or an (H, W) array of stored integers.

        Raises:
            InputError: the image cannot be used.
        """
        if isinstance(image, Radiograph):
            return Study(self, image)
        return Study(self, from_array(image) if isinstance(image, np.ndarray) else read(image))

    def edit_batch(self, items: Sequence[tuple[Study, str, int]], **options: Any) -> list[Result]:
        """Edit several images.

        One after the other: how a network rounds can depend on the batch it runs in, and a result here never
        depends on its neighbours.

        Args:
            items: (study, instruction, seed).
            options: keywords of `Study.edit` for all of them.

        Returns:
            The same results, to the last bit, as `study.edit(instruction, seed=seed, **options)` one by one.
        """
        return [study.edit(instruction, seed=seed, **options) for study, instruction, seed in items]


@dataclass(frozen=True)
class _View:
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
class _Request:
    """What was asked, checked, before anything is computed."""

    instruction: str
    edits: tuple[Edit, ...]
    text: str
    tokens: int
    seed: int
    settings: profiles.Settings
    region: np.ndarray | None
    protect: np.ndarray | None
    warnings: list[str]


@dataclass(frozen=True)
class _Plan:
    """Everything up to sampling. Maps at the source's size, except `cells` and the official square's mask."""

    view: _View
    generator: torch.Generator
    noise: torch.Tensor
    relevance: np.ndarray
    spread: np.ndarray
    anatomy: PseudoMask
    pseudo_mask: np.ndarray
    guidance: np.ndarray
    mask: np.ndarray
    cells: np.ndarray
    square_mask: np.ndarray | None
    scale: dict[str, Any]
    warnings: list[str]
    seconds: dict[str, float] = field(default_factory=dict)


class Study:
    """One image, opened: it is encoded once and its lungs are found once, when first needed.

    Attributes:
        editor: the editor that opened it.
        radiograph: the image.
    """

    def __init__(self, editor: Editor, radiograph: Radiograph) -> None:
        self.editor = editor
        self.radiograph = radiograph
        self._views: dict[str, _View] = {}

    @cached_property
    def display(self) -> np.ndarray:
        """Brightness, (H, W) float32 in [0, 1]."""
        return self.radiograph.display()

    @cached_property
    def lungs(self) -> Lungs:
        """The lungs as the segmenter finds them, with its verdict on whether they are plausible."""
        return segment_lungs(self.display)

    def guidance(
        self,
        instruction: str,
        *,
        seed: int = 0,
        profile: str = "default",
        anatomy: str | Path = "default",
        threshold: float | None = None,
        region: Region | None = None,
        protect: Region | None = None,
        noise: torch.Tensor | None = None,
        relevance_noise: torch.Tensor | None = None,
    ) -> Guidance:
        """The maps alone, without editing: the same as those of `edit` with the same arguments."""
        request = self._request(instruction, seed, profile, region, protect, anatomy=anatomy, threshold=threshold)
        with _exact(self.editor.backbone):
            plan = self._plan(request, noise, relevance_noise)
        return Guidance(**_maps(self, plan), report=_report(self, request, plan))

    def edit(
        self,
        instruction: str,
        *,
        seed: int = 0,
        samples: int = 1,
        profile: str = "default",
        anatomy: str | Path = "default",
        steps: int | None = None,
        text_guidance: float | None = None,
        image_guidance: float | None = None,
        threshold: float | None = None,
        scheduler: str | SchedulerMixin | None = None,
        region: Region | None = None,
        protect: Region | None = None,
        callback: sampling.Callback | None = None,
        noise: torch.Tensor | None = None,
        relevance_noise: torch.Tensor | None = None,
    ) -> Result:
        """Carry out an instruction.

        Args:
            instruction: such as "Add the finding of left pleural effusion."
            seed: of all noise; the same seed gives the same bytes on the same machine.
            samples: sample this often, from the noise of seed, seed + 1, ..., to see what chance decides. The
                maps and the mask are those of `seed` for all of them.
            profile: "default", "fast" (fewer steps), or "official" (what the paper's code computes).
            anatomy: where the pseudo mask comes from, see `anatomy.pseudo_mask`: "default" (the patient's
                own), "patient", "prior", "union", "none", or a folder of official masks. The official profile
                looks masks up as the official code does, in the folder, or ("default", "prior", "union")
                among the unions of the experts' boxes in this package; it has no "patient".
            steps: sampling steps.
            text_guidance, image_guidance: s_T and s_I.
            threshold: tau, above 0 and at most 1.
            scheduler: a name of `sampling.SCHEDULERS`, or a scheduler of diffusers'.
            region: edit nowhere else: an (H, W) array, or a picture of the source's size, bright where
                editing is allowed. It narrows the pseudo mask; with anatomy="none" it stands in its place.
            protect: the opposite: bright where nothing may change.
            callback: called after every step of every sample with (steps done, steps in all, latents); an
                exception in it ends the edit.
            noise: (1, c, h, w), in place of the seed's, for the start and the kept region.
            relevance_noise: (draws, c, h, w), in place of the seed's, for the relevance map.

        Raises:
            InstructionError: the instruction is not understood, or is too long for the model.
            AnatomyError: there is no mask for what was asked.
            InputError: a value that cannot be used.
            ModelError: the model gives numbers that are not finite.
        """
        request = self._request(
            instruction,
            seed,
            profile,
            region,
            protect,
            anatomy=anatomy,
            steps=steps,
            text_guidance=text_guidance,
            image_guidance=image_guidance,
            threshold=threshold,
            scheduler=scheduler,
        )
        count = _whole(samples)
        if count is None or not 1 <= count <= MAX_SAMPLES:
            raise InputError(f"samples must be a whole number from 1 to {MAX_SAMPLES}, not {samples}")
        if count > 1 and noise is not None:
            raise InputError("several samples need noise of their own: leave noise out")
        with _exact(self.editor.backbone):
            plan = self._plan(request, noise, relevance_noise)
            image, latents = self._carry_out(request, plan, callback)
            images = [image]
            for number in range(1, count):
                generator, other_noise, _ = self._draw(request, request.seed + number)
                other = replace(plan, generator=generator, noise=other_noise)
                images.append(self._carry_out(request, other, callback)[0])
        report = _report(self, request, plan, image)
        if count > 1:
            report["samples"] = count
        return Result(
            **_maps(self, plan),
            report=report,
            image=image,
            latents=latents,
            samples=tuple(images),
            sample_spread=_spread_over(images) if count > 1 else None,
        )

    # The steps, in order.

    def _request(
        self,
        instruction: str,
        seed: int,
        profile: str,
        region: Region | None,
        protect: Region | None,
        **choices: Any,
    ) -> _Request:
        backbone = self.editor.backbone
        settings = profiles.resolve(
            profile, backbone.calibration, backbone.scheduler.config.num_train_timesteps, **choices
        )
        number = _whole(seed)
        if number is None or not 0 <= number < 2**63 - MAX_SAMPLES:
            raise InputError(f"seed must be a whole number of 0 or more, not {seed}")
        if not isinstance(instruction, str) or len(instruction) > MAX_CHARACTERS:
            raise InstructionError(f"the instruction must be text of at most {MAX_CHARACTERS:,} characters")
        # Half a surrogate pair, as from a broken terminal, is no text that a tokenizer or a file can take.
        instruction = instruction.encode("utf-8", "replace").decode("utf-8")
        warnings = []
        if settings.profile.official:
            if region is not None or protect is not None:
                raise InputError("the official profile knows no region and no protect: leave them out")
            if backbone.dtype != torch.float32:
                warnings.append(f"the official profile is float32, this model runs in {backbone.dtype}")
            # The official code takes any text; what our grammar makes of it is for the report alone.
            text = instruction
            try:
                edits = parse(instruction)
            except InstructionError as error:
                edits = ()
                warnings.append(f"the instruction is outside the grammar: {error}")
        else:
            edits = parse(instruction)
            text = render(edits)
        tokens = backbone.count_tokens(text)
        if tokens > backbone.token_limit:
            problem = f"the instruction has {tokens} tokens, the model reads {backbone.token_limit}"
            if not settings.profile.official:
                raise InstructionError(f"{problem}: split it into several edits")
            warnings.append(f"{problem}: the rest was cut off, as the official code does")
        return _Request(
            instruction,
            edits,
            text,
            tokens,
            number,
            settings,
            self._read_region(region, "region"),
            self._read_region(protect, "protect"),
            warnings,
        )

    def _read_region(self, region: Region | None, name: str) -> np.ndarray | None:
        """A region as (H, W) bool: bright is at least half of the brightest, so that 0/1 and 0/255 mean the same."""
        if region is None:
            return None
        height, width = self.display.shape
        wanted = f"{name} must have the image's size, {width} x {height} pixels"
        if not isinstance(region, np.ndarray):
            try:
                with Image.open(region) as picture:
                    # Before it is decoded, so that a huge picture costs nothing.
                    if picture.size != (width, height):
                        raise InputError(f"{wanted}, not {picture.width} x {picture.height}")
                    region = np.asarray(picture.convert("L"))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise InputError(f"{name} {region} cannot be read as a picture") from error
        if region.shape != (height, width):
            raise InputError(f"{wanted}, as an array of its height x width")
        return (region > 0) & (region >= region.max() / 2)

    def _view(self, mode: str) -> _View:
        if mode not in self._views:
            backbone = self.editor.backbone
            frame = Frame(*self.display.shape, backbone.size, mode)
            if mode == "squash":
                display = official.resize(self.display, backbone.size, backbone.size)
            else:
                display = frame.to_model(self.display)
            image = torch.from_numpy(display).mul(2).sub(1).expand(1, 3, -1, -1)
            latents = backbone.encode(image)
            self._views[mode] = _View(frame, display, latents, latents * backbone.vae.config.scaling_factor)
        return self._views[mode]

    def _plan(self, request: _Request, noise: torch.Tensor | None, relevance_noise: torch.Tensor | None) -> _Plan:
        profile = request.settings.profile
        clock = _Clock({})
        with clock("encoding"):
            view = self._view("squash" if profile.official else "letterbox")
        generator, noise, relevance_noise = self._draw(request, request.seed, noise, relevance_noise)
        with clock("anatomy"):
            anatomy = self._anatomy(request)
        with clock("relevance"):
            maps = (self._official_maps if profile.official else self._our_maps)(
                request, view, anatomy.values, relevance_noise
            )
        return _Plan(view=view, generator=generator, noise=noise, anatomy=anatomy, seconds=clock.seconds, **maps)

    def _draw(
        self,
        request: _Request,
        seed: int,
        noise: torch.Tensor | None = None,
        relevance_noise: torch.Tensor | None = None,
    ) -> tuple[torch.Generator, torch.Tensor, torch.Tensor]:
        """The noise of a seed: its generator, ready for the steps, the start's noise, the relevance map's."""
        # On the CPU, so that a seed gives the same noise on every device.
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = self._noise("noise", noise, 1, generator)
        relevance_noise = self._noise("relevance_noise", relevance_noise, request.settings.profile.draws, generator)
        return generator, noise, relevance_noise

    def _noise(self, name: str, given: torch.Tensor | None, draws: int, generator: torch.Generator) -> torch.Tensor:
        backbone = self.editor.backbone
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

    def _anatomy(self, request: _Request) -> PseudoMask:
        chosen = request.settings.anatomy
        if request.settings.profile.official:
            return _official_anatomy(request.text, chosen, self.editor.backbone.size)
        lungs = self.lungs if chosen in ("default", "patient") else None
        return pseudo_mask(request.edits, self.display, anatomy=chosen, lungs=lungs)

    def _differences(self, request: _Request, view: _View, noise: torch.Tensor, timesteps: Sequence[int]) -> np.ndarray:
        embed = self.editor._embed
        return relevance.differences(
            self.editor.backbone.predict,
            self.editor._alphas_cumprod,
            view.z0,
            view.image_latents,
            embed(request.text),
            embed(""),
            noise,
            timesteps,
        )

    def _our_maps(self, request: _Request, view: _View, allowed: np.ndarray, noise: torch.Tensor) -> dict[str, Any]:
        """Maps at the source's size, and the one decision that both masks follow."""
        backbone = self.editor.backbone
        frame, cells = view.frame, view.z0.shape[-1]
        if request.region is not None:
            allowed = allowed * request.region
        if request.protect is not None:
            allowed = allowed * ~request.protect
        warnings = []
        if backbone.calibrated:
            entries = {int(t): entry for t, entry in backbone.calibration["timesteps"].items()}
            timesteps = sorted(entries)
            coarse, spread = relevance.normalise_calibrated(
                self._differences(request, view, noise, timesteps),
                [entries[t]["null_p99"] for t in timesteps],
                [entries[t]["inside_median"] for t in timesteps],
            )
            normalised = "calibrated"
        else:
            train_timesteps = backbone.scheduler.config.num_train_timesteps
            timesteps = [int(level * train_timesteps) for level in request.settings.profile.timesteps]
            coarse, spread = relevance.normalise_inside(
                self._differences(request, view, noise, timesteps),
                guidance.any_in_cells(allowed > 0, frame, cells),
            )
            normalised = "uncalibrated: relative to the anatomy"
            warnings.append(
                "uncalibrated: this model has no scale of its own, so the strongest place inside the anatomy "
                "is edited even when nothing is to be done"
            )
        content = guidance.content_cells(frame, cells)
        coarse, spread = coarse * content, spread * content
        fine = np.clip(frame.to_source(coarse), 0, 1)
        guided = guidance.guidance_map(allowed, fine)
        mask = guided >= request.settings.threshold
        return {
            "relevance": fine,
            "spread": np.clip(frame.to_source(spread), 0, 1),
            "pseudo_mask": allowed.astype(np.float32),
            "guidance": guided,
            "mask": mask,
            "cells": guidance.latent_mask(mask, frame, cells),
            "square_mask": None,
            "scale": {"normalised": normalised, "draws": len(noise), "timesteps": timesteps},
            "warnings": warnings,
        }

    def _official_maps(
        self, request: _Request, view: _View, allowed: np.ndarray, noise: torch.Tensor
    ) -> dict[str, Any]:
        """The maps of the official code on its square, and the same brought to the source's size."""
        frame = view.frame
        timestep = int(official.RELEVANCE_LEVEL * self.editor.backbone.scheduler.config.num_train_timesteps)
        difference = self._differences(request, view, noise[:1], [timestep])[0, 0]
        coarse = relevance.normalise_official(difference)
        guided_cells, fine, guided = official.maps(allowed, coarse)
        square_mask = guided >= request.settings.threshold
        flat = difference.max() == difference.min()
        return {
            "relevance": frame.to_source(fine),
            "spread": np.zeros(self.display.shape, np.float32),
            "pseudo_mask": frame.to_source(allowed),
            "guidance": frame.to_source(guided),
            "mask": frame.to_source(square_mask, Image.Resampling.NEAREST) > 0.5,
            "cells": guided_cells >= request.settings.threshold,
            "square_mask": square_mask,
            "scale": {
                "normalised": "official: relative to the whole image",
                "draws": 1,
                "timesteps": [timestep],
            },
            "warnings": ["the relevance is flat; the official code gives NaN here, this gives zeros"] if flat else [],
        }

    def _carry_out(
        self, request: _Request, plan: _Plan, callback: sampling.Callback | None
    ) -> tuple[Radiograph, torch.Tensor]:
        """Sample and composite: the edited radiograph and its final scaled latents."""
        backbone, settings, view = self.editor.backbone, request.settings, plan.view
        is_official = settings.profile.official
        if not plan.mask.any() and not is_official:
            return self.radiograph, view.z0.cpu()
        clock = _Clock(plan.seconds)
        config = backbone.scheduler.config
        with clock("sampling"):
            latents = sampling.sample(
                backbone.predict,
                sampling.official_scheduler(config)
                if is_official
                else sampling.make_scheduler(settings.scheduler, config),
                view.z0,
                view.image_latents,
                self.editor._embed(request.text),
                self.editor._embed(""),
                torch.from_numpy(plan.cells),
                plan.noise,
                steps=settings.steps,
                text_guidance=settings.text_guidance,
                image_guidance=settings.image_guidance,
                keep="same" if is_official else "next",
                generator=plan.generator,
                callback=callback,
            )
        with clock("compositing"):
            edited = backbone.decode(latents)[0].cpu().numpy()
            if is_official:
                display = view.frame.to_source(official.composite(edited, view.display, plan.square_mask))
            else:
                reconstructed = backbone.decode(view.z0)[0].cpu().numpy()
                # One latent cell of feather, in the source's pixels.
                pixels_per_cell = backbone.vae_factor * max(self.display.shape) / backbone.size
                display = compositing.composite(
                    self.display,
                    edited.mean(axis=0),
                    reconstructed.mean(axis=0),
                    guidance.feather(plan.mask, pixels_per_cell),
                    view.frame,
                )
            image = self.radiograph.with_display(display, plan.mask)
        return image, latents.cpu()


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


class _Clock:
    """Seconds by stage; a stage that comes again adds to them."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.perf_counter() - start, 3)


def _whole(value: Any) -> int | None:
    """A whole number as int, whichever integer type holds it, NumPy's too; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


@contextmanager
def _exact(backbone: Backbone) -> Iterator[None]:
    """No gradients; on CUDA, convolutions that repeat themselves bit for bit and do not round to TF32."""
    cuda = backbone.device.type == "cuda"
    flags: AbstractContextManager = (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if cuda else nullcontext()
    )
    with torch.no_grad(), flags:
        yield


def _maps(study: Study, plan: _Plan) -> dict[str, Any]:
    return {
        "source": study.radiograph,
        "relevance": plan.relevance,
        "spread": plan.spread,
        "pseudo_mask": plan.pseudo_mask,
        "guidance": plan.guidance,
        "mask": plan.mask,
    }


def _spread_over(images: Sequence[Radiograph]) -> np.ndarray:
    """Standard deviation of the brightness over images, in one pass: (H, W) float32."""
    first = images[0].display().astype(np.float64)
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for image in images:
        step = image.display() - first
        total += step
        squares += step * step
    variance = squares / len(images) - (total / len(images)) ** 2
    return np.sqrt(np.maximum(variance, 0)).astype(np.float32)


def _report(study: Study, request: _Request, plan: _Plan, image: Radiograph | None = None) -> dict[str, Any]:
    """Everything that was done, as plain values for JSON. `image` is the edited one, if an edit was made."""
    backbone, settings, source = study.editor.backbone, request.settings, study.radiograph
    warnings = [*request.warnings, *plan.anatomy.warnings, *plan.warnings]
    if not plan.mask.any():
        warnings.append("nothing to edit: the guidance is below the threshold everywhere")
    report = {
        "synthetic": True,
        "software": {
            "instructx2x": instructx2x.__version__,
            "torch": str(torch.__version__),
            "diffusers": diffusers.__version__,
        },
        "source": {
            "file": source.path.name if source.path else None,
            "height": source.pixels.shape[0],
            "width": source.pixels.shape[1],
            "bits": source.bits,
            "format": source.format,
            "lossy": source.lossy,
        },
        "instruction": {
            "text": request.instruction,
            "edits": [asdict(edit) for edit in request.edits],
            "given_to_model": request.text,
            "tokens": request.tokens,
            "token_limit": backbone.token_limit,
        },
        "model": {
            "name": backbone.name,
            "sha256": backbone.digest,
            "working_size": backbone.size,
            "calibrated": backbone.calibrated,
            "device": str(backbone.device),
            "dtype": str(backbone.dtype).removeprefix("torch."),
        },
        "profile": settings.profile.name,
        "seed": request.seed,
        "parameters": {
            "anatomy": str(settings.anatomy),
            "threshold": settings.threshold,
        },
        "relevance": plan.scale,
        "pseudo_mask": {"kind": plan.anatomy.kind, "sources": plan.anatomy.sources},
        "mask": {
            "pixels": int(plan.mask.sum()),
            "fraction": float(plan.mask.mean()),
            "latent_cells": int(plan.cells.sum()),
            "highest_guidance": float(plan.guidance.max()),
            "narrowed_by_region": request.region is not None,
            "narrowed_by_protect": request.protect is not None,
        },
        "seconds": plan.seconds,
        "warnings": warnings,
    }
    if image is not None:
        scheduler = settings.scheduler
        report["parameters"] |= {
            "steps": settings.steps,
            "scheduler": scheduler if isinstance(scheduler, str) else type(scheduler).__name__,
            "text_guidance": settings.text_guidance,
            "image_guidance": settings.image_guidance,
        }
        changed = image.pixels != source.pixels
        report["pixels_changed"] = int(changed.sum())
        report["pixels_changed_outside_mask"] = int((changed & ~plan.mask).sum())
        report["written_as"] = f"edited{edited_suffix(image)}"
        if source.lossy:
            warnings.append("the source was compressed with loss; the edit is not")
    return report
