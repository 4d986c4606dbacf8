"""Plans refuse what cannot be done, and spread their checkpoints."""

from __future__ import annotations

import pytest

from emergence_stats.errors import InputError
from simulator.study import study


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
