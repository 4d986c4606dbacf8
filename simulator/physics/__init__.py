"""Equal discs and spheres in a box: what they are and how they move.

system       what the particles are, and what follows from that in closed form
neighbours   who is near whom (compiled)
contacts     the force law and the time stepping (compiled)
integration  many systems over threads, plain arrays in and out
simulation   `simulate`: checks and labels
"""
