"""DICOM: single-frame projection radiographs and their display."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.filereader import read_dataset

from ..errors import InputError
from . import cautions, stored, tables
from .compressed import CODECS
from .header import directions, listed, number, quoted, texts, whole, words
from .radiograph import Radiograph, count_values, label

PREAMBLE = bytes(128) + b"DICM"
# What is read, and the SOP class of a file that names none. Scanned film comes as RG, SC or OT.
MODALITIES = {
    "CR": uid.ComputedRadiographyImageStorage,
    "DX": uid.DigitalXRayImageStorageForPresentation,
    "MG": uid.DigitalMammographyXRayImageStorageForPresentation,
    "RG": uid.SecondaryCaptureImageStorage,
    "SC": uid.SecondaryCaptureImageStorage,
}
# The Modality of each SOP class that is read.
CLASSES = {
    uid.ComputedRadiographyImageStorage: "CR",
    uid.DigitalXRayImageStorageForPresentation: "DX",
    uid.DigitalXRayImageStorageForProcessing: "DX",
    uid.DigitalMammographyXRayImageStorageForPresentation: "MG",
    uid.DigitalMammographyXRayImageStorageForProcessing: "MG",
    uid.SecondaryCaptureImageStorage: "SC",
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage: "SC",
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage: "SC",
}
# Of what a rescale gives.
MAX_VALUE = 1e12
# More than any radiograph's header needs; bounds the time and memory that a built one can cost.
MAX_READS = 50_000
MAX_ELEMENT = 1 << 20
UNCOMPRESSED = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
# Binary values whose bytes a big-endian file swaps, and the size of their words.
WORDS = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}


def looks_like_dicom(data: bytes) -> bool:
    """A preamble, or, for files without one, a first element of group 2 or 8."""
    return data[128:132] == b"DICM" or data[:2] in (b"\x02\x00", b"\x08\x00")


def read(data: bytes, path: Path | None) -> Radiograph:
    """Radiograph of a DICOM file's bytes.

    Raises:
        InputError: anything but a single-frame, monochrome projection radiograph with a monotone display.
            A damaged file can raise other exceptions as well; `reading.read` reports them.
    """
    dataset = parse(data)
    warnings = _settle_modality(dataset)
    _check_orientation(dataset)
    warnings += cautions.of(dataset)
    pixels, lossy = stored.values(dataset)
    bits = int(dataset.BitsStored)
    values = tables.storable(bits, signed=dataset.PixelRepresentation == 1)
    first = int(values[0])
    padding = _padding(dataset, first, int(values[-1]))
    counts = count_values(pixels, first, len(values))
    if padding:
        counts[max(0, padding[0] - first) : max(0, padding[1] - first + 1)] = 0
    if np.count_nonzero(counts) < 2:
        raise InputError("no contrast: every pixel has the same value")
    table, notes = _table(dataset, values, counts)
    if np.ptp(table[counts > 0]) == 0:
        raise InputError("no contrast: the VOI LUT shows every pixel alike; correct or remove it")
    # Once lossy, always lossy; the other two are how some write it.
    lossy = lossy or not {"01", "1", "YES"}.isdisjoint(words(dataset, "LossyImageCompression"))
    return Radiograph(pixels, table, first, bits, "dicom", lossy, dataset, path, padding, (*warnings, *notes))


class _Metered(BytesIO):
    """A stream that refuses to be read in more pieces than a radiograph's header can have."""

    pieces = 0

    def read(self, size=-1):
        self.pieces += 1
        if self.pieces > MAX_READS:
            raise InputError("the DICOM header has tens of thousands of elements, as no radiograph has")
        return super().read(size)


def parse(data: bytes) -> pydicom.Dataset:
    """The data set of a file's bytes in little endian; its file meta names the transfer syntax that the file has.

    Nothing is unpacked, and no more is read than a radiograph's header can have.

    Raises:
        InputError: it is deflated, or has absurdly many or long elements. pydicom's own errors pass.
    """
    if data[128:132] != b"DICM":
        data = PREAMBLE + data
    # The transfer syntax is judged first: a deflated data set could unpack to any size.
    stream = _Metered(data)
    stream.seek(len(PREAMBLE))
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None and syntax not in (*UNCOMPRESSED, *CODECS):
        raise InputError(
            f"its transfer syntax, {_named(syntax)}, cannot be read; convert it first, for example with "
            "'gdcmconv --raw IN OUT'"
        )
    dataset = pydicom.dcmread(_Metered(data), force=True)
    _check_lengths(dataset)
    if syntax is None:
        implicit, little = dataset.original_encoding
        syntax = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax if little else uid.ExplicitVRBigEndian
    if dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian:
        meta = dataset.file_meta
        dataset = _little_endian(dataset)
        dataset.file_meta = meta
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return dataset


