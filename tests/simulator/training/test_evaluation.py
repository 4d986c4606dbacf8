"""What a trajectory records is what the kept networks do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_runs import SMALL

import emergence_stats as es
from simulator.data.transitions import Transitions
from simulator.training.checkpoints import checkpoint_steps, load_checkpoint
from simulator.training.evaluation import mean_loss

pytestmark = pytest.mark.xdist_group("training")


def test_every_evaluation_is_recorded_and_the_loss_falls(finished):
    dataset = es.open_trajectory(finished)
    np.testing.assert_array_equal(dataset["step"], SMALL.evaluation_steps())
    assert checkpoint_steps(finished, 0) == SMALL.evaluation_steps().tolist()
    assert dataset["collision_score"].dims == ("run", "step", "layer", "head")
    for name, variable in dataset.data_vars.items():
        assert "units" in variable.attrs, name
        assert "long_name" in variable.attrs, name
    complete = dataset.drop_vars(
        ["attention_distance_correlation", "attention_distance_correlation_sd"]
    )
    assert all(variable.notnull().all() for variable in complete.data_vars.values())
    loss = dataset["test_loss"].sel(run=0)
    fall = float(loss[0] - loss[-1])
    assert fall > 10 * float(dataset["test_loss_sd"].sel(run=0)[0])
    assert json.loads(dataset.attrs["configuration"])["width"] == 16


def test_the_recorded_loss_is_that_of_the_kept_network(finished):
    dataset = es.open_trajectory(finished)
    from simulator.data.generation import open_transitions

    test = Transitions.of(open_transitions(finished / "data" / "test.zarr"))
    for step in (0, 60):
        model = load_checkpoint(finished, 0, step)
        with torch.no_grad():
            loss = mean_loss(model, test.spread(SMALL.evaluation_samples))
        recorded = float(dataset["test_loss"].sel(run=0, step=step))
        # Mean of means against one mean, in single precision.
        assert float(loss) == pytest.approx(recorded, rel=1e-5)
