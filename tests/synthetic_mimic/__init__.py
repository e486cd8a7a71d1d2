"""A synthetic MIMIC-Diff-VQA and MIMIC-CXR-JPG with known truth: no row, image or report of a real patient is in it.

Written from the published description of the data set (method section 5), and from nothing of the builder that it
tests. Four things are offered:

- `answer` and `malform` write one difference answer, well formed or damaged in a named way;
- `generated_answers` gives any number of answers with what each of them means, for a fuzz test;
- `write_mimic` writes both folders in the real layout, small, with every trap at once, and says what each row means;
- `write_questions_at_scale` and `write_published_statistics` write the tables at the size of the real ones.

The same seed gives the same bytes.
"""

from .answers import (
    AMBIGUOUS_PAIRS,
    LEVEL_LISTS,
    MEANING_KEPT,
    MEANING_LOST,
    NAMES,
    STORED,
    STORED_LEVELS,
    Case,
    answer,
    generated_answers,
    malform,
    splits,
)
from .draft import Mimic, Row, Study
from .mimic import write_mimic
from .scale import PUBLISHED, Tables, write_published_statistics, write_questions_at_scale
from .studies import LOCATIONS, METADATA_COLUMNS, POST_LOCATIONS, WHOLE, Change

__all__ = [
    "AMBIGUOUS_PAIRS",
    "LEVEL_LISTS",
    "LOCATIONS",
    "MEANING_KEPT",
    "MEANING_LOST",
    "METADATA_COLUMNS",
    "NAMES",
    "POST_LOCATIONS",
    "PUBLISHED",
    "STORED",
    "STORED_LEVELS",
    "WHOLE",
    "Case",
    "Change",
    "Mimic",
    "Row",
    "Study",
    "Tables",
    "answer",
    "generated_answers",
    "malform",
    "splits",
    "write_mimic",
    "write_published_statistics",
    "write_questions_at_scale",
]
