"""The model of `noise.beliefs` written again without shortcuts: whole covariance matrices.

Level and amplitude are part of them, and what the noise may be is summed over on fine grids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special, stats

import emergence_stats as es
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.noise import beliefs
from emergence_stats.quadrature.evidence import Batch

EVEN, UNEVEN = np.linspace(0.0, 1500.0, 13), np.unique(np.geomspace(1.0, 2000.0, 13).round())
SD = np.geomspace(0.02, 0.06, 13)[np.argsort(np.sin(np.arange(13)))]
# Onset position, half-time and log kappa as coordinates of a power law; the curve they are for.
Z, ONE = np.array([[0.6, 0.1, np.log(0.7)]]), np.zeros(1, dtype=int)


def batch_of(step, noise, measured=False, number=1):
    """Rises of thirteen points with noise that remembers and noise that does not."""
    generator = np.random.default_rng(3)
    rise = es.relaxation(step, onset=step[4] + 3.0, timescale=0.2 * step[-1], kappa=1.0)
    drift = 0.04 * generator.normal(size=(number, step.size))
    for i in range(1, step.size):
        drift[:, i] += 0.6 * drift[:, i - 1]
    arrays = CurveArrays(
        np.tile(step, (number, 1)),
        0.2 + 0.7 * rise + drift + 0.02 * generator.normal(size=drift.shape),
        np.tile(SD, (number, 1)) if measured else None,
        np.full(number, step.size),
        np.full(number, 0.5),
        np.full(number, 0.9),
    )
    return Batch(arrays, step_axis(arrays, "log"), noise)


def correlation(gap, rho):
    """rho to the distance of two points; the unit matrix where it is 0. Any number of rho."""
    place = np.cumsum(gap)
    apart = abs(place[:, None] - place)
    return np.where(apart == 0.0, 1.0, np.asarray(rho)[..., None, None] ** apart)


def log_normal(y, covariance):
    """Log density of y under each of many covariance matrices."""
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, np.broadcast_to(y[:, None], (*root.shape[:-1], 1)))[..., 0]
    diagonal = np.diagonal(root, axis1=-2, axis2=-1)
    return -0.5 * (white**2).sum(-1) - np.log(diagonal).sum(-1) - 0.5 * y.size * np.log(2 * np.pi)


def lines(shape, size):
    """Level and amplitude as columns, scaled by their prior sd."""
    columns = [beliefs.BASELINE_SD * np.ones(size)]
    if shape is not None:
        columns.append(beliefs.AMPLITUDE_SD * shape)
    return np.column_stack(columns)


def of_lines(shape, size=13):
    """What level and amplitude add to the covariance."""
    design = lines(shape, size)
    return design @ design.T


class Posterior(NamedTuple):
    """Of the noise on a grid: log evidence, and moments of what was integrated out."""

    log_evidence: float
    log_size: float
    rho: float
    linear: np.ndarray


def integrate_noise(batch, shape):
    """Level, amplitude and noise integrated out, in the curve's own units.

    The size is sigma, or s t where sd are measured.
    """
    y, gap, n = batch.y[0], batch.gap[0], batch.y.shape[1]
    rho, weight = np.zeros(1), np.ones(1)
    if batch.correlated:
        # Points that gather near 1, where likelihoods may be narrow.
        x, weight = np.polynomial.legendre.leggauss(36)
        rho, slope = np.sin(0.25 * np.pi * (x + 1)), np.cos(0.25 * np.pi * (x + 1))
        weight = 0.25 * np.pi * slope * weight
    matrix, left = correlation(gap, rho)[:, None], np.sqrt(1.0 - rho**2)[:, None]
    if batch.measured:
        u, v = np.linspace(-7.0, 9.0, 81), np.linspace(-1.4, 1.4, 29)
        size = np.sqrt(batch.variance[0].mean()) * np.exp(u) / left
        known = np.diag(batch.variance[0])
        log_prior_v = stats.hypsecant(scale=beliefs.FACTOR_WIDTH).logpdf(v) + np.log(v[1] - v[0])
    else:
        u, v = np.linspace(-5.0, 5.0, 161), np.zeros(1)
        size, known, log_prior_v = beliefs.NOISE_SCALE * np.exp(u) / left, 0.0, np.zeros(1)
    design = lines(shape, n)
    total, log_size, mean_rho, linear = -np.inf, 0.0, 0.0, np.zeros(design.shape[1])
    for log_factor, log_prior in zip(v, log_prior_v, strict=True):
        noise = np.exp(2.0 * log_factor) * (known + size[..., None, None] ** 2 * matrix)
        covariance = noise + design @ design.T
        terms = log_normal(y, covariance) + stats.hypsecant.logpdf(u) + np.log(weight)[:, None]
        terms += log_prior + np.log(u[1] - u[0])
        here = special.logsumexp(terms)
        share = np.exp(terms - here)
        means = np.linalg.solve(covariance, y[:, None])[..., 0] @ design
        found = (share * np.log(size)).sum() + log_factor, share.sum(1) @ rho
        part = np.exp(here - np.logaddexp(total, here))
        total = np.logaddexp(total, here)
        log_size += part * (found[0] - log_size)
        mean_rho += part * (found[1] - mean_rho)
        linear += part * (np.einsum("rs,rsk->k", share, means) - linear)
    prior_sd = np.array([beliefs.BASELINE_SD, beliefs.AMPLITUDE_SD])[: linear.size]
    return Posterior(float(total) - batch.log_unit[0], log_size, mean_rho, linear * prior_sd)
