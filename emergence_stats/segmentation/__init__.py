"""How often did a curve change, and when?

What lives here: `segment`, what a segment may be (`models`), exact sums over all segmentations
(`segments`, `sums`, `noise_grid`), and the penalised search for long series. What does not: one
onset of a relaxing curve (`onset`).
"""
