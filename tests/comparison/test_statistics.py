"""Evidence, verdicts and onsets against brute force, closed forms and simulated truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import HalfNormal
from emergence_stats.data.labels import gather
from emergence_stats.noise.beliefs import BASELINE_SD, NOISE_SCALE
from emergence_stats.quadrature.evidence import family_posterior

STEP = np.unique(np.round(np.geomspace(1, 3000, 60)))


def simulated(seed, *, kappa=0.0, onset=200.0, timescale=150.0, sd=0.01, number=1, step=STEP):
    generator = np.random.default_rng(seed)
    clean = es.relaxation(
        step, onset=onset, timescale=timescale, kappa=kappa, baseline=0.1, amplitude=0.6
    )
    values = clean + sd * generator.normal(size=(number, step.size))
    return xr.DataArray(values, dims=("run", "step"), coords={"step": step})


class TestRelaxation:
    def test_is_the_gradient_flow_of_its_potential(self):
        for order in (2.0, 2.5, 3.0, 4.0, 6.0):
            flow = integrate.solve_ivp(
                lambda _, q, order=order: -(q ** (order - 1)),
                (0, 50),
                [1.0],
                t_eval=np.linspace(0, 50, 40),
                rtol=1e-11,
                atol=1e-13,
            )
            ours = es.relaxation(flow.t + 7, onset=7.0, timescale=1.0, kappa=order - 2)
            np.testing.assert_allclose(ours, 1 - flow.y[0], atol=1e-9)

    @given(st.floats(-12, -3))
    @settings(deadline=None)
    def test_is_smooth_through_the_exponential(self, exponent):
        kappa = 10.0**exponent
        steps = np.linspace(0, 20, 50)
        near = es.relaxation(steps, onset=0.0, timescale=1.0, kappa=kappa)
        exact = -np.expm1(-steps)
        # The first order of the expansion: kappa s^2 / 2 exp(-s) <= 0.271 kappa.
        assert np.abs(near - exact).max() < 0.272 * kappa + 1e-14

    def test_before_the_onset_nothing_has_happened(self):
        y = es.relaxation(STEP, onset=500.0, timescale=10.0, kappa=1.0, baseline=0.3)
        assert (y[STEP <= 500] == 0.3).all()
        assert (np.diff(y[STEP > 500]) > 0).all()

    @pytest.mark.parametrize(
        "change", [{"timescale": 0.0}, {"kappa": -0.1}, {"onset": np.nan}, {"timescale": -1.0}]
    )
    def test_bad_parameters_are_named(self, change):
        given = {"onset": 1.0, "timescale": 1.0, "kappa": 1.0, **change}
        with pytest.raises(es.InputError, match=next(iter(change))):
            es.relaxation(STEP, **given)


class TestEvidence:
    """Against integrals done another way, on one curve each."""

    @staticmethod
    def flat_by_brute_force(values):
        """Baseline and noise scale integrated numerically, in units of the curve's range."""
        low, high = values.min(), values.max()
        y = (values - 0.5 * (low + high)) / (high - low)
        n = y.size

        def log_density(a, log_sigma):
            sigma = np.exp(log_sigma)
            rest = ((y[:, None, None] - a) ** 2).sum(0)
            like = -0.5 * rest / sigma**2 - n * np.log(sigma) - 0.5 * n * np.log(2 * np.pi)
            prior = -0.5 * (a / BASELINE_SD) ** 2 - 0.5 * np.log(2 * np.pi * BASELINE_SD**2)
            # sigma half-Cauchy: log sigma has the density of a hyperbolic secant.
            scale = np.log(2 / np.pi) - np.log(NOISE_SCALE / sigma + sigma / NOISE_SCALE)
            return like + prior + scale

        a = np.linspace(-1.5, 1.5, 3001)[None, :]
        s = np.linspace(np.log(1e-3), np.log(30), 2001)[:, None]
        grid = log_density(a, s)
        log_cell = np.log((a[0, 1] - a[0, 0]) * (s[1, 0] - s[0, 0]))
        return float(special.logsumexp(grid) + log_cell - n * np.log(high - low))

    def test_flat_is_the_double_integral(self):
        values = np.random.default_rng(0).normal(0.3, 0.05, size=12)
        ours = es.compare(es.curve(values, np.arange(1, 13) * 10), noise="independent")
        found = float(ours.dataset["log_evidence"].sel(family="flat"))
        assert found == pytest.approx(self.flat_by_brute_force(values), abs=0.02)

    @pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
    def test_a_power_law_that_is_all_but_exponential_has_its_evidence(self, kappa):
        """As the prior on kappa shrinks to 0, one more integral must change nothing."""
        curve = simulated(3, kappa=kappa, sd=0.03).isel(run=0, drop=True)
        arrays, _ = gather(curve)
        power_law = get_family("power_law")
        *others, order = power_law.parameters
        tight = replace(order, prior=HalfNormal(1e-4))
        nearly = replace(power_law, name="nearly", parameters=(*others, tight))
        found, expected = (
            family_posterior(family, arrays) for family in (nearly, get_family("exponential"))
        )
        difference = float(found.log_integral[0] - expected.log_integral[0])
        # Both errors as reported; kappa = 1e-4 itself moves the likelihood by less than 0.01.
        assert abs(difference) < float(found.error[0] + expected.error[0]) + 0.01

    @pytest.mark.parametrize("kappa", [0.0, 0.15, 0.3])
    def test_bayes_factor_is_also_the_savage_dickey_ratio(self, kappa):
        """kappa = 0 is a point of the power law: its posterior over its prior density there.

        Both densities are smoothed by exp(-(kappa/width)^2 / 2), which the half-normal prior
        integrates in closed form, and the widths taken to zero by Richardson extrapolation.
        """
        curve = simulated(3, kappa=kappa, sd=0.03).isel(run=0, drop=True)
        arrays, _ = gather(curve)
        exponential, power_law = (
            family_posterior(get_family(name), arrays, tolerance=0.003)
            for name in ("exponential", "power_law")
        )
        scale = get_family("power_law").parameters[2].prior.scale
        values = np.exp(power_law.z[:, 2])

        def ratio(width):
            smoothed = (power_law.weight * np.exp(-0.5 * (values / width) ** 2)).sum()
            return smoothed * np.sqrt(1 + (scale / width) ** 2)

        one, two, three = ratio(0.1), ratio(0.05), ratio(0.025)
        first, second = 2 * two - one, 2 * three - two
        found = np.log((4 * second - first) / 3)
        expected = float(exponential.log_integral[0] - power_law.log_integral[0])
        assert found == pytest.approx(expected, abs=0.05)

    def test_a_finer_lattice_does_not_lose_its_tail(self):
        curve = simulated(3, kappa=0.3, sd=0.03).isel(run=0, drop=True)
        arrays, _ = gather(curve)
        shares = []
        for tolerance in (0.003, 0.0005):
            posterior = family_posterior(get_family("power_law"), arrays, tolerance=tolerance)
            shares.append(posterior.weight[posterior.z[:, 2] < np.log(0.02)].sum())
        # About half a percent of the posterior; a cut at a fixed weight lost most of it.
        assert shares[1] == pytest.approx(shares[0], rel=0.15)


