"""Chains shared out over threads: the same numbers, and no user's code on a thread of its own."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emergence_stats import estimate_llc
from emergence_stats.degeneracy import lanes
from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.replay import Replay
from emergence_stats.degeneracy.samplers import Streams
from emergence_stats.degeneracy.tuning import Tuning

OVER = ("sgld", "psgld", "sghmc", "baoab")  # samplers with a step that writes over its state
WIDTH = 96  # two layers of it: 18,432 parameters


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lanes, "_THREADS_PAY_FROM", WIDTH**2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def steppers(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Threads on which chains draw the samples of a step."""
    seen: set[int] = set()
    batch = Streams.batch

    def watched(self: Streams, *arguments: int) -> Tensor | None:
        seen.add(threading.get_ident())
        return batch(self, *arguments)

    monkeypatch.setattr(Streams, "batch", watched)
    return seen


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False))


def mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def root_mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """No mean over samples, so that the loss at w* is taken anew for every batch."""
    return (mean_square(model, batch) + 1e-3).sqrt()


def landscape_of(
    loss: Any = mean_square, *, stacked: bool = True, dtype: Any = torch.float32, **options: Any
) -> LossLandscape:
    torch.manual_seed(0)
    model = two_layers().to(dtype)
    inputs = torch.randn(300, WIDTH, dtype=dtype)
    with torch.no_grad():
        targets = model(inputs) + 0.1 * torch.randn(300, WIDTH, dtype=dtype)
    landscape = LossLandscape(model, loss, (inputs, targets), batch_size=16, **options)
    landscape.chains_stacked = stacked
    return landscape


def chains_of(
    landscape: LossLandscape, sampler: str = "sghmc", num_chains: int = 3, **options: Any
) -> Chains:
    moment = torch.ones_like(landscape.centre)[None]
    tuning = Tuning(LocalisedPosterior(landscape, 0.2, 50.0), 1e-4, moment, {}, {})
    return Chains(
        tuning, sampler, 1e-4, num_chains=num_chains, batch_size=16, seed=1, num_draws=40, **options
    )


