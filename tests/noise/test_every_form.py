"""Every form of the likelihood is that of the dense covariance matrix, on the same data.

Which are in `dense`.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from emergence_stats.curves.families import LAWS, get_family
from emergence_stats.noise import beliefs, kalman, whitening
from emergence_stats.nuts import models
from emergence_stats.nuts.covariance import noise_kind
from emergence_stats.nuts.data import curve_data
from emergence_stats.online import filter as online_filter
from emergence_stats.online import state as online_state
from emergence_stats.population import joint
from emergence_stats.population.members import common_axis
from emergence_stats.quadrature import climbing
from emergence_stats.quadrature.evidence import Batch
from emergence_stats.segmentation import segments
from emergence_stats.segmentation.models import SEGMENT_MODELS
from tests.noise.dense import (
    EVEN,
    ONE,
    UNEVEN,
    Z,
    batch_of,
    correlation,
    integrate_noise,
    log_normal,
    of_lines,
)  # fmt: skip

NOISES = ("independent", "ar1", "ou", "ou_log")


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("noise", NOISES)
def test_quadrature(noise, measured):
    batch = batch_of(EVEN if noise == "ar1" else UNEVEN, noise, measured)
    for name, z in (("sudden_power_law", Z), ("flat", Z[:, :0])):
        family = get_family(name)
        shape = batch.shape(family, ONE, z)[0] if family.emerges else None
        ours = batch.log_likelihood(family)(ONE, z, np.array([-np.inf]))[0]
        # Five Gauss points in sigma: 1e-3; the grid in rho at 1.2 posterior sd: a few 1e-3; terms
        # below 2e-4 of the sum are left out of the tails in wandering and its rho, which are slow.
        allowed = 0.01 if measured else 0.002
        assert ours == pytest.approx(integrate_noise(batch, shape).log_evidence, abs=allowed), name


def test_quadrature_by_climbing():
    """What serves longer curves is another way to the same sum."""
    batch = batch_of(UNEVEN, "ou_log")
    for name, z in (("sudden_power_law", Z), ("flat", Z[:, :0])):
        family, out = get_family(name), np.empty(1)
        curves, low = batch.kernel_curves(family), np.array([-np.inf])
        climbing.log_likelihood(batch.shape(family, ONE, z), ONE, curves, low, out)
        assert out[0] == pytest.approx(batch.log_likelihood(family)(ONE, z, low)[0], abs=1e-6)


@pytest.mark.parametrize("rho", [0.05, 0.6, 0.999])
def test_whitening(rho):
    y, f = batch_of(EVEN, "ar1").y[0], np.linspace(0.0, 1.0, 13) ** 2
    n, rows = y.size, np.array([np.ones(y.size), f, y])
    places = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    sums, white, found = np.zeros((6, 3)), np.zeros((4, n)), np.zeros(6)
    whitening.curve_sums(y, n, sums)
    whitening.shape_sums(f, y, n, sums)
    for gap in (np.ones(n), batch_of(UNEVEN, "ou").gap[0]):
        matrix = correlation(gap, rho)
        exact = rows @ np.linalg.solve(matrix, rows.T)
        expected = [exact[place] for place in places]
        whitening.whiten(y, gap, n, rho, white)
        whitening.uneven_products(f, n, white, found)
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        log_determinant = whitening.log_determinant(gap, n, rho)
        assert log_determinant == pytest.approx(np.linalg.slogdet(matrix)[1], abs=1e-8)
        if (gap == 1.0).all():
            even = [whitening.even_product(sums, row, rho) for row in range(6)]
            np.testing.assert_allclose(even, expected, rtol=1e-8)


@pytest.mark.parametrize(("odds", "wander"), [(-np.inf, 0.0), (-np.inf, 0.1), (1.5, 0.1)])
def test_kalman_filter(odds, wander):
    batch = batch_of(UNEVEN, "ou_log", measured=True)
    y, gap, variance, n = batch.y[0], batch.gap[0], batch.variance[0], 13
    f, table, found = np.linspace(0.0, 1.0, n) ** 2, np.zeros((kalman.ROWS, n)), np.zeros(6)
    half = kalman.filter_curve(y, variance, gap, n, odds, wander, table)
    kalman.curve_products(table, n, found)
    kalman.shape_products(f, table, n, found)
    matrix = np.diag(variance) + wander**2 * correlation(gap, special.expit(odds))
    rows = np.array([np.ones(n), f, y])
    exact = rows @ np.linalg.solve(matrix, rows.T)
    assert half == pytest.approx(0.5 * np.linalg.slogdet(matrix)[1], abs=1e-9)
    np.testing.assert_allclose(
        found, [exact[0, 0], exact[0, 1], exact[1, 1], exact[0, 2], exact[1, 2], exact[2, 2]]
    )


@pytest.mark.parametrize("measured", [False, True])
def test_segments(measured):
    """The whole curve as one segment, given its noise."""
    batch = batch_of(UNEVEN, "ou_log", measured)
    y, gap, n = batch.y[0], batch.gap[0], 13
    place = np.linspace(0.0, 1.0, n)
    for name in ("constant", "linear"):
        model = SEGMENT_MODELS[name]
        curve = segments.SegmentedCurve(
            y=y,
            x=place,
            variance=batch.variance[0] if measured else np.zeros(n),
            gap=gap,
            log_share=np.zeros(n),
            basis=model.coefficients(),
            own_scale=False,
            min_points=2,
            margin=np.inf,
            measured=measured,
            correlated=True,
        )
        node = np.array([1.2, 0.1**2, np.log(0.7)])
        found = np.empty(n)
        segments.segments_from(
            curve, segments.noise_at(curve, node), 0, np.zeros(n + 1), np.inf, found,
            np.empty((0, segments.SUMS)),
        )  # fmt: skip
        basis = model.columns(place)
        noise = 1.2**2 * np.diag(curve.variance) + 0.1**2 * correlation(gap, 0.7)
        exact = log_normal(y, noise + beliefs.LEVEL_SD**2 * basis @ basis.T)
        assert found[-1] - 0.5 * n * np.log(2 * np.pi) == pytest.approx(exact, abs=1e-9)


def test_online():
    """Of the noise on its grid, where nothing has changed yet."""
    y = batch_of(EVEN, "ar1").y[0]
    settings = online_state.settings(correlated=True)
    state = online_state.init(1, 12, settings)
    for i, value in enumerate(y):
        state, _ = online_filter.step(state, settings, np.array([value]), i / 13, i / 13)
    found = state.log_weight[0, online_filter.UNCHANGED] - settings.log_prior
    sigma = np.sqrt(settings.variance / (1.0 - settings.rho**2))
    matrix = correlation(np.ones(y.size), settings.rho)
    exact = log_normal(y, sigma[:, None, None] ** 2 * matrix + beliefs.LEVEL_SD**2)
    near = exact > exact.max() - 30.0
    assert near.sum() > 20
    # The state is kept in single precision.
    difference = (found - exact)[near]
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-4)
    # Of the size what the grid's ends leave; of rho the shares that the page of beliefs names.
    mass = np.exp(settings.log_prior).reshape(beliefs.ONLINE_SIZES.size, -1).sum(1)
    prior = stats.hypsecant.pdf(np.log(beliefs.ONLINE_SIZES / beliefs.NOISE_SCALE))
    np.testing.assert_allclose(mass, prior / prior.sum())
    rho, share = np.array(beliefs.ONLINE_CORRELATIONS).T
    np.testing.assert_allclose(settings.rho[: rho.size], rho)
    of_rho = np.exp(settings.log_prior).reshape(-1, rho.size).sum(0)
    np.testing.assert_allclose(of_rho, share / share.sum())


def noise_of(kind, x, data, shape):
    """Covariance at a sampler's coordinates, and their log prior density."""
    log_prior = stats.hypsecant.logpdf(x["log_noise"])
    sigma = float(data.noise_scale * np.exp(data.noise_width * x["log_noise"]))
    rho = 0.0
    if "rho_odds" in x:
        rho = special.expit(x["rho_odds"])
        log_prior += stats.logistic.logpdf(x["rho_odds"])
    matrix, spread = correlation(data.gap, rho), 1.0 / data.unit
    if "log_wander" in x:
        log_prior += stats.hypsecant.logpdf(x["log_wander"])
        new = np.sqrt((spread**2).mean()) * np.exp(x["log_wander"])
        return sigma**2 * (np.diag(spread**2) + new**2 / (1.0 - rho**2) * matrix), log_prior
    if "share_odds" in x:
        share = special.expit(x["share_odds"])
        log_prior += stats.logistic.logpdf(x["share_odds"])
        spread = spread * (share + (1.0 - share) * abs(shape))
    if data.innovation:
        sigma = sigma / np.sqrt(1.0 - rho**2)
    return sigma**2 * np.outer(spread, spread) * matrix, log_prior


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("noise", [*NOISES, "proportional"])
def test_sampler(noise, measured):
    """Student-t noise, which has no covariance matrix, is held in `tests/nuts`."""
    batch, kind = batch_of(UNEVEN, "ou_log", measured), noise_kind(noise, measured)
    data = curve_data(batch.curves, batch.axis, kind)
    for name in ("flat", "sudden_exponential"):
        family = get_family(name)
        names = models.coordinate_names(family, kind)
        x = dict(zip(names, np.random.default_rng(7).normal(size=len(names)), strict=True))
        columns = [np.array([[value]]) for value in x.values()]
        at = models.pieces(family, kind, data, True, columns)
        shape = at.shape[0] if family.emerges else None
        covariance, log_prior = noise_of(kind, x, data, np.zeros(13) if shape is None else shape)
        exact = log_normal(np.asarray(data.y), covariance + of_lines(shape)) - batch.log_unit[0]
        ours = models.log_density(family, kind, data, True, columns)[0, 0] - at.log_prior[0, 0]
        assert ours == pytest.approx(exact, abs=1e-6), name
        if not family.emerges:
            assert at.log_prior[0, 0] == pytest.approx(log_prior)


