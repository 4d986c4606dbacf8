"""What a head does: ablation by hand, intervals that cover, and the three tests together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from small_runs import SMALL

import emergence_stats as es
from simulator.data.transitions import Transitions
from simulator.experiments.assessment import (
    animate,
    assess,
    assess_model,
    clustered_mean,
    rollout_error,
)
from simulator.network.model import ParticleTransformer
from simulator.training.checkpoints import build_model
from simulator.training.folder import prepare, simulate_part

pytestmark = pytest.mark.xdist_group("training")


@pytest.fixture(scope="module")
def held_out():
    return simulate_part(SMALL.replace(test_systems=32, radius=0.1), "test")


@pytest.fixture(scope="module")
def network(held_out):
    torch.manual_seed(0)
    model = build_model(SMALL)
    data = Transitions.of(held_out)
    model.set_scales(data.states, data.changes)
    return model


def test_ablation_equals_a_network_whose_head_is_replaced_by_hand(network, held_out):
    """Cut the head out of the output projection and add its mean as a bias: the same function."""
    result = assess_model(network, held_out, SMALL, prob=0.89)
    data = Transitions.of(held_out)
    with torch.no_grad():
        _, attention = network.attend(data.states)
        target = network.normalised_change(data.changes)
        intact = ((network(data.states) - target) ** 2).mean(-1)
        for layer, head in ((0, 1), (1, 0)):
            edited = build_model(SMALL)
            edited.load_state_dict(network.state_dict())
            projection = edited.blocks[layer].attention_output
            columns = slice(head * 8, head * 8 + 8)
            mean = attention.outputs[:, layer, head].mean((0, 1))
            projection.bias += projection.weight[:, columns] @ mean
            projection.weight[:, columns] = 0.0
            rise = ((edited(data.states) - target) ** 2).mean(-1) - intact
            touching = torch.from_numpy(held_out["contact"].values.any(-1))
            wall = torch.from_numpy(held_out["wall_contact"].values)
            measured = result["ablation_loss_rise"].sel(layer=layer, head=head)
            # Single precision, and differences of losses near 1.
            for group, name in ((touching, "colliding"), (~touching & ~wall, "free")):
                assert float(measured.sel(particles=name)) == pytest.approx(
                    float(rise[group].mean()), abs=2e-6
                )


def test_clustered_interval_covers_where_samples_depend_on_each_other():
    generator = np.random.default_rng(0)
    inside = naive = 0
    for _ in range(400):
        cluster = np.repeat(np.arange(60), 4)
        shared = np.repeat(generator.normal(size=60), 4)[:, None]
        values = 1.0 + shared + 0.5 * generator.normal(size=(240, 3))
        group = generator.random((240, 3)) < 0.5
        ratio, error = clustered_mean(values, group, cluster)
        inside += abs(ratio - 1.0) < 1.598 * error
        plain = values[group].std() / np.sqrt(group.sum())
        naive += abs(ratio - 1.0) < 1.598 * plain
    # Of 400 intervals of 89%, 356 +- 6.3; without the clusters far fewer would cover.
    assert 335 <= inside <= 377
    assert naive < 300


def test_an_empty_group_is_nan():
    ones = np.ones((4, 2))
    assert np.isnan(clustered_mean(ones, ones < 0, np.arange(4))).all()


class Oracle(ParticleTransformer):
    """Answers with free fall, exactly."""

    def forward(self, states):
        interval, gravity = SMALL.interval, SMALL.gravity
        velocity = states[..., 2:]
        change = torch.zeros_like(states)
        change[..., :2] = velocity * interval
        change[..., 1] -= 0.5 * gravity * interval**2
        change[..., 3] = -gravity * interval
        return change


def test_rollout_error_of_known_predictors():
    """In a box too large to reach the walls, free fall is the truth and the ballistic error 0."""
    config = SMALL.replace(box=1000.0, num_particles=2, radius=1e-3, interval=0.1)
    errors = rollout_error(
        Oracle(width=8, depth=1, num_heads=1).double(), config, num_systems=20, num=5
    )
    diameters = 1e-3 * 2
    # Rounding of positions near 1000, in double precision, over 500 steps of the reference.
    rounding = 500 * 1000 * np.finfo(float).eps
    assert float(errors.sel(predictor="ballistic").max()) * diameters < rounding
    assert float(errors.sel(predictor="model").max()) * diameters < rounding
    still = float(errors.sel(predictor="persistence", time=5)) * diameters
    # Root mean square of v t with unit variance on each of two axes, from 40 particles.
    assert still == pytest.approx(0.5 * np.sqrt(2), rel=0.35)
    assert float(errors.isel(time=0).max()) == 0.0


def test_animation_attention_belongs_to_its_frame(network):
    result = animate(network, SMALL, 1, 0, num_frames=5)
    assert result["animation_attention"].shape == (5, 6, 6)
    np.testing.assert_allclose(result["animation_attention"].sum("other"), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(
        result["animation_position"].isel(frame=0).values,
        result["animation_true_position"].isel(frame=0).values.astype(np.float32),
    )


def test_a_head_must_pass_all_three(finished, tmp_path):
    result = assess(finished, score=-10.0, rank_correlation=-1.0, loss_rise=-10.0)
    assert result["is_collision_head"].all()
    for threshold in ({"score": 2.0}, {"rank_correlation": 1.1}, {"loss_rise": 1e9}):
        lenient = {"score": -10.0, "rank_correlation": -1.0, "loss_rise": -10.0}
        result = assess(finished, **{**lenient, **threshold})
        assert not result["is_collision_head"].any()
        (name,) = threshold
        test = "ablation" if name == "loss_rise" else name
        assert not result["passes"].sel(test=test).any()
        assert result["passes"].drop_sel(test=test).all()
    assert set(result["rollout_error"]["predictor"].values) == {"model", "persistence", "ballistic"}
    # It can be kept and read back unchanged.
    path = tmp_path / "assessment.nc"
    result.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored["collision_score"], result["collision_score"])


def test_an_untrained_folder_is_refused(tmp_path):
    prepare(SMALL, tmp_path)
    with pytest.raises(es.InputError, match="no checkpoints yet; train first"):
        assess(tmp_path)
