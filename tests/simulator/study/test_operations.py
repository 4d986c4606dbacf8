"""Operations counted by hand."""

from __future__ import annotations

from simulator.study import study
from simulator.study.operations import count_operations


def test_operations_are_those_of_the_layers():
    plan = study("short")
    config = plan.training
    found = count_operations(plan)
    tokens = config.batch_size * config.num_particles
    width, ends = config.width, 2 * config.dimension
    block = 4 * width**2 + 2 * config.expansion * width**2  # qkv, output, and the perceptron
    mixing = 2 * config.num_particles * width  # queries with keys, weights with values, a token
    forward = 2 * tokens * (config.depth * (block + mixing) + 2 * ends * width)
    # Backward is twice forward, but that nothing asks for the gradient of the states.
    assert found["step_operations"] == 3 * forward - 2 * tokens * ends * width
    steps = config.num_steps * len(config.seeds) * len(plan.arms)
    assert found["training_launches"] == steps * found["step_launches"]
    deeper = count_operations(plan.replace(training=config.replace(depth=config.depth + 1)))
    assert deeper["step_launches"] > found["step_launches"]