class TestVerdicts:
    def test_quiet_curves_are_told_apart(self):
        for kappa, expected in ((0.0, "exponential"), (2.0, "power_law")):
            result = es.compare(simulated(1, kappa=kappa, number=8)).dataset
            chance = result["probability"].sel(family=expected)
            other = "power_law" if expected == "exponential" else "exponential"
            assert float(chance.median()) > 0.8
            assert not (result["verdict"] == other).any()

    def test_few_noisy_points_are_undecided(self):
        step = np.round(np.geomspace(1, 3000, 10))
        result = es.compare(simulated(2, kappa=1.0, sd=0.06, number=12, step=step)).dataset
        assert (result["verdict"] == "undecided").sum() + (
            result["verdict"] == "no_emergence"
        ).sum() >= 10

    def test_an_average_is_flagged(self):
        curve = simulated(5).isel(run=0, drop=True)
        curve.attrs["averaged_over"] = "head"
        with pytest.warns(UserWarning, match="average"):
            es.compare(curve)


class TestMetamorphic:
    def verdict_numbers(self, curves):
        result = es.compare(curves).dataset
        return result["log_bayes_factor"].values, result["order"].values, result["onset"].values

    def test_units_do_not_matter(self):
        curves = simulated(6, kappa=1.0, number=3)
        base = self.verdict_numbers(curves)
        for other, factor in (
            (100 * curves - 7, 1.0),
            (-curves, 1.0),
            (curves.assign_coords(step=10 * STEP), 10.0),
        ):
            found = self.verdict_numbers(other)
            np.testing.assert_allclose(found[0], base[0], atol=0.05)
            np.testing.assert_allclose(found[1], base[1], rtol=0.05)
            np.testing.assert_allclose(found[2], factor * base[2], rtol=0.05)

    def test_curves_do_not_influence_one_another(self):
        curves = simulated(7, kappa=1.0, number=4)
        together = es.compare(curves).dataset["log_evidence"]
        swapped = es.compare(curves.isel(run=[2, 0, 3, 1])).dataset["log_evidence"]
        np.testing.assert_allclose(swapped.values, together.values[[2, 0, 3, 1]], rtol=1e-9)
        alone = es.compare(curves.isel(run=[2])).dataset["log_evidence"]
        np.testing.assert_allclose(alone.values[0], together.values[2], rtol=1e-9)

    def test_the_callers_arrays_are_unchanged(self):
        curves = simulated(8, number=2)
        before = curves.copy(deep=True)
        es.compare(curves)
        es.detect_onset(curves)
        xr.testing.assert_identical(curves, before)


