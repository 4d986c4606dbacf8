"""Lags, order and common onsets: against draws, closed forms and dense integration."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import integrate, stats

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.labels import gather
from emergence_stats.onset.posteriors import SPREAD_SD, lag_distribution
from emergence_stats.onset.relations import axis_of, posteriors_of
from emergence_stats.quadrature.evidence import Batch

STEP = np.array([10.0, 10_000.0])
SPAN = np.log(STEP[1] / STEP[0])


def onsets_of(places, widths, probability=1.0, dims=("head",)):
    """An `Onset` whose posteriors are normal on the log axis, cut at its ends."""
    places, widths = np.broadcast_arrays(np.asarray(places, float), np.asarray(widths, float))
    share = np.r_[0.0, np.geomspace(1e-6, 0.5, 127), 1.0 - np.geomspace(0.5, 1e-6, 127)[1:], 1.0]
    low, high = (-places / widths)[..., None], ((1.0 - places) / widths)[..., None]
    normal = stats.truncnorm(low, high, loc=places[..., None], scale=widths[..., None])
    at = normal.ppf(np.broadcast_to(share, (*places.shape, share.size)))
    at[..., 0], at[..., -1] = 0.0, 1.0
    cumulative = normal.cdf(at)
    steps = STEP[0] * np.exp(SPAN * at)
    data = xr.Dataset(
        {
            "onset_step": ((*dims, "onset_point"), steps),
            "cumulative": ((*dims, "onset_point"), cumulative),
            "probability": (dims, np.broadcast_to(probability, places.shape).astype(float)),
        },
        coords={"step": STEP, **{d: np.arange(n) for d, n in zip(dims, places.shape, strict=True)}},
        attrs={"step_prior": "log", "kind": "onset"},
    )
    return es.Onset(data)


def test_order_and_lag_are_those_of_draws():
    onset = onsets_of([0.5, 0.55, 0.9], [0.05, 0.1, 0.02])
    posteriors = posteriors_of(onset.dataset, axis_of(onset.dataset))
    generator = np.random.default_rng(0)
    number = 40_000
    draws = [
        np.interp(generator.random(number), np.r_[0.0, np.cumsum(mass)], edges)
        for mass, edges in zip(posteriors.mass, posteriors.edges, strict=True)
    ]
    order = onset.order("head")
    for a, b in ((0, 1), (1, 0), (0, 2), (1, 2)):
        share = np.mean(draws[a] < draws[b])
        error = max(np.sqrt(share * (1.0 - share) / number), 1.0 / number)
        assert float(order.sel(head=a, head_other=b)) == pytest.approx(share, abs=4.0 * error)
    lags, below = lag_distribution(posteriors, posteriors, 0, 1)
    drawn = np.sort(draws[1] - draws[0])
    # Kolmogorov-Smirnov at p = 0.001, the distribution being known.
    distance = np.abs(np.interp(drawn, lags, below) - (np.arange(number) + 0.5) / number).max()
    assert distance < 1.95 / np.sqrt(number)


def test_a_lag_has_the_closed_form_of_normal_posteriors():
    # Narrow on the axis, so that steps are as good as linear in it.
    first, second = onsets_of(0.5, 0.002, dims=()), onsets_of(0.503, 0.003, dims=())
    lag = first.lag(second)
    at = STEP[0] * np.exp(SPAN * 0.5015)
    unit = at * SPAN
    assert float(lag["median"]) == pytest.approx(0.003 * unit, rel=0.02)
    spread = unit * np.hypot(0.002, 0.003)
    width = float(lag["upper"] - lag["lower"])
    assert width == pytest.approx(2.0 * stats.norm.ppf(0.945) * spread, rel=0.02)
    before = stats.norm.cdf(0.003 / np.hypot(0.002, 0.003))
    assert float(lag["probability_before"]) == pytest.approx(before, abs=0.003)
    # With uniform priors on an axis of length 1, one onset is as much more probable than two as
    # the densities of the two posteriors overlap.
    same = stats.norm.logpdf(0.003, scale=np.hypot(0.002, 0.003))
    assert float(lag["log_bayes_factor_same"]) == pytest.approx(same, abs=0.02)


def test_one_onset_over_two_is_that_of_dense_integration():
    step = np.geomspace(10.0, 5_000.0, 24)
    generator = np.random.default_rng(4)
    clean = np.stack([(step > t) * 0.4 for t in (300.0, 420.0)])
    curves = xr.DataArray(
        clean + 0.1 * generator.normal(size=clean.shape),
        dims=("head", "step"),
        coords={"step": step, "head": [3, 5]},
    )
    onset = es.detect_onset(curves, families=("level_change",), noise="independent")
    arrays, _ = gather(curves)
    family = get_family("level_change")
    density = Batch(arrays, step_axis(arrays, "log"), "independent").log_likelihood(family)
    z = (np.arange(4_000) + 0.5) / 4_000
    values = [density(np.full(z.size, c), z[:, None], np.full(z.size, -np.inf)) for c in range(2)]
    mean = [np.logaddexp.reduce(v) - np.log(z.size) for v in values]
    exact = np.logaddexp.reduce(values[0] + values[1]) - np.log(z.size) - sum(mean)
    pair = onset.common("head").dataset
    p = onset.probability.values
    # Where either has no onset the two say nothing of each other.
    exact = np.log(p.prod() * np.exp(exact) + 1.0 - p.prod())
    assert float(pair["log_bayes_factor_shared"]) == pytest.approx(exact, abs=0.03)


def exact_common(observed, width):
    """Log evidence of onsets about a common one over onsets anywhere, by nested quadrature."""

    def given(mu, s):
        inside = stats.norm.cdf((1.0 - mu) / s) - stats.norm.cdf(-mu / s)
        total = np.hypot(s, width)
        return np.prod(stats.norm.pdf(observed, mu, total)) / inside**observed.size

    def over_mu(s):
        value, _ = integrate.quad(
            given, 0.0, 1.0, args=(s,), points=[observed.mean()], limit=200, epsrel=1e-4
        )
        return value * 2.0 * stats.norm.pdf(s, scale=SPREAD_SD)

    value, _ = integrate.quad(over_mu, 1e-5, 1.5, points=[0.02, 0.1], limit=200, epsrel=1e-3)
    return np.log(value)


@pytest.mark.parametrize("observed", [[0.5, 0.52, 0.47, 0.55], [0.3, 0.5, 0.62, 0.45, 0.4]])
def test_a_common_onset_has_the_evidence_of_dense_integration(observed):
    observed, width = np.array(observed), 0.01
    found = onsets_of(observed, width).common("head").dataset
    exact = exact_common(observed, width)
    assert float(found["log_bayes_factor_common"]) == pytest.approx(exact, abs=0.03)


def test_common_onset_and_spread_are_calibrated():
    generator = np.random.default_rng(8)
    groups, seeds, width = 30, 4, 0.02
    mu = generator.uniform(0.2, 0.8, groups)
    spread = np.abs(SPREAD_SD * generator.normal(size=groups))
    where = mu[:, None] + spread[:, None] * generator.normal(size=(groups, seeds))
    inside = ((where > 0.03) & (where < 0.97)).all(axis=1)
    mu, spread, where = mu[inside], spread[inside], where[inside]
    seen = where + width * generator.normal(size=where.shape)
    found = onsets_of(seen, width, dims=("curve", "run")).common("run").dataset
    location = STEP[0] * np.exp(SPAN * mu)
    for truth, low, high in (
        (location, found["lower"], found["upper"]),
        (spread * SPAN / np.log(10.0), found["spread_lower"], found["spread_upper"]),
    ):
        held = int(((low.values < truth) & (truth < high.values)).sum())
        assert stats.binomtest(held, mu.size, 0.89).pvalue > 0.01


def test_curves_without_an_onset_say_nothing():
    both = onsets_of([0.5, 0.52], 0.02)
    more = onsets_of([0.5, 0.52, 0.9], 0.02, probability=[1.0, 1.0, 0.0])
    first, second = both.common("head").dataset, more.common("head").dataset
    assert float(second["number"]) == 2.0
    for name in ("median", "spread", "log_bayes_factor_shared", "log_bayes_factor_common"):
        assert float(first[name]) == pytest.approx(float(second[name]), rel=0.02)


def test_labels_are_kept_and_matched(tmp_path):
    onset = onsets_of([[0.3, 0.5], [0.35, 0.55]], 0.02, dims=("run", "head"))
    order = onset.order("head")
    assert order.dims == ("run", "head", "head_other")
    assert np.allclose(order + order.transpose("run", "head_other", "head").values, 1.0)
    common = onset.common("run")
    assert common.dataset["median"].dims == ("head",)
    common.to_netcdf(tmp_path / "common.nc")
    again = type(common).from_netcdf(tmp_path / "common.nc")
    xr.testing.assert_identical(common.dataset, again.dataset)
    assert "Common onset" in common._repr_html_()
    common.plot(head=1).savefig(tmp_path / "common.png")
    loss = es.Onset(onset.dataset.sel(head=0, drop=True))
    lag = onset.lag(loss)
    assert set(lag["median"].dims) == {"run", "head"}
    # What moves together moves at the same step, whichever way each posterior is cut up.
    assert float(np.abs(lag["median"].sel(head=0)).max()) < 1.0


def test_bad_input_is_named():
    onset = onsets_of([0.3, 0.5], 0.02)
    with pytest.raises(es.InputError, match="dim: 'seed'"):
        onset.order("seed")
    with pytest.raises(es.InputError, match="dim: 'seed'"):
        onset.common("seed")
    with pytest.raises(es.InputError, match="prob"):
        onset.common("head", prob=2.0)
    other = es.Onset(onset.dataset.assign_coords(head=[4, 5]))
    with pytest.raises(es.InputError, match="other labels"):
        onset.lag(other)
    linear = es.Onset(onset.dataset.assign_attrs(step_prior="linear"))
    with pytest.raises(es.InputError, match="step_prior"):
        onset.lag(linear)
