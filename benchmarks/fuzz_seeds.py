"""Valid images of every kind that is read, and mutations of them, for `fuzz_inputs.py`.

The files are made here, from gradients and noise; the mutations take and return the bytes of a file.
"""

from __future__ import annotations

import io
import random
import struct
import zlib

import imagecodecs
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

NUMBERS = (0, 1, 2, 7, 9, 31, 32, 127, 255, 256, 32767, 32768, 65534, 65535, 2**31 - 1, 2**31, 2**32 - 1)
KEYWORDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames",
    "SamplesPerPixel", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PhotometricInterpretation", "Modality", "PatientOrientation", "VOILUTFunction",
    "SpecificCharacterSet", "ImageType", "SeriesDescription", "SOPClassUID", "TransferSyntaxUID",
)  # fmt: skip


# Seeds.


def picture(bits: int) -> np.ndarray:
    """(56, 72) unsigned gradients with noise, over the whole range of `bits`."""
    rows, columns = np.mgrid[0:56, 0:72]
    waves = np.sin(rows / 9) + np.cos(columns / 7) + 0.05 * np.random.default_rng(0).normal(size=rows.shape)
    pixels = np.round((waves - waves.min()) / np.ptp(waves) * ((1 << bits) - 1))
    return pixels.astype(np.uint8 if bits == 8 else np.uint16)


def with_pillow(pixels: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def with_tifffile(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


def rle(pixels: np.ndarray) -> bytes:
    segments = [imagecodecs.packbits_encode((pixels >> shift).astype(np.uint8).tobytes()) for shift in (8, 0)]
    return struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13) + b"".join(segments)


def header(pixels: np.ndarray, bits: int, **tags) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    defaults = {
        "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "DX",
        "PatientName": "Seed^Synthetic",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": 1 << (bits - 1),
        "WindowWidth": 1 << bits,
    }
    for keyword, value in (defaults | tags).items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: pydicom.Dataset, syntax: str, body: bytes, encapsulated: bool) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.add_new("PixelData", "OB" if encapsulated else "OW", encapsulate([body]) if encapsulated else body)
    dataset["PixelData"].is_undefined_length = encapsulated
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def lut(entries: list[int]) -> list[pydicom.Dataset]:
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), 0, 12], entries
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return [item]


def dicom_seeds() -> dict[str, bytes]:
    """One file of every transfer syntax that is read, and of other header elements that are used."""
    twelve, eight = picture(12), picture(8)
    jpeg = imagecodecs.jpeg8_encode
    plain = {
        "implicit": (header(twelve, 12, PixelPaddingValue=0), uid.ImplicitVRLittleEndian, twelve.tobytes()),
        "explicit": (
            header(twelve, 12, RescaleSlope=2, RescaleIntercept=9),
            uid.ExplicitVRLittleEndian,
            twelve.tobytes(),
        ),
        "lut": (header(twelve, 12, VOILUTSequence=lut([*range(4096)])), uid.ExplicitVRLittleEndian, twelve.tobytes()),
        "big endian": (header(twelve, 12), uid.ExplicitVRBigEndian, twelve.byteswap().tobytes()),
    }
    compressed = {
        "RLE": (twelve, 12, uid.RLELossless, rle(twelve)),
        "JPEG baseline": (eight, 8, uid.JPEGBaseline8Bit, jpeg(eight)),
        "JPEG extended": (twelve, 12, uid.JPEGExtended12Bit, jpeg(twelve, bitspersample=12)),
        "JPEG lossless": (
            twelve, 12, uid.JPEGLossless, jpeg(twelve, lossless=True, predictor=6, bitspersample=12)
        ),
        "JPEG lossless SV1": (
            twelve, 12, uid.JPEGLosslessSV1, jpeg(twelve, lossless=True, predictor=1, bitspersample=12)
        ),
        "JPEG-LS": (twelve, 12, uid.JPEGLSLossless, imagecodecs.jpegls_encode(twelve)),
        "JPEG-LS near": (twelve, 12, uid.JPEGLSNearLossless, imagecodecs.jpegls_encode(twelve, level=3)),
        "JPEG 2000 lossless": (
            twelve, 12, uid.JPEG2000Lossless,
            imagecodecs.jpeg2k_encode(twelve, level=0, codecformat="j2k", bitspersample=12, reversible=True),
        ),
        "JPEG 2000": (
            twelve, 12, uid.JPEG2000, imagecodecs.jpeg2k_encode(twelve, level=50, codecformat="j2k", bitspersample=12)
        ),
        "HTJ2K": (twelve, 12, uid.HTJ2KLossless, imagecodecs.htj2k_encode(twelve)),
    }  # fmt: skip
    files = {name: saved(dataset, syntax, body, False) for name, (dataset, syntax, body) in plain.items()}
    for name, (pixels, bits, syntax, body) in compressed.items():
        files[name] = saved(header(pixels, bits), syntax, body, True)
    return {f"DICOM {name}": data for name, data in files.items()}


