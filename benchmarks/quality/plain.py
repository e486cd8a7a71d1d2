"""Plain InstructPix2Pix, for comparison: the same model and sampler without Region-Specific Editing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from instructx2x.editing import compositing, sampling
from instructx2x.editing.guidance import content_cells
from instructx2x.editing.planning import draw_noise
from instructx2x.editing.request import check_request
from instructx2x.editing.study import Study, exact
from instructx2x.imaging.radiograph import Radiograph


@dataclass(frozen=True)
class Unconfined:
    """An edit that nothing confines. `mask` is (H, W) bool, set everywhere."""

    image: Radiograph
    mask: np.ndarray


def edit_everywhere(study: Study, text: str, *, seed: int) -> Unconfined:
    """An edit in which neither anatomy nor relevance confine anything.

    Noise, steps, guidance scales and compositing are those of `study.edit(text, seed=seed)`; the mask alone differs.
    """
    editor, backbone = study.editor, study.editor.backbone
    everywhere = np.ones(study.display.shape, bool)
    with exact(backbone):
        request = check_request(backbone, everywhere.shape, text, seed, "default", None, None, anatomy="none")
        settings, view, draw = request.settings, study.view("letterbox"), draw_noise(backbone, request, seed)
        latents = sampling.sample(
            backbone.predict,
            sampling.make_scheduler(settings.scheduler, backbone.scheduler.config),
            view.z0,
            view.image_latents,
            editor.embed(request.text),
            editor.embed(""),
            torch.from_numpy(content_cells(view.frame, view.z0.shape[-1])),
            draw.noise,
            steps=settings.steps,
            text_guidance=settings.text_guidance,
            image_guidance=settings.image_guidance,
            generator=draw.generator,
        )
        edited, own = (backbone.decode(z)[0].cpu().numpy().mean(axis=0) for z in (latents, view.z0))
    display = compositing.composite(study.display, edited, own, everywhere.astype(np.float32), view.frame)
    return Unconfined(study.radiograph.with_display(display, everywhere), everywhere)
