"""Errors a user can act on.

What lives here: the exceptions that the command line turns into one line and exit code 2, and the
helper that suggests a nearby name. What does not: validation itself, which stands beside what it
guards.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the caller gave cannot be used; the message names it and says what to do."""


class StorageError(RuntimeError):
    """Something on disk is missing, damaged or full; the message says what to do."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Which valid name was probably meant, as the tail of a sentence.

    Examples
    --------
    >>> nearest("lerning_rate", ["learning_rate", "width"])
    "; did you mean 'learning_rate'?"
    """
    options = list(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid names are {', '.join(sorted(options))}"
