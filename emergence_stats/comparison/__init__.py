"""Power law or exponential, or nothing, or none of these?

What lives here: `compare`, what it says of each curve, the misfit alarm, the choice of noise,
`identifiability`. What does not: evidences (`quadrature`, `nuts`).
"""
