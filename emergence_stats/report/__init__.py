"""The report: one HTML file that answers, shows and documents; its ten lines; its picture.

What lives here: the public names. The way through: `findings` reads the datasets into `records`,
`decision` judges them, `plain` and `sections` choose what is said (sentences of the plain page from
`messages`, a catalogue a language), `figures` draws, `page` and `summary` write.
"""

from __future__ import annotations

from emergence_stats.report.findings import Results, find_structure
from emergence_stats.report.page import write_picture, write_report
from emergence_stats.report.records import Quantity, Structure
from emergence_stats.report.summary import text_summary

__all__ = [
    "Quantity",
    "Results",
    "Structure",
    "find_structure",
    "text_summary",
    "write_picture",
    "write_report",
]
