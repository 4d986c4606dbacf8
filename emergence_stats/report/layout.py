"""The pieces a section is made of: figure, table, section, as records.

What does not live here: their contents (`sections`) and their HTML (`templates`).
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


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
    """One numbered section; `missing` replaces everything else where nothing was computed.

    Attributes
    ----------
    html : Markup
        Anything else, between figures and tables.
    """

    name: str
    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    html: Markup | None = None
    tables: tuple[Table, ...] = ()
    missing: str = ""
