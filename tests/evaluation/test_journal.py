"""A journal survives a kill, and takes no other file for its own."""

import os

import pytest

from instructx2x.errors import OutputError
from instructx2x.evaluation.journal import Journal


def test_a_journal_survives_a_kill_in_a_line(tmp_path):
    path = tmp_path / "records.jsonl"
    journal = Journal(path, {"model": "a", "findings": ("x",)})
    journal.add("one", {"value": 1})
    whole = path.read_bytes()
    journal.add("two", {"value": [2.5]})
    path.write_bytes(path.read_bytes()[:-7])
    again = Journal(path, {"model": "a", "findings": ("x",)})
    assert "one" in again and "two" not in again and path.read_bytes() == whole
    again.add("two", {"value": [2.5]})
    assert Journal(path, {"model": "a", "findings": ("x",)})["two"] == {"value": [2.5]}
    with pytest.raises(OutputError, match="other settings: choose another folder"):
        Journal(path, {"model": "b", "findings": ("x",)})


@pytest.mark.parametrize(
    "content",
    [
        "something else\n",
        "no line",
        '{"other": 1',
        '{"value": 1}\n',
        '["key"]\n',
        '"key"\n',
        '{"key": ["one"]}\n',
        "\xff\n",
        '{"key": "settings", "a": ' + "[" * 100_000 + "\n",
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "other.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(OutputError, match=r"^[^\n]*is no journal[^\n]*$"):
        Journal(path, {})
    assert path.read_bytes() == content.encode("latin-1")


def test_a_place_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "file" / "records.jsonl"):
        with pytest.raises(OutputError, match=r"^[^\n]*cannot be used[^\n]*choose another folder$"):
            Journal(path, {})


def test_a_journal_cut_anywhere_goes_on(tmp_path):
    path = tmp_path / "records.jsonl"
    Journal(path, {"model": "a"}).add("one", {"value": 1})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        again = Journal(path, {"model": "a"})
        if "one" not in again:
            again.add("one", {"value": 1})
        assert path.read_bytes() == whole
