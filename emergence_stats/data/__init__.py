"""Which numbers were measured at which steps: the data contract, and curves as arrays.

What lives here: trajectories, curves, counts, labels. What does not: anything inferred from them.
"""
