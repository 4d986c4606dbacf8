"""Evidence and posteriors against integrals done another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

import emergence_stats as es
from emergence_stats.comparison.summaries import analyse, weighted_quantile
from emergence_stats.curves.families import get_family, resolve_families
from emergence_stats.curves.priors import HalfNormal, step_axis
from emergence_stats.curves.shapes import relaxation, timescale_from_half_time
from emergence_stats.curves.simulation import simulate_curves
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.data.labels import gather
from emergence_stats.noise import beliefs
from emergence_stats.quadrature.evidence import Batch, family_posterior
from emergence_stats.quadrature.integrate import CoarseGrid, integrate
from tests.noise.dense import correlation, log_normal, of_lines


def one_curve(seed, *, step, kappa=1.0, sd=0.05, correlation=0.0, known_sd=None, amplitude=1.0):
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=step.size)
    for i in range(1, step.size):
        noise[i] = correlation * noise[i - 1] + np.sqrt(1 - correlation**2) * noise[i]
    scale = sd if known_sd is None else known_sd
    values = relaxation(step, onset=400.0, timescale=150.0, kappa=kappa, amplitude=amplitude)
    values = values + scale * noise
    return CurveArrays(
        step=step[None],
        values=values[None],
        sd=None if known_sd is None else np.asarray(known_sd)[None],
        num_points=np.array([step.size]),
        centre=np.array([0.5 * (values.max() + values.min())]),
        scale=np.array([np.ptp(values)]),
    )


class DenseModel:
    """A curve in units of its range, and its density given shape and noise."""

    def __init__(self, curves: CurveArrays):
        self.y = (curves.values[0] - curves.centre[0]) / curves.scale[0]
        self.n = self.y.size
        self.log_unit = self.n * np.log(curves.scale[0])
        self.scale = beliefs.NOISE_SCALE

    def log_density(self, shape, sigma, rho):
        sigma = np.atleast_1d(sigma)
        noise = sigma[:, None, None] ** 2 * correlation(np.ones(self.n), rho)
        try:
            return log_normal(self.y, noise + of_lines(shape, self.n)) - self.log_unit
        except np.linalg.LinAlgError:
            # Innovations below rounding beside the level's spread: no data here are so quiet.
            return np.full(sigma.size, -np.inf)


STEP = np.linspace(0.0, 1500.0, 13)


@pytest.mark.parametrize("seed", range(2))
def test_exponential_evidence_is_the_dense_double_sum(seed):
    """Onset and half-time summed over 400 by 300 points, the rest by the same dense formula."""
    curves = one_curve(seed, step=STEP, kappa=0.0, sd=0.08)
    model = DenseModel(curves)
    axis = step_axis(curves, "log")
    position = (np.arange(400) + 0.5) / 400
    z = np.linspace(-4.5, 4.5, 300)
    onset = axis.position_to_step(position)
    half = get_family("sudden_exponential").parameters[1].prior.value(z, axis)
    tau = timescale_from_half_time(half, 0.0)
    shapes = relaxation(
        STEP, onset=onset[:, None, None], timescale=tau[None, :, None], kappa=0.0
    ).reshape(-1, STEP.size)
    # Given sigma the dense normal density has rank-one and -two updates: closed form, all shapes.
    pa, pb = beliefs.BASELINE_SD**-2, beliefs.AMPLITUDE_SD**-2
    g12, g22 = shapes.sum(1), (shapes**2).sum(1)
    h1, h2 = model.y.sum(), shapes @ model.y
    log_sigma = np.linspace(np.log(model.scale) - 6, np.log(model.scale) + 6, 121)
    terms = []
    for u in log_sigma:
        v = np.exp(2 * u)
        a11, a22 = model.n + pa * v, g22 + pb * v
        det = a11 * a22 - g12**2
        rest = (model.y**2).sum() - (a22 * h1**2 - 2 * g12 * h1 * h2 + a11 * h2**2) / det
        prior = -np.log(np.pi * np.cosh(u - np.log(model.scale)))
        terms.append(
            -0.5 * rest / v
            - (model.n - 2) * u
            - 0.5 * np.log(det / (pa * pb))
            - 0.5 * model.n * np.log(2 * np.pi)
            - model.log_unit
            + prior
        )
    inner = special.logsumexp(terms, axis=0) + np.log(log_sigma[1] - log_sigma[0])
    grid = inner.reshape(400, 300) + stats.norm.logpdf(z)
    exact = special.logsumexp(grid) + np.log(z[1] - z[0]) - np.log(400)
    found = family_posterior(get_family("sudden_exponential"), curves, noise="independent")
    assert found.log_integral[0] == pytest.approx(exact, abs=found.error[0])
    # And the posterior: how much of the dense one lies below our quantiles. The points are one to
    # one and a half sd apart in half-time, which weighted points can show to about 2%.
    families = resolve_families(["sudden_exponential"])
    summary = analyse(
        curves,
        families,
        prior_probability={"flat": 0.5, "sudden_exponential": 0.5},
        noise="independent",
    )
    share = np.array([0.055, 0.5, 0.945])
    cumulative, steps = summary.onset_cumulative[0], summary.onset_step[0]
    ours_onset = axis.step_to_position(np.interp(share, cumulative, steps))
    ours_half = weighted_quantile(found.z[:, 1], found.weight, share)
    for ours, values, other in ((ours_onset, position, 1), (ours_half, z, 0)):
        mass = np.exp(special.logsumexp(grid, axis=other) - special.logsumexp(grid))
        below = np.interp(ours, values, np.cumsum(mass) - 0.5 * mass)
        np.testing.assert_allclose(below, share, atol=0.025)


def test_reported_error_covers_the_difference_from_a_finer_integration():
    step = np.unique(np.geomspace(1.0, 5000.0, 16).round())
    for seed, (sd, remembered, kappa) in enumerate(
        [(0.005, 0.0, 3.0), (0.02, 0.8, 0.0), (0.1, 0.0, 1.0), (0.01, 0.8, 2.0)]
    ):
        curves = one_curve(seed, step=step, sd=sd, correlation=remembered, kappa=kappa)
        family = get_family("sudden_power_law")
        coarse = family_posterior(family, curves)
        fine = family_posterior(family, curves, tolerance=0.005)
        assert fine.error[0] < coarse.error[0]
        difference = abs(coarse.log_integral[0] - fine.log_integral[0])
        assert difference < coarse.error[0] + fine.error[0]
        assert difference < 0.05


def test_narrow_ridges_and_wide_plateaus_are_integrated():
    """Gaussians of known volume, a thousand times narrower than the prior and as wide."""
    targets = [(0.001, 0.9), (0.02, -0.99), (0.8, 0.0), (0.3, 0.95)]
    axes = [np.linspace(-2.0, 2.0, 16), np.linspace(-2.0, 2.0, 4)]

    def log_likelihood(who, z, hopeless):
        out = np.empty(who.size)
        for k, (sd, remembered) in enumerate(targets):
            part = who == k
            x = (z[part] - [0.3, -0.7]) / sd
            square = x[:, 0] ** 2 - 2 * remembered * x[:, 0] * x[:, 1] + x[:, 1] ** 2
            out[part] = -0.5 * square / (1 - remembered**2)
        return out

    def log_prior(z):
        return stats.norm.logpdf(z).sum(axis=1)

    number = len(targets)
    every = np.arange(number)
    no_hints = np.zeros(0, dtype=int), np.zeros((0, 2)), np.zeros((0, 2, 2))
    found = integrate(
        log_likelihood,
        log_prior,
        CoarseGrid.of(axes),
        every,
        np.full(number, -np.inf),
        np.full(number, 1e9),
        no_hints,
        tolerance=0.02,
        cut=12.0,
    )
    for k, (sd, remembered) in enumerate(targets):
        spread = sd**2 * np.array([[1, remembered], [remembered, 1]])
        volume = np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(spread)[1]
        prior_and_peak = stats.multivariate_normal([0.3, -0.7], np.eye(2) + spread).logpdf([0, 0])
        # Half-grid tolerance 2%, of which the whole grid keeps far less.
        assert found.log_integral[k] == pytest.approx(volume + prior_and_peak, abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "noise", "sd", "correlation", "kappa"),
    [(2, "independent", 0.02, 0.0, 2.0), (3, "ar1", 0.05, 0.6, 0.5)],
)
def test_power_law_agrees_with_nested_sampling(seed, noise, sd, correlation, kappa):
    dynesty = pytest.importorskip("dynesty")
    step = np.unique(np.geomspace(1.0, 5000.0, 14).round())
    curves = one_curve(seed, step=step, sd=sd, correlation=correlation, kappa=kappa)
    model, axis = DenseModel(curves), step_axis(curves, "log")
    half_prior = get_family("sudden_power_law").parameters[1].prior
    dim = 5 if noise == "ar1" else 4

    def transform(u):
        u = np.clip(u, 1e-12, 1 - 1e-12)
        half = half_prior.value(stats.norm.ppf(u[1]), axis)[0]
        order = 2.0 * stats.norm.ppf(0.5 + 0.5 * u[2])
        rho = u[4] if noise == "ar1" else 0.0
        sigma = model.scale * np.tan(0.5 * np.pi * u[3]) / np.sqrt(1 - rho**2)
        return np.array([axis.position_to_step(u[0])[0], half, order, sigma, rho][:dim])

    def log_likelihood(p):
        tau = float(timescale_from_half_time(p[1], p[2]))
        shape = relaxation(step, onset=p[0], timescale=tau, kappa=p[2])
        value = model.log_density(shape, max(p[3], 1e-9), p[4] if noise == "ar1" else 0.0)
        return max(value[0], -1e300)

    sampler = dynesty.NestedSampler(
        log_likelihood, transform, dim, nlive=150, sample="rwalk", rstate=np.random.default_rng(0)
    )
    sampler.run_nested(print_progress=False, dlogz=0.1)
    theirs = sampler.results
    ours = family_posterior(get_family("sudden_power_law"), curves, noise=noise)
    assert ours.log_integral[0] == pytest.approx(
        theirs.logz[-1], abs=3 * theirs.logzerr[-1] + ours.error[0]
    )
    weight = np.exp(theirs.logwt - theirs.logz[-1])
    weight /= weight.sum()
    effective = 1 / (weight**2).sum()
    share = np.array([0.1, 0.5, 0.9])
    for column, sample in ((1, theirs.samples[:, 1]), (2, theirs.samples[:, 2])):
        value = (
            get_family("sudden_power_law").parameters[column].prior.value(ours.z[:, column], axis)
        )
        quantile = weighted_quantile(value, ours.weight, share)
        below = [(weight * (sample <= q)).sum() for q in quantile]
        # Binomial error of the sampler's shares, doubled for its autocorrelation; 1% for ours.
        allowed = 4 * 2 * np.sqrt(share * (1 - share) / effective) + 0.01
        assert (np.abs(below - share) < allowed).all()


def test_evenly_spaced_points_make_the_two_kinds_of_memory_one():
    step = np.geomspace(10.0, 1000.0, 30)
    curves = one_curve(4, step=step, correlation=0.5)
    family = get_family("sudden_exponential")
    index, uneven = (
        family_posterior(family, curves, noise=noise).log_integral[0] for noise in ("ar1", "ou_log")
    )
    assert uneven == pytest.approx(index, abs=1e-6)


@pytest.mark.parametrize("sd", [1e-3, 1e-4])
def test_fine_measurements_keep_their_evidence(sd):
    """The rule over sigma is centred on what is left of the curve, however little."""
    curves = one_curve(5, step=STEP, sd=sd)
    batch, model = Batch(curves, step_axis(curves, "log"), "independent"), DenseModel(curves)
    shape = relaxation(STEP, onset=400.0, timescale=150.0, kappa=1.0)
    position = batch.axis.step_to_position(np.array([400.0]))[0]
    low, high = np.log(0.1 * batch.axis.shortest_gap[0]), np.log(batch.axis.span[0])
    z = np.array([[position, (np.log(150.0) - 0.5 * (low + high)) / ((high - low) / 3.29), 0.0]])
    family = get_family("sudden_power_law")
    ours = batch.log_likelihood(family)(np.zeros(1, int), z, np.array([-np.inf]))[0]
    u = np.linspace(-9.0, 9.0, 2001)
    terms = model.log_density(shape, model.scale * np.exp(u), 0.0) - np.log(np.pi * np.cosh(u))
    assert ours == pytest.approx(special.logsumexp(terms) + np.log(u[1] - u[0]), abs=0.01)


def test_a_mode_that_the_coarse_grid_overstates_is_still_integrated():
    """Its zoomed mass was below the rough one, and no start was left for it."""
    curves = simulate_curves(
        "sudden_power_law",
        np.geomspace(10.0, 1e4, 150),
        number=20,
        sd=0.005,
        noise="ar1",
        correlation=0.0,
        parameters={"baseline": 0.0, "amplitude": 1.0},
        seed=[4, 1],
    )["score"].isel(curve=14)
    arrays, _ = gather(curves)
    found = family_posterior(get_family("sudden_power_law"), arrays)
    assert np.isfinite(found.log_integral).all()
    assert found.error[0] < 0.2


def rise_of(kappa):
    step = np.unique(np.round(np.geomspace(1, 3000, 60)))
    clean = relaxation(step, onset=200.0, timescale=150.0, kappa=kappa, baseline=0.1, amplitude=0.6)
    return es.curve(clean + 0.03 * np.random.default_rng(3).normal(size=(1, step.size))[0], step)


def flat_by_brute_force(values):
    """Baseline and noise scale integrated numerically, in units of the curve's range."""
    low, high = values.min(), values.max()
    y = (values - 0.5 * (low + high)) / (high - low)
    n = y.size

    def log_density(a, log_sigma):
        sigma = np.exp(log_sigma)
        rest = ((y[:, None, None] - a) ** 2).sum(0)
        like = -0.5 * rest / sigma**2 - n * np.log(sigma) - 0.5 * n * np.log(2 * np.pi)
        prior = -0.5 * (a / beliefs.BASELINE_SD) ** 2 - 0.5 * np.log(
            2 * np.pi * beliefs.BASELINE_SD**2
        )
        # sigma half-Cauchy: log sigma has the density of a hyperbolic secant.
        scale = np.log(2 / np.pi) - np.log(
            beliefs.NOISE_SCALE / sigma + sigma / beliefs.NOISE_SCALE
        )
        return like + prior + scale

    a = np.linspace(-1.5, 1.5, 3001)[None, :]
    s = np.linspace(np.log(1e-3), np.log(30), 2001)[:, None]
    grid = log_density(a, s)
    log_cell = np.log((a[0, 1] - a[0, 0]) * (s[1, 0] - s[0, 0]))
    return float(special.logsumexp(grid) + log_cell - n * np.log(high - low))


