"""Measured noise: many points, and what it is there to tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.noise import beliefs
from emergence_stats.quadrature.evidence import Batch
from tests.noise.dense import correlation, lines


def conditional_likelihood(batch, shape):
    """Log likelihood given (rho, t, s), of arrays of s: dense, but for the update by a and b."""
    y, gap = batch.y[0], batch.gap[0]
    design = lines(shape, y.size)

    def given(rho, wander, factor):
        noise = np.diag(batch.variance[0]) + wander**2 * correlation(gap, rho)
        root = np.linalg.cholesky(noise)
        white = np.linalg.solve(root, np.column_stack([y, design]))
        rest, columns = white[:, 0], white[:, 1:]
        square = factor[:, None, None] ** 2
        inner = columns.T @ columns + square * np.eye(2)
        target = columns.T @ rest
        quad = rest @ rest - np.linalg.solve(inner, target[:, None])[..., 0] @ target
        log_det = np.linalg.slogdet(inner)[1] + 2.0 * np.log(np.diag(root)).sum()
        return (
            -0.5 * quad / factor**2
            - (y.size - 2) * np.log(factor)
            - 0.5 * log_det
            - 0.5 * y.size * np.log(2 * np.pi)
        )

    return given


def test_many_points_take_the_same_integral():
    """150 points: other rows and strides than for thirteen; about the posterior on a grid."""
    generator, step = np.random.default_rng(7), np.arange(150.0)
    sd = generator.uniform(0.02, 0.03, step.size)
    values = es.relaxation(step, onset=50.0, timescale=100.0, kappa=1.0, amplitude=0.9)
    values = values + sd * generator.normal(size=step.size)
    one = np.ones(1)
    curves = CurveArrays(step[None], values[None], sd[None], np.array([150]), 0.4 * one, one)
    batch = Batch(curves, step_axis(curves, "log"), "ar1")
    z = np.array([[0.62, -0.3, 0.0]])
    shape = batch.shape(get_family("sudden_power_law"), np.zeros(1, int), z)[0]
    ours = batch.log_likelihood(get_family("sudden_power_law"))(
        np.zeros(1, int), z, np.array([-np.inf])
    )[0]
    given = conditional_likelihood(batch, shape)
    scale = np.sqrt(batch.variance[0].mean())
    odds, log_fresh = np.linspace(-4.0, 13.0, 35), np.linspace(-4.0, 1.5, 45)
    log_factor = np.linspace(-0.35, 0.35, 71)
    rho = special.expit(odds)
    terms = np.array(
        [
            [
                given(r, scale * np.exp(f) / np.sqrt(1 - r * r), np.exp(log_factor))
                for f in log_fresh
            ]
            for r in rho
        ]
    )
    width = beliefs.FACTOR_WIDTH
    prior = (
        np.log(rho * (1 - rho))[:, None, None]
        - np.log(np.pi * np.cosh(log_fresh))[None, :, None]
        - np.log(np.pi * width * np.cosh(log_factor / width))
    )
    cell = (odds[1] - odds[0]) * (log_fresh[1] - log_fresh[0]) * (log_factor[1] - log_factor[0])
    assert ours == pytest.approx(special.logsumexp(terms + prior) + np.log(cell), abs=0.03)


SUDDEN = ("sudden_exponential", "sudden_power_law")


def test_a_finely_measured_start_is_not_taken_for_a_random_walk():
    """Scores near zero, measured fifty times more finely than the rise: still a rise."""
    generator = np.random.default_rng(1)
    step = np.r_[0, 2 ** np.arange(10), np.arange(1, 16) * 9000.0]
    values = es.relaxation(step, onset=600.0, timescale=4000.0, kappa=1.0, amplitude=0.6)
    sd = np.sqrt(np.maximum(values * (1 - values), 1e-4) / 5000)
    curve = es.curve(values + sd * generator.normal(size=step.size), step, sd=sd)
    for noise in ("independent", "ar1", "ou_log"):
        found = es.compare(curve, families=SUDDEN, noise=noise).dataset
        assert float(found["probability_of_onset"]) > 0.99, noise
        low, _, high = found["onset"].values
        assert low < 600 < high < 9000


def test_drift_beyond_the_measurement_error_is_no_emergence():
    """A wandering score with small known sd: independent noise of that size would call it risen."""
    generator = np.random.default_rng(4)
    step = np.arange(0, 3000, 150.0)
    drift = 0.03 * autoregressive(generator.normal(size=(3, step.size)), 0.9)
    curves = es.curve(np.zeros(step.size), step).expand_dims(curve=3).copy(data=drift)
    curves = curves.assign_coords(sd=("step", np.full(step.size, 0.005)))
    found = es.compare(curves, noise="ar1").dataset
    assert int((found["probability_of_onset"] > 0.9).sum()) == 0
    assert int((found["verdict"] == "misfit").sum()) <= 1
