"""Many edits in one run, which a kill only interrupts: one folder a row, a manifest, contact sheets.

A row's folder appears whole or not at all, and its report says what it is the result of. So the folders alone decide
what is done, and every other file is made from them: whenever and however often a run is cut off, the same files with
the same bytes stand at its end. Seconds are not the same from run to run, and stand in `seconds.jsonl` alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructx2x.editing.editor import Editor
from instructx2x.editing.report import model, software
from instructx2x.editing.result import FILES, Result
from instructx2x.editing.rows import RESERVED, Row
from instructx2x.editing.sheets import write_sheets
from instructx2x.editing.study import Study
from instructx2x.errors import InputError, OutputError, of_the_user
from instructx2x.files import digest
from instructx2x.imaging.writing import atomic_write

MANIFEST, SECONDS, SHEET = RESERVED

# What a killed run leaves beside its results: half a folder of `Result.save`, half a file of `atomic_write`.
_LEFT_OVER = re.compile(r"\.([0-9a-f]{32}\.(partial|earlier)|[0-9a-f]{16}\.(jsonl|png))")

# A path from the root on, and its last name.
_ABSOLUTE = re.compile(r"(?<![\w./~-])/(?:[^/\s:;,'\"]+/)*([^/\s:;,'\"]+)")

Entry = dict[str, Any]


def run_batch(
    editor: Editor,
    rows: Sequence[Row],
    out: str | Path,
    *,
    overwrite: bool = False,
    on_row: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Entry]:
    """Edit every row; rows whose result is there already are left as they are.

    Images are read and results are written in threads of their own while the model runs. Rows run one by one, so
    that a row's bytes depend on the row alone: they are those of `study.edit(...).save(...)`, but for report.json,
    in which `batch` stands in place of `seconds`. Run one batch at a time in a folder.

    Args:
        editor: the model.
        rows: from `rows.table_rows` or `rows.folder_rows`.
        out: folder of the results; made when it is not there.
        overwrite: replace earlier results of other images, instructions, seeds or settings.
        on_row: called with (rows finished, rows in all), at the start and whenever a row is finished.
        options: keywords of `Study.edit` for all rows, such as JSON can hold.

    Returns:
        One entry a row, in order, as in `manifest.jsonl`: `status` is "done" or "failed". A row that fails, for
        whatever reason of its own, fails no other.

    Raises:
        OutputError: the folder cannot be written to, or its files are not of a batch.
    """
    out = Path(out)
    _make_ready(out)
    run = _Run(editor, out, overwrite, options)
    # The filters of warnings are the whole process's, and reading and writing set them in threads.
    with warnings.catch_warnings():
        finished = {row.number: entry for row in rows if (entry := run.done(row)) is not None}
        write_manifest(finished.values(), out)
        tell = on_row or (lambda done, total: None)
        tell(len(finished), len(rows))
        left = [row for row in rows if row.number not in finished]
        with closing(run.carry_out(left)) as carried_out:
            for entry in carried_out:
                finished[entry["row"]] = entry
                tell(len(finished), len(rows))
    entries = [finished[row.number] for row in rows]
    write_manifest(entries, out)
    write_sheets(entries, out)
    return entries


def write_manifest(entries: Iterable[Entry], out: Path) -> None:
    """Write `manifest.jsonl` anew: one line of JSON an entry."""
    text = "".join(_line(entry) for entry in entries)
    atomic_write(out / MANIFEST, lambda file: file.write_text(text, encoding="utf-8"))


class _Run:
    """What all rows of a batch share."""

    def __init__(self, editor: Editor, out: Path, overwrite: bool, options: dict[str, Any]) -> None:
        self.editor, self.out, self.overwrite, self.options = editor, out, overwrite, options
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        chosen = {"software": software(), "model": model(editor.backbone), "options": plain}
        self.settings = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
        self.last: tuple[Path, Study, str] | None = None

    def done(self, row: Row) -> Entry | None:
        """The entry of a row whose whole result is there: of this image, instruction, seed, model and settings."""
        try:
            report = json.loads((self.out / row.folder / "report.json").read_text(encoding="utf-8"))
            asked = (report["instruction"]["text"], report["seed"], report["batch"])
            whole = all((self.out / row.folder / name).is_file() for name in (report["written_as"], *FILES))
            if whole and asked == (row.instruction, row.seed, self._identity(row, digest(row.path))):
                return _done(row, report)
        except (OSError, InputError, ValueError, KeyError, TypeError):
            pass
        return None

    def carry_out(self, rows: Sequence[Row]) -> Generator[Entry, None, None]:
        """Yield the entries of rows, in order, while the next row is read and the last one is written."""
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading: Future | None = None
            writing: Future | None = None
            try:
                for number, row in enumerate(rows):
                    opened = reading or reader.submit(self._open, row)
                    reading = reader.submit(self._open, rows[number + 1]) if number + 1 < len(rows) else None
                    outcome = self._edit(row, opened)
                    # At most one result waits to be written, so that memory does not depend on the number of rows.
                    if writing is not None:
                        yield writing.result()
                    writing = writer.submit(self._finish, row, outcome)
                if writing is not None:
                    yield writing.result()
            finally:
                reader.shutdown(cancel_futures=True)

    def _open(self, row: Row) -> tuple[Study, str]:
        """Open a row's image; several rows of one image, one after the other, share a study."""
        if self.last is None or self.last[0] != row.path:
            self.last = None
            study = self.editor.open(row.path)
            study.display  # noqa: B018 - computed here, beside the model's work
            self.last = (row.path, study, digest(row.path))
        return self.last[1:]

    def _edit(self, row: Row, opened: Future) -> Result | Exception:
        """The result of a row with the report that a batch writes, or why there is none."""
        try:
            if row.seed is None:
                raise InputError("seed must be a whole number of 0 or more")
            if (self.out / row.folder).exists() and not self.overwrite:
                raise OutputError(
                    f"{row.folder} is there already, with another image, instruction, seed, model or setting, or "
                    "without some of its files: choose another folder, or ask to overwrite it (--overwrite)"
                )
            began = time.perf_counter()
            study, content = opened.result()
            waited = time.perf_counter() - began
            result = study.edit(row.instruction, seed=row.seed, **self.options)
            result.report["seconds"]["waiting for the image"] = round(waited, 3)
            result.report["batch"] = self._identity(row, content)
            return result
        # Whatever is wrong with a row, the others go on.
        except Exception as error:
            return error

    def _finish(self, row: Row, outcome: Result | Exception) -> Entry:
        """Write a row's result and its lines of the manifest and of the seconds."""
        if isinstance(outcome, Result):
            try:
                began = time.perf_counter()
                seconds = outcome.report["seconds"]
                report = {key: value for key, value in outcome.report.items() if key != "seconds"}
                replace(outcome, report=report).save(self.out, overwrite=self.overwrite, name=row.folder)
                seconds["saving"] = round(time.perf_counter() - began, 3)
                _append({"row": row.number, "folder": row.folder, "seconds": seconds}, self.out / SECONDS)
                entry = _done(row, report)
            except Exception as error:
                entry = _failed(row, error)
        else:
            entry = _failed(row, outcome)
        _append(entry, self.out / MANIFEST)
        return entry

    def _identity(self, row: Row, content: str) -> dict[str, str]:
        return {"image": Path(row.image).name, "image_sha256": content, "settings": self.settings}


