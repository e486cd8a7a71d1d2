"""Backbones: InstructPix2Pix models in diffusers' layout."""

from instructx2x.models.backbone import Backbone, load, token_ids
from instructx2x.models.locating import BUNDLED

__all__ = ["BUNDLED", "Backbone", "load", "token_ids"]
