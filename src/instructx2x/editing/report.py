"""The report of an edit: everything that was done, as plain values for JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch

import instructx2x
from instructx2x.editing.planning import Plan
from instructx2x.editing.reliability import reliability
from instructx2x.editing.request import Request
from instructx2x.files import digest
from instructx2x.imaging.radiograph import Radiograph
from instructx2x.imaging.writing import edited_suffix
from instructx2x.models import Backbone
from instructx2x.results.seal import pixels_digest

if TYPE_CHECKING:
    from instructx2x.editing.study import Study


def software() -> dict[str, str]:
    """The versions that decide about bytes."""
    return {
        "instructx2x": instructx2x.__version__,
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
    }


def _bare(name: str | Path) -> str:
    """A word or a hub id as it is; of a folder or file here its name alone, for paths tell who works where."""
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() or path.is_absolute() else str(name)


def model(backbone: Backbone) -> dict[str, Any]:
    """Which model this is, and how it runs."""
    return {
        "name": _bare(backbone.name),
        "sha256": backbone.digest,
        "working_size": backbone.size,
        "calibrated": backbone.calibrated,
        "device": str(backbone.device),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        # On a CPU sums are shared out among them, and their order decides the last bits.
        "threads": torch.get_num_threads(),  # on a CPU, another number of them rounds otherwise
    }


def make_report(study: Study, request: Request, plan: Plan, image: Radiograph | None = None) -> dict[str, Any]:
    """Everything that was done. `image` is the edited one, if an edit was made."""
    backbone, source, maps = study.editor.backbone, study.radiograph, plan.maps
    done = plan.decision.request
    settings = done.settings
    warnings = [*source.warnings, *request.warnings, *plan.anatomy.warnings, *maps.warnings]
    if not maps.mask.any():
        warnings.append("nothing to edit: the guidance is below the threshold everywhere")
    report = {
        "synthetic": True,
        "software": software(),
        "source": {
            "file": source.path.name if source.path else None,
            "sha256": digest(source.path) if source.path else None,
            "height": source.pixels.shape[0],
            "width": source.pixels.shape[1],
            "bits": source.bits,
            "format": source.format,
            "lossy": source.lossy,
        },
        "instruction": {
            "text": request.instruction,
            "edits": [asdict(edit) for edit in request.edits],
            "outcomes": list(plan.decision.outcomes),
            "carried_out": [] if plan.decision.nothing else [asdict(edit) for edit in done.edits],
            "given_to_model": done.text,
            "tokens": done.tokens,
            "token_limit": backbone.token_limit,
        },
        "model": model(backbone),
        "reliability": reliability(backbone.calibration, request.edits),
        "profile": settings.profile.name,
        "seed": request.seed,
        "parameters": {
            "anatomy": _bare(settings.anatomy),
            "threshold": settings.threshold,
            "relevance": settings.relevance,
        },
        "relevance": maps.scale,
        "pseudo_mask": {"kind": plan.anatomy.kind, "sources": plan.anatomy.sources},
        "mask": {
            "pixels": int(maps.mask.sum()),
            "fraction": float(maps.mask.mean()),
            "latent_cells": int(maps.cells.sum()),
            "highest_guidance": float(maps.guidance.max()),
            "region": request.region and request.region.report(),
            "protect": request.protect and request.protect.report(),
        },
        "seconds": plan.seconds,
        "warnings": warnings,
    }
    if maps.blank is not None:
        report["mask"]["hidden_latent_cells"] = round(float(maps.blank.sum()), 2)
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
        report["pixels_changed_outside_mask"] = int((changed & ~maps.mask).sum())
        report["source"]["sha256_outside_mask"] = pixels_digest(source.pixels, ~maps.mask)
        report["written_as"] = f"edited{edited_suffix(image)}"
        if source.lossy:
            warnings.append("the source was compressed with loss; the edit is not")
    return report
