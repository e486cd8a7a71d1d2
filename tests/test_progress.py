"""The bar of long work."""

from instructx2x import progress as module


def test_a_bar_on_terminals_only_and_not_for_short_work(capsys, monkeypatch):
    def output(terminal, after):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(module, "BAR_AFTER", after)
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
        else:
            monkeypatch.delenv("FORCE_COLOR", raising=False)
        with module.progress("Preparing images", 3) as advance:
            for _ in range(3):
                advance()
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    assert "Preparing images" in output(terminal=True, after=0)
    assert output(terminal=True, after=60) == ""
    assert output(terminal=False, after=0) == ""


def test_a_total_may_come_late_and_steps_may_jump(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(module, "BAR_AFTER", 0)
    with module.progress("Converting", in_bytes=True) as advance:
        advance(to=500, total=2000)
        advance(to=2000, total=2000)
    assert "2.0/2.0 kB" in capsys.readouterr().err
