"""What `segment` says: honest about number and place, in labels that fit the curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.segmentation.models import SEGMENT_MODELS
from tests.segmentation.by_hand import TILTED

STEP = np.arange(100.0, 4100.0, 100.0)


def two_jumps(seed=0, sd=0.02):
    level = np.select([STEP < 1200, STEP < 3000], [0.1, 0.5], 0.4)
    return level + sd * np.random.default_rng(seed).normal(size=STEP.size)


def test_looking_at_fewer_ends_changes_nothing():
    # By default ends that matter no more are left out; a limit on the number visits them all.
    y = two_jumps()
    quick = es.segment(es.curve(y, STEP)).dataset
    limit = quick.sizes["num_changes"] - 1
    full = es.segment(es.curve(y, STEP), max_changes=limit).dataset
    for name in ("log_evidence", "inclusion", "mean", "mean_sd", "change_probability"):
        assert quick[name].values == pytest.approx(full[name].values, abs=1e-6)


def test_finds_what_is_there_within_its_intervals():
    found = es.segment(es.curve(two_jumps(), STEP))
    interval = found.interval()
    assert int(found.number) == 2
    truth = np.array([1150.0, 2950.0])
    assert (interval.sel(bound="lower").values < truth).all()
    assert (truth < interval.sel(bound="upper").values).all()
    # Neither is known better than to the gap between checkpoints.
    width = interval.sel(bound="upper") - interval.sel(bound="lower")
    assert width.values == pytest.approx(89.0, abs=3.0)
    table = found.summary()
    assert table["before"].to_numpy() == pytest.approx([0.1, 0.5], abs=0.02)
    assert table["after"].to_numpy() == pytest.approx([0.5, 0.4], abs=0.02)
    assert float(found.first()["median"]) == pytest.approx(1150.0, abs=30.0)


def test_straight_pieces_are_no_changes_of_a_line():
    line = 0.1 + 0.4 * np.clip(STEP - 2000.0, 0.0, None) / 2000.0
    curve = es.curve(line + 0.005 * np.random.default_rng(2).normal(size=STEP.size), STEP)
    how = {"noise": "independent", "step_prior": "linear"}
    found = es.segment(curve, model="linear", **how)
    assert int(found.number) == 1
    assert float(found.changes[0]) == pytest.approx(2000.0, abs=300.0)
    assert int(es.segment(curve, model="constant", **how).number) > 2


def test_a_gradual_rise_is_a_change_and_not_noise():
    """As a staircase it is less probable than noise that wanders."""
    step = np.arange(10.0, 1210.0, 10.0)
    noise = 0.005 * np.random.default_rng(4).normal(size=step.size)
    curve = es.curve(1.0 / (1.0 + np.exp((500.0 - step) / 30.0)) + noise, step)
    assert int(es.segment(curve, model="constant").number) == 0
    found = es.segment(curve)
    assert float(found.probability) > 0.99
    assert float(found.dataset["noise_sd"]) < 0.03


def test_log_linear_segments_are_lines_in_log_step():
    step = np.geomspace(1.0, 10_000.0, 40)
    y = 0.1 * np.log10(step) + 0.003 * np.random.default_rng(1).normal(size=40)
    curve = es.curve(y, step)
    assert int(es.segment(curve, model="log_linear", noise="independent").number) == 0
    assert float(es.segment(curve, model="linear", noise="independent").probability) > 0.99


def test_a_change_of_variance_is_one_where_asked_for():
    generator = np.random.default_rng(5)
    y = generator.normal(size=80) * np.where(np.arange(80) < 40, 0.02, 0.3)
    curve = es.curve(y, np.arange(1.0, 81.0))
    own = es.segment(curve, variance="segment", noise="independent", step_prior="linear")
    assert int(own.number) == 1
    assert float(own.changes[0]) == pytest.approx(40.5, abs=2.0)
    how = {"noise": "independent", "step_prior": "linear"}
    chosen = es.segment(curve, variance="auto", **how).dataset
    assert chosen["variance"].item() == "segment"
    assert float(chosen["log_marginal"]) == pytest.approx(float(own.dataset["log_marginal"]))


def test_the_most_probable_model_is_chosen():
    step = np.geomspace(1.0, 10_000.0, 40)
    generator = np.random.default_rng(1)
    lines = np.stack([0.1 * np.log10(step), np.where(step < 300, 0.0, 0.4), 4e-5 * step])
    values = lines + 0.003 * generator.normal(size=lines.shape)
    curves = es.curve(values[0], step).expand_dims(head=3).copy(data=values)
    found = es.segment(curves, model="auto", noise="independent").dataset
    assert found["model"].values.tolist() == ["log_linear", "constant", "linear"]
    assert found["variance"].values.tolist() == ["shared"] * 3
    alone = es.segment(curves[0], model="log_linear", noise="independent").dataset
    assert float(found["log_marginal"][0]) == pytest.approx(float(alone["log_marginal"]))


def test_a_new_model_is_one_declaration(monkeypatch):
    monkeypatch.setitem(SEGMENT_MODELS, "tilted", TILTED)
    u = np.linspace(0.0, 1.0, 20)
    y = np.concatenate([TILTED.columns(u) @ (0.1, 0.3), TILTED.columns(u) @ (0.8, -0.2)])
    y += 0.003 * np.random.default_rng(8).normal(size=40)
    found = es.segment(es.curve(y, STEP), model="auto", step_prior="linear", noise="independent")
    assert found.dataset["model"].item() == "tilted"
    assert int(found.number) == 1
    assert found.dataset["segment_from"].values == pytest.approx([0.07, 0.82], abs=0.01)
    assert found.plot() is not None


@pytest.mark.parametrize("model", ["constant", "linear"])
def test_reversing_rescaling_and_shifting(model):
    y = two_jumps(7)
    how = {"model": model, "step_prior": "linear"}
    found = es.segment(es.curve(y, STEP), **how).dataset
    other = es.segment(es.curve(3.0 - 50.0 * y, STEP), **how).dataset
    assert other["inclusion"].values == pytest.approx(found["inclusion"].values, abs=1e-9)
    assert other["mean"].values == pytest.approx(3.0 - 50.0 * found["mean"].values, abs=1e-6)
    jacobian = STEP.size * np.log(50.0)
    assert float(other["log_marginal"] + jacobian) == pytest.approx(float(found["log_marginal"]))
    back = es.segment(es.curve(y[::-1], STEP), **how).dataset
    assert back["log_evidence"].values == pytest.approx(found["log_evidence"].values, abs=1e-6)
    assert back["inclusion"].values[1:] == pytest.approx(found["inclusion"].values[:0:-1], abs=1e-6)
    assert back["mean_sd"].values == pytest.approx(found["mean_sd"].values[::-1], abs=1e-6)


def test_curves_side_by_side_are_as_each_alone():
    values = np.stack([two_jumps(1), two_jumps(2)])
    values[1, [3, 20]] = np.nan
    curves = es.curve(values[0], STEP).expand_dims(head=2).copy(data=values)
    both = es.segment(curves)
    for head in range(2):
        alone = es.segment(curves.isel(head=head)).dataset
        together = both.dataset.isel(head=head)
        assert together["inclusion"].values == pytest.approx(alone["inclusion"].values)
        assert float(together["log_marginal"]) == pytest.approx(float(alone["log_marginal"]))
    assert both.dataset["inclusion"].values[1, 3] == 0.0
    assert both.summary().index.names == ["head", "change"]


def test_noise_that_wanders_is_not_cut_up():
    number, points = 60, 40
    fresh = np.random.default_rng(4).normal(size=(number, points))
    noise = autoregressive(fresh, 0.8)
    curves = es.curve(noise[0], np.arange(1.0, points + 1)).expand_dims(run=number)
    found = es.segment(curves.copy(data=noise), step_prior="linear")
    # The threshold of `detect_onset`; 5% may be wrong, and 11% by chance of sixty.
    assert float((found.probability > 0.9).mean()) <= 0.11


def test_intervals_hold_the_truth_on_curves_from_the_prior():
    generator = np.random.default_rng(9)
    number, step = 150, np.geomspace(10.0, 10_000.0, 30)
    true = np.exp(generator.uniform(np.log(step[1]), np.log(step[-2]), size=number))
    level = 0.5 * generator.normal(size=(2, number, 1))
    y = np.where(step < true[:, None], level[0], level[1])
    # |.| keeps a tail of hardly visible jumps, as the prior has it.
    sd = 0.05 * np.abs(generator.standard_cauchy(size=(number, 1)))
    curves = (
        es.curve(y[0], step)
        .expand_dims(run=number)
        .copy(data=y + sd * generator.normal(size=y.shape))
    )
    found = es.segment(
        curves, noise="independent", prior_probability=[0.0, 1.0], value_range=(-0.5, 0.5)
    )
    interval = found.interval(0.8).isel(change=0).values
    inside = ((interval[:, 0] < true) & (true < interval[:, 1])).mean()
    assert inside == pytest.approx(0.8, abs=3.0 * np.sqrt(0.8 * 0.2 / number))


def test_round_trip_and_pictures(tmp_path):
    found = es.segment(es.curve(two_jumps(), STEP, name="head score"))
    found.to_netcdf(tmp_path / "found.nc")
    again = es.Segmentation.from_netcdf(tmp_path / "found.nc")
    assert again.dataset.identical(found.dataset)
    assert "Segmentation" in again._repr_html_()
    axes = again.plot().axes[0]
    assert "2 changes" in axes.get_title()
    assert axes.get_xscale() == "log"
    with pytest.raises(es.StorageError, match="segmentation"):
        es.Onset.from_netcdf(tmp_path / "found.nc")


def test_constant_and_noiseless_curves():
    flat = es.segment(es.curve(np.full(STEP.size, 3.0), STEP))
    assert float(flat.probability) < 0.1
    assert len(flat.summary()) == 1
    step_curve = es.segment(es.curve(np.where(STEP < 2000, 0.0, 1.0), STEP))
    assert int(step_curve.number) == 1
    assert flat.plot() is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "constnat"}, "model: unknown 'constnat'.*constant"),
        ({"noise": "white"}, "noise: unknown"),
        ({"max_changes": -1}, "max_changes: -1"),
        ({"max_changes": 1.5}, "max_changes: 1.5"),
        ({"prior_probability": [0.5, 0.4]}, "prior_probability: .*sum 1"),
        ({"prior_probability": [0.5, 0.5], "max_changes": 3}, "2 numbers for max_changes=3"),
        ({"min_points": 0}, "min_points: 0"),
        ({"model": "linear", "min_points": 2}, "min_points: 2.*at least 3"),
        ({"method": "pelt", "model": "linear"}, "model: method='pelt'.*exact"),
        ({"method": "pelt", "max_changes": 2}, "max_changes: method='pelt'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(es.InputError, match=message):
        es.segment(es.curve(two_jumps(), STEP), **options)


def test_own_variance_is_not_for_known_sd():
    with pytest.raises(es.InputError, match="variance: 'segment'"):
        es.segment(es.curve(two_jumps(), STEP, sd=0.02), variance="segment")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-1e200, 1e200), min_size=8, max_size=14),
    st.sampled_from(["constant", "linear", "log_linear"]),
)
def test_any_finite_curve_has_probabilities(values, model):
    step = np.arange(0.0, len(values))
    found = es.segment(es.curve(values, step), model=model, noise="independent").dataset
    assert np.isfinite(found["log_marginal"])
    assert float(found["number_probability"].sum()) == pytest.approx(1.0)
    inside = found["inclusion"].values
    assert (inside >= -1e-9).all()
    assert (inside <= 1 + 1e-9).all()
    assert np.isfinite(found["mean"].values).all()
