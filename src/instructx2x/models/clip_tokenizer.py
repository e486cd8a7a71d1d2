"""CLIP's tokenizer, which no checkpoint holds: from a folder, from CLIP's own word-piece file, or an installed package.

CLIP's file `bpe_simple_vocab_16e6.txt.gz` lists merges of two word pieces, the most frequent first, after one line
that names its version. CLIP uses the first 48,894, and its 49,408 tokens are: the 256 bytes, the same as the end of a
word, the merges' results in their order, and the two tokens that start and end a text.
"""

from __future__ import annotations

import gzip
import zlib
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizerFast

from instructx2x.errors import ModelError

FILE = "bpe_simple_vocab_16e6.txt.gz"
PACKAGES = ("open_clip", "clip")  # what installs that file; neither is imported
_START, _END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 48_894


def tokenizer(source: Path | None, size: int, limit: int) -> CLIPTokenizerFast:
    """A tokenizer for a text encoder with `size` tokens in its vocabulary and texts of up to `limit` tokens.

    Args:
        source: a folder with tokenizer.json, or with vocab.json and merges.txt; the folder of a model that has such
            a folder `tokenizer`; CLIP's word-piece file, packed or not; None looks for an installed package.

    Raises:
        ModelError: there is none, it cannot be read, or it is not this text encoder's.
    """
    source = _installed() if source is None else source
    if not source.exists():
        raise ModelError(f"there is no tokenizer {source}")
    loaded = _from_folder(source, limit) if source.is_dir() else _from_merges(source, limit)
    if len(loaded) != size:
        raise ModelError(
            f"the tokenizer {source} has {len(loaded)} tokens and the model's text encoder {size}: give the one it was "
            "trained with"
        )
    return loaded


def _installed() -> Path:
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (Path(folder) / FILE).is_file():
                return Path(folder) / FILE
    raise ModelError(
        "no checkpoint holds CLIP's vocabulary: give --tokenizer FOLDER (vocab.json and merges.txt, or tokenizer.json) "
        f"or FILE ({FILE}), or pip install --no-deps open_clip_torch, which brings that file"
    )


def _from_folder(folder: Path, limit: int) -> CLIPTokenizerFast:
    folder = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    held = {name for name in ("tokenizer.json", "vocab.json", "merges.txt") if (folder / name).is_file()}
    if "tokenizer.json" not in held and not {"vocab.json", "merges.txt"} <= held:
        raise ModelError(f"{folder} holds neither tokenizer.json nor vocab.json with merges.txt")
    try:
        return CLIPTokenizerFast.from_pretrained(folder, local_files_only=True, model_max_length=limit)
    except Exception as error:  # the libraries raise nearly anything for a damaged file
        raise ModelError(
            f"the tokenizer in {folder} cannot be read: {str(error).partition(chr(10))[0][:200]}"
        ) from error


def _from_merges(file: Path, limit: int) -> CLIPTokenizerFast:
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as stream:
            next(stream)
            merges = [tuple(line.split()) for line in islice(stream, _MERGES)]
    except (OSError, EOFError, StopIteration, UnicodeDecodeError, zlib.error) as error:
        raise ModelError(f"{file} is not CLIP's {FILE}") from error
    if len(merges) != _MERGES or any(len(merge) != 2 for merge in merges):
        raise ModelError(f"{file} is not CLIP's {FILE}: it does not list {_MERGES} merges")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), _START, _END]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    try:
        return CLIPTokenizerFast(
            vocab=vocabulary,
            merges=merges,
            bos_token=_START,
            eos_token=_END,
            unk_token=_END,
            pad_token=_END,
            model_max_length=limit,
        )
    except Exception as error:  # a merge of pieces that no line before it made
        raise ModelError(f"{file} is not CLIP's {FILE}: {str(error).partition(chr(10))[0][:200]}") from error
