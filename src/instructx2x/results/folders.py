"""The one owner of every output place: files and folders appear whole or not at all, and nothing foreign is lost.

- Everything is written in a staging folder, a hidden folder beside its final place that carries our mark and is locked
  while its writer lives, and moved from there in one step.
- A folder that is replaced waits in the staging folder until the new one stands in its place. After a kill at any
  moment, the next run puts it back or finishes the work: see `sweep`.
- A command that fills a folder for a long time claims it, so that no second one can: see `claim`.
- Nothing that is, or contains, an input is a place to write to: see `refuse_inputs`.

Locks belong to open files, so the system releases those of a killed process. Where a file system knows no locks,
nothing of other runs is removed.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from instructx2x.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

STAGING = re.compile(r"\.x2x-[0-9a-f]{16}")
"""Names of staging folders."""

_CLAIM = ".x2x-claim"
_MARK, _TARGET, _NEW, _EARLIER = "mark", "target", "new", "earlier"
_OURS = b"x2x staging folder"
_claimed: set[str] = set()  # folders that this process owns
_CONTENDED = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}

MAX_NAME = 200
"""Bytes of a name that we make up; systems take 255, some encrypted ones 143, and endings come on top."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
Value = TypeVar("Value")


def clean(text: str) -> str:
    """One printable line of a text: names and libraries' messages may hold line breaks and terminal codes."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def folder_name(stem: str) -> str:
    """A name for a folder from that of a file: without what cannot be printed, and not too long for any system."""
    name = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in stem)
    name = name.encode()[: MAX_NAME - 20].decode(errors="ignore").rstrip()  # with room for a number behind it
    if name.startswith(".x2x-"):  # which are ours
        name = f"_{name}"
    return name if name not in ("", ".", "..") else "image"


def is_plain_name(text: str) -> bool:
    """Whether a text from outside can name a file on every system, and none in another folder."""
    return (
        0 < len(text.encode(errors="replace")) <= MAX_NAME // 2
        and text.isprintable()
        and not any(c.isspace() or c in '/\\:*?"<>|' for c in text)
        and not text.startswith(".")
        and not text.endswith(".")
        and not _DEVICES.fullmatch(text)
    )


def refuse_inputs(target: str | os.PathLike, inputs: Iterable[str | os.PathLike | None]) -> None:
    """Refuse a place that is an input or contains one, by whatever name, link or capital letters it is called.

    Args:
        target: a file or folder that would be written, made or replaced; it need not exist.
        inputs: files and folders that are read; None and such as do not exist are passed over.

    Raises:
        OutputError: it is, or contains, one of them.
    """
    own = _identity(target)
    if own is None:
        return  # nothing is there, so nothing is in it
    checked: set[str] = set()
    for given in inputs:
        if given is None:
            continue
        for place in _places(os.path.abspath(given)):
            if place not in checked:
                checked.add(place)
                if _identity(place) == own:
                    what = "is an input" if _identity(given) == own else f"holds the input {Path(given).name}"
                    raise OutputError(f"{target} {what}, which is never written to: choose another folder")


def _places(path: str) -> Iterator[str]:
    """A path with all folders above it, then the same of what it links to, link by link."""
    for _ in range(40):  # as many links as systems follow
        yield from (path, *map(str, Path(path).parents))
        yield from map(str, Path(os.path.realpath(os.path.dirname(path))).parents)
        try:
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except (OSError, ValueError):
            break
    real = os.path.realpath(path)
    yield from (real, *map(str, Path(real).parents))


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """What stands there, whatever it is called: device and inode."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def claim(out: str | os.PathLike, *, inputs: Iterable[str | os.PathLike | None] = ()) -> Iterator[Path]:
    """Own a folder while the block runs: made if needed, locked, and free of what killed runs left.

    A folder that was made here and is empty in the end is removed again.

    Args:
        out: the folder.
        inputs: what is read, see `refuse_inputs`.

    Raises:
        OutputError: it is or contains an input, another run owns it, or it cannot be made or written to.
    """
    out = Path(out)
    refuse_inputs(out, inputs)
    with _folder(out):
        try:
            lock = _lock(out / _CLAIM)
        except OSError as error:
            raise _unwritable(out, error) from error
        if lock is None:
            raise OutputError(f"{out} is in use by another run{_who(out)}: wait for its end or choose another folder")
        try:
            with suppress(OSError):
                os.ftruncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
            sweep(out)
            _claimed.add(str(out.resolve()))
            yield out
        finally:
            _claimed.discard(str(out.resolve()))
            with suppress(OSError):
                os.unlink(out / _CLAIM)
            os.close(lock)


