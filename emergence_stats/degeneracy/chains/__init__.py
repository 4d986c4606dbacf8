"""Chains of a sampler on a posterior, and what they record.

What lives here: the loop over steps (`chains`), what other batches tell of where chains stand
(`probes`), and what minibatch noise adds to the mean loss (`minibatch_noise`). What does not: the
settings (`tuning`), and what follows from the traces (`judgement`).
"""

from emergence_stats.degeneracy.chains.chains import Chains, Traces

__all__ = ["Chains", "Traces"]
