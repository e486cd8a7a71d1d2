"""Training of the lung network: reviewed masks first, then one round on its own confident answers.

The reviewed masks are few (about forty, all of COVID-19 patients), so the pictures are changed strongly:
geometry, exposure, haze, blur, noise, collimation, and white disease painted into the lungs, whose outline
must still be found. Pictures that are no upright chest X-ray are shown with empty targets, so that "no lungs"
can be an answer.

    python -m instructx2x.training.lungs --data DATA --out lungs.safetensors
    python -m instructx2x.training.lungs --data DATA --folds 3        (cross-validated Dice only)

With --checkpoints FOLDER, either of them goes on where it was cut off.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from safetensors.torch import save
from torch.nn import functional

from instructx2x.anatomy.lungs import SIZE, LungNet, implausibility, symmetric_probabilities
from instructx2x.errors import InputError, InstructX2XError
from instructx2x.training.loop import fast_halves, restore
from instructx2x.training.lung_augmentation import augment
from instructx2x.training.lung_data import LungSet, reviewed, unlabelled
from instructx2x.training.states import write_state

BATCH = 16
LEARNING_RATE = 2e-3
HUMAN_STEPS = 450
SELF_STEPS = 500
UNLABELLED = 450
AGREEMENT = 0.95


def loss_of(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus one minus the soft Dice, over both lungs; an empty target asks for nothing."""
    entropy = functional.binary_cross_entropy_with_logits(logits, masks)
    probabilities = logits.sigmoid()
    common = (probabilities * masks).sum((2, 3))
    total = (probabilities + masks).sum((2, 3))
    return entropy + (1 - (2 * common + 20) / (total + 20)).mean()


