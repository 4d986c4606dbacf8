"""Each kernel against targets with known moments, and against limits that are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_answers import Target, assert_mean, assert_moments, gaussian, log_gamma
from scipy.linalg import solve_discrete_lyapunov

from emergence_stats.degeneracy.posterior import PotentialValue
from emergence_stats.degeneracy.samplers import (
    Kernel,
    Streams,
    adam_sgld_build,
    baoab_build,
    mala_build,
    mala_step,
    psgld_build,
    sghmc_build,
    sgld_build,
    sgnht_build,
)
from emergence_stats.degeneracy.samplers.baoab import baoab_heating

CHAINS = 64


pytestmark = pytest.mark.usefixtures("one_thread")


def run(
    kernel: Kernel, target: Target, *, draws: int, burnin: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (chain, draw, parameter), the step's bias and the acceptance (chain, draw)."""
    streams = Streams(seed, CHAINS)
    state = kernel.init(target.start.expand(CHAINS, -1))
    positions, biases, acceptance = [], [], []
    for count in range(burnin + draws):
        before = state.position
        state, info = kernel.step(state, None, streams)
        if count >= burnin:
            # The bias an SGLD step reports belongs to the position it started from.
            positions.append(before if info.acceptance is None else state.position)
            biases.append(info.discretisation_bias)
            acceptance.append(torch.ones(CHAINS) if info.acceptance is None else info.acceptance)
    return (
        torch.stack(positions, dim=1).numpy(),
        torch.stack(biases, dim=1).numpy(),
        torch.stack(acceptance, dim=1).numpy(),
    )


@pytest.mark.parametrize("target", [gaussian([1.0, 4.0]), log_gamma([2.0, 5.0])])
def test_mala_has_the_moments_of_its_target_at_a_large_step(target: Target) -> None:
    positions, bias, acceptance = run(
        mala_build(target.potential, 0.4), target, draws=600, burnin=60
    )
    assert_moments(positions, target)
    assert 0.5 < acceptance.mean() < 0.98  # rejections happen, so the correction is exercised
    assert not bias.any()


