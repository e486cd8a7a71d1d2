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
from .header import listed
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
    dataset = _parse(data)
    _check_modality(dataset)
    _check_orientation(dataset)
    warnings = cautions.of(dataset)
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
    table = _table(dataset, values, counts)
    if np.ptp(table[counts > 0]) == 0:
        raise InputError("no contrast: the VOI window shows every pixel alike; correct or remove it")
    lossy = lossy or dataset.get("LossyImageCompression") == "01"
    return Radiograph(pixels, table, first, bits, "dicom", lossy, dataset, path, padding, warnings)


class _Metered(BytesIO):
    """A stream that refuses to be read in more pieces than a radiograph's header can have."""

    pieces = 0

    def read(self, size=-1):
        self.pieces += 1
        if self.pieces > MAX_READS:
            raise InputError("the DICOM header has tens of thousands of elements, as no radiograph has")
        return super().read(size)


def _parse(data: bytes) -> pydicom.Dataset:
    """The data set in little endian; its file meta always names the transfer syntax that the file has."""
    if data[128:132] != b"DICM":
        data = PREAMBLE + data
    # The transfer syntax is judged first: a deflated data set could unpack to any size.
    stream = _Metered(data)
    stream.seek(len(PREAMBLE))
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None and syntax not in (*UNCOMPRESSED, *CODECS):
        name = label(uid.UID(str(syntax)).name)
        raise InputError(
            f"transfer syntax {name} cannot be read; convert it first, for example with 'gdcmconv --raw IN OUT'"
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


def _check_lengths(dataset: pydicom.Dataset) -> None:
    """Refuse megabytes in an element that will be decoded: a number of them would fill gigabytes."""
    big_endian = not dataset.original_encoding[1]
    for element in dataset.values():
        used = element.tag.group in (0x0008, 0x0018, 0x0020, 0x0028)
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


def _check_modality(dataset: pydicom.Dataset) -> None:
    """Refuse what is no projection radiograph: slices and ultrasound look nothing like one."""
    modality = dataset.get("Modality")
    if not modality:
        raise InputError("the DICOM file names no Modality; only CR, DX, MG and SC are known to be radiographs")
    scanned = modality == "OT" and str(dataset.get("SOPClassUID")).startswith(uid.SecondaryCaptureImageStorage)
    if modality not in MODALITIES and not scanned:
        name = str(modality)[:16]
        raise InputError(f"modality {name!r} is not a projection radiograph; use CR, DX, MG or SC")


def _check_orientation(dataset: pydicom.Dataset) -> None:
    """Refuse a declared mirror or upside-down image: 'left' would edit the patient's right."""
    directions = [str(part) for part in listed(dataset.get("PatientOrientation"))]
    if len(directions) == 2 and (directions[0].startswith("R") or directions[1].startswith("H")):
        raise InputError(
            "PatientOrientation says the image is mirrored or upside down; store it with the patient's left "
            "on the right, head up (L\\F), or correct the tag"
        )


def _padding(dataset: pydicom.Dataset, first: int, last: int) -> tuple[int, int] | None:
    """PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2), in either order."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    # Some writers encode a negative padding value as unsigned.
    low, high = sorted(end - 65536 if first < 0 and end > last else end for end in ends)
    return low, high


def _lut(item: pydicom.Dataset, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Apply the first LUT of a sequence: the (n,) entries, and the full scale that their bits allow."""
    size, first, bits = (int(part) for part in item.LUTDescriptor)
    size = size & 0xFFFF or 0x10000
    first &= 0xFFFF
    # The first mapped value has the sign of what is mapped, whatever VR it was written with.
    if first > 0x7FFF and values.min() < 0:
        first -= 0x10000
    if len(item.get_item("LUTData").value or b"") > MAX_ELEMENT:
        raise InputError("a lookup table is longer than 1 MiB, as in no radiograph")
    data = item.LUTData
    if isinstance(data, bytes):
        entries = np.frombuffer(data, "<u2" if len(data) >= 2 * size else np.uint8)[:size].astype(np.int64)
    else:
        entries = np.asarray(listed(data), dtype=np.int64)[:size] & 0xFFFF
    if len(entries) < size:
        raise InputError(f"a lookup table is cut short: {len(entries)} of {size} entries")
    # A table that needs more bits than it declares is believed.
    scale = (1 << max(bits, int(entries.max()).bit_length())) - 1
    return tables.lookup(values, first, entries), scale


def _table(dataset: pydicom.Dataset, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Brightness of every storable value: modality LUT or rescale, VOI LUT or first window, MONOCHROME1.

    An image without either is shown like one of the other formats (`radiograph.from_file_values`).
    """
    if dataset.get("ModalityLUTSequence"):
        values, _ = _lut(dataset.ModalityLUTSequence[0], values)
    else:
        slope, intercept = (_number(dataset, key) for key in ("RescaleSlope", "RescaleIntercept"))
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
        if not np.isfinite(values).all() or values[0] == values[-1]:
            raise InputError("RescaleSlope or RescaleIntercept is unusable; correct or remove them")

    center, width = (_number(dataset, key) for key in ("WindowCenter", "WindowWidth"))
    if dataset.get("VOILUTSequence"):
        entries, scale = _lut(dataset.VOILUTSequence[0], values)
        table = entries / scale
    elif center is not None and width is not None:
        table = tables.window(values, center, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper())
    else:
        whole = dataset.BitsStored == 8
        low, high = (values.min(), values.max()) if whole else tables.robust_range(values, counts)
        if low == high:
            raise InputError("no contrast: the modality LUT maps every pixel to one value")
        table = tables.ramp(values, low, high)
    if not tables.is_monotone(table):
        raise InputError("the lookup table rises and falls, so no edit can be stored; remove the LUT")
    return 1 - table if dataset.PhotometricInterpretation == "MONOCHROME1" else table


def _number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The first value of a numeric element, or None where it is absent or empty."""
    numbers = listed(dataset.get(keyword))
    return float(numbers[0]) if numbers else None
