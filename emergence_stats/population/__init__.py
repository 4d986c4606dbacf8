"""What do many curves have in common?

What lives here: `compare_hierarchical` and the integral over populations. What does not: single
curves (`comparison`).
"""
