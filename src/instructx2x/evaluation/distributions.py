"""Distances between sets of images (method section 7): KL of a classifier's answers, Frechet and kernel distance."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import rel_entr
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from instructx2x.errors import InputError

# A probability of exactly 0 or 1 would make the divergence infinite for one overconfident answer.
LIMIT = 1e-6


def prediction_divergence(target: np.ndarray, edited: np.ndarray) -> float:
    """KL divergence of a classifier's answers: mean over images and findings of KL(target || edited), in nats.

    Every answer is a Bernoulli distribution: p ln(p/q) + (1-p) ln((1-p)/(1-q)), kept LIMIT away from certainty.

    Args:
        target, edited: (N, F) probabilities, row by row of the real target image and of the edited image.

    Returns:
        At least 0; 0 where both answers agree everywhere.

    Raises:
        InputError: shapes differ, nothing is there, or a value is outside [0, 1].
    """
    target, edited = np.asarray(target, np.float64), np.asarray(edited, np.float64)
    if target.shape != edited.shape or not target.size:
        raise InputError(f"target {target.shape} and edited {edited.shape} must be as many answers, at least one")
    if not all(((values >= 0) & (values <= 1)).all() for values in (target, edited)):
        raise InputError("probabilities must be in [0, 1]")
    p, q = (np.clip(values, LIMIT, 1 - LIMIT) for values in (target, edited))
    return float((rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean())


def frechet_distance(real: np.ndarray, edited: np.ndarray) -> float:
    """Frechet distance of two sets of features, taken for normal.

    The squared distance of the means, plus tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the covariances S1 and S2.

    It is FID only with Inception's features (Heusel et al. 2017): name the trunk wherever the number stands, and N,
    on which it depends.

    Args:
        real, edited: (N, D) and (M, D) features, N and M at least 2.

    Raises:
        InputError: shapes do not fit, or a feature is not finite.
    """
    measure = FrechetInceptionDistance(feature=_Given(_check(real, edited)))
    return float(_compare(measure.set_dtype(torch.float64), real, edited))


def kernel_distance(real: np.ndarray, edited: np.ndarray, *, subsets: int = 100, seed: int = 0) -> tuple[float, float]:
    """Kernel distance of two sets of features (KID, Binkowski et al. 2018): unbiased, so for small sets too.

    Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, over random subsets of at most 1,000 images.

    Args:
        real, edited: (N, D) and (M, D) features, N and M at least 3.

    Returns:
        Mean and standard deviation over the subsets. The mean of two equal distributions is 0; it can be negative.

    Raises:
        InputError: shapes do not fit, or a feature is not finite.
    """
    features = _check(real, edited)
    size = min(1000, len(real) - 1, len(edited) - 1)
    if size < 2:
        raise InputError(f"a kernel distance takes at least 3 images on either side, not {len(real)} and {len(edited)}")
    measure = KernelInceptionDistance(feature=_Given(features), subsets=subsets, subset_size=size)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        mean, spread = _compare(measure.set_dtype(torch.float64), real, edited)
    return float(mean), float(spread)


class _Given(nn.Module):
    """Features that are there already, in the place of a network."""

    def __init__(self, count: int):
        super().__init__()
        self.num_features = count

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _check(real: np.ndarray, edited: np.ndarray) -> int:
    for features in (real, edited):
        if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
            raise InputError(f"features must be finite, images x features, of two images or more, not {features.shape}")
    if real.shape[1] != edited.shape[1]:
        raise InputError(f"features of one network have one length, not {real.shape[1]} and {edited.shape[1]}")
    return real.shape[1]


def _compare(measure, real: np.ndarray, edited: np.ndarray):
    for features, is_real in ((real, True), (edited, False)):
        measure.update(torch.from_numpy(np.asarray(features, np.float64)), real=is_real)
    return measure.compute()
