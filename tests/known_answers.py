"""Targets whose moments are known, and one way to ask whether draws have them.

A sampler is first asked for enough effective draws, and only then for the right answer, so that a
chain that barely moves cannot pass by having a large standard error. The two failures have
different messages: "not mixing" and "biased".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import digamma, polygamma
from torch import Tensor

from emergence_stats.degeneracy.posterior import PotentialValue


class Target(NamedTuple):
    """A product density with known moments in every coordinate."""

    potential: Callable[[Tensor, Tensor | None], PotentialValue]
    start: Tensor  # (parameter,)
    mean: np.ndarray  # (parameter,)
    variance: np.ndarray  # (parameter,)
    third: np.ndarray  # third central moment, (parameter,)


def _separable(
    energy: Callable[[Tensor], Tensor], gradient: Callable[[Tensor], Tensor]
) -> Callable[[Tensor, Tensor | None], PotentialValue]:
    def potential(position: Tensor, index: Tensor | None) -> PotentialValue:
        values = energy(position).sum(dim=-1)
        return PotentialValue(position, gradient(position), values, torch.zeros_like(position[0]))

    return potential


def gaussian(curvature: list[float]) -> Target:
    """A centred Gaussian with these precisions."""
    a = torch.tensor(curvature, dtype=torch.float64)
    return Target(
        _separable(lambda w: 0.5 * a * w**2, lambda w: a * w),
        torch.zeros_like(a),
        np.zeros(len(a)),
        1.0 / a.numpy(),
        np.zeros(len(a)),
    )


def log_gamma(shape: list[float]) -> Target:
    """The logarithm of a gamma variable: skewed to the left, so that a sign error shows."""
    k = torch.tensor(shape, dtype=torch.float64)
    return Target(
        _separable(lambda w: w.exp() - k * w, lambda w: w.exp() - k),
        k.log(),
        digamma(k.numpy()),
        polygamma(1, k.numpy()),
        polygamma(2, k.numpy()),
    )


def assert_mean(
    draws: np.ndarray, truth: float, *, label: str, least_effective: float = 400, k: float = 4.0
) -> None:
    """Fail unless the mean of draws (chain, draw) is the truth, and known well enough to say so."""
    from arviz_stats.base import array_stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        effective = float(array_stats.ess(draws, method="mean"))
    assert np.ptp(draws) > 0.0, f"not mixing: {label} never moved"
    assert effective >= least_effective, (
        f"not mixing: {label} has {effective:.0f} effective draws, {least_effective} wanted"
    )
    error = draws.std() / np.sqrt(effective)
    assert abs(draws.mean() - truth) < k * error, (
        f"biased: {label} is {draws.mean():.5g}, not {truth:.5g} (standard error {error:.2g})"
    )


def assert_moments(draws: np.ndarray, target: Target, **options: float) -> None:
    """Check mean, variance and skewness of draws (chain, draw, parameter) against the target."""
    for i in range(draws.shape[-1]):
        centred = draws[..., i] - target.mean[i]
        assert_mean(centred, 0.0, label=f"mean[{i}]", **options)
        assert_mean(centred**2, target.variance[i], label=f"variance[{i}]", **options)
        assert_mean(centred**3, target.third[i], label=f"third moment[{i}]", **options)
