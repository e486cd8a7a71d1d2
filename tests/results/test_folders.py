"""The owner of output places: whole or not at all, nothing foreign lost, whatever is killed when."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instructx2x.errors import OutputError
from instructx2x.results import folders


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(text):
    def write(folder):
        (folder / "a.txt").write_text(text)
        (folder / "b.txt").write_text(text)

    return write


def no_foreign(folder):
    for path in folder.iterdir():
        if path.name not in ("a.txt", "b.txt"):
            raise OutputError(f"{folder} holds {path.name}")


def killed(script, *args, marker=None):
    """Run a script in a process of its own and end it with SIGKILL when it says so, or when it kills itself."""
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, args)], stdout=subprocess.PIPE, text=True)
    if marker is not None:
        assert process.stdout.readline().strip() == marker
        process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


# whole or not at all


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fails(folder):
        (folder / "a.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        folders.write_folder(tmp_path / "new/deep", fails)
    assert list(tmp_path.iterdir()) == []
    folders.write_folder(tmp_path / "new/deep", fill("one"))
    assert tree(tmp_path) == {"new/deep/a.txt": b"one", "new/deep/b.txt": b"one"}
    with pytest.raises(OutputError, match="there already"):
        folders.write_folder(tmp_path / "new/deep", fill("two"))
    with pytest.raises(OutputError, match="No space left"):
        folders.write_folder(tmp_path / "new/deep", fails, refuse_foreign=no_foreign)
    assert tree(tmp_path) == {"new/deep/a.txt": b"one", "new/deep/b.txt": b"one"}
    folders.write_folder(tmp_path / "new/deep", fill("two"), refuse_foreign=no_foreign)
    assert tree(tmp_path) == {"new/deep/a.txt": b"two", "new/deep/b.txt": b"two"}


def test_a_foreign_file_that_comes_last_is_kept(tmp_path):
    """Even one that is put into the folder after it was looked at."""
    folders.write_folder(tmp_path / "x", fill("one"))

    def write_meanwhile(folder):
        fill("two")(folder)
        (tmp_path / "x/notes.txt").write_text("mine")

    with pytest.raises(OutputError, match="notes"):
        folders.write_folder(tmp_path / "x", write_meanwhile, refuse_foreign=no_foreign)
    assert tree(tmp_path) == {"x/a.txt": b"one", "x/b.txt": b"one", "x/notes.txt": b"mine"}


def test_links_are_replaced_or_refused_but_never_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "link.txt").symlink_to("mine.txt")
    (tmp_path / "dangling.txt").symlink_to("nowhere/else.txt")
    for name in ("link.txt", "dangling.txt"):
        folders.atomic_write(tmp_path / name, lambda file: file.write_text("new"))
    assert tree(tmp_path) == {"mine.txt": b"mine", "link.txt": b"new", "dangling.txt": b"new"}
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    with pytest.raises(OutputError, match="is a link"):
        folders.write_folder(tmp_path / "to-folder", fill("x"), refuse_foreign=no_foreign)


# kills

REPLACE = """
import os, signal, sys
from pathlib import Path
from instructx2x.results import folders
place, moment = Path(sys.argv[1]), sys.argv[2]
def die(*args): os.kill(os.getpid(), signal.SIGKILL)
rename = os.rename
def renamed(a, b):
    if moment == f"before {Path(a).name}": die()
    rename(a, b)
    if moment == f"after {Path(a).name}": die()
os.rename = renamed
def fill(folder):
    (folder / "a.txt").write_text("two")
    if moment == "half": die()
    (folder / "b.txt").write_text("two")
folders.write_folder(place, fill, refuse_foreign=lambda folder: None)
"""


@pytest.mark.parametrize("moment", ["half", "before x", "after x", "before new", "after new"])
def test_a_replaced_folder_survives_a_kill_at_any_moment(tmp_path, moment):
    place = tmp_path / "x"
    folders.write_folder(place, fill("one"))
    killed(REPLACE, place, moment)
    folders.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert set(tree(place).values()) == {b"two" if moment == "after new" else b"one"} and len(tree(place)) == 2


def test_a_third_folder_in_the_place_of_a_replaced_one_loses_neither(tmp_path):
    place = tmp_path / "x"
    folders.write_folder(place, fill("one"))
    killed(REPLACE, place, "after x")
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    folders.sweep(tmp_path)
    assert {"x/mine.txt", "one"} <= {*tree(tmp_path), *(text.decode() for text in tree(tmp_path).values())}


HOLD = """
import sys, time
from instructx2x.results import folders
with {what}(sys.argv[1]) as folder:
    (folder / "half.png").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    killed(HOLD.format(what="folders.staging"), tmp_path, marker="ready")
    (dead,) = tmp_path.iterdir()
    with folders.staging(tmp_path) as alive:
        folders.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [alive] and dead != alive
    assert list(tmp_path.iterdir()) == []


