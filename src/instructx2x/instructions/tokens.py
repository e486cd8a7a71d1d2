"""How many of CLIP's 77 tokens a canonical instruction takes, without CLIP's vocabulary at hand.

The language is closed, and CLIP's byte-pair encoding never joins two words, so the length of a text is the sum over
its words. Counted once with the vocabulary of OpenAI's CLIP (49,408 entries, the one of ViT-L/14).
"""

from __future__ import annotations

import re

from ..errors import InstructionError

MAX_TOKENS = 77
"""CLIP's context, the tokens for start and end included; what is longer is cut off unread."""

_WORDS = {
    1: """add air and angle bilateral cardiac change collection congestion consolidation descending disease failure
        finding findings fracture from heart infection large left level lobe lower lung mass massive middle mild
        minimal minor moderate of pneumonia remove right severe silhouette small subtle the to trace upper vascular
        , . -""",
    2: """aorta apical basal blunting calcification edema effusion enlargement gastric hernia hilar opacity pleural
        retrocardiac thickening thymoma""",
    3: """contusion distention emphysema granuloma hematoma hypertensive hypoxemia nodule perihilar scoliosis thoracic
        tortuosity""",
    4: "atelectasis cardiomegaly pneumothorax",
    5: "costophrenic",
    6: "pneumomediastinum",
}
_TOKENS = {word: count for count, words in _WORDS.items() for word in words.split()}


def clip_tokens(text: str) -> int:
    """Length of a canonical instruction in CLIP's tokens, those for start and end included.

    Args:
        text: what `language.render` or `language.canonical` wrote.

    Raises:
        InstructionError: a word that canonical instructions do not have.
    """
    try:
        return 2 + sum(_TOKENS[word] for word in re.findall(r"[a-z]+|[^a-z\s]", text.lower()))
    except KeyError as error:
        raise InstructionError(f"{error.args[0]!r} is no word of a canonical instruction: render it first.") from error
