"""The network: symmetries it must have, what ablation means, and the iterated rollout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from emergence_stats.errors import InputError
from simulator.network.model import ParticleTransformer, rollout


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = ParticleTransformer(width=32, depth=2, num_heads=4).double()
    states = torch.randn(50, 9, 4, dtype=torch.float64)
    model.set_scales(states, torch.randn(50, 9, 4, dtype=torch.float64) * 3 + 1)
    return model


@pytest.fixture
def states():
    return torch.randn(6, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_relabelling_particles_relabels_the_answer(network, states):
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(network(states[:, order]), network(states)[:, order])


def test_attend_gives_the_same_answer_and_normalised_weights(network, states):
    answer, attention = network.attend(states)
    assert torch.equal(answer, network(states))
    assert attention.weights.shape == (6, 2, 4, 9, 9)
    assert attention.outputs.shape == (6, 2, 4, 9, 8)
    torch.testing.assert_close(attention.weights.sum(-1), torch.ones(6, 2, 4, 9).double())


def test_attention_agrees_with_the_library(network, states):
    block = network.blocks[0]
    stream = network.embedding((states - network.input_mean) / network.input_scale)
    parts = block.query_key_value(block.attention_norm(stream)).view(6, 9, 3, 4, 8)
    query, key, value = parts.permute(2, 0, 3, 1, 4)
    expected = functional.scaled_dot_product_attention(query, key, value)
    _, _, heads = block(stream)
    torch.testing.assert_close(heads, expected)


def test_attention_is_the_only_exchange(network, states):
    """With every head replaced, no particle can know of another."""
    replacement = torch.zeros(2, 4, 8, dtype=torch.float64)
    moved = states.clone()
    moved[:, 1:] += 1.0
    alone, beside = network(states, replacement), network(moved, replacement)
    assert torch.equal(alone[:, 0], beside[:, 0])
    assert not torch.equal(network(states)[:, 0], network(moved)[:, 0])


def test_ablation_replaces_one_head_by_the_given_output(network, states):
    keep = torch.full((2, 4, 8), torch.nan, dtype=torch.float64)
    assert torch.equal(network(states, keep), network(states))
    replacement = keep.clone()
    replacement[1, 2] = 0.7
    _, attention = network.attend(states, replacement)
    assert (attention.outputs[:, 1, 2] == 0.7).all()
    _, intact = network.attend(states)
    assert torch.equal(attention.outputs[:, 1, [0, 1, 3]], intact.outputs[:, 1, [0, 1, 3]])


def test_scales_make_targets_standard(network):
    changes = torch.randn(4000, 5, 4, dtype=torch.float64) * torch.tensor([1.0, 2, 3, 4]) + 7
    network.set_scales(changes, changes)
    normal = network.normalised_change(changes).reshape(-1, 4)
    torch.testing.assert_close(normal.mean(0), torch.zeros(4).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(normal.std(0), torch.ones(4).double())


def test_predict_and_rollout_iterate_the_same_map(network, states):
    network = network.float()
    state = states.float()
    path = rollout(network, state[..., :2], state[..., 2:], num_intervals=3, interval=0.5)
    with torch.no_grad():
        for _ in range(3):
            state = network.predict(state)
    np.testing.assert_array_equal(path["positions"].isel(time=3), state[..., :2].numpy())
    np.testing.assert_array_equal(path["velocities"].isel(time=3), state[..., 2:].numpy())
    assert path["time"].values.tolist() == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("positions", "number", "message"),
    [
        (np.zeros((4, 3)), 1, r"shapes \(4, 3\) and \(4, 2\)"),
        (np.full((4, 2), np.nan), 1, "hold NaN"),
        (np.zeros((4, 2)), 0, "num_intervals: 0"),
    ],
)
def test_rollout_names_bad_input(network, positions, number, message):
    with pytest.raises(InputError, match=message):
        rollout(network.float(), positions, np.zeros((4, 2)), num_intervals=number)
