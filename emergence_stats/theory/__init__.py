"""Closed forms the estimates are held against.

What lives here: learning coefficients known exactly (`exact`). What does not: anything estimated
from data or from a network.
"""

from emergence_stats.theory import exact as exact
