"""A model, a loss and data as plain functions of flat parameter vectors.

What lives here: samples (`batches`), the copies of model and loss that are evaluated (`objective`),
where parameters lie in a vector (`layout`), the loss of one vector (`vector_loss`), of single
samples (`sample_losses`), and of the positions of several chains (`landscape`). What does not: how
gradients are computed (`executor`), and temperature and localisation (`posterior`).
"""

from emergence_stats.degeneracy.landscape.landscape import LossLandscape

__all__ = ["LossLandscape"]
