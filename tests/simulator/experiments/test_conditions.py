"""The same seeds under several conditions: what is shared, changed, held and kept."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import small_runs
import torch
import xarray as xr

import emergence_stats as es
from simulator.experiments.condition import Condition
from simulator.experiments.conditions import run_conditions, train_condition
from simulator.experiments.interventions import copy_parameters, head_weights, hold_heads
from simulator.network.model import ParticleTransformer
from simulator.training.folder import PARTS, prepare, transitions
from simulator.training.loop import train_seed

SMALL = small_runs.SMALL.replace(
    num_particles=5,
    train_systems=32,
    test_systems=8,
    batch_size=16,
    num_steps=24,
    evaluations_per_decade=2,
    evaluate_every=12,
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def data():
    return tuple(transitions(SMALL, part) for part in PARTS)


def network(seed, **sizes):
    torch.manual_seed(seed)
    model = ParticleTransformer(**{"width": 16, "depth": 2, "num_heads": 2, **sizes})
    # Layer norms as training leaves them, with scales and shifts.
    with torch.no_grad():
        for block in model.blocks:
            block.attention_norm.weight.uniform_(0.5, 1.5)
            block.attention_norm.bias.normal_(0.0, 0.3)
    return model


def test_without_changes_it_is_the_run_of_train(tmp_path):
    prepare(SMALL, tmp_path)
    assert train_seed(tmp_path, 1) == 0
    stored = es.open_trajectory(tmp_path).sel(run=[1])
    found, _ = train_condition(SMALL, 1)
    assert set(found) == set(stored)
    for name in stored:
        np.testing.assert_array_equal(found[name], stored[name], err_msg=name)
    assert found["collision_score"].attrs == stored["collision_score"].attrs


def test_a_held_head_stays_and_the_rest_learns(data):
    def of(model):
        block = model.blocks[1]
        return torch.cat(
            [
                block.query_key_value.weight[:8].ravel(),
                block.query_key_value.bias[:8],
                block.attention_output.weight[:, :8].ravel(),
            ]
        ).clone()

    start = network(3)
    condition = Condition(
        "held",
        {"weight_decay": 0.1},
        prepare=lambda model: copy_parameters(model, start),
        held=[(1, 0)],
    )
    _, model = train_condition(SMALL, 0, condition, data=data)
    assert torch.equal(of(model), of(start))
    assert not torch.equal(
        model.blocks[1].attention_output.weight[:, 8:],
        start.blocks[1].attention_output.weight[:, 8:],
    )
    hold_heads(model, [])()


@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_a_head_is_frozen_where_it_stands_and_the_rest_trains_on(which):
    plain, _ = train_condition(SMALL, 0)
    frozen, model = train_condition(SMALL, 0, Condition("frozen", held=which, held_from=12))
    # Until then it is the same run.
    until = {"step": slice(0, 12)}
    assert frozen["collision_score"].sel(until).equals(plain["collision_score"].sel(until))
    assert (frozen["test_loss"] != plain["test_loss"]).sel(step=24).all()
    # The head with that score at step 12, and no other, is what it was at step 12.
    score = plain["collision_score"].sel(step=12, run=0)
    extreme = score.max() if which == "largest" else score.min()
    chosen = (score == extreme).values
    assert chosen.sum() == 1
    np.testing.assert_array_equal(frozen["held"].sel(run=0), chosen)
    _, at_twelve = train_condition(SMALL.replace(num_steps=12), 0)
    for layer in range(2):
        for head in range(2):
            then, now = (head_weights(one, (layer, head)) for one in (at_twelve, model))
            kept = torch.equal(then.output, now.output)
            assert kept == bool(frozen["held"].sel(run=0, layer=layer, head=head))


def test_every_seed_may_begin_from_a_network_of_its_own(data):
    starts = {seed: network(seed + 10) for seed in SMALL.seeds}
    condition = Condition(
        "transfer",
        prepare={
            seed: lambda model, start=start: copy_parameters(model, start)
            for seed, start in starts.items()
        },
    )
    result = run_conditions(SMALL, [Condition("plain"), condition])
    assert "held" not in result
    for seed, start in starts.items():
        alone = Condition("one", prepare=lambda model, start=start: copy_parameters(model, start))
        found, _ = train_condition(SMALL, seed, alone, data=data)
        np.testing.assert_array_equal(
            result["test_loss"].sel(condition="transfer", run=seed), found["test_loss"].isel(run=0)
        )
    with pytest.raises(es.InputError, match="prepare: has nothing for seed 7, only for"):
        train_condition(SMALL, 7, condition, data=data)


def test_which_heads_are_held_is_kept_with_the_runs(tmp_path):
    conditions = [
        Condition("plain"),
        Condition("frozen", held="largest", held_from=12),
        Condition("held", held={0: [(0, 1)], 1: [(1, 0), (1, 1)]}),
    ]
    result = run_conditions(SMALL, conditions, output=tmp_path)
    assert result["held"].dims == ("condition", "run", "layer", "head")
    assert result["held"].dtype == bool
    assert result["held"].sum(["layer", "head"]).values.tolist() == [[0, 0], [1, 1], [1, 2]]
    assert result["held"].sel(condition="held", run=1).values.tolist() == [[False] * 2, [True] * 2]
    described = json.loads(result.attrs["conditions"])
    assert described["held"]["held"] == {"0": [[0, 1]], "1": [[1, 0], [1, 1]]}
    with pytest.raises(es.InputError, match="held: has nothing for seed 2, only for"):
        train_condition(SMALL, 2, conditions[2])
    xr.testing.assert_identical(run_conditions(SMALL, conditions, output=tmp_path), result)
    # Kept by seed, so that a call for one of them takes what is there.
    told: list[str] = []
    one = Condition("held", held={1: [(1, 0), (1, 1)]})
    run_conditions(SMALL.replace(seeds=(1,)), [one], output=tmp_path, report=told.append)
    assert told == []


def test_conditions_share_seeds_and_keep_the_contract(tmp_path, data):
    conditions = [
        Condition("plain"),
        Condition("decay", {"weight_decay": 0.05, "optimiser": "adamw"}),
        Condition("mirrored", augmented=True),
        Condition("dropped", dropout=0.3),
        Condition("half", data_share=0.5),
        Condition("no contacts", {"stiffness": 0.0}),
    ]
    result = run_conditions(SMALL, conditions, output=tmp_path)
    assert result["collision_score"].dims == ("condition", "run", "step", "layer", "head")
    assert result["test_loss"].notnull().all()
    start = result.isel(step=0)
    # The same initial network: the same answers, where the data are the same.
    for name in ("decay", "mirrored", "dropped"):
        for run in (0, 1):
            at = {"condition": name, "run": run}
            plain = start["test_loss"].sel(condition="plain", run=run)
            assert start["test_loss"].sel(at) == plain
    end = result["test_loss"].isel(step=-1)
    assert all(
        (end.sel(condition=c.name) != end.sel(condition="plain")).all() for c in conditions[1:]
    )
    assert np.unique(result["score_baseline"]).size == 2
    assert "baseline" not in result["collision_score"].attrs
    told = []
    again = run_conditions(SMALL, conditions, output=tmp_path, report=told.append)
    assert told == []
    xr.testing.assert_equal(again, result)
    with pytest.raises(es.InputError, match="another configuration"):
        run_conditions(SMALL.replace(width=32), conditions, output=tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_condition(SMALL, 0, Condition("a", held=[(0, 0)], held_from=24)),
         "held_from: 24 is not before the last step, 24"),
        (lambda: train_condition(SMALL, 0, Condition("a", held="largest", held_from=13)),
         "held_from: 13 is no evaluated step, so no score could choose the head; take one such as "
         "10 or 12"),
        (lambda: run_conditions(SMALL, [Condition("a"), Condition("a")]), "name of its own"),
        (lambda: run_conditions(SMALL, [Condition("a"), Condition("b", {"num_steps": 3})]),
         "num_steps differs"),
        (lambda: run_conditions(SMALL, [Condition("a", {"widht": 3})]), "did you mean 'width'"),
        (lambda: train_condition(SMALL, 0, Condition("a", data_share=0.01)), "fewer than"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=re.escape(message)):
        call()
