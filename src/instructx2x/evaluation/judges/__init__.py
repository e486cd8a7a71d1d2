"""Small bundled networks that score findings, sex and age on any frontal chest X-ray. See JUDGES_CARD.md beside this.

"verifier" judges edits while they are made, so what it says of them is part of the method; "scorer" has another
architecture, learned from other patients, and is kept for evaluation alone.
"""

from instructx2x.evaluation.judges.judge import JUDGES, Judge, load_judge

__all__ = ["JUDGES", "Judge", "load_judge"]
