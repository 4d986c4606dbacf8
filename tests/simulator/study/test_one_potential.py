"""The one potential: agreement and disagreement where they are known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from study_cases import make_dynamics, make_heads

from simulator.study.intervals import mean_over_runs
from simulator.study.one_potential import check_potential, rank_correlation


class TestOnePotential:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [((0.24, 0.01), "agree"), ((17.0, 0.8), "disagree"), ((0.01, 0.001), "undecided")],
    )
    def test_the_test_can_pass_and_fail(self, change, expected):
        mean, error = change
        values = mean + error * np.array([-1.5, 0.5, 1.0, -0.5, 0.5])
        answers = {"change": mean_over_runs(values), "refined": {"pairs": 0}}
        found = check_potential(make_dynamics(4.0), answers, xr.Dataset(coords={"pair": []}))
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
