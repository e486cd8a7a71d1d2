"""The figures of the bundled model's card, measured on val patients and unseen sentences.

    python benchmarks/model_card.py --data DATA --work WORK [--model FOLDER] [--curves curves.png]

WORK is the folder of the training run: its held-out simulated pairs are used, and its curves are drawn.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from instructx2x.instructions import render
from instructx2x.models import Backbone, load
from instructx2x.training.data import load_images, load_table
from instructx2x.training.samples import random_edit
from instructx2x.training.vae import decode, encode


def sizes(backbone: Backbone) -> None:
    print("\n| part | parameters, M | file, MB |\n|---|---|---|")
    for name in ("vae", "text_encoder", "unet"):
        count = sum(p.numel() for p in getattr(backbone, name).parameters()) / 1e6
        size = sum(f.stat().st_size for f in (backbone.path / name).glob("*.safetensors")) / 1e6
        print(f"| {name} | {count:.2f} | {size:.1f} |")


def autoencoder(backbone: Backbone, images: np.ndarray, rows: np.ndarray, work: Path) -> None:
    """PSNR of whole val images, and how much of a simulated lesion's contrast comes through."""
    squares = images[rows]
    restored = decode(backbone.vae, encode(backbone.vae, squares))
    psnr = -10 * np.log10(((restored - squares / 255.0) ** 2).mean(axis=(1, 2)))
    print("\n| autoencoder | images | mean | 5th percentile |\n|---|---|---|---|")
    print(f"| PSNR on adult val images, dB | {len(rows)} | {psnr.mean():.1f} | {np.percentile(psnr, 5):.1f} |")
    kept = []
    for file in sorted((work / "pairs_val").glob("chunk_*.npy"))[:1]:
        painted = np.load(file)
        pairs = [p for p in json.loads(file.with_suffix(".json").read_text()) if p["kind"] == "lesion"][:150]
        before = images[[p["image"] for p in pairs]]
        after = painted[[p["painted"] for p in pairs]]
        wanted = (after.astype(np.float32) - before) / 255
        got = decode(backbone.vae, encode(backbone.vae, after)) - decode(backbone.vae, encode(backbone.vae, before))
        kept += list((got * wanted).sum(axis=(1, 2)) / (wanted**2).sum(axis=(1, 2)))
    low = np.percentile(kept, 5)
    print(f"| share of a simulated lesion's contrast kept | {len(kept)} | {np.mean(kept):.2f} | {low:.2f} |")


@torch.no_grad()
def text_probe(backbone: Backbone, count: int = 1500, seed: int = 12345) -> None:
    """Linear probes on the mean of the text's states: trained on half of the sentences, read off the other half.

    No sentence stands in both halves. The text encoder has learned from sentences of the same grammar.
    """
    rng = np.random.default_rng(seed)
    edits = list(dict.fromkeys(random_edit(rng) for _ in range(count)))
    states = np.stack([backbone.embed(render((e,)))[0].float().mean(0).cpu().numpy() for e in edits])
    print("\n| read off the text | values | accuracy on unseen sentences | always the commonest |\n|---|---|---|---|")
    half = len(edits) // 2
    for field in ("operation", "finding", "side", "zone", "level"):
        values = np.array([str(getattr(e, field)) for e in edits])
        probe = LogisticRegression(max_iter=2000, C=100).fit(states[:half], values[:half])
        _, counts = np.unique(values[half:], return_counts=True)
        right = (probe.predict(states[half:]) == values[half:]).mean()
        print(f"| {field} | {len(counts)} | {right:.3f} | {counts.max() / counts.sum():.3f} |")


def curves(work: Path, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn = (
        ("vae", "psnr", "PSNR of crops, dB"),
        ("decoder", "psnr", "PSNR of crops, dB"),
        ("text_encoder", "heads", "loss of the heads"),
        ("unet", "error", "squared error of the noise"),
    )
    figure, axes = plt.subplots(1, len(drawn), figsize=(4 * len(drawn), 3))
    for axis, (name, column, label) in zip(axes, drawn, strict=True):
        with (work / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        values = np.array([float(row[column]) for row in rows])
        smooth = np.convolve(np.pad(values, 2, mode="edge"), np.ones(5) / 5, mode="valid")
        axis.plot([int(row["step"]) for row in rows], smooth)
        axis.set_title(f"{name}: {label}", fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        if column != "psnr":
            axis.set_yscale("log")
    figure.tight_layout()
    figure.savefig(out, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--curves", type=Path, help="draw the training curves to this file")
    parser.add_argument("--count", type=int, default=100, help="val images for the autoencoder")
    arguments = parser.parse_args()
    backbone = load(arguments.model, device="cpu")
    table = load_table(arguments.data)
    images = load_images(arguments.data, table, backbone.size, arguments.work)
    rows = np.flatnonzero((table["adult"] & (table["split"] == "val")).to_numpy())[: arguments.count]
    sizes(backbone)
    autoencoder(backbone, images, rows, arguments.work)
    text_probe(backbone)
    if arguments.curves:
        curves(arguments.work, arguments.curves)


if __name__ == "__main__":
    main()