class TestOnset:
    def test_intervals_cover(self):
        generator = np.random.default_rng(9)
        number = 100
        onset = np.exp(generator.uniform(np.log(30), np.log(900), number))[:, None]
        kappa = np.where(generator.random(number) < 0.5, 0.0, generator.uniform(0, 3, number))
        clean = es.relaxation(
            STEP, onset=onset, timescale=0.5 * onset, kappa=kappa[:, None], baseline=0.1
        )
        noise = 0.02 * generator.normal(size=clean.shape)
        curves = xr.DataArray(clean + noise, dims=("run", "step"), coords={"step": STEP})
        interval = es.detect_onset(curves, families=("exponential", "power_law")).interval(0.89)
        inside = (interval.sel(bound="lower").values <= onset[:, 0]) & (
            onset[:, 0] <= interval.sel(bound="upper").values
        )
        # Of 100 intervals of 89%, 89 +- 3.1; allow three of those.
        assert 79 <= int(inside.sum()) <= 98


class TestResults:
    def test_netcdf_round_trip(self, tmp_path):
        comparison = es.compare(simulated(11, number=2))
        comparison.to_netcdf(tmp_path / "comparison.nc")
        again = es.Comparison.from_netcdf(tmp_path / "comparison.nc")
        xr.testing.assert_identical(again.dataset, comparison.dataset)
        onset = es.detect_onset(simulated(11, number=2))
        onset.to_netcdf(tmp_path / "onset.nc")
        xr.testing.assert_identical(
            es.Onset.from_netcdf(tmp_path / "onset.nc").dataset, onset.dataset
        )
        assert "<table" in again._repr_html_()
        assert len(again.summary()) == 2

    def test_plots_and_prediction(self):
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt

        comparison = es.compare(simulated(12, number=2))
        plt.close(comparison.plot(run=0))
        plt.close(es.detect_onset(simulated(12, number=2)).plot(run=1))
        ahead = comparison.predict(np.array([10.0, 300.0, 10_000.0]), run=0)
        assert (ahead["lower"] <= ahead["upper"]).all()
        # Far beyond the data an exponential is at its plateau of 0.7.
        assert float(ahead["lower"][-1]) < 0.7 < float(ahead["upper"][-1]) + 0.02


class TestBadInput:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"noise": "pink"}, "noise"),
            ({"engine": "magic"}, "engine"),
            ({"families": ("exponental",)}, "exponential"),
            ({"threshold": 2.0}, "threshold"),
        ],
    )
    def test_options_are_named(self, keywords, message):
        with pytest.raises(es.InputError, match=message):
            es.compare(simulated(0), **keywords)

    def test_curves_are_checked(self):
        with pytest.raises(es.InputError, match=r"es\.curve\(values, step\)"):
            es.compare(np.zeros(20))
        with pytest.raises(es.InputError, match="step"):
            es.compare(xr.DataArray(np.zeros(20), dims="epoch"))
        with pytest.raises(es.InputError, match="8"):
            es.compare(es.curve([0.0, 1, 2], [1, 2, 3]))

    @given(
        st.lists(
            st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")), st.just(0.0)),
            min_size=8,
            max_size=25,
        )
    )
    @settings(max_examples=25, deadline=None)
    def test_whatever_the_curve_the_answer_is_finite_or_refused(self, values):
        curve = es.curve(values, np.arange(len(values)) * 3)
        try:
            result = es.compare(curve).dataset
        except es.InputError:
            assert np.isfinite(values).sum() < 8
            return
        chance = result["probability"].values
        assert np.isfinite(chance).all()
        assert chance.sum() == pytest.approx(1.0)
        assert np.isfinite(result["log_evidence"]).all()
        assert str(result["verdict"].item()) in {
            "power_law", "exponential", "undecided", "no_emergence", "misfit",
        }  # fmt: skip