def test_only_what_carries_our_mark_is_swept(tmp_path):
    names = (".0123456789abcdef.png", f".{'0' * 32}.partial", f".{'0' * 32}.earlier", ".x2x-0123456789abcdef")
    for name in names:
        (tmp_path / name).write_text("mine")
    foreign = tmp_path / ".x2x-1123456789abcdef"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    for number, mark in enumerate(("", "x2x", "mine")):
        other = tmp_path / f".x2x-2123456789abcde{number}"
        other.mkdir()
        (other / "mark").write_text(mark)
        (other / "thesis.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mark").write_bytes(folders._OURS)
    (tmp_path / ".x2x-3123456789abcdef").symlink_to("elsewhere")
    before = tree(tmp_path)
    folders.sweep(tmp_path)
    assert tree(tmp_path) == before
    # What a kill leaves before there is a mark.
    (tmp_path / ".x2x-4123456789abcdef").mkdir()
    (tmp_path / ".x2x-5123456789abcdef").mkdir()
    (tmp_path / ".x2x-5123456789abcdef/mark").touch()
    folders.sweep(tmp_path)
    assert tree(tmp_path) == before and not list(tmp_path.glob(".x2x-[45]*"))


def test_a_staging_folder_that_names_another_folder_moves_nothing_there(tmp_path):
    stage = tmp_path / "out/.x2x-0123456789abcdef"
    (stage / "earlier").mkdir(parents=True)
    (stage / "mark").write_bytes(folders._OURS)
    (stage / "target").write_text("../escaped")
    folders.sweep(tmp_path / "out")
    assert not (tmp_path / "escaped").exists() and (stage / "earlier").is_dir()


# claims


def test_a_claimed_folder_is_refused_to_others(tmp_path):
    with folders.claim(tmp_path / "out") as out:
        for path in (out, tmp_path / "OUT/../out"):
            with pytest.raises(OutputError, match=f"in use.*process {os.getpid()}"), folders.claim(path):
                pass
        folders.refuse_claimed(out)  # its owner may write there
        other = "import sys; from instructx2x.results.folders import refuse_claimed; refuse_claimed(sys.argv[1])"
        told = subprocess.run([sys.executable, "-c", other, out], capture_output=True, text=True)
        assert told.returncode and "in use by another run" in told.stderr
        (out / "kept").write_text("x")
    assert [path.name for path in out.iterdir()] == ["kept"]
    folders.refuse_claimed(out)
    with folders.claim(out):
        pass


