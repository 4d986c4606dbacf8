"""Pictures that results of the theory draw of themselves.

What lives here: drawing what is given. What does not: any formula, and pictures of a topic, which
compute what they show (`plots`). matplotlib is imported when first drawn with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.drawing import CURVE, DATA, ONSET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from emergence_stats.theory.potential import EffectivePotential
    from emergence_stats.theory.slowing import CriticalPotential


def panels(number: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure of so many pictures side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * number, 3.4), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, number))


def plot_potential(potential: EffectivePotential) -> Figure:
    """The potential, its trajectory, and both on logarithmic axes."""
    figure, (left, middle, right) = panels(3)
    reach = abs(potential.start)
    q = np.linspace(-reach, reach, 201)
    left.plot(q, potential.value(q), color=CURVE)
    left.plot([potential.start], [potential.value(potential.start)], "o", color=ONSET)
    left.set(xlabel="q", ylabel="V(q)", title=f"order {potential.order:g}")
    elapsed = potential.timescale * np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 300)])
    t, tau = potential.start_time + elapsed, potential.timescale
    early = elapsed <= 10.0 * tau
    middle.plot(t[early], potential.trajectory(t[early]), color=CURVE)
    middle.axvline(potential.time_to(0.5), color=ONSET, lw=1, ls="--", label="half way")
    middle.set(xlabel="gradient-flow time", ylabel="q")
    middle.legend(fontsize=8, frameon=False)
    share = potential.trajectory(t) / potential.start
    shown = (share > 1e-12) & (elapsed > 0)
    right.loglog(elapsed[shown], share[shown], color=CURVE)
    right.set(
        xlabel="time since the start", ylabel="q / q0", title=f"exponent {potential.exponent:.3g}"
    )
    return figure


def plot_slowing(potential: CriticalPotential, collapse: tuple[np.ndarray, np.ndarray]) -> Figure:
    """The trajectory between power law and exponential, the order it shows, and the collapse.

    `collapse` is the curve x, y onto which all scaled trajectories fall.
    """
    figure, (left, middle, right) = panels(3)
    limit = potential.at_transition
    end = 5.0 * potential.relaxation_time if potential.curvature else 1e4 * limit.timescale
    t = np.geomspace(1e-2 * min(limit.timescale, end), end, 300)
    left.loglog(t, np.abs(potential.trajectory(t)), color=CURVE, label="with curvature")
    left.loglog(t, np.abs(limit.trajectory(t)), color=DATA, ls="--", label="at the transition")
    left.set(xlabel="time", ylabel="|q|")
    left.legend(fontsize=8, frameon=False)
    if potential.curvature < 0.0:
        left.axhline(potential.crossover_amplitude, color=ONSET, lw=1)
        figure.delaxes(middle)
        figure.delaxes(right)
        return figure
    middle.semilogx(t, potential.apparent_order(t), color=CURVE)
    if np.isfinite(potential.crossover_time) and potential.crossover_time > 0.0:
        for axes in (left, middle):
            axes.axvline(potential.crossover_time, color=ONSET, lw=1)
    middle.set(xlabel="time", ylabel="apparent order")
    right.loglog(*collapse, color=DATA, lw=4, alpha=0.3)
    base = potential.curvature or potential.strength
    for factor in (0.01, 0.1, 1.0):
        other = replace(potential, curvature=factor * base)
        right.loglog(*other.scaled(t), lw=1, label=f"a = {other.curvature:.2g}")
    right.set(xlabel="a (t + shift)", ylabel="|q| / crossover", xlim=(1e-3, 5.0), ylim=(3e-3, 1e2))
    right.legend(fontsize=8, frameon=False)
    return figure


def plot_agreement(data: xr.Dataset) -> Figure:
    """Densities of what the order implies and of what was measured, and their difference."""
    from scipy.stats import norm

    figure, (left, right) = panels(2)
    draws = data["implied_draw"].values
    draws = draws[np.isfinite(draws)]
    measured, error = float(data["measured"]), float(data["standard_error"])
    x = np.linspace(
        min(draws.min(), measured - 4 * error), max(draws.max(), measured + 4 * error), 400
    )
    left.hist(draws, bins=40, density=True, color=CURVE, alpha=0.5, label="1/n, from the dynamics")
    left.plot(x, norm.pdf(x, measured, error), color=ONSET, label="measured change")
    left.set(xlabel="learning coefficient", ylabel="density")
    low, high = data["difference"].values[[0, -1]]
    d = np.linspace(low - 2 * error, high + 2 * error, 400)
    density = norm.pdf(d[:, None], draws - measured, error).mean(axis=1)
    right.plot(d, density, color=DATA)
    tolerance = data.attrs["tolerance"]
    right.axvspan(-tolerance, tolerance, color=CURVE, alpha=0.2, lw=0, label="tolerance")
    right.set(xlabel="1/n less the measured change", title=str(data["verdict"].item()))
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
    return figure