def fit(
    net: LungNet,
    sets: list[LungSet],
    *,
    steps: int,
    seed: int,
    label: str,
    learning_rate: float = LEARNING_RATE,
    checkpoint: Path | None = None,
    checkpoint_every: int = 200,
) -> LungNet:
    """Train `net` in place on equal shares of the given sets and return the moving average of its weights.

    Args:
        net: the network to go on from.
        sets: each gives BATCH / len(sets) pictures to every batch.
        steps: number of batches; the learning rate warms up over a tenth, then falls along a half cosine.
        seed: with the step number it fixes every random choice, so that a resumed run sees the same batches.
        label: name in the progress bar.
        learning_rate: its peak.
        checkpoint: where the state is kept every `checkpoint_every` steps and at the end, and looked for at the start.

    Raises:
        InputError: the checkpoint is of a run with other patients, steps or seed.
    """
    net = net.train().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1, pct_start=0.1)
    parts = {"net": net, "average": average, "optimizer": optimizer, "schedule": schedule}
    run = [steps, seed, [list(s.patients) for s in sets]]
    first = 0
    if checkpoint is not None and checkpoint.is_file():
        first = restore(checkpoint, run, parts, "choose other --checkpoints")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    share = BATCH // len(sets)
    console = Console(stderr=True)
    columns = (*columns, TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(label, total=steps, completed=first, loss=float("nan"))
        for step in range(first, steps):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            picks = [torch.randint(len(s.patients), (share,), generator=generator) for s in sets]
            images = torch.cat([s.images[pick] for s, pick in zip(sets, picks, strict=True)])
            masks = torch.cat([s.masks[pick] for s, pick in zip(sets, picks, strict=True)])
            images, masks = augment(images, masks, generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_halves(torch.device("cpu"))):
                logits = net(images.contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            progress.update(bar, advance=1, loss=float(loss.detach()))
            if checkpoint is not None and ((step + 1) % checkpoint_every == 0 or step + 1 == steps):
                state = {name: part.state_dict() for name, part in parts.items()}
                write_state({"run": run, "step": step + 1, **state}, checkpoint)
    return average.module.eval()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice overlap of two boolean arrays of one shape; 1 when both are empty."""
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else 1.0


@torch.inference_mode()
def pseudo_labels(net: LungNet, images: torch.Tensor, patients: tuple[str, ...]) -> LungSet:
    """The network's own answers where they are plausible and stable.

    Each picture is seen as it is, with gamma 0.7 and 1.5, and zoomed out to 0.75, each also mirrored; the
    answer is the mean. It is kept when every answer reaches a Dice of AGREEMENT with it, for both lungs.
    """
    kept, masks = [], []
    margin = SIZE // 8
    everywhere = np.ones((SIZE, SIZE), bool)
    for i in range(len(images)):
        image = images[i : i + 1]
        answers = [symmetric_probabilities(net, torch.cat([image, image**0.7, image**1.5]))]
        shrunk = functional.interpolate(image, (SIZE - 2 * margin,) * 2, mode="bilinear", antialias=True)
        answer = symmetric_probabilities(net, functional.pad(shrunk, [margin] * 4))
        inner = answer[..., margin:-margin, margin:-margin]
        answers.append(functional.interpolate(inner, (SIZE, SIZE), mode="bilinear", align_corners=False))
        several = torch.cat(answers).numpy()
        mean = several.mean(0)
        stable = min(dice(one[side] >= 0.5, mean[side] >= 0.5) for one in several for side in (0, 1)) >= AGREEMENT
        if stable and not implausibility(mean, everywhere):
            kept.append(i)
            masks.append(mean)
    return LungSet(images[kept], torch.from_numpy(np.array(masks, np.float32)), tuple(patients[i] for i in kept))


@torch.inference_mode()
def scores(net: LungNet, held_out: LungSet) -> np.ndarray:
    """(N, 2) Dice of each picture's right and left lung."""
    answers = symmetric_probabilities(net, held_out.images).numpy() >= 0.5
    truth = held_out.masks.numpy() >= 0.5
    return np.array([[dice(a[side], t[side]) for side in (0, 1)] for a, t in zip(answers, truth, strict=True)])


def train_network(
    human: LungSet,
    pool: tuple[torch.Tensor, tuple[str, ...]] | None,
    *,
    seed: int,
    steps: tuple[int, int],
    checkpoints: Path | None = None,
    console: Console | None = None,
) -> LungNet:
    """Both rounds: reviewed masks alone, then reviewed masks and the network's own answers in equal shares.

    Args:
        human: reviewed masks.
        pool: unlabelled pictures and their patients; None leaves the second round out.
        seed: fixes the first weights and every random choice.
        steps: batches of the first and of the second round.
        checkpoints: folder for the two rounds' states; None keeps none.
        console: where the count of own answers is told.
    """
    torch.manual_seed(seed)
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)

    def place(name: str) -> Path | None:
        return checkpoints / name if checkpoints is not None else None

    net = fit(LungNet(), [human], steps=steps[0], seed=seed, label="reviewed masks", checkpoint=place("human.pt"))
    if pool is None:
        return net
    own = pseudo_labels(net, *pool)
    if console is not None:
        console.print(f"{len(own.patients)} of {len(pool[1])} unlabelled pictures have a stable, plausible answer")
    if not own.patients:
        return net
    return fit(
        net, [human, own], steps=steps[1], seed=seed + 1, label="own answers", checkpoint=place("self.pt"),
        learning_rate=LEARNING_RATE / 2,
    )  # fmt: skip


def train_lungs(
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    steps: tuple[int, int] = (HUMAN_STEPS, SELF_STEPS),
    unlabelled_count: int = UNLABELLED,
    checkpoints: Path | None = None,
) -> Path:
    """Train the lung network on the training split and write its weights, half precision, as safetensors.

    Args:
        data: folder with metadata.csv, masks.csv, images/ and masks/.
        out: the weights file; written whole or not at all.
        seed: fixes every random choice.
        steps: batches of the two rounds; a second of 0 leaves self-training out.
        unlabelled_count: how many NIH training pictures are offered to self-training.
        checkpoints: folder from which an interrupted run goes on; None starts afresh and keeps nothing.

    Raises:
        InputError: the data folder is not what it should be.
    """
    human = reviewed(data, split="train")
    pool = unlabelled(data, unlabelled_count, seed) if steps[1] else None
    net = train_network(human, pool, seed=seed, steps=steps, checkpoints=checkpoints, console=Console())
    state = {
        name: value.half().contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".part")
    temporary.write_bytes(save(state))
    temporary.replace(out)
    return out


def cross_validate(
    data: Path,
    *,
    folds: int = 3,
    seed: int = 0,
    steps: tuple[int, int] = (HUMAN_STEPS, SELF_STEPS),
    checkpoints: Path | None = None,
) -> np.ndarray:
    """Dice of every reviewed picture by a network that never saw its patient: (N, 2), right and left lung.

    Patients are dealt into folds by a seeded shuffle, and each fold runs the whole recipe on the others.

    Args:
        data: folder with metadata.csv, masks.csv, images/ and masks/.
        folds: number of folds, at least 2.
        seed: fixes the folds, the first weights and every random choice.
        steps: batches of the two rounds; a second of 0 leaves self-training out.
        checkpoints: folder from which an interrupted run goes on, fold by fold; None keeps nothing.

    Raises:
        InputError: the data folder is not what it should be, or there are not so many patients as folds.
    """
    human = reviewed(data)
    people = sorted(set(human.patients))
    if not 2 <= folds <= len(people):
        raise InputError(f"{len(people)} patients have reviewed masks: --folds must lie between 2 and {len(people)}")
    pool = unlabelled(data, UNLABELLED, seed) if steps[1] else None
    np.random.default_rng(seed).shuffle(people)
    fold_of = {person: i % folds for i, person in enumerate(people)}
    fold = np.array([fold_of[person] for person in human.patients])
    result = np.zeros((len(fold), 2))
    for k in range(folds):
        place = checkpoints / f"fold-{k + 1}-of-{folds}" if checkpoints is not None else None
        net = train_network(human.take(np.flatnonzero(fold != k)), pool, seed=seed, steps=steps, checkpoints=place)
        held_out = human.take(np.flatnonzero(fold == k))
        result[fold == k] = scores(net, held_out)
        each = result[fold == k].mean(1)
        lowest = f"lowest {each.min():.3f}, patient {held_out.patients[int(each.argmin())]}"
        Console().print(f"fold {k + 1} of {folds}: mean Dice {each.mean():.3f} on {len(each)} pictures ({lowest})")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Train or cross-validate the lung network.")
    parser.add_argument("--data", type=Path, required=True, help="folder with metadata.csv and masks.csv")
    parser.add_argument("--out", type=Path, help="weights file to write")
    parser.add_argument("--folds", type=int, help="cross-validate by patient instead, with so many folds")
    parser.add_argument("--steps", type=int, nargs=2, default=(HUMAN_STEPS, SELF_STEPS), metavar=("FIRST", "SECOND"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, help="folder to keep and resume an unfinished run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if (options.out is None) == (options.folds is None):
        parser.error("give either --out or --folds")
    torch.set_num_threads(options.threads)
    recipe = {"seed": options.seed, "steps": tuple(options.steps), "checkpoints": options.checkpoints}
    try:
        if options.folds is None:
            train_lungs(options.data, options.out, **recipe)
            return
        result = cross_validate(options.data, folds=options.folds, **recipe)
    except InstructX2XError as error:
        parser.exit(2, f"{error}\n")
    table = Table("lung", "mean Dice", "lowest", title=f"{options.folds} folds by patient, {len(result)} pictures")
    for name, values in (("right", result[:, 0]), ("left", result[:, 1]), ("both", result.mean(1))):
        table.add_row(name, f"{values.mean():.3f}", f"{values.min():.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
