"""The evidence and posterior of one family on one curve, by deterministic integration.

What lives here: the marginal likelihood and the integration over what is left. What does not: what
is then said of a curve (`comparison`, `onset`).

From the inside out: level, amplitude and noise scale (`likelihood`); the correlation, all of its
*grid* at once (`autoregressive`), by climbing where that would be dear (`climbing`), or with the
wandering beside measured noise (`measured`); the family's parameters but the onset, on a grid that
grows (`grid`, `integrate`); the onset (`over_onset`). A *rough* value has the noise scale estimated
instead of integrated, and is enough below a *cutoff*; a *rule* is a set of Gauss points.
"""
