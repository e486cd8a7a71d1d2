"""Values of DICOM headers."""

from __future__ import annotations

import pydicom


def listed(value) -> list:
    """A DICOM value of any multiplicity as a list: nothing, one or several."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
