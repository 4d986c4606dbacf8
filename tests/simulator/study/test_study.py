"""The study's answers on data whose truth is known, and the whole of it, small."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from scipy import stats

import emergence_stats as es
import simulator.study.plan
from emergence_stats.cli import main
from emergence_stats.errors import InputError, StorageError
from simulator.experiments.conditions import transitions
from simulator.experiments.interventions import head_masks
from simulator.experiments.stages import in_processes, kept
from simulator.study import measurements, reproduce, study
from simulator.study.degeneracy import degeneracy, onsets, refined_contrast
from simulator.study.dynamics import (
    averaged,
    dynamics,
    head_curves,
    late_part,
    laws,
    order_contrasts,
    widened,
)
from simulator.study.headline import headline
from simulator.study.intervals import mean_over_runs, share, verdict
from simulator.study.one_potential import one_potential, rank_correlation
from simulator.study.operations import operations
from simulator.study.page import study_page
from simulator.study.structures import structures
from simulator.training.checkpoints import build_model
from simulator.training.config import TrainingConfig
from simulator.training.loop import Transitions, as_trained

STEP = np.unique(np.r_[0, np.geomspace(1, 2000, 30).round(), np.arange(0, 2001, 50)]).astype(int)
SMALL = TrainingConfig(
    num_particles=6,
    radius=0.08,
    train_systems=32,
    test_systems=8,
    intervals_per_system=4,
    width=16,
    depth=2,
    num_heads=2,
    batch_size=16,
    num_steps=60,
    evaluations_per_decade=4,
    evaluate_every=10,
    evaluation_samples=32,
    distance_bins=6,
    seeds=(0, 1),
)


def make_tests(passes, score=None):
    """What `measurements.heads` gives, from (run, layer, head) flags."""
    passes = np.asarray(passes)
    score = np.where(passes, 0.8, 0.15) if score is None else np.asarray(score)
    dims = ("run", "layer", "head")
    return xr.Dataset(
        {"is_collision_head": (dims, passes), "collision_score": (dims, score)},
        coords={dim: np.arange(size) for dim, size in zip(dims, passes.shape, strict=True)},
    )


def make_trajectory(rises, seed=0):
    """A trajectory in which head (0, k) of run r follows ``rises[r][k]`` (None stays flat)."""
    random = np.random.default_rng(seed)
    values = np.full((len(rises), STEP.size, 1, len(rises[0])), 0.1)
    for run, heads in enumerate(rises):
        for head, law in enumerate(heads):
            if law is not None:
                rise = es.relaxation(STEP, **law)
                values[run, :, 0, head] += 0.7 * rise
    values += 0.005 * random.normal(size=values.shape)
    return xr.Dataset(
        {
            "collision_score": (("run", "step", "layer", "head"), values, {"baseline": 0.1}),
            "learning_rate": (("run", "step"), np.full(values.shape[:2], 1e-3)),
        },
        coords={
            "run": np.arange(len(rises)),
            "step": STEP,
            "layer": [0],
            "head": np.arange(len(rises[0])),
        },
    )


class TestIntervals:
    def test_mean_is_students(self):
        values = [0.2, 1.1, 0.7, np.nan, 2.0]
        found = mean_over_runs(values)
        finite = np.array(values)[np.isfinite(values)]
        error = finite.std(ddof=1) / 2.0
        expected = stats.t.interval(0.89, 3, loc=finite.mean(), scale=error)
        np.testing.assert_allclose([found["lower"], found["upper"]], expected)
        against_zero = stats.ttest_1samp(finite, 0.0, alternative="greater").pvalue
        assert found["probability_positive"] == pytest.approx(1.0 - against_zero)

    @pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
    def test_nothing_is_claimed_where_nothing_varies(self, values):
        found = mean_over_runs(values)
        assert np.isnan(found["lower"])
        assert np.isnan(found["probability_positive"])

    def test_a_share_covers_as_often_as_it_says(self):
        # Exactly, over all outcomes, averaged over the prior under which it is a posterior.
        number = 7
        places = stats.beta(0.5, 0.5).ppf((np.arange(4000) + 0.5) / 4000)
        ends = [share(k, number) for k in range(number + 1)]
        covered = sum(
            stats.binom.pmf(k, number, places) * ((places >= e["lower"]) & (places <= e["upper"]))
            for k, e in enumerate(ends)
        ).mean()
        # Opening the ends at none and at all adds the tails there: never less, at most 0.11 more.
        assert 0.89 <= covered <= 1.0

    def test_words(self):
        words = [verdict(p) for p in (0.95, 0.5, 0.02, float("nan"))]
        assert words == ["supported", "undecided", "contradicted", "undecided"]


class TestStructures:
    def test_counts_and_probability_against_the_control(self):
        flags = np.zeros((5, 2, 3), dtype=bool)
        control = flags.copy()
        flags[:4, 0, 1] = True
        flags[0, 1, 2] = True
        found = structures(
            {
                "adam": make_tests(flags),
                "sgd": make_tests(flags),
                "no_contacts": make_tests(control),
            },
            {"adam": "no_contacts", "sgd": None, "no_contacts": None},
        )
        adam = found["adam"]
        assert (adam["runs"]["successes"], adam["heads"], adam["heads_in_all"]) == (4, 5, 30)
        assert adam["heads_by_run"] == [2, 1, 1, 1, 0]
        random = np.random.default_rng(0)
        one, two = random.beta(4.5, 1.5, 200_000), random.beta(0.5, 5.5, 200_000)
        expected = (one > two).mean()
        tolerance = 4.0 * np.sqrt(expected * (1.0 - expected) / 200_000)
        assert adam["probability_more_than_control"] == pytest.approx(expected, abs=tolerance)
        assert found["no_contacts"]["heads"] == 0
        assert adam["heads_in_control"] == 0
        assert "probability_more_than_control" not in found["sgd"]

    def test_controls_of_heads_are_near_and_used_once(self):
        flags = np.array([[[True, False, True], [False, False, True]]])
        score = np.array([[[0.9, 0.3, 0.7], [0.2, 0.1, 0.8]]])
        start = np.array([[[0.2, 0.1, 0.18], [0.3, 0.1, 0.29]]])
        tests = make_tests(flags, score)
        pairs = measurements.followed(tests, tests["collision_score"].copy(data=start), 0, 3)
        # By score: (0, 0) takes its layer's only other; (1, 2) that of its own layer which began
        # like it, though its score is the larger now; what is left is in the other layer.
        assert pairs == [((0, 0), (0, 1)), ((1, 2), (1, 0)), ((0, 2), (1, 1))]

    def test_without_a_head_that_fails_there_is_no_control(self):
        tests = make_tests(np.ones((1, 1, 2), dtype=bool))
        assert measurements.followed(tests, tests["collision_score"], 0, 2) == []


class TestDynamics:
    def test_only_heads_that_pass_are_asked(self):
        law = {"onset": 300.0, "timescale": 150.0, "kappa": 0.0}
        trajectory = make_trajectory([[law, None], [None, law]])
        flags = np.array([[[True, False]], [[False, True]]])
        curves = head_curves(trajectory, make_tests(flags))
        assert curves["member"].values.tolist() == ["run 0 head 0.0", "run 1 head 0.1"]
        assert curves["run"].values.tolist() == [0, 1]
        assert (curves.isel(step=-1) > 0.7).all()

    def test_late_part_begins_at_half_of_the_rise(self):
        step = np.arange(0, 1000, 10)
        rise = es.relaxation(step, onset=200.0, timescale=100.0, kappa=0.0)
        curves = xr.DataArray(
            [rise, 3.0 * rise - 1.0], dims=("member", "step"), coords={"step": step}
        )
        kept_steps = late_part(curves).dropna("step")["step"].values
        exact = 200.0 + 100.0 * np.log(2.0)
        assert exact <= kept_steps[0] < exact + 10.0 + 1.0  # the last value is not quite 1
        assert kept_steps[-1] == 990

    @pytest.mark.parametrize(("kappa", "window"), [(0.0, "whole"), (2.0, "late")])
    def test_the_law_is_told(self, kappa, window):
        rises = [
            [{"onset": onset, "timescale": time, "kappa": kappa} for onset, time in row]
            for row in (((150.0, 100.0), (250.0, 60.0)), ((300.0, 90.0), (200.0, 140.0)))
        ]
        trajectory = make_trajectory(rises)
        curves = head_curves(trajectory, make_tests(np.ones((2, 1, 2), dtype=bool)))
        found = laws(curves, window)
        population = found["population"]
        if kappa:
            assert found["law"]["power_law"] > found["law"]["exponential"]
            assert population["probability"]["exponential"] < 0.1
            assert population["common_order"]["lower"] < 4.0 < population["common_order"]["upper"]
        else:
            assert found["law"]["exponential"] > found["law"]["power_law"]
            assert population["probability"]["exponential"] > 0.5
            assert population["order"]["median"] == 2.0
        assert sum(found["law"].values()) == pytest.approx(1.0)

    def test_every_arm_window_and_axis_is_asked(self):
        law = {"onset": 300.0, "timescale": 150.0, "kappa": 0.0}
        constant = make_trajectory([[law, None]])
        falling = constant.assign(
            learning_rate=("step", np.linspace(1e-3, 1e-5, constant.sizes["step"]))
        )
        one, none = (make_tests(np.array([[[passes, False]]])) for passes in (True, False))
        found = dynamics(
            {"adam": constant, "cosine": falling, "sgd": constant},
            {"adam": one, "cosine": one, "sgd": none},
            workers=2,
        )
        assert found["sgd"] == {"steps": {}, "missing": "no collision head in this arm"}
        assert set(found["adam"]) == {"steps", "averaged"}
        assert set(found["cosine"]) == {"steps", "gradient_flow_time", "averaged"}
        curves = head_curves(constant, one)
        for window in ("whole", "late"):
            mine = laws(curves, window)["law"]
            for arm in ("adam", "cosine"):
                assert found[arm]["steps"][window]["law"] == pytest.approx(mine, abs=1e-9)
            assert found["cosine"]["gradient_flow_time"][window]["law"] != pytest.approx(mine)

    def test_the_average_of_exponentials_says_power_law_and_the_population_does_not(self):
        times = np.geomspace(20.0, 900.0, 8)
        rises = [[{"onset": 150.0, "timescale": t, "kappa": 0.0} for t in times]]
        trajectory = make_trajectory(rises)
        curves = head_curves(trajectory, make_tests(np.ones((1, 1, 8), dtype=bool)))
        mean = averaged(curves)["whole"]["two laws"]
        assert mean["law"]["power_law"] > 0.99
        assert laws(curves, "whole")["population"]["probability"]["exponential"] > 0.5


def test_orders_are_contrasted_with_adams():
    def arm(*orders, alarms=0):
        late = {"heads": 8, "alarms": alarms, "population": {"order_draws": list(orders)}}
        return {"steps": {"late": late}}

    flow = {"gradient_flow_time": arm(*np.linspace(2.0, 2.1, 50))["steps"]}
    found = order_contrasts(
        {
            "adam": arm(*np.linspace(3.0, 3.1, 50)),
            "sgd": arm(*np.linspace(4.0, 4.1, 50), alarms=3),
            "cosine": arm(*np.linspace(3.0, 3.1, 50)) | flow,
        }
    )
    assert found["sgd less adam, late"]["probability_positive"] == 1.0
    assert 0.9 < found["sgd less adam, late"]["lower"] < 1.0 < found["sgd less adam, late"]["upper"]
    assert found["cosine in gradient-flow time less adam, late"]["probability_positive"] == 0.0
    assert 0.2 < found["cosine less adam, late"]["probability_positive"] < 0.8
    assert len(found) == 3
    assert not found["sgd less adam, late"]["curves_fit"]
    assert found["cosine less adam, late"]["curves_fit"]


def test_the_order_is_as_uncertain_as_runs_differ():
    # Heads of a run share its order, so two heads of three runs are three orders and not six.
    random = np.random.default_rng(0)
    rises = [
        [
            {"onset": 100.0 + 40.0 * random.random(), "timescale": 80.0, "kappa": kappa}
            for _ in range(2)
        ]
        for kappa in (0.5, 1.5, 4.0)
    ]
    curves = head_curves(make_trajectory(rises), make_tests(np.ones((3, 1, 2), dtype=bool)))
    found = laws(curves, "late")["population"]
    assert found["widened_by"] > 1.0
    alone = laws(curves.drop_vars("run"), "late")["population"]["order"]
    wide = found["order"]
    assert wide["upper"] - wide["lower"] > 1.2 * (alone["upper"] - alone["lower"])
    assert wide["median"] == pytest.approx(alone["median"], rel=1e-6)
    assert wide["lower"] >= 2.0


def test_the_jackknife_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(1).normal(0.3, 0.02, size=6)
    without = [float(np.delete(values, k).mean()) for k in range(6)]
    draws = 0.3 + 1e-4 * np.linspace(-1.0, 1.0, 201)
    spread = widened(draws, without)[0].std(ddof=1)
    assert spread == pytest.approx(values.std(ddof=1) / np.sqrt(6), rel=1e-6)


def make_sweep(onset, change, runs=3, seed=0, sd=0.4):
    step = np.unique(np.geomspace(10, 2000, 24).round()).astype(int)
    random = np.random.default_rng(seed)
    values = np.array(
        [
            change * es.relaxation(step, onset=onset + 10.0 * run, timescale=200.0, kappa=0.0)
            for run in range(runs)
        ]
    )
    values += sd * random.normal(size=values.shape)
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, values),
            "llc_standard_error": (dims, np.full(values.shape, sd)),
            "verdict": (dims, np.full(values.shape, "reliable", dtype=object)),
        },
        coords={"run": np.arange(runs), "step": step},
    )


def make_heads(collision, control, orders=None):
    """Refined coefficients: first checkpoint 1, the last as given, one pair a run."""
    last = np.stack([collision, control], axis=1)
    values = np.stack([np.ones_like(last), last], axis=-1)
    dims = ("pair", "kind", "step")
    return xr.Dataset(
        {
            "llc": (dims, values),
            "llc_standard_error": (dims, np.full(values.shape, 0.05)),
        },
        coords={
            "pair": np.arange(len(last)),
            "kind": ["collision", "control"],
            "step": [10, 2000],
            "run": ("pair", np.arange(len(last))),
            "collision_head": ("pair", np.full(len(last), "0.0")),
            "control_head": ("pair", np.full(len(last), "0.1")),
        },
    )


@pytest.fixture(scope="module")
def answers():
    rises = [
        [{"onset": 200.0 + 10.0 * run, "timescale": 80.0, "kappa": 0.0}, None] for run in range(3)
    ]
    tests = make_tests(np.array([[[True, False]]] * 3))
    sweep = make_sweep(600.0, 20.0)
    times = onsets(make_trajectory(rises), tests, sweep)
    heads = make_heads([5.0, 6.0, 7.0], [2.0, 2.5, 3.0])
    return times, degeneracy(sweep, times, heads, make_sweep(600.0, 0.0, seed=1))


class TestDegeneracy:
    def test_lag_has_the_sign_and_size_it_should(self, answers):
        times, found = answers
        np.testing.assert_allclose(times["head_onset"], [200.0, 210.0, 220.0], rtol=0.1)
        # Checkpoints of the coefficient are a quarter apart, so its onset is known to that.
        assert abs(found["lag_log10"]["mean"] - np.log10(610.0 / 210.0)) < np.log10(1.26)
        assert found["lag_log10"]["probability_positive"] > 0.95
        assert (times["probability_head_first"] > 0.9).all()
        assert (times["log_bayes_factor_same"] < 0.0).all()
        # Nine tenths of an exponential: onset + timescale log 10, to the next evaluation.
        assert (abs(times["rise_end"] - times["head_onset"] - 80.0 * np.log(10.0)) < 60.0).all()

    def test_change_is_measured_against_shuffled_labels(self, answers):
        _, found = answers
        assert found["change"]["lower"] < 20.0 < found["change"]["upper"] + 1.0
        assert abs(found["change_shuffled"]["mean"]) < 4.0 * 0.4 * np.sqrt(2.0 / 3.0)
        assert found["change_beyond_shuffled"]["probability_positive"] > 0.99
        # All of the change comes after the heads' rise: less within it than its share of time.
        assert found["share_beyond_time"]["probability_positive"] < 0.1

    def test_few_estimates_tell_the_change_and_not_when_it_began(self):
        rise = {"onset": 200.0, "timescale": 80.0, "kappa": 0.0}
        tests = make_tests(np.array([[[True, False]]] * 3))
        sweep = make_sweep(600.0, 20.0).isel(step=slice(None, None, 5))
        assert sweep.sizes["step"] < 8
        times = onsets(make_trajectory([[rise, None]] * 3), tests, sweep)
        np.testing.assert_allclose(times["head_onset"], 200.0, rtol=0.1)
        assert times["network_onset"].isnull().all()
        found = degeneracy(sweep, times, make_heads([5.0] * 3, [2.0] * 3), None)
        assert 15.0 < found["change"]["mean"] < 22.0
        assert np.isnan(found["lag_log10"]["mean"])

    def test_refined_contrast_is_paired(self):
        found = refined_contrast(make_heads([5.0, 6.0, 7.0], [2.0, 2.5, 3.0]))
        assert found["last_difference"]["mean"] == pytest.approx(3.5)
        assert found["change_collision"]["mean"] == pytest.approx(5.0)
        assert found["change_difference"]["mean"] == pytest.approx(3.5)
        assert refined_contrast(xr.Dataset(coords={"pair": []})) == {"pairs": 0}


def make_dynamics(order, orders=None):
    draws = np.linspace(order - 0.2, order + 0.2, 41)
    return {
        "steps": {
            "late": {
                "population": {
                    "order_draws": draws.tolist(),
                    "member_order": orders or {},
                }
            }
        }
    }


class TestOnePotential:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [((0.24, 0.01), "agree"), ((17.0, 0.8), "disagree"), ((0.01, 0.001), "undecided")],
    )
    def test_the_test_can_pass_and_fail(self, change, expected):
        mean, error = change
        values = mean + error * np.array([-1.5, 0.5, 1.0, -0.5, 0.5])
        answers = {"change": mean_over_runs(values), "refined": {"pairs": 0}}
        found = one_potential(make_dynamics(4.0), answers, xr.Dataset(coords={"pair": []}))
        assert found["network"]["verdict"] == expected
        assert found["implied"]["lower"] < 0.25 < found["implied"]["upper"]

    def test_ranks_follow_the_heads(self):
        number = 8
        kappa = np.linspace(0.5, 6.0, number)
        orders = {
            f"run {run} head 0.0": [2.0 + 0.95 * k, 2.0 + k, 2.0 + 1.05 * k]
            for run, k in enumerate(kappa)
        }
        late = make_dynamics(4.0, orders)["steps"]["late"]
        along = make_heads(1.0 + 10.0 / (2.0 + kappa), np.ones(number))
        against = make_heads(1.0 - 10.0 / (2.0 + kappa), np.ones(number))
        assert rank_correlation(late, along)["probability_positive"] > 0.95
        assert rank_correlation(late, against)["probability_positive"] < 0.05

    def test_too_few_heads_are_not_ranked(self):
        late = make_dynamics(4.0)["steps"]["late"]
        missing = rank_correlation(late, make_heads([2.0], [1.0]))["missing"]
        assert missing == "0 heads of 0 runs with both; 5 of 3 are needed"

    def test_heads_of_one_run_count_once(self):
        # Two runs of opposite ranks, each of many heads: nothing is known of a third.
        number = 12
        run = np.repeat([0, 1, 2], number // 3)
        kappa = np.tile([0.5, 1.0, 2.0, 4.0], 3) + 0.01 * np.arange(number)
        sign = np.where(run == 0, -1.0, 1.0)
        heads = make_heads(1.0 + sign * 10.0 / (2.0 + kappa), np.ones(number))
        heads = heads.assign_coords(
            run=("pair", run), collision_head=("pair", [f"0.{k}" for k in range(number)])
        )
        orders = {f"run {r} head 0.{k}": [2.0, 2.0 + kappa[k], 9.0] for k, r in enumerate(run)}
        late = make_dynamics(4.0, orders)["steps"]["late"]
        found = rank_correlation(late, heads)
        assert found["heads"] == number
        assert found["upper"] - found["lower"] > 1.0


class TestControls:
    def test_shuffled_labels_keep_everything_but_the_pairing(self):
        config = SMALL.replace(shuffled_labels=True)
        plain, _ = transitions(SMALL)
        shuffled, held_out = transitions(config)
        assert torch.equal(plain.states, shuffled.states)
        assert not torch.equal(plain.changes, shuffled.changes)
        own = plain.changes.flatten(1)
        other = shuffled.changes.flatten(1)
        key = torch.arange(own.shape[1], dtype=own.dtype).sin()
        assert torch.equal((own @ key).sort().values, (other @ key).sort().values)
        assert torch.equal(held_out.changes, transitions(SMALL)[1].changes)
        again = as_trained(Transitions(plain.states, plain.changes), config)
        assert torch.equal(again.changes, shuffled.changes)

    def test_masks_of_all_heads_share_a_layer_out(self):
        model = build_model(SMALL)
        masks = [head_masks(model, (1, head)) for head in range(SMALL.num_heads)]
        for name in masks[0]:
            together = torch.stack([mask[name] for mask in masks]).sum(0)
            assert (together == 1).all()
            assert dict(model.named_parameters())[name].shape == together.shape


class TestStages:
    def test_kept_results_are_used_until_the_key_changes(self, tmp_path):
        calls = []

        def compute():
            calls.append(len(calls))
            return xr.Dataset({"value": len(calls)})

        path = tmp_path / "a" / "stage.nc"
        first = kept(path, "one", compute)
        assert int(kept(path, "one", compute)["value"]) == 1 == int(first["value"])
        assert int(kept(path, "two", compute)["value"]) == 2
        assert first.attrs["seconds"] >= 0.0
        path.write_bytes(b"no dataset")
        with pytest.raises(StorageError, match=r"stage\.nc: damaged"):
            kept(path, "two", compute)

    def test_processes_answer_in_order(self):
        assert in_processes(abs, [-3, 2, -1], 2) == [3, 2, 1]

    def test_processes_compute_with_one_thread_each(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
        assert in_processes(os.getenv, names, 2) == ["1", "1"]
        assert [os.getenv(name) for name in names] == ["7", None]


class TestPlan:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"draws": 0}, "draws: 0"),
            ({"chains": 1.5}, r"chains: 1\.5"),
            ({"arms": ("adam", "adamant")}, "did you mean 'adam'"),
            ({"sweep_from": 10**6}, "not before the last step"),
            ({"inverse_temperatures": (1.0, 1.0)}, "at least two different"),
            ({"inverse_temperatures": (1.0, -0.5)}, r"inverse_temperatures: \(1\.0, -0\.5\)"),
        ],
    )
    def test_bad_values_are_named(self, change, message):
        with pytest.raises(InputError, match=message):
            study("short").replace(**change)

    def test_one_seed_is_too_few(self):
        plan = study("short")
        with pytest.raises(InputError, match="one seed"):
            plan.replace(training=plan.training.replace(seeds=[0]))

    def test_steps_are_evaluated_ones_spread_over_log_step(self):
        plan = study("standard")
        steps = plan.spread_steps(30, plan.sweep_from)
        assert set(steps) <= set(plan.training.evaluation_steps().tolist())
        assert steps[0] == plan.sweep_from
        assert steps[-1] == plan.training.num_steps
        assert len(steps) == 30


def test_operations_are_those_of_the_layers():
    plan = study("short")
    config = plan.training
    found = operations(plan)
    tokens = config.batch_size * config.num_particles
    width, ends = config.width, 2 * config.dimension
    block = 4 * width**2 + 2 * config.expansion * width**2  # qkv, output, and the perceptron
    mixing = 2 * config.num_particles * width  # queries with keys, weights with values, a token
    forward = 2 * tokens * (config.depth * (block + mixing) + 2 * ends * width)
    # Backward is twice forward, but that nothing asks for the gradient of the states.
    assert found["step_operations"] == 3 * forward - 2 * tokens * ends * width
    steps = config.num_steps * len(config.seeds) * len(plan.arms)
    assert found["training_launches"] == steps * found["step_launches"]
    deeper = operations(plan.replace(training=config.replace(depth=config.depth + 1)))
    assert deeper["step_launches"] > found["step_launches"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The command on a small plan of one arm, stopped once on the way."""
    folder = tmp_path_factory.mktemp("study") / "run"
    plan = study("short").replace(
        training=SMALL,
        arms=("adam",),
        sweep_checkpoints=2,
        sweep_from=1,
        heads_from=10,
        curvature_samples=16,
        curvature_seeds=1,
        draws=16,
    )
    arguments = ["reproduce", "--preset", "short", "--output", str(folder), "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(simulator.study.plan.STUDIES, "short", plan)

        def stop(*_, **__):
            raise StorageError("the disk is full")

        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(measurements, "curvatures", stop)
            stopped = CliRunner().invoke(main, arguments)
        before = (folder / "measurements" / "network-adam.nc").stat().st_mtime_ns
        finished = CliRunner().invoke(main, [*arguments, "--json"])
        yield folder, plan, arguments, stopped, before, finished


@pytest.mark.slow
@pytest.mark.xdist_group("study")
class TestWhole:
    def test_it_goes_on_where_it_was_stopped(self, whole):
        folder, _, _, stopped, before, finished = whole
        assert stopped.exit_code != 0
        assert "the disk is full" in stopped.output
        assert finished.exit_code == 0, finished.output
        assert (folder / "measurements" / "network-adam.nc").stat().st_mtime_ns == before

    def test_it_leaves_what_it_promises(self, whole):
        folder, plan, _, _, _, finished = whole
        answers = json.loads(finished.stdout)
        assert answers == json.loads((folder / "study.json").read_text())
        assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")
        assert set(answers["structures"]) == set(plan.arms)
        assert answers["cost"]["training"]["seconds"] > 0.0
        llc = xr.open_dataset(folder / "measurements" / "network-adam.nc", engine="h5netcdf")
        assert llc["llc"].dims == ("run", "step")
        assert np.isfinite(llc["llc"]).all()
        page = (folder / "study.md").read_text()
        assert page == study_page(answers)
        for title in ("(a) Structures", "(b) Degeneracy", "(c) Dynamics", "(d) One potential"):
            assert f"## {title}" in page

    def test_the_words_follow_the_numbers(self, whole):
        answers = json.loads((whole[0] / "study.json").read_text())
        answers["structures"]["adam"]["probability_more_than_control"] = 0.97
        assert headline(answers)[0].startswith("(a) Structures: supported")
        answers["structures"]["adam"]["probability_more_than_control"] = 0.03
        assert headline(answers)[0].startswith("(a) Structures: contradicted")
        answers["degeneracy"]["adam"]["change"]["mean"] = None
        assert "by how much could not be told, with" in headline(answers)[1]

    def test_another_plan_is_refused(self, whole):
        folder, plan, arguments, *_ = whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(simulator.study.plan.STUDIES, "short", plan.replace(draws=17))
            result = CliRunner().invoke(main, arguments)
        assert result.exit_code != 0
        assert "another draws" in result.output
        assert (folder / "study.json").exists()


def test_an_output_that_is_no_study_is_refused_and_left_as_it_is(tmp_path):
    given = tmp_path / "notes.txt"
    given.write_text("mine")
    with pytest.raises(InputError, match=r"output: .*notes\.txt is a file"):
        reproduce(study("short"), given)
    assert given.read_text() == "mine"
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "plan.json").write_text("{")
    with pytest.raises(StorageError, match=r"plan\.json: damaged"):
        reproduce(study("short"), folder)
    assert [path.name for path in folder.iterdir()] == ["plan.json"]


def test_a_head_in_the_control_takes_the_support_away():
    flags = np.ones((5, 1, 2), dtype=bool)
    control = np.zeros_like(flags)
    control[0, 0, 0] = True
    found = structures(
        {"adam": make_tests(flags), "no_contacts": make_tests(control)},
        {"adam": "no_contacts", "no_contacts": None},
    )
    assert found["adam"]["probability_more_than_control"] > 0.9
    empty = {"structures": found, "degeneracy": {}, "dynamics": {}, "one_potential": {}}
    assert headline(empty)[0].startswith("(a) Structures: undecided.")
    found["adam"]["heads_in_control"] = 0
    assert headline(empty)[0].startswith("(a) Structures: supported.")
