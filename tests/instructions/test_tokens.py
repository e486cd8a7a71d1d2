"""The token counts against the vocabulary, and against CLIP's own files where a package has them."""

import gzip
import importlib.util
from pathlib import Path

import pytest

from instructx2x.errors import InstructionError
from instructx2x.instructions import FINDINGS, LEVELS, SIDES, ZONES, Edit, Operation, render
from instructx2x.instructions.tokens import _TOKENS, MAX_TOKENS, clip_tokens


def test_every_word_that_render_can_write_is_counted():
    for name, finding in FINDINGS.items():
        level = "mild to moderate" if finding.has_level else None
        for side in SIDES if finding.has_side else (None,):
            for zone in ZONES if finding.has_zone else (None,):
                assert 2 < clip_tokens(render([Edit(Operation.ADD, name, side, zone, level)])) < MAX_TOKENS
    for level in LEVELS:
        other = "severe" if level != "severe" else "mild"
        clip_tokens(render([Edit(Operation.CHANGE, "edema", level=level, from_level=other)]))


def test_known_lengths():
    # Counted by hand from the published encoder: start, "add the finding of", "ede" "ma", ".", end.
    assert clip_tokens("Add the finding of edema.") == 9
    assert clip_tokens("Change the level of left lower lobe atelectasis from mild-to-moderate to severe.") == 22


def test_words_outside_the_language_are_refused():
    with pytest.raises(InstructionError, match="banana"):
        clip_tokens("Add the finding of banana.")


def test_agrees_with_clips_own_vocabulary():
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        pytest.skip("needs CLIP's vocabulary, which the package open_clip_torch carries")
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    merges = [tuple(line.split()) for line in gzip.decompress(path.read_bytes()).decode().split("\n")[1:48895]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    assert len(pieces) == 49408
    tokenizer = CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges)
    assert {word: len(tokenizer(word)["input_ids"]) - 2 for word in _TOKENS} == _TOKENS
    text = "Add the findings of mild left lower lobe pneumonia, cardiomegaly and pneumomediastinum."
    assert len(tokenizer(text)["input_ids"]) == clip_tokens(text)
