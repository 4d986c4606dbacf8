"""Which kind of noise a curve has, against integrating under every kind in full."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive


def stacked(values, step):
    return xr.DataArray(values, dims=("run", "step"), coords={"step": step})


def test_evenly_spaced_in_log_step_the_two_kinds_of_memory_give_one_answer():
    """Draws of level, amplitude and noise, too, for which uneven gaps have code of their own."""
    step = np.geomspace(10.0, 5000.0, 30)
    clean = es.relaxation(step, onset=200.0, timescale=300.0, kappa=1.0)
    curve = es.curve(clean + 0.03 * np.random.default_rng(3).normal(size=step.size), step)
    index, uneven = (es.compare(curve, noise=noise).dataset for noise in ("ar1", "ou_log"))
    np.testing.assert_allclose(uneven["log_evidence"], index["log_evidence"], atol=1e-6)
    # The grid point nearest to a draw of rho stands for it: a little of the spread is lost.
    for name in ("amplitude", "baseline", "plateau"):
        width = float(index[name][2] - index[name][0])
        np.testing.assert_allclose(uneven[name], index[name], atol=0.1 * width, err_msg=name)


def test_the_kind_of_noise_is_chosen_by_evidence():
    """Independent noise, and noise correlated in log step on log-spaced checkpoints with a gap."""
    generator = np.random.default_rng(8)
    step = np.unique(np.r_[np.geomspace(10, 400, 30), np.geomspace(2000, 20_000, 30)].round())
    clean = es.relaxation(step, onset=100.0, timescale=300.0, kappa=1.0)
    place = np.log(step)
    spread = np.exp(-np.abs(np.subtract.outer(place, place)) / 0.5)
    correlated = np.linalg.cholesky(spread) @ generator.normal(size=step.size)
    noise = 0.03 * np.stack([generator.normal(size=step.size), correlated])
    curves = stacked(clean + noise, step)
    result = es.compare(curves, noise="auto")
    data = result.dataset
    assert list(data["noise_kind"].values) == ["independent", "ar1", "ou", "ou_log"]
    np.testing.assert_allclose(data["noise_probability"].sum("noise_kind"), 1.0)
    assert str(data["noise"][0].item()) == "independent"
    assert str(data["noise"][1].item()) in ("ar1", "ou_log")
    assert float(data["noise_probability"][1].sel(noise_kind="independent")) < 0.01
    # What is kept is what that kind alone gives.
    for k in range(2):
        alone = es.compare(curves[k], noise=str(data["noise"][k].item())).dataset
        np.testing.assert_allclose(data["log_evidence"][k], alone["log_evidence"], atol=1e-9)
    assert list(result.summary()["noise"]) == list(data["noise"].values)
    assert list(es.detect_onset(curves, noise="auto").summary()["noise"]) == list(
        data["noise"].values
    )
    # It is what is done where nothing is said, and the page says so.
    assert result.dataset.identical(es.compare(curves).dataset)
    assert "noise chosen by evidence: " in result._repr_html_()
    assert "independent in 1" in result._repr_html_()


@pytest.mark.parametrize("known_sd", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_probabilities_of_kinds_of_noise_are_those_of_full_integrations(known_sd):
    """Independent noise, AR(1) noise and a random walk, at uneven and even steps."""
    generator = np.random.default_rng(9)
    uneven = np.unique(np.geomspace(10.0, 20_000.0, 24).round())
    even = np.arange(1.0, 25.0) * 100.0
    for step in (uneven,) if known_sd else (uneven, even):
        clean = es.relaxation(step, onset=800.0, timescale=600.0, kappa=1.0)
        fresh = generator.normal(size=(3, step.size))
        noise = np.stack([fresh[0], autoregressive(fresh[1:2], 0.8)[0], 0.5 * np.cumsum(fresh[2])])
        curves = stacked(clean + 0.03 * noise, step)
        if known_sd:
            curves = curves.assign_coords(sd=("step", np.full(step.size, 0.02)))
        found = es.compare(curves, families=("exponential", "power_law")).dataset
        log_prior = np.log([0.5, 0.25, 0.25])
        score = np.stack(
            [
                np.logaddexp.reduce(
                    es.compare(curves, noise=str(kind)).dataset["log_evidence"].values + log_prior,
                    axis=1,
                )
                for kind in found["noise_kind"].values
            ],
            axis=1,
        )
        exact = score - np.logaddexp.reduce(score, axis=1)[:, None]
        claimed = np.log(found["noise_probability"].values)
        # Kinds far below the best are not worth knowing well; the others' ratios are, and an
        # error of 0.3 nats is a few times what `benchmarks.accuracy.noise_choice` finds at large.
        highest = exact.max(axis=1, keepdims=True)
        close = exact > highest - 4.0
        assert abs(claimed - exact)[close].max() < 0.3
        assert ((claimed < highest - 2.0) | close).all()
        assert close.sum() > close.shape[0]
        chosen = [list(found["noise_kind"].values).index(kind) for kind in found["noise"].values]
        best = score.max(axis=1) - score[np.arange(3), chosen]
        assert best.max() < 0.3
        if step is even:  # two kinds are one, and the first of them is named
            probability = found["noise_probability"]
            np.testing.assert_array_equal(
                probability.sel(noise_kind="ou"), probability.sel(noise_kind="ar1")
            )
            assert "ou" not in found["noise"].values