@pytest.mark.parametrize("laws", LAWS)
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("noise", ["independent", "ar1", "ou_log"])
def test_population(noise, measured, laws):
    """Three members, one of them shorter."""
    arrays = batch_of(UNEVEN, noise, measured, number=3).curves
    arrays.num_points[1] = 11
    batch = Batch(arrays, common_axis(arrays, "log"), noise)
    model = joint.joint_model(batch, np.zeros((3, 3)), np.ones((3, 3)), laws)
    generator = np.random.default_rng(2)
    point = {
        name: value + 0.3 * generator.normal(size=np.shape(value))
        for name, value in model.initial_point().items()
    }
    wanted = model.replace_rvs_by_values([model["likelihood"], model["value"]])
    compiled = model.compile_fn(
        wanted, inputs=model.value_vars, mode="FAST_COMPILE", point_fn=False,
        on_unused_input="ignore",
    )  # fmt: skip
    likelihood, value = compiled(*(point[variable.name] for variable in model.value_vars))
    odds = [point[name] for name in ("takeoff_odds",) if name in point]
    z = np.column_stack([special.expit(value[:, 0]), value[:, 1:], *odds])
    shapes = batch.shape(get_family(laws[1]), np.arange(3), z)
    exact = 0.0
    for i, n in enumerate(arrays.num_points):
        size = point["log_noise"][i]
        rho = 0.0
        if batch.correlated:
            rho = special.expit(point["correlation_interval__"][i])
        matrix = correlation(batch.gap[i, :n], rho)
        if measured:
            spread = np.exp(beliefs.FACTOR_WIDTH * size) * np.sqrt(batch.variance[i, :n])
        else:
            spread = np.full(n, beliefs.NOISE_SCALE * np.exp(size) / np.sqrt(1.0 - rho**2))
        noise_matrix = np.outer(spread, spread) * matrix
        exact += log_normal(batch.y[i, :n], noise_matrix + of_lines(shapes[i, :n], n))
    assert likelihood == pytest.approx(exact, abs=1e-6)