def seeds() -> dict[str, bytes]:
    """Name -> a valid file of every kind that is read; the first word is its format."""
    eight, sixteen = picture(8), picture(16)
    colour = np.stack([eight] * 3, axis=-1)
    signed = sixteen.view(np.int16)
    files = {
        "PNG 8": with_pillow(eight, "PNG"),
        "PNG 16": with_pillow(sixteen, "PNG"),
        "PNG colour": with_pillow(colour, "PNG"),
        "JPEG gray": with_pillow(eight, "JPEG"),
        "JPEG colour, progressive": with_pillow(colour, "JPEG", progressive=True),
        "TIFF 8": with_tifffile(eight),
        "TIFF 16, signed": with_tifffile(signed),
        "TIFF 16, big endian": with_tifffile(sixteen, byteorder=">", photometric="miniswhite"),
        "TIFF 16, BigTIFF": with_tifffile(sixteen, bigtiff=True, rowsperstrip=8),
        "TIFF 8, JPEG": with_pillow(eight, "TIFF", compression="jpeg"),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"):
        files[f"TIFF 16, {compression}"] = with_pillow(sixteen, "TIFF", compression=compression)
    return files | dicom_seeds()


# Mutations: each takes and returns the bytes of a file.


def flip(data: bytes, rng: random.Random) -> bytes:
    """Other bytes at random places; half of the time all in the header."""
    body, end = bytearray(data), rng.choice((len(data), min(len(data), 700)))
    for _ in range(rng.randint(1, 12)):
        body[rng.randrange(end)] = rng.randrange(256)
    return bytes(body)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def splice(data: bytes, rng: random.Random) -> bytes:
    """A piece cut out, doubled, zeroed, or replaced by a piece of another seed."""
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    end = min(end, start + rng.choice((1, 4, 64, 4096)))
    other = rng.choice(list(SEEDS.values()))
    at = rng.randrange(len(other))
    piece = rng.choice((b"", data[start:end] * 2, bytes(end - start), other[at : at + end - start]))
    return data[:start] + piece + data[end:]


def number(data: bytes, rng: random.Random) -> bytes:
    """A number of two or four bytes, of either order, set to one that programs stumble over."""
    kind = rng.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    at = rng.randrange(min(max(1, len(data) - size), rng.choice((400, 1000, 1 << 20))))
    return data[:at] + struct.pack(kind, rng.choice(NUMBERS) % (1 << 8 * size)) + data[at + size :]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(data: bytes, rng: random.Random) -> bytes:
    """Another IHDR, with a right checksum."""
    width, height = (rng.choice((*NUMBERS, 40, 56, 72, 9_000, 10_000)) % 2**31 for _ in range(2))
    depth, colour = rng.choice((1, 2, 4, 8, 16, 32)), rng.choice((0, 2, 3, 4, 6, 9))
    body = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 0, 1)))
    return data[:8] + chunk(b"IHDR", body) + data[33:]


