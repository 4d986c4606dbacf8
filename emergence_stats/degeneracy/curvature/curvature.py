"""The Hessian's spectrum at a checkpoint, from Hessian-vector products alone.

What lives here: `curvature`, and products by double backward. What does not: the Lanczos runs and
the trace that are made of products (`spectral`), the loss as a function of a flat vector
(`landscape`) and pictures (`plots`).

Why these few lines rather than a library: curvlinops (3.0.1) takes the model and a loss of outputs
and targets apart, where this package's `loss_fn(model, batch)` may be anything, and asks for
torchvision, BackPACK and others; and the quadrature needs the Lanczos coefficients themselves,
which SciPy's eigensolvers keep to themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from emergence_stats.degeneracy.curvature.spectral import (
    hutch_plus_plus,
    lanczos,
    standard_error,
    weight_within,
)
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.landscape.objective import with_plain_kernels
from emergence_stats.degeneracy.settings import check_number
from emergence_stats.errors import InputError

Array = NDArray[np.float64]

_GRID = 512
_WIDTH = 0.01  # of the smoothed density, as a share of the spectrum's span


@with_plain_kernels
def curvature(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor] | None,
    data: Any,
    *,
    parts: Sequence[str] | None = None,
    num_probes: int = 8,
    num_lanczos: int = 64,
    null_threshold: float = 1e-4,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> xr.Dataset:
    """How curved is the loss at this checkpoint, and in how many directions is it flat?

    With the Hessian H of the mean loss over all samples and eigenvalues h_1, ..., h_d:

    - the spectral density ``phi(t) = (1/d) sum_i delta(t - h_i)`` by stochastic Lanczos quadrature
      (Ghorbani et al. 2019): for a random unit vector v, m Lanczos steps give nodes and weights
      with ``v' f(H) v = sum_j weight_j f(node_j)`` for every polynomial f of degree below 2m;
    - ``trace H`` by Hutch++ (Meyer et al. 2021): exact in a sketched subspace Q, random outside;
      from the same products ``|H|_F^2`` and the effective rank ``(trace H)^2 / |H|_F^2``, the
      number of equal eigenvalues with that trace and norm, meaningful where H is non-negative, as
      it is at a minimum;
    - the largest and smallest eigenvalue, with the Lanczos residual as a bound on the distance to
      an eigenvalue;
    - the dimension of the null space, the number of eigenvalues within `null_threshold` times the
      largest absolute eigenvalue of zero: for each probe the least and the greatest number that its
      Lanczos coefficients allow (`weight_within`), of which the middle is taken.

    Where all this would take more products than H has columns, H is computed whole and everything
    is exact.

    Parameters
    ----------
    model, loss_fn, data, parts, device
        As in `estimate_llc`; the model is copied, and in evaluation mode.
    num_probes : int
        Random vectors, at least 2: for the quadrature, and as many again in each of the two blocks
        of Hutch++. Standard errors fall with its square root.
    num_lanczos : int
        Steps from each, at least 2; more resolve the density more finely.
    null_threshold : float
        What counts as flat, as a share of the largest absolute eigenvalue. Rounding in single
        precision leaves a zero eigenvalue at about 1e-7 of it.
    seed : int
        The same seed gives the same result.

    Returns
    -------
    xarray.Dataset
        - `density(eigenvalue)` and `density_error`: phi smoothed with a Gaussian whose sd is the
          attribute `smoothing`, and its standard error;
        - `node(probe, lanczos)`, `weight(probe, lanczos)`: the quadrature (NaN and 0 where a run
          ended early because it had found all that its vector contains);
        - `trace`, `frobenius_norm`, `effective_rank` and each with `_error`, a standard error over
          probes;
        - `null_dimension` with `null_dimension_error`, which adds to the standard error half the
          range that the Lanczos steps leave open (in quadrature);
        - `largest_eigenvalue`, `smallest_eigenvalue` and each with `_error`, a residual bound.

        Attributes: `method` ("dense" or "stochastic"), `num_parameters`, `num_products`,
        `null_threshold`, `smoothing`, `seed`. `degeneracy.plots.plot_curvature`
        draws it.

    Raises
    ------
    InputError
        If an argument cannot be used, or the Hessian is not finite.

    References
    ----------
    Ghorbani, Krishnan and Xiao (2019), An investigation into neural net optimization via Hessian
    eigenvalue density, arXiv:1901.10159.
    Golub (1973), Some modified matrix eigenvalue problems, SIAM Review 15, 318-334.
    Meyer, Musco, Musco and Woodruff (2021), Hutch++: optimal stochastic trace estimation,
    arXiv:2010.09649.

    Notes
    -----
    ``num_probes * (num_lanczos + 3)`` Hessian-vector products over all samples, each about two
    gradients; memory for `num_lanczos` vectors of parameters beside one chunk's graph.

    Examples
    --------
    >>> inputs = torch.eye(4).repeat(5, 1) * torch.tensor([2.0, 1.0, 1.0, 0.0])
    >>> model = nn.Linear(4, 1, bias=False)
    >>> def loss(model, batch):
    ...     return 2.0 * model(batch[0]).square().mean()
    >>> found = curvature(model, loss, (inputs,))     # eigenvalues 4, 1, 1, 0
    >>> float(found["trace"]), float(found["effective_rank"]), float(found["null_dimension"])
    (6.0, 2.0, 1.0)
    """
    for name, count in {"num_probes": num_probes, "num_lanczos": num_lanczos}.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 2:
            raise InputError(f"{name} must be a whole number of at least 2, got {count!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {seed!r}")
    check_number("null_threshold", null_threshold, positive=True)
    if not null_threshold < 1.0:
        raise InputError(f"null_threshold must lie between 0 and 1, got {null_threshold!r}")
    landscape = LossLandscape(
        model, loss_fn, data, parts=parts, device=device, chains_stacked=False
    )
    products = HessianProducts(landscape)
    size = landscape.num_parameters
    if size <= num_probes * (num_lanczos + 3):
        found = _dense(products, null_threshold)
    else:
        found = _stochastic(products, num_probes, num_lanczos, null_threshold, seed)
    return _dataset(found, size, products.count, null_threshold, int(seed))


class HessianProducts:
    """H times vectors, over all samples in chunks.

    Parameters
    ----------
    landscape : LossLandscape

    Attributes
    ----------
    count : int
        Products computed so far.
    """

    def __init__(self, landscape: LossLandscape) -> None:
        self.landscape = landscape
        self.count = 0
        # Where one chunk is all there is, its gradient is asked for again and again; held, it
        # takes no more memory than while one product is computed.
        self._chunks = list(landscape.chunks())
        self._held: tuple[Tensor, Tensor] | None = None

    def __call__(self, vectors: Tensor) -> Tensor:
        """H v for each row.

        Parameters
        ----------
        vectors : Tensor, shape (vector, parameter)
        """
        result = torch.zeros_like(vectors)
        for rows in self._chunks:
            share = len(rows) / self.landscape.num_samples
            position, gradient = self._gradient(rows)
            if not gradient.requires_grad:  # the loss is linear in every parameter
                continue
            with sdpa_kernel(SDPBackend.MATH):
                for k, vector in enumerate(vectors):
                    (product,) = torch.autograd.grad(
                        gradient,
                        position,
                        vector,
                        retain_graph=self._held is not None or k + 1 < len(vectors),
                        materialize_grads=True,
                    )
                    result[k].add_(product, alpha=share)
        if not bool(torch.isfinite(result).all()):
            raise InputError(
                "the Hessian is not finite at this checkpoint; a loss with a kink or a square root "
                "at zero has no second derivative there: smooth it, or move off it"
            )
        self.count += len(vectors)
        return result

    def _gradient(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """w* and the gradient there over some samples, with the graph that leads back to w*."""
        if self._held is not None:
            return self._held
        landscape = self.landscape
        position = landscape.centre.detach().requires_grad_()
        # The fused attention kernels have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            loss = landscape.loss_at(landscape.as_dict(position), landscape.samples.take(rows))
            (gradient,) = torch.autograd.grad(loss, position, create_graph=True)
        if len(self._chunks) == 1:
            self._held = position, gradient
        return position, gradient


class _Spectrum(NamedTuple):
    """What was found; scalars are (value, error)."""

    method: str
    node: Array  # (probe, lanczos)
    weight: Array  # (probe, lanczos)
    trace: tuple[float, float]
    frobenius_norm: tuple[float, float]
    effective_rank: tuple[float, float]
    largest: tuple[float, float]
    smallest: tuple[float, float]
    null: tuple[float, float]


def _dense(products: HessianProducts, threshold: float) -> _Spectrum:
    landscape = products.landscape
    size = landscape.num_parameters
    identity = torch.eye(size, dtype=landscape.centre.dtype, device=landscape.device)
    hessian = torch.cat([products(block) for block in identity.split(64)]).double().cpu().numpy()
    values = np.linalg.eigvalsh(0.5 * (hessian + hessian.T))
    square = float((values**2).sum())
    total = float(values.sum())
    return _Spectrum(
        "dense",
        values[None],
        np.full((1, size), 1.0 / size),
        (total, 0.0),
        (math.sqrt(square), 0.0),
        (total**2 / square if square > 0 else 0.0, 0.0),
        (float(values[-1]), 0.0),
        (float(values[0]), 0.0),
        (float((np.abs(values) <= threshold * np.abs(values).max()).sum()), 0.0),
    )


def _stochastic(
    products: HessianProducts, num_probes: int, num_lanczos: int, threshold: float, seed: int
) -> _Spectrum:
    landscape = products.landscape
    generator = torch.Generator().manual_seed(seed)
    node = np.full((num_probes, num_lanczos), np.nan)
    weight = np.zeros((num_probes, num_lanczos))
    ends: list[tuple[float, float]] = []
    runs: list[tuple[Array, Array, float]] = []
    for probe in range(num_probes):
        vector = torch.randn(landscape.num_parameters, generator=generator, dtype=torch.float64)
        diagonal, beside, residual = lanczos(products, vector.to(landscape.centre), num_lanczos)
        runs.append((diagonal, beside, residual))
        values, vectors = eigh_tridiagonal(diagonal, beside)
        node[probe, : len(values)] = values
        weight[probe, : len(values)] = vectors[0] ** 2
        bounds = residual * np.abs(vectors[-1])
        ends += [(values[0], bounds[0]), (values[-1], bounds[-1])]
    smallest, largest = min(ends), max(ends)
    near = threshold * max(abs(smallest[0]), abs(largest[0]))
    # (probe, least and greatest)
    null = landscape.num_parameters * np.array([weight_within(*run, near) for run in runs])
    open_range = 0.5 * float((null[:, 1] - null[:, 0]).mean())
    trace, square, rank = hutch_plus_plus(products, num_probes, generator)
    norm = math.sqrt(max(square[0], 0.0))
    return _Spectrum(
        "stochastic",
        node,
        weight,
        trace,
        (norm, 0.5 * square[1] / norm if norm > 0 else 0.0),
        rank,
        (float(largest[0]), float(largest[1])),
        (float(smallest[0]), float(smallest[1])),
        (float(null.mean()), math.hypot(standard_error(null.mean(axis=1)), open_range)),
    )


def _dataset(
    found: _Spectrum, size: int, num_products: int, threshold: float, seed: int
) -> xr.Dataset:
    probes = len(found.node)
    low, high = min(found.smallest[0], 0.0), max(found.largest[0], 0.0)
    span = high - low or 1.0
    width = _WIDTH * span
    grid = np.linspace(low - 5 * width, high + 5 * width, _GRID)
    z = (grid - np.nan_to_num(found.node)[..., None]) / width
    bell = np.exp(-0.5 * z**2) / (width * math.sqrt(2.0 * math.pi))
    each = (found.weight[..., None] * bell).sum(axis=1)  # (probe, eigenvalue)
    error = each.std(axis=0, ddof=1) / math.sqrt(probes) if probes > 1 else np.zeros(_GRID)
    scalars = {
        "trace": (*found.trace, "trace of the Hessian"),
        "frobenius_norm": (*found.frobenius_norm, "Frobenius norm of the Hessian"),
        "effective_rank": (*found.effective_rank, "squared trace over squared norm"),
        "null_dimension": (*found.null, "dimension of the null space"),
        "largest_eigenvalue": (*found.largest, "largest eigenvalue"),
        "smallest_eigenvalue": (*found.smallest, "smallest eigenvalue"),
    }
    loss_units = "loss / parameter^2"
    units = {"effective_rank": "1", "null_dimension": "1"}
    dims = ("probe", "lanczos")
    variables: dict[str, Any] = {
        "density": (
            "eigenvalue",
            each.mean(axis=0),
            {"long_name": "spectral density of the Hessian", "units": "parameter^2 / loss"},
        ),
        "density_error": (
            "eigenvalue",
            error,
            {"long_name": "standard error of density", "units": "parameter^2 / loss"},
        ),
        "node": (dims, found.node, {"long_name": "quadrature node", "units": loss_units}),
        "weight": (dims, found.weight, {"long_name": "quadrature weight", "units": "1"}),
    }
    for name, (value, spread, text) in scalars.items():
        unit = units.get(name, loss_units)
        kind = "residual bound" if name.endswith("eigenvalue") else "standard error"
        kind += " and open range" if name == "null_dimension" else ""
        variables[name] = ((), value, {"long_name": text, "units": unit})
        variables[f"{name}_error"] = (
            (),
            spread,
            {"long_name": f"{kind} of {name}", "units": unit},
        )
    dataset = xr.Dataset(
        variables,
        coords={"eigenvalue": grid},
        attrs={
            "method": found.method,
            "num_parameters": size,
            "num_products": num_products,
            "null_threshold": threshold,
            "smoothing": width,
            "seed": seed,
        },
    )
    dataset["eigenvalue"].attrs.update(long_name="eigenvalue", units=loss_units)
    return dataset
