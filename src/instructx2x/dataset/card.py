"""The dataset card: what is in a built dataset, by which rules, and what its labels are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instructx2x.dataset.rejects import Reason
from instructx2x.dataset.splits import SPLITS

_HUB_SPLITS = {"train": "train", "validate": "validation", "test": "test"}

_TITLES = {"MIMIC-Diff-VQA": "MIMIC-EDIT-INSTRUCTION", "open X-rays": "Edit instructions on open X-rays"}

_TERMS = {
    "MIMIC-Diff-VQA": """\
Built from Medical-Diff-VQA and MIMIC-CXR-JPG, which PhysioNet gives to credentialed users under its Credentialed
Health Data License and Data Use Agreement. What is built from them stays under the same agreement: **do not share this
folder, nor any row, text or image of it, with anyone who has not signed it, and do not send it to online services**
that the agreement does not allow. Cite Hu et al., *Expert Knowledge-Aware Image Difference Graph Representation
Learning for Difference-Aware Medical Visual Question Answering* (KDD 2023), and Johnson et al., *MIMIC-CXR-JPG*.""",
    "open X-rays": """\
Each image keeps the licence of its source, as the `licence` column of the source's metadata.csv says it. Name the
sources when you use or share this folder.""",
}

_CAVEATS = {
    "MIMIC-Diff-VQA": """\
- The changes come from reports, by the rules of MIMIC-Diff-VQA's authors. A report names what mattered to its reader on
  that day: what it does not mention may still be there.
- "Remove" therefore means *not mentioned later*, unless the set was built with `strict`.
- A change of level compares the first mention of a finding in each report only.
- Two images of a pair differ in more than the instruction says: position, breath, exposure, devices. {registered}
- Places and severities (v2) are the report's words, simplified to sides, zones and one scale.""",
    "open X-rays": """\
- The labels were mined from reports by a program; their authors put them at about 90 % right.
- Labels say what is there, not what is absent: "Remove" means *not mentioned later*. They have no side, no severity.
- `infiltration` is rendered as lung opacity; pairs in which fibrosis or COVID-19 changes are left out.
- Two images of a pair differ in more than the instruction says: position, breath, exposure, devices. {registered}""",
}


def card(report: Mapping[str, Any]) -> str:
    """The README.md of a dataset, from its report: readable, and read by Hugging Face `datasets`."""
    source, images = report["source"], report["settings"]["images"]
    registered = (
        "Past images were aligned with the current ones; `registration` is the quality."
        if images["register"]
        else "The images are not aligned with each other."
    )
    # Hugging Face's loader takes no split without rows.
    filled = [split for split in SPLITS if report["splits"][split]["instructions"]]
    files = "\n".join(f"      - split: {_HUB_SPLITS[split]}\n        path: data/{split}.parquet" for split in filled)
    rules = {**report["settings"]["rules"], "split": report["settings"].get("split", "the source's, by patient")}
    rules["one image a study"] = report["settings"].get("image_rule", "the source's")
    rules["images"] = (
        f"{images['preparation']['size']} px, {images['preparation']['mode']}, Lanczos, 8-bit gray PNG"
        if images["preparation"]
        else "none, tables only"
    )
    parts = [
        f"---\nconfigs:\n  - config_name: default\n    data_files:\n{files}\n---",
        f"# {_TITLES[source]}",
        f"Pairs of chest X-rays of one patient, and the instruction that turns the past one into the current one. "
        f"Built from {source} with x2x {report['x2x']}.",
        "## Terms\n\n" + _TERMS[source],
        "## What the labels are worth\n\n" + _CAVEATS[source].format(registered=registered),
        "## Rules\n\n" + _table(("rule", "value"), [(name, _plain(value)) for name, value in rules.items()]),
        "Inputs:\n\n" + _table(("file", "SHA-256"), [tuple(each.values()) for each in report["settings"]["inputs"]]),
        "## From rows to pairs\n\n" + _table(("", "rows"), funnel(report)),
        "## Splits\n\nBy patient.\n\n"
        + _table(
            ("split", "instructions", "pairs", "patients"),
            [(split, *counts.values()) for split, counts in report["splits"].items()],
        ),
        f"Instructions have up to {report['tokens']['max']} CLIP tokens, {report['tokens']['median']} in the middle; "
        f"{report['instructions_over_77_tokens']} have more than the 77 that CLIP reads."
        if report["instructions"]
        else "No instruction is left.",
        "## What is edited\n\n" + _table(("operation", "edits"), list(report["operations"].items())),
        _table(("finding", "edits"), list(report["findings"].items())),
        "## Columns\n\nSee `instructx2x.dataset.table.SCHEMA`. `rejects.parquet` holds every row that was left out, "
        "with the reason; `report.json` every count on this page.",
    ]
    return "\n\n".join(parts) + "\n"


def funnel(report: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What became of the rows, step by step: (step, rows)."""
    lost = [(f"− {Reason(reason).explanation}", count) for reason, count in report["rejected"].items()]
    first = [("rows of the source", report["rows"])]
    if report["difference_rows"] != report["rows"]:
        first.append(("rows about differences", report["difference_rows"]))
    return [*first, *lost, ("rows kept", report["rows_kept"]), ("instructions", report["instructions"])]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
