import json
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from synthetic_mimic import write_mimic, write_published_statistics

from instructx2x.dataset.build import build
from instructx2x.dataset.images import Preparation
from instructx2x.dataset.output import Images
from instructx2x.dataset.pairs import Rules
from instructx2x.dataset.table import load_dataset

SMALL = Preparation(32)
TABLES_ONLY = Images(None)


class Built(NamedTuple):
    """A built dataset and what its files hold."""

    folder: Path
    report: dict
    table: pl.DataFrame
    rejects: pl.DataFrame


def _build(mimic, out, *, split="mimic", images=TABLES_ONLY, **rules) -> Built:
    report = build(mimic.diff_vqa, mimic.cxr_jpg, out, rules=Rules(**rules), split=split, images=images)
    assert json.loads((out / "report.json").read_text()) == report
    return Built(out, report, load_dataset(out), pl.read_parquet(out / "rejects.parquet"))


@pytest.fixture(scope="session")
def build_in():
    """build_in(mimic, out, **settings) -> Built; tables only unless `images` says otherwise."""
    return _build


@pytest.fixture
def build_tables(tmp_path):
    """build_tables(mimic, **settings) -> Built, tables only, each in a folder of its own."""

    def call(mimic, **settings):
        return _build(mimic, tmp_path / f"built{len(list(tmp_path.iterdir()))}", **settings)

    return call


@pytest.fixture(scope="session")
def mimic(tmp_path_factory):
    """A synthetic MIMIC with every trap, with images. Do not write into it."""
    return write_mimic(tmp_path_factory.mktemp("mimic"), seed=1)


@pytest.fixture(scope="session")
def seeded_mimics(tmp_path_factory):
    """The same without images, several of them, with more random patients."""
    return [write_mimic(tmp_path_factory.mktemp("mimics"), seed=seed, patients=260, images=False) for seed in (2, 3, 4)]


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Tables with the published statistics. Do not write into them."""
    return write_published_statistics(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def with_images(mimic, tmp_path_factory):
    """The dataset of `mimic` with the default rules and images of 32 pixels. Do not write into it."""
    return _build(mimic, tmp_path_factory.mktemp("with_images") / "out", images=Images(SMALL))


@pytest.fixture(scope="session")
def official(mimic, tmp_path_factory):
    """The same in the official layout. Do not write into it."""
    return _build(mimic, tmp_path_factory.mktemp("official") / "out", images=Images(SMALL, layout="official"))
