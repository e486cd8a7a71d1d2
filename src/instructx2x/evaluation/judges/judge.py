"""A judge: a network with what its numbers mean, read from one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from instructx2x.errors import InputError, ModelError
from instructx2x.evaluation.judges.network import JudgeNet
from instructx2x.imaging.geometry import Frame

JUDGES = ("verifier", "scorer", "demographics")

# The network answers about an age in these units, which keeps its weights near those of its logits.
AGE_CENTRE, AGE_SPREAD = 48.0, 16.0


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores images. The same image has the same scores, whatever it is judged together with.

    Attributes:
        name: one of JUDGES.
        outputs: what the columns of its answer are: findings, or "female" and "age".
        size: side of the square that the network sees, in pixels.
        measured: per output what was measured on held-out patients, as in the card: for findings and "female" `auc`,
            its 95 % interval `low` and `high`, `positives`, `pairs`, and `threshold` (where sensitivity plus
            specificity is highest on train patients that the judge did not learn from, if there were any).
        training: what the judge was trained on and how.
        net: the network, in evaluation mode.
    """

    name: str
    outputs: tuple[str, ...]
    size: int
    measured: Mapping[str, Mapping[str, float]]
    training: Mapping[str, Any]
    net: JudgeNet

    @property
    def findings(self) -> tuple[str, ...]:
        """The outputs that are findings, in the words of the instruction language."""
        return tuple(output for output in self.outputs if output not in ("female", "age"))

    @property
    def auc(self) -> dict[str, float]:
        """Area under the ROC curve within a view (PA, AP) on val patients, per output that has one."""
        return {output: values["auc"] for output, values in self.measured.items() if "auc" in values}

    @property
    def thresholds(self) -> dict[str, float]:
        """The score from which an output is called present, per output that has one."""
        return {output: values["threshold"] for output, values in self.measured.items() if "threshold" in values}

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Judge images, one by one, on the CPU in float32.

        Args:
            images: each (H, W) brightness in [0, 1], 0 black, of any size; values that are not finite count as black.

        Returns:
            (N, outputs) float32. Findings and "female" are in [0, 1]: the probability if half of all patients in this
            view had it. "age" is in years.

        Raises:
            InputError: an image is no (H, W) array of real numbers, or is empty.
        """
        answers = np.empty((len(images), len(self.outputs)), np.float32)
        for number, image in enumerate(images):
            answers[number] = self._answer(square(image, self.size))
        return answers

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The network's pooled features, for distances between sets of images: (N, D) float32; images as for a call."""
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return np.concatenate(
                [self.net.embed(torch.from_numpy(square(image, self.size))[None, None]).numpy() for image in images]
            )

    def _answer(self, image: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            logits = self.net(torch.from_numpy(image)[None, None])[0]
        return interpret(logits, self.outputs).numpy()


def interpret(logits: torch.Tensor, outputs: Sequence[str]) -> torch.Tensor:
    """The network's answers as probabilities and years: (..., outputs) -> the same shape."""
    ages = torch.tensor([output == "age" for output in outputs])
    return torch.where(ages, AGE_CENTRE + AGE_SPREAD * logits, logits.sigmoid())


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Letterbox an image as the judges see it: (H, W) in [0, 1] -> (size, size) float32 in [0, 1]."""
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "fiub":
        raise InputError(f"a judge takes images as height x width arrays of numbers in [0, 1], not {image.shape}")
    image = np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return Frame(*image.shape, size).to_model(image)


def to_bytes(judge: Judge) -> bytes:
    """A judge as a safetensors file: filters in half precision, everything one-dimensional in full."""
    weights = {
        name: (value.half() if value.ndim > 1 else value.float()).contiguous()
        for name, value in judge.net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    told = {
        "name": judge.name,
        "trunk": judge.net.name,
        "outputs": judge.outputs,
        "size": judge.size,
        "normalisation": "each image by its own mean and standard deviation",
        "measured": judge.measured,
        "training": judge.training,
    }
    # safetensors shuffles the entries of its metadata, so they all go into one.
    return save(weights, {"judge": json.dumps(told)})


def from_bytes(content: bytes) -> Judge:
    """The judge in a safetensors file.

    Raises:
        ModelError: the file is damaged, or holds no judge.
    """
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        told = json.loads(header["__metadata__"]["judge"])
        outputs = tuple(told["outputs"])
        net = JudgeNet(told["trunk"], len(outputs))
        net.load_state_dict({name: value.float() for name, value in load(content).items()}, strict=False)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError("a judge's weights are damaged: install the package again") from error
    return Judge(told["name"], outputs, told["size"], told["measured"], told["training"], net.eval())


@lru_cache(maxsize=len(JUDGES))
def load_judge(name: str) -> Judge:
    """A bundled judge; read once a process.

    Args:
        name: "verifier" and "scorer" for findings, "demographics" for sex and age.

    Raises:
        ModelError: there is no judge of that name, or its weights are damaged.
    """
    if name not in JUDGES:
        raise ModelError(f"there is no judge {name!r:.40}: choose from {', '.join(JUDGES)}")
    return from_bytes((files("instructx2x.evaluation.judges") / "data" / f"{name}.safetensors").read_bytes())