def png_body(data: bytes, rng: random.Random) -> bytes:
    """Other bytes in the deflate stream, or in the rows that it holds, with right checksums."""
    at = data.find(b"IDAT")
    (length,) = struct.unpack(">I", data[at - 4 : at])
    body = data[at + 4 : at + 4 + length]
    body = flip(body, rng) if rng.random() < 0.5 else zlib.compress(flip(zlib.decompress(body), rng))
    return data[: at - 4] + chunk(b"IDAT", body) + data[at + 8 + length :]


def png_bomb(data: bytes, rng: random.Random) -> bytes:
    """A few kilobytes that unpack to the largest image, to more than the image, or to a huge text."""
    side, kind = rng.choice((32, 3_000, 9_999)), rng.choice((b"IDAT", b"zTXt", b"iCCP"))
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0))
    packed = ZEROS if kind == b"IDAT" else b"a\0\0" + ZEROS
    return data[:8] + ihdr + chunk(kind, packed) + data[33:]


def jpeg_frame(data: bytes, rng: random.Random) -> bytes:
    """Another precision, size or number of components in the frame header."""
    at = next(
        (data.find(b"\xff" + bytes([sof])) for sof in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7) if bytes([255, sof]) in data), 0
    )
    field = rng.choice((4, 5, 6, 7, 8, 9))
    return data[: at + field] + bytes([rng.choice((0, 1, 2, 3, 8, 12, 16, 17, 255))]) + data[at + field + 1 :]


def jpeg_scans(data: bytes, rng: random.Random) -> bytes:
    """A progressive image of the largest size whose scans repeat without end."""
    at, scan = data.find(b"\xff\xc2"), data.find(b"\xff\xda")
    if at < 0:
        return data
    body = bytearray(data)
    body[at + 5 : at + 9] = struct.pack(">HH", *rng.choice(((9_990, 9_990), (3_000, 3_000), (56, 72))))
    after = data.find(b"\xff\xda", scan + 2)
    return bytes(body[:after]) + bytes(body[scan:after]) * rng.choice((50, 2_000)) + bytes(body[after:])


def jpeg_segments(data: bytes, rng: random.Random) -> bytes:
    """Megabytes of Exif, comments, tables or fill bytes, in the head, between the scans or at the end."""
    piece = rng.choice(
        (b"\xff\xe1\x00\x0aExif\0\0aa", b"\xff\xfe\x00\x03a", b"\xff\xdb\x00\x02", b"\xff" * 8, b"\xff\xd8")
    )
    start = max(0, data.find(b"\xff\xd8\xff"))
    at = rng.choice((start + 2, max(2, data.rfind(b"\xff\xda")), max(2, data.rfind(b"\xff\xd9"))))
    return data[:at] + piece * (rng.choice((10**4, 10**6, 10**7)) // len(piece)) + data[at:]


def jpeg_exif(data: bytes, rng: random.Random) -> bytes:
    """An Exif block with entries that claim it whole, or a directory that follows itself."""
    count = rng.choice((1, 100, 5_000))
    entries = b"".join(
        struct.pack("<HHII", rng.randrange(65536), rng.choice((2, 4, 7)), 60_000, 8) for _ in range(count)
    )
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", 8)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", min(65_535, len(block) + 2)) + block[:65_533] + data[2:]


