"""The neighbour list against all pairs."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.physics.neighbours import build_list


@settings(max_examples=60, deadline=None)
@given(
    dimension=st.sampled_from([2, 3]),
    count=st.integers(1, 80),
    cutoff=st.floats(0.01, 2.0),
    stretch=st.floats(0.01, 1e6),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_neighbour_list_holds_every_close_pair_in_order(
    dimension, count, cutoff, stretch, seed
):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(count, dimension))
    x[:, 0] *= stretch
    starts, found = np.empty(count + 1, np.int64), np.empty(count * count, np.uint32)
    total = build_list(tuple(range(dimension)), x, cutoff, starts, found)
    pairs = [(i, int(j)) for i in range(count) for j in found[starts[i] : starts[i + 1]]]
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(count), 2)
        if sum((x[i, axis] - x[j, axis]) ** 2 for axis in range(dimension)) < cutoff * cutoff
    ]
    assert pairs == expected
    assert total == len(expected)
