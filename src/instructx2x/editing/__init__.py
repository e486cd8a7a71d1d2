"""The method: relevance, guidance, sampling, compositing; and the editor that strings them together."""

from instructx2x.editing.editor import Editor
from instructx2x.editing.profiles import PROFILES
from instructx2x.editing.result import Guidance, Result
from instructx2x.editing.sampling import SCHEDULERS
from instructx2x.editing.study import Study

__all__ = ["PROFILES", "SCHEDULERS", "Editor", "Guidance", "Result", "Study"]