@pytest.mark.parametrize(
    ("sampler", "stacked"),
    [(name, True) for name in ("sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "baoab")]
    + [("psgld", False), ("baoab", False)],
)
def test_threads_give_the_numbers_of_one(
    sampler: str, stacked: bool, two_threads: None, steppers: set[int]
) -> None:
    shared = chains_of(landscape_of(stacked=stacked), sampler).run(20).run(20)
    assert len(steppers) >= 3, "the main thread to begin with, then two others"
    torch.set_num_threads(1)
    alone = chains_of(landscape_of(stacked=stacked), sampler).run(20).run(20)
    # Products of two chains and of three may be summed in another order: rounding, no more.
    torch.testing.assert_close(shared.positions, alone.positions, rtol=1e-3, atol=1e-5)
    for one, other in zip(shared.traces[:2], alone.traces[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("shared", [False, True])
def test_draws_may_be_several_steps_apart(shared: bool, two_threads: None) -> None:
    if not shared:
        torch.set_num_threads(1)
    every = chains_of(landscape_of()).run(36, num_burnin=12)
    fourth = chains_of(landscape_of(), steps_per_draw=4).run(9, num_burnin=3)
    assert fourth.num_draws == 9
    assert torch.equal(fourth.positions, every.positions)
    for one, other in zip(fourth.traces[:2], every.traces[:2], strict=True):
        # What looks at noise find is added at the end, and is the same for all draws.
        np.testing.assert_allclose(
            one - one.mean(), other[:, 3::4] - other[:, 3::4].mean(), rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize("sampler", ["sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "baoab"])
@pytest.mark.parametrize("stacked", [True, False])
def test_writing_over_states_and_reading_them_in_place_changes_no_number(
    sampler: str, stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[bool] = []
    replay = Replay.__call__

    def watched(self: Replay) -> tuple[Tensor, Tensor]:
        places = [state.position.data_ptr() for state in running._lanes.states]
        copies.append(self.inputs[0].data_ptr() not in places)
        return replay(self)

    monkeypatch.setattr(Replay, "__call__", watched)
    # Curvature is asked for beside where the chains stand.
    monkeypatch.setattr(Chains, "_measured_noise_bias", lambda self: (0.0, 0.0))
    monkeypatch.setattr(lanes, "MEMORY_COUNTS_FROM", 2**30)
    beside = running = chains_of(landscape_of(stacked=stacked), sampler)
    for lane in beside._lanes.every:
        lane._step = partial(lane._step, overwrite=False) if sampler in OVER else lane._step
    beside.run(40)
    assert all(copies)
    monkeypatch.setattr(lanes, "MEMORY_COUNTS_FROM", 1)
    over = running = chains_of(landscape_of(stacked=stacked), sampler)
    before = [state.position.data_ptr() for state in over._lanes.states]
    copies.clear()
    over.run(40)
    if sampler in OVER:
        assert before == [state.position.data_ptr() for state in over._lanes.states]
        assert copies
        assert not any(copies), "each lane has operators that read where it is"
    assert torch.equal(over.positions, beside.positions)
    for one, other in zip(over.traces[:2], beside.traces[:2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("stacked", [True, False])
def test_what_reads_positions_in_place_goes_with_the_chains(
    stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MEMORY_COUNTS_FROM", 1)
    landscape = landscape_of(stacked=stacked)
    chains = chains_of(landscape, "sgld").run(30)
    traced = landscape._gradients.on_own_batches if stacked else landscape._gradients.of_one_chain
    (trace,) = traced._traces.values()
    assert len(trace._in_place) == (1 if stacked else 3)  # type: ignore[attr-defined]
    assert trace._elsewhere is None  # type: ignore[attr-defined]
    seen = [weakref.ref(state.position) for state in chains._lanes.states]
    del chains
    gc.collect()
    assert [one() for one in seen] == [None] * len(seen)
    assert not trace._in_place  # type: ignore[attr-defined]
    assert not traced._residents
    # Others, whose memory may be the same, get the numbers that are theirs.
    again = chains_of(landscape, "sgld").run(30)
    fresh = chains_of(landscape_of(stacked=stacked), "sgld").run(30)
    torch.testing.assert_close(again.positions, fresh.positions, rtol=1e-3, atol=1e-5)


def test_chains_that_gave_up_where_they_stood_keep_what_they_recorded() -> None:
    chains = chains_of(landscape_of(), "sghmc").run(30)
    before = chains.traces
    assert chains.release() is chains
    np.testing.assert_array_equal(chains.traces.excess, before.excess)
    with pytest.raises(RuntimeError, match="cannot be run on"):
        chains.run(1)


def test_masked_parts_in_double_precision_are_shared_out_too(
    two_threads: None, steppers: set[int]
) -> None:
    masks = {"*": torch.arange(WIDTH * WIDTH).view(WIDTH, WIDTH) % 10 > 0}
    options: dict[str, Any] = {"parts": masks, "dtype": torch.float64}
    shared = chains_of(landscape_of(**options)).run(30)
    assert len(steppers) == 3
    torch.set_num_threads(1)
    alone = chains_of(landscape_of(**options)).run(30)
    torch.testing.assert_close(shared.positions, alone.positions, rtol=1e-9, atol=1e-12)


def test_the_same_seed_gives_the_same_bits_on_threads(two_threads: None) -> None:
    landscape = landscape_of()
    chains_of(landscape).run(12)  # from here on gradients are traced
    first, second = (chains_of(landscape).run(30).positions for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("num_chains", "at_once"), [(5, None), (5, 3), (2, 1)])
def test_lanes_keep_the_order_of_the_chains(
    num_chains: int, at_once: int | None, two_threads: None, steppers: set[int]
) -> None:
    landscape = landscape_of(max_chains_at_once=at_once)
    shared = chains_of(landscape, num_chains=num_chains).run(30)
    assert len(steppers) == (1 if at_once == 1 else 3)
    torch.set_num_threads(1)
    alone = chains_of(landscape, num_chains=num_chains).run(30)
    torch.testing.assert_close(shared.positions, alone.positions, rtol=1e-3, atol=1e-5)


def test_threads_divide_those_that_tensors_had(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    batch = Streams.batch

    def watched(self: Streams, *arguments: int) -> Tensor | None:
        torch.ones(2**17).exp()  # large enough for several threads
        on_main = threading.current_thread() is threading.main_thread()
        seen[on_main].add(torch.get_num_threads())
        return batch(self, *arguments)

    monkeypatch.setattr(Streams, "batch", watched)
    chains_of(landscape_of()).run(30)
    assert seen == {True: {2}, False: {1}}


def test_neither_model_nor_loss_is_called_on_another_thread(
    two_threads: None, steppers: set[int]
) -> None:
    callers: set[int] = set()

    def noticed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        callers.add(threading.get_ident())
        return mean_square(model, batch)

    chains_of(landscape_of(noticed)).run(30)
    assert callers == {threading.get_ident()}
    assert len(steppers) == 3


def test_another_thread_takes_over_what_is_traced_in_memory_of_its_own() -> None:
    calls = 0

    def counted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        return mean_square(model, batch)

    landscape = landscape_of(counted)
    positions = landscape.centre + 0.01 * torch.randn(2, landscape.num_parameters)
    index = torch.arange(32).reshape(2, 16)
    for _ in range(12):
        losses, gradients = landscape.passing_gradients(positions, index)
    assert landscape.is_traced(2, 16)
    before = calls
    other = landscape.beside(1, 2)
    again, theirs = other.passing_gradients(positions, index)
    assert calls == before
    assert other.is_traced(2, 16)
    assert torch.equal(again, losses)
    assert torch.equal(theirs, gradients)
    kept = theirs.clone()
    landscape.passing_gradients(positions + 0.1, index + 32)
    assert torch.equal(theirs, kept)
    assert not torch.equal(gradients, kept)


@pytest.mark.parametrize("why", ["no mean over samples", "few parameters", "all samples"])
def test_chains_take_turns_where_threads_are_no_use(
    why: str, two_threads: None, steppers: set[int]
) -> None:
    if why == "no mean over samples":
        chains_of(landscape_of(root_mean_square)).run(30)
    elif why == "few parameters":
        data = (torch.randn(100, 4), torch.randn(100, 1))
        options: dict[str, Any] = {"sampler": "sgld", "batch_size": 16, "num_draws": 60}
        estimate_llc(nn.Linear(4, 1), mean_square, data, progress=False, **options)
    else:
        landscape = landscape_of()
        tuning = Tuning(LocalisedPosterior(landscape, 0.2, 50.0), 1e-5, None, {}, {})
        Chains(tuning, "mala", 1e-5, num_chains=2, batch_size=300, seed=0, num_draws=4).run(12)
    assert steppers == {threading.get_ident()}


def test_threads_for_tensors_are_as_they_were(two_threads: None) -> None:
    chains_of(landscape_of()).run(20)
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 2
    assert later == [2]


def test_a_step_that_is_too_long_is_seen_on_threads(two_threads: None) -> None:
    landscape = landscape_of()
    tuning = Tuning(LocalisedPosterior(landscape, 0.2, 50.0), 10.0, None, {}, {})
    chains = Chains(tuning, "sgld", 10.0, num_chains=2, batch_size=16, seed=0, num_draws=60)
    with np.errstate(all="ignore"):
        chains.run(60)
    assert not chains.finite
    assert np.isnan(chains.traces.excess[:, -1]).all()


def test_an_error_on_a_thread_is_raised(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Streams.batch

    def failing(self: Streams, *arguments: int) -> Tensor | None:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("no room")
        return batch(self, *arguments)

    monkeypatch.setattr(Streams, "batch", failing)
    with pytest.raises(MemoryError, match="no room"):
        chains_of(landscape_of()).run(30)
