"""Errors a user can act on.

What lives here: the exceptions that the command line turns into one line and exit code 2, the
helper that suggests a nearby name, and the translation of what disks and stores raise. What does
not: validation itself, which stands beside what it guards.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
from collections.abc import Iterable, Iterator


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


def first_line(error: BaseException) -> str:
    """What an exception says, cut to one line.

    Examples
    --------
    >>> first_line(KeyError("width"))
    "KeyError: 'width'"
    """
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a disk or a store raises into one line that says what to do.

    Examples
    --------
    >>> with disk_errors("trajectory.zarr"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
        ...
    emergence_stats.errors.StorageError: trajectory.zarr: the disk is full; what was stored ...
    """
    try:
        yield
    except (InputError, StorageError):
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT):
            problem = (
                "the disk is full; what was stored is kept, so free some space and run the same "
                "command again"
            )
        elif number in (errno.EACCES, errno.EROFS, errno.EPERM):
            problem = f"cannot be written ({first_line(error)}); choose another output folder"
        else:
            problem = (
                f"could not be read or written ({first_line(error)}); if a file there is damaged, "
                "move the folder away and run the same command again"
            )
        raise StorageError(f"{os.fspath(path)}: {problem}") from error
