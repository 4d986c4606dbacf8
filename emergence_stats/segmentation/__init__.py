"""How often did a curve change, and when?

What lives here: `segment`, exact sums over all segmentations, and the penalised search for long
series. What does not: one onset of a relaxing curve (`onset`).
"""
