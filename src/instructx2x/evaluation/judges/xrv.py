"""The networks by which the field judges chest X-rays, from the package torchxrayvision (an extra of this one).

`densenet` is DenseNet121 "densenet121-res224-all" (arXiv 2111.00595), `race` the RaceModel of Emory's HITI lab
(Gichoya et al. 2022) and `age` RIKEN's AgeModel (Ieki et al. 2022). Their weights are no part of the package: it
fetches them at first use from its own releases to ~/.torchxrayvision/models_data.

All three take (N, 1, S, S) in [-1024, 1024], black to white, S 224, 320 and 320. An image is put into that square as
for the bundled judges: whole, with black bars. The package's own examples cut the middle out of it, which would
cut off what this package edits (apices and costophrenic angles of an upright picture, the outer ribs of a wide one);
and its resizing, which has another filter, never starts, because the size is right already. Both the source and the
edited image are put there alike. Absolute scores are not those of the package's examples for pictures that are
not square.

What each file is allowed to do when it is read:
- densenet's is a network pickled as a whole, which the package unpickles without restriction. It is read here without
  running it (`whole_modules`), and its weights go into a network that the package builds.
- race's holds tensors alone, and the package reads it with `weights_only=True`.
- age's is a TorchScript archive: it holds the network's program, which the package loads with `torch.jit.load`. No
  Python in it is run, but a program it is, and there is no other form of these weights. Asking for this judge is
  trusting that file.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from instructx2x.errors import ModelError
from instructx2x.evaluation.judges.judge import square
from instructx2x.evaluation.judges.whole_modules import module_weights
from instructx2x.extras import install_command

DENSENET = "densenet121-res224-all"
LARGEST = 1024.0  # white; black is its negative

# The package's pathologies in our words. Those that the instruction language has no word for are left out:
# infiltration, fibrosis, lung lesion and enlarged cardiomediastinum (which is wider than the heart).
WORDS = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Effusion": "pleural effusion",
    "Emphysema": "emphysema",
    "Fracture": "fracture",
    "Hernia": "hernia",
    "Lung Opacity": "lung opacity",
    "Mass": "mass",
    "Nodule": "nodule",
    "Pleural_Thickening": "pleural thickening",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
}


@dataclass(frozen=True, eq=False)
class XrvJudge:
    """One of torchxrayvision's networks. The same image has the same scores, whatever it is judged together with.

    Attributes:
        name: "torchxrayvision:densenet", "torchxrayvision:race" or "torchxrayvision:age".
        outputs: what the columns of its answer are.
        size: side of the square that the network sees, in pixels.
        net: the network, in evaluation mode.
        read: what the network says of one image, as the outputs in their order.
    """

    name: str
    outputs: tuple[str, ...]
    size: int
    net: nn.Module
    read: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Judge images, one by one, on the CPU in float32.

        Args:
            images: each (H, W) brightness in [0, 1], 0 black, of any size; values that are not finite count as black.

        Returns:
            (N, outputs) float32. Findings are in [0, 1], and 0.5 is the package's operating point of each, not an even
            chance. Races are probabilities that sum to 1. Age is in years.

        Raises:
            InputError: an image is no (H, W) array of real numbers, or is empty.
        """
        answers = np.empty((len(images), len(self.outputs)), np.float32)
        for number, image in enumerate(images):
            scaled = torch.from_numpy((2 * square(image, self.size) - 1) * LARGEST)
            with torch.inference_mode(), torch.autocast("cpu", enabled=False), _aside():
                answers[number] = self.read(self.net(scaled[None, None])[0]).numpy()
        return answers


def load(which: str) -> XrvJudge:
    """One of torchxrayvision's networks, by the name it has here; fetched where it is not on this machine yet.

    Args:
        which: "densenet", "race" or "age".

    Raises:
        ModelError: there is no such network, the package is missing, or its weights cannot be fetched or read.
    """
    builders = {"densenet": _densenet, "race": _race, "age": _age}
    if which not in builders:
        raise ModelError(f"torchxrayvision has no judge {which!r:.40} here: choose from {', '.join(builders)}")
    package = _package()
    try:
        with _aside():
            return builders[which](package)
    except ModelError:
        raise
    except Exception as error:  # whatever a download, or a file that it left, may raise
        raise ModelError(
            f"the weights of torchxrayvision:{which} cannot be fetched or read ({_told(error)}): connect once, or put "
            "their file into ~/.torchxrayvision/models_data"
        ) from error


def _densenet(package: ModuleType) -> XrvJudge:
    told = package.models.model_urls[DENSENET]
    net = package.models.DenseNet(num_classes=len(told["labels"]))
    net.load_state_dict(module_weights(Path(package.models.get_weights(DENSENET))))
    net.op_threshs = torch.tensor(told["op_threshs"])  # without these the network answers with logits
    columns = [column for column, label in enumerate(told["labels"]) if label in WORDS]
    words = tuple(WORDS[told["labels"][column]] for column in columns)
    return _judge("densenet", words, told["input_resolution"], net, lambda answer: answer[columns])


def _race(package: ModuleType) -> XrvJudge:
    net = package.baseline_models.emory_hiti.RaceModel()
    races = tuple(f"race: {target}" for target in net.targets)
    return _judge("race", races, 320, net, torch.exp)  # its last layer is a log-softmax


def _age(package: ModuleType) -> XrvJudge:
    return _judge("age", ("age",), 320, package.baseline_models.riken.AgeModel(), lambda answer: answer)


def _judge(which: str, outputs: tuple[str, ...], size: int, net: nn.Module, read: Callable) -> XrvJudge:
    return XrvJudge(f"torchxrayvision:{which}", outputs, size, net.float().eval(), read)


def _package() -> ModuleType:
    try:
        with warnings.catch_warnings():  # importing it switches off every warning of the process
            return import_module("torchxrayvision")
    except ImportError as error:
        raise ModelError(f"{_told(error)}: {install_command('evaluation')}") from error
    except Exception as error:  # a torchvision that was built for another torch raises RuntimeError
        raise ModelError(
            f"torchxrayvision cannot be imported ({_told(error)}): install the torchvision that belongs to torch "
            f"{torch.__version__}"
        ) from error


def _aside() -> contextlib.AbstractContextManager:
    """The package prints its progress and its guesses: for a terminal, and for nowhere else."""
    return contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO())


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
