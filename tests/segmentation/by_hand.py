"""Segments of a short curve by dense matrices, and every way to cut it: what kernels must equal."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import stats

from emergence_stats.noise.beliefs import LEVEL_SD
from emergence_stats.segmentation.models import SEGMENT_MODELS, SegmentModel
from emergence_stats.segmentation.segments import SegmentedCurve

POINTS = 9
X = np.array([0.0, 0.05, 0.2, 0.3, 0.45, 0.5, 0.7, 0.8, 1.0])
GAP = np.array([1.0, 0.5, 1.5, 1.0, 1.5, 0.5, 2.0, 1.0, 2.0])
# Factor of the known sd, variance of the other noise, log of its correlation.
NODES = np.array([[1.2, 0.02, np.log(0.4)], [0.9, 0.1, np.log(0.9)], [1.0, 0.01, -700.0]])
# One that the package does not have: a level, and a slope that is believed to be small.
TILTED = SegmentModel("tilted", "a level, a little tilted", basis=((1.0, 0.0), (-0.1, 0.2)))
MODELS = (SEGMENT_MODELS["constant"], SEGMENT_MODELS["linear"], TILTED)


def curve_of(model, seed=0, *, measured=False):
    generator = np.random.default_rng(seed)
    y = 0.1 * generator.normal(size=POINTS) + 0.5 * (np.arange(POINTS) >= 5)
    with np.errstate(divide="ignore"):
        log_share = np.log(np.diff(X, prepend=0.0))
    return SegmentedCurve(
        y=y - 0.25,
        x=X,
        variance=generator.uniform(0.002, 0.02, POINTS) if measured else np.zeros(POINTS),
        gap=GAP,
        log_share=log_share,
        basis=model.coefficients(),
        own_scale=model.own_scale,
        min_points=model.usual_points,
        margin=np.inf,
        measured=measured,
        correlated=True,
    )


def segment_by_hand(curve, model, node, low, high):
    """Log density, and mean and variance of the curve without noise, from dense matrices."""
    factor, stationary, log_rho = node
    place = np.concatenate([[0.0], np.cumsum(curve.gap[1:])])[low:high]
    apart = abs(place[:, None] - place)
    noise = stationary * np.exp(log_rho * apart) + np.diag(factor**2 * curve.variance[low:high])
    u = (curve.x[low:high] - curve.x[low]) / (curve.x[high - 1] - curve.x[low])
    basis = model.columns(u)
    prior = LEVEL_SD**2 * basis @ basis.T
    gain = prior @ np.linalg.inv(noise + prior)
    y = curve.y[low:high]
    density = stats.multivariate_normal(np.zeros(y.size), noise + prior).logpdf(y)
    return density, gain @ y, np.diag(prior - gain @ prior)


def every_segmentation(curve):
    for number in range(4):
        for inner in itertools.combinations(range(1, POINTS), number):
            edges = (0, *inner, POINTS)
            if min(np.diff(edges)) >= curve.min_points:
                yield inner, edges
