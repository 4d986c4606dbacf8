"""Noise of two parts against dense covariance matrices and draws made another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.noise import beliefs, kalman
from emergence_stats.quadrature.evidence import Batch

UNEVEN = np.unique(np.geomspace(1.0, 2000.0, 12).round())


def measured_curve(seed, step=UNEVEN, wander=0.05, low=0.01, high=0.1):
    """A rise, measurement errors that differ tenfold, and a random walk beneath them."""
    generator = np.random.default_rng(seed)
    sd = generator.uniform(low, high, step.size)
    values = es.relaxation(step, onset=50.0, timescale=100.0, kappa=1.0, amplitude=0.9)
    values = values + sd * generator.normal(size=step.size)
    values = values + wander * np.cumsum(generator.normal(size=step.size))
    one = np.ones(1)
    return CurveArrays(step[None], values[None], sd[None], np.array([step.size]), 0.4 * one, one)


def conditional_likelihood(batch, shape):
    """Log likelihood given (rho, t, s), of arrays of s: dense, but for the update by a and b."""
    y, gap = batch.y[0], batch.gap[0]
    place = np.cumsum(gap)
    lag = np.abs(np.subtract.outer(place, place))
    columns = [np.ones(y.size) * beliefs.BASELINE_SD]
    if shape is not None:
        columns.append(beliefs.AMPLITUDE_SD * shape)
    design = np.column_stack(columns)
    k = design.shape[1]

    def given(rho, excess, factor):
        wander = rho**lag if rho > 0 else np.eye(y.size)
        root = np.linalg.cholesky(np.diag(batch.variance[0]) + excess**2 * wander)
        white = np.linalg.solve(root, np.column_stack([y, design]))
        rest, lines = white[:, 0], white[:, 1:]
        square = factor[:, None, None] ** 2
        inner = lines.T @ lines + square * np.eye(k)
        target = lines.T @ rest
        quad = rest @ rest - np.linalg.solve(inner, target[:, None])[..., 0] @ target
        log_det = np.linalg.slogdet(inner)[1] + 2.0 * np.log(np.diag(root)).sum()
        return (
            -0.5 * quad / factor**2
            - (y.size - k) * np.log(factor)
            - 0.5 * log_det
            - 0.5 * y.size * np.log(2 * np.pi)
        )

    return given


def brute_force(batch, shape, correlated):
    """Summed over rho, t and s on dense grids; also the mean of t and of rho."""
    given = conditional_likelihood(batch, shape)
    x, weight = np.polynomial.legendre.leggauss(30)
    rhos, weight = np.sin(0.25 * np.pi * (x + 1)), 0.5 * weight
    if not correlated:
        rhos, weight = np.zeros(1), np.ones(1)
    scale = np.sqrt(batch.variance[0].mean())
    log_fresh = np.linspace(-7.0, 9.0, 90)
    log_factor = np.linspace(-1.5, 1.5, 41)
    terms = np.empty((rhos.size, log_fresh.size, log_factor.size))
    for i, rho in enumerate(rhos):
        for j, fresh in enumerate(log_fresh):
            excess = scale * np.exp(fresh) / np.sqrt(1 - rho**2)
            terms[i, j] = given(rho, excess, np.exp(log_factor))
    width = beliefs.FACTOR_WIDTH
    prior = (
        np.log(weight)[:, None, None]
        - np.log(np.pi * np.cosh(log_fresh))[None, :, None]
        - np.log(np.pi * width * np.cosh(log_factor / width))
        + np.log((log_fresh[1] - log_fresh[0]) * (log_factor[1] - log_factor[0]))
    )
    total = special.logsumexp(terms + prior)
    mass = np.exp(terms + prior - total)
    excess = scale * np.exp(log_fresh)[None, :, None] / np.sqrt(1 - rhos**2)[:, None, None]
    return total, (mass * np.log(excess * np.exp(log_factor))).sum(), (mass.sum((1, 2)) @ rhos)


@pytest.mark.parametrize(("seed", "noise"), [(0, "independent"), (1, "ar1"), (2, "ou_log")])
@pytest.mark.parametrize("emerges", [True, False])
def test_kernel_and_draws_are_those_of_the_dense_model(seed, noise, emerges):
    curves = measured_curve(seed, wander=0.0 if seed == 2 else 0.05)
    batch = Batch(curves, step_axis(curves, "log"), noise)
    family = get_family("power_law" if emerges else "flat")
    z = np.array([[0.5, 0.1, 0.2]]) if emerges else np.zeros((1, 0))
    shape = batch.shape(family, np.zeros(1, int), z)[0] if emerges else None
    ours = batch.log_likelihood(family)(np.zeros(1, int), z, np.array([-np.inf]))[0]
    exact, log_excess, rho = brute_force(batch, shape, batch.correlated)
    # Terms below 2e-4 of the sum are left out of the tails, which are slow in rho and t.
    assert ours == pytest.approx(exact, abs=0.015)
    number = 4000
    random = np.random.default_rng(3).uniform(size=(number, 4))
    random[:, 2:] = stats.norm.ppf(random[:, 2:])
    draws = batch.draw_linear(family, np.zeros(number, int), np.repeat(z, number, axis=0), random)
    for values, mean in ((np.log(draws[:, 2]), log_excess), (draws[:, 3], rho)):
        error = values.std() / np.sqrt(number)
        assert abs(values.mean() - mean) <= 4 * error + 0.02 * values.std()


def test_without_wandering_the_filter_only_divides_by_sd():
    variance, y = np.array([0.01, 0.04, 0.09]), np.array([1.0, 2.0, 3.0])
    table = np.zeros((kalman.ROWS, 3))
    half = kalman.filter_curve(y, variance, np.ones(3), 3, 1.0, 0.0, table)
    assert half == pytest.approx(0.5 * np.log(variance).sum())
    np.testing.assert_allclose(table[3], variance**-0.5)
    np.testing.assert_allclose(table[4], y * variance**-0.5)


def test_many_points_take_the_same_integral():
    """150 points: other rows and strides than for twelve; about the posterior on a dense grid."""
    step = np.arange(150.0)
    curves = measured_curve(7, step, wander=0.0, low=0.02, high=0.03)
    batch = Batch(curves, step_axis(curves, "log"), "ar1")
    z = np.array([[0.62, -0.3, 0.0]])
    shape = batch.shape(get_family("power_law"), np.zeros(1, int), z)[0]
    ours = batch.log_likelihood(get_family("power_law"))(np.zeros(1, int), z, np.array([-np.inf]))[
        0
    ]
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
        (np.log(2 / np.pi * rho * (1 - rho)) - 0.5 * np.log1p(-(rho**2)))[:, None, None]
        - np.log(np.pi * np.cosh(log_fresh))[None, :, None]
        - np.log(np.pi * width * np.cosh(log_factor / width))
    )
    cell = (odds[1] - odds[0]) * (log_fresh[1] - log_fresh[0]) * (log_factor[1] - log_factor[0])
    assert ours == pytest.approx(special.logsumexp(terms + prior) + np.log(cell), abs=0.03)


def test_a_finely_measured_start_is_not_taken_for_a_random_walk():
    """Scores near zero, measured fifty times more finely than the rise: still a rise."""
    generator = np.random.default_rng(1)
    step = np.r_[0, 2 ** np.arange(10), np.arange(1, 16) * 9000.0]
    values = es.relaxation(step, onset=600.0, timescale=4000.0, kappa=1.0, amplitude=0.6)
    sd = np.sqrt(np.maximum(values * (1 - values), 1e-4) / 5000)
    curve = es.curve(values + sd * generator.normal(size=step.size), step, sd=sd)
    for noise in ("independent", "ar1", "ou_log"):
        found = es.compare(curve, noise=noise).dataset
        assert float(found["probability_of_onset"]) > 0.99, noise
        low, _, high = found["onset"].values
        assert low < 600 < high < 9000


def test_drift_beyond_the_measurement_error_is_no_emergence():
    """A wandering score with small known sd: independent noise of that size would call it risen."""
    generator = np.random.default_rng(4)
    step = np.arange(0, 3000, 100.0)
    drift = 0.03 * autoregressive(generator.normal(size=(4, step.size)), 0.9)
    curves = es.curve(np.zeros(step.size), step).expand_dims(curve=4).copy(data=drift)
    curves = curves.assign_coords(sd=("step", np.full(step.size, 0.005)))
    found = es.compare(curves, noise="ar1").dataset
    assert int((found["probability_of_onset"] > 0.9).sum()) == 0
    assert int((found["verdict"] == "misfit").sum()) <= 1
