"""Laws, orders and their intervals on curves whose law is known."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr
from small_populations import fewer_points
from study_cases import make_tests, make_trajectory

import emergence_stats as es
from simulator.study import dynamics
from simulator.study.dynamics import (
    compare_dynamics,
    compare_laws,
    compare_mean_curve,
    compare_population,
    contrast_orders,
    head_curves,
    late_part,
    widen,
)


@pytest.fixture
def few_points():
    with fewer_points():
        yield


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

    @pytest.mark.usefixtures("few_points")
    @pytest.mark.parametrize(("kappa", "window"), [(0.0, "whole"), (2.0, "late")])
    def test_the_law_is_told(self, kappa, window):
        rises = [
            [{"onset": onset, "timescale": time, "kappa": kappa} for onset, time in row]
            for row in (((150.0, 100.0), (250.0, 60.0)), ((300.0, 90.0), (200.0, 140.0)))
        ]
        trajectory = make_trajectory(rises)
        three = np.array([[[True, True]], [[True, False]]])
        found = compare_laws(head_curves(trajectory, make_tests(three)), window)
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

    def test_every_arm_window_and_axis_is_asked(self, monkeypatch):
        def map_as_in_processes(function, given, workers):
            """What is sent to a process is pickled; tests/simulator/experiments has processes."""
            assert workers == 2
            sent = pickle.dumps((function, given))
            function, given = pickle.loads(sent)
            return [function(one) for one in given]

        monkeypatch.setattr(dynamics, "map_in_processes", map_as_in_processes)
        law = {"onset": 300.0, "timescale": 150.0, "kappa": 0.0}
        constant = make_trajectory([[law, None]])
        falling = constant.assign(
            learning_rate=("step", np.linspace(1e-3, 1e-5, constant.sizes["step"]))
        )
        one, none = (make_tests(np.array([[[passes, False]]])) for passes in (True, False))
        found = compare_dynamics(
            {"adam": constant, "cosine": falling, "sgd": constant},
            {"adam": one, "cosine": one, "sgd": none},
            workers=2,
        )
        assert found["sgd"] == {"steps": {}, "missing": "no collision head in this arm"}
        assert set(found["adam"]) == {"steps", "averaged"}
        assert set(found["cosine"]) == {"steps", "gradient_flow_time", "averaged"}
        curves = head_curves(constant, one)
        for window in ("whole", "late"):
            mine = compare_laws(curves, window)["law"]
            for arm in ("adam", "cosine"):
                assert found[arm]["steps"][window]["law"] == pytest.approx(mine, abs=1e-9)
            assert found["cosine"]["gradient_flow_time"][window]["law"] != pytest.approx(mine)

    @pytest.mark.slow  # the same of single populations: tests/population
    def test_the_average_of_exponentials_says_power_law_and_the_population_does_not(self):
        times = np.geomspace(20.0, 900.0, 8)
        rises = [[{"onset": 150.0, "timescale": t, "kappa": 0.0} for t in times]]
        trajectory = make_trajectory(rises)
        curves = head_curves(trajectory, make_tests(np.ones((1, 1, 8), dtype=bool)))
        mean = compare_mean_curve(curves)["whole"]["two laws"]
        assert mean["law"]["power_law"] > 0.99
        assert compare_laws(curves, "whole")["population"]["probability"]["exponential"] > 0.5


def test_orders_are_contrasted_with_adams():
    def arm(*orders, alarms=0):
        late = {"heads": 8, "alarms": alarms, "population": {"order_draws": list(orders)}}
        return {"steps": {"late": late}}

    flow = {"gradient_flow_time": arm(*np.linspace(2.0, 2.1, 50))["steps"]}
    found = contrast_orders(
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


@pytest.mark.slow  # of known numbers: the jackknife below
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
    curves = late_part(curves)
    found = compare_population(curves, between_runs=True)
    assert found["widened_by"] > 1.0
    alone = compare_population(curves, between_runs=False)["order"]
    wide = found["order"]
    assert wide["upper"] - wide["lower"] > 1.2 * (alone["upper"] - alone["lower"])
    assert wide["median"] == pytest.approx(alone["median"], rel=1e-6)
    assert wide["lower"] >= 2.0


def test_the_jackknife_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(1).normal(0.3, 0.02, size=6)
    without = [float(np.delete(values, k).mean()) for k in range(6)]
    draws = 0.3 + 1e-4 * np.linspace(-1.0, 1.0, 201)
    spread = widen(draws, without)[0].std(ddof=1)
    assert spread == pytest.approx(values.std(ddof=1) / np.sqrt(6), rel=1e-6)