def test_flat_is_the_double_integral():
    values = np.random.default_rng(0).normal(0.3, 0.05, size=12)
    ours = es.compare(es.curve(values, np.arange(1, 13) * 10), noise="independent")
    found = float(ours.dataset["log_evidence"].sel(family="flat"))
    assert found == pytest.approx(flat_by_brute_force(values), abs=0.02)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_a_power_law_that_is_all_but_exponential_has_its_evidence(kappa):
    """As the prior on kappa shrinks to 0, one more integral must change nothing."""
    arrays, _ = gather(rise_of(kappa))
    power_law = get_family("sudden_power_law")
    *others, order = power_law.parameters
    tight = replace(order, prior=HalfNormal(1e-4))
    nearly = replace(power_law, name="nearly", parameters=(*others, tight))
    found, expected = (
        family_posterior(family, arrays) for family in (nearly, get_family("sudden_exponential"))
    )
    difference = float(found.log_integral[0] - expected.log_integral[0])
    # Both errors as reported; kappa = 1e-4 itself moves the likelihood by less than 0.01.
    assert abs(difference) < float(found.error[0] + expected.error[0]) + 0.01


@pytest.mark.parametrize("kappa", [0.0, 0.15, 0.3])
def test_bayes_factor_is_also_the_savage_dickey_ratio(kappa):
    """kappa = 0 is a point of the power law: its posterior over its prior density there.

    Both densities are smoothed by exp(-(kappa/width)^2 / 2), which the half-normal prior
    integrates in closed form, and the widths taken to zero by Richardson extrapolation.
    """
    arrays, _ = gather(rise_of(kappa))
    exponential, power_law = (
        family_posterior(get_family(name), arrays, tolerance=0.003)
        for name in ("sudden_exponential", "sudden_power_law")
    )
    scale = get_family("sudden_power_law").parameters[2].prior.scale
    values = np.exp(power_law.z[:, 2])

    def ratio(width):
        smoothed = (power_law.weight * np.exp(-0.5 * (values / width) ** 2)).sum()
        return smoothed * np.sqrt(1 + (scale / width) ** 2)

    one, two, three = ratio(0.1), ratio(0.05), ratio(0.025)
    first, second = 2 * two - one, 2 * three - two
    found = np.log((4 * second - first) / 3)
    expected = float(exponential.log_integral[0] - power_law.log_integral[0])
    assert found == pytest.approx(expected, abs=0.05)


def test_a_finer_grid_does_not_lose_its_tail():
    arrays, _ = gather(rise_of(0.3))
    shares = []
    for tolerance in (0.003, 0.0005):
        posterior = family_posterior(get_family("sudden_power_law"), arrays, tolerance=tolerance)
        shares.append(posterior.weight[posterior.z[:, 2] < np.log(0.02)].sum())
    # About half a percent of the posterior; a cut at a fixed weight lost most of it.
    assert shares[1] == pytest.approx(shares[0], rel=0.15)
