"""How curved is the loss at a checkpoint, and in how many directions is it flat?

What lives here: Hessian-vector products and what is reported of the spectrum (`curvature`), from
Lanczos runs and a stochastic trace (`spectral`). What does not: the loss (`landscape`), and the
curvature that a step size is chosen by (`tuning.stiffness`).
"""

from emergence_stats.degeneracy.curvature.curvature import HessianProducts, curvature

__all__ = ["HessianProducts", "curvature"]
