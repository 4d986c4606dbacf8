"""What makes chains fast, against what it stands in for: random numbers, steps and gradients."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from scipy import stats
from torch import Tensor, nn

from emergence_stats.degeneracy import gradients as gradients_module
from emergence_stats.degeneracy import landscape as landscape_module
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.looks import on_all_samples, on_two_batches
from emergence_stats.degeneracy.posterior import LocalisedPosterior, PotentialValue
from emergence_stats.degeneracy.recording import NotReplayable, recorded
from emergence_stats.degeneracy.replay import Room
from emergence_stats.degeneracy.samplers import SAMPLERS, Kernel, Streams, philox, xoshiro
from emergence_stats.degeneracy.tracing import _InPieces


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)  # fmt: skip
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], expected: str
) -> None:
    words = np.empty((4, philox.WORDS), np.uint32)
    first, draw = counter[3] << 32 | counter[0], counter[2] << 32 | counter[1]
    signed = [int(np.uint64(number).astype(np.int64)) for number in (first, draw)]
    philox.philox(words, *signed, np.array(key, np.uint32))
    assert " ".join(f"{word:08x}" for word in words[:, 0]) == expected


def words_after(state: list[int]) -> Iterator[int]:
    """The generator's published code (xoshiro128plusplus.c, in the public domain), in words."""
    s = list(state)
    mask = 0xFFFFFFFF

    def turned(word: int, by: int) -> int:
        return (word << by | word >> (32 - by)) & mask

    while True:
        yield (turned((s[0] + s[3]) & mask, 7) + s[0]) & mask
        shifted = s[1] << 9 & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = turned(s[3], 11)


def test_generators_side_by_side_give_the_words_of_one_alone() -> None:
    state = np.random.default_rng(0).integers(2**32, size=(4, xoshiro.GENERATORS), dtype=np.uint32)
    state[:, 7] = 1, 2, 3, 4
    alone = [words_after(column.tolist()) for column in state.T]
    words = np.empty_like(state)
    for _ in range(3):
        xoshiro.xoshiro(words, state)
        assert words.T.tolist() == [[next(one) for _ in range(4)] for one in alone]
    first = list(islice(words_after([1, 2, 3, 4]), 4))
    assert first == [641, 1573767, 3222811527, 3517856514]


def test_a_long_draw_goes_on_from_the_words_of_philox_at_its_place() -> None:
    key, blocks = np.array([5, 6], np.uint32), philox.STRETCH + 3
    found, wanted = (np.empty(philox.BLOCK, np.float32) for _ in range(2))
    room, at = np.zeros((8, philox.WORDS), np.uint32), np.zeros((4, philox.WORDS), np.uint32)
    words = at.copy()
    generators: list[Iterator[int]] = []
    for block in range(blocks):
        philox.normals(found, room, block * philox.BLOCK, 2, key)
        philox.philox(at, block * philox.WORDS, 2, key)
        if block == 0:
            words[:] = at
        else:
            if block in (1, 1 + philox.STRETCH):
                generators = [words_after(column.tolist()) for column in at.T]
            words[:] = np.array([list(islice(one, 4)) for one in generators], np.uint32).T
        size = philox.WORDS
        philox.box_muller(words[0], words[1], wanted[:size], wanted[size : 2 * size])
        philox.box_muller(words[2], words[3], wanted[2 * size : 3 * size], wanted[3 * size :])
        assert np.array_equal(found, wanted), f"block {block}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_normal_to_the_tails_and_independent(dtype: torch.dtype) -> None:
    size = 1_000_003 if dtype == torch.float32 else 200_001  # blocks are not filled
    streams = Streams(3, 4)
    draws = [streams.normal(torch.empty(4, size, dtype=dtype)) for _ in range(2)]
    rows = torch.cat(draws).double().numpy()
    numbers = rows.ravel()
    count = len(numbers)
    for power, expected, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        found = float((numbers**power).mean())
        assert abs(found - expected) < 4.5 * (variance / count) ** 0.5, f"moment {power}"
    assert stats.kstest(numbers, "norm").pvalue > 1e-4
    for limit in (4.0, 4.5, 5.0):
        for beyond in ((numbers > limit).sum(), (numbers < -limit).sum()):
            wanted = count * stats.norm.sf(limit)
            low, high = stats.poisson.interval(1.0 - 1e-5, wanted)
            assert low <= beyond <= high, f"{beyond} beyond {limit}, {wanted:.1f} expected"
    # Chains and draws, neighbours, and the two numbers that one radius and angle gave.
    for shape in (lambda x: x, np.square, np.abs):
        other = np.corrcoef(shape(rows)) - np.eye(8)
        assert np.abs(other).max() < 4.5 / size**0.5
        stretch = philox.BLOCK * philox.STRETCH
        for lag in (1, 2, philox.WORDS, 2 * philox.WORDS, philox.BLOCK, stretch):
            flat = shape(rows[0]) - shape(rows[0]).mean()
            found = float((flat[lag:] * flat[:-lag]).mean() / flat.var())
            assert abs(found) < 4.5 / size**0.5, f"lag {lag}"


