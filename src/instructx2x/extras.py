"""How to install an extra without losing the PyTorch that is there."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path

# Beside `src` in a clone and in an unpacked source distribution; an installed wheel has none.
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def install_command(extra: str) -> str:
    """The command that adds an extra of this package and keeps what the tests passed with.

    Left alone, pip may take a newer PyTorch than the installed one for an extra's sake, and of a machine's CPU build
    make the large CUDA build. In a clone the constraints file forbids it. Who installed a wheel has no such file: there
    the installed version of PyTorch is named, which a CPU build of it satisfies.
    """
    if CONSTRAINTS.is_file():
        return f'pip install -c {shlex.quote(str(CONSTRAINTS))} "instructx2x[{extra}]"'
    return f'pip install "instructx2x[{extra}]" torch=={version("torch").partition("+")[0]}'
