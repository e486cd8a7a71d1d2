"""The commands of README and docs: continuous integration runs the one that it gives, the rest name what exists."""

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


def commands():
    """Every x2x command in a block of the README or the docs, lines that go on joined."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[!_]*/*.md")), *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(\$ |\S*/)?x2x ", line):
                    yield line.split("#")[0].split("x2x ", 1)[1]


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_name_real_flags(line, capsys):
    words = line.split()
    families = [family.typer_instance.info.name for family in cli.app.registered_groups]
    names = words[: 2 if words[0] in families else 1]
    if names[0].startswith("-"):
        return
    assert cli.main([*names, "--help"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in words if re.match("--?[a-z]", word))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        if "models/bundled" not in target or (ROOT / target).parent.is_dir():
            assert (ROOT / target).is_file(), target
