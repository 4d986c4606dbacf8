"""Segmentations: equal to sums over every one of them, and honest about number and place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import emergence_stats as es
from emergence_stats.data.labels import gather
from emergence_stats.segmentation import changepoints, one_curve
from emergence_stats.segmentation.noise import SegmentedCurve
from emergence_stats.segmentation.segments import LEVEL_SD

POINTS = 9
X = np.array([0.0, 0.05, 0.2, 0.3, 0.45, 0.5, 0.7, 0.8, 1.0])
GAP = np.array([1.0, 0.5, 1.5, 1.0, 1.5, 0.5, 2.0, 1.0, 2.0])


def curve_of(seed=0, *, linear=False, measured=False, own_scale=False, min_points=None, **kw):
    generator = np.random.default_rng(seed)
    y = 0.1 * generator.normal(size=POINTS) + 0.5 * (np.arange(POINTS) >= 5)
    return SegmentedCurve(
        y=y - 0.25,
        x=X,
        variance=generator.uniform(0.002, 0.02, POINTS) if measured else np.zeros(POINTS),
        gap=GAP,
        measured=measured,
        correlated=True,
        linear=linear,
        own_scale=own_scale,
        min_points=min_points or (3 if linear else 2) + own_scale,
        share=np.diff(X, prepend=0.0),
        margin=np.inf,
        **kw,
    )


def segment_by_hand(curve, node, low, high):
    """Log density, and mean and covariance of the line, from dense matrices."""
    factor, stationary, log_rho = node
    place = np.concatenate([[0.0], np.cumsum(curve.gap[1:])])[low:high]
    apart = abs(place[:, None] - place)
    noise = stationary * np.exp(log_rho * apart) + np.diag(factor**2 * curve.variance[low:high])
    u = (curve.x[low:high] - curve.x[low]) / (curve.x[high - 1] - curve.x[low])
    basis = np.stack([1 - u, u], axis=1) if curve.linear else np.ones((high - low, 1))
    total = noise + LEVEL_SD**2 * basis @ basis.T
    y = curve.y[low:high]
    gain = LEVEL_SD**2 * basis @ basis.T @ np.linalg.inv(total)
    spread = LEVEL_SD**2 * basis @ basis.T - gain @ (LEVEL_SD**2 * basis @ basis.T)
    return stats.multivariate_normal(np.zeros(y.size), total).logpdf(y), gain @ y, np.diag(spread)


def own_scale_by_hand(curve, node, low, high):
    """The noise scale of one segment integrated over its half-Cauchy prior."""
    log_rho = node[2]
    innovation = np.sqrt(-np.expm1(2 * log_rho * GAP[-1]) * node[1])

    def density(log_scale):
        scale = np.exp(log_scale)
        inside = segment_by_hand(curve, (1.0, node[1] * scale**2, log_rho), low, high)[0]
        ratio = scale * innovation / 0.05
        return np.exp(inside) * 2 / np.pi * ratio / (1 + ratio**2)

    return np.log(integrate.quad(density, -7, 6, limit=400)[0])


def every_segmentation(curve):
    for number in range(4):
        for inner in itertools.combinations(range(1, POINTS), number):
            edges = (0, *inner, POINTS)
            if min(np.diff(edges)) >= curve.min_points:
                yield inner, edges


NODES = np.array([[1.2, 0.02, np.log(0.4)], [0.9, 0.1, np.log(0.9)], [1.0, 0.01, -700.0]])


def arguments(curve):
    return (
        curve.y,
        curve.x,
        curve.variance,
        curve.gap,
        curve.linear,
        curve.own_scale,
        curve.min_points,
        curve.log_share(),
        curve.margin,
    )


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_equals_the_sum_over_every_segmentation(linear, measured):
    curve = curve_of(linear=linear, measured=measured)
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    for node in NODES:
        evidence, total = np.full(4, -np.inf), np.zeros(4)
        joint: dict = {}
        for inner, edges in every_segmentation(curve):
            parts = [segment_by_hand(curve, node, a, b) for a, b in itertools.pairwise(edges)]
            share = curve.share[list(inner)].prod()
            k = len(inner)
            total[k] += share
            log_density = sum(part[0] for part in parts) + np.log(share)
            evidence[k] = np.logaddexp(evidence[k], log_density)
            mean = np.concatenate([part[1] for part in parts])
            square = np.concatenate([part[1] ** 2 + part[2] for part in parts])
            joint[inner] = (log_density, mean, square)
        found = np.empty((1, 4))
        changepoints.evidence_of_nodes(node[None], *arguments(curve), 3, found)
        constant = 0.5 * POINTS * np.log(2 * np.pi)
        possible = total > 0
        assert found[0, possible] == pytest.approx(evidence[possible] + constant, abs=1e-9)
        assert np.isneginf(found[0, ~possible]).all()
        log_total = changepoints.log_prior_total(curve.share, curve.share > 0, curve.min_points, 3)
        assert np.exp(log_total) == pytest.approx(total)

        weight = {
            inner: np.exp(each[0]) * prior[len(inner)] / total[len(inner)]
            for inner, each in joint.items()
        }
        unit = sum(weight.values())
        inclusion, first = np.zeros(POINTS), np.zeros(POINTS)
        position, mean, square = np.zeros((2, POINTS)), np.zeros(POINTS), np.zeros(POINTS)
        for inner, each in joint.items():
            mass = weight[inner] / unit
            inclusion[list(inner)] += mass
            if inner:
                first[inner[0]] += mass
            if len(inner) == 2:
                position[[0, 1], list(inner)] += mass
            mean += mass * each[1]
            square += mass * each[2]
        ours = [np.zeros(POINTS), np.zeros(POINTS), np.zeros((2, POINTS)), np.zeros((5, 10))]
        shares = np.where(possible, prior / np.where(possible, total, 1.0), 0.0)
        changepoints.posterior_of_nodes(node[None], np.ones(1), *arguments(curve), shares, 2, *ours)
        for mine, theirs in zip(ours, (inclusion, first, position), strict=False):
            assert mine == pytest.approx(theirs, abs=1e-9)
        our_mean, our_sd = one_curve._mean_curve(ours[3], curve.x)
        assert our_mean == pytest.approx(mean, abs=1e-7)
        assert our_sd == pytest.approx(np.sqrt(square - mean**2), abs=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_a_scale_of_each_segment_is_integrated(linear):
    curve = curve_of(linear=linear, own_scale=True)
    node = np.array([1.0, 1.0 / (1 - 0.4**2), np.log(0.4)])
    total, evidence = np.zeros(3), np.full(3, -np.inf)
    for inner, edges in every_segmentation(curve):
        if len(inner) < 3:
            value = sum(own_scale_by_hand(curve, node, a, b) for a, b in itertools.pairwise(edges))
            total[len(inner)] += curve.share[list(inner)].prod()
            evidence[len(inner)] = np.logaddexp(
                evidence[len(inner)], value + np.log(curve.share[list(inner)].prod())
            )
    found = np.empty((1, 3))
    changepoints.evidence_of_nodes(node[None], *arguments(curve), 2, found)
    expected = evidence + 0.5 * POINTS * np.log(2 * np.pi)
    # What is lost: everything finer than the resolution, and the ends of a short rule.
    assert found[0, total > 0] == pytest.approx(expected[total > 0], abs=3e-3)


def test_noise_is_integrated():
    step = np.arange(10.0, 100.0, 10.0)
    y = curve_of(seed=3).y
    found = es.segment(
        es.curve(y, step),
        noise="independent",
        value_range=(-0.5, 0.5),
        max_changes=2,
        step_prior="linear",
    ).dataset
    curve = one_curve.prepared(
        gather(es.curve(y, step), (-0.5, 0.5))[0],
        one_curve.Options("constant", "independent", "linear", 2, False, np.ones(3) / 3),
    )
    for number in range(3):

        def density(log_scale, number=number):
            node = (1.0, np.exp(2 * log_scale), -700.0)
            terms = [
                sum(segment_by_hand(curve, node, a, b)[0] for a, b in itertools.pairwise(edges))
                + np.log(curve.share[list(inner)].prod())
                for inner, edges in every_segmentation(curve)
                if len(inner) == number
            ]
            shares = [
                curve.share[list(inner)].prod()
                for inner, _ in every_segmentation(curve)
                if len(inner) == number
            ]
            prior = 1 / (np.pi * np.cosh(log_scale - np.log(0.05)))
            return np.exp(np.logaddexp.reduce(terms) - np.log(sum(shares))) * prior

        expected = np.log(integrate.quad(density, -6, 2, limit=200, epsrel=1e-5)[0])
        assert float(found["log_evidence"][number]) == pytest.approx(expected, abs=2e-3)


STEP = np.arange(100.0, 4100.0, 100.0)


def two_jumps(seed=0, sd=0.02):
    level = np.select([STEP < 1200, STEP < 3000], [0.1, 0.5], 0.4)
    return level + sd * np.random.default_rng(seed).normal(size=STEP.size)


def test_looking_at_fewer_ends_changes_nothing():
    # The default leaves hopeless ends out; a limit on the number of changes visits them all.
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
    assert int(es.segment(curve, **how).number) > 2


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
    generator = np.random.default_rng(4)
    number, points = 60, 40
    noise = generator.normal(size=(number, points))
    for i in range(1, points):
        noise[:, i] = 0.8 * noise[:, i - 1] + 0.6 * noise[:, i]
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


def test_penalised_search_agrees_with_the_sum():
    generator = np.random.default_rng(3)
    level = np.repeat([0.0, 1.0, 0.3, 0.9], 100)
    noise = generator.normal(size=400)
    for i in range(1, 400):
        noise[i] = 0.6 * noise[i - 1] + 0.8 * noise[i]
    curve = es.curve(level + 0.1 * noise, np.arange(1.0, 401.0))
    exact = es.segment(curve, step_prior="linear")
    quick = es.segment(curve, step_prior="linear", method="pelt")
    assert int(exact.number) == int(quick.number) == 3
    assert quick.changes.values == pytest.approx(exact.changes.values, abs=1.0)
    assert quick.dataset["noise_correlation"] == pytest.approx(0.6, abs=0.2)
    assert "probability_of_number" in quick.summary()


def test_round_trip_and_pictures(tmp_path):
    found = es.segment(es.curve(two_jumps(), STEP, name="head score"))
    found.to_netcdf(tmp_path / "found.nc")
    again = es.Segmentation.from_netcdf(tmp_path / "found.nc")
    assert again.dataset.identical(found.dataset)
    assert "Segmentation" in again._repr_html_()
    axes = again.plot().axes[0]
    assert "2 changes" in axes.get_title()
    assert axes.get_xscale() == "log"
    es.detect_onset(es.curve(two_jumps(), STEP)).to_netcdf(tmp_path / "onset.nc")
    with pytest.raises(es.StorageError, match="onset"):
        es.Segmentation.from_netcdf(tmp_path / "onset.nc")


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
