"""Whether the bar of an estimate foresees its steps."""

from __future__ import annotations

from typing import Any, Self

import pytest
import torch
from known_landscapes import off_the_crossing, weighted

import emergence_stats as es
from emergence_stats.degeneracy import progress as progress_module
from emergence_stats.degeneracy.progress import Progress

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = (torch.linspace(0.5, 1.5, 400, dtype=torch.float64),)


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """The bars that are begun, each with what it expected to begin with."""
    begun: list[Progress] = []
    enter = Progress.__enter__

    def entered(self: Progress) -> Self:  # type: ignore[misc]
        begun.append(self)
        self.first = self.left  # type: ignore[attr-defined]
        return enter(self)  # type: ignore[return-value]

    monkeypatch.setattr(Progress, "__enter__", entered)
    return begun


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "sgld", "step_size": 1e-3},
        {"sampler": "psgld", "num_burnin": 30, "step_size": 1e-3, "check_step": True},
        {"sampler": "sghmc", "num_burnin": 30, "step_size": 1e-3},
    ],
)
def test_what_is_expected_is_what_is_taken(options: dict[str, Any], bars: list[Progress]) -> None:
    es.estimate_llc(
        off_the_crossing(), weighted, DATA, num_draws=130, batch_size=80, progress=False, **options
    )
    (bar,) = bars
    assert bar.taken == bar.first  # type: ignore[attr-defined]
    assert bar.left == 0


def test_shorter_steps_and_further_runs_are_expected_once_they_are_known(
    bars: list[Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    expect = Progress.expect
    monkeypatch.setattr(
        Progress, "expect", lambda self, left: (told.append(left), expect(self, left))
    )
    model = off_the_crossing()
    options: dict[str, Any] = {"num_draws": 24, "localisation": 20.0, "batch_size": 80}
    shortened = es.estimate_llc(model, weighted, DATA, sampler="sgld", progress=False, **options)
    times = shortened.diagnostics["steps_per_draw"]
    assert times > 1
    assert 24 * times in told
    assert bars[-1].left == 0
    far_apart: dict[str, Any] = {"inverse_temperatures": [0.16, 0.05, 0.015]}
    for others in ({"sampler": "sgld"}, {"sampler": "psgld"}, {"sampler": "sgld", **far_apart}):
        es.llc_by_temperature(model, weighted, DATA, progress=False, **{**options, **others})
        assert bars[-1].left == 0
        assert bars[-1].taken > bars[-1].first  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options",
    [
        {"num_draws": 100},
        {"num_draws": 100, "check_step": True},
        {"sampler": "sgld", "num_draws": 60, "target_standard_error": 0.06},
    ],
)
def test_draws_are_expected_when_they_are_added(
    options: dict[str, Any], bars: list[Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind: list[int] = []
    begin = Progress.begin

    def begun(self: Progress, steps: int) -> None:
        if steps > self.left:
            behind.append(steps - self.left)
        begin(self, steps)

    monkeypatch.setattr(Progress, "begin", begun)
    es.estimate_llc(off_the_crossing(), weighted, DATA, batch_size=80, progress=False, **options)
    (bar,) = bars
    assert bar.taken > bar.first  # type: ignore[attr-defined]
    assert bar.left == 0
    assert not behind


def test_a_bar_is_shown_on_standard_error_and_leaves_nothing_behind(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with progress_module.Progress(40, show=True) as bar:
        bar.begin(20)
        bar.advance(20)
        bar.expect(80)
        bar.advance(20)
    shown = capfd.readouterr()
    assert "learning coefficient" in shown.err
    assert "40%" in shown.err  # of one hundred
    assert shown.out == ""
