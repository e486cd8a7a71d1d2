"""`x2x vocabulary`: every word that is listed is understood as it is listed."""

import json

import pytest

from instructx2x import cli
from instructx2x.instructions import FINDINGS, LEVELS, SIDES, ZONES, parse


@pytest.fixture(scope="module")
def listed():
    return cli.vocabulary.listed()


def test_json_lists_every_name(capsys, listed):
    assert cli.main(["vocabulary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listed
    for kind, names in (("findings", FINDINGS), ("sides", SIDES), ("zones", ZONES), ("levels", LEVELS)):
        assert list(listed[kind]) == list(names)


def test_tables_name_everything(capsys, monkeypatch, listed):
    monkeypatch.setenv("COLUMNS", "2000")
    assert cli.main(["vocabulary"]) == 0
    said = capsys.readouterr().out
    for name in (*FINDINGS, *SIDES, *ZONES, *LEVELS, "operation", "bibasilar", "mod", "ptx"):
        assert name in said


def test_what_is_listed_is_read(listed):
    for kind in ("side", "zone"):
        for name, synonyms in listed[f"{kind}s"].items():
            for word in (name, *synonyms):
                assert getattr(parse(f"add effusion in the {word}")[0], kind) == name
    for word, (side, zone) in listed["places"].items():
        (edit,) = parse(f"add {word} effusion")
        assert (edit.side, edit.zone) == (side, zone)
    for level, said in listed["levels"].items():
        for word in (level, *said["synonyms"]):
            assert parse(f"add {word} effusion")[0].level == level
