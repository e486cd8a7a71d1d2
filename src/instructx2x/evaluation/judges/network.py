"""The judges' networks: the first stages of two known image classifiers, and one pooled head.

Both trunks stop at stride 16: what comes after holds most of a classifier's weights and little that an X-ray needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks in a row; only the first has the stride.

    Attributes:
        kernel: side of the depthwise filter.
        expansion: channels inside a block over those at its input; 1 leaves the widening out.
        channels: at its output.
        blocks: how many.
        stride: of the first.
    """

    kernel: int
    expansion: int
    channels: int
    blocks: int
    stride: int


STEM = 32

# MobileNetV2: arXiv 1801.04381, table 2, up to its 96 channels. EfficientNet-Lite0: EfficientNet-B0 (arXiv 1905.11946,
# table 1) with ReLU6 and without squeeze-and-excitation, up to its 112 channels.
TRUNKS = {
    "mobilenet_v2": (
        Stage(3, 1, 16, 1, 1),
        Stage(3, 6, 24, 2, 2),
        Stage(3, 6, 32, 3, 2),
        Stage(3, 6, 64, 4, 2),
        Stage(3, 6, 96, 3, 1),
    ),
    "efficientnet_lite0": (
        Stage(3, 1, 16, 1, 1),
        Stage(3, 6, 24, 2, 2),
        Stage(5, 6, 40, 2, 2),
        Stage(3, 6, 80, 3, 2),
        Stage(5, 6, 112, 3, 1),
    ),
}


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, always padded alike on both sides, and batch normalisation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """Widen, filter each channel by itself, narrow; the input is added where it has the output's shape."""

    def __init__(self, inputs: int, stage: Stage, stride: int):
        super().__init__()
        inner = inputs * stage.expansion
        widen = [*_unit(inputs, inner, 1), nn.ReLU6()] if stage.expansion > 1 else []
        filtering = [*_unit(inner, inner, stage.kernel, stride, groups=inner), nn.ReLU6()]
        self.layers = nn.Sequential(*widen, *filtering, *_unit(inner, stage.channels, 1))
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def trunk(stages: tuple[Stage, ...]) -> nn.Sequential:
    """(N, 1, S, S) -> (N, channels of the last stage, S / stride, S / stride)."""
    blocks, channels = [], STEM
    for stage in stages:
        for number in range(stage.blocks):
            blocks.append(Block(channels, stage, stage.stride if number == 0 else 1))
            channels = stage.channels
    return nn.Sequential(*_unit(1, STEM, 3, 2), nn.ReLU6(), *blocks)


class JudgeNet(nn.Module):
    """Gray squares to logits: (N, 1, S, S) float in [0, 1] -> (N, outputs).

    Every image is standardised by itself, so that window and exposure hardly matter. The features are pooled by mean
    and by maximum: what fills a lung shows in one, a small nodule in the other.
    """

    WIDTH = 128

    def __init__(self, name: str, outputs: int, dropout: float = 0.3):
        super().__init__()
        self.name = name
        stages = TRUNKS[name]
        self.trunk = trunk(stages)
        self.features = nn.Sequential(*_unit(stages[-1].channels, self.WIDTH, 1), nn.ReLU6())
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Linear(2 * self.WIDTH, outputs)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 2 * WIDTH) pooled features, from which the answers are read."""
        mean, spread = images.mean((1, 2, 3), keepdim=True), images.std((1, 2, 3), keepdim=True)
        x = self.features(self.trunk((images - mean) / (spread + 0.02)))
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer(self.dropout(self.embed(images)))
