"""Decode one compressed DICOM frame: a script that `compressed.decode` runs in a process of its own.

A codestream can be built to crash, hang or exhaust a decoder written in C. Here that ends this process and
nothing else. The script imports nothing of the package, so it starts quickly.

    python decoder.py CODEC ROWS COLUMNS SECONDS < codestream > pixels

The output is one line with NumPy's name of the dtype, then ROWS x COLUMNS values in the machine's byte order.
"""

import struct
import sys

import imagecodecs
import numpy as np


def limit(pixels: int, seconds: int) -> None:
    """Bound the memory and processor time of this process, where the system can (POSIX)."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return
    # OpenJPEG holds two copies of 4 bytes a pixel; the input and the output come on top.
    wanted = used + (1 << 30) + 16 * pixels
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def rle(data: bytes, rows: int, columns: int) -> np.ndarray:
    """DICOM PS3.5 annex G: one PackBits segment per byte of a pixel, the high byte first."""
    count, *offsets = struct.unpack("<16I", data[:64])
    if count not in (1, 2):
        raise ValueError("segments")
    ends = [*offsets[1:count], len(data)]
    planes = []
    for start, end in zip(offsets[:count], ends, strict=True):
        plane = np.frombuffer(imagecodecs.packbits_decode(data[start:end]), np.uint8)
        # Encoders may pad a segment; a short one is damage.
        planes.append(plane[: rows * columns].reshape(rows, columns))
    pixels = planes[0].astype(f"u{count}")
    for plane in planes[1:]:
        pixels = (pixels << 8) | plane
    return pixels


def main() -> None:
    """Read, decode, check the size, write."""
    codec, *sizes = sys.argv[1:]
    rows, columns, seconds = map(int, sizes)
    limit(rows * columns, seconds)
    data = sys.stdin.buffer.read()
    if codec == "rle":
        pixels = rle(data, rows, columns)
    else:
        pixels = getattr(imagecodecs, f"{codec}_decode")(data)
    if pixels.shape != (rows, columns) or pixels.dtype.kind not in "iu":
        raise ValueError("not the announced image")
    sys.stdout.buffer.write(f"{pixels.dtype.name}\n".encode())
    np.ascontiguousarray(pixels).tofile(sys.stdout.buffer)


if __name__ == "__main__":
    main()
