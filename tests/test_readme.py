"""The README's commands: continuous integration runs the one that it gives, and the rest name what exists."""

import re
from pathlib import Path

import pytest

from instructx2x import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci/run").read_text()
    assert [block for block in BLOCKS if "pytest" in block] == [script.split("\n\n")[-1]]


@pytest.mark.parametrize("line", [line for block in BLOCKS for line in block.splitlines() if "x2x " in line])
def test_commands_name_real_flags(line, capsys):
    command, *words = line.split("x2x ")[1].split()
    assert cli.main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in words if word.startswith("-"))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        if "models/bundled" not in target or (ROOT / target).parent.is_dir():
            assert (ROOT / target).is_file(), target