def _named(identifier: str) -> str:
    """The name of a UID that DICOM defines, or its numbers; what else stands there could be a person's."""
    known = uid.UID(str(identifier))
    return known.name if known.name != known or known.is_valid else "one that DICOM does not define"


def _check_lengths(dataset: pydicom.Dataset) -> None:
    """Refuse megabytes in an element that will be decoded: a number of them would fill gigabytes."""
    big_endian = not dataset.original_encoding[1]
    for element in dataset.values():
        used = element.tag.group in (0x0008, 0x0018, 0x0020, 0x0028, 0x0054, 0x2050)
        # From big endian everything is decoded; binary values are one piece, however long.
        binary = element.VR in (*WORDS, "OB") or (element.VR == "UN" and element.tag.is_private)
        if (used or big_endian) and not binary and len(element.value or b"") > MAX_ELEMENT:
            raise InputError(f"header element {element.tag} is longer than 1 MiB, as in no radiograph")


def _little_endian(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """The same elements, decoded from big endian; pydicom leaves the words of binary values as they were."""
    converted = pydicom.Dataset()
    for element in dataset:
        if element.VR == "SQ":
            items = [_little_endian(item) for item in element.value]
            element = pydicom.DataElement(element.tag, "SQ", items)
        elif element.VR in WORDS and isinstance(element.value, bytes):
            size = WORDS[element.VR]
            whole = len(element.value) // size * size
            element.value = np.frombuffer(element.value[:whole], f"u{size}").byteswap().tobytes()
        converted.add(element)
    return converted


def _settle_modality(dataset: pydicom.Dataset) -> tuple[str, ...]:
    """Refuse what is no projection radiograph (slices and ultrasound look nothing like one), and name its Modality.

    Modality and SOP class are left in the data set as they are understood.

    Returns:
        What is doubtful about it.
    """
    named = [*texts(dataset, "SOPClassUID"), *texts(dataset.file_meta, "MediaStorageSOPClassUID")]
    kind = uid.UID(next(filter(None, named), ""))
    if kind == uid.MediaStorageDirectoryStorage or "DirectoryRecordSequence" in dataset:
        raise InputError("a DICOMDIR, the list of a disc; give one of the images that it names")
    if kind and not any(texts(dataset, "SOPClassUID")):
        dataset.SOPClassUID = kind
    of_class = CLASSES.get(kind)
    modalities = words(dataset, "Modality")
    if not modalities and of_class is None:
        told = f", and its SOP class is {_named(kind)}" if kind else ""
        raise InputError(f"the DICOM file names no Modality{told}; only CR, DX, MG and SC are known to be radiographs")
    if not all(name in MODALITIES or (name == "OT" and of_class == "SC") for name in modalities):
        told = f", as its SOP class {label(kind.name)} is" if of_class not in (None, "SC") else ""
        raise InputError(
            f"Modality is {quoted(dataset, 'Modality')}, which is not a projection radiograph{told}; use CR, DX, MG or "
            "SC"
        )
    notes = []
    if modalities and of_class is None and kind.name != kind:
        notes.append(
            f"Modality is {modalities[0]}, but the SOP class is {label(kind.name)}; check that it is a radiograph"
        )
    if not modalities:
        notes.append(f"the header names no Modality; {of_class} was taken from its SOP class, {kind.name}")
    elif len(set(modalities)) > 1:
        notes.append(f"Modality has several values, {quoted(dataset, 'Modality')}; {modalities[0]} was taken")
    dataset.Modality = modalities[0] if modalities else of_class
    return tuple(notes)


def _check_orientation(dataset: pydicom.Dataset) -> None:
    """Refuse a declared mirror, turn or plane that is not upright: 'left' would edit another part of the patient.

    Of oblique directions the first letter counts. Nothing is known of what is empty, or of other words.
    """
    rows, columns = (*(text[:1] for text in directions(dataset)), "", "")[:2]
    upright = rows in ("L", "A", "P") and columns == "F"
    known = set("LRAPHF")
    if not upright and (rows in known or columns in known) and (rows or "L", columns or "F") != ("L", "F"):
        raise InputError(
            f"PatientOrientation is {quoted(dataset, 'PatientOrientation')}: a mirrored or turned image, or one of "
            "another plane; store it upright with the patient's left on the right (L\\F), or correct the tag"
        )


def _padding(dataset: pydicom.Dataset, first: int, last: int) -> tuple[int, int] | None:
    """PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2), in either order."""
    value, limit = whole(dataset, "PixelPaddingValue"), whole(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = (value, value if limit is None else limit)
    # Some writers encode a negative padding value as unsigned.
    low, high = sorted(end - 65536 if first < 0 and end > last else end for end in ends)
    return low, high


def _lut(dataset: pydicom.Dataset, keyword: str, values: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Apply the first LUT of a sequence: the (n,) entries, and the bits that it declares and that its entries reach."""
    item = dataset[keyword].value[0]
    described = texts(item, "LUTDescriptor")
    if len(described) != 3 or not all(text.removeprefix("-").isdecimal() for text in described):
        raise InputError(f"the lookup table of {keyword} has no LUTDescriptor of three numbers; correct or remove it")
    size, first, bits = map(int, described)
    size = size & 0xFFFF or 0x10000
    first &= 0xFFFF
    # The first mapped value has the sign of what is mapped, whatever VR it was written with.
    if first > 0x7FFF and values.min() < 0:
        first -= 0x10000
    raw = item.get_item("LUTData")
    if raw is None:
        raise InputError(f"the lookup table of {keyword} has no LUTData; correct or remove it")
    if len(raw.value or b"") > MAX_ELEMENT:
        raise InputError("a lookup table is longer than 1 MiB, as in no radiograph")
    data = item.LUTData
    if not isinstance(data, bytes):
        data = (np.asarray(listed(data), dtype=np.int64) & 0xFFFF).astype("<u2").tobytes()
    # Entries of 8 bits may stand two in a word.
    packed = bits <= 8 and len(data) < 2 * size
    entries = np.frombuffer(data, np.uint8 if packed else "<u2", count=len(data) // (1 if packed else 2))[:size]
    if len(entries) < size:
        raise InputError(f"a lookup table is cut short: {len(entries)} of {size} entries")
    reached = max(1, int(entries.max()).bit_length())
    return tables.lookup(values, first, entries.astype(np.int64)), bits, reached


def _table(dataset: pydicom.Dataset, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Brightness of every storable value: modality LUT or rescale, VOI LUT or first window, MONOCHROME1.

    An image without either, or with a window that cannot be used, is shown like one of the other formats
    (`radiograph.from_file_values`).

    Returns:
        (n,) brightness, and what is doubtful about it.
    """
    notes = []
    if dataset.get("ModalityLUTSequence"):
        values, _, _ = _lut(dataset, "ModalityLUTSequence", values)
    else:
        slope, intercept = (number(dataset, key) for key in ("RescaleSlope", "RescaleIntercept"))
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
        # What float64 rounds to one value, or a header cannot hold as a window, is no display.
        if not np.diff(values).all() or not np.abs(values).max() < MAX_VALUE:
            raise InputError("RescaleSlope or RescaleIntercept is unusable; correct or remove them")

    table, kind = None, "VOI window"
    if dataset.get("VOILUTSequence"):
        kind = "VOI LUT"
        entries, declared, reached = _lut(dataset, "VOILUTSequence", values)
        table = entries / ((1 << reached) - 1)
        if reached < declared:
            notes.append(f"the VOI LUT declares {declared} bits, its entries reach {reached}; shown on their scale")
    else:
        try:
            center, width = (number(dataset, key, several=True) for key in ("WindowCenter", "WindowWidth"))
        except InputError as error:
            notes.append(f"VOI window: {str(error).partition(';')[0]}; the image is shown by the range of its values")
            _forget_window(dataset)
        else:
            if center is not None and width is not None:
                function = next(iter(words(dataset, "VOILUTFunction")), "LINEAR")
                if function not in tables.FUNCTIONS:
                    told = quoted(dataset, "VOILUTFunction")
                    raise InputError(f"VOILUTFunction is {told}; use one of {', '.join(tables.FUNCTIONS)}")
                table = tables.window(values, center, width, function)
    if table is not None and not tables.is_monotone(table):
        raise InputError("the lookup table rises and falls, so no edit can be stored; remove the LUT")
    # A LUT of one value is no display at all, and refused by the caller.
    if table is not None and not tables.is_telling(table, counts) and (kind == "VOI window" or np.ptp(table) > 0):
        notes.append(
            f"the {kind} shows nearly every pixel alike, as one of another bit depth; shown by the range of its values"
        )
        table = None
        _forget_window(dataset)
    if table is None:
        low, high = (values.min(), values.max()) if dataset.BitsStored == 8 else tables.robust_range(values, counts)
        if low == high:
            raise InputError("no contrast: the modality LUT maps every pixel to one value")
        table = tables.ramp(values, low, high)
    if not tables.is_monotone(table):
        raise InputError("the lookup table rises and falls, so no edit can be stored; remove the LUT")
    return (1 - table if dataset.PhotometricInterpretation == "MONOCHROME1" else table), notes


def _forget_window(dataset: pydicom.Dataset) -> None:
    """Take an unusable window or LUT out of the header, so that an edit is shown as its source was."""
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"):
        if keyword in dataset:
            del dataset[keyword]