def _asked(row: Row) -> Entry:
    return {"row": row.number, "image": Path(row.image).name, "instruction": row.instruction, "seed": row.seed}


def _done(row: Row, report: dict[str, Any]) -> Entry:
    return _asked(row) | {
        "status": "done",
        "folder": row.folder,
        "edited": report["written_as"],
        "given_to_model": report["instruction"]["given_to_model"],
        "mask_fraction": report["mask"]["fraction"],
        "pixels_changed": report["pixels_changed"],
        "verification": report["verification"],
        "warnings": report["warnings"],
    }


def _failed(row: Row, error: Exception) -> Entry:
    acted_on = of_the_user(error)
    reason = _without_folders(" ".join(str(acted_on or error).split()), row.path)
    if acted_on is None:
        reason = f"{type(error).__name__}: {reason} - a defect of this program"
    return _asked(row) | {"status": "failed", "reason": reason}


def _without_folders(text: str, path: Path) -> str:
    """A message with bare file names: the manifest is passed on, and paths tell who works where."""
    for written in (repr(str(path)), str(path)):
        text = text.replace(written, path.name)
    return _ABSOLUTE.sub(r"\1", text)


def _line(entry: Entry) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _append(entry: Entry, path: Path) -> None:
    try:
        # Unbuffered, so that a line is one write, and whole or not there after a kill.
        with path.open("ab", buffering=0) as file:
            file.write(_line(entry).encode("utf-8"))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _make_ready(out: Path) -> None:
    """Make the folder, refuse one whose files are not a batch's, and take away what a killed run left."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        manifest = out / MANIFEST
        if manifest.exists():
            ours = _is_manifest(manifest)
        else:
            ours = not any((out / name).exists() for name in RESERVED)
        if not ours:
            raise OutputError(f"{out} holds files of the names {', '.join(RESERVED)}: choose another folder")
        for path in out.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except FileExistsError as error:
        raise OutputError(f"{out} is a file: name a folder for the results") from error
    except OSError as error:
        raise OutputError(f"{out} cannot be written to: {error.strerror or error}") from error


def _is_manifest(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(1_000_000)
    try:
        return not first or {"row", "status"} <= set(json.loads(first))
    except (ValueError, TypeError):
        return False
