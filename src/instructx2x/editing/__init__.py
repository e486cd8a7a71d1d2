"""The method: relevance, guidance, sampling, compositing; and the editor that strings them together."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructx2x.editing.editor import Editor
    from instructx2x.editing.profiles import PROFILES
    from instructx2x.editing.result import Guidance, Result
    from instructx2x.editing.sampling import SCHEDULERS
    from instructx2x.editing.study import Study

__all__ = ["PROFILES", "SCHEDULERS", "Editor", "Guidance", "Result", "Study"]

_HOMES = {
    "PROFILES": "profiles",
    "SCHEDULERS": "sampling",
    "Editor": "editor",
    "Guidance": "result",
    "Result": "result",
    "Study": "study",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; what only reads a batch's rows does not wait for it.
    if name in _HOMES:
        return getattr(import_module(f"instructx2x.editing.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
