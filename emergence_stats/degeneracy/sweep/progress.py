"""A bar for work whose pieces take minutes.

What lives here: the bar of a sweep and how it tells the time left. What does not: the work.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
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


class SweepProgress:
    """A bar with the time left, on standard error."""

    def __init__(self, show: bool) -> None:
        self._show = show

    def __enter__(self) -> Callable[[str, int, int], None]:
        if not self._show:
            return lambda label, completed, total: None
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
                if left is None:
                    return Text("-:--:-- left")
                return Text(f"{datetime.timedelta(seconds=round(left))} left")

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeLeft(),
            console=Console(stderr=True),
            transient=True,
        )
        labels: dict[str, Any] = {}
        self._bar.start()

        def advance(label: str, completed: int, total: int) -> None:
            if label not in labels:
                labels[label] = self._bar.add_task(label, total=total, at=0.0)
            elapsed = self._bar.tasks[self._bar.task_ids.index(labels[label])].elapsed or 0.0
            self._bar.update(labels[label], completed=completed, at=elapsed)

        return advance

    def __exit__(self, *_: object) -> None:
        if self._show:
            self._bar.stop()
