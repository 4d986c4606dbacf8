"""How a curve may go: families of shapes, what they mean, and what is believed of them.

What lives here: shapes, families, priors, curves drawn from them. What does not: inference.
"""
