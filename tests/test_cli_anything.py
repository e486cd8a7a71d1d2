"""Nothing that a user can type ends in exit code 1 or a traceback: odd words everywhere, streams that are shut."""

import itertools
import os
import signal
import subprocess
import sys

import pytest
import typer.main
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from instructx2x import cli

ODD = [
    *("", " ", "-", "--", "---", "=", "a=b", ",", ",,,", ";", "%s", "{}", "~", ".", "..", "/", "../..", "nowhere.png"),
    *("\0", "a\0b", "\n", "a\nb", "\t", "\x1b[31m", "\udcff", "\udcff.png", "é", "\u202e", "🙂", "٣", "𝟛"),
    *("0", "-0", "-1", "1_0", "0x10", "1e400", "-1e400", "nan", "-inf", "1e-400", "9" * 400, "9" * 5000, "1.5", "true"),
    *(
        "a" * 300,
        "a" * 5000,
        "a/" * 2000,
        "/dev/null",
        "/dev/null/a",
        "/proc/self/mem",
        "\\\\?\\C:",
        "CON",
        "[red]",
        "[/]",
    ),
    *("file://x", "https://example.org/x.png", "owner/name", "x:y", "x:", ":y", ":", "0,0,0,0", "-1,-1,5,5"),
]


def leaves(group, names=()):
    """(names, command) of every command in a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*names, name))
        else:
            yield (*names, name), command


COMMAND = typer.main.get_command(cli.app)
COMMANDS = sorted(leaves(COMMAND), key=lambda pair: pair[0])


@st.composite
def command_lines(draw):
    """A command with odd words for some of its options and for all of its arguments, whose files are never there."""
    names, command = draw(st.sampled_from(COMMANDS))
    odd = st.sampled_from(ODD) | st.text(max_size=12)
    arguments, options = [], []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            # One that names a file names none: no model is loaded and nothing is written.
            arguments.append("nowhere/at/all.png" if not arguments else draw(odd))
        elif parameter.name != "help" and (parameter.required or draw(st.booleans())):
            flag = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
            files = parameter.name in INPUTS.get(names, ())
            value = [] if parameter.is_flag else ["nowhere/at/all" if files else draw(odd)]
            options.append([flag, *value])
    words = [[word] for word in arguments] + options
    words = draw(st.permutations(words)) if draw(st.booleans()) else words
    return [*names, *(word for group in words for word in group), *draw(st.lists(odd, max_size=1))]


# What each command reads first, beside its first argument: it is never there, so that no work begins.
INPUTS = {
    ("audit",): ("data",),
    ("evaluate",): ("data",),
    ("train",): ("data",),
    ("info",): ("model",),
    ("demo",): ("out",),
    ("dataset", "build"): ("open_data", "diff_vqa", "mimic_cxr_jpg"),
    ("masks", "build"): ("open_data",),
}


@pytest.fixture(autouse=True)
def built(monkeypatch):
    """The commands are made from their functions once, and not for every call."""
    monkeypatch.setattr(cli, "app", COMMAND)


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(words=command_lines())
def test_odd_words_are_refused_in_one_line(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    if words[0] == "demo":
        words = ["demo", "-o", "/dev/null/out", *words[1:]]
    code = cli.main(words)
    out, err = capfd.readouterr()
    assert code in (0, 2), (words, err)
    if code == 2:
        assert (err.startswith("error: ") and err.count("\n") == 1) or "Usage" in out, (words, err)
        assert err[:-1].isprintable(), (words, err)


def test_odd_values_of_every_option(tmp_path, monkeypatch, capfd):
    """Each option of each command alone, with some of the odd values, so that all of them are had in turn."""
    monkeypatch.chdir(tmp_path)
    values = itertools.cycle(ODD)
    for names, command in COMMANDS:
        if names in (("info",), ("demo",)):  # which need nothing else, and would do their work
            continue
        given = ["nowhere.png", "Add edema."] if names in (("edit",), ("guidance",)) else []
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag and parameter.name != "help":
                for value in itertools.islice(values, 5):
                    words = [*names, *given, parameter.opts[-1], value]
                    assert cli.main(words) == 2, words
                    err = capfd.readouterr().err
                    assert err.startswith("error: ") and err.count("\n") == 1, (words, err)


def test_an_interrupt_is_one_line(monkeypatch, capfd):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("instructx2x.imaging.read", interrupt)
    assert cli.main(["edit", "chest.png", "Add the finding of edema.", "-o", "out"]) == 130
    assert capfd.readouterr() == ("", "interrupted: run the same command again to go on or to start over\n")


def test_code_of_others_that_ends_the_program_is_told(monkeypatch, capfd):
    monkeypatch.setattr("instructx2x.imaging.read", lambda path: sys.exit(0))
    assert cli.main(["edit", "chest.png", "Add the finding of edema.", "-o", "out"]) == 2
    assert capfd.readouterr().err.startswith("error: code that the command was told to run ended it")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(36, "File name too long", "a" * 400), PermissionError(13, "Permission denied", b"x")],
    ids=["memory", "name", "permission"],
)
def test_what_the_machine_refuses_is_no_defect(error, monkeypatch, capfd):
    def refuse(path):
        raise error

    monkeypatch.setattr("instructx2x.imaging.read", refuse)
    assert cli.main(["edit", "chest.png", "Add the finding of edema.", "-o", "out"]) == 2
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and "defect" not in told


START = "import sys; from instructx2x.cli import main; sys.exit(main())"


def started(*words, **options):
    return subprocess.run([sys.executable, "-c", START, *words], stderr=subprocess.PIPE, timeout=120, **options)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX streams")
def test_streams_that_are_shut(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        gone = started("--help", stdout=writer)
    finally:
        os.close(writer)
    assert (gone.returncode, gone.stderr) == (141, b"")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            told = started("--version", stdout=full)
        assert told.returncode == 2 and told.stderr.count(b"\n") == 1 and b"No space left" in told.stderr
    # A name that neither the terminal's encoding nor UTF-8 has.
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    said = started("edit", b"\xff\xc3\xbc.png", "Add edema.", "-o", "out", cwd=tmp_path, env=ascii_only)
    assert said.returncode == 2 and said.stderr.count(b"\n") == 1 and b"no such file" in said.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    """The process waits for the image, a pipe that nothing is written into."""
    code = (
        "import sys, time, instructx2x.imaging as imaging; from instructx2x.cli import main\n"
        "def read(path):\n    print('reading', flush=True)\n    time.sleep(60)\n"
        "imaging.read = read\nsys.exit(main())"
    )
    words = ["edit", "chest.png", "Add edema.", "-o", "out"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout.readline() == b"reading\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, b"interrupted: run the same command again to go on or to start over\n")
    assert not list(tmp_path.iterdir())
