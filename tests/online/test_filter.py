"""The online filter equals sums over every segmentation."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy import stats

from emergence_stats.noise.beliefs import JOINED_SLOPE_SD, LEVEL_SD, SLOPE_SD
from emergence_stats.online import filter as online_kernels
from emergence_stats.online import state as online_state

PLACE = np.array([0.0, 0.05, 0.2, 0.3, 0.5, 0.6, 0.75])


def correlation(size, rho):
    return rho ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))


def segment_density(y, x, variance, rho, linear):
    """A segment's density by its dense covariance matrix."""
    cov = variance / (1.0 - rho**2) * correlation(y.size, rho) + LEVEL_SD**2
    if linear and y.size > 1:
        u = (x - x[0]) / (x[1] - x[0])
        cov = cov + SLOPE_SD**2 * np.outer(u, u)
    return stats.multivariate_normal.pdf(y, cov=cov)


def joined_density(y, place, change, variance, rho):
    """No change, or a line that starts at the point before the change, under noise that goes on."""
    cov = variance / (1.0 - rho**2) * correlation(y.size, rho) + LEVEL_SD**2
    if change is not None:
        u = np.maximum(place - place[change - 1], 0.0) / (place[change] - place[change - 1])
        cov = cov + JOINED_SLOPE_SD**2 * np.outer(u, u)
    return stats.multivariate_normal.pdf(y, cov=cov)


def hazards(setting):
    width = np.diff(PLACE)
    first = setting.onset_probability * width / (1.0 - setting.onset_probability * PLACE[:-1])
    return first, -np.expm1(-setting.further_changes * width)


def every_segmentation(y, setting, linear):
    """Probability that a change lasted `min_points`, summed over all segmentations and nodes."""
    n, least = y.size, setting.min_points
    first, further = hazards(setting)
    begun = total = 0.0
    for variance, rho, log_prior in zip(
        setting.variance, setting.rho, setting.log_prior, strict=True
    ):
        for number in range(n):
            for starts in combinations(range(1, n), number):
                edges = [0, *starts, n]
                lengths = np.diff(edges)
                if (lengths[:-1] < least).any():
                    continue
                density = np.exp(log_prior)
                begins = 0
                for i in range(1, n):
                    changed = begins > 0
                    rate = (further if changed else first)[i - 1]
                    if i in starts:
                        density *= rate
                        begins = i
                    elif i - begins >= least:
                        density *= 1.0 - rate
                for low, high in pairwise(edges):
                    density *= segment_density(y[low:high], PLACE[low:high], variance, rho, linear)
                total += density
                if number > 1 or (number == 1 and lengths[-1] >= least):
                    begun += density
    return begun / total


def small_grid(setting, chosen):
    return setting._replace(
        variance=setting.variance[chosen],
        rho=setting.rho[chosen],
        log_prior=setting.log_prior[chosen],
    )


@pytest.mark.parametrize("model", [online_state.CONSTANT, online_state.LINEAR])
@pytest.mark.parametrize("min_points", [1, 2])
def test_the_filter_sums_over_every_segmentation(model, min_points):
    setting = online_state.settings(correlated=True, model=model, min_points=min_points)
    setting = small_grid(setting, [52, 68, 84])
    generator = np.random.default_rng(3)
    for jump in (0.0, 0.15):
        y = jump * (PLACE > 0.4) + 0.05 * generator.normal(size=PLACE.size) - 0.2
        state = online_state.init(1, 12, setting)
        for n in range(1, PLACE.size + 1):
            at = float(PLACE[n - 1])
            state, found = online_kernels.step(state, setting, y[n - 1 : n], at, at)
            exact = every_segmentation(y[:n], setting, model == online_state.LINEAR)
            # The state is kept in single precision.
            assert found[0, 0] == pytest.approx(exact, rel=2e-4, abs=1e-6)


def test_one_change_into_a_line_that_meets_is_summed_exactly():
    setting = online_state.settings(correlated=True, model=online_state.JOINED, further_changes=0.0)
    setting = small_grid(setting, [52, 68, 84])
    first, _ = hazards(setting)
    y = 0.1 * np.maximum(PLACE - 0.3, 0.0) / 0.2
    y += 0.03 * np.random.default_rng(1).normal(size=PLACE.size)
    state = online_state.init(1, 12, setting)
    for at, value in zip(PLACE, y, strict=True):
        state, found = online_kernels.step(state, setting, np.array([value]), float(at), float(at))
    weight = {}
    n = y.size
    for change in [None, *range(2, n)]:
        prior = 1.0
        for i in range(2, n):
            if change is None or i < change:
                prior *= 1.0 - first[i - 1]
            elif i == change:
                prior *= first[i - 1]
        weight[change] = prior * sum(
            np.exp(p) * joined_density(y, PLACE, change, v, r)
            for v, r, p in zip(setting.variance, setting.rho, setting.log_prior, strict=True)
        )
    total = sum(weight.values())
    lasted = sum(w for c, w in weight.items() if c is not None and n - c >= 2)
    assert found[0, 0] == pytest.approx(lasted / total, rel=2e-4)
    middles = {c: 0.5 * (PLACE[c] + PLACE[c - 1]) for c in range(2, n)}
    mean = sum(weight[c] * middles[c] for c in middles) / (total - weight[None])
    assert found[0, 1] == pytest.approx(mean, rel=2e-4)
