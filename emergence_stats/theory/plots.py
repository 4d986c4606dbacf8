"""Pictures of the theory.

What lives here: one figure for each topic. What does not: any formula; everything drawn is computed
by the functions shown. Results draw themselves (`drawing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emergence_stats.drawing import CURVE, DATA, ONSET
from emergence_stats.theory import descent, exact, gradient_time, noise, products, saddles
from emergence_stats.theory.drawing import panels
from emergence_stats.theory.potential import EffectivePotential
from emergence_stats.theory.slowing import CriticalPotential

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_STEPS = 50_000


def plot_learning_rate(
    potential: EffectivePotential, learning_rate: float, updates: int = 200
) -> Figure:
    """Gradient descent beside the flow, against steps and against gradient-flow time.

    References
    ----------
    See `descent.descent_lead`.
    """
    figure, (left, right) = panels(2)
    step = np.arange(updates + 1)
    for factor, color in ((1.0, CURVE), (0.25, ONSET)):
        rate = factor * learning_rate
        q = descent.gradient_descent(potential, np.full(updates, rate))
        left.plot(step, q, color=color, label=f"learning rate {rate:g}")
        right.plot(gradient_time.gradient_flow_time(step, rate), q, ".", ms=3, color=color)
    time = np.linspace(0.0, learning_rate * updates, 300)
    flow = potential.trajectory(potential.start_time + time)
    right.plot(time, flow, color=DATA, lw=1, label="gradient flow")
    left.set(xlabel="step", ylabel="q")
    right.set(xlabel="gradient-flow time", ylabel="q")
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
    return figure


def plot_times(potential: EffectivePotential) -> Figure:
    """When a share of the way is done, and when the loss has fallen so far, beside order 2.

    References
    ----------
    See `potential.EffectivePotential.time_to` and `convergence_time`.
    """
    figure, (left, right) = panels(2)
    plain = EffectivePotential(
        2.0, strength=1.0 / potential.timescale, start=potential.start,
        start_time=potential.start_time,
    )  # fmt: skip
    share = np.linspace(0.0, 0.99, 100)
    loss = float(potential.value(potential.start)) * np.geomspace(1e-8, 1.0, 60)
    for one, color in ((potential, CURVE), (plain, DATA)):
        after = one.start_time
        left.semilogy(
            share[1:], [one.time_to(s) - after for s in share[1:]], color=color,
            label=f"order {one.order:g}",
        )  # fmt: skip
        times = [one.convergence_time(value) - after for value in loss[:-1]]
        right.loglog(loss[:-1], times, color=color)
    left.set(xlabel="share of the way", ylabel="time since the start")
    right.set(xlabel="loss", ylabel="time since the start")
    right.invert_xaxis()
    left.legend(fontsize=8, frameon=False)
    return figure


def plot_schedules(potential: EffectivePotential) -> Figure:
    """The exponent that a falling learning rate makes appear in steps; what a factor on it does.

    References
    ----------
    See `descent.exponent_in_steps` and `descent.learning_rate_sensitivity`.
    """
    figure, (left, right) = panels(2)
    decay = np.linspace(0.0, 0.95, 96)
    if potential.kappa > 0.0:
        seen = [descent.exponent_in_steps(potential.order, p) for p in decay]
        left.plot(decay, seen, color=CURVE)
        left.axhline(potential.exponent, color=DATA, ls=":", label="in gradient-flow time")
        left.legend(fontsize=8, frameon=False)
    left.set(xlabel="p of a learning rate step$^{-p}$", ylabel="exponent seen in steps")
    elapsed = potential.timescale * np.geomspace(1e-2, 1e4 if potential.kappa else 10.0, 200)
    time = potential.start_time + elapsed
    right.semilogx(elapsed, descent.learning_rate_sensitivity(potential, time), color=CURVE)
    right.set(xlabel="time since the start", ylabel="d log q / d log learning rate")
    return figure


def plot_rest(potential: EffectivePotential, temperature: float) -> Figure:
    """Where the shaken coordinate rests, and how far repetitions scatter on the way there.

    References
    ----------
    See `noise.resting_distribution` and `noise.fluctuation_variance`.
    """
    figure, (left, right) = panels(2)
    law = noise.resting_distribution(potential, temperature)
    q = law.std() * np.linspace(-3.0, 3.0, 301)
    left.plot(q, law.pdf(q), color=CURVE)
    left.set(xlabel="q", ylabel="density at rest", title=f"order {potential.order:g}")
    end = noise.window_end(potential, temperature) - potential.start_time
    elapsed = np.geomspace(1e-2, 10.0, 200) * max(end, potential.timescale)
    time = potential.start_time + elapsed
    scatter = np.sqrt(noise.fluctuation_variance(potential, temperature, time))
    right.loglog(elapsed, np.abs(potential.trajectory(time)), color=DATA, label="|q|")
    right.loglog(elapsed, scatter, color=CURVE, label="scatter about it")
    if end > 0.0:
        right.axvline(end, color=ONSET, label="end of the window")
    right.set(xlabel="time since the start")
    right.legend(fontsize=8, frameon=False)
    return figure


def plot_noise(
    potential: EffectivePotential, temperature: float, *, num_paths: int = 20, seed: int = 0
) -> Figure:
    """Shaken paths about the trajectory, the noise floor, and where a fitted window must end.

    References
    ----------
    See `noise.window_end`.
    """
    figure, (axes,) = panels(1)
    end = noise.window_end(potential, temperature)
    floor = noise.crossover_time(potential, temperature)
    step = 0.05 * potential.timescale / (potential.order - 1.0)
    # At high orders the law takes for ever to a floor on which shaken paths are long before.
    span = min(4.0 * max(floor - potential.start_time, potential.timescale), _MOST_STEPS * step)
    # Evenly in the logarithm, each apart from the one before.
    t = potential.start_time + np.geomspace(1e-3 * span, span, 60)
    paths = noise.langevin_paths(
        potential,
        temperature,
        times=t,
        num_paths=num_paths,
        time_step=step,
        seed=seed,
    )
    elapsed = t - potential.start_time
    axes.loglog(elapsed, np.abs(paths), color=DATA, lw=0.4, alpha=0.4)
    axes.loglog(elapsed, np.abs(potential.trajectory(t)), color=CURVE, lw=2, label="without noise")
    spread = noise.resting_spread(potential, temperature)
    axes.axhline(spread, color=DATA, ls=":", label="spread at rest")
    if end > potential.start_time:
        axes.axvline(end - potential.start_time, color=ONSET, label="end of the window")
    axes.set(xlabel="time since the start", ylabel="|q|", ylim=(0.1 * spread, None))
    axes.legend(fontsize=8, frameon=False)
    return figure


def plot_window(potential: CriticalPotential, *, num_windows: int = 12) -> Figure:
    """The order that a fit finds in windows of training, with the levels free and known.

    References
    ----------
    See `slowing.CriticalPotential.fitted_order`.
    """
    figure, (axes,) = panels(1)
    tau = potential.at_transition.timescale
    rest = potential.relaxation_time if potential.curvature else 100.0 * tau
    # Beyond, evenly spaced points miss the decay.
    window = np.geomspace(min(tau, rest), min(20.0 * max(rest, tau), 500.0 * tau), num_windows)
    for known, color, label in ((False, CURVE, "levels fitted"), (True, ONSET, "levels known")):
        orders = [
            potential.fitted_order(float(w), num_points=1000, levels_known=known) for w in window
        ]
        axes.semilogx(window, orders, ".-", color=color, label=label)
    axes.axhline(potential.order, color=DATA, ls=":")
    axes.set(xlabel="end of the window", ylabel="order fitted")
    axes.legend(fontsize=8, frameon=False)
    return figure


def plot_product(exponents: Sequence[float] = (2.0, 4.0)) -> Figure:
    """Where gradient flow in a product of two powers ends, and what samples see of its coefficient.

    References
    ----------
    See `products.end_of_flow` and `exact.normal_crossing_expectation`.
    """
    first, second = (float(k) for k in exponents)
    figure, (left, right) = panels(2)
    reach = np.sqrt(np.array([first, second]))
    for angle in np.linspace(0.1, 0.9, 9) * 0.5 * np.pi:
        start = reach * np.array([np.cos(angle), np.sin(angle)])
        end = products.end_of_flow(start, exponents).weights
        # w_i^2 / k_i fall alike, so that with one the other is known.
        size = np.linspace(0.0, 1.0, 100)[:, None] * (start**2 - end**2) / reach**2
        path = np.sqrt(end**2 + reach**2 * size)
        left.plot(*path.T, color=CURVE, lw=1)
        left.plot(*end, "o", color=ONSET, ms=4)
    left.set(xlabel="$w_1$", ylabel="$w_2$", title=f"$w_1^{{{first:g}}} w_2^{{{second:g}}}$")
    scale = np.geomspace(10.0, 1e8, 30)
    seen = [exact.normal_crossing_expectation(exponents, float(one)) for one in scale]
    right.semilogx(scale, seen, color=CURVE, label="expected at this n")
    right.axhline(exact.normal_crossing(exponents)[0], color=DATA, ls=":", label="coefficient")
    right.set(xlabel=r"$n \beta$", ylabel="learning coefficient")
    right.legend(fontsize=8, frameon=False)
    return figure


def plot_saddles(
    singular_values: Sequence[float] = (3.0, 1.0),
    start: float = 1e-3,
    depths: Sequence[int] = (2, 3, 4),
) -> Figure:
    """Modes leaving the saddle at several depths, and how the escape time grows.

    References
    ----------
    See `saddles.mode_trajectory` and `saddles.escape_time`.
    """
    figure, (left, right) = panels(2)
    a0 = np.geomspace(1e-8, 0.1, 60)
    for depth, color in zip(depths, (CURVE, ONSET, DATA, "#009E73", "#CC79A7"), strict=False):
        last = float(saddles.escape_time(depth=depth, target=min(singular_values), start=start))
        t = np.linspace(0.0, 1.5 * last, 300)
        loss = saddles.network_loss(t, depth=depth, singular_values=singular_values, start=start)
        left.plot(t / last, loss, color=color, label=f"depth {depth}")
        right.loglog(a0, saddles.escape_time(depth=depth, target=1.0, start=a0), color=color)
    left.set(xlabel="time / escape of the last mode", ylabel="loss")
    left.legend(fontsize=8, frameon=False)
    right.set(xlabel="start of the mode", ylabel="escape time")
    return figure
