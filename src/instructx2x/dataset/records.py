"""all_diseases.json of MIMIC-Diff-VQA: what each report says of each finding, and where and how severe it is.

Places and severities come out in the words of our instruction language.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from instructx2x.dataset.answers import Answer, LevelClause, Words, finding_name
from instructx2x.dataset.rejects import Reason, Rejected
from instructx2x.errors import InputError
from instructx2x.files import open_regular
from instructx2x.instructions import FINDINGS, LEVELS
from instructx2x.instructions.vocabulary import LEVEL_SYNONYMS

NO_SEVERITY = frozenset({"acute", "increasing", "decreasing"})
"""Level words that say how a finding develops, not how severe it is (method section 5.4)."""

# The two names share one entry in the published vocabulary, and reports use them for each other.
_SAME = {"infection": "pneumonia"}

_SIDES = {
    "left": "left",
    "right": "right",
    "left-sided": "left",
    "right-sided": "right",
    "bilateral": "bilateral",
    "bibasilar": "bilateral",
    "bases": "bilateral",
    "lungs": "bilateral",
    "lobes": "bilateral",
}
_ZONES = {
    "upper": "upper",
    "middle": "middle",
    "mid": "middle",
    "lower": "lower",
    "apical": "apical",
    "apicolateral": "apical",
    "base": "basal",
    "bases": "basal",
    "basal": "basal",
    "basilar": "basal",
    "bibasilar": "basal",
    "retrocardiac": "retrocardiac",
}

_CHUNK = 1 << 22  # characters


@dataclass(frozen=True, slots=True)
class Instance:
    """One mention of a finding.

    Attributes:
        levels: level words as published; empty: none.
        location: location words, those of a phrase behind the finding included; empty: none.
    """

    levels: Words
    location: Words


@dataclass(frozen=True, slots=True)
class Record:
    """What a report says.

    Attributes:
        findings: names to their one or two mentions, in the file's order. Names outside the vocabulary stay as
            they are written.
        absent: names that the report denies.
    """

    findings: dict[str, tuple[Instance, ...]]
    absent: frozenset[str]


def read_records(path: Path, wanted: Collection[str]) -> dict[str, Record]:
    """Read the records of some studies.

    The file has some 300 MB; it is read record by record, so memory holds the wanted ones only.

    Args:
        path: all_diseases.json, plain or .gz.
        wanted: study ids without "s".

    Returns:
        Study id to record. Studies that the file does not hold are not in it.

    Raises:
        InputError: the file is not a JSON list of records.
    """
    records = {}
    with _refused(path):
        for entry in _entries(path):
            study = str(entry["study_id"]).removeprefix("s")
            if study in wanted:
                records[study] = _record(entry)
    return records


def check_records(path: Path) -> None:
    """Look at the first record alone, at no cost.

    Raises:
        InputError: as `read_records`.
    """
    with _refused(path):
        for entry in _entries(path):
            _record(entry)
            break


def difference(main: Record, reference: Record) -> Answer:
    """What changed from one report to the other, by the rules of the published answers (method section 5.2).

    Levels compare the first mention of each, and pneumonia and infection count as one.
    """

    def level_of(record: Record, name: str) -> Words:
        return record.findings[name][0].levels

    def lacks(record: Record, name: str) -> bool:
        alias = _SAME.get(name, name)
        return all(_SAME.get(other, other) != alias for other in record.findings)

    levels = tuple(
        LevelClause(name, ((level_of(reference, name), level_of(main, name)),))
        for name in main.findings
        if name in reference.findings
        and level_of(main, name)
        and level_of(reference, name)
        and level_of(main, name) != level_of(reference, name)
    )
    return Answer(
        levels,
        tuple(name for name in main.findings if lacks(reference, name)),
        tuple(name for name in reference.findings if lacks(main, name)),
    )


def severity(words: Sequence[str]) -> str | None:
    """The level of the scale that level words make together: ("small", "moderate") is "small to moderate".

    Returns:
        A name in `instructions.LEVELS`; None when the words name no severity.

    Raises:
        Rejected: LEVEL_OFF_SCALE, when they name several that make no level together.
    """
    levels = dict.fromkeys(LEVEL_SYNONYMS.get(word, word) for word in words if word not in NO_SEVERITY)
    if not levels:
        return None
    level = " to ".join(levels)
    if level not in LEVELS:
        raise Rejected(Reason.LEVEL_OFF_SCALE, " ".join(words))
    return level


def places(instance: Instance, finding: str) -> list[tuple[str | None, str | None]]:
    """Where a mention puts a finding: pairs of side and zone in the language's words, None for what is not said.

    Two zones of one side are two places ("mid to lower"). With both sides and several zones, which belongs to
    which cannot be told, and the zones are left out. What makes no sense for the finding is left out too.
    """
    kind = FINDINGS[finding]
    sides = dict.fromkeys(_SIDES[word] for word in instance.location if word in _SIDES)
    zones = list(dict.fromkeys(_ZONES[word] for word in instance.location if word in _ZONES))
    side = ("bilateral" if len(sides) > 1 else next(iter(sides))) if sides and kind.has_side else None
    if not kind.has_zone or (len(sides) > 1 and len(zones) > 1):
        zones = []
    return [(side, zone) for zone in zones or [None]]


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the list of records of MIMIC-Diff-VQA, or damaged: get it again") from error


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one after the other."""
    decode = json.JSONDecoder().raw_decode
    with (
        open_regular(path) as raw,
        gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as data,
        io.TextIOWrapper(data, encoding="utf-8") as file,
    ):
        text = file.read(_CHUNK).lstrip()
        if not text.startswith("["):
            raise ValueError("not a list")
        position, more = 1, True
        while True:
            while text[position : position + 1] in (",", " ", "\n", "\r", "\t"):
                position += 1
            if text[position : position + 1] == "]":
                return
            try:
                entry, position = decode(text, position)
            except ValueError:
                # Either the object goes on in the next chunk, or it is damaged; records are short.
                if not more or len(text) - position > 4 * _CHUNK:
                    raise
                chunk = file.read(_CHUNK)
                text, position, more = text[position:] + chunk, 0, bool(chunk)
                continue
            yield entry


def _record(entry: dict[str, Any]) -> Record:
    findings = {}
    for name, mention in entry["entity"].items():
        first = _instance(mention["level"], mention["location"], mention["post_location"])
        second = _instance(mention["level2"], mention["location2"], mention["post_location2"])
        findings[_name(name)] = (first,) if second is _NOTHING else (first, second)
    return Record(findings, frozenset(map(_name, entry["no_entity"])))


@cache  # a few dozen names, a million times
def _name(phrase: str) -> str:
    return finding_name(phrase) or " ".join(phrase.split())


_NOTHING = Instance((), ())


def _instance(levels: list[str] | None, location: list[str] | None, phrase: str | None) -> Instance:
    """A mention. Levels stay whole, because they come in lists; the words of places are all taken apart."""
    if not (levels or location or phrase):
        return _NOTHING
    return _shared(tuple(levels or ()), (*(location or ()), *(phrase.lower().split() if phrase else ())))


@cache  # the words are few, and so are the ways to join them
def _shared(levels: Words, location: Words) -> Instance:
    return Instance(tuple(map(str.lower, levels)), tuple(map(str.lower, location)))
