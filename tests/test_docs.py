"""The documentation: built without a warning, with every command and finding in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from instructx2x import cli
from instructx2x.instructions import FINDINGS

pytest.importorskip("myst_parser", reason="needs the docs extra")
DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-d", out / "doctrees", DOCS, out / "html"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_command_and_finding_is_documented(pages):
    commands = (pages / "reference/commands.html").read_text()
    families = [group.typer_instance for group in cli.app.registered_groups]
    for command in [*cli.app.registered_commands, *(each for app in families for each in app.registered_commands)]:
        assert (command.name or command.callback.__name__) in commands
    language = (pages / "reference/language.html").read_text()
    assert all(name in language for name in FINDINGS)


def test_python_objects_are_found(pages):
    python = (pages / "reference/python.html").read_text()
    for name in ("Editor.open", "Study.edit", "Result.save", "read", "parse", "pseudo_mask", "load_dataset", "build"):
        assert f"instructx2x.{'editing.' if '.' in name else ''}" in python and name.split(".")[-1] in python