def entries(folder: Path) -> list[Path]:
    """What stands in a folder, in order, but for what runs keep there only while they write.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(path for path in folder.iterdir() if path.name != _CLAIM and not STAGING.fullmatch(path.name))


def refuse_claimed(out: str | os.PathLike) -> None:
    """Refuse a folder that another run owns. The process that claimed it may write there."""
    claim_file = Path(out) / _CLAIM
    if str(Path(out).resolve()) not in _claimed and claim_file.is_file() and _is_held(claim_file):
        raise OutputError(f"{out} is in use by another run{_who(Path(out))}: wait for its end or choose another folder")


def _who(out: Path) -> str:
    with suppress(OSError):
        told = clean((out / _CLAIM).read_bytes()[:200].decode(errors="replace"))
        return f" ({told})" if told else ""
    return ""


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make a folder with those above it; those that are empty when the block ends are taken away again."""
    absent = [path for path in (out, *out.parents) if not os.path.lexists(path)]
    made: list[Path] = []
    try:
        for path in reversed(absent):
            with suppress(FileExistsError):
                path.mkdir()
                made.append(path)
        if not out.is_dir():
            place = next((p for p in (out, *out.parents) if os.path.lexists(p) and not p.is_dir()), out)
            kind = "a link to nowhere" if place.is_symlink() and not place.exists() else "a file"
            raise OutputError(f"{place} is {kind}: name a folder for the results")
    except NotADirectoryError as error:
        place = next((p for p in out.parents if os.path.lexists(p) and not p.is_dir()), out)
        raise OutputError(f"{place} is a file: name a folder for the results") from error
    except (OSError, ValueError) as error:
        _remove_empty(made)
        raise _unwritable(out, error) from error
    try:
        yield
    finally:
        _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):
        for path in reversed(folders):
            path.rmdir()


def _unwritable(place: str | os.PathLike, error: Exception) -> OutputError:
    reason = (error.strerror if isinstance(error, OSError) else str(error)) or "the system refused"
    return OutputError(f"{clean(str(place))} cannot be written ({reason}): choose another folder")


def _lock(path: Path) -> int | None:
    """Make a file if needed and lock it: its descriptor, to be closed in the end; None where another holds it."""
    while True:
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except PermissionError:
            if fcntl is None and path.exists():  # Windows says so of a file that is being removed
                return None
            raise
        if not _try_lock(held):
            os.close(held)
            return None
        # It may have been removed by its last holder between the two steps.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), os.stat(path)):
                return held
        os.close(held)