@pytest.mark.parametrize(
    ("build", "step_size"),
    [
        (sgld_build, 0.02),
        (psgld_build, 0.02),
        (adam_sgld_build, 0.01),
        (sghmc_build, 0.04),
        (sgnht_build, 0.04),
        (baoab_build, 0.04),
    ],
    ids=["sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "baoab"],
)
@pytest.mark.parametrize("target", [gaussian([1.0, 4.0]), log_gamma([2.0, 5.0])])
def test_langevin_has_the_moments_of_its_target_at_a_small_step(
    target: Target, build: object, step_size: float
) -> None:
    # The relative bias of a variance is step * curvature / 4, here at most 2.5% (Adam's lag makes
    # it three times, the momentum of SGHMC half as large); with some 2,000 effective draws the
    # standard error of a variance is 3%, so it stays inside the tolerance.
    options = {}
    if build in (psgld_build, adam_sgld_build):
        curvature = torch.tensor([[1.0, 4.0]], dtype=torch.float64)
        options = {"adaptation_steps": 50, "second_moment": curvature}
    kernel = build(target.potential, step_size, **options)  # type: ignore[operator]
    positions, _, _ = run(kernel, target, draws=700, burnin=300)
    assert_moments(positions[:, ::5], target, least_effective=100)


def test_harness_tells_a_biased_sampler_from_one_that_does_not_mix() -> None:
    target = gaussian([1.0, 4.0])
    half_noise = sgld_build(target.potential, 0.1, temperature=0.5)
    positions, _, _ = run(half_noise, target, draws=600, burnin=60)
    with pytest.raises(AssertionError, match="biased: variance"):
        assert_moments(positions, target)
    crawling = sgld_build(target.potential, 1e-6)
    positions, _, _ = run(crawling, target, draws=600, burnin=60)
    with pytest.raises(AssertionError, match="not mixing"):
        assert_moments(positions, target)


def test_sgld_variance_at_a_large_step_and_its_correction_are_those_of_the_closed_form() -> None:
    curvature, step_size = [1.0, 4.0], 0.4
    target = gaussian(curvature)
    positions, bias, _ = run(sgld_build(target.potential, step_size), target, draws=1500, burnin=60)
    for i, a in enumerate(curvature):
        # v = (1 - step a / 2)^2 v + step  =>  v = 1 / (a (1 - step a / 4))
        stationary = 1.0 / (a * (1.0 - step_size * a / 4.0))
        assert_mean(positions[..., i] ** 2, stationary, label="variance")
    energy = 0.5 * (positions**2 @ np.array(curvature))
    with pytest.raises(AssertionError, match="biased"):
        assert_mean(energy, 1.0, label="energy")
    assert_mean(energy - bias, 1.0, label="corrected energy")  # d/2 of two dimensions


def test_sgld_correction_removes_the_effect_of_gradient_noise() -> None:
    step_size, noise = 0.2, 2.0
    target = gaussian([1.0, 4.0])
    generator = torch.Generator().manual_seed(1)

    def noisy(position: torch.Tensor, index: torch.Tensor | None) -> PotentialValue:
        value = target.potential(position, index)
        extra = noise * torch.randn(position.shape, generator=generator, dtype=position.dtype)
        return value._replace(loss_gradient=value.loss_gradient + extra)

    positions, bias, _ = run(sgld_build(noisy, step_size), target, draws=1500, burnin=60)
    energy = 0.5 * (positions**2 @ np.array([1.0, 4.0]))
    # v (1 - step a / 4) a = 1 + (step / 4) noise^2 in each direction
    heated = 0.5 * sum((1 + step_size * noise**2 / 4) / (1 - step_size * a / 4) for a in (1.0, 4.0))
    assert_mean(energy, heated, label="energy")
    assert_mean(energy - bias, 1.0, label="corrected energy")


def test_psgld_correction_holds_in_its_own_metric() -> None:
    target = gaussian([1.0, 9.0])
    moments = torch.tensor([[1.0, 9.0]], dtype=torch.float64)
    kernel = psgld_build(
        target.potential, 0.5, second_moment=moments, floor=0.0, adaptation_steps=0
    )
    positions, bias, _ = run(kernel, target, draws=1500, burnin=60)
    energy = 0.5 * (positions**2 @ np.array([1.0, 9.0]))
    # In the metric G = 1 / sqrt(v) the curvatures are 1 and 3.
    expected = 0.5 * sum(1.0 / (1.0 - 0.5 * a / 4.0) for a in (1.0, 3.0))
    assert_mean(energy, expected, label="energy")
    assert_mean(energy - bias, 1.0, label="corrected energy")


def noisy(target: Target, size: float) -> object:
    """The same potential, its gradient with independent noise of this standard deviation."""
    generator = torch.Generator().manual_seed(1)

    def potential(position: torch.Tensor, index: torch.Tensor | None) -> PotentialValue:
        value = target.potential(position, index)
        extra = size * torch.randn(position.shape, generator=generator, dtype=position.dtype)
        return value._replace(loss_gradient=value.loss_gradient + extra)

    return potential


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_sghmc_variance_and_its_correction_are_those_of_the_closed_form(noise: float) -> None:
    step, friction, curvature = 0.1, 0.2, [1.0, 4.0]
    target = gaussian(curvature)
    kernel = sghmc_build(noisy(target, noise), step, friction=friction)  # type: ignore[arg-type]
    positions, bias, _ = run(kernel, target, draws=1500, burnin=100)
    heat = 1.0 + step * noise**2 / (4.0 * friction)
    held = [heat / (1.0 - step * a / (4.0 * (2.0 - friction))) for a in curvature]
    for i, a in enumerate(curvature):
        assert_mean(positions[..., i] ** 2, held[i] / a, label="variance")
    energy = 0.5 * (positions**2 @ np.array(curvature))
    assert_mean(energy - bias, 1.0, label="corrected energy")


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_baoab_is_exact_at_a_large_step_and_heated_as_the_closed_form_says(noise: float) -> None:
    step, friction, curvature = 0.8, 0.2, [1.0, 4.0]  # 8 / 4 would be unstable
    target = gaussian(curvature)
    kernel = baoab_build(noisy(target, noise), step, friction=friction)  # type: ignore[arg-type]
    positions, bias, _ = run(kernel, target, draws=1500, burnin=100)
    for i, a in enumerate(curvature):
        heat = noise**2 * float(baoab_heating(torch.tensor(a), step, friction))
        assert_mean(positions[..., i] ** 2, (1.0 + heat) / a, label="variance")
    assert not bias.any()


def test_sghmc_with_full_friction_is_sgld() -> None:
    target = gaussian([1.0, 4.0])
    first = run(sghmc_build(target.potential, 0.3, friction=1.0), target, draws=20, burnin=0)
    second = run(sgld_build(target.potential, 0.3), target, draws=20, burnin=0)
    for ours, reference in zip(first, second, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_adam_correction_knows_the_lag_of_the_averaged_gradient(noise: float) -> None:
    step, decay, target = 0.1, 0.5, gaussian([1.0, 4.0])
    moments = torch.tensor([[1.0, 1.0]], dtype=torch.float64)  # a plain metric
    kernel = adam_sgld_build(
        noisy(target, noise), step, second_moment=moments, floor=0.0, momentum_decay=decay,
        adaptation_steps=0,
    )  # type: ignore[arg-type]  # fmt: skip
    positions, bias, _ = run(kernel, target, draws=2500, burnin=100)
    # The covariance of (w, m) is the fixed point of a linear recursion, solved independently.
    energy = 0.0
    for a in (1.0, 4.0):
        move = np.array([[1 - 0.5 * step * (1 - decay) * a, -0.5 * step * decay],
                         [(1 - decay) * a, decay]])  # fmt: skip
        kick = (1 - decay) * noise * np.array([-0.5 * step, 1.0])
        added = np.outer(kick, kick) + np.diag([step, 0.0])
        covariance = solve_discrete_lyapunov(move, added)
        energy += 0.5 * a * covariance[0, 0]
    measured = 0.5 * (positions**2 @ np.array([1.0, 4.0]))
    assert_mean(measured, energy, label="energy")
    assert_mean(measured - bias, 1.0, label="corrected energy")


def test_the_thermostat_carries_off_noise_of_unknown_size() -> None:
    curvature = np.linspace(1.0, 4.0, 10)
    target = gaussian(list(curvature))
    kernel = sgnht_build(noisy(target, 3.0), 0.1)  # type: ignore[arg-type]
    positions, bias, _ = run(kernel, target, draws=2500, burnin=300)
    energy = 0.5 * (positions**2 @ curvature)
    # SGHMC at the same diffusion would be heated by 1 + 0.1 * 9 / 0.4 = 3.25.
    assert_mean(energy, 5.0, label="energy")
    assert not bias.any()  # all of U is loss here, and its sum is what the thermostat holds


@pytest.mark.parametrize(
    "build", [sgld_build, psgld_build, adam_sgld_build, sghmc_build, sgnht_build, baoab_build]
)
def test_nothing_moves_without_gradient_and_at_zero_temperature(build: object) -> None:
    def flat(position: torch.Tensor, index: torch.Tensor | None) -> PotentialValue:
        zero = torch.zeros_like(position)
        return PotentialValue(position, zero, zero.sum(-1), zero[0])

    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    kernel = build(flat, 0.1, temperature=0.0)  # type: ignore[operator]
    state = kernel.init(start)
    for _ in range(3):
        state, info = kernel.step(state, None, Streams(0, 3))
    assert torch.equal(state.position, start)
    assert not info.discretisation_bias.any()


def test_mala_always_accepts_where_the_potential_is_flat_and_never_where_it_is_not_finite() -> None:
    def flat(position: torch.Tensor, index: torch.Tensor | None) -> PotentialValue:
        zero = torch.zeros_like(position)
        return PotentialValue(position, zero, zero.sum(-1).double(), zero[0])

    kernel = mala_build(flat, 0.1)
    state = kernel.init(torch.zeros(4, 3))
    _, info = kernel.step(state, None, Streams(0, 4))
    assert torch.equal(info.acceptance, torch.ones(4, dtype=torch.float64))

    def wall(position: torch.Tensor, index: torch.Tensor | None) -> PotentialValue:
        value = flat(position, index)
        return value._replace(excess_loss=torch.full((4,), torch.nan, dtype=torch.float64))

    after, info = mala_step(state, None, Streams(0, 4), potential=wall, step_size=0.1)
    assert torch.equal(after.position, state.position)
    assert not info.acceptance.any()


@pytest.mark.parametrize("vary", [True, False])
def test_every_fourth_step_of_mala_is_shorter_in_turn(vary: bool) -> None:
    def flat(position: torch.Tensor, index: torch.Tensor | None) -> PotentialValue:
        zero = torch.zeros_like(position)
        return PotentialValue(position, zero, zero.sum(-1).double(), zero[0])

    kernel = mala_build(flat, 0.5, vary=vary)
    state, streams = kernel.init(torch.zeros(2, 50_000)), Streams(0, 2)
    variances = []
    for _ in range(16):
        following, _ = kernel.step(state, None, streams)
        variances.append(float((following.position - state.position).var()) / 0.5)
        state = following
    shorter = [1.0, 1.0, 1.0, 1 / 4, 1.0, 1.0, 1.0, 1 / 16, 1.0, 1.0, 1.0, 1 / 64]
    expected = (2 * shorter)[:16] if vary else [1.0] * 16
    # The variance of 100,000 normal numbers is known to sqrt(2 / 100,000) of itself.
    np.testing.assert_allclose(variances, expected, rtol=5.0 * (2.0 / 1e5) ** 0.5)


def test_mala_refuses_minibatches() -> None:
    target = gaussian([1.0])
    kernel = mala_build(target.potential, 0.1)
    state = kernel.init(torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="all samples"):
        kernel.step(state, torch.zeros(2, 3, dtype=torch.long), Streams(0, 2))


def test_streams_are_independent_by_chain_and_purpose_and_repeat_by_seed() -> None:
    like = torch.empty(3, 1000)
    one = Streams(5, 3).normal(like)
    assert torch.equal(one, Streams(5, 3).normal(like))
    other = Streams(5, 3, purpose=1).normal(like)
    rows = torch.cat([one, other])
    correlation = torch.corrcoef(rows) - torch.eye(6)
    assert correlation.abs().max() < 4.5 / 1000**0.5
    # A chain's stream does not depend on how many chains stand beside it.
    assert torch.equal(Streams(5, 2).normal(like[:2]), one[:2])
    assert Streams(5, 2).batch(10, 10) is None
    batch = Streams(5, 2).batch(10, 4)
    assert batch is not None
    assert batch.shape == (2, 4)
