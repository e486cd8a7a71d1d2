"""`x2x info`: what it says is true of this installation and of the model that is named."""

import platform

from instructx2x import __version__, cli
from instructx2x.models import load


def test_info_names_versions_model_and_licences(capsys, tiny_model):
    assert cli.main(["info", "--model", str(tiny_model)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    backbone = load(tiny_model)
    for word in (__version__, platform.python_version(), backbone.digest, "64 x 64 px", "Apache-2.0", "cpu"):
        assert word in said
    assert "relevance: calibrated" in said
    assert cli.main(["info"]) == 0
    assert load("bundled").digest in capsys.readouterr().out


def test_a_model_that_is_not_there_is_one_line(capsys, tmp_path):
    assert cli.main(["info", "--model", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
