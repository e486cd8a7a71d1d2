"""`x2x vocabulary`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer


def vocabulary(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show the words that instructions are made of: findings and their synonyms, sides, zones and levels.

    `x2x vocabulary`

    `x2x vocabulary --json`
    """
    words = listed()
    if as_json:
        print(json.dumps(words, indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console()
    for table in _tables(words):
        console.print(table)


def listed() -> dict[str, Any]:
    """The vocabulary as plain data.

    Returns:
        findings: {name: {synonyms, side, zone, level}}, the last three telling whether one can be said of it; in a
        synonym, "*" stands for an optional side. sides and zones: {name: synonyms}. levels: {name: {rank, synonyms}}.
        places: {word: [side, zone]}, words that name both at once. verbs: {operation: words}.
    """
    from instructx2x.instructions import FINDINGS, LEVELS, SIDES, ZONES, Operation
    from instructx2x.instructions import vocabulary as words

    def synonyms(name: str, table: Mapping[str, str]) -> list[str]:
        return [word for word, meaning in table.items() if meaning == name]

    return {
        "findings": {
            name: {
                "synonyms": list(finding.synonyms),
                "side": finding.has_side,
                "zone": finding.has_zone,
                "level": finding.has_level,
            }
            for name, finding in FINDINGS.items()
        },
        "sides": {side: synonyms(side, words.SIDE_SYNONYMS) for side in SIDES},
        "zones": {zone: synonyms(zone, words.ZONE_SYNONYMS) for zone in ZONES},
        "places": {word: list(place) for word, place in words.PLACES.items()},
        "levels": {
            level: {"rank": rank, "synonyms": synonyms(level, words.LEVEL_SYNONYMS)} for level, rank in LEVELS.items()
        },
        "verbs": {
            operation.value: [verb for verb, (does, _) in words.VERBS.items() if does is operation]
            for operation in Operation
        },
    }


def _tables(words: dict[str, Any]) -> list[Any]:
    from rich.box import SIMPLE
    from rich.table import Table

    findings = Table("finding", "also understood", "can have", box=SIMPLE)
    for name, finding in words["findings"].items():
        synonyms = ", ".join(synonym.replace("*", "…") for synonym in finding["synonyms"])
        findings.add_row(name, synonyms, ", ".join(kind for kind in ("side", "zone", "level") if finding[kind]))
    tables = [findings]
    for kind, named in (("side", words["sides"]), ("zone", words["zones"])):
        table = Table(f"{kind} of the patient" if kind == "side" else kind, "also understood", box=SIMPLE)
        for name, synonyms in named.items():
            table.add_row(name, ", ".join(synonyms))
        tables.append(table)
    places = Table("side and zone", "words for both at once", box=SIMPLE)
    for place in dict.fromkeys(map(tuple, words["places"].values())):
        places.add_row(" ".join(place), ", ".join(w for w, meant in words["places"].items() if tuple(meant) == place))
    levels = Table("level", "rank", "also understood", box=SIMPLE)
    for name, level in words["levels"].items():
        levels.add_row(name, f"{level['rank']:g}", ", ".join(level["synonyms"]))
    verbs = Table("operation", "verbs", box=SIMPLE)
    for operation, names in words["verbs"].items():
        verbs.add_row(operation, ", ".join(names))
    return [*tables, places, levels, verbs]
