"""The language: instructions a person types, the edits they mean, and what a model is told."""

from .edits import Edit, consistent, opposite
from .language import canonical, parse, render
from .vocabulary import FINDINGS, LEVELS, PAPER_FINDINGS, SIDES, ZONES, Finding, Operation

__all__ = [
    "FINDINGS",
    "LEVELS",
    "PAPER_FINDINGS",
    "SIDES",
    "ZONES",
    "Edit",
    "Finding",
    "Operation",
    "canonical",
    "consistent",
    "opposite",
    "parse",
    "render",
]
