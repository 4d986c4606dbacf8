"""How kernels are compiled: quickly running, and once for all until a module they may call changes.

What lives here: the decorator. What does not: any kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba

# Everything but assuming that infinities do not occur.
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a function on arrays, without the interpreter's lock, to disk.

    What is on disk serves until a module beside the function's, or in this package, changes. Numba
    by itself looks at the function's own file alone, and goes on with what it calls as it was.

    Parameters
    ----------
    **options
        Further ones of `numba.njit`.
    """

    def compile_kernel(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(
            cache=True, nogil=True, fastmath=FAST, error_model="numpy", **options
        )(function)
        stored = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
        if stored is not None:
            own = Path(inspect.getfile(function)).parent
            stored._source_stamp = _stamp(own), _stamp(Path(__file__).parent)
        return dispatcher

    return compile_kernel


@lru_cache
def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes with any module of a folder."""
    files = sorted(folder.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files)
