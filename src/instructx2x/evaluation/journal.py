"""What a long measurement keeps on the disk, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instructx2x.errors import InputError, OutputError
from instructx2x.files import open_regular

BEGINNING = b'{"key": "settings"'


class Journal:
    """Records by their key, one JSON object a line of a file; a line that a kill cut off is dropped.

    Args:
        path: the file; made with its folder when it is not there.
        settings: what decides about the records' values. A file of other settings is refused.

    Raises:
        OutputError: the file is no journal, or one of other settings, or the system refused to read or write it.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.records = path, {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = b""
            if path.exists():
                with open_regular(path) as file:
                    content = file.read()
        except InputError as error:
            raise OutputError(f"{path} cannot be used (no file): choose another folder") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be used ({error.strerror}): choose another folder") from error
        whole = content[: content.rfind(b"\n") + 1]
        try:
            if not content.startswith(BEGINNING[: len(content)]):
                raise ValueError("the settings are not in the first line")
            lines = [json.loads(line) for line in whole.splitlines()]
            self.records = {record.pop("key"): record for record in lines}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise OutputError(f"{path} is no journal of this program: choose another folder") from error
        if self.records and self.records.get("settings") != json.loads(json.dumps(settings)):
            raise OutputError(f"{path} was begun with other settings: choose another folder")
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        if not self.records:
            self.add("settings", settings)

    def __contains__(self, key: str) -> bool:
        return key in self.records

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.records[key]

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Append a record; in one write, so that a kill leaves at most one part of a line.

        Raises:
            OutputError: the system refused to write it.
        """
        line = json.dumps({"key": key, **record}, allow_nan=False) + "\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written to ({error.strerror}); free some space") from error
        self.records[key] = json.loads(line)
        del self.records[key]["key"]

    def once(self, asked: tuple[Any, ...], compute: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
        """The record of a question, computed if it is not there: `asked` has all that decides about the answer."""
        key = hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
        if key not in self:
            self.add(key, compute(*given))
        return self[key]
