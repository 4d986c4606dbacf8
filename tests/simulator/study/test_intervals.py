"""Intervals of the study against the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simulator.study.intervals import mean_over_runs, share, verdict


class TestIntervals:
    def test_mean_is_students(self):
        values = [0.2, 1.1, 0.7, np.nan, 2.0]
        found = mean_over_runs(values)
        finite = np.array(values)[np.isfinite(values)]
        error = finite.std(ddof=1) / 2.0
        expected = stats.t.interval(0.89, 3, loc=finite.mean(), scale=error)
        np.testing.assert_allclose([found["lower"], found["upper"]], expected)
        against_zero = stats.ttest_1samp(finite, 0.0, alternative="greater").pvalue
        assert found["probability_positive"] == pytest.approx(1.0 - against_zero)

    @pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
    def test_nothing_is_claimed_where_nothing_varies(self, values):
        found = mean_over_runs(values)
        assert np.isnan(found["lower"])
        assert np.isnan(found["probability_positive"])

    def test_a_share_covers_as_often_as_it_says(self):
        # Exactly, over all outcomes, averaged over the prior under which it is a posterior.
        number = 7
        places = stats.beta(0.5, 0.5).ppf((np.arange(4000) + 0.5) / 4000)
        ends = [share(k, number) for k in range(number + 1)]
        covered = sum(
            stats.binom.pmf(k, number, places) * ((places >= e["lower"]) & (places <= e["upper"]))
            for k, e in enumerate(ends)
        ).mean()
        # Opening the ends at none and at all adds the tails there: never less, at most 0.11 more.
        assert 0.89 <= covered <= 1.0

    def test_words(self):
        words = [verdict(p) for p in (0.95, 0.5, 0.02, float("nan"))]
        assert words == ["supported", "undecided", "contradicted", "undecided"]
