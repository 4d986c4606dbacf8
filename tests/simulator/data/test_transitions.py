"""Mirror images and shuffled labels: what is changed, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import SMALL

from simulator.data.transitions import Transitions, augment, reflect
from simulator.physics.simulation import simulate
from simulator.training.folder import transitions


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_physics_does_not_notice_the_symmetries(dimension):
    config = SMALL.replace(dimension=dimension, num_particles=4, radius=0.15)
    system = config.system
    train = transitions(config.replace(train_systems=4, batch_size=1), "train")
    batch = train.take(torch.arange(8))
    generator = torch.Generator().manual_seed(4)
    image = augment(batch, box=config.box, dimension=dimension, generator=generator)
    assert not torch.equal(image.states, batch.states)
    states = image.states.double().numpy()
    path = simulate(
        system,
        states[..., :dimension],
        states[..., dimension:],
        time_step=config.time_step,
        num_steps=round(config.interval / config.time_step),
        allow_overlap=True,
    )
    moved = path["positions"].isel(time=-1).values - states[..., :dimension]
    # States are kept in single precision, and a contact's stiffness of 2000 over an interval of 0.1
    # magnifies that by tens.
    np.testing.assert_allclose(moved, image.changes[..., :dimension].numpy(), atol=2e-5)
    # Twice the same mirror is the original.
    axes = torch.ones(8, dimension - 1, dtype=torch.bool)
    once = reflect(batch, axes, box=config.box, dimension=dimension)
    twice = reflect(once, axes, box=config.box, dimension=dimension)
    torch.testing.assert_close(twice.states, batch.states)
    assert torch.equal(twice.changes, batch.changes)


def test_batches_are_not_changed_in_place():
    batch = transitions(SMALL, "train").take(torch.arange(4))
    before = Transitions(batch.states.clone(), batch.changes.clone())
    augment(batch, box=1.0, dimension=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(batch.states, before.states)
    assert torch.equal(batch.changes, before.changes)


def test_shuffled_labels_keep_everything_but_the_pairing():
    config = SMALL.replace(shuffled_labels=True)
    plain, shuffled = transitions(SMALL, "train"), transitions(config, "train")
    assert torch.equal(plain.states, shuffled.states)
    assert not torch.equal(plain.changes, shuffled.changes)
    own = plain.changes.flatten(1)
    other = shuffled.changes.flatten(1)
    key = torch.arange(own.shape[1], dtype=own.dtype).sin()
    assert torch.equal((own @ key).sort().values, (other @ key).sort().values)
    assert torch.equal(transitions(config, "test").changes, transitions(SMALL, "test").changes)
    again = plain.shuffle_labels(config.data_seed)
    assert torch.equal(again.changes, shuffled.changes)
