"""The evidence and posterior of one family on one curve, by deterministic integration.

What lives here: the marginal likelihood and the integration over what is left. What does not: what
is then said of a curve (`comparison`, `onset`).
"""
