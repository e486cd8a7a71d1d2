"""`x2x train`: run a recipe stage by stage; every stage goes on where it was cut off.

The stage "lungs" trains the lung network into `work/lungs.safetensors`. The other stages and the editor use the one in
the package, `anatomy/data/lungs.safetensors`; copying the new one over it is left to a person who has looked at it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instructx2x.errors import InputError
from instructx2x.training.recipe import read_toml

STAGES = ("vae", "lungs", "pairs", "text_encoder", "unet", "bundle")
# What a stage reads of the data beside metadata.csv and the X-rays.
READS = {"lungs": ("masks.csv",), "pairs": ("chestxdet_polygons.jsonl.gz", "boxes.csv")}
# What a model to start from brings with it.
BROUGHT = ("vae", "lungs", "text_encoder")


def read_recipe(recipe: str | Path) -> dict[str, Any]:
    """A recipe by name (of those in `training/recipes`) or by path.

    Raises:
        InputError: there is no such recipe, or it is not TOML with the expected tables.
    """
    content = read_toml(recipe)
    expected = ("size", "seed", "vae", "pairs", "text_encoder", "unet", "calibration")
    missing = [key for key in expected if key not in content]
    if missing:
        raise InputError(f"{recipe} is not a recipe: it lacks {', '.join(missing)}")
    return content


def run(
    recipe: str | Path,
    *,
    data: Path,
    work: Path,
    out: Path | None = None,
    stages: Sequence[str] = STAGES,
    device: str = "cpu",
) -> Path:
    """Train the bundled model.

    Args:
        recipe: name or path.
        data: folder of the open X-rays.
        work: folder for checkpoints, curves and parts.
        out: folder of the finished model, replaced where a run of this work folder wrote it; `work/model` by default.
        stages: which of STAGES to run; what they need from earlier ones is read from `work`.
        device: torch device.

    Returns:
        The folder of the finished model.

    Raises:
        InputError: recipe, data or stage is not there, or `work` holds a run with other settings.
        ModelError: there is no such device.
        OutputError: what is at `out` is not a model of this work folder, or a place cannot be written to.
    """
    settings = read_recipe(recipe)
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise InputError(f"stage {unknown[0]} is not one of: {', '.join(STAGES)}")
    out = out or work / "model"

    import torch

    from instructx2x.models import load
    from instructx2x.models.backbone import usable_device
    from instructx2x.models.clip_tokenizer import read_tokenizer
    from instructx2x.models.parts import fill, read_part
    from instructx2x.training import bundle, calibration, healing, lungs, pairs, text_encoder, unet, vae
    from instructx2x.training import data as open_data
    from instructx2x.training.samples import Sampler
    from instructx2x.training.simulation.lesions import load_outlines, traits
    from instructx2x.training.simulation.transplants import load_boxes

    for name, function in (
        ("vae", vae.train_vae),
        ("pairs", pairs.simulate),
        ("text_encoder", text_encoder.train_text_encoder),
        ("unet", unet.train_unet),
        ("calibration", calibration.calibrate),
    ):
        strange = sorted(set(settings[name]) - set(inspect.signature(function).parameters))
        if strange:
            raise InputError(f"recipe {recipe}: [{name}] has no setting {strange[0]!r}")

    if "start" in settings:
        stages = [stage for stage in stages if stage not in BROUGHT]
    for stage in stages:
        for file in READS.get(stage, ()):
            if not (data / file).is_file():
                raise InputError(f"{data / file} not found: the stage {stage} needs it; --stage runs others alone")
    device = str(usable_device(device))
    bundle.check_place(out, work, [data, recipe if Path(recipe).is_file() else None])
    size, seed = settings["size"], settings["seed"]
    table = open_data.load_table(data)
    images = open_data.load_images(data, table, size, work)

    if "vae" in stages:
        vae.train_vae(images, table, work=work, size=size, seed=seed, device=device, **settings["vae"])
    if "lungs" in stages:
        lungs.train_lungs(data, work / "lungs.safetensors", seed=seed, checkpoints=work / "lungs")
    if "pairs" in stages:
        outlines, boxes = load_outlines(data), load_boxes(data)
        for split in ("train", "val"):
            pairs.simulate(
                images, table, outlines, boxes, work / f"pairs_{split}", split=split, seed=seed, **settings["pairs"]
            )
            regions = work / f"pairs_{split}" / "regions.pt"
            healing.write_regions(images, table, traits(outlines), regions, split=split, seed=seed)
    if not {"text_encoder", "unet", "bundle"} & set(stages):
        return out

    def stage(name: str) -> Path:
        if not (work / name).is_dir():
            raise InputError(f"{work / name} is not there yet: run the stages before it first")
        return work / name

    def part(name: str) -> torch.nn.Module:
        return fill(read_part(stage(name).parent, name), "cpu", torch.float32).requires_grad_(True)

    def sampler_of(split: str) -> Sampler:
        folder = work / f"pairs_{split}"
        bank = pairs.encode_bank(autoencoder, images, folder)
        return Sampler(bank, table, split, healing.read_regions(folder / "regions.pt", bank.clean.shape[-1]))

    if "start" in settings:
        begun = load(settings["start"], device="cpu")
        for name in ("vae", "text_encoder", "tokenizer"):
            if not (work / name).is_dir():
                getattr(begun, name).save_pretrained(work / name)
    autoencoder = part("vae").to(device)
    sampler = sampler_of("train")
    if "text_encoder" in stages:
        text_encoder.train_text_encoder(sampler, work=work, seed=seed, device=device, **settings["text_encoder"])
    if "unet" in stages:
        unet.train_unet(
            sampler,
            autoencoder,
            read_tokenizer(stage("tokenizer")),
            part("text_encoder"),
            work=work,
            start=begun.unet if "start" in settings else None,
            seed=seed,
            device=device,
            **settings["unet"],
        )
    if "bundle" in stages:
        held_out = sampler_of("val")

        def write(folder: Path) -> None:
            # Whole or not at all: a half model would load, and pass for one without calibration.
            bundle.bundle(work, folder)
            calibration.calibrate(
                load(folder, device=device), held_out, folder / "calibration.json", seed=seed, **settings["calibration"]
            )

        bundle.put_in_place(out, work, write)
    return out
