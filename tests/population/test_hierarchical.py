"""Populations whose truth is known: exponential, one exponent, many; and agreement of engines."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp, ndtri
from scipy.stats import multivariate_normal, norm, qmc
from small_populations import STEP, fewer_points, heads, scattered

import emergence_stats as es
from emergence_stats.curves.families import LAWS
from emergence_stats.data.labels import gather
from emergence_stats.population import population
from emergence_stats.population.hierarchical import HierarchicalComparison, compare_hierarchical
from emergence_stats.population.importance import infer_population
from emergence_stats.population.members import LARGEST_KAPPA, common_axis, relaxation_at
from emergence_stats.quadrature.evidence import LEVEL, Batch
from emergence_stats.theory.orders import order_draws

# Fixtures made once serve several tests: they must share a process.
pytestmark = pytest.mark.xdist_group("population")

# For each pair of laws, whether its rises begin gradually.
PAIRS = pytest.mark.parametrize(("laws", "gradual"), [(LAWS[0], True), (LAWS[1], False)])


@pytest.fixture(scope="module")
def few():
    """Six noisy heads: each says little, so that the others matter."""
    kappa = np.exp(np.random.default_rng(5).normal(0.3, 0.6, size=6))
    curves = scattered(5, kappa, sd=0.03, step=STEP[10:50])
    with fewer_points():
        return curves, compare_hierarchical(curves)


def gaussian_members(mean, sd, log_kappa, log_kappa_sd):
    """Members with Gaussian likelihoods of (x, h), and of log(kappa + 0.2)."""
    place = np.linspace(
        np.log(population.KAPPA_OFFSET), np.log(LARGEST_KAPPA + population.KAPPA_OFFSET), 20
    )
    kappa = np.exp(place) - population.KAPPA_OFFSET
    kappa[0] = 0.0
    unit = ndtri(qmc.Sobol(2, rng=np.random.default_rng(0)).random(8192))
    weight = np.full(len(unit), 1.0 / len(unit))
    cells = [
        population.gaussian_cells(m + s * unit, weight, np.zeros(len(unit)))
        for m, s in zip(mean, sd, strict=True)
    ]
    evidence = norm.logpdf(place, log_kappa[:, None], log_kappa_sd[:, None])
    shape = (1, kappa.size, 1)
    return population.Members(
        kappa,
        np.tile(np.stack([c[0] for c in cells])[:, None], shape) + evidence[:, :, None],
        np.tile(np.stack([c[1] for c in cells])[:, None], (*shape, 1)),
        np.tile(np.stack([c[2] for c in cells])[:, None], (*shape, 1)),
    )


def gaussian_case(seed, spread, order_spread):
    generator = np.random.default_rng(seed)
    sd = generator.uniform(0.1, 0.25, size=(6, 2))
    mean = [0.5, -0.3] + spread * generator.normal(size=(6, 2)) + sd * generator.normal(size=(6, 2))
    order_sd = generator.uniform(0.2, 0.4, size=6)
    order = 0.3 + np.hypot(order_spread, order_sd) * generator.normal(size=6)
    return mean, sd, order, order_sd


def brute_force(mean, sd, order, order_sd):
    """Log evidences of Gaussian members by dense sums over every centre and spread."""
    centre = np.linspace(-7.0, 7.0, 1401)[:, None]

    def location(k, log_prior, scale):
        spread = (np.arange(600) + 0.5) * (5.0 * scale / 600)
        total = sum(
            norm.logpdf(m, centre, np.hypot(s, spread))
            for m, s in zip(mean[:, k], sd[:, k], strict=True)
        )
        total += log_prior + np.log(2.0) + norm.logpdf(spread, 0.0, scale)
        return logsumexp(total) + np.log(0.01 * (spread[1] - spread[0]))

    logistic = -centre - 2.0 * np.log1p(np.exp(-centre))
    shared = location(0, logistic, 1.0) + location(1, norm.logpdf(centre), 0.5)
    log_kappa = np.linspace(np.log(1e-4), np.log(40.0), 1500)
    width = log_kappa[1] - log_kappa[0]
    fine = np.exp(log_kappa)
    each = norm.logpdf(np.log(fine + population.KAPPA_OFFSET), order[:, None], order_sd[:, None])
    half_normal = np.log(2.0) + norm.logpdf(fine, 0.0, 2.0) + log_kappa
    mu, spread = np.linspace(-4.0, 4.0, 161), (np.arange(100) + 0.5) * 0.03
    varying = np.empty((mu.size, spread.size))
    for j, s in enumerate(spread):
        between = np.exp(norm.logpdf(log_kappa, mu[:, None], s)) * width
        between /= between.sum(axis=1, keepdims=True)
        varying[:, j] = np.log(between @ np.exp(each).T).sum(axis=1)
    varying += norm.logpdf(mu, 0.06, 0.9)[:, None] + np.log(2.0) + norm.logpdf(spread, 0.0, 0.7)
    by_order = [
        norm.logpdf(np.log(population.KAPPA_OFFSET), order, order_sd).sum(),
        logsumexp(each.sum(axis=0) + half_normal) + np.log(width),
        logsumexp(varying) + np.log(0.05 * 0.03),
    ]
    return shared + np.array(by_order)


@pytest.mark.parametrize(
    ("spread", "order_spread"),
    [pytest.param(0.3, 0.8, marks=pytest.mark.slow), (0.0, 0.0)],
    ids=["wide", "no spread at all"],
)
def test_evidences_agree_with_brute_force(spread, order_spread):
    case = gaussian_case(1, spread, order_spread)
    found = infer_population(gaussian_members(*case))
    assert (found.effective_size > 500).all(), "not enough effective draws to judge"
    # 0.01 for cells and grids, and the sampling's own standard error, 0.015 or so.
    assert (found.error < 0.025).all()
    np.testing.assert_array_less(
        np.abs(found.log_evidence - brute_force(*case)), 0.01 + 3.0 * found.error
    )


@pytest.mark.parametrize(("spread", "bias", "scatter"), [(1.0, 0.01, 0.03), (0.3, 0.03, 0.06)])
def test_cells_give_back_a_gaussian_between_populations(spread, bias, scatter):
    """Closed form: a Gaussian member seen from populations all round it."""
    side = np.arange(-5.25, 5.3, 0.15) + 0.02
    point = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    weight = np.exp(-0.5 * (point**2).sum(axis=1))
    weight /= weight.sum()
    # A tilted member under a tilted prior: both must be undone.
    factor = np.array([[0.2, 0.0], [-0.24, 0.1]])
    log_prior = 0.7 * point[:, 0]
    cells = population.gaussian_cells(point @ factor.T, weight, log_prior)
    members = population.Members(np.zeros(1), *(c[None, None] for c in cells))
    angle = np.linspace(0.0, 2.0 * np.pi, 200, endpoint=False)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # Dividing by exp(0.7 z) moves a standard normal by -0.7 and multiplies it by exp(0.245).
    middle = np.array([-0.7, 0.0]) @ factor.T
    width = factor @ factor.T + spread**2 * np.diag([0.04, 0.06])
    for away in (0.0, 1.0, 2.0):
        centre = middle + away * direction @ factor.T
        eta = np.column_stack(
            [centre[:, 0], 0 * angle + spread * 0.2, centre[:, 1], 0 * angle + spread * 0.06**0.5]
        )
        found, _ = population.member_log_likelihood(members, eta)
        expected = 0.245 + multivariate_normal(middle, width).logpdf(centre)
        error = found[:, 0, 0] - expected
        assert abs(error.mean()) < bias
        assert error.std() < scatter


@PAIRS
def test_exponential_heads_are_not_called_a_power_law_though_their_mean_is(laws, gradual):
    rates = np.random.default_rng(0).gamma(0.7, 1.0 / 0.7, size=10) / 200.0
    options = {"step": STEP[:: 1 if gradual else 2], "gradual": gradual, "sd": 0.005}
    curves = heads(0, kappa=0.0, timescale=1.0 / rates, **options)
    mean = curves.mean("head").assign_attrs(averaged_over="head")
    with pytest.warns(UserWarning, match="averages over head"):
        averaged = es.compare(mean).dataset
    assert averaged["probability"].sel(family="power_law") > 0.99
    with pytest.raises(es.InputError, match=r"Heathcote.*give the curves that were averaged"):
        compare_hierarchical(xr.concat([mean] * 4, "run"))
    # All points: onsets that are one are a needle among populations.
    result = compare_hierarchical(curves, families=laws[::-1]).dataset
    assert result["probability"].sel(hypothesis="exponential") > 0.99
    assert result["verdict"] == "exponential"
    assert bool(result["trusted"])
    low, _, high = result["onset_centre"].sel(hypothesis="exponential").values
    assert low < 300.0 < high


@pytest.fixture(scope="module", params=LAWS, ids=["gradual", "sudden"])
def alike_and_varying(request):
    gradual = request.param == LAWS[0]
    # With the take-off unknown, curves as noisy tell less.
    options = {"step": STEP[::2], "gradual": gradual, "sd": 0.01 if gradual else 0.02}
    alike = scattered(0, np.full(9, 1.5), **options)
    varying = scattered(1, np.exp(np.linspace(np.log(0.3), np.log(4.0), 9)), **options)
    curves = xr.concat([alike, varying], "layer").assign_coords(layer=["alike", "varying"])
    with fewer_points():
        return compare_hierarchical(curves, over="head", families=request.param)


def test_a_common_exponent_is_told_from_exponents_that_vary(alike_and_varying):
    data = alike_and_varying.dataset
    alike, varying = data.sel(layer="alike"), data.sel(layer="varying")
    # One more parameter that is not needed costs a factor of about 10 with a dozen members.
    assert alike["probability"].sel(hypothesis="common_exponent") > 0.75
    assert varying["probability"].sel(hypothesis="varying_exponent") > 0.99
    assert varying["verdict"] == "varying_exponent"
    low, _, high = alike["common_order"].values
    assert low < 3.5 < high
    assert high - low < 0.5 * (12 / 9) ** 0.5  # half of an order with a dozen members
    spread = varying["order_spread"].values
    truth = np.linspace(np.log(0.3), np.log(4.0), 9).std(ddof=1)
    assert spread[0] < truth < spread[2]
    assert alike["order_spread"][1] < 0.5 * spread[1]


def test_left_over_dimensions_give_one_result_each(alike_and_varying):
    data = alike_and_varying.dataset
    assert data["verdict"].dims == ("layer",)
    assert data["member_order"].dims == ("layer", "head", "quantile")
    assert list(alike_and_varying.summary().index) == ["alike", "varying"]
    assert (alike_and_varying.summary()["noise"] == alike_and_varying.dataset.attrs["noise"]).all()
    np.testing.assert_allclose(data["probability"].sum("hypothesis"), 1.0)
    assert (data["num_members"] == 9).all()


def test_members_are_drawn_from_their_own_towards_the_populations(few):
    data = few[1].dataset
    own = np.log(data["own_order"].sel(quantile=0.5).values - 2.0)
    pooled = np.log(data["member_order"].sel(quantile=0.5).values - 2.0)
    centre = np.log(data["population_order"].sel(quantile=0.5).values - 2.0)
    lower, upper = (np.log(data["member_order"].isel(quantile=k).values - 2.0) for k in (0, 2))
    # Standard error of a median of as many draws as are effective, from the 89% interval.
    error = 1.25 * (upper - lower) / 3.2 / np.sqrt(float(data["effective_size"][2].clip(max=1000)))
    low, high = np.minimum(own, centre), np.maximum(own, centre)
    assert ((pooled > low - 3 * error) & (pooled < high + 3 * error)).all()
    clear = np.abs(own - centre) > 0.2
    assert clear.sum() >= 2
    pulled = ((own - pooled) / (own - centre))[clear]
    assert (pulled > 0.02).all()


def test_the_order_of_members_changes_nothing(few):
    curves, result = few
    with fewer_points():
        shuffled = compare_hierarchical(curves.isel(head=[3, 0, 5, 1, 4, 2])).dataset
    data = result.dataset
    np.testing.assert_allclose(shuffled["log_evidence"], data["log_evidence"], atol=1e-6)
    np.testing.assert_allclose(shuffled["own_order"].sortby("head"), data["own_order"], rtol=1e-9)
    order = shuffled["member_order"].sortby("head")
    width = data["member_order"][:, 2] - data["member_order"][:, 0]
    # Quantiles of 1000 draws, each with its own random numbers.
    assert (np.abs(order - data["member_order"]) < 0.2 * width).all()


@pytest.mark.slow
@pytest.mark.parametrize("laws", LAWS)
def test_reweighting_and_chains_agree(few, laws):
    curves, _ = few
    result = compare_hierarchical(
        curves[:5], families=laws, engine="pymc", sampler="pymc", num_chains=2, num_draws=200
    )
    stats = result.tree["sample_stats"]
    assert int(stats["diverging"].sum()) == 0
    data = result.dataset
    assert data.attrs["largest_rhat"] < 1.05, "not mixing"
    assert data.attrs["least_effective_size"] > 80, "not mixing"
    # Six differences in Monte Carlo standard errors: beyond 4 once in 2600 tries.
    assert (np.abs(data["disagreement"]) < 4.0).all(), "biased"


def test_what_does_not_emerge_is_left_out_and_named(few):
    curves, _ = few
    noise = 0.03 * np.random.default_rng(9).normal(size=curves.sizes["step"])
    mixed = curves[:5].copy()
    mixed[2] = noise
    left_out = pytest.warns(UserWarning, match=r"1 of 5 curves, which are left out: curve head=2$")
    with fewer_points(), left_out:
        data = compare_hierarchical(mixed).dataset
    assert data["included"].values.tolist() == [True, True, False, True, True]
    assert data["member_order"][2].isnull().all()
    assert data["member_order"][[0, 1, 3, 4]].notnull().all()
    assert (int(data["num_members"]), int(data["num_left_out"])) == (4, 1)


def test_result_is_stored_and_shown(few, tmp_path):
    result = few[1]
    result.to_netcdf(tmp_path / "population.nc")
    again = HierarchicalComparison.from_netcdf(tmp_path / "population.nc")
    xr.testing.assert_identical(again.dataset, result.dataset)
    assert result.summary()["verdict"].item() in (*population.HYPOTHESES, "undecided")
    assert len(result.members()) == 6
    assert "common_order" in result._repr_html_()
    spread = result.interval().sel(hypothesis="varying_exponent", parameter="order_spread")
    assert list(spread["bound"].values) == ["lower", "upper"]
    stored = result.dataset["order_spread"].values[[0, 2]]
    np.testing.assert_allclose(spread.values, stored, rtol=1e-9)
    figure = result.plot()
    assert isinstance(figure, mpl.figure.Figure)
    figure.savefig(tmp_path / "population.png")
    assert len(figure.axes) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: (c[0], {}), "single curve is no population"),
        (lambda c: (c[:2], {}), "at least 3 curves"),
        (lambda c: (c, {"over": "layer"}), "over: .*name one or more of"),
        (lambda c: (c, {"engine": "nuts"}), "engine: unknown 'nuts'"),
        (lambda c: (c, {"families": "power_law"}), "families: 'power_law'; .*one of the pairs"),
        (lambda c: (c, {"families": ("exponential", "logistic")}), "one of the pairs"),
        (lambda c: (c, {"noise": "white"}), "noise: unknown"),
        (lambda c: (c, {"threshold": 1.5}), "threshold: 1.5"),
        (lambda c: (c, {"seed": -1}), "seed: -1"),
        (lambda c: (c, {"sampler": "gibbs"}), "sampler: unknown"),
        (lambda c: (c, {"num_draws": 0}), "num_draws: 0"),
        (lambda c: (c.expand_dims(run=2), {"over": "head", "engine": "pymc"}), "one population"),
        (lambda c: (c.assign_attrs(averaged_over=["run"]), {}), "means over run"),
    ],
)
def test_bad_input_is_explained(few, change, message):
    curves, options = change(few[0])
    with pytest.raises(es.InputError, match=message):
        compare_hierarchical(curves, **options)


def test_draws_of_the_populations_order_carry_all_three_hypotheses(few):
    _, result = few
    draws = order_draws(result)
    probability = result.dataset["probability"]
    assert draws.dims == ("draw",)
    # Exponential is an atom at 2; systematic resampling is off by one draw of 2000.
    atom = float((draws == 2.0).mean())
    assert atom == pytest.approx(float(probability.sel(hypothesis="exponential")), abs=1e-3)
    # Of the rest, below the median common order lies what both other hypotheses say.
    common = float(result.dataset["common_order"].sel(quantile=0.5))
    cloud = result.dataset["draw"].sel(parameter="order", hypothesis="varying_exponent")
    expected = (
        probability[0] + 0.5 * probability[1] + float((cloud < common).mean()) * probability[2]
    )
    assert float((draws < common).mean()) == pytest.approx(float(expected), abs=2e-3)


class TestCurvesThatStartLate:
    """Members measured from different steps on share one axis, so an onset may lie before one."""

    def _late(self, seed=3):
        step = np.arange(0, 3000, 60)
        random = np.random.default_rng(seed)
        rows = [
            es.relaxation(step, onset=300.0, timescale=t, kappa=0.0)
            + 0.01 * random.normal(size=step.size)
            for t in (150.0, 300.0, 600.0, 400.0)
        ]
        curves = xr.DataArray(np.array(rows), dims=("head", "step"), coords={"step": step})
        first = xr.DataArray([300, 480, 900, 600], dims="head")
        return curves.where(curves["step"] >= first)

    def test_answer_is_finite_and_right(self):
        with fewer_points():
            data = es.compare_hierarchical(self._late()).dataset
        assert np.isfinite(data["log_evidence"]).all()
        assert data["probability"].sel(hypothesis="exponential") > 0.5
        # Onsets cannot be seen any more, half-times still can: t log 2, scattered threefold.
        truth = np.log(2.0) * np.array([150.0, 300.0, 600.0, 400.0])
        half = data["member_half_time"]
        assert (half.isel(quantile=0) < truth).all()
        assert (half.isel(quantile=2) > truth).all()

    @pytest.mark.parametrize("laws", LAWS)
    @pytest.mark.parametrize("noise", ["ar1", "independent"])
    def test_likelihood_is_continuous_where_a_shape_becomes_a_constant(self, noise, laws):
        arrays, _ = gather(self._late(), None)
        batch = Batch(arrays, common_axis(arrays, "log"), noise)
        family = relaxation_at(0.0, laws)
        evaluate = batch.log_likelihood(family)
        # The third curve begins at step 900; an early onset with ever shorter half-times.
        half_times = np.linspace(-3.0, 1.0, 4000)
        who = np.full(half_times.size, 2)
        # The median take-off where there is one.
        others = np.zeros((half_times.size, len(family.free) - 2))
        z = np.column_stack([np.full(half_times.size, 0.05), half_times, others])
        width = np.ptp(batch.shape(family, who, z)[:, : arrays.num_points[2]], axis=1)
        value = evaluate(who, z, np.full(who.size, -np.inf))
        assert np.isfinite(value).all()
        edge = int(np.flatnonzero(np.diff((width < LEVEL).astype(int)))[0])
        inside, outside = edge - 1, edge + 2
        assert width[inside] < LEVEL < width[outside]
        assert abs(value[inside] - value[outside]) < 0.02
