"""`x2x info`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from instructx2x import __version__
from instructx2x.cli.console import one_line, stderr

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "pydicom", "imagecodecs", "pillow", "polars")
EXTRAS = {"SimpleITK": "x2x dataset build --register", "datasets": "reading datasets with Hugging Face"}
LICENCES = {
    "software": "Apache-2.0",
    "bundled weights": "Apache-2.0; trained on X-rays of NIH, Hannover, Kermany and Cohen: name them",
    "anatomical priors": "counts over marks of NIH, ChestX-Det and RSNA, and V7 Labs' lung masks: name them",
    "the paper's weights": "not part of this package; see the documentation on checkpoints",
}


def info(
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The model to describe: bundled, a folder, or hub:owner/name.")
    ] = "bundled",
) -> None:
    """Show versions, devices, the model and licences: what to put into a report or a question.

    `x2x info`

    `x2x info --model models/instructx2x`
    """
    with stderr().status("Looking around"):
        import torch

        from instructx2x.models import load

        backbone = load(model, device="cpu")
        parts = {
            name: sum(weights.numel() for weights in getattr(backbone, name).parameters()) / 1e6
            for name in ("vae", "text_encoder", "unet")
        }
        devices = [f"cpu ({torch.get_num_threads()} threads)"]
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            devices.append(f"cuda:{number} ({torch.cuda.get_device_name(number)}, {memory:.0f} GiB)")
        if torch.backends.mps.is_available():
            devices.append("mps")
    sizes = ", ".join(f"{name} {millions:.2f} M" for name, millions in parts.items())
    # Plain lines: they are pasted into reports, where a table would break paths and hashes.
    lines = [
        ("x2x", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"),
        ("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)),
        *(("extra", f"{name} {_version(name)}: {use}") for name, use in EXTRAS.items()),
        ("devices", ", ".join(devices)),
        ("model", f"{backbone.name}, {backbone.path}"),
        ("", f"SHA-256 {backbone.digest}"),
        ("", f"{backbone.size} x {backbone.size} px, up to {backbone.token_limit} tokens; parameters: {sizes}"),
        ("", f"relevance: {'' if backbone.calibrated else 'un'}calibrated"),
        *(("licence", f"{name}: {licence}") for name, licence in LICENCES.items()),
    ]
    for name, value in lines:
        print(f"{name:<10} {one_line(value)}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