def _try_lock(held: int) -> bool:
    try:
        if fcntl is None:
            import msvcrt

            msvcrt.locking(held, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _CONTENDED
    return True


def _is_held(path: Path) -> bool:
    """Whether somebody holds a lock; where locks are not known, somebody may."""
    try:
        held = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        if fcntl is None:
            return not _try_lock(held)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(held)


@contextmanager
def staging(parent: str | os.PathLike) -> Iterator[Path]:
    """A new folder inside `parent` to write in, on the same file system; it is gone when the block ends.

    Raises:
        OSError: `parent` cannot be written to.
    """
    folder, lock = _new_staging(Path(parent))
    try:
        yield folder
    finally:
        finished = _settle(folder)
        os.close(lock)
        if finished:
            shutil.rmtree(folder, ignore_errors=True)


def _new_staging(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / f".x2x-{secrets.token_hex(8)}"
        folder.mkdir()
        # A run that sweeps may take away a folder without a mark, in the moment before it has one.
        with suppress(FileNotFoundError):
            if (lock := _lock(folder / _MARK)) is not None:
                os.write(lock, _OURS)
                return folder, lock


def _settle(folder: Path) -> bool:
    """Put a replaced folder back unless another stands in its place; whether nothing here is needed any more."""
    earlier = folder / _EARLIER
    if not os.path.lexists(earlier):
        return True
    try:
        name = os.fsdecode((folder / _TARGET).read_bytes())
        if os.path.basename(name) != name or name in ("", ".", ".."):
            return False
        target = folder.parent / name
        if not os.path.lexists(target):
            os.rename(earlier, target)
            return True
        # The new one has been moved, so what stands there is it. Else somebody put a third one there: keep all.
        return not os.path.lexists(folder / _NEW)
    except OSError:
        return False


def sweep(parent: str | os.PathLike) -> None:
    """Settle and remove the staging folders of killed runs; those of living ones and all else stay."""
    try:
        found = [Path(entry) for entry in os.scandir(parent) if STAGING.fullmatch(entry.name)]
    except OSError:
        return  # no folder yet, nothing left in it
    for folder in found:
        if folder.is_symlink() or not folder.is_dir():
            continue
        mark = folder / _MARK
        with suppress(OSError):
            if not os.path.lexists(mark):
                folder.rmdir()  # killed before it had a mark: empty, or not ours
            elif mark.is_symlink() or not mark.is_file() or _is_held(mark):
                pass
            elif (content := mark.read_bytes()[:100]) == _OURS:
                if _settle(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            elif _OURS.startswith(content) and os.listdir(folder) == [_MARK]:  # killed while it got its mark
                mark.unlink()
                folder.rmdir()


def atomic_write(path: str | os.PathLike, writer: Callable[[Path], object], *, durable: bool = True) -> None:
    """Let `writer` fill a file in a staging folder, then put it in place of `path` in one step.

    The file has the final name's ending while it is written, because some writers append a missing one. Whatever goes
    wrong, `path` is as it was. Whether an earlier file there may be replaced is the caller's to know.

    Args:
        path: the file; a link there is replaced, not followed.
        writer: called with the path to write to.
        durable: wait until the disk holds it.

    Raises:
        OutputError: the system refused (no such folder, no permission, full disk). Others of `writer` pass.
    """
    path = Path(path)
    try:
        with staging(path.parent) as folder:
            new = folder / f"new{path.suffix}"
            writer(new)
            if durable:
                _sync(new)
            os.replace(new, path)
            if durable:
                _sync(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_folder(
    folder: str | os.PathLike,
    writer: Callable[[Path], Value],
    *,
    refuse_foreign: Callable[[Path], None] | None = None,
) -> Value:
    """Let `writer` fill a folder that appears whole or not at all, and so do the folders above it.

    Args:
        folder: the final place.
        writer: called with an empty folder to fill.
        refuse_foreign: called with the folder that stands there already, raises OutputError where it holds anything
            that is not ours, and lets it be replaced otherwise. None: nothing may stand there.

    Returns:
        What `writer` returns.

    Raises:
        OutputError: something is there that is not to be replaced, or the system refused.
    """
    folder = Path(folder)
    try:
        _refuse_existing(folder, refuse_foreign)
        with _folder(folder.parent), staging(folder.parent) as stage:
            new, earlier = stage / _NEW, stage / _EARLIER
            new.mkdir()
            told = writer(new)
            for path in [*new.rglob("*"), new]:
                _sync(path)
            with _alone(folder.parent):
                if _refuse_existing(folder, refuse_foreign):
                    (stage / _TARGET).write_bytes(os.fsencode(folder.name))
                    _sync(stage / _TARGET)
                    _sync(stage)
                    os.rename(folder, earlier)
                    refuse_foreign(earlier)  # again, of what can no longer change
                os.rename(new, folder)
            _sync(folder.parent)
            return told
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Wait until no other process moves folders in `parent`, where the file system knows locks."""
    if fcntl is None:
        yield
        return
    held = os.open(parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _refuse_existing(folder: Path, refuse_foreign: Callable[[Path], None] | None) -> bool:
    """Whether something is there, which may be replaced."""
    if not os.path.lexists(folder):
        return False
    if refuse_foreign is None:
        option = ", or ask to overwrite it (--overwrite)" if folder.is_dir() else ""
        raise OutputError(f"{folder} is there already: choose another folder{option}")
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link, so it is not replaced: choose another folder")
    refuse_foreign(folder)
    return True


def check_place(
    folder: str | os.PathLike,
    files: Iterable[str],
    *,
    inputs: Iterable[str | os.PathLike | None] = (),
    refuse_foreign: Callable[[Path], None] | None = None,
) -> None:
    """Refuse before the work what `write_folder` would refuse after it, and try the place out. Nothing is left.

    Args:
        folder: the final place; the folders above it are made by whoever writes.
        files: names of files that will stand in it, to see that they are not too long.
        inputs: what is read, see `refuse_inputs`.
        refuse_foreign: as for `write_folder`.

    Raises:
        OutputError: see above.
    """
    folder = Path(folder)
    refuse_inputs(folder, inputs)
    with _folder(folder.parent):
        refuse_claimed(folder.parent)
        sweep(folder.parent)
        try:
            _refuse_existing(folder, refuse_foreign)
            with staging(folder.parent) as stage:
                (stage / folder.name).mkdir()
                for name in files:
                    (stage / folder.name / name).touch()
        except (OSError, ValueError) as error:
            raise _unwritable(folder, error) from error


def check_file(
    path: str | os.PathLike,
    *,
    inputs: Iterable[str | os.PathLike | None],
    is_ours: Callable[[Path], bool],
) -> None:
    """Refuse before the work a file that must not be replaced, or a place that cannot be written to.

    Args:
        path: the file to write, by `atomic_write`.
        inputs: what is read, see `refuse_inputs`.
        is_ours: whether the same command wrote an earlier file, which may be replaced, by what it holds.

    Raises:
        OutputError: see above.
    """
    path = Path(path)
    refuse_inputs(path, inputs)
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_file() or not is_ours(path):
            raise OutputError(f"{path} was not written by this command, so it is not replaced: choose another name")
    try:
        with staging(path.parent) as stage:
            (stage / path.name).touch()
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _sync(path: Path) -> None:
    """Wait until the disk holds a file or a folder's entries; what cannot wait does not."""
    with suppress(OSError):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
