"""What the noise of a curve may be: beliefs, correlation, whitening, filtering.

What lives here: `beliefs`, the one page that every likelihood reads, and compiled kernels for one
curve and one value of the noise. What does not: the likelihoods made of them (`quadrature`,
`segmentation`, `online`, `nuts`, `population`).

Terms: a *gap* is the distance of two neighbouring points in median gaps of their curve; the
*correlation* rho is that of two points one gap apart; the *size* of noise is the sd of what is new
from point to point; *measured noise* is that of points whose sd are known, times a *factor* common
to all of them, and beside it the run's own *wandering*; to *whiten* a row is to make its points
independent, of unit variance.
"""
