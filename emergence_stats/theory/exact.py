"""Learning coefficients that are known in closed form.

What lives here: normal crossings, reduced rank regression and deep linear networks. What does not:
estimates (`emergence_stats.degeneracy`). Every function returns the learning coefficient lambda and
its multiplicity m, which together give the free energy at large n:

    F_n  =  n L_n(w*) + lambda log n - (m - 1) log log n + O(1)

Of all points with the lowest loss, lambda is the smallest value that a local coefficient takes: it
belongs to the deepest singularity. At a smooth point of the set of minima the local value is half
the codimension, which is at least as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

from emergence_stats.errors import InputError


def normal_crossing(exponents: Sequence[float]) -> tuple[float, int]:
    """What is the learning coefficient of a loss ``|w_1|^k_1 * |w_2|^k_2 * ...`` at the origin?

    ``lambda = min_i 1 / k_i`` over positive exponents; the multiplicity is how many attain it.

    Parameters
    ----------
    exponents : sequence of float
        The powers k_i *of the loss*, zero or more and not all zero. A model whose output is
        ``w_1^a w_2^b``, fitted by least squares to zero, has the loss ``w_1^(2a) w_2^(2b)``.

    Returns
    -------
    tuple of (float, int)
        Learning coefficient and multiplicity.

    Raises
    ------
    InputError
        If an exponent is negative or none is positive.

    References
    ----------
    Watanabe (2009), Algebraic Geometry and Statistical Learning Theory, section 2.3.

    Examples
    --------
    >>> normal_crossing([2])        # a quadratic minimum: one half for each parameter
    (0.5, 1)
    >>> normal_crossing([2, 2])     # (w_1 w_2)^2
    (0.5, 2)
    >>> normal_crossing([2, 4])
    (0.25, 1)
    """
    values = list(exponents)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < float("inf"):
            raise InputError(f"exponents must be finite numbers of zero or more, got {value!r}")
    largest = max(values, default=0)
    if largest <= 0:
        raise InputError(f"exponents must hold a positive number, got {values}")
    return 1.0 / float(largest), values.count(largest)


def reduced_rank_regression(
    input_width: int, hidden_width: int, output_width: int, rank: int
) -> tuple[float, int]:
    """What is the learning coefficient of ``y = B A x`` when the true map has the given rank?

    With M inputs, H hidden units, N outputs and true rank r, four cases:

    1. N + r <= M + H, M + r <= N + H and H + r <= M + N:
       ``(2(H+r)(M+N) - (M-N)^2 - (H+r)^2) / 8`` if M+H+N+r is even (multiplicity 1),
       the numerator one larger if it is odd (multiplicity 2);
    2. M + H < N + r: ``(HM - Hr + Nr) / 2``;
    3. N + H < M + r: ``(HN - Hr + Mr) / 2``;
    4. M + N < H + r: ``MN / 2``, the regular value of the product map.

    Parameters
    ----------
    input_width, hidden_width, output_width : int
        M, H and N, at least 1.
    rank : int
        r, from 0 to the smallest width.

    Returns
    -------
    tuple of (float, int)
        Learning coefficient and multiplicity.

    Raises
    ------
    InputError
        If a width is not a positive whole number, or the rank cannot be attained.

    References
    ----------
    Aoyagi and Watanabe (2005), Stochastic complexities of reduced rank regression in Bayesian
    estimation, Neural Networks 18, 924-933.

    Examples
    --------
    >>> reduced_rank_regression(5, 3, 5, 0)
    (6.5, 2)
    >>> reduced_rank_regression(2, 6, 3, 1)     # wide enough for the product to be regular
    (3.0, 1)
    """
    m, h, n = _widths((input_width, hidden_width, output_width))
    r = _rank(rank, (m, h, n))
    if m + h < n + r:
        return (h * m - h * r + n * r) / 2.0, 1
    if n + h < m + r:
        return (h * n - h * r + m * r) / 2.0, 1
    if m + n < h + r:
        return m * n / 2.0, 1
    numerator = 2 * (h + r) * (m + n) - (m - n) ** 2 - (h + r) ** 2
    odd = (m + h + n + r) % 2
    return (numerator + odd) / 8.0, 1 + odd


def deep_linear_network(widths: Sequence[int], rank: int) -> tuple[float, int]:
    """What is the learning coefficient of ``y = W_L ... W_1 x`` at the deepest singularity?

    With excess widths M_s = H_s - r and the set Sigma of l + 1 layers for which
    ``max_Sigma M < min_outside M``, ``sum_Sigma M >= l max_Sigma M`` and
    ``sum_Sigma M < l min_outside M``, let ``M = ceil(sum / l)`` and ``a = sum - (M - 1) l``:

        lambda = (r (H_0 + H_L) - r^2) / 2 + a (l - a) / (4 l)
                 - (l (l - 1) / 4) (sum / l)^2 + (1/2) sum_{i < j in Sigma} M_i M_j
        m      = a (l - a) + 1

    Parameters
    ----------
    widths : sequence of int
        H_0, ..., H_L: input, hidden layers, output; at least two.
    rank : int
        r, the rank of the true map, from 0 to the smallest width.

    Returns
    -------
    tuple of (float, int)
        Learning coefficient and multiplicity.

    Raises
    ------
    InputError
        If there are fewer than two widths, one is not positive, or the rank cannot be attained.

    References
    ----------
    Aoyagi (2024), Consideration on the learning efficiency of multiple-layered neural networks with
    linear units, Neural Networks 172, 106132.

    Notes
    -----
    The layers are sorted once, so the cost is that of a sort.

    Examples
    --------
    >>> deep_linear_network([5, 3, 5], 0)
    (6.5, 2)
    >>> deep_linear_network([4, 3], 2)      # a single layer is regular: 12 parameters
    (6.0, 1)
    """
    sizes = _widths(widths)
    if len(sizes) < 2:
        raise InputError(f"widths must name at least an input and an output, got {list(widths)}")
    r = _rank(rank, sizes)
    excess = sorted(size - r for size in sizes)
    regular = (r * (sizes[0] + sizes[-1]) - r * r) / 2.0
    for count in range(2, len(excess) + 1):
        inside, outside = excess[:count], excess[count:]
        depth, total = count - 1, sum(inside)
        narrowest_outside = outside[0] if outside else float("inf")
        if (
            inside[-1] < narrowest_outside
            and total >= depth * inside[-1]
            and total < depth * narrowest_outside
        ):
            break
    else:
        raise AssertionError(f"no set of layers satisfies the conditions for {sizes}, rank {r}")
    ceiling = -(-total // depth)
    a = total - (ceiling - 1) * depth
    pairs = (total * total - sum(value * value for value in inside)) // 2
    # One fraction of whole numbers, correctly rounded however wide the layers.
    singular = (a * (depth - a) - (depth - 1) * total * total + 2 * depth * pairs) / (4 * depth)
    return regular + singular, a * (depth - a) + 1


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    values = tuple(widths)
    for width in values:
        if isinstance(width, bool) or not isinstance(width, Integral) or width < 1:
            raise InputError(f"widths must be whole numbers of at least 1, got {width!r}")
    return tuple(int(width) for width in values)


def _rank(rank: int, widths: Sequence[int]) -> int:
    if isinstance(rank, bool) or not isinstance(rank, Integral) or not 0 <= rank <= min(widths):
        raise InputError(
            f"rank must be a whole number from 0 to the smallest width {min(widths)}, got {rank!r}"
        )
    return int(rank)
