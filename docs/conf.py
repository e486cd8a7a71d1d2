"""Documentation: `pip install -c constraints.txt -e ".[docs]"`, then `sphinx-build -W docs docs/_build`."""

import subprocess
import sys
from pathlib import Path

from instructx2x import __version__
from instructx2x.instructions.vocabulary import FINDINGS, LEVELS, SIDES, ZONES

project = "InstructX2X"
author = "the InstructX2X contributors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"InstructX2X {release}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # signatures stay short; the docstrings give shapes and units
autodoc_member_order = "bysource"

GENERATED = Path(__file__).parent / "_generated"


def write_generated(app):
    """The pages that the program itself knows best: its commands and its vocabulary."""
    GENERATED.mkdir(exist_ok=True)
    typer = [sys.executable, "-m", "typer", "instructx2x.cli", "utils", "docs", "--name", "x2x"]
    commands = subprocess.run(typer, capture_output=True, text=True, check=True).stdout
    (GENERATED / "cli.md").write_text(commands.split("\n", 1)[1].replace("\n## ", "\n# ").replace("\n### ", "\n## "))
    rows = ["| finding | also understood | side | zone | level |", "|---|---|---|---|---|"]
    for name, finding in FINDINGS.items():
        synonyms = ", ".join(synonym.replace("*", "…") for synonym in finding.synonyms)
        marks = ["yes" if has else "" for has in (finding.has_side, finding.has_zone, finding.has_level)]
        rows.append(f"| {name} | {synonyms} | {' | '.join(marks)} |")
    levels = ", ".join(f"{level} ({rank:g})" for level, rank in LEVELS.items())
    words = f"Sides: {', '.join(SIDES)}.\n\nZones: {', '.join(ZONES)}.\n\nLevels, with their rank: {levels}.\n"
    (GENERATED / "vocabulary.md").write_text("\n".join([*rows, "", words]))


def setup(app):
    app.connect("builder-inited", write_generated)
