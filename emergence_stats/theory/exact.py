"""Learning coefficients that are known in closed form.

What lives here: normal crossings, reduced rank regression and deep linear networks, and what a
normal crossing gives at finite n. What does not: estimates (`emergence_stats.degeneracy`).
Coefficients come as the learning coefficient lambda and its multiplicity m, which together give the
free energy at large n:

    F_n  =  n L_n(w*) + lambda log n - (m - 1) log log n + O(1)

Of all points with the lowest loss, lambda is the smallest value that a local coefficient takes: it
belongs to the deepest singularity. At a smooth point of the set of minima the local value is half
the codimension, which is at least as large (`smooth_point`).
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


def smooth_point(
    widths: Sequence[int], rank: int, *, layer: int | None = None
) -> tuple[float, int]:
    """What is the local coefficient of a deep linear network with one rank-deficient layer?

    One layer has rank r and the others full rank, all in general position otherwise. There the set
    of minima is a manifold, the Hessian vanishes along it only, and the coefficient is half its
    codimension. With layer p deficient, ``m = min(H_0, ..., H_{p-1})`` and
    ``k = min(H_p, ..., H_L)``,

        codimension = r (H_0 + H_L) - r^2 + (m - r) (k - r)

    Parameters
    ----------
    widths : sequence of int
        H_0, ..., H_L: input, hidden layers, output; at least two. Three make reduced rank
        regression.
    rank : int
        r, the rank of the true map, from 0 to the smallest width.
    layer : int, optional
        p, from 1 (reads the input) to L; the one with the smallest value when left out.

    Returns
    -------
    tuple of (float, int)
        Half the codimension, and multiplicity 1.

    Raises
    ------
    InputError
        If a width is not a positive whole number, the rank cannot be attained, or there is no such
        layer.

    Notes
    -----
    The set of minima has several sheets of different dimension, by how the loss of rank is shared
    among the layers, and a network with one deficient layer lies on one of them. Where the loss of
    rank is shared as evenly as can be, the sheet is largest, and half *its* codimension is the
    value of `deep_linear_network`: there smooth points and the deepest singularity, where all
    sheets meet, differ in multiplicity only.

    Derivation: near such a point the products A of the layers above p and B of those below keep
    their ranks k and m. For given A and B, ``A W_p B = T`` is k m conditions on W_p; that A and B
    reach the range and the row space of T is r (H_L - k) and r (H_0 - m) more.

    Examples
    --------
    >>> smooth_point([10, 10, 10], 5), deep_linear_network([10, 10, 10], 5)
    ((50.0, 1), (47.0, 2))
    >>> smooth_point([4, 3], 2)      # a single layer is regular: 12 parameters
    (6.0, 1)
    """
    sizes = _widths(widths)
    if len(sizes) < 2:
        raise InputError(f"widths must name at least an input and an output, got {list(widths)}")
    r = _rank(rank, sizes)
    depth = len(sizes) - 1
    if layer is None:
        layers = range(1, depth + 1)
    elif isinstance(layer, bool) or not isinstance(layer, Integral) or not 1 <= layer <= depth:
        raise InputError(f"layer must be a whole number from 1 to {depth}, got {layer!r}")
    else:
        layers = range(int(layer), int(layer) + 1)
    extra = min((min(sizes[:p]) - r) * (min(sizes[p:]) - r) for p in layers)
    return (r * (sizes[0] + sizes[-1]) - r * r + extra) / 2.0, 1


def normal_crossing_expectation(exponents: Sequence[float], scale: float) -> float:
    """What does an exact estimate give for ``L = |w_1|^k_1 |w_2|^k_2 ...`` at finite n*beta?

        scale * E[L],   w with density proportional to exp(-scale * L) on the box [-1, 1]^d

    It tends to the learning coefficient lambda as the scale n*beta grows, but with a multiplicity m
    above 1 only as ``lambda - (m - 1) / (log scale + constant)``: an estimate at any n should be
    held against this number.

    Parameters
    ----------
    exponents : sequence of float
        The powers k_i of the loss, as in `normal_crossing`.
    scale : float
        n*beta, above zero.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If an exponent is negative, none is positive, or the scale is not a positive number.

    Notes
    -----
    Each -log|w_i| is exponentially distributed, so -log L is a sum of exponential variables with
    means k_i, whose density (of phase type, by the exponential of a small matrix, also for equal
    exponents) is integrated by Gauss-Legendre panels.

    Examples
    --------
    >>> round(normal_crossing_expectation([2], 1e8), 4)           # m = 1: lambda is reached
    0.5
    >>> round(normal_crossing_expectation([2, 2], 1e8), 4)        # m = 2: still far from 0.5
    0.4509
    """
    import numpy as np
    from scipy.linalg import expm

    normal_crossing(exponents)  # says what is wrong with them
    if (
        isinstance(scale, bool)
        or not isinstance(scale, Real)
        or not 0 < float(scale) < float("inf")
    ):
        raise InputError(f"scale must be a finite number above zero, got {scale!r}")
    means = np.array([float(value) for value in exponents if value > 0])
    # From state i to state i + 1 at rate 1 / k_i; the density of the time at which the last ends.
    rates = 1.0 / means
    generator = np.diag(-rates) + np.diag(rates[:-1], 1)
    log_scale = float(np.log(float(scale)))
    # Beyond log(scale) the density alone decides, and falls as exp(-t / largest k).
    end = max(log_scale, 0.0) + 45.0 * means.max() + 10.0 * means.sum()
    panels = int(np.ceil(end / min(1.0, means.min())))
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(0.0, end, panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    # exp(G (edge + x)) = exp(G edge) exp(G x): one step a panel and one matrix a node.
    onward = expm(generator * (2.0 * half))
    at_edge = np.zeros((panels, len(means)))  # (panel, state): probabilities, so no cancellation
    at_edge[0, 0] = 1.0
    for panel in range(1, panels):
        at_edge[panel] = at_edge[panel - 1] @ onward
    inside = np.stack([expm(generator * (half * (node + 1.0)))[:, -1] for node in nodes], axis=1)
    density = rates[-1] * at_edge @ inside  # (panel, node)
    times = edges[:-1, None] + half * (nodes + 1.0)
    scaled = np.exp(log_scale - times)
    mass = density * np.exp(-scaled) * weights
    return float((mass * scaled).sum() / mass.sum())


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
