"""What a message says about installing an extra, in a clone and where a wheel was installed."""

from importlib.metadata import version

from instructx2x import extras


def test_pytorch_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "CONSTRAINTS", tmp_path / "a folder/constraints.txt")
    release = version("torch").partition("+")[0]
    assert extras.install_command("register") == f'pip install "instructx2x[register]" torch=={release}'
    extras.CONSTRAINTS.parent.mkdir()
    extras.CONSTRAINTS.touch()
    assert extras.install_command("register") == (
        f"pip install -c '{tmp_path}/a folder/constraints.txt' \"instructx2x[register]\""
    )