def test_uniform_and_whole_numbers_are_spread_evenly() -> None:
    numbers, draws, keys = np.empty((2, 100_001)), np.zeros(2, np.int64), Streams(1, 2).keys
    philox.fill_uniform(numbers, draws, keys)
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-4
    batch = Streams(1, 3).batch(1000, 900)
    assert batch is not None
    assert int(batch.min()) >= 0
    index = np.concatenate([Streams(s, 3).batch(7, 6).numpy().ravel() for s in range(500)])  # type: ignore[union-attr]
    assert stats.chisquare(np.bincount(index, minlength=7)).pvalue > 1e-4


NUM_PARAMETERS = 2500  # not a whole number of blocks


def some_potential(position: Tensor, index: Tensor | None) -> PotentialValue:
    generator = torch.Generator().manual_seed(2)
    centre, gradient = torch.randn(2, NUM_PARAMETERS, generator=generator)
    excess = torch.zeros(len(position), dtype=torch.float64)
    return PotentialValue(position, gradient * position, excess, centre, 30.0, 0.7)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("sgld", None), ("psgld", "rests"), ("sghmc", None), ("baoab", None)]
    + [("psgld", metric) for metric in ("moves", "comes to rest", "begins with the first")],
)
def test_a_step_in_one_pass_is_the_step_operator_by_operator(
    name: str, metric: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: ModuleType = importlib.import_module(f"emergence_stats.degeneracy.samplers.{name}")
    start = torch.randn(3, NUM_PARAMETERS, generator=torch.Generator().manual_seed(1))
    options: dict[str, object] = {}
    given_moment = start[:1].square() + 0.1
    kept_moment = given_moment.clone()
    if metric is not None:
        known = None if metric == "begins with the first" else given_moment
        steps = {"rests": 0, "comes to rest": 3}.get(metric)
        options = {"second_moment": known, "adaptation_steps": steps, "decay": 0.9}

    def after_three(over: bool = False) -> tuple[object, Tensor]:
        streams = Streams(4, 3)
        kernel = getattr(module, f"{name}_build")(some_potential, 0.01, **options)
        state = kernel.init(start)
        step = kernel.step_over if over else kernel.step
        biases = []
        for _ in range(3):
            given, copy = state, [one.clone() for one in state if isinstance(one, Tensor)]
            state, info = step(state, None, streams)
            biases.append(info.discretisation_bias)
            changed = [not torch.equal(one, kept) for one, kept in zip(given, copy, strict=False)]
            assert changed[0] is over, "a step leaves the state it is given, unless asked not to"
        assert streams.draws.tolist() == [3, 3, 3]
        return state, torch.stack(biases)

    state, bias = after_three()
    over, bias_over = after_three(over=True)
    for one, other in zip(over, state, strict=True):  # type: ignore[call-overload]
        assert one is other or torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert torch.equal(bias_over, bias)
    monkeypatch.setattr(module, "in_one_pass", lambda *_: False)
    expected, expected_bias = after_three()
    for ours, reference in zip(state, expected, strict=True):  # type: ignore[call-overload]
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bias, expected_bias, rtol=1e-5, atol=1e-4)
    assert not torch.equal(state[0], start)  # type: ignore[index]
    assert torch.equal(given_moment, kept_moment)


