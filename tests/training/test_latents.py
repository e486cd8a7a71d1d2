"""Images encoded once, by any number of processes, on a disk that they need not see alike at every moment."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from instructx2x.errors import OutputError
from instructx2x.models import load
from instructx2x.training import journal, latents
from instructx2x.training.latents import encode_images

FILES = [f"{number}.png" for number in range(6)]


@pytest.fixture(scope="module")
def vae(tiny_model):
    return load(tiny_model, device="cpu").vae


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_chest):
    folder = tmp_path_factory.mktemp("data")
    for seed, file in enumerate(FILES):
        Image.fromarray(make_chest(64, 64, seed=seed)).save(folder / file)
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Six images are six files."""
    monkeypatch.setattr(latents, "SHARD", 1)


def processes(count):
    """Stand-ins for accelerate's view from each of `count` processes, which are threads here."""
    barrier = Barrier(count, timeout=60)
    return [
        SimpleNamespace(
            process_index=index, num_processes=count, is_main_process=index == 0, wait_for_everyone=barrier.wait
        )
        for index in range(count)
    ]


def encode(vae, data, folder, count):
    """What each of `count` processes comes out with."""
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(encode_images, vae, data, FILES, folder, "key", each) for each in processes(count)]
    return [future.result() for future in futures]


def means(encoded):
    return torch.stack([encoded.mean(file) for file in FILES])


def test_what_another_process_sees_leaves_no_image_out(vae, data, tmp_path, monkeypatch):
    (alone,) = encode(vae, data, tmp_path / "alone", 1)
    encode(vae, data, tmp_path / "shared", 2)
    (folder,) = (tmp_path / "shared").iterdir()
    for name in ("00001.npy", "00002.npy", "00005.npy"):
        (folder / name).unlink()
    # As after a kill on a disk shared by machines: one of them still sees an empty folder, the other what is there.
    listed, seen = latents._listed, []

    def late(path):
        seen.append(path)
        return set() if len(seen) == 1 else listed(path)

    monkeypatch.setattr(latents, "_listed", late)
    for encoded in encode(vae, data, tmp_path / "shared", 2):
        assert torch.equal(means(encoded), means(alone))
    assert len(seen) == 4


def test_a_work_that_machines_do_not_share_is_told(vae, data, tmp_path):
    apart = [tmp_path / "here", tmp_path / "there"]
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(encode_images, vae, data, FILES, folder, "key", each)
            for folder, each in zip(apart, processes(2), strict=True)
        ]
    for future in futures:
        with pytest.raises(OutputError, match=r"lacks 3 files .* that all machines see"):
            future.result()


def test_what_was_encoded_is_not_encoded_again(vae, data, tmp_path):
    encode(vae, data, tmp_path, 1)
    (folder,) = tmp_path.iterdir()
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    encode(vae, data, tmp_path, 3)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before and len(before) == 6


def test_only_the_main_process_tells_of_its_share(vae, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(journal, "LINE_EVERY", 0)
    encode(vae, data, tmp_path, 3)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in told] == ["Encoding images: 1 of 2", "Encoding images: 2 of 2"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a list of open files")
def test_shards_are_not_kept_open(vae, data, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    (encoded,) = encode(vae, data, tmp_path, 1)
    assert torch.isfinite(means(encoded)).all()
    assert len(os.listdir("/proc/self/fd")) == before
