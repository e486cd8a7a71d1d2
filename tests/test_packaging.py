"""What the source distribution holds: all that the README names, all tests with their helpers, and the model."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The files that setuptools puts into a source distribution; nothing is written into the tree."""
    dist = pytest.importorskip("setuptools.dist", reason="needs setuptools")
    from setuptools.command.egg_info import egg_info

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        distribution = dist.Distribution({"script_name": "setup.py"})
        distribution.parse_config_files()
        command = egg_info(distribution)
        command.egg_base = str(tmp_path_factory.mktemp("sdist"))
        command.ensure_finalized()
        command.run()
        return set(command.filelist.files)


def files(folder, pattern="*"):
    """Those of a folder that belong to the project: nothing hidden, built or generated."""
    paths = (path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return {str(path) for path in paths if not any(part[0] in "._" and part != "__init__.py" for part in path.parts)}


def test_the_source_distribution_is_complete(sources):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {target for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme)}
    named |= {"constraints.txt", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", ".ci/run"}
    # The weights are measured by other tests; a tree without them has no model card either.
    named -= {name for name in named if "models/bundled" in name and not (ROOT / name).exists()}
    assert named <= sources
    assert files("tests") | files("docs") | files("benchmarks") <= sources
    assert files("src/instructx2x", "*.py") <= sources
    assert files("src/instructx2x/models/bundled") <= sources
    assert not [
        name for name in sources if "__pycache__" in name or name.startswith(("docs/_build", "docs/_generated"))
    ]


def test_the_constraints_pin_what_the_extras_ask_for():
    """All that this project names itself, but for the extra that is not tested and the documentation's theme."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower().replace("_", "-") for line in asked} - {"instructx2x"}
    assert names <= pinned
