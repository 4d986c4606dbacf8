"""A configuration is checked, comparable, and reachable from presets, TOML and the command line."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emergence_stats.errors import InputError, StorageError
from simulator.training.config import (
    PRESETS,
    TrainingConfig,
    differing_fields,
    from_mapping,
    preset,
    read_configuration,
    read_toml,
)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 30, "width: 30 does not divide evenly into num_heads=4 heads; use 32"),
        ("num_steps", 0, "num_steps: 0; give at least 1"),
        ("num_steps", "many", "num_steps: 'many'; give a whole number"),
        ("num_steps", True, "num_steps: True; give a whole number"),
        ("learning_rate", float("nan"), "learning_rate: nan; must be finite"),
        ("learning_rate", -1.0, "learning_rate: -1.0; must be positive"),
        ("optimiser", "adan", "optimiser: 'adan' is not available; did you mean 'adam'"),
        ("seeds", (), "seeds: "),
        ("seeds", (1, 1), "seeds: "),
        ("batch_size", 10**9, "batch_size: 1000000000 exceeds the 16384 transitions"),
        ("radius", 0.0, "radius"),
        ("stiffness", -1.0, "stiffness"),
    ],
)
def test_a_bad_value_is_named(field, value, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**{field: value})


def test_json_round_trip(tmp_path):
    for config in PRESETS.values():
        path = tmp_path / "configuration.json"
        path.write_text(config.to_json())
        assert read_configuration(path) == config
        assert differing_fields(config, config) == []


def test_every_field_is_documented():
    assert all(item.metadata["help"] for item in dataclasses.fields(TrainingConfig))


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(StorageError, match="no readable configuration"):
        read_configuration(tmp_path / "configuration.json")


def test_toml_overrides_and_rejects_by_name(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("learning_rate = 1\nseeds = [3, 4]\n")
    config = from_mapping(read_toml(path), base=preset("demo"))
    assert config.learning_rate == 1.0
    assert config.seeds == (3, 4)
    path.write_text("lerning_rate = 1\n")
    with pytest.raises(InputError, match=r"'lerning_rate' .*did you mean 'learning_rate'"):
        from_mapping(read_toml(path))
    path.write_text("learning_rate = = 1\n")
    with pytest.raises(InputError, match="not valid TOML"):
        read_toml(path)


@given(st.integers(1, 100_000), st.integers(0, 20), st.one_of(st.just(0), st.integers(100, 5_000)))
def test_evaluation_steps_increase_from_first_to_last(num_steps, per_decade, every):
    config = TrainingConfig(
        num_steps=num_steps, evaluations_per_decade=per_decade, evaluate_every=every
    )
    steps = config.evaluation_steps()
    assert steps[0] == 0
    assert steps[-1] == num_steps
    assert (np.diff(steps) > 0).all()
    if every:
        assert set(range(0, num_steps + 1, every)) <= set(steps.tolist())


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_schedules_start_at_the_peak_and_end_as_named(schedule):
    config = TrainingConfig(schedule=schedule, learning_rate=0.5, num_steps=1000, warmup_steps=10)
    rates = np.array([config.learning_rate_at(step) for step in range(1001)])
    np.testing.assert_allclose(rates[:10], 0.05 * np.arange(1, 11))
    assert rates[10] == 0.5
    assert (np.diff(rates[10:]) <= 0).all()
    assert rates[1000] == pytest.approx(0.5 if schedule == "constant" else 0.0, abs=1e-12)
