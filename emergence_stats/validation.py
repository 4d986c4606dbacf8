"""Does the package say the truth on this machine? A check in a minute, with data of known truth.

What lives here: `validate`, which simulates curves from the priors and samples landscapes whose
learning coefficient is exact, and holds what is found against what must be. What does not: the
longer validation with all its cells, which `benchmarks` hold with recorded results.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_whole

LAWS = ("flat", "exponential", "power_law")
PRIOR = (0.5, 0.25, 0.25)
NUM_POINTS = 30
# In standard deviations; a normal deviate is within them but once in 2,100 times.
LARGEST_DEVIATION = 3.5


def validate(*, num_curves: int = 300, landscapes: bool = True, seed: int = 0) -> pd.DataFrame:
    """Are probabilities, intervals and learning coefficients right, here and now?

    Curves are drawn from the very priors that `compare` holds, so probabilities and intervals are
    calibrated if and only if the computation is right. Learning coefficients are estimated with the
    defaults where they are known exactly.

    Parameters
    ----------
    num_curves : int
        At least 50.
    landscapes : bool
        Whether to estimate learning coefficients too, which needs torch.
    seed : int
        The same seed gives the same table.

    Returns
    -------
    pandas.DataFrame
        By check: `expected`, `found`, `allowed` (how far apart they may be: 3.5 standard
        deviations of what is found when all is right, and for learning coefficients the larger of
        3.5 standard errors and 5%), and `passed`.

    Raises
    ------
    InputError
        If there are too few curves.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms
    with simulation-based calibration, arXiv:1804.06788.

    Examples
    --------
    >>> table = validate(num_curves=60, landscapes=False)
    >>> bool(table["passed"].all())
    True
    """
    check_whole("num_curves", num_curves, 50)
    check_whole("seed", seed, 0)
    rows = _curve_checks(num_curves, seed)
    rows.append(_exact_check())
    if landscapes:
        rows += _landscape_checks(seed)
    table = pd.DataFrame(rows).set_index("check")
    table["passed"] = (table["found"] - table["expected"]).abs() <= table["allowed"]
    return table


def _curve_checks(number: int, seed: int) -> list[dict[str, Any]]:
    from emergence_stats.comparison.comparison import compare
    from emergence_stats.curves.simulation import simulate_curves

    random = np.random.default_rng(seed)
    step = np.unique(np.geomspace(1.0, 5000.0, NUM_POINTS).round())
    counts = random.multinomial(number, PRIOR)
    parts = [
        simulate_curves(law, step, number=int(count), noise="ar1", seed=random)
        for law, count in zip(LAWS, counts, strict=True)
        if count
    ]
    curves = xr.concat([part["score"] for part in parts], dim="curve").drop_vars(
        "curve", errors="ignore"
    )
    law = np.repeat(LAWS, counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compare(curves, noise="ar1", value_range=(0.0, 1.0)).dataset
    rows = []
    for name in LAWS:
        p = found["probability"].sel(family=name).values
        spread = np.sqrt((p * (1.0 - p)).sum()) + 1e-12
        rows.append(
            {
                "check": f"curves of the law {name!r}, of {number}, by the probabilities given",
                "expected": float((law == name).sum()),
                "found": float(p.sum()),
                "allowed": LARGEST_DEVIATION * spread,
            }
        )
    emerges = law != "flat"
    for name, truth in (("onset", "onset"), ("half_time", "half_time")):
        values = np.concatenate([part[truth].values for part in parts if truth in part])
        low, high = (found[name].isel(quantile=k).values[emerges] for k in (0, 2))
        covered = (low <= values) & (values <= high)
        spread = np.sqrt(PROB * (1.0 - PROB) / covered.size)
        rows.append(
            {
                "check": f"share of {PROB:.0%} intervals that hold the {name.replace('_', ' ')}",
                "expected": PROB,
                "found": float(covered.mean()),
                "allowed": LARGEST_DEVIATION * spread,
            }
        )
    return rows


def _exact_check() -> dict[str, Any]:
    from emergence_stats.theory import exact

    # Aoyagi (2024), widths 5, 3, 5 and rank 0.
    value, _ = exact.deep_linear_network([5, 3, 5], 0)
    return {
        "check": "exact coefficient of a linear network of widths 5, 3, 5 at rank 0",
        "expected": 6.5,
        "found": float(value),
        "allowed": 1e-12,
    }


def _landscape_checks(seed: int) -> list[dict[str, Any]]:
    import torch
    from torch import nn

    from emergence_stats.degeneracy.llc import estimate_llc

    def squared_error(model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, outputs = batch
        return (model(inputs) - outputs).square().sum(-1).mean()

    generator = torch.Generator().manual_seed(seed)
    cases: list[tuple[str, nn.Module, torch.Tensor, float]] = []
    # Regular: half the number of parameters.
    inputs = torch.randn(2000, 10, generator=generator)
    linear = nn.Linear(10, 1)
    cases.append(("linear regression of 11 parameters", linear, inputs, 5.5))
    # Singular: two layers at zero, the deepest singularity of rank 0.
    singular = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Linear(3, 5, bias=False))
    for parameter in singular.parameters():
        nn.init.zeros_(parameter)
    # Not 6.5, the limit of many samples: block Gibbs sampling of the same posterior gives this
    # (`benchmarks.accuracy.llc_gibbs`, standard error 0.01).
    name = "linear network of widths 5, 3, 5 at rank 0, at 2,000 samples"
    cases.append((name, singular, torch.randn(2000, 5, generator=generator), 6.375))
    rows = []
    for name, model, data, truth in cases:
        with torch.no_grad():
            outputs = model(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = estimate_llc(model, squared_error, (data, outputs), seed=seed, progress=False)
        rows.append(
            {
                "check": f"learning coefficient of a {name}",
                "expected": truth,
                "found": result.llc,
                "allowed": max(LARGEST_DEVIATION * result.standard_error, 0.05 * truth),
            }
        )
    return rows
