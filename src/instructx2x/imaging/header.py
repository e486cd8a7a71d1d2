"""Values of DICOM headers, however oddly they are written."""

from __future__ import annotations

import re

import pydicom

from ..errors import InputError

# What DS and IS may hold (PS3.5 table 6.2-1); Python itself would take more: "1_0", "nan".
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")

# What a message may repeat. Anything else could be a name, and messages stand in reports and manifests.
_HARMLESS = re.compile(r"[0-9+\-., eE\\]*|[A-Za-z]{0,2}(\\[A-Za-z]{0,2})*")


def listed(value) -> list:
    """A DICOM value of any multiplicity as a list: nothing, one or several."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]


def texts(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """The values of an element as text, without the padding that has no meaning; empty ones are kept.

    An element that pydicom cannot convert, a decimal comma say, is taken as its bytes read.
    """
    try:
        found = listed(dataset.get(keyword))
    except Exception:
        # Raised by the conversion of a value that is not what its element asks for, with any class.
        raw = dataset.get_item(keyword).value
        found = raw.decode("latin-1").split("\\") if isinstance(raw, bytes) else listed(raw)
    return [str(value).strip(" \0\t\r\n") for value in found]


def words(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """The values of an element of coded strings: in capitals, without empty ones."""
    return [text.upper() for text in texts(dataset, keyword) if text]


def word(dataset: pydicom.Dataset, keyword: str) -> str | None:
    """The one coded string of an element; None where it is absent or empty.

    Raises:
        InputError: several that differ.
    """
    found = dict.fromkeys(words(dataset, keyword))
    if len(found) > 1:
        raise InputError(f"{keyword} has several values, {quoted(dataset, keyword)}; correct it to one")
    return next(iter(found), None)


def directions(dataset: pydicom.Dataset) -> list[str]:
    """The words of PatientOrientation in capitals, also where something else than a backslash parts them: "L/F"."""
    found = texts(dataset, "PatientOrientation")
    if len(found) == 1:
        found = re.split("[^A-Z0-9]+", found[0].upper().strip("[](){}'\""))
    return [text.upper() for text in found]


def number(dataset: pydicom.Dataset, keyword: str, *, several: bool = False) -> float | None:
    """The first number of an element; None where it is absent or empty.

    Args:
        dataset, keyword: the element.
        several: it may have several, as windows have.

    Raises:
        InputError: its text is no number, or several that differ.
    """
    found = texts(dataset, keyword)
    if not any(found):
        return None
    if _NUMBER.fullmatch(found[0]) is None or abs(float(found[0])) == float("inf"):
        raise InputError(f"{keyword} is no number, but {quoted(dataset, keyword)}; correct or remove it")
    if not several and any(text not in ("", found[0]) for text in found):
        raise InputError(f"{keyword} has several values, {quoted(dataset, keyword)}; correct it to one")
    return float(found[0])


def whole(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """The first whole number of an element; None where it is absent or empty.

    Raises:
        InputError: its text is no whole number.
    """
    found = number(dataset, keyword)
    if found is not None and found != int(found):
        raise InputError(f"{keyword} is no whole number, but {quoted(dataset, keyword)}; correct or remove it")
    return None if found is None else int(found)


def quoted(dataset: pydicom.Dataset, keyword: str) -> str:
    """An element's text for a message, on one line: numbers, directions and codes of two letters."""
    text = "\\".join(texts(dataset, keyword))[:32]
    return repr(text) if _HARMLESS.fullmatch(text) else "a text that is not shown"
