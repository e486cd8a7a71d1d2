"""CLIP's tokenizer: from a model's folder; or, as no checkpoint holds it, CLIP's own file, or an installed package.

Of a folder's files the vocabulary, the merges, the names of the special tokens and the length of a text are taken, each
checked; that is all that CLIP's tokenizer consists of.

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
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizerFast

from instructx2x.errors import ModelError
from instructx2x.models.files import read_bytes, read_json

FILE = "bpe_simple_vocab_16e6.txt.gz"
PACKAGES = ("open_clip", "clip")  # what installs that file; neither is imported
_START, _END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 48_894

MAX_VOCABULARY = 32 << 20  # bytes; CLIP's tokenizer.json has 3.6 million
MAX_TOKENS = 10_000_000

Vocabulary = tuple[dict[str, int], list[tuple[str, str]]]

_VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt")
_SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")  # the later one counts
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
# What else published tokenizers say, none of which changes how a text becomes tokens here.
_NOTES = frozenset(
    "add_prefix_space added_tokens_decoder additional_special_tokens backend clean_up_tokenization_spaces "
    "do_lower_case errors extra_special_tokens fix_mistral_regex is_local local_files_only max_length model_max_length "
    "model_input_names name_or_path pad_to_multiple_of pad_token_type_id padding_side processor_class "
    "special_tokens_map_file split_special_tokens stride tokenizer_class tokenizer_file truncation_side "
    "truncation_strategy use_fast vocab_file merges_file".split()
)
_WAYS = {"padding_side": "right", "truncation_side": "right", "add_prefix_space": False}
_LETTERS = " ".join("abcdefghijklmnopqrstuvwxyz")


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
    if not source.is_dir() and not source.is_file():
        raise ModelError(f"{source} is a pipe or device: name CLIP's {FILE} or a folder")
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


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer's folder that decide how a text becomes tokens."""
    return [folder / name for name in (*_VOCABULARY, *_SETTINGS) if (folder / name).exists()]


def read_tokenizer(folder: Path, limit: int | None = None) -> CLIPTokenizerFast:
    """The tokenizer of a folder with tokenizer.json, or with vocab.json and merges.txt.

    Args:
        limit: tokens of a text; the folder's own by default.

    Raises:
        ModelError: the vocabulary is missing, knows no words, is not CLIP's kind, or the two layouts disagree.
    """
    held = {name for name in _VOCABULARY if (folder / name).exists()}
    found = [_from_json(folder / "tokenizer.json")] if "tokenizer.json" in held else []
    if {"vocab.json", "merges.txt"} <= held:
        found.append(_from_two(folder))
    if not found:
        raise ModelError(
            f"{folder} holds no vocabulary, neither tokenizer.json nor vocab.json with merges.txt: get a whole copy"
        )
    if found[0] != found[-1]:
        raise ModelError(f"{folder} is ambiguous, for tokenizer.json and vocab.json with merges.txt differ: keep one")
    vocabulary, merges = found[0]
    settings = _settings(folder)
    length = settings.pop("model_max_length")
    try:
        tokenizer = CLIPTokenizerFast(
            vocab=vocabulary, merges=merges, model_max_length=length if limit is None else limit, **settings
        )
        ids = tokenizer(["", _LETTERS], padding="max_length", max_length=64, truncation=True).input_ids
        plain = set(ids[1]) - set(ids[0])
        plain.discard(tokenizer.unk_token_id)
    except Exception as error:  # the libraries raise nearly anything for a damaged file
        raise ModelError(f"the tokenizer in {folder} cannot be read: {_first_line(error)}") from error
    if len(plain) < len(set(_LETTERS) - {" "}):
        raise ModelError(f"the tokenizer in {folder} has no vocabulary for plain letters: get a whole copy")
    rest(tokenizer)
    return tokenizer


