"""One language's messages: found by name, filled in, with numbers as the language writes them.

What lives here: reading `messages` and rendering one. What does not: which is said (`plain`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emergence_stats.errors import InputError, nearest
from emergence_stats.report import wording
from emergence_stats.report.records import Structure

LANGUAGES = ("en", "ja")
FILTERS = {"plural": wording.count, "number": wording.number, "share": wording.share}


def read_messages(language: str) -> dict[str, str]:
    """A language's messages by name, as `answer.all`.

    Raises
    ------
    InputError
        If the language is not one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise InputError(f"language: {language!r} is not available{nearest(language, LANGUAGES)}")
    text = (Path(__file__).parent / "messages" / f"{language}.toml").read_text(encoding="utf-8")
    return dict(_flatten(tomllib.loads(text)))


def _flatten(table: dict[str, Any], prefix: str = "") -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _flatten(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


class Catalogue:
    """The messages of one language, about one structure."""

    def __init__(self, language: str, structure: Structure) -> None:
        import jinja2

        own = structure.words.get(language, {})
        self.language = language
        self.messages = read_messages(language)
        self.messages |= {f"structure.{name}": text for name, text in own.items()}
        self.words = {
            name.removeprefix("structure."): text
            for name, text in self.messages.items()
            if name.startswith("structure.")
        }
        self._environment = jinja2.Environment(
            loader=jinja2.DictLoader(self.messages), undefined=jinja2.StrictUndefined
        )
        self._environment.filters |= FILTERS

    def say(self, name: str, **values: Any) -> str:
        """The message of that name, with values filled in."""
        return self._environment.get_template(name).render(structure=self.words, **values)

    def law(self, verdict: str) -> str:
        """A verdict in words; itself where there are none."""
        name = f"law.{verdict}"
        return self.say(name) if name in self.messages else verdict

    def bounded(self, text: str) -> str:
        """A number with `<` or `>` before it, as the language writes it."""
        name = {"<": "number.below", ">": "number.above"}.get(text[:1])
        return text if name is None else self.say(name, value=text[1:])

    def span(self, texts: Sequence[str], name: str = "span") -> str:
        """Lowest and highest, or one where they are written alike."""
        low, high = (self.bounded(text) for text in (texts[0], texts[-1]))
        return low if low == high else self.say(f"number.{name}", low=low, high=high)

    def join(self, parts: Sequence[str], last: str = "and") -> str:
        """Parts of a sentence one after another, before the last of them `last`."""
        return wording.join(parts, *(self.say(f"number.{name}") for name in ("comma", last)))
