"""How far an estimate is, and how long it will take.

What lives here: the bar over the steps of one estimate. What does not: that over the estimates of a
sweep (`sweep.progress`).
"""

from __future__ import annotations

from typing import Any, Self


class Progress:
    """Shows on standard error how many steps of each chain were taken, of how many.

    Steps and not draws are counted, since a draw may take many steps. How many there will be is not
    known to begin with: steps are shortened, and runs added, by what chains show.

    Parameters
    ----------
    expected : int
        Steps of each chain in all runs, as far as is known.
    show : bool

    Examples
    --------
    >>> with Progress(100, show=False) as progress:
    ...     progress.begin(40)
    ...     progress.advance(40)
    ...     progress.expect(4 * progress.left)  # from here on with steps a quarter as long
    ...     progress.begin(500)  # a run that was not foreseen
    >>> progress.taken, progress.left
    (40, 500)
    """

    def __init__(self, expected: int = 0, show: bool = False) -> None:
        self.taken, self._expected, self._show = 0, expected, show

    @property
    def left(self) -> int:
        """How many steps are still to come, as far as is known."""
        return self._expected - self.taken

    def expect(self, left: int) -> None:
        """So many are to come."""
        self._expected = self.taken + left
        if self._show:
            self._bar.update(self._task, total=self._expected)

    def add(self, steps: int) -> None:
        """So many are to come beside those expected."""
        self.expect(self.left + steps)

    def begin(self, steps: int) -> None:
        """A run of so many begins, expected or not."""
        if steps > self.left:
            self.expect(steps)

    def advance(self, steps: int) -> None:
        """So many more were taken."""
        self.taken += steps
        if self._show:
            self._bar.advance(self._task, steps)

    def tell(self, estimate: float, error: float) -> None:
        """What the estimate is so far."""
        if self._show:
            text = f"learning coefficient {estimate:.3g} ± {error:.1g} so far"
            self._bar.update(self._task, description=text)

    def __enter__(self) -> Self:
        if self._show:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("learning coefficient: settling", total=self._expected)
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._show:
            self._bar.stop()
