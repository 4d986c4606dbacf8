"""The pieces a section is made of.

What lives here: figure, table and section as records, and what tables share. What does not: their
contents (`sections`, `performance`) and their HTML (`templates`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from emergence_stats.report import figures, wording
from emergence_stats.report.records import Head

MOST_ROWS = 40


@dataclass(frozen=True)
class Figure:
    """An inline drawing with its caption and its description for those who cannot see it."""

    svg: Markup
    caption: str
    description: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    numeric : frozenset of int
        Columns aligned to the right.
    marked : frozenset of int
        Rows that stand out.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One numbered section; `missing` replaces everything else where nothing was computed."""

    name: str
    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    missing: str = ""
    animation: dict[str, object] | None = field(default=None)


def name_of(head: Head) -> tuple[str, str]:
    """Run, and layer with head, as cells of a table."""
    return str(head.run), figures.head_label(head)


def omitted(number: int) -> str:
    """How many rows a table had no room for, as the end of its note."""
    return f" {wording.count(number, 'further row')} left out." if number > 0 else ""
