"""The report: one HTML file that answers, shows and documents; its ten lines; its picture.

What lives here: the public names. What does not: their work, which is in `page` (assembling),
`summary` (the decision), `language` (the plain page), `figures` and `animation`.
"""

from __future__ import annotations

from emergence_stats.report.page import write_report
from emergence_stats.report.picture import write_picture
from emergence_stats.report.summary import text_summary

__all__ = ["text_summary", "write_picture", "write_report"]