@pytest.mark.parametrize("name", ["sgld", "psgld", "psgld, adapting", "sghmc", "baoab"])
def test_a_step_is_the_same_to_the_bit_wherever_its_arrays_lie(name: str) -> None:
    sampler, _, adapting = name.partition(", ")
    module: ModuleType = importlib.import_module(f"emergence_stats.degeneracy.samplers.{sampler}")
    one_pass = module._one_pass_adapting if adapting else module._one_pass
    chains, size = 2, 37
    rng = np.random.default_rng(5)
    # Arguments in order of the compiled step: arrays by shape, numbers as they are.
    row, table, one_each = (size,), (chains, size), (chains,)
    fresh = {
        "sgld": [0.01, 0.1, one_each],
        "psgld": [row, 0.01, 0.1, one_each],
        "psgld, adapting": [table, 0.1, 0.01, 0.01, 0.1, one_each],
        "sghmc": [table, 0.01, 0.9, 0.1, one_each, one_each],
        "baoab": [table, 0.01, 0.9, 0.1],
    }[name]
    shapes = [one for one in [table, table, row, *fresh] if isinstance(one, tuple)]
    contents = [rng.random(shape) for shape in shapes]  # positive, as a metric has to be

    def outcome(order: np.ndarray, gaps: np.ndarray) -> list[bytes]:
        memory, taken = np.zeros(40_000, np.uint8), 0
        placed: dict[int, np.ndarray] = {}
        for which, gap in zip(order, gaps, strict=True):
            dtype = np.dtype(np.float64 if shapes[which] == one_each else np.float32)
            taken = -(-(taken + gap) // dtype.itemsize) * dtype.itemsize
            length = int(np.prod(shapes[which])) * dtype.itemsize
            placed[which] = memory[taken : taken + length].view(dtype).reshape(shapes[which])
            placed[which][...] = contents[which]
            taken += length
        arrays = iter([placed[which] for which in range(len(shapes))])
        draws, keys = np.zeros(chains, np.int64), Streams(1, chains).keys
        head = [next(arrays), next(arrays), next(arrays), np.float32(30.0), np.float32(0.7)]
        rest = [next(arrays) if isinstance(one, tuple) else np.float32(one) for one in fresh]
        one_pass(*head, draws, keys, *rest)
        return [placed[which].tobytes() for which in range(len(shapes))]

    number = len(shapes)
    expected = outcome(np.arange(number), np.full(number, 512))
    for _ in range(200):
        gaps = rng.integers(0, 17, number) * 4
        assert outcome(rng.permutation(number), gaps) == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_kernel_moves_to_another_potential_with_all_it_holds(name: str) -> None:
    module: ModuleType = importlib.import_module(f"emergence_stats.degeneracy.samplers.{name}")
    start = torch.randn(2, NUM_PARAMETERS, generator=torch.Generator().manual_seed(1))
    moments = {"second_moment": start[:1].square() + 0.1, "adaptation_steps": 0}
    options = moments if name in ("psgld", "adam_sgld") else {}
    size = 1e-8 if name == "mala" else 1e-4  # or MALA refuses: that gradient is of no such energy
    build = getattr(module, f"{name}_build")

    def stiffer(position: Tensor, index: Tensor | None) -> PotentialValue:
        return some_potential(position, index)._replace(scale=90.0)

    def after_two(kernel: Kernel) -> Tensor:
        state, streams = kernel.init(start), Streams(4, 2)
        for _ in range(2):
            state, _ = (kernel.step_over or kernel.step)(state, None, streams)
        return state.position

    here = build(some_potential, size, **options)
    moved, meant = after_two(here.on(stiffer)), after_two(build(stiffer, size, **options))
    assert torch.equal(moved, meant)
    assert not torch.equal(moved, after_two(here))


class Attending(nn.Module):
    """Layer norm, attention written out, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.inner, self.outer = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(inputs)).chunk(3, dim=-1)
        attended = torch.softmax(query @ key.mT, dim=-1) @ value
        return self.outer(nn.functional.gelu(self.inner(inputs + attended)))


def mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


@pytest.mark.parametrize("chains", [1, 2])
@pytest.mark.parametrize("stacked", [True, False])
def test_replayed_gradients_are_those_of_autograd_and_are_kept_when_asked_for(
    stacked: bool, chains: int
) -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 5, 8), torch.randn(60, 5, 1))
    model = Attending()
    quick = LossLandscape(model, mean_square, data)
    plain = LossLandscape(model, mean_square, data, chains_stacked=False)
    quick.chains_stacked = stacked
    kept = []
    for _ in range(12):
        positions = quick.centre + 0.3 * torch.randn(chains, quick.num_parameters)
        index = torch.randint(60, (chains, 7))
        kept.append((positions, index, *quick.batch_gradients(positions, index)))
    assert (
        quick._gradients.on_own_batches if stacked else quick._gradients.of_one_chain
    ).num_traces == 1
    for positions, index, losses, gradients in kept:
        expected = plain.batch_gradients(positions, index)
        torch.testing.assert_close(losses, expected[0])
        torch.testing.assert_close(gradients, expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stacked", [True, False])
def test_gradients_are_read_where_positions_are_and_on_two_threads(stacked: bool) -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 5, 8).double(), torch.randn(60, 5, 1).double())
    quick = LossLandscape(Attending().double(), mean_square, data)
    quick.chains_stacked = stacked
    plain = LossLandscape(Attending().double(), mean_square, data, chains_stacked=False)
    plain._of_one.module = quick._of_one.module
    chains = 3 if stacked else 1
    for _ in range(12):
        quick.passing_gradients(quick.centre.expand(chains, -1), torch.arange(7).expand(chains, -1))
    traced = quick._gradients.on_own_batches if stacked else quick._gradients.of_one_chain
    (trace,) = traced._traces.values()
    other = quick.beside(1, chains)
    away = 0.3 * torch.randn(2, chains, quick.num_parameters).double()
    holders = [quick.centre + one for one in away]
    for holder in holders:
        quick.evaluate_in_place(holder)
        other.evaluate_in_place(holder)
    for _ in range(3):
        for holder in holders:
            holder.mul_(1.1)  # where it stands, as a step does
            index = torch.randint(60, (chains, 7))
            expected = plain.batch_gradients(holder, index)
            for landscape in (quick, other):
                for positions in (holder, holder.clone()):
                    found = landscape.passing_gradients(positions, index)
                    torch.testing.assert_close(found[0], expected[0])
                    torch.testing.assert_close(found[1], expected[1])
    if stacked:  # one chain of the holder for all, which begins where the holder does
        same = holders[0][0].expand(chains, -1)
        found = quick.passing_gradients(same, index)[1]
        torch.testing.assert_close(found, plain.batch_gradients(same, index)[1])
    assert len(trace._in_place) == 2  # type: ignore[attr-defined]
    assert len({one.gradient.data_ptr() for one in trace._in_place.values()}) == 1  # type: ignore[attr-defined]


class Twice(nn.Module):
    """One layer passed twice, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = nn.Linear(8, 8), nn.Embedding(60, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        row = self.table(inputs[..., 0].square().mul(20.0).long().clamp(max=59))
        return self.layer(torch.tanh(self.layer(inputs + row))).mean(-1, keepdim=True)


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("kind", ["attending", "twice", "masked", "one parameter"])
def test_a_batch_may_be_gone_through_in_pieces(
    kind: str, stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 5, 8).double(), torch.randn(60, 5, 1).double())
    model = (Twice() if kind == "twice" else Attending()).double()
    parts: Any = {"masked": {"qkv.weight": torch.rand(24, 8) < 0.5}, "one parameter": ["norm.*"]}
    whole = LossLandscape(model, mean_square, data, parts=parts.get(kind))
    monkeypatch.setattr(landscape_module, "PIECES_FROM", 1)
    monkeypatch.setattr(gradients_module, "_ROWS", 2)
    quick = LossLandscape(model, mean_square, data, parts=parts.get(kind))
    quick.rows_per_sample = 1.0
    whole.chains_stacked = quick.chains_stacked = stacked
    chains = 2 if stacked else 1
    assert quick._pieces(chains, 8) == 4
    whole._pieces = lambda *_: 1  # type: ignore[method-assign]
    other = quick.beside(1, chains)
    for number in range(14):
        positions = quick.centre + 0.3 * torch.randn(chains, quick.num_parameters).double()
        index = torch.randint(60, (chains, 8))
        if number % 3 == 0:
            quick.evaluate_in_place(positions)
        expected = whole.batch_gradients(positions, index)
        for landscape in (quick, other) if number > 10 else (quick,):
            losses, gradients = landscape.passing_gradients(positions, index)
            torch.testing.assert_close(losses, expected[0])
            torch.testing.assert_close(gradients, expected[1])
            if number > 8:
                gradients.fill_(torch.nan)  # what was there is not read
    traced = quick._gradients.on_own_batches if stacked else quick._gradients.of_one_chain
    assert any(isinstance(one, _InPieces) for one in traced._traces.values())
    assert quick.is_traced(chains, 8)
    size = (quick.num_parameters,)
    whole_shape = ((chains, *size), (chains, 8)) if stacked else (size, (8,))
    assert not traced.is_traced(*whole_shape)


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("pieces", [1, 4])
def test_looks_are_what_gradients_on_two_batches_say(
    stacked: bool, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 5, 8), torch.randn(60, 5, 1))
    landscape = LossLandscape(Attending(), mean_square, data)
    landscape.chains_stacked = stacked
    posterior = LocalisedPosterior(landscape, 0.3, 2.0)
    monkeypatch.setattr(landscape, "_pieces", lambda *_: pieces)
    plain = LossLandscape(Attending(), mean_square, data, chains_stacked=False)
    plain._of_one.module = landscape._of_one.module
    in_place = 0
    streams, same = Streams(3, 1 + stacked), Streams(3, 1 + stacked)
    for _ in range(12):
        positions = landscape.centre + 0.1 * torch.randn(1 + stacked, landscape.num_parameters)
        look, noise = on_two_batches(posterior, positions, streams, 8, noise=True)
        assert noise is not None
        noise = noise.clone()
        gradients = []
        for number in range(2):
            index = same.batch(60, 8)
            assert index is not None
            losses, gradient = plain.batch_gradients(positions, index)
            work = ((positions - landscape.centre).double() * gradient).sum(1)
            torch.testing.assert_close(look.work[number], work.double(), rtol=1e-4, atol=1e-6)
            excess = losses.double() - landscape.centre_losses(index)
            torch.testing.assert_close(look.excess[number], excess, rtol=1e-4, atol=1e-6)
            gradients.append(gradient)
        difference = posterior.scale * 0.5**0.5 * (gradients[0] - gradients[1])
        torch.testing.assert_close(noise, difference, rtol=1e-4, atol=1e-5)
        squared = difference.double().square().sum(1)
        torch.testing.assert_close(look.squared_noise, squared, rtol=1e-4, atol=0.0)
        known = landscape._gradients
        traces = (known.on_own_batches if stacked else known.of_one_chain)._traces
        in_place += any("subtracted" in key for key in traces)
    assert in_place >= 5, "without a second vector, once traced"
    whole = on_all_samples(posterior, positions)
    losses, gradient = landscape.full_gradients(positions)
    torch.testing.assert_close(whole.excess[0], losses - landscape.initial_loss)
    work = ((positions - landscape.centre).double() * gradient).sum(1)
    torch.testing.assert_close(whole.work[0], work.double(), rtol=1e-5, atol=1e-8)
    assert whole.squared_noise is None


