"""Which step size and localisation suit this posterior?

What lives here: the rules (`tuning`), the pilot runs that test them (`pilots`), curvature and noise
that they rest on (`stiffness`), and samplers by name (`kernels`). What does not: the algorithms
(`samplers`), and the chains that are recorded (`chains`).
"""

from emergence_stats.degeneracy.tuning.kernels import PRECONDITIONED
from emergence_stats.degeneracy.tuning.tuning import RELAXATIONS, Tuning, still_finite, tune

__all__ = ["PRECONDITIONED", "RELAXATIONS", "Tuning", "still_finite", "tune"]