def test_a_claim_ends_with_its_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(what="folders.claim"), tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "ready"
    with pytest.raises(OutputError, match=f"process {process.pid} "), folders.claim(tmp_path):
        pass
    process.kill()
    process.communicate()
    with folders.claim(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["half.png"]


def test_a_claim_leaves_no_empty_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), folders.claim(tmp_path / "a/b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# inputs


@pytest.fixture
def source(tmp_path):
    (tmp_path / "out/a").mkdir(parents=True)
    path = tmp_path / "out/a/a.png"
    path.write_text("source")
    return path


def test_a_place_that_is_or_contains_an_input_is_refused(tmp_path, source):
    (tmp_path / "link.png").symlink_to(source)
    (tmp_path / "second.png").symlink_to("link.png")
    (tmp_path / "folder").symlink_to("out/a")
    (tmp_path / "hard.png").hardlink_to(source)
    for given in (source, tmp_path / "link.png", tmp_path / "second.png", tmp_path / "folder/a.png"):
        for target in (source, source.parent, tmp_path / "out", tmp_path / "folder", tmp_path / "out/../out/a"):
            with pytest.raises(OutputError, match="input"):
                folders.refuse_inputs(target, [None, tmp_path / "nowhere", given])
    for target in (tmp_path / "link.png", tmp_path / "hard.png"):
        with pytest.raises(OutputError, match="is an input"):
            folders.refuse_inputs(target, [source])
    for target in (tmp_path / "out/b", tmp_path / "out/a/b", tmp_path / "other.png"):
        folders.refuse_inputs(target, [source])


def test_a_link_inside_the_place_is_an_input_too(tmp_path, source):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/link.png").symlink_to(source)
    with pytest.raises(OutputError, match="holds the input"):
        folders.refuse_inputs(tmp_path / "b", [tmp_path / "b/link.png"])


def test_a_relative_input(tmp_path, source, monkeypatch):
    monkeypatch.chdir(source.parent)
    with pytest.raises(OutputError, match="input"), folders.claim(tmp_path / "out", inputs=["a.png"]):
        pass
    with pytest.raises(OutputError, match="input"), folders.claim(".", inputs=[source]):
        pass
    assert tree(tmp_path) == {"out/a/a.png": b"source"}


# places that cannot be written


def bad_places(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    yield tmp_path / "file", "is a file"
    yield tmp_path / "file/below", "is a file"
    yield tmp_path / "file/below/that", "is a file"
    yield tmp_path / "dangling", "link to nowhere"
    yield tmp_path / "dangling/below", "No such file"
    yield tmp_path / ("n" * 300), "too long"
    yield tmp_path.joinpath(*["deep" * 25] * 60), "too long"
    yield tmp_path / "nul\0byte", "null"
    if Path("/proc").is_dir():
        yield Path("/proc/out"), "choose another folder"


def test_places_that_cannot_be_used_are_told_before_and_after_the_work(tmp_path):
    uses = (
        lambda out: folders.check_place(out / "x", ["a.txt"]),
        lambda out: folders.write_folder(out / "x", fill("x")),
        lambda out: folders.claim(out).__enter__(),
    )
    for out, words in bad_places(tmp_path):
        before = sorted(tmp_path.iterdir())
        for use in uses:
            with pytest.raises(OutputError, match=words) as caught:
                use(out)
            assert str(caught.value).isprintable()
        assert sorted(tmp_path.iterdir()) == before


def test_names_that_are_too_long_are_told_before_the_work(tmp_path):
    for name, file in (("n" * 300, "a"), ("x", "n" * 300)):
        with pytest.raises(OutputError, match="too long"):
            folders.check_place(tmp_path / "out" / name, [file])
    folders.check_place(tmp_path / "out/x", ["a.txt"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root ignores permissions")
def test_a_folder_without_permission(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        folders.check_place(tmp_path / "out/x", [])


# names


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "nul\0", "NUL", "con.png", "COM1", "lpt9.x"),
        *(".hidden", "a.", "a b", "a\nb", "\x1b[31m", "C:x", "a*", "x" * 101, "é" * 51, "\udcff"),
    ],
)
def test_what_is_no_plain_name(name):
    assert not folders.is_plain_name(name)


@pytest.mark.parametrize("name", ["00000013_005", "d7bd4e13-a6b2c3", "x" * 100, "é", "-x", "a.b", "console", "胸"])
def test_plain_names(name):
    assert folders.is_plain_name(name)


@pytest.mark.parametrize(
    "stem", ["a\nb", "x" * 255, "胸" * 90, "\x1b[31mred", "", "..", "a/b", "\udcff\udc80", " " * 9]
)
def test_a_folders_name_can_be_printed_and_made(stem, tmp_path):
    name = folders.folder_name(stem)
    assert name.isprintable() and len(name.encode()) <= folders.MAX_NAME and name not in (".", "..", "")
    (tmp_path / name).mkdir()
    assert folders.folder_name("chest 1.2") == "chest 1.2"


def test_two_writers_of_one_place(tmp_path):
    """Many processes that replace one folder: in the end it is one of theirs, whole, and nothing is left over."""
    script = """
import sys
from instructx2x.results import folders
for n in range(15):
    try:
        folders.sweep(sys.argv[1])
        folders.write_folder(sys.argv[1] + "/x", lambda f: [(f / k).write_text(sys.argv[2]) for k in "ab"],
                             refuse_foreign=lambda folder: None)
    except folders.OutputError:
        pass
"""
    args = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen([*args, str(number)]) for number in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    folders.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert len(set(tree(tmp_path / "x").values())) == 1 and len(tree(tmp_path / "x")) == 2
