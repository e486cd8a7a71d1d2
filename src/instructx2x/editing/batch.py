"""Many edits in one run, which a kill only interrupts: one folder a row, a manifest, contact sheets.

A row's folder appears whole or not at all, and its report says what it is the result of. So the folders alone decide
what is done, and every other file is made from them: whenever and however often a run is cut off, the same files with
the same bytes stand at its end. Seconds are not the same from run to run, and stand in `seconds.jsonl` alone.

A folder holds one batch. Another run in it goes on with the same batch, or is refused before it changes anything: rows
that are done must be there with the same image, instruction, seed, model and settings. Rows that are not done, and
rows that are new, may be anything.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructx2x.editing.editor import Editor
from instructx2x.editing.identity import setting
from instructx2x.editing.report import model, software
from instructx2x.editing.result import Result
from instructx2x.editing.rows import RESERVED, Row
from instructx2x.editing.sheets import ACROSS, DOWN, is_page, page_name, write_sheets
from instructx2x.editing.study import Study
from instructx2x.errors import InputError, OutputError, of_the_user
from instructx2x.files import digest
from instructx2x.imaging.writing import atomic_write
from instructx2x.results import folders
from instructx2x.results.seal import read_report

MANIFEST, SECONDS, SHEET = RESERVED

# A path from the root on, and its last name.
_ABSOLUTE = re.compile(r"(?<![\w./~-])/(?:[^/\s:;,'\"]+/)*([^/\s:;,'\"]+)")

Entry = dict[str, Any]


def run_batch(
    editor: Editor,
    rows: Sequence[Row],
    out: str | Path,
    *,
    inputs: Iterable[str | Path | None] = (),
    overwrite: bool = False,
    on_row: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Entry]:
    """Edit every row; rows whose result is there already are left as they are.

    Images are read and results are written in threads of their own while the model runs. Rows run one by one, so
    that a row's bytes depend on the row alone: they are those of `study.edit(...).save(...)`, but for report.json,
    in which `batch` stands in place of `seconds`. The folder is locked while the batch runs.

    Args:
        editor: the model.
        rows: from `rows.table_rows` or `rows.folder_rows`.
        out: folder of the results; made when it is not there.
        inputs: what is read beside the rows' images, the model and the options' files: the table, say.
        overwrite: replace earlier results of other images, instructions, seeds or settings, and the manifest and the
            sheet of an earlier batch with them. Results of rows that are no longer asked for stay.
        on_row: called with (rows finished, rows in all), at the start and whenever a row is finished.
        options: keywords of `Study.edit` for all rows, such as JSON can hold.

    Returns:
        One entry a row, in order, as in `manifest.jsonl`: `status` is "done" or "failed". A row that fails, for
        whatever reason of its own, fails no other.

    Raises:
        OutputError: the folder holds another batch, or files that are not of a batch; it is or contains an input; it is
            in use by another run; or it cannot be written to. Nothing in it is changed then.
    """
    files = {path for name in _PATHS if (path := _path(options.get(name))) is not None}
    read = [*inputs, editor.backbone.path, *files, *dict.fromkeys(row.path for row in rows)]
    with folders.claim(out, inputs=read) as out:
        return _Run(editor, out, overwrite, options).run(rows, on_row or (lambda done, total: None))


def write_manifest(entries: Iterable[Entry], out: Path) -> None:
    """Write `manifest.jsonl` anew: one line of JSON an entry."""
    text = "".join(_line(entry) for entry in entries)
    atomic_write(out / MANIFEST, lambda file: file.write_text(text, encoding="utf-8"))


class _Run:
    """What all rows of a batch share."""

    def __init__(self, editor: Editor, out: Path, overwrite: bool, options: dict[str, Any]) -> None:
        self.editor, self.out, self.overwrite, self.options = editor, out, overwrite, options
        self.settings = {name: setting(name, value) for name, value in sorted(options.items())}
        self.last: tuple[Path, Study, str] | None = None

    def run(self, rows: Sequence[Row], tell: Callable[[int, int], None]) -> list[Entry]:
        _refuse_foreign(self.out, len(rows))
        # The filters of warnings are the whole process's, and reading and writing set them in threads.
        with warnings.catch_warnings():
            if not self.overwrite:
                self._refuse_other_rows(rows)
            finished = {row.number: entry for row in rows if (entry := self._done(row)) is not None}
            write_manifest(finished.values(), self.out)
            tell(len(finished), len(rows))
            left = [row for row in rows if row.number not in finished]
            with closing(self.carry_out(left)) as carried_out:
                for entry in carried_out:
                    finished[entry["row"]] = entry
                    tell(len(finished), len(rows))
        entries = [finished[row.number] for row in rows]
        write_manifest(entries, self.out)
        write_sheets(entries, self.out)
        return entries

    def _refuse_other_rows(self, rows: Sequence[Row]) -> None:
        """Refuse rows that do not go on with the batch whose manifest is here."""
        asked = {row.folder: row for row in rows}
        for entry in _finished(self.out / MANIFEST):
            row = asked.get(entry["folder"])
            if row is None or (entry["instruction"], entry["seed"]) != (row.instruction, row.seed):
                raise self._another(f"its row {entry['row']} ({entry['folder']}) is not in this one as it was")

    def _another(self, why: str) -> OutputError:
        return OutputError(
            f"{self.out} holds another batch: {why}; choose another folder, or replace what is there with --overwrite"
        )

    def _done(self, row: Row) -> Entry | None:
        """The entry of a row whose whole result is there.

        Raises:
            OutputError: the result of a batch is there, but not of this row, and it is not to be overwritten.
        """
        folder = self.out / row.folder
        try:
            report = read_report(folder)
            made = report["batch"]
            there = {
                **{"instruction": report["instruction"]["text"], "seed": report["seed"]},
                **{f"software {name}": version for name, version in report["software"].items()},
                # A model may lie elsewhere: its digest says which it is.
                **{f"model {name}": value for name, value in report["model"].items() if name != "name"},
                **made["settings"],
            }
            content, entry = made["image_sha256"], _done(row, report)
            whole = all((folder / name).is_file() for name in report["files"])
        except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # no result of a batch, which its row will tell
        wanted = {
            **{"instruction": row.instruction, "seed": row.seed},
            **{f"software {name}": version for name, version in software().items()},
            **{f"model {name}": value for name, value in model(self.editor.backbone).items() if name != "name"},
            **self.settings,
        }
        try:
            image = {"image": digest(row.path)}
        except (InputError, ValueError):  # gone since: what was made of it is no less done
            image = {"image": content}
        there, wanted = {"image": content} | there, image | wanted
        differing = [name for name in [*wanted, *there] if there.get(name) != wanted.get(name)]
        if not differing:
            return entry if whole else None
        if not self.overwrite:
            name = differing[0]
            values = "" if name == "image" else f" ({there.get(name)!s:.60} there, {wanted.get(name)!s:.60} now)"
            raise self._another(folders.clean(f"{row.folder} in it was made with another {name}{values}"))
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
            if os.path.lexists(self.out / row.folder) and not self.overwrite:
                raise OutputError(
                    f"{row.folder} is there already and not of this batch, or without some of its files: choose "
                    "another folder, or ask to overwrite it (--overwrite)"
                )
            began = time.perf_counter()
            study, content = opened.result()
            waited = time.perf_counter() - began
            result = study.edit(row.instruction, seed=row.seed, **self.options)
            result.report["seconds"]["waiting for the image"] = round(waited, 3)
            result.report["batch"] = self._identity(content)
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

    def _identity(self, content: str) -> dict[str, Any]:
        return {"image_sha256": content, "settings": self.settings}


# Options that may name files, whose content then decides.
_PATHS = ("anatomy", "region", "protect")


def _path(value: Any) -> Path | None:
    named = isinstance(value, str | Path) and str(value) not in ("", "default", "patient", "prior", "union", "none")
    return Path(value) if named and os.path.exists(value) else None


def _asked(row: Row) -> Entry:
    return {"row": row.number, "image": Path(row.image).name, "instruction": row.instruction, "seed": row.seed}


def _done(row: Row, report: dict[str, Any]) -> Entry:
    return _asked(row) | {
        "status": "done",
        "folder": row.folder,
        "edited": report["written_as"],
        "given_to_model": report["instruction"]["given_to_model"],
        "outcomes": report["instruction"]["outcomes"],
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


def _finished(manifest: Path) -> list[Entry]:
    """The entries of rows that are done; of a line that a kill cut off, or a stranger's, nothing is known."""
    entries = []
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["status"] == "done" and {"row", "folder", "instruction", "seed"} <= set(entry):
                entries.append(entry)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return entries


def _refuse_foreign(out: Path, rows: int) -> None:
    """Refuse files of the names that a batch writes, unless a batch wrote them."""
    pages = [page_name(number + 1) for number in range(max(1, math.ceil(rows / (ACROSS * DOWN))))]
    kinds = {MANIFEST: _is_lines_of({"row", "status"}), SECONDS: _is_lines_of({"row", "seconds"})}
    for name in (MANIFEST, SECONDS, *pages):
        path = out / name
        if os.path.lexists(path) and not kinds.get(name, is_page)(path):
            raise OutputError(
                f"{path} is not of a batch, so it is not replaced: move it away, or choose another folder"
            )


def _is_lines_of(keys: set[str]) -> Callable[[Path], bool]:
    def test(path: Path) -> bool:
        try:
            if path.is_symlink() or not path.is_file():
                return False
            with path.open("rb") as file:
                first = file.readline(1_000_000)
            return not first or keys <= set(json.loads(first))
        except (OSError, ValueError, TypeError, RecursionError):
            return False

    return test
