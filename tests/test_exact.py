"""Closed-form learning coefficients against integrals, each other, and what must hold of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emergence_stats.errors import InputError
from emergence_stats.theory.exact import (
    deep_linear_network,
    normal_crossing,
    reduced_rank_regression,
)

WIDTH = st.integers(1, 40)


def coefficient_and_multiplicity(
    excess: Callable[[float], float], *, near: float = 1e10, far: float = 1e14
) -> tuple[float, float]:
    """Read lambda and m off n E[K] at three n.

    n E[K] = d(-log Z) / d log n = lambda - (m - 1) / (log n + c) + terms of a power of n. With
    m = 1 it is constant; otherwise three values give the three unknowns.
    """
    logs = np.log([near, np.sqrt(near * far), far])
    first, second, third = (excess(float(np.exp(value))) for value in logs)
    if abs(third - first) < 2e-4:
        return third, 1.0
    # f = lambda - p / (t + c) on equally spaced t: the ratio of differences gives t + c.
    ratio = (second - first) / (third - second)
    span = logs[1] - logs[0]
    shifted = 2.0 * span / (ratio - 1.0)  # t_0 + c
    p = (second - first) * shifted * (shifted + span) / span
    return third + p / (shifted + 2.0 * span), 1.0 + p


# Unequal exponents leave a remainder n^-|1/a - 1/b|; pairs are taken for which it is below 0.5% at
# the largest n, 1e14.
PAIRS = [
    (a, b)
    for a, b in itertools.product([1, 2, 3, 4], [0, 1, 2, 3, 4, 6])
    if b == 0 or a == b or abs(1 / a - 1 / b) > 0.165
]


@pytest.mark.parametrize("exponents", PAIRS)
def test_normal_crossing_is_the_volume_scaling_of_its_integral(exponents: tuple[int, int]) -> None:
    a, b = exponents
    # Over the unit square with w = exp(-u); the integrand is smooth in u, so a fine grid is exact
    # to far beyond the tolerance.
    u = np.linspace(0.0, 60.0, 1601)
    weight = np.exp(-u)
    weight[0] *= 0.5
    log_loss = -(a * u[:, None] + b * u[None, :])
    prior = weight[:, None] * weight[None, :]

    def excess(n: float) -> float:
        scaled = np.exp(np.log(n) + log_loss)
        density = prior * np.exp(-np.minimum(scaled, 700.0))
        return float((density * scaled).sum() / density.sum())

    coefficient, multiplicity = normal_crossing(exponents)
    found, found_multiplicity = coefficient_and_multiplicity(excess)
    assert found == pytest.approx(coefficient, rel=0.02)
    assert round(found_multiplicity) == multiplicity


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("outputs", [1, 2, 3, 5])
def test_reduced_rank_regression_is_the_volume_scaling_of_its_integral(
    inputs: int, hidden: int, outputs: int
) -> None:
    # K = |B A|^2 with standard normal A, B. Over B the integral is closed,
    # det(1 + 2n A A^T)^(-N/2); over A it runs over the eigenvalues x of a Wishart matrix.
    few, many = sorted((inputs, hidden))
    u = np.linspace(-50.0, 5.0, 1101)
    x = np.exp(u)
    log_density = 0.5 * (many - few - 1) * u - 0.5 * x + u  # the last u is the Jacobian

    def excess(n: float) -> float:
        each = 2.0 * n * x / (1.0 + 2.0 * n * x)
        log_integrand = log_density - 0.5 * outputs * np.log1p(2.0 * n * x)
        if few == 1:
            mass = np.exp(log_integrand - log_integrand.max())
            return float(0.5 * outputs * (mass * each).sum() / mass.sum())
        mass = np.exp(log_integrand[:, None] + log_integrand[None, :] - 2 * log_integrand.max())
        mass *= np.abs(x[:, None] - x[None, :])
        both = each[:, None] + each[None, :]
        return float(0.5 * outputs * (mass * both).sum() / mass.sum())

    found, found_multiplicity = coefficient_and_multiplicity(excess)
    coefficient, multiplicity = reduced_rank_regression(inputs, hidden, outputs, 0)
    assert found == pytest.approx(coefficient, rel=0.02)
    assert round(found_multiplicity) == multiplicity


def test_every_small_reduced_rank_regression_is_a_deep_linear_network() -> None:
    cases = 0
    for widths in itertools.product(range(1, 8), repeat=3):
        for rank in range(min(widths) + 1):
            assert reduced_rank_regression(*widths, rank) == deep_linear_network(widths, rank)
            cases += 1
    assert cases > 1000


def test_published_values() -> None:
    assert deep_linear_network([5, 3, 5], 0)[0] == 6.5
    assert reduced_rank_regression(5, 3, 5, 0)[0] == 6.5
    assert deep_linear_network([10, 10, 10], 5)[0] == 47.0


@given(st.integers(1, 8))
def test_a_chain_of_scalars_is_a_normal_crossing(depth: int) -> None:
    # (w_1 w_2 ... w_L)^2
    assert deep_linear_network([1] * (depth + 1), 0) == normal_crossing([2] * depth)


@given(WIDTH, WIDTH)
def test_through_one_hidden_unit_the_two_radii_cross(inputs: int, outputs: int) -> None:
    # |b|^2 |a|^2 with radial densities r^(d-1): poles at M/2 and N/2.
    expected = (min(inputs, outputs) / 2, 2 if inputs == outputs else 1)
    assert deep_linear_network([inputs, 1, outputs], 0) == expected


@pytest.mark.parametrize("layers", [2, 3, 5, 9])
def test_a_product_of_numbers_is_a_normal_crossing(layers: int) -> None:
    # (w_1 ... w_L)^2: coefficient 1/2, one pole a factor.
    assert deep_linear_network([1] * (layers + 1), 0) == normal_crossing([2] * layers)


@given(st.lists(WIDTH, min_size=2, max_size=8), st.data())
def test_what_must_hold_of_a_deep_linear_network(widths: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, min(widths)))
    coefficient, multiplicity = deep_linear_network(widths, rank)
    parameters = sum(a * b for a, b in itertools.pairwise(widths))
    # Never more than a regular model of the same parameters or of the same map, and never less
    # than what it takes to fix a map of that rank.
    assert coefficient <= parameters / 2
    assert coefficient <= widths[0] * widths[-1] / 2
    assert coefficient >= (rank * (widths[0] + widths[-1]) - rank**2) / 2
    # The order of a pole is at most the number of parameters, not of layers: at [2, 2, 2, 2, 2] and
    # rank 0 it is 5.
    assert 1 <= multiplicity <= parameters
    assert deep_linear_network(widths[::-1], rank) == (coefficient, multiplicity)
    inner = data.draw(st.permutations(widths[1:-1]))
    assert deep_linear_network([widths[0], *inner, widths[-1]], rank) == (coefficient, multiplicity)
    if rank == min(widths):
        assert multiplicity == 1
    # One more layer can only make it more degenerate.
    deeper = deep_linear_network([*widths[:-1], data.draw(WIDTH) + rank, widths[-1]], rank)
    assert deeper[0] <= coefficient


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 5))
def test_normal_crossing_scales_and_permutes(exponents: list[int], factor: int) -> None:
    coefficient, multiplicity = normal_crossing(exponents)
    assert normal_crossing(sorted(exponents)) == (coefficient, multiplicity)
    scaled = normal_crossing([factor * value for value in exponents])
    assert scaled == (pytest.approx(coefficient / factor), multiplicity)
    assert normal_crossing([*exponents, 0]) == (coefficient, multiplicity)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normal_crossing([]), "positive number"),
        (lambda: normal_crossing([0, 0]), "positive number"),
        (lambda: normal_crossing([2, -1]), "got -1"),
        (lambda: normal_crossing([float("nan")]), "got nan"),
        (lambda: deep_linear_network([3], 0), "input and an output"),
        (lambda: deep_linear_network([3, 0, 2], 0), "got 0"),
        (lambda: deep_linear_network([3, 2.5], 0), "got 2.5"),
        (lambda: deep_linear_network([3, 2, 4], 3), "smallest width 2, got 3"),
        (lambda: reduced_rank_regression(3, 2, 4, -1), "got -1"),
        (lambda: reduced_rank_regression(3, True, 4, 0), "got True"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
