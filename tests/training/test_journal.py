"""What a run tells of its progress: a bar on a terminal, lines in a log."""

from types import SimpleNamespace

import pytest

from instructx2x import progress as bars
from instructx2x.training import journal
from instructx2x.training.journal import Journal, told


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds) lets time pass, for rich and for the journal."""
    now = [1000.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def passes(seconds):
        now[0] += seconds

    return passes


def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")


def test_the_time_left_is_shown_however_long_a_step_takes(tmp_path, monkeypatch, capsys, clock):
    terminal(monkeypatch)
    accelerator = SimpleNamespace(is_main_process=True, init_trackers=lambda *_, **settings: None)
    with Journal(accelerator, tmp_path, {}, 0, 10) as shown:
        for _ in range(4):
            clock(600)
            shown.advance()
    assert "4/10" in (bar := capsys.readouterr().err) and "1:00:00" in bar


def test_a_log_gets_a_line_a_minute(monkeypatch, capsys, clock):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with told("Encoding images", 640) as advance:
        for _ in range(10):
            clock(25)
            advance(64)
    assert capsys.readouterr().out.splitlines() == [
        "Encoding images: 192 of 640, 0:02:55 left",
        "Encoding images: 384 of 640, 0:01:40 left",
        "Encoding images: 576 of 640, 0:00:25 left",
    ]


@pytest.mark.parametrize("main", [True, False])
def test_on_a_terminal_the_main_process_draws_a_bar(main, monkeypatch, capsys):
    terminal(monkeypatch)
    monkeypatch.setattr(bars, "BAR_AFTER", 0)
    with told("Encoding images", 3, main) as advance:
        for _ in range(3):
            advance(1)
    assert ("Encoding images" in capsys.readouterr().err) is main
