"""Interventions do what they say and nothing else; contrasts between conditions are paired."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import emergence_stats as es
from simulator.experiments.conditions import Condition, run_conditions, train_condition, transitions
from simulator.experiments.contrasts import paired_contrast, steps_to_emergence
from simulator.experiments.interventions import (
    add_dropout,
    augment,
    copy_parameters,
    head_weights,
    hold_heads,
    reflect,
    transplant_head,
)
from simulator.network.model import ParticleTransformer
from simulator.physics.simulation import simulate
from simulator.training.config import TrainingConfig, preset
from simulator.training.loop import Transitions, train_seed
from simulator.training.runs import prepare

pytestmark = pytest.mark.xdist_group("training")

SMALL = TrainingConfig(
    num_particles=5,
    radius=0.08,
    train_systems=32,
    test_systems=8,
    intervals_per_system=4,
    width=16,
    depth=2,
    num_heads=2,
    batch_size=16,
    num_steps=24,
    evaluations_per_decade=2,
    evaluate_every=12,
    evaluation_samples=32,
    distance_bins=6,
    seeds=(0, 1),
    device="cpu",
)


@pytest.fixture(scope="module")
def data():
    return transitions(SMALL)


def network(seed, **sizes):
    torch.manual_seed(seed)
    model = ParticleTransformer(**{"width": 16, "depth": 2, "num_heads": 2, **sizes})
    # Layer norms as training leaves them, with scales and shifts.
    with torch.no_grad():
        for block in model.blocks:
            block.attention_norm.weight.uniform_(0.5, 1.5)
            block.attention_norm.bias.normal_(0.0, 0.3)
    return model


STATES = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_without_changes_it_is_the_run_of_train(tmp_path):
    prepare(SMALL, tmp_path)
    assert train_seed(tmp_path, 1) == 0
    stored = es.open_trajectory(tmp_path).sel(run=[1])
    found, _ = train_condition(SMALL, 1)
    assert set(found) == set(stored)
    for name in stored:
        np.testing.assert_array_equal(found[name], stored[name], err_msg=name)
    assert found["collision_score"].attrs == stored["collision_score"].attrs


def test_a_transplanted_head_does_the_same_on_the_same_stream():
    source, target = network(0), network(1)
    transplant_head(target, head_weights(source, (0, 1)), (0, 0))
    stream = torch.randn(4, 5, 16)
    _, theirs, their_output = source.blocks[0](stream)
    _, ours, our_output = target.blocks[0](stream)
    torch.testing.assert_close(ours[:, 0], theirs[:, 1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(our_output[:, 0], their_output[:, 1], rtol=1e-4, atol=1e-5)
    # The other head is as it was.
    untouched = network(1)
    _, before, _ = untouched.blocks[0](stream)
    assert torch.equal(ours[:, 1], before[:, 1])
    for one, other in zip(head_weights(target, (0, 0)), head_weights(source, (0, 1)), strict=True):
        torch.testing.assert_close(one, other)


def test_parameters_are_taken_over_and_scales_are_not(data):
    source, fresh = network(0), network(1)
    fresh.set_scales(data[0].states, data[0].changes)
    scale = fresh.input_scale.clone()
    copy_parameters(fresh, source)
    assert torch.equal(fresh.input_scale, scale)
    source.load_state_dict(fresh.state_dict())
    assert torch.equal(fresh(STATES), source(STATES))
    with pytest.raises(es.InputError, match="does not fit"):
        copy_parameters(network(0, width=32), source)


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


def test_dropout_is_on_while_training_only():
    model = network(0)
    plain = model(STATES)
    handles = add_dropout(model, 0.4)
    model.train()
    assert not torch.equal(model(STATES), plain)
    model.eval()
    assert torch.equal(model(STATES), plain)
    model.train()
    for handle in handles:
        handle.remove()
    assert torch.equal(model(STATES), plain)


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_physics_does_not_notice_the_symmetries(dimension):
    config = SMALL.replace(dimension=dimension, num_particles=4, radius=0.15)
    system = config.system
    train, _ = transitions(config.replace(train_systems=4, batch_size=1))
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


def test_in_the_control_task_particles_do_not_meet():
    config = preset("control")
    assert preset("standard").replace(stiffness=0.0) == config
    small = config.replace(train_systems=8, test_systems=8, batch_size=8)
    train, _ = transitions(small)
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


def test_emergence_is_dated_by_the_first_head():
    score = np.full((2, 4, 1, 2), 0.2)
    score[0, 1, 0, 1] = 0.55  # above one half, not half way from the baseline to 1
    score[0, 2, 0, 1] = 0.61
    trajectory = xr.Dataset(
        {
            "collision_score": (
                ("run", "step", "layer", "head"),
                score,
                {"baseline": 0.2},
            )
        },
        coords={"run": [0, 1], "step": [0, 10, 100, 1000]},
    )
    found = steps_to_emergence(trajectory)
    assert found.values.tolist() == [100.0, 1000.0]
    assert found["reached"].values.tolist() == [True, False]


def test_a_contrast_is_students():
    generator = np.random.default_rng(0)
    plain = np.exp(generator.normal(size=6))
    other = plain * np.exp(0.3 + 0.1 * generator.normal(size=6))
    values = xr.DataArray(
        [plain, other], dims=("condition", "run"), coords={"condition": ["a", "b"]}
    )
    result = paired_contrast(values, "a", ratio=True).sel(condition="b")
    t = stats.ttest_rel(np.log(other), np.log(plain))
    interval = t.confidence_interval(0.89)
    assert np.log(result["lower"]) == pytest.approx(interval.low)
    assert np.log(result["upper"]) == pytest.approx(interval.high)
    # Half of the two-sided p-value is the probability on the wrong side.
    assert 1.0 - result["probability_larger"] == pytest.approx(t.pvalue / 2.0)
    # Pairing takes out what the seeds share.
    unpaired = np.diff(stats.ttest_ind(np.log(other), np.log(plain)).confidence_interval(0.89))[0]
    assert interval.high - interval.low < 0.3 * unpaired


def test_contrasts_say_what_is_missing_or_censored():
    values = xr.DataArray(
        [[10.0, 20.0, np.nan], [20.0, 50.0, 9.0], [15.0, 25.0, 3.0]],
        dims=("condition", "run"),
        coords={
            "condition": ["a", "b", "c"],
            "reached": (
                ("condition", "run"),
                [[True, True, True], [True, False, True], [True, True, True]],
            ),
        },
    )
    result = paired_contrast(values, "a")
    assert result["num_pairs"].values.tolist() == [2, 2]
    assert result["num_censored"].values.tolist() == [1, 0]
    assert result["effect"].values.tolist() == [20.0, 5.0]
    assert np.isnan(result["lower"].sel(condition="c"))  # equal differences
    one = paired_contrast(values.isel(run=[0, 2]), "a")
    assert np.isnan(one["effect"]).all()


def test_intervals_hold_what_they_promise():
    generator = np.random.default_rng(1)
    seeds = generator.normal(size=(2_000, 1, 4))
    noise = 0.3 * generator.normal(size=(2_000, 2, 4))
    effect = np.array([0.0, 0.7])[None, :, None]
    values = xr.DataArray(
        seeds + noise + effect,
        dims=("study", "condition", "run"),
        coords={"condition": ["a", "b"]},
    )
    result = paired_contrast(values, "a").sel(condition="b")
    held = float(((result["lower"] < 0.7) & (result["upper"] > 0.7)).mean())
    # Binomial sd of 2000: 0.7%.
    assert held == pytest.approx(0.89, abs=0.028)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head_weights(network(0), (2, 0)), "head: (2, 0)"),
        (lambda: hold_heads(network(0), [(0, 5)]), "2 layers"),
        (lambda: transplant_head(network(0), head_weights(network(1, width=32), (0, 0)), (0, 0)),
         "does not fit"),
        (lambda: add_dropout(network(0), 1.0), "probability: 1.0"),
        (lambda: Condition(""), "give the condition a name"),
        (lambda: Condition("a", data_share=0.0), "data_share: 0.0"),
        (lambda: Condition("a", held="best"), "held: 'best'; give pairs of layer and head"),
        (lambda: Condition("a", held_from=-1), "held_from: -1; give a step"),
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
        (lambda: paired_contrast(xr.DataArray([1.0], dims="run"), "a"), "'condition'"),
        (lambda: steps_to_emergence(xr.Dataset()), "no variable 'collision_score'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    import re

    with pytest.raises(es.InputError, match=re.escape(message)):
        call()


def test_batches_are_not_changed_in_place(data):
    batch = data[0].take(torch.arange(4))
    before = Transitions(batch.states.clone(), batch.changes.clone())
    augment(batch, box=1.0, dimension=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(batch.states, before.states)
    assert torch.equal(batch.changes, before.changes)
