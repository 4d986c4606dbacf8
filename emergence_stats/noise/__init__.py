"""What the noise of a curve may be: correlation, whitening, filtering.

What lives here: compiled kernels for one curve and one value of the noise. What does not: the
likelihood made of them (`quadrature`), segments (`segmentation`).
"""
