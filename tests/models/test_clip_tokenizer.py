"""CLIP's tokenizer from a word-piece file in its format, and from folders."""

from __future__ import annotations

import gzip
from itertools import islice, product

import pytest
from tokenizers import pre_tokenizers

from instructx2x.errors import ModelError
from instructx2x.models import clip_tokenizer
from instructx2x.models.clip_tokenizer import FILE, tokenizer

SIZE = 49408


def merges():
    """As many merges as CLIP has: the letters of "edema", then pairs of any two letters."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    word = ["e d", "ed e", "m a</w>"]
    return [*word, *islice((f"{a} {b}" for a, b in product(letters, letters) if f"{a} {b}" not in word), 48_897)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("package") / FILE
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.write("version\n" + "\n".join(merges()) + "\n")
    return file


def test_ids_follow_the_files_order(file):
    loaded = tokenizer(file, SIZE, 77)
    assert len(loaded) == SIZE and loaded.model_max_length == 77
    # 512 bytes come before the merges: "ede" is the second of them, "ma" with a word's end the third.
    assert loaded("Edema", padding="max_length", max_length=5).input_ids == [49406, 513, 514, 49407, 49407]
    assert loaded("!").input_ids == [49406, 256, 49407]


def test_the_real_file_gives_clips_published_ids():
    """Where open_clip or clip is installed."""
    try:
        loaded = tokenizer(None, SIZE, 77)
    except ModelError:
        pytest.skip("no installed package brings CLIP's vocabulary")
    assert loaded("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_an_installed_package_is_found_and_not_imported(file, monkeypatch):
    (file.parent / "__init__.py").touch()
    package = file.parent.rename(file.parent.with_name("open_clip"))
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(package.parent)
    try:
        assert len(tokenizer(None, SIZE, 77)) == SIZE
    finally:
        package.rename(file.parent)


def test_a_folder_and_a_models_folder(make_tiny_model, tmp_path):
    new = make_tiny_model(tmp_path / "new", tokenizer_json=True)
    old = make_tiny_model(tmp_path / "old", tokenizer_json=False)
    texts = [tokenizer(place, 514, 77)("edema").input_ids for place in (new, new / "tokenizer", old / "tokenizer")]
    assert texts[0] == texts[1] == texts[2]


def refused(source, size=SIZE):
    with pytest.raises(ModelError) as caught:
        tokenizer(source, size, 77)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_vocabulary_the_error_says_what_to_give(monkeypatch):
    monkeypatch.setattr(clip_tokenizer, "PACKAGES", ("no_such_package",))
    assert "--tokenizer" in refused(None) and "open_clip_torch" in refused(None)


def test_a_vocabulary_of_another_size_is_refused(file, make_tiny_model, tmp_path):
    assert "49408 tokens" in refused(file, 49409)
    assert "514 tokens" in refused(make_tiny_model(tmp_path / "model"), SIZE)


def test_damaged_sources_are_refused(file, tmp_path):
    assert "no tokenizer" in refused(tmp_path / "nowhere")
    assert "neither" in refused(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "not CLIP's kind" in refused(tmp_path)
    bad = tmp_path / FILE
    for content in (b"", b"text", file.read_bytes()[:5000], gzip.compress(b""), gzip.compress(b"version\na b\n")):
        bad.write_bytes(content)
        assert "is not CLIP's" in refused(bad)
    bad.write_bytes(gzip.compress(("version\n" + "no such\n" * 48_894).encode()))
    assert "is not CLIP's" in refused(bad)
