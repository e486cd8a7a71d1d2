"""Feed damaged and hostile images to the reader, and count how it ends.

    python benchmarks/fuzz_inputs.py --count 10000 --seed 0 --out fuzz

Every input is one of the seeds below, which are made here, with one to three mutations. A worker process reads it;
what can be read is also taken through the display and back, written, and read again. An input ends as

    read      a Radiograph whose display gives its own pixels back, and whose file holds them
    refused   an InputError of one printable line (or OutputError, for what can be read but not written)
    crash     any other exception, a broken promise of the above, a file left behind, or a signal
    hang      more than --seconds
    memory    more than --memory GiB above what the worker needs by itself

The last three are failures: their inputs are kept in OUT, and the exit code is 1. The same seed gives the same inputs.
Not for continuous integration: 10,000 inputs take about half an hour. POSIX only.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from rich.console import Console
from rich.progress import Progress

OUTCOMES = ("read", "refused", "crash", "hang", "memory")
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


def png_bomb(data: bytes, rng: random.Random) -> bytes:
    """A few kilobytes that unpack to the largest image, to more than the image, or to a huge text."""
    side, kind = rng.choice((32, 3_000, 9_999)), rng.choice((b"IDAT", b"zTXt", b"iCCP"))
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0))
    packed = zlib.compress(bytes(50_000_000), 9) if kind == b"IDAT" else b"a\0\0" + zlib.compress(bytes(50_000_000), 9)
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
    return data[:at] + rng.choice((deep, start + empty * 300_000 + end)) + data[at:]


def dicom_deflated(data: bytes, rng: random.Random) -> bytes:
    """The data set deflated, or a bomb in its place, with a transfer syntax that says so."""
    end = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = packer.compress(data[end:] + bytes(rng.choice((0, 200_000_000)))) + packer.flush()
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
    "PNG": (*ANY, png_header, png_header, png_bomb),
    "JPEG": (*ANY, jpeg_frame, jpeg_frame, jpeg_scans),
    "TIFF": (*ANY, tiff_entry, tiff_entry, tiff_entry),
    "DICOM": (*ANY, dicom_element, dicom_element, dicom_tags, dicom_tags, jpeg_frame, dicom_nested, dicom_deflated),
}
SEEDS = seeds()
SYNTAXES = tuple(syntax for syntax in uid.UID_dictionary if uid.UID(syntax).type == "Transfer Syntax")


def hostile(index: int, seed: int) -> tuple[str, bytes]:
    """The name of a seed, and its mutated bytes; the same for the same two numbers."""
    rng = random.Random(f"{seed}, {index}")
    name = list(SEEDS)[index % len(SEEDS)]
    data = SEEDS[name]
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = attempted(rng.choice(MUTATIONS[name.split()[0]]))(data, rng) or b"\0"
    return name, data


# The worker.


def judge(folder: Path, path: Path) -> tuple[str, str]:
    """How one input ends, and the line that says why."""
    from instructx2x.errors import InputError, OutputError
    from instructx2x.imaging import edited_suffix, read, write

    before = sorted(folder.iterdir())
    try:
        radiograph = read(path)
        everywhere = np.ones(radiograph.pixels.shape, bool)
        again = radiograph.with_display(radiograph.display(), everywhere)
        if not np.array_equal(again.pixels, radiograph.pixels):
            return "crash", "the display does not give the pixels back"
        edited = folder / f"edited{edited_suffix(radiograph)}"
        write(again, edited, text={"Synthetic": "yes"})
        copy = read(edited)
        edited.unlink()
        if edited.suffix != ".png" and not np.array_equal(copy.pixels, radiograph.pixels):
            return "crash", "the file does not give the pixels back"
        outcome, line = "read", ""
    except (InputError, OutputError) as error:
        line = str(error).replace(str(path), "FILE")
        outcome = "memory" if isinstance(error.__cause__, MemoryError) else "refused"
        if not line.isprintable():
            return "crash", f"not one printable line: {line!r}"
    except MemoryError:
        return "memory", "MemoryError"
    except Exception as error:
        return "crash", repr(error)[:200]
    if sorted(folder.iterdir()) != before:
        return "crash", f"left behind: {sorted(set(folder.iterdir()) - set(before))}"
    return outcome, line


def work(pipe, seed: int, memory: float, folder: str) -> None:
    """Judge every index that comes through the pipe, until None."""
    import instructx2x.imaging  # noqa: F401  (what it needs by itself must not count)

    warnings.simplefilter("ignore")  # of pydicom, about what the mutations write
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    tempfile.tempdir = folder
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    while (index := pipe.recv()) is not None:
        path = Path(folder) / "input"
        path.write_bytes(hostile(index, seed)[1])
        started = time.monotonic()
        outcome, line = judge(Path(folder), path)
        pipe.send((outcome, line, time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Worker:
    """A process that is started anew after each that had to be ended."""

    def __init__(self, seed: int, seconds: float, memory: float) -> None:
        self.arguments, self.seconds, self.process = (seed, memory), seconds, None

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        self.pipe, other = context.Pipe()
        seed, memory = self.arguments
        self.process = context.Process(target=work, args=(other, seed, memory, self.folder.name), daemon=True)
        self.process.start()
        other.close()

    def stop(self) -> None:
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join()
        self.folder.cleanup()
        self.process = None

    def judge(self, index: int) -> tuple[str, str, float, int]:
        """Outcome, line, seconds and the process's peak memory so far in KiB."""
        if self.process is None:
            self.start()
            self.judge(index)  # imports on first use are not the input's time
        self.pipe.send(index)
        try:
            # The clock of the machine may be shared: the worker's own time decides, this only ends what never does.
            if not self.pipe.poll(3 * self.seconds + 20):
                self.stop()
                return "hang", "never ended", self.seconds, 0
            outcome, line, spent, peak = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self.stop()
            return "crash", f"the process ended with {code}", 0.0, 0
        return ("hang" if spent > self.seconds else outcome), line, spent, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="index of the first input, to try one again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--memory", type=float, default=2, help="GiB above the worker's own")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="folder for inputs that fail")
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    worker = Worker(options.seed, options.seconds, options.memory)
    counts, slowest, peak, lines = defaultdict(Counter), defaultdict(float), 0, Counter()
    with Progress(console=Console(stderr=True)) as progress:
        for index in progress.track(range(options.first, options.first + options.count), description="inputs"):
            outcome, line, spent, memory = worker.judge(index)
            name, data = hostile(index, options.seed)
            kind = name if name.startswith("DICOM") else name.split()[0]
            counts[kind][outcome] += 1
            slowest[kind], peak = max(slowest[kind], spent), max(peak, memory)
            lines[line] += outcome == "refused"
            if outcome not in ("read", "refused"):
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / f"{outcome}-{options.seed}-{index}").write_bytes(data)
                print(f"{outcome} {index} ({name}): {line}", file=sys.stderr, flush=True)
    worker.stop()

    print(f"| inputs | {' | '.join(OUTCOMES)} | slowest, s |\n|---|{'---:|' * (len(OUTCOMES) + 1)}")
    for kind in counts:
        print(f"| {kind} | {' | '.join(str(counts[kind][outcome]) for outcome in OUTCOMES)} | {slowest[kind]:.1f} |")
    total = sum(counts.values(), Counter())
    cells = " | ".join(str(total[outcome]) for outcome in OUTCOMES)
    print(f"| **all {total.total()}** | {cells} | {max(slowest.values()):.1f} |")
    vague = sum(count for line, count in lines.items() if "of a rare kind" in line)
    print(f"\nThe reader's own peak memory: {peak / 2**20:.2f} GiB.", end=" ")
    print(f"{vague} of the {total['refused']} refusals say no more than that the file is damaged.")
    return int(total["read"] + total["refused"] < total.total())


if __name__ == "__main__":
    sys.exit(main())