def rest(tokenizer: CLIPTokenizerFast) -> None:
    """Forget how the last texts were cut and padded, which would be saved with the tokenizer."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()


def _from_json(file: Path) -> Vocabulary:
    content = read_json(file, MAX_VOCABULARY)
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ModelError(f"{file} is not CLIP's kind of tokenizer: get the one that the text encoder was trained with")
    vocabulary = _pieces(file, model.get("vocab"))
    merges = [each.split(" ") if isinstance(each, str) else each for each in _list(file, model.get("merges"))]
    for added in _list(file, content.get("added_tokens") or []):
        if not isinstance(added, dict) or vocabulary.get(added.get("content")) != added.get("id"):
            raise ModelError(f"{file} adds a token that its vocabulary does not have: get a whole copy")
    return vocabulary, _pairs(file, merges)


def _from_two(folder: Path) -> Vocabulary:
    vocabulary = _pieces(folder / "vocab.json", read_json(folder / "vocab.json", MAX_VOCABULARY))
    file = folder / "merges.txt"
    try:
        lines = read_bytes(file, MAX_VOCABULARY).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is not text in UTF-8: get a whole copy") from error
    lines = lines[1:] if lines and lines[0].startswith("#version") else lines
    return vocabulary, _pairs(file, [line.split() for line in lines if line.strip()])


def _pieces(file: Path, told: Any) -> dict[str, int]:
    if not isinstance(told, dict) or not told or not all(type(number) is int for number in told.values()):
        raise ModelError(f"{file} holds no vocabulary: get a whole copy")
    if min(told.values()) < 0 or len(set(told.values())) != len(told) or max(told.values()) > MAX_TOKENS:
        raise ModelError(f"{file} numbers its vocabulary wrongly: get a whole copy")
    return told


def _list(file: Path, told: Any) -> list[Any]:
    if not isinstance(told, list):
        raise ModelError(f"{file} holds no list of merges or tokens: get a whole copy")
    return told


def _pairs(file: Path, told: list[Any]) -> list[tuple[str, str]]:
    pairs = [tuple(pair) for pair in told if isinstance(pair, list)]
    if len(pairs) != len(told) or not all(len(p) == 2 and all(isinstance(x, str) for x in p) for p in pairs):
        raise ModelError(f"{file} holds merges that are no pairs: get a whole copy")
    return pairs


def _settings(folder: Path) -> dict[str, Any]:
    """The special tokens, and the length of a text."""
    settings: dict[str, Any] = {}
    for name in _SETTINGS:
        file = folder / name
        if not file.exists():
            continue
        told = read_json(file)
        if unknown := sorted(set(told) - set(_SPECIAL) - _NOTES):
            raise ModelError(
                f"{file} has a key that is not known here and so is not safe to follow, {unknown[0]!r:.80}: remove it "
                "if the model works without it"
            )
        if str(told.get("tokenizer_class", "CLIPTokenizer")) not in ("CLIPTokenizer", "CLIPTokenizerFast"):
            raise ModelError(f"{file} is of a {told['tokenizer_class']!r:.60}, not of CLIP's tokenizer")
        if any(told.get(key, way) != way for key, way in _WAYS.items()):
            raise ModelError(f"{file} has other ways than CLIP's of {' or '.join(_WAYS)}: get a whole copy")
        for key in _SPECIAL:
            token = told.get(key)
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None:
                if not isinstance(token, str) or not 1 <= len(token) <= 100:
                    raise ModelError(f"{file} names no token as {key}: get a whole copy")
                settings[key] = token
        length = told.get("model_max_length")
        if length is not None:
            if type(length) not in (int, float) or length < 3:
                raise ModelError(f"{file} has no usable model_max_length: get a whole copy")
            settings["model_max_length"] = int(length)
    # The text encoder's own limit counts where the tokenizer names none.
    return {"model_max_length": MAX_TOKENS, **settings}


def _from_folder(folder: Path, limit: int) -> CLIPTokenizerFast:
    return read_tokenizer(folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder, limit)


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
        raise ModelError(f"{file} is not CLIP's {FILE}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
