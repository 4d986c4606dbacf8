"""Pictures of the theory show what is computed."""

from __future__ import annotations

import numpy as np
import pytest

import emergence_stats as es
from emergence_stats.theory.descent import (
    learning_rate_sensitivity,
)
from emergence_stats.theory.plots import (
    plot_learning_rate,
    plot_product,
    plot_rest,
    plot_saddles,
    plot_schedules,
    plot_times,
    plot_window,
)
from emergence_stats.theory.slowing import CriticalPotential


def lines_of(axes):
    return {line.get_label(): np.array(line.get_data()) for line in axes.lines}


@pytest.mark.parametrize("order", [2.0, 4.0])
def test_pictures_of_times_and_schedules_show_what_is_computed(order):
    potential = es.EffectivePotential(order, start=0.5, start_time=3.0)
    figure = plot_times(potential)
    figure.canvas.draw()
    share, time = lines_of(figure.axes[0])[f"order {order:g}"]
    at = potential.trajectory(3.0 + time[40])
    assert at == pytest.approx(0.5 * (1.0 - share[40]), rel=1e-9)
    figure = plot_schedules(potential)
    figure.canvas.draw()
    time, power = figure.axes[1].lines[0].get_data()
    expected = learning_rate_sensitivity(potential, 3.0 + time)
    np.testing.assert_allclose(power, expected, rtol=1e-12)
    figure = plot_rest(potential, 1e-3)
    figure.canvas.draw()
    q, density = figure.axes[0].lines[0].get_data()
    assert np.trapezoid(density, q) == pytest.approx(1.0, abs=0.01)


def test_pictures_of_windows_and_products_show_what_is_computed():
    critical = CriticalPotential(0.05)
    figure = plot_window(critical, num_windows=4)
    figure.canvas.draw()
    window, order = lines_of(figure.axes[0])["levels known"]
    found = critical.fitted_order(window[1], num_points=1000, levels_known=True)
    assert order[1] == pytest.approx(found)
    figure = plot_product((2.0, 4.0))
    figure.canvas.draw()
    path, end = (np.array(line.get_data()).T for line in figure.axes[0].lines[:2])
    differences = path[:, 1] ** 2 / 4.0 - path[:, 0] ** 2 / 2.0
    np.testing.assert_allclose(differences, differences[0], atol=1e-12)
    np.testing.assert_allclose(path[0], end[0], atol=1e-12)
    seen = lines_of(figure.axes[1])["expected at this n"][1]
    assert seen[-1] == pytest.approx(0.25, abs=0.03)


def test_pictures_are_drawn():
    for figure in (
        es.EffectivePotential(4, start_time=3.0).plot(),
        CriticalPotential(0.01).plot(),
        CriticalPotential(-0.1).plot(),
        plot_learning_rate(es.EffectivePotential(3), 0.5),
    ):
        figure.canvas.draw()
        assert all(axes.lines for axes in figure.axes)


def test_saddles_are_drawn():
    figure = plot_saddles()
    figure.canvas.draw()
    assert [len(axes.lines) for axes in figure.axes] == [3, 3]
