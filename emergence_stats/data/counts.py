"""From numbers of successes to a score and its standard deviation.

What lives here: the rule for binomial counts. What does not: checking and labelling a curve
(`trajectory.curve`), what is made of known standard deviations (`measured`).
"""

from __future__ import annotations

import numpy as np

from emergence_stats.errors import InputError

Array = np.ndarray


def accuracy(successes: Array, trials: Array) -> tuple[Array, Array]:
    """How often does it succeed, and how well do so many trials tell?

    Mean and standard deviation of the posterior of p under Jeffreys' prior Beta(1/2, 1/2),

        mean = (s + 1/2) / (n + 1),    sd^2 = mean (1 - mean) / (n + 2),

    which unlike s/n with sd sqrt(s (n - s) / n^3) is not certain where all or none succeed. As the
    sd still follows from the count itself, a score near 0 or 1 that is low or high by chance counts
    for a little more than it should; with some tens of trials and more the mean's pull towards 1/2
    and this are small beside the sd.

    Parameters
    ----------
    successes : ndarray, shape (step,)
        Whole numbers from 0 to `trials`; NaN where nothing was measured.
    trials : ndarray, shape (step,)
        Whole numbers of at least 1.

    Returns
    -------
    mean, sd : ndarray, shape (step,)
        NaN and 1 where nothing was measured.

    Raises
    ------
    InputError
        If a count is not whole or not within its trials.

    References
    ----------
    Brown, Cai and DasGupta (2001), Interval estimation for a binomial proportion, Statistical
    Science 16, 101-133.

    Examples
    --------
    >>> mean, sd = accuracy(np.array([0.0, 50.0]), np.array([100.0, 100.0]))
    >>> mean.round(4), sd.round(4)
    (array([0.005, 0.5  ]), array([0.0069, 0.0495]))
    """
    missing = np.isnan(successes)
    bad = ~(np.isfinite(trials) & (trials >= 1) & (trials == np.floor(trials)))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"trials: {trials[first]} at index {first}; give a whole number of at least 1"
        )
    bad = ~missing & ~((successes >= 0) & (successes <= trials))
    bad |= ~missing & (successes != np.floor(successes))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"values: {successes[first]} at index {first}; with trials ({trials[first]:g} there) "
            "give the number of successes, not their share"
        )
    mean = (successes + 0.5) / (trials + 1.0)
    sd = np.where(missing, 1.0, np.sqrt(mean * (1.0 - mean) / (trials + 2.0)))
    return mean, sd
