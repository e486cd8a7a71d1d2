"""Patient-level splits: no patient is in two of them, whatever the published row-wise splits say."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from instructx2x.errors import InputError

SPLITS = ("train", "validate", "test")

VALIDATE_SHARE = 0.05
"""Of the training patients, with BiomedJourney's split, which names no patients to validate on."""


def split_patients(patients: Iterable[str], method: str, official: dict[str, str]) -> dict[str, str]:
    """Put every patient into one split.

    Args:
        patients: subject ids.
        method: "mimic", the split of MIMIC-CXR-JPG; "p19", BiomedJourney's: test is p19, train p10 to p18, less
            one patient in twenty for validation; or shares such as "0.8,0.1,0.1" for train, validate and test.
        official: patient to split of MIMIC-CXR-JPG; asked by "mimic" only.

    Returns:
        Patient to split. A patient that `official` does not know is left out.

    Raises:
        InputError: the method is none of these.
    """
    if method == "mimic":
        return {patient: official[patient] for patient in patients if patient in official}
    if method == "p19":
        shares = (1 - VALIDATE_SHARE, VALIDATE_SHARE, 0.0)
        return {patient: "test" if patient.startswith("19") else _drawn(patient, shares) for patient in patients}
    shares = _shares(method)
    return {patient: _drawn(patient, shares) for patient in patients}


def _shares(method: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(share) for share in method.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"split {method!r:.60}: use mimic, p19, or three shares that add up to 1, such as 0.8,0.1,0.1")
    return shares


def _drawn(patient: str, shares: tuple[float, ...]) -> str:
    """The split of a patient by the hash of its id: the same in every build, whoever else is in it."""
    draw = int.from_bytes(sha256(patient.encode()).digest()[:8]) / 2**64
    return SPLITS[sum(draw >= bound for bound in (shares[0], shares[0] + shares[1]))]
