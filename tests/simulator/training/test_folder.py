"""The data of a configuration, and folders that are refused."""

from __future__ import annotations

import torch

from simulator.training.config import preset
from simulator.training.folder import transitions


def test_in_the_control_task_particles_do_not_meet():
    config = preset("control")
    assert preset("standard").replace(stiffness=0.0) == config
    small = config.replace(train_systems=8, test_systems=8, batch_size=8)
    train = transitions(small, "train")
    d = small.dimension
    places, gap = train.states[..., :d], train.states[..., :d]
    distance = torch.cdist(places, gap) + torch.eye(small.num_particles)
    assert (distance < 0.5 * 2 * small.radius).any()  # they pass through each other
    # Away from the walls each falls freely: displacement v t - g t^2 / 2.
    t = small.interval
    free = train.states[..., d:] * t
    free[..., d - 1] -= 0.5 * small.gravity * t**2
    clear = (places + free > 0.07) & (places + free < 0.93) & (places > 0.07) & (places < 0.93)
    clear = clear.all(-1)
    assert clear.float().mean() > 0.3
    torch.testing.assert_close(train.changes[..., :d][clear], free[clear], rtol=0, atol=1e-5)