def png_chunks(data: bytes, rng: random.Random) -> bytes:
    """Very many chunks, or long ones."""
    kind, size = rng.choice((b"tEXt", b"zTXt", b"eXIf", b"IDAT", b"tRNS", b"acTL")), rng.choice((0, 4, 10**6))
    return data[:33] + chunk(kind, b"a\0" * (size // 2)) * (rng.choice((10**4, 10**7)) // (size + 12) + 1) + data[33:]


def tiff_directory(data: bytes, rng: random.Random) -> bytes:
    """A long directory, values of megabytes, or millions of strips, in the place of the file's own."""
    order, mark = rng.choice((("<", b"II*\0"), (">", b"MM\0*")))
    usual = [(256, 3, 56), (257, 3, 72), (258, 3, 8), (259, 3, rng.choice((1, 5, 7, 8))), (262, 3, 1), (277, 3, 1)]
    entries = [struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0) for tag, kind, value in usual]
    for _ in range(rng.choice((2, 1_000, 60_000))):
        tag = rng.choice((273, 279, 324, 325, 330, 34665, 34675, rng.randrange(65536)))
        entries.append(struct.pack(f"{order}HHII", tag, rng.choice((1, 3, 4, 7)), rng.choice(NUMBERS), 8))
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + b"".join(entries) + bytes(4) + data


def other_format(data: bytes, rng: random.Random) -> bytes:
    """PostScript that never ends, archives, and what else an image library might open, under a picture's name."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 72 56\n{} loop\n%%EOF\n"
    archive = io.BytesIO()
    np.savez_compressed(archive, mask=np.zeros(10**6))
    return rng.choice(
        (
            postscript,
            b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(postscript)) + bytes(22) + postscript,
            archive.getvalue(),
            b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + data,
            b"GIF89a" + data,
            b"BM" + data,
            b"RIFF" + data[:4] + b"WEBP" + data,
            b"\0\0\0\x0cjP  \r\n\x87\n" + data,
        )
    )


def dicom_words(data: bytes, rng: random.Random) -> bytes:
    """Elements with text that their VR forbids."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    texts = (
        b"2048,0",
        b"\\2048",
        b"AUTO",
        b"nan",
        b"1_0",
        b"dx",
        b" DX",
        b"CR\\DX",
        b"F\\L",
        b"\0\0",
        b"9" * 400,
        b"\xff\xfe",
    )
    for keyword in rng.sample(KEYWORDS[:19], rng.randint(1, 3)):
        tag, value = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(keyword)), rng.choice(texts)
        vr = rng.choice(("DS", "IS", "CS", "UN", "LO"))
        dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def dicom_fragments(data: bytes, rng: random.Random) -> bytes:
    """An absurd table of offsets, or very many fragments."""
    at, item = data.rfind(b"\xe0\x7f\x10\x00"), b"\xfe\xff\x00\xe0"
    if at < 0:
        return data
    table = item + struct.pack("<I", rng.choice(NUMBERS)) + bytes(rng.choice((0, 8, 10**6)))
    return data[: at + 12] + table + (item + bytes(4)) * rng.choice((0, 1, 200_000)) + data[at + 20 :]


