"""A study: one image, opened with a model, and the edits of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import SchedulerMixin

from instructx2x.anatomy.lungs import Lungs, segment_lungs
from instructx2x.anatomy.pseudo_mask import pseudo_mask
from instructx2x.editing import compositing, guidance, official, sampling
from instructx2x.editing.planning import (
    Clock,
    Draw,
    Plan,
    View,
    brightness_direction,
    draw_noise,
    make_plan,
    seeds_mask,
)
from instructx2x.editing.report import make_report
from instructx2x.editing.request import Region, Request, check_request, check_samples
from instructx2x.editing.result import Guidance, Result
from instructx2x.editing.samples import mean_and_spread
from instructx2x.editing.verification import locate, preferences, verify
from instructx2x.errors import AnatomyError, InputError
from instructx2x.evaluation.judges import load_judge
from instructx2x.imaging.geometry import Frame
from instructx2x.imaging.radiograph import Radiograph
from instructx2x.instructions import Edit
from instructx2x.models import Backbone

if TYPE_CHECKING:
    from instructx2x.editing.editor import Editor


class Study:
    """One image, opened: it is encoded once and its lungs are found once, when first needed.

    Attributes:
        editor: the editor that opened it.
        radiograph: the image.
    """

    def __init__(self, editor: Editor, radiograph: Radiograph) -> None:
        self.editor = editor
        self.radiograph = radiograph
        self._views: dict[str, View] = {}

    @cached_property
    def display(self) -> np.ndarray:
        """Brightness, (H, W) float32 in [0, 1]."""
        return self.radiograph.display()

    @cached_property
    def lungs(self) -> Lungs:
        """The lungs as the segmenter finds them, with its verdict on whether they are plausible."""
        return segment_lungs(self.display)

    def view(self, mode: str) -> View:
        """The study on the model's square, "letterbox" or "squash", encoded."""
        if mode not in self._views:
            backbone = self.editor.backbone
            frame = Frame(*self.display.shape, backbone.size, mode)
            if mode == "squash":
                display = official.resize(self.display, backbone.size, backbone.size)
            else:
                display = frame.to_model(self.display)
            image = torch.from_numpy(display).mul(2).sub(1).expand(1, 3, -1, -1)
            with exact(backbone):
                latents = backbone.encode(image)
            self._views[mode] = View(frame, display, latents, latents * backbone.vae.config.scaling_factor)
        return self._views[mode]

    @cached_property
    def _reconstructed(self) -> np.ndarray:
        """D(z_rec): (n, n) brightness of the letterboxed input as the model draws it."""
        return self.editor.backbone.decode(self.view("letterbox").z0)[0].cpu().numpy().mean(axis=0)

    def guidance(
        self,
        instruction: str,
        *,
        seed: int = 0,
        profile: str = "default",
        anatomy: str | Path = "default",
        threshold: float | None = None,
        relevance: bool = True,
        region: Region | None = None,
        protect: Region | None = None,
        noise: torch.Tensor | None = None,
        relevance_noise: torch.Tensor | None = None,
    ) -> Guidance:
        """The maps alone, without editing: the same as those of `edit` with the same arguments."""
        choices = {"anatomy": anatomy, "threshold": threshold, "relevance": relevance}
        request = self._request(instruction, seed, profile, region, protect, **choices)
        with exact(self.editor.backbone):
            plan = make_plan(self, request, noise, relevance_noise)
        return Guidance(**self._maps(plan), report=make_report(self, request, plan))

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
        relevance: bool = True,
        scheduler: str | SchedulerMixin | None = None,
        region: Region | None = None,
        protect: Region | None = None,
        keep_patient: bool = False,
        callback: sampling.Callback | None = None,
        noise: torch.Tensor | None = None,
        relevance_noise: torch.Tensor | None = None,
    ) -> Result:
        """Carry out an instruction.

        Args:
            instruction: such as "Add the finding of left pleural effusion."
            seed: of all noise; the same seed gives the same bytes on the same machine with as many threads.
            samples: sample this often, from the noise of seed, seed + 1, ..., to see what chance decides. The
                maps and the mask are those of `seed` for all of them; how the mask itself would differ with
                the other seeds' relevance noise is the result's `mask_frequency`.
            profile: "default", "fast" (fewer evaluations), or "official" (what the paper's code computes).
            anatomy: where the pseudo mask comes from, see `anatomy.pseudo_mask`: "default" (the patient's
                own), "patient", "prior", "union", "none", or a folder of official masks. The official profile
                looks masks up as the official code does, in the folder, or ("default", "prior", "union")
                among the unions of the experts' boxes in this package; it has no "patient".
            steps: sampling steps.
            text_guidance, image_guidance: s_T and s_I.
            threshold: tau, above 0 and at most 1.
            relevance: False takes R for 1 everywhere, so that the anatomy alone confines the edit, and with
                anatomy="none" nothing does: plain InstructPix2Pix, to compare with.
            scheduler: a name of `sampling.SCHEDULERS`, or a scheduler of diffusers'.
            region: edit nowhere else: an (H, W) array, or a picture of the source's size, bright where
                editing is allowed; or boxes in pixels, "x,y,width,height", several with ";" between them. It
                narrows the pseudo mask; with anatomy="none" it stands in its place.
            protect: the opposite: where nothing may change.
            keep_patient: whether DICOM files that the result writes keep the patient's and study's identity, for
                work inside an archive. By default they belong to nobody.
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
            relevance=relevance,
            scheduler=scheduler,
        )
        count = check_samples(samples)
        if count > 1 and noise is not None:
            raise InputError("several samples need noise of their own: leave noise out")
        with exact(self.editor.backbone):
            plan = make_plan(self, request, noise, relevance_noise)
            image, latents = self._carry_out(plan, plan.draw, callback)
            several = self._more(request, plan, image, count, callback) if count > 1 else {"samples": (image,)}
        with Clock(plan.seconds)("judging"):
            verification = self._verify(plan.decision.request, several["samples"])
        report = make_report(self, request, plan, image)
        report["verification"] = verification
        report["keep_patient"] = keep_patient
        if count > 1:
            report["samples"] = count
        return Result(
            **self._maps(plan), report=report, image=image, latents=latents, keep_patient=keep_patient, **several
        )

    def _request(self, instruction: str, seed: int, profile: str, *regions: Region | None, **choices: Any) -> Request:
        shape = self.radiograph.pixels.shape
        return check_request(self.editor.backbone, shape, instruction, seed, profile, *regions, **choices)

    def _maps(self, plan: Plan) -> dict[str, Any]:
        names = ("relevance", "spread", "pseudo_mask", "guidance", "mask", "square")
        return {"source": self.radiograph} | {name: getattr(plan.maps, name) for name in names}

    def _more(
        self, request: Request, plan: Plan, first: Radiograph, count: int, callback: sampling.Callback | None
    ) -> dict[str, Any]:
        """The other seeds' samples within the plan's mask, and how often they would have had each pixel in theirs."""
        images, hits = [first], plan.maps.mask.astype(np.float32)
        for seed in range(request.seed + 1, request.seed + count):
            draw = draw_noise(self.editor.backbone, request, seed)
            images.append(self._carry_out(plan, draw, callback)[0])
            with Clock(plan.seconds)("relevance"):
                hits += seeds_mask(self, plan, request, draw.relevance_noise)
        mean, spread = mean_and_spread(images, plan.maps.mask)
        return {
            "samples": tuple(images),
            "sample_mean": mean,
            "sample_spread": spread,
            "mask_frequency": hits / np.float32(count),
        }

    @cached_property
    def _judged(self) -> np.ndarray:
        """(findings,) the verifier's scores of the source."""
        return load_judge("verifier")([self.display])[0]

    def _verify(self, request: Request, samples: Sequence[Radiograph]) -> dict[str, Any]:
        """The verifier's word on the first sample, and of several the seed of the one that it prefers."""
        judge = load_judge("verifier")
        shown = [sample.display() for sample in samples]
        after = judge(shown)
        noise = (self.editor.backbone.calibration or {}).get("verifier_noise")
        told = verify(judge, request.edits, self._judged, after[0], noise)
        change = shown[0] - self.display
        for entry, edit in zip(told["findings"], request.edits, strict=True):
            midline = self.lungs.midline if self.lungs.plausible else 0.5
            entry |= locate(edit, change, self._anatomy(edit) if change.any() else None, midline)
        if len(samples) > 1:
            preferred = preferences(judge, request.edits, self._judged, after)
            told["preferences"] = None if preferred is None else np.round(preferred, 4).tolist()
            told["preferred_seed"] = None if preferred is None else request.seed + int(np.argmax(preferred))
        return told

    def _anatomy(self, edit: Edit) -> np.ndarray | None:
        """(H, W) bool: where the finding of an edit can be in this patient; None for one without a place."""
        try:
            return pseudo_mask([edit], self.display, lungs=self.lungs).values > 0
        except AnatomyError:
            return None

    def _carry_out(self, plan: Plan, draw: Draw, callback: sampling.Callback | None) -> tuple[Radiograph, torch.Tensor]:
        """Sample and composite: the edited radiograph and its final scaled latents."""
        request, view, maps = plan.decision.request, plan.view, plan.maps
        backbone, settings = self.editor.backbone, request.settings
        is_official = settings.profile.official
        if not maps.mask.any() and not is_official:
            return self.radiograph, view.z0.cpu()
        clock = Clock(plan.seconds)
        config = backbone.scheduler.config
        with clock("sampling"):
            latents = sampling.sample(
                backbone.predict,
                sampling.official_scheduler(config)
                if is_official
                else sampling.make_scheduler(settings.scheduler, config),
                view.z0,
                view.image_latents,
                self.editor.embed(request.text),
                self.editor.embed(""),
                torch.from_numpy(maps.cells),
                draw.noise,
                steps=settings.steps,
                text_guidance=settings.text_guidance,
                image_guidance=settings.image_guidance,
                keep="same" if is_official else "next",
                blank=None if maps.blank is None else torch.from_numpy(maps.blank),
                generator=draw.generator,
                callback=callback,
            )
        with clock("compositing"):
            edited = backbone.decode(latents)[0].cpu().numpy()
            if is_official:
                display = view.frame.to_source(official.composite(edited, view.display, maps.square_mask))
            else:
                # One latent cell of feather, in the source's pixels.
                pixels_per_cell = backbone.vae_factor * max(self.display.shape) / backbone.size
                display = compositing.composite(
                    self.display,
                    edited.mean(axis=0),
                    self._reconstructed,
                    guidance.feather(maps.mask, pixels_per_cell),
                    view.frame,
                    devices=maps.blank is not None,
                    direction=0 if maps.blank is None else brightness_direction(request.edits),
                )
            image = self.radiograph.with_display(display, maps.mask)
        return image, latents.cpu()


@contextmanager
def exact(backbone: Backbone) -> Iterator[None]:
    """No gradients; on CUDA, convolutions that repeat themselves bit for bit and do not round to TF32."""
    cuda = backbone.device.type == "cuda"
    flags: AbstractContextManager = (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if cuda else nullcontext()
    )
    with torch.no_grad(), flags:
        yield
