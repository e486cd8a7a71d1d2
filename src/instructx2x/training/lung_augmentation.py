"""Strong random changes of chest pictures and their lung outlines, for training on few of them."""

from __future__ import annotations

import torch
from torch.nn import functional

# Share of a batch that is turned into what is no upright chest X-ray.
NEGATIVES = 0.06


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return (low + (high - low) * torch.rand(n, generator=generator)).view(n, 1, 1, 1)


def _sometimes(n: int, share: float, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(n, generator=generator) < share).view(n, 1, 1, 1)


def _clouds(n: int, cells: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """(n, 1, size, size) smooth random fields, about standard normal, `cells` bumps across."""
    return _smooth(torch.randn(n, 1, cells, cells, generator=generator), size)


def _smooth(coarse: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarge a coarse field: cubic to a quarter of the size, then linear: faster, and it looks the same."""
    quarter = functional.interpolate(coarse, (size // 4, size // 4), mode="bicubic", align_corners=False)
    return functional.interpolate(quarter, (size, size), mode="bilinear", align_corners=False)


def warp(images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random turn, anisotropic zoom, shear, shift and elastic bend of pictures and masks; half are mirrored.

    A mirrored picture has its two lungs swapped, because a lung's side is where it lies. Outside is black.
    """
    n, _, size, _ = images.shape
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(flip.view(n, 1, 1, 1), images.flip(-1), images)
    masks = torch.where(flip.view(n, 1, 1, 1), masks.flip(-1).flip(1), masks)
    angle = torch.randn(n, generator=generator) * 0.09
    zoom = torch.exp(torch.empty(n).uniform_(-0.4, 0.35, generator=generator))
    aspect = torch.exp(torch.randn(n, generator=generator) * 0.1)
    shear = torch.randn(n, generator=generator) * 0.05
    matrix = torch.stack(
        [
            torch.stack([angle.cos() * zoom * aspect, -angle.sin() * zoom + shear], 1),
            torch.stack([angle.sin() * zoom, angle.cos() * zoom / aspect], 1),
        ],
        1,
    )
    shift = torch.randn(n, 2, 1, generator=generator) * 0.1
    grid = functional.affine_grid(torch.cat([matrix, shift], 2), [n, 1, size, size], align_corners=False)
    bend = _smooth(torch.randn(n, 2, 5, 5, generator=generator), size)
    grid = grid + 0.025 * bend.permute(0, 2, 3, 1)
    moved = functional.grid_sample(torch.cat([images, masks], 1), grid, align_corners=False)
    return moved[:, :1].clamp(0, 1), moved[:, 1:].clamp(0, 1)


def paint_disease(images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Whiten parts of the lungs: clouds anywhere, fluid from below, now and then a whole lung.

    The paint bleeds over the outline by a few pixels, so that its own edge never gives the outline away.
    """
    n, _, size, _ = images.shape
    white = images[..., ::4, ::4].flatten(1).quantile(0.85, dim=1).view(n, 1, 1, 1) * _uniform(n, 0.8, 1.1, generator)
    rows = torch.linspace(0, 1, size).view(1, 1, size, 1)
    for side in (0, 1):
        lung = masks[:, side : side + 1]
        soft = functional.avg_pool2d(functional.avg_pool2d(lung, 4), 3, stride=1, padding=1)
        soft = functional.interpolate(soft, (size, size), mode="bilinear", align_corners=False)
        clouds = torch.sigmoid(4 * (_clouds(n, 6, size, generator) - _uniform(n, 0.0, 1.2, generator)))
        bottom = (lung * rows).flatten(1).amax(1).view(n, 1, 1, 1)
        level = bottom - _uniform(n, 0.0, 0.45, generator) + 0.03 * _clouds(n, 3, size, generator)
        fluid = torch.sigmoid((rows - level) / _uniform(n, 0.01, 0.06, generator))
        field = clouds * _sometimes(n, 0.3, generator)
        field = torch.maximum(field, fluid * _sometimes(n, 0.3, generator))
        field = torch.maximum(field, _sometimes(n, 0.07, generator).float())
        images = images + _uniform(n, 0.3, 1.0, generator) * field * soft * (white - images)
    return images.clamp(0, 1)


def expose(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random gamma, contrast, haze, shading, blur, noise, bright markers, collimation; polarity is kept."""
    n, _, size, _ = images.shape
    images = images.clamp(0, 1) ** torch.exp(_uniform(n, -0.7, 0.7, generator))
    hazy = _sometimes(n, 0.3, generator)
    contrast = torch.where(hazy, _uniform(n, 0.15, 0.5, generator), _uniform(n, 0.6, 1.3, generator))
    level = _uniform(n, 0.3, 0.7, generator)
    images = (images - 0.5) * contrast + level
    images = images + _uniform(n, 0.0, 0.1, generator) * contrast * _clouds(n, 3, size, generator)
    blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = torch.where(_sometimes(n, 0.3, generator), blurred, images)
    images = images + _uniform(n, 0.0, 0.05, generator) * contrast * torch.randn(images.shape, generator=generator)
    place = torch.linspace(0, 1, size)
    for _ in range(2):
        x, y = (_uniform(n, 0.0, 1.0, generator) for _ in range(2))
        w, h = (_uniform(n, 0.01, 0.05, generator) for _ in range(2))
        marker = ((place.view(1, 1, 1, -1) - x).abs() < w) & ((place.view(1, 1, -1, 1) - y).abs() < h)
        images = torch.where(marker & _sometimes(n, 0.3, generator), _uniform(n, 0.7, 1.0, generator), images)
    low, high = (_uniform(n, 0.0, 0.08, generator) for _ in range(2))
    for axis in ((1, 1, 1, -1), (1, 1, -1, 1)):
        outside = (place.view(axis) < low) | (place.view(axis) > 1 - high)
        images = torch.where(outside & _sometimes(n, 0.2, generator), _uniform(n, 0.0, 0.1, generator), images)
    return images.clamp(0, 1)


def spoil(images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn a small share of the batch into what is no upright chest X-ray, with empty targets."""
    images, masks = images.clone(), masks.clone()
    size = images.shape[-1]
    for i in torch.nonzero(torch.rand(len(images), generator=generator) < NEGATIVES).flatten().tolist():
        kind = int(torch.randint(7, (1,), generator=generator))
        if kind == 0:
            images[i] = images[i].flip(1)
        elif kind == 1:
            images[i] = images[i].transpose(1, 2).clone()
        elif kind == 2:
            images[i] = 1 - images[i]
        elif kind == 3:
            images[i] = torch.rand(1, generator=generator) + 0.01 * torch.randn(1, size, size, generator=generator)
        elif kind == 4:
            images[i] = torch.rand(1, size, size, generator=generator)
        else:
            cells = int(torch.randint(3, 48, (1,), generator=generator))
            images[i] = 0.5 + 0.25 * _clouds(1, cells, size, generator)[0]
        masks[i] = 0
    return images.clamp(0, 1), masks


def augment(images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One random change of a batch: (n, 1, S, S) and (n, 2, S, S), both in [0, 1], to the same shapes."""
    images, masks = warp(images, masks, generator)
    images = expose(paint_disease(images, masks, generator), generator)
    return spoil(images, masks, generator)
