"""Scores of attention heads against values worked out by hand, by loops, and by bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emergence_stats.errors import InputError
from simulator.network.heads import (
    attention_distance_correlation,
    collision_score,
    contact_rank_correlation,
)


def random_attention(generator, *shape):
    weights = generator.gamma(0.5, size=shape)
    return weights / weights.sum(-1, keepdims=True)


def random_places(seed, samples=30, particles=8):
    return np.random.default_rng(seed).random((samples, particles, 2))


class TestCollisionScore:
    def test_equals_the_definition_by_loops(self):
        generator = np.random.default_rng(0)
        places = random_places(1)
        attention = random_attention(generator, 30, 2, 3, 8, 8)
        result = collision_score(attention, places, diameter=0.1, contact_range=2.0)
        shares, expected = [], []
        for sample in range(30):
            for query in range(8):
                others = [key for key in range(8) if key != query]
                gap = {
                    key: np.linalg.norm(places[sample, query] - places[sample, key])
                    for key in others
                }
                near = [key for key in others if gap[key] < 0.2]
                if near:
                    row = attention[sample, :, :, query]
                    shares.append(row[..., near].sum(-1) / row[..., others].sum(-1))
                    expected.append(len(near) / 7)
        np.testing.assert_allclose(result["collision_score"], np.mean(shares, axis=0), rtol=1e-12)
        assert result["collision_score"].attrs["baseline"] == pytest.approx(np.mean(expected))
        assert result["collision_score"].dims == ("layer", "head")

    def test_a_head_that_ignores_distance_scores_the_baseline(self):
        places = random_places(2)
        score = collision_score(np.ones((30, 8, 8)), places, diameter=0.15)["collision_score"]
        assert float(score) == pytest.approx(score.attrs["baseline"], rel=1e-12)

    def test_standard_error_agrees_with_the_spread_over_repetitions(self):
        values, errors = [], []
        for seed in range(400):
            generator = np.random.default_rng(seed)
            places = random_places(seed + 10_000, samples=60)
            attention = random_attention(generator, 60, 8, 8)
            result = collision_score(attention, places, diameter=0.15)
            values.append(float(result["collision_score"]))
            errors.append(float(result["collision_score_sd"]))
        # The spread of 400 values is itself known to 1/sqrt(800) = 3.5%; allow four of those.
        assert np.mean(errors) == pytest.approx(np.std(values), rel=0.14)

    @given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
    @settings(max_examples=30, deadline=None)
    def test_between_0_and_1_and_independent_of_units_and_order(self, seed, unit):
        generator = np.random.default_rng(seed)
        places, attention = random_places(seed), random_attention(generator, 30, 8, 8)
        score = collision_score(attention, places, diameter=0.15)["collision_score"]
        assert 0 <= float(score) <= 1
        scaled = collision_score(attention, unit * places, diameter=unit * 0.15)
        assert float(scaled["collision_score"]) == pytest.approx(float(score), rel=1e-9)
        order = generator.permutation(8)
        shuffled = collision_score(
            attention[:, order][:, :, order], places[:, order], diameter=0.15
        )
        assert float(shuffled["collision_score"]) == pytest.approx(float(score), rel=1e-9)

    def test_nobody_near_is_nan_not_zero(self):
        places = np.array([[[0.0, 0.0], [9.0, 0.0]]])
        result = collision_score(np.ones((1, 2, 2)), places, diameter=1.0)
        assert np.isnan(result["collision_score"])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"diameter": 0.0}, "diameter: 0.0"),
            ({"contact_range": -1.0}, "contact_range: -1.0"),
            ({"positions": np.zeros((8, 2))}, r"positions: shape \(8, 2\)"),
            ({"positions": np.full((30, 8, 2), np.nan)}, "hold NaN"),
            ({"attention": np.zeros((30, 7, 8))}, r"give \(30, ..., 8, 8\)"),
            (
                {"attention": np.zeros((30, 1, 1)), "positions": np.zeros((30, 1, 2))},
                "one particle",
            ),
        ],
    )
    def test_bad_input_is_named(self, change, message):
        given = {
            "attention": np.ones((30, 8, 8)),
            "positions": random_places(0),
            "diameter": 0.1,
            **change,
        }
        with pytest.raises(InputError, match=message):
            collision_score(given.pop("attention"), given.pop("positions"), **given)


class TestAttentionDistanceCorrelation:
    def test_recovers_a_known_dependence(self):
        places = random_places(3, samples=200)
        distance = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
        edges = np.array([0.0, 2.0, 4.0, 20.0])
        attention = np.where(distance < 0.2, 3.0, np.where(distance < 0.4, 1.0, 0.5))
        result = attention_distance_correlation(attention, places, diameter=0.1, edges=edges)
        g = result["attention_distance_correlation"].values
        np.testing.assert_allclose(g / g[2], [6.0, 2.0, 1.0], rtol=1e-12)
        # The mean over all pairs is 1 by definition.
        off = ~np.eye(8, dtype=bool)
        number = np.histogram(distance[:, off] / 0.1, edges)[0]
        assert (g * number).sum() / number.sum() == pytest.approx(1.0, rel=1e-12)

    def test_standard_error_agrees_with_the_spread_over_repetitions(self):
        values, errors = [], []
        for seed in range(300):
            places = random_places(seed, samples=60)
            attention = random_attention(np.random.default_rng(seed + 999), 60, 2, 8, 8)
            result = attention_distance_correlation(
                attention, places, diameter=0.1, edges=[0, 2, 5, 20]
            )
            values.append(result["attention_distance_correlation"].values)
            errors.append(result["attention_distance_correlation_sd"].values)
        # Six spreads, each known to 1/sqrt(600) = 4.1%; allow four of those.
        np.testing.assert_allclose(np.mean(errors, 0), np.std(values, 0), rtol=0.165)

    def test_empty_bins_are_nan(self):
        places = np.array([[[0.0, 0.0], [1.0, 0.0]]])
        g = attention_distance_correlation(
            np.ones((1, 2, 2)), places, diameter=1.0, edges=[0, 0.5, 1.5]
        )["attention_distance_correlation"].values
        assert np.isnan(g[0])
        assert g[1] == 1.0

    def test_edges_must_increase(self):
        with pytest.raises(InputError, match="edges"):
            attention_distance_correlation(
                np.ones((30, 8, 8)), random_places(0), diameter=0.1, edges=[1, 1]
            )


class TestContactRankCorrelation:
    def make(self, seed, samples=80):
        generator = np.random.default_rng(seed)
        touching = generator.random((samples, 6, 6)) < 0.08
        touching |= touching.transpose(0, 2, 1)
        # A shift shared by a cluster's samples makes them depend on each other.
        shift = np.repeat(generator.normal(size=samples // 4), 4)[:, None, None]
        attention = generator.normal(size=(samples, 6, 6)) + (1.0 + shift) * touching
        return attention, touching, np.arange(samples) // 4

    def test_equals_mann_whitney(self):
        attention, touching, cluster = self.make(0)
        result = contact_rank_correlation(attention, touching, cluster=cluster)
        off = np.broadcast_to(~np.eye(6, dtype=bool), touching.shape)
        inside, outside = attention[off & touching], attention[off & ~touching]
        u = stats.mannwhitneyu(inside, outside).statistic
        expected = 2 * u / (inside.size * outside.size) - 1
        assert float(result["contact_rank_correlation"]) == pytest.approx(expected, rel=1e-12)

    def test_interval_covers(self):
        def estimate(seed, samples):
            attention, touching, cluster = self.make(seed, samples)
            return contact_rank_correlation(attention, touching, cluster=cluster)

        truth = float(estimate(1, 40_000)["contact_rank_correlation"])
        inside = 0
        for seed in range(200):
            result = estimate(seed + 2, 160)
            inside += (
                result["contact_rank_correlation_lower"]
                <= truth
                <= result["contact_rank_correlation_upper"]
            )
        # Of 200 intervals of 89%, 178 +- 4.4 are expected; 20 clusters of 4 cost a little.
        assert 163 <= int(inside) <= 193

    def test_reverses_with_the_attention(self):
        attention, touching, cluster = self.make(3)
        one = contact_rank_correlation(attention, touching, cluster=cluster)
        other = contact_rank_correlation(-attention, touching, cluster=cluster)
        assert float(one["contact_rank_correlation"]) == pytest.approx(
            -float(other["contact_rank_correlation"]), rel=1e-12
        )

    def test_no_contacts_is_nan(self):
        result = contact_rank_correlation(
            np.ones((4, 3, 3)), np.zeros((4, 3, 3), dtype=bool), cluster=[0, 0, 1, 1]
        )
        assert np.isnan(result["contact_rank_correlation"])

    def test_bad_input_is_named(self):
        attention, touching, cluster = self.make(0)
        with pytest.raises(InputError, match="contact: shape"):
            contact_rank_correlation(attention, touching[0], cluster=cluster)
        with pytest.raises(InputError, match="cluster: shape"):
            contact_rank_correlation(attention, touching, cluster=cluster[:3])
