"""What a file holds, told apart from what it is called."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

from instructx2x.errors import InputError

MAX_TEXT = 256 << 20  # bytes


def label(path: str | os.PathLike) -> str:
    """The path as one printable line, for messages; file names may hold anything."""
    return str(path) if str(path).isprintable() else repr(str(path))


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file to read its bytes. A pipe, socket or device is refused at once and never waited for.

    Raises:
        InputError: it is not there, no regular file, or cannot be read; the line names it.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for someone who writes into it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        number = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise InputError(f"{label(path)}: not a file but a folder or device; name one file")
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def contents(path: str | os.PathLike, most: int) -> bytes:
    """All bytes of a regular file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        InputError: as `open_regular`, or it is empty or larger than `most`.
    """
    with open_regular(path) as file:
        # What has no size of its own, as the files of /proc, could give bytes without end or wait for them.
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise InputError(f"{label(path)}: the file is empty")
        if size > most:
            raise InputError(f"{label(path)}: larger than {_told(most)}, which no such file is")
        try:
            data = file.read(size)
        except OSError as error:
            raise _refused(path, error) from error
    if not data:
        raise InputError(f"{label(path)}: the file is empty")
    return data


def text(path: str | os.PathLike, most: int = MAX_TEXT) -> str:
    """The text of a regular file in UTF-8, packed by gzip or not.

    Args:
        path: the file.
        most: bytes that it may have, unpacked.

    Raises:
        InputError: as `contents`, or it is damaged, no text in UTF-8, or unpacks to more than `most`.
    """
    data = contents(path, most)
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(most + 1)
            if len(data) > most:
                raise InputError(f"{label(path)}: larger than {_told(most)} when unpacked, which no such file is")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{label(path)}: damaged, or cut short; get an intact copy") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{label(path)}: no text in UTF-8; save it as UTF-8") from error


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        InputError: the file cannot be read.
    """
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _refused(path, error) from error


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names.

    Raises:
        InputError: something cannot be read.
    """
    if not path.is_dir():
        return digest(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{digest(path / name)} {name!r}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def check_archive(path: str | os.PathLike) -> None:
    """Refuse an archive (.npz) that is no regular file, or whose list of members is absurdly long.

    zipfile reads the list whole before anyone can ask how long it is.

    Raises:
        InputError: as `open_regular`, or no list of members at most 1 MiB long.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read((1 << 16) + 22)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise InputError(f"{label(path)}: a damaged archive, or none; write it again")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > 1 << 20:
        raise InputError(f"{label(path)}: an archive of absurdly many members; write it again")


def _told(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size / 1e6:g} MB"


def _refused(path: str | os.PathLike, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        # Tables written on Windows.
        hint = "; write its path with forward slashes, not backslashes" if "\\" in str(path) and os.sep == "/" else ""
        return InputError(f"{label(path)}: no such file{hint}")
    if isinstance(error, ValueError) or getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return InputError(f"{label(path)}: cannot be read: not a valid file name")
    if getattr(error, "errno", None) in (errno.ENXIO, errno.EISDIR):
        return InputError(f"{label(path)}: not a file but a folder or device; name one file")
    return InputError(f"{label(path)}: cannot be read: {error.strerror or 'the system refused'}")
