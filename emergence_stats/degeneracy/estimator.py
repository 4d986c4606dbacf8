"""From loss traces to a learning coefficient with an error and a verdict.

What lives here: burn-in by the trace's own stationarity, the mean with its standard error, and the
words that say when not to believe it. Everything takes plain arrays of shape (chain, draw) and
knows nothing of models, devices or samplers.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# A verdict other than "reliable" is given beyond these.
LARGEST_RHAT = 1.05
LARGEST_DRIFT_IN_STANDARD_ERRORS = 3.0
SMALLEST_DRIFT_THAT_MATTERS = 0.1  # as a share of the estimate
FEWEST_EFFECTIVE_DRAWS = 20.0
LARGEST_STEP_CORRECTION = 0.5  # as a share of the estimate
# Where the loss is not quadratic the correction is a guess, and less of it is borne.
LARGEST_HOMOGENEITY = 1.3
LARGEST_DEPARTURE = 0.3
LARGEST_CORRECTION_OFF_QUADRATIC = 0.15
LARGEST_VIRIAL_IN_STANDARD_ERRORS = 3.0
SMALLEST_VIRIAL_THAT_MATTERS = 0.05  # as a share of the number of parameters
LARGEST_NOISE_SHARE = 0.5  # of the variance of the losses
LARGEST_NOISY_ERROR = 0.1  # standard error as a share of the estimate
_GROUP, _FEWEST_GROUPS = 5, 20  # draws averaged before their autocorrelation is taken


class Estimate(NamedTuple):
    """A learning coefficient and what is needed to judge it.

    Attributes
    ----------
    llc : float
        Mean of the trace over chains and kept draws.
    standard_error : float
        Monte Carlo error of that mean: ArviZ's, from the autocorrelation of all chains, or that of
        the chains' means, whichever is larger.
    effective_draws : float
        So many independent draws would know the mean as well as the autocorrelation says.
    rhat : float
        Rank-normalised split R-hat; NaN with one chain.
    drift : float
        Mean of the second half of the kept draws less that of the first.
    drift_in_standard_errors : float
    """

    llc: float
    standard_error: float
    effective_draws: float
    rhat: float
    drift: float
    drift_in_standard_errors: float


def stationary_from(trace: NDArray[np.float64], *, group: int = 5) -> tuple[int, bool]:
    """From which draw on is the trace stationary, and was such a draw found?

    The marginal standard error rule MSER-5: draws are averaged over chains and in groups of five,
    and the burn-in b minimises ``sum_{i >= b} (x_i - mean_b)^2 / (N - b)^2``, the squared standard
    error that the rest would have if it were independent. Cutting a transient lowers it; cutting
    stationary draws raises it. A minimum at half the trace means that none was found. The rule
    weighs bias against variance, so it leaves a bias of the order of the standard error; as all
    chains start at w*, where the loss is lowest, that bias has a sign. Therefore at least a quarter
    of the draws go, which is three relaxations of the slowest direction under the default settings.

    Parameters
    ----------
    trace : ndarray, shape (chain, draw)
    group : int
        Draws averaged together.

    Returns
    -------
    tuple of (int, bool)
        Draws to discard, a quarter to a half of them, and whether the minimum lay before that.

    References
    ----------
    White (1997), An effective truncation heuristic for bias reduction in simulation output,
    Simulation 69, 323-334.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(4, 200))
    >>> stationary_from(noise + 20 * np.exp(-np.arange(200) / 10))[0] >= 20
    True
    """
    draws = trace.shape[1]
    groups = draws // group
    if groups < 4:
        return draws // 4, True
    means = trace.mean(axis=0)[: groups * group].reshape(groups, group).mean(axis=1)
    # A short tail can look stationary by chance, so half of the draws are always kept.
    half = groups // 2
    candidates = np.arange(half + 1)
    error = np.array([means[start:].var() / (groups - start) for start in candidates])
    best = int(candidates[np.argmin(error)])
    return max(best * group, draws // 4), best < half


def summarise(trace: NDArray[np.float64]) -> Estimate:
    """What is the mean of this stationary trace, and how well is it known?

    The autocorrelation is that of means of five neighbouring draws. Where the draws of Hamiltonian
    dynamics oscillate, its sum is cut off at the first negative pair, which gave BAOAB's chains
    errors too small by a fifth; where neighbours cancel, as in what SGHMC reports of its step,
    ArviZ's bound on the effective draws gave errors too large by two thirds.

    Parameters
    ----------
    trace : ndarray, shape (chain, draw)
        Draws of n*beta*(L(w) - L(w*)), burn-in removed.
    """
    from arviz_stats.base import array_stats

    mean = float(trace.mean())
    chains, draws = trace.shape
    if not np.isfinite(trace).all() or draws < 4:
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, math.nan)
    if np.ptp(trace) == 0.0:
        return Estimate(mean, 0.0, float(trace.size), math.nan, 0.0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short traces are reported through the numbers themselves
        rhat = float(array_stats.rhat(trace)) if chains > 1 else math.nan
        error = _monte_carlo_error(trace)
        effective = float(trace.var(ddof=1)) / max(error**2, 1e-300)
        if chains > 1:
            # Autocorrelation is underestimated where the tails of a degenerate posterior are
            # visited rarely; chains that went elsewhere show it.
            error = max(error, float(trace.mean(axis=1).std(ddof=1)) / math.sqrt(chains))
        half = draws // 2
        first, second = trace[:, :half], trace[:, draws - half :]
        drift = float(second.mean() - first.mean())
        errors = [_monte_carlo_error(part) for part in (first, second)]
    return Estimate(mean, error, effective, rhat, drift, drift / max(math.hypot(*errors), 1e-300))


def _monte_carlo_error(trace: NDArray[np.float64]) -> float:
    """Standard error of the mean from the autocorrelation of all chains."""
    from arviz_stats.base import array_stats

    chains, draws = trace.shape
    group = max(min(_GROUP, draws // _FEWEST_GROUPS), 1)
    rest = draws % group
    means = trace[:, rest:].reshape(chains, -1, group).mean(axis=2)
    return float(array_stats.mcse(means, method="mean"))


def judge(
    estimate: Estimate,
    *,
    stationary: bool,
    step_correction: float,
    noise_share: float = 0.0,
    homogeneity: float = math.nan,
    departure: float = math.nan,
    virial: Estimate | None = None,
    num_parameters: int = 0,
) -> tuple[str, list[str]]:
    """Is the estimate to be believed, and if not, why not?

    Parameters
    ----------
    estimate : Estimate
    stationary : bool
        Whether a burn-in was found.
    step_correction : float
        What was subtracted for the finite step and minibatch noise.
    noise_share : float
        Of the variance of the losses, the part that the choice of minibatches alone explains.
    homogeneity : float
        Half the power with which the loss grows away from w*; 1 for a quadratic.
    departure : float
        How far from quadratic it grows, draw by draw (`chains.Traces`); 0 for a quadratic.
    virial : Estimate, optional
        Of ``(w - w*) . grad U``, which in equilibrium is `num_parameters`.
    num_parameters : int

    Returns
    -------
    tuple of (str, list of str)
        The verdict, one of "step too large", "not at a minimum", "still drifting", "chains
        disagree", "not in equilibrium", "minibatch noise dominates", "too few draws" and
        "reliable"; and a sentence for each that applies.
    """
    llc, error = estimate.llc, estimate.standard_error
    found: list[tuple[str, str]] = []
    if not math.isfinite(llc):
        found.append(("step too large", "the loss stopped being finite"))
        return found[0][0], [f"{word}: {why}" for word, why in found]
    if llc < -2.0 * (error if math.isfinite(error) else 0.0) or (llc < 0 and error == 0.0):
        found.append(
            (
                "not at a minimum",
                f"the estimate is negative ({llc:.3g}): the chains found lower loss than w*",
            )
        )
    if step_correction > LARGEST_STEP_CORRECTION * max(abs(llc), 1e-12):
        found.append(
            (
                "step too large",
                f"the finite step and minibatch noise account for {step_correction:.3g} beside an "
                f"estimate of {llc:.3g}; lower step_size or raise batch_size",
            )
        )
    elif (homogeneity > LARGEST_HOMOGENEITY or departure > LARGEST_DEPARTURE) and abs(
        step_correction
    ) > LARGEST_CORRECTION_OFF_QUADRATIC * abs(llc):
        grows = (
            f"grows like the power {2.0 * homogeneity:.2g}"
            if homogeneity > LARGEST_HOMOGENEITY
            else f"departs from a quadratic by {departure:.0%}"
        )
        found.append(
            (
                "step too large",
                f"the loss {grows}, where the correction for the step, {step_correction:.3g} "
                f"beside {llc:.3g}, does not hold; lower step_size",
            )
        )
    drifting = abs(estimate.drift_in_standard_errors) > LARGEST_DRIFT_IN_STANDARD_ERRORS and abs(
        estimate.drift
    ) > SMALLEST_DRIFT_THAT_MATTERS * abs(llc)
    if drifting and estimate.drift < 0:
        found.append(
            (
                "not at a minimum",
                f"the loss keeps falling ({estimate.drift:.3g} between the halves of the draws)",
            )
        )
    elif drifting or not stationary:
        found.append(
            (
                "still drifting",
                "no stationary stretch was found"
                if not stationary
                else f"the halves of the draws differ by {estimate.drift:.3g}",
            )
        )
    if estimate.rhat > LARGEST_RHAT:
        found.append(("chains disagree", f"R-hat is {estimate.rhat:.3f}, above {LARGEST_RHAT}"))
    if virial is not None and num_parameters:
        off = virial.llc - num_parameters
        if (
            abs(off) > LARGEST_VIRIAL_IN_STANDARD_ERRORS * virial.standard_error
            and abs(off) > SMALLEST_VIRIAL_THAT_MATTERS * num_parameters
        ):
            found.append(
                (
                    "not in equilibrium",
                    f"the mean of (w - w*) . grad U is {virial.llc:.3g} and not the number of "
                    f"parameters, {num_parameters}: steep parts are visited too rarely; lower "
                    "step_size",
                )
            )
    if noise_share > LARGEST_NOISE_SHARE and error > LARGEST_NOISY_ERROR * abs(llc):
        found.append(
            (
                "minibatch noise dominates",
                f"{noise_share:.0%} of the losses' variance is the choice of samples; raise "
                "batch_size or num_draws",
            )
        )
    if estimate.effective_draws < FEWEST_EFFECTIVE_DRAWS or not math.isfinite(error):
        found.append(
            ("too few draws", f"{estimate.effective_draws:.0f} effective draws; raise num_draws")
        )
    if not found:
        return "reliable", []
    return found[0][0], [f"{word}: {why}" for word, why in found]
