"""A small transformer over particles, and what its attention heads look at.

model   the network, ablation of heads, and the iterated `rollout`
heads   scores of a head from its attention weights and the particles' places
"""
