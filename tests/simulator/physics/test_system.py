"""What a system refuses, and what follows from its numbers in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_runs import make_system

from emergence_stats.errors import InputError


def test_an_overdamped_contact_never_ends():
    system = make_system(damping=1000.0)
    assert system.contact_time == math.inf
    assert system.restitution == 0.0


def test_the_stability_criterion_of_the_scheme():
    # Multipliers of one mode of frequency^2 w and damping rate g, from the map of one step.
    for square in np.linspace(0.01, 4, 60):
        for rate in np.linspace(0, 1, 60):
            step = np.array(
                [
                    [1, 1, 0.5],
                    [-square / 2, 1 - square / 2 - rate / 2, 0.5 - square / 4 - rate / 2],
                    [-square, -square - rate, -square / 2 - rate],
                ]
            )
            growth = abs(np.linalg.eigvals(step)).max()
            if square + 4 * rate < 4 - 1e-9:
                assert growth < 1 + 1e-12
            elif square + 4 * rate > 4 + 1e-9:
                assert growth > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_particles": 0}, "num_particles: 0; give a whole number of at least 1"),
        ({"num_particles": 2.5}, "num_particles: 2.5; give a whole number"),
        ({"num_particles": True}, "num_particles: True; give a whole number"),
        ({"dimension": 4}, "dimension: 4; give 2 for discs or 3 for spheres"),
        ({"radius": 0.0}, "radius: 0; must be positive"),
        ({"radius": math.nan}, "radius: nan; must be finite"),
        ({"radius": "small"}, "radius: 'small'; give one number"),
        ({"mass": 0}, "mass: 0; must be positive"),
        ({"stiffness": -1.0}, "stiffness: -1.0; give 0 or more"),
        ({"damping": -0.1}, "damping: -0.1; give 0 or more"),
        ({"gravity": math.inf}, "gravity: inf; must be finite"),
        ({"box": math.nan}, "box: nan; must be finite"),
        ({"box": 0.1}, "box: a side of 0.1 is smaller than the diameter 0.12"),
        ({"box": (1.0, 1.0, 1.0)}, "box: 3 side lengths for dimension=2"),
        ({"stiffness": 0.0}, "wall_stiffness: stiffness=0 leaves the walls without a spring"),
        ({"wall_stiffness": 0.0}, "wall_stiffness: 0.0 does not hold particles"),
    ],
)
def test_bad_systems(changes, message):
    with pytest.raises(InputError, match=f"^{message}"):
        make_system(**changes)
