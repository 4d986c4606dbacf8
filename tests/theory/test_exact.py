"""Closed-form learning coefficients against integrals, each other, and what must hold of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson
from scipy.special import gammainc

from emergence_stats.errors import InputError
from emergence_stats.theory.exact import (
    deep_linear_network,
    normal_crossing,
    normal_crossing_expectation,
    reduced_rank_regression,
    smooth_point,
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


# ------------------------------------------- wide networks: divisibility in place of volume


def share_divisible(widths: list[int], top: int, prime: int = 2) -> np.ndarray:
    """P(p^k divides W_L ... W_1) for k = 0, ..., top, the layers uniform over the p-adic integers.

    For p-adic numbers the volume {|f| <= epsilon} is the share with f = 0 mod p^k, and that can be
    computed exactly. With widths[0] = 2 the product is, up to a change of bases, two columns
    (p^i, 0, ...) and (0, p^j, ...), and stays so: multiplied by a uniform matrix with columns x and
    y, where x = p^a (1, 0, ...) without loss of generality and y = (first, rest),

        new i = min(i + a, j + min(v(first), v(rest))),    new i + new j = i + j + a + v(rest)

    where v(.), the power of p in it, is geometric. One resolution of singularities serves real and
    p-adic numbers (Igusa's zeta function), so the share falls as k^(m-1) p^(-2 lambda k): lambda is
    that of |f|^2, and the 2 turns it to |f|.
    """
    q, rows = 1.0 / prime, np.arange(top + 1)  # powers of `top` and more count as that

    def geometric(ratio: float) -> np.ndarray:
        weight = (1.0 - ratio) * ratio ** rows.astype(float)
        weight[-1] = ratio**top
        return weight

    assert widths[0] == 2
    state = np.zeros((top + 1, top + 1))  # (i, j)
    state[0, 0] = 1.0
    for height in widths[1:]:
        column, first = geometric(q**height), geometric(q)
        rest = geometric(q ** (height - 1)) if height > 1 else np.eye(top + 1)[top]
        i, j = np.nonzero(state)
        new = np.zeros(state.size)
        for c in np.flatnonzero(rest):
            b = np.arange(c + 1)  # min(v(first), c), and its probability
            weight = rest[c] * np.where(b < c, first[b], q**c)
            for a in rows:
                low = np.minimum(np.minimum((i + a)[:, None], j[:, None] + b), top)
                high = np.minimum((i + j + a + c)[:, None] - low, top)
                mass = state[i, j][:, None] * (column[a] * weight)
                place = low * (top + 1) + high
                new += np.bincount(place.ravel(), mass.ravel(), state.size)
        state = new.reshape(state.shape)
    return state.sum(axis=1)[::-1].cumsum()[::-1]


@pytest.mark.parametrize(
    "widths",
    [
        [2, 1, 3], [2, 2, 2], [2, 3, 2],  # where coefficient and multiplicity are proven
        [2, 2, 2, 2], [2, 2, 2, 2, 2], [2, 3, 2, 2, 3], [2, 1, 2, 1, 1, 4], [2, 2, 3, 2, 2, 2],
        [2, 4, 3, 5, 3], [2, 2, 2, 2, 2, 2],
    ],
)  # fmt: skip
def test_multiplicity_of_wide_networks_is_the_growth_of_divisible_products(
    widths: list[int],
) -> None:
    coefficient, multiplicity = deep_linear_network(widths, 0)
    k = np.arange(25)
    growth = share_divisible(widths, 24) * 2.0 ** (2.0 * coefficient * k)
    # A polynomial of degree m - 1 in k, with terms of period 2, and what vanishes exponentially.
    for _ in range(multiplicity - 1):
        growth = growth[2:] - growth[:-2]
    assert growth[-1] > 0
    assert abs(growth[-1] - growth[-3]) < 0.01 * growth[-1]


# ---------------------------------------------------------------- smooth points and their sheets


def codimension_of_largest_sheet(widths: tuple[int, ...]) -> int:
    """The least codimension among sets of layers of one type whose product is zero.

    Layers as a representation of the quiver 0 -> 1 -> ... -> L are sums of intervals [a, b], on
    which they act as one and outside as zero (Gabriel 1972). The product vanishes where no interval
    is [0, L]; the codimension of the orbit is dim End - <d, d>, with one map from [a, b] to [c, d]
    where c <= a <= d <= b.
    """
    top = len(widths) - 1
    intervals = [(a, b) for a in range(top + 1) for b in range(a, top + 1) if b - a < top]

    def maps(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return other[0] <= one[0] <= other[1] <= one[1]

    form = sum(d * d for d in widths) - sum(a * b for a, b in itertools.pairwise(widths))
    best = [10**9]

    def fill(start: int, left: tuple[int, ...], chosen: list[tuple[int, int]]) -> None:
        if not any(left):
            endomorphisms = sum(maps(x, y) for x in chosen for y in chosen)
            best[0] = min(best[0], endomorphisms - form)
            return
        first = next(s for s, d in enumerate(left) if d)
        for n in range(start, len(intervals)):
            a, b = intervals[n]
            # Intervals come in order of their start, so the first gap must be filled now.
            if a == first and all(left[s] for s in range(a, b + 1)):
                rest = tuple(d - (a <= s <= b) for s, d in enumerate(left))
                fill(n, rest, [*chosen, (a, b)])

    fill(0, widths, [])
    return best[0]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_deepest_value_is_half_the_codimension_of_the_largest_sheet(layers: int) -> None:
    widest = {1: 4, 2: 4, 3: 3, 4: 2}[layers]
    for widths in itertools.product(range(1, widest + 1), repeat=layers + 1):
        assert deep_linear_network(widths, 0)[0] == codimension_of_largest_sheet(widths) / 2


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.data())
def test_the_codimension_at_a_smooth_point_is_the_rank_of_the_products_jacobian(
    widths: list[int], data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, min(widths)))
    layer = data.draw(st.integers(1, len(widths) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    layers = [rng.normal(size=(above, below)) for below, above in itertools.pairwise(widths)]
    below, above = widths[layer - 1], widths[layer]
    layers[layer - 1] = rng.normal(size=(above, rank)) @ rng.normal(size=(rank, below))
    blocks = []
    for s in range(len(layers)):
        after = np.eye(widths[s + 1])
        for matrix in layers[s + 1 :]:
            after = matrix @ after
        before = np.eye(widths[0])
        for matrix in layers[:s]:
            before = matrix @ before
        blocks.append(np.kron(after, before.T))
    singular = np.linalg.svd(np.concatenate(blocks, axis=1), compute_uv=False)
    coefficient, multiplicity = smooth_point(widths, rank, layer=layer)
    assert coefficient == (singular > 1e-9 * singular.max(initial=1e-300)).sum() / 2
    assert multiplicity == 1
    assert coefficient >= smooth_point(widths, rank)[0] >= deep_linear_network(widths, rank)[0]
    assert smooth_point(widths[::-1], rank, layer=len(widths) - layer) == (coefficient, 1)


def test_smooth_points_where_the_set_of_minima_is_known() -> None:
    assert smooth_point([10, 10, 10], 5) == (50.0, 1)
    assert smooth_point([2, 1, 3], 0, layer=1) == (1.0, 1)  # the column vanishes
    assert smooth_point([2, 1, 3], 0, layer=2) == (1.5, 1)  # the row vanishes
    assert smooth_point([5, 5], 3) == (12.5, 1)


# ------------------------------------------------------------------------------ finite n


@pytest.mark.parametrize("scale", [0.3, 50.0, 1e5])
@pytest.mark.parametrize("exponents", [(1, 0), (2, 0), (2, 2), (2, 4), (3, 1), (2.5, 2.4999)])
def test_normal_crossing_expectation_is_its_integral(
    exponents: tuple[float, float], scale: float
) -> None:
    # Over w_1 the integrals are incomplete gamma functions; over w_2 a fine grid in its logarithm.
    a, b = exponents
    u, step = np.linspace(0.0, 45.0, 90_001, retstep=True)
    x = scale * np.exp(-b * u)  # the scale that is left for w_1
    mass = np.exp(-u) * gammainc(1 / a, x) * x ** (-1 / a)
    value = mass * gammainc(1 + 1 / a, x) / gammainc(1 / a, x) / a
    expected = simpson(value, dx=step) / simpson(mass, dx=step)
    assert normal_crossing_expectation(exponents, scale) == pytest.approx(expected, rel=1e-7)


@settings(deadline=None, max_examples=30)  # the first call imports SciPy
@given(st.lists(st.floats(0.5, 6.0), min_size=1, max_size=4), st.floats(-2.0, 12.0))
def test_normal_crossing_expectation_permutes_and_stays_below_its_limit(
    exponents: list[float], log10_scale: float
) -> None:
    scale = 10.0**log10_scale
    value = normal_crossing_expectation(exponents, scale)
    assert normal_crossing_expectation([*exponents[::-1], 0], scale) == pytest.approx(value)
    # Each variable integrated alone is below its 1 / k; the rest can only average that.
    assert 0.0 < value < normal_crossing(exponents)[0] + 1e-12


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
        (lambda: smooth_point([3], 0), "input and an output"),
        (lambda: smooth_point([3, 2], 0, layer=2), "layer must be .* from 1 to 1, got 2"),
        (lambda: smooth_point([3, 2], 3), "smallest width 2, got 3"),
        (lambda: normal_crossing_expectation([2, -1], 10.0), "got -1"),
        (lambda: normal_crossing_expectation([2], 0.0), "scale must be .* got 0.0"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
