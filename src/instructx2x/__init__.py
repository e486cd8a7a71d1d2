"""InstructX2X: counterfactual chest X-rays by instruction, confined and explained by a guidance map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructx2x.editing import Editor

__version__ = "0.1.0"

# What every picture and every result says of itself.
NOTICE = "SYNTHETIC image - research only, not for diagnosis"

__all__ = ["NOTICE", "Editor", "__version__"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; what only parses an instruction or prints its help does not wait for it.
    if name == "Editor":
        from instructx2x.editing import Editor

        return Editor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