def tiff_entry(data: bytes, rng: random.Random) -> bytes:
    """An IFD entry with another type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    at = start + (8 if big else 2) + (20 if big else 12) * rng.randrange(12)
    field, kind = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
    kind = order + kind
    value = rng.choice((*NUMBERS, *range(254, 285), 317, 322, 323, 324, 325, 339))
    body = bytearray(data) + bytes(32)
    if at + 20 < len(body):
        struct.pack_into(kind, body, at + field, value % (1 << 8 * struct.calcsize(kind)))
    return bytes(body)


def dicom_element(data: bytes, rng: random.Random) -> bytes:
    """Another length, VR or value of a header element that the reader uses."""
    tag = rng.choice(
        ((0x28, 0x10), (0x28, 0x11), (0x28, 0x100), (0x28, 0x101), (0x28, 0x102), (0x28, 0x103), (0x28, 2), (0x28, 4),
         (0x28, 0x1050), (0x28, 0x1051), (0x28, 0x1053), (0x28, 0x120), (0x28, 0x3010), (8, 0x60), (8, 0x16), (2, 0x10),
         (0x7FE0, 0x10), (0xFFFE, 0xE000))
    )  # fmt: skip
    at = data.find(struct.pack("<HH", *tag), 132)
    if at < 0:
        return number(data, rng)
    where = at + rng.choice((4, 6, 8, 10, 12))
    value = rng.choice(
        (struct.pack("<H", rng.choice(NUMBERS) % 65536), struct.pack("<I", rng.choice(NUMBERS)), b"SQ", b"UN")
    )
    return data[:where] + value + data[where + len(value) :]


def dicom_tags(data: bytes, rng: random.Random) -> bytes:
    """A valid file with absurd values, written by pydicom."""
    values = (*NUMBERS, -1, "", "nan", "inf", "1e400", "-0", "1\\2\\3", "x" * 70_000)
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    for keyword in rng.sample(KEYWORDS, rng.randint(1, 3)):
        target = dataset.file_meta if keyword == "TransferSyntaxUID" else dataset
        setattr(target, keyword, rng.choice((*values, *SYNTAXES) if keyword == "TransferSyntaxUID" else values))
    if rng.random() < 0.3:
        entries = [rng.choice(NUMBERS) % 65536 for _ in range(rng.choice((1, 2, 4096)))]
        setattr(dataset, rng.choice(("VOILUTSequence", "ModalityLUTSequence")), lut(entries))
    if rng.random() < 0.2:
        for element, value in ((0x10, 56), (0x11, 72), (0x100, 16), (0x102, rng.choice(NUMBERS) % 65536)):
            dataset.add_new((0x6000, element), "US", value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def dicom_nested(data: bytes, rng: random.Random) -> bytes:
    """Sequences within sequences, or a sequence of very many empty items, of undefined length."""
    at = data.find(b"\x28\x00\x02\x00", 132)
    start = b"\x08\x00\x12\x11SQ\0\0" + b"\xff" * 4
    item, empty = b"\xfe\xff\x00\xe0" + b"\xff" * 4, b"\xfe\xff\x00\xe0" + bytes(4)
    end = b"\xfe\xff\xdd\xe0" + bytes(4)
    deep = (start + item) * rng.choice((50, 500, 20_000))
    return data[:at] + rng.choice((deep, start + empty * 100_000 + end)) + data[at:]


def dicom_deflated(data: bytes, rng: random.Random) -> bytes:
    """The data set deflated, or a bomb in its place, with a transfer syntax that says so."""
    end = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = packer.compress(data[end:]) + packer.flush()
    # The deflate stream of the zeros, without zlib's header and checksum.
    body = rng.choice((body, ZEROS[2:-4]))
    meta = data[:end].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    return meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:] + body


def attempted(mutation):
    """The mutation, or the input as it is where another mutation has left nothing for this one to hold on to."""

    def attempt(data: bytes, rng: random.Random) -> bytes:
        try:
            return mutation(data, rng)
        except Exception:
            return data

    return attempt


ANY = (flip, flip, truncate, splice, splice, number, number)
MUTATIONS = {
    "PNG": (*ANY, png_header, png_header, png_body, png_body, png_body, png_bomb, png_chunks, other_format),
    "JPEG": (*ANY, jpeg_frame, jpeg_frame, jpeg_scans, jpeg_segments, jpeg_segments, jpeg_exif, other_format),
    "TIFF": (*ANY, tiff_entry, tiff_entry, tiff_entry, tiff_directory, tiff_directory, jpeg_segments, other_format),
    "DICOM": (
        *(*ANY, dicom_element, dicom_element, dicom_tags, dicom_tags, jpeg_frame, dicom_nested, dicom_deflated),
        *(dicom_words, dicom_words, dicom_fragments, jpeg_segments),
    ),
}
ZEROS = zlib.compress(bytes(200_000_000), 9)
SEEDS = seeds()
NAMES = tuple(SEEDS)
SYNTAXES = tuple(syntax for syntax in uid.UID_dictionary if uid.UID(syntax).type == "Transfer Syntax")


def name(index: int) -> str:
    """The seed that an input is made of."""
    return NAMES[index % len(NAMES)]


def hostile(index: int, seed: int) -> bytes:
    """One to three mutations of a seed; the same for the same two numbers."""
    rng = random.Random(f"{seed}, {index}")
    data = SEEDS[name(index)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = attempted(rng.choice(MUTATIONS[name(index).split()[0]]))(data, rng) or b"\0"
    return data
