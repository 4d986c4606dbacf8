"""Losses and gradients of several chains, behind one method.

What lives here: ``losses_and_gradients(positions, batch)`` by PyTorch's own means (`plain`, the
reference, and what a GPU has), the same from lists of operators (`graph`), and whether chains are
evaluated together (`choice`). What does not: models, losses and data (`landscape`).
"""

from emergence_stats.degeneracy.executor.choice import Evaluation, choose_evaluation
from emergence_stats.degeneracy.executor.graph import GraphExecutor
from emergence_stats.degeneracy.executor.plain import OfOne, PlainExecutor

__all__ = ["Evaluation", "GraphExecutor", "OfOne", "PlainExecutor", "choose_evaluation"]