# What may be written over an argument, and what looks at it from the side.
OPERATIONS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b,
    lambda a, b: a - b.transpose(0, 1),
    lambda a, b: a * b,
    lambda a, b: a * b[:1],
    lambda a, b: a.transpose(0, 1) @ b,
    lambda a, b: torch.tanh(a),
    lambda a, b: nn.functional.gelu(a) + b.sum(),
    lambda a, b: torch.relu(a).transpose(0, 1),
    lambda a, b: a.square(),
    lambda a, b: torch.softmax(a, -1) - a,
    lambda a, b: torch.where(a > b, a, 0.5 * b),
    lambda a, b: a.reshape(4, 9).flip(0).reshape(6, 6) / 2.0,
]


@given(program=strategies.lists(strategies.tuples(*[strategies.integers(0, 11)] * 3), max_size=9))
@settings(deadline=None, max_examples=60)
def test_what_is_written_over_an_argument_is_what_anew_would_be(
    program: list[tuple[int, int, int]],
) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    def run(positions: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        values = [positions.view(6, 6), other]
        for number, left, right in program:
            left_one, right_one = values[left % len(values)], values[right % len(values)]
            values.append(OPERATIONS[number](left_one, right_one))
        last, first = (torch.tanh(values[number]).reshape(-1) for number in (-1, 0))
        return last.sum(), torch.cat([first[:18] * last[:18], last[18:]])

    torch.manual_seed(len(program))
    start, other = torch.randn(36), torch.randn(6, 6)
    recipe = recorded(make_fx(run)(start, other), [start, other], Room())
    where = torch.empty(36)
    replay = recipe.reading(where)
    for _ in range(2):
        start, other = torch.randn(36), torch.randn(6, 6)
        where.copy_(start)
        recipe.inputs[0].copy_(other)
        for found, wanted in zip(replay(), run(start, other), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_no_memory_is_taken_for_what_can_be_written_over_an_argument() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    def run(positions: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        scaled = torch.tanh((positions + other) * 3.0) - other
        return scaled.sum(), scaled * 2.0

    start, room = torch.randn(1000), Room()
    recorded(make_fx(run)(start, start), [start, start], room)
    assert sum(one.numel() for one in room.free if one.numel() > 1000) <= 2 * 4096


def test_a_graph_that_writes_to_its_values_is_not_replayed() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    def writes(positions: Tensor) -> tuple[Tensor, Tensor]:
        doubled = positions * 2.0
        doubled[..., 0] = 0.0
        return doubled.sum(), doubled

    start = torch.ones(2, 3)
    with pytest.raises(NotReplayable, match="fill_"):
        recorded(make_fx(writes)(start), [start], Room())
