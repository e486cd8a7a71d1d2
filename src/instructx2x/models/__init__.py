"""Backbones: InstructPix2Pix models in diffusers' layout."""

from instructx2x.models.backbone import BUNDLED, Backbone, load, token_ids

__all__ = ["BUNDLED", "Backbone", "load", "token_ids"]
