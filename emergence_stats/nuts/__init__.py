"""The same posterior by the no-U-turn sampler.

What lives here: the density as a PyMC model, sampling it, `fit`, evidence by bridge sampling. What
does not: the quadrature, which is quicker and has no Monte Carlo error.
"""
