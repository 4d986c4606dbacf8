"""A bar for work whose pieces take minutes.

What lives here: the bar of a sweep and how it tells the time left. What does not: the work.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from typing import Any


def seconds_left(completed: int, total: int, at: float, elapsed: float) -> float | None:
    """How long will the rest take, by the mean over all that is done?

    rich's own estimate goes by the time between the last updates, which says nothing when several
    processes finish at once.

    Parameters
    ----------
    completed, total : int
    at : float
        Seconds from the start to the last completion.
    elapsed : float
        Seconds from the start to now.

    Examples
    --------
    >>> seconds_left(2, 12, 60.0, 70.0)
    290.0
    >>> seconds_left(0, 12, 0.0, 5.0) is None
    True
    """
    if completed == 0:
        return None
    return max(0.0, at / completed * (total - completed) - (elapsed - at))


@contextlib.contextmanager
def show_progress(show: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with the time left, on standard error; yields what it is told by: label, done, of."""
    if not show:
        yield lambda label, completed, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Any) -> Text:
            left = seconds_left(
                int(task.completed), int(task.total or 0), task.fields["at"], task.elapsed or 0
            )
            told = "-:--:--" if left is None else datetime.timedelta(seconds=round(left))
            return Text(f"{told} left")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
    )
    labels: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def advance(label: str, completed: int, total: int) -> None:
            if label not in labels:
                labels[label] = bar.add_task(label, total=total, at=0.0)
            elapsed = bar.tasks[bar.task_ids.index(labels[label])].elapsed or 0.0
            bar.update(labels[label], completed=completed, at=elapsed)

        yield advance
