"""What an anatomy is by its content, so that a file of the same name with other masks counts as another."""

from __future__ import annotations

import hashlib
from pathlib import Path

from instructx2x.anatomy.official import MASK_NAMES
from instructx2x.errors import AnatomyError, InputError
from instructx2x.files import digest


def anatomy_digest(anatomy: str | Path) -> str:
    """A name of the package's own anatomies as it is; a file or folder as the SHA-256 of what decides the masks.

    Args:
        anatomy: as `pseudo_mask` takes it.

    Raises:
        AnatomyError: the file, or a mask of the folder, cannot be read.
    """
    path = Path(anatomy)
    if path.is_dir():
        files = [path / f"pseudo_mask_{name}.npy" for name in sorted(MASK_NAMES.values())]
        files = [file for file in files if file.is_file()]
    elif path.is_file():
        files = [path]
    else:
        return str(anatomy)
    lines = []
    for file in files:
        try:
            content = digest(file)
        except InputError as error:
            raise AnatomyError(str(error)) from error
        lines.append(f"{content}  {file.name if path.is_dir() else ''}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
