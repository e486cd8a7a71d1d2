"""Every `sh` block of README and docs runs as written, in order, in one folder, on stand-ins for the user's files."""

import gzip
import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
import typer.main
from PIL import Image
from pydicom import uid
from synthetic_mimic import write_mimic
from tokenizers import pre_tokenizers

from instructx2x import cli
from instructx2x.models import backbone, clip_tokenizer

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/start/getting-started.md",
    *(
        ROOT / f"docs/how-to/{name}.md"
        for name in (
            "images", "batches", "regions", "checkpoints", "dataset", "training", "evaluating", "judges", "auditing",
        )
    ),
]  # fmt: skip

# What does not run here, and why. Each is still read: see `parsed`.
NOT_RUN = {
    "python3 -m venv": "makes an environment; .ci/run does it",
    "pip install": "fetches packages; .ci/run does it",
    "pytest": "is this run",
    "torchrun": "wants eight GPUs, or two machines; tests/training runs two processes",
    "x2x train": "takes hours or days; tests/training runs small recipes of both kinds from beginning to end",
}


def blocks(page, language="sh"):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """The page's commands, a list of words each, lines that go on joined and comments dropped."""
    for block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line.replace(".venv/bin/", ""), comments=True):
                yield words


def test_every_page_with_commands_is_run():
    pages = {ROOT / "README.md", *(ROOT / "docs/start").glob("*.md"), *(ROOT / "docs/how-to").glob("*.md")}
    assert set(PAGES) == {page for page in pages if blocks(page)}


def why_not_run(words):
    return next((why for start, why in NOT_RUN.items() if " ".join(words).startswith(start)), None)


def parsed(words):
    """Whether every word of a command that is not run means something."""
    if words[0] == "torchrun":
        words = ["x2x", *words[words.index("instructx2x.cli") + 1 :]]
    if words[0] == "x2x":
        group = typer.main.get_command(cli.app)
        with group.make_context("x2x", list(words[1:])) as context:
            name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
            command.make_context(name, rest, parent=context)
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert all(extra in extras for group in re.findall(r"\[(.*?)\]", " ".join(words)) for extra in group.split(","))
        # Without the constraints pip may replace an installed PyTorch by another build of it.
        assert "--no-deps" in words or (words[2:4] == ["-c", "constraints.txt"] and (ROOT / words[3]).is_file())
    else:
        assert words in (["python3", "-m", "venv", ".venv"], ["pytest"])


def python_file(page, name):
    """The block of a page that starts with the file's name."""
    return next(block for block in blocks(page, "python") if block.startswith(f"# {name}\n"))


def write_dicom(path, pixels):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, uid.generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "DX", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


def write_checkpoint(path):
    """A small checkpoint of the original code, with as many words as CLIP has."""
    spec = importlib.util.spec_from_file_location("compvis_checkpoints", ROOT / "tests/models/conftest.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    # Attention where there are few cells, for a converted model works at 512 pixels.
    unet, vae = made.unet_shapes(8, 32, (1, 2, 2), (2,), 64), made.vae_shapes(32, (1, 1, 1, 1))
    shapes = made.checkpoint_shapes(unet, vae, made.text_shapes(49_408, 64, 1), False)
    made.compvis_shapes = lambda *_: shapes
    tensors = made.compvis_checkpoint(ema=False)
    torch.save({"state_dict": tensors}, path)


def write_word_pieces(package):
    """A package that brings a file as long as CLIP's, of other words."""
    package.mkdir()
    (package / "__init__.py").touch()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    with gzip.open(package / clip_tokenizer.FILE, "wt", encoding="utf-8", compresslevel=1) as stream:
        stream.write("\n".join(["version", *(f"{one} {other}" for one in letters for other in letters)]))


@pytest.fixture
def scratch(tmp_path, monkeypatch, make_chest, tiny_model, few_steps):
    """A folder with everything that the commands name: images, tables, masks, models, a synthetic MIMIC."""
    film = make_chest(512, 448)
    Image.fromarray(film).save(tmp_path / "chest.png")
    write_dicom(tmp_path / "chest.dcm", make_chest(400, 360, maximum=4095, dtype=np.uint16))
    for name in ("study1", "study2", "films", "generated", "others"):
        (tmp_path / name).mkdir()
    for number, path in enumerate(("a.png", "b.png", "study2/b.png", "films/1.png", "films/2.png")):
        Image.fromarray(make_chest(seed=number)).save(tmp_path / path)
    for name in "ab":
        for folder in ("generated", "others"):
            shutil.copy(tmp_path / "a.png", tmp_path / folder / f"{name}.png")
    write_dicom(tmp_path / "study1/a.dcm", make_chest(maximum=4095, dtype=np.uint16, seed=5))
    how_to = ROOT / "docs/how-to"
    (tmp_path / "cohort.csv").write_text(blocks(how_to / "batches.md", "text")[0])
    head, *rows = blocks(how_to / "auditing.md", "text")[0].splitlines()
    rows = [f"{row},Add the finding of left pleural effusion." for row in rows]
    (tmp_path / "cases.csv").write_text("\n".join([f"{head},instruction", *rows, ""]))
    for name in ("mine.py", "my_model.py"):
        (tmp_path / name).write_text(python_file(how_to / "auditing.md", "mine.py"))
    where = np.zeros(film.shape, np.uint8)
    where[200:400, 60:200] = 255
    for name in ("region.png", "devices.png"):
        Image.fromarray(where).save(tmp_path / name)

    (tmp_path / "MARKS.csv").write_text("image_id,finding,x,y,w,h\na,Mass,0.2,0.3,0.2,0.2\n")
    chestxdet = [
        {
            "file_name": "1.png",
            "syms": ["Mass"],
            "boxes": [[200, 300, 400, 500]],
            "polygons": [[[200, 300], [400, 300], [400, 500], [200, 500]]],
        }
    ]
    (tmp_path / "MORE.json").write_text(json.dumps(chestxdet))
    mimic = write_mimic(tmp_path / "mimic", seed=6)
    for made, name in ((mimic.diff_vqa, "medical-diff-vqa/1.0.1"), (mimic.cxr_jpg, "mimic-cxr-jpg/2.1.0")):
        (tmp_path / name).parent.mkdir()
        shutil.move(made, tmp_path / name)
    shutil.copy(tmp_path / "mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-metadata.csv.gz", tmp_path)
    with gzip.open(tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz", "rt") as table:
        views = [line.split(",") for line in table]
    pa = next(row[0] for row in views if row[4] == "PA")
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text(
        "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split\n"
        f"{pa},Pneumonia,,,10,10,100,100,512,512,test\n"
    )

    for name in ("my/model", "runs/first/model", "runs/v1/model", "runs/bundled/model"):
        shutil.copytree(tiny_model, tmp_path / name)
    write_checkpoint(tmp_path / "instructx2x.ckpt")
    write_word_pieces(tmp_path / "open_clip")

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backbone, "BUNDLED", tiny_model)
    return tmp_path


@pytest.mark.ci
def test_every_block_runs_as_written(scratch, run):
    """With exit code 0 and nothing on stderr, which here is no terminal."""
    failed = []
    for page in PAGES:
        for words in commands(page):
            if why_not_run(words):
                parsed(words)
                continue
            assert words[0] == "x2x", words
            code, _, err = run(*words[1:])
            if (code, err) != (0, ""):
                failed.append(f"{page.name}: {shlex.join(words)}\n{code}: {err}")
    assert not failed, "\n".join(failed)
