"""Accuracy, speed and science, beside peers; nothing here is imported by the packages.

Figures, commands and what they mean: docs/measured.md.
"""
